"""Every learning rule on mnist5k: what it reaches, on an MLP of four hidden layers and on a small convolutional net.

``python benchmarks/bench_rules.py`` trains three seeds of each rule, two processes side by side, prints the tables and
writes RULES.md. The step sizes are those that reached the best validation accuracy on a fourth seed, at half the epochs
for the convolutional net, which ``--search`` prints; for sign-symmetric feedback on the MLP the mean over three other
seeds decided, as the first left nothing between two. The test examples had no part in the choice.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import torch

from repsim.learning import (
    Diverged,
    TrainingConfig,
    build_learner,
    build_optimizer,
    count_steps,
    evaluate,
    load_dataset,
    split_dataset,
    train,
)

NETWORKS = {
    "MLP, 4 x 256, batch norm, relu, 30 epochs": TrainingConfig(depth=4, width=256, epochs=30, schedule="cosine"),
    "conv net, 3 x 16, batch norm, relu, 30 epochs": TrainingConfig(
        network="conv", depth=3, width=16, epochs=30, schedule="cosine"
    ),
}
SEEDS, SEARCH_SEED, SEARCH_EPOCHS = (0, 1, 2), 100, (30, 15)


@dataclass(frozen=True)
class Entry:
    """A rule at every boundary, with what was promised of it and the step sizes found on each network.

    ``within`` is the largest test accuracy that it may lose to backprop's; ``rates`` the step sizes of the network and
    the estimators, by position in ``NETWORKS``.
    """

    name: str
    rule: str
    within: float | None
    rates: tuple[tuple[float, float], ...] = field(default=((3e-3, 1e-3), (3e-3, 1e-3)))


ENTRIES = [
    Entry("backprop", "backprop", None),
    Entry("output layer alone", "noise:scale=0", None),
    Entry("noise", "noise", None),
    Entry("feedback alignment", "feedback-alignment", 0.03),
    Entry("sign-symmetric, uniform", "sign-symmetric", 0.01),
    Entry("sign-symmetric, fixed magnitude", "sign-symmetric:magnitude=fixed", 0.01),
    Entry("sign-symmetric, resampled", "sign-symmetric:magnitude=resampled", 0.01),
    Entry("adaptive random backprop", "adaptive-random-backprop", None, ((3e-3, 1e-3), (3e-3, 3e-3))),
    Entry("direct feedback alignment", "direct-feedback-alignment", 0.03),
    Entry("adaptive skipped backprop", "adaptive-skipped-backprop", None, ((3e-3, 3e-3), (3e-3, 3e-3))),
    Entry("direct random target", "direct-random-target", 0.06),
    Entry("Kickback", "kickback", None, ((3e-4, 1e-3), (1e-3, 1e-3))),
    Entry("synthetic gradient", "synthetic-gradient@all", 0.03),
    Entry(
        "synthetic gradient, no labels",
        "synthetic-gradient:label_conditioned=false@all",
        None,
        ((1e-3, 3e-3), (3e-3, 1e-3)),
    ),
    Entry("SG + prop", "synthetic-gradient-prop@all", 0.03, ((3e-3, 3e-3), (3e-3, 1e-3))),
    Entry("BP(0.5)", "bp-lambda:lam=0.5@all", 0.03),
    Entry("decoupled greedy", "decoupled-greedy", 0.03, ((3e-4, 3e-3), (3e-3, 1e-3))),
    Entry("target propagation", "target-propagation", 0.06, ((3e-3, 1e-3), (3e-3, 3e-3))),
]
GRID = [(network, estimators) for network in (3e-4, 1e-3, 3e-3) for estimators in (1e-3, 3e-3)]


@dataclass(frozen=True)
class Result:
    """What one training reached; accuracies are NaN if it diverged."""

    validation: float
    test: float
    angles: tuple[float, ...]
    seconds: float


def main() -> None:
    if sys.argv[1:] not in ([], ["--search"]):
        raise SystemExit("usage: python benchmarks/bench_rules.py [--search]")
    if "--search" in sys.argv:
        _search()
        return
    started = time.monotonic()
    configs = {
        (network, entry.name, seed): _config(base, entry, place, seed)
        for place, (network, base) in enumerate(NETWORKS.items())
        for entry in ENTRIES
        for seed in SEEDS
    }
    results = dict(zip(configs, _train_all(configs.values()), strict=True))
    sections = [f"# What every rule reaches\n\n{(__doc__ or '').strip()}\n"]
    for place, network in enumerate(NETWORKS):
        sections.append("\n".join(_table(network, place, results)) + "\n")
    sections.append(f"{len(results)} trainings in {(time.monotonic() - started) / 60:.1f} minutes.\n")
    text = "\n".join(sections)
    print(text)
    (Path(__file__).parent / "RULES.md").write_text(text)


def _search() -> None:
    """Print the validation accuracy of every rule at every point of the grid."""
    keys = [
        (place, entry, rates)
        for place in range(len(NETWORKS))
        for entry in ENTRIES
        for rates in (GRID if _learns(entry) else GRID[::2])
    ]
    bases = list(NETWORKS.values())
    configs = [
        replace(_config(bases[place], entry, place, SEARCH_SEED), epochs=e, learning_rate=a, estimator_learning_rate=b)
        for (place, entry, (a, b)), e in ((key, SEARCH_EPOCHS[key[0]]) for key in keys)
    ]
    for (place, entry, rates), result in zip(keys, _train_all(configs), strict=True):
        print(f"{list(NETWORKS)[place][:8]:9} {entry.name:32} {rates}  {result.validation:.3f}", flush=True)


def _learns(entry: Entry) -> bool:
    config = TrainingConfig(depth=2, width=4, rule=entry.rule)
    return any(True for _ in build_learner(config, 4, 2).estimators.parameters())


def _config(base: TrainingConfig, entry: Entry, place: int, seed: int) -> TrainingConfig:
    network, estimators = entry.rates[place]
    return replace(base, rule=entry.rule, seed=seed, learning_rate=network, estimator_learning_rate=estimators)


def _train_all(configs: Iterable[TrainingConfig]) -> Iterator[Result]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield from pool.map(train_one, configs)


def train_one(config: TrainingConfig) -> Result:
    """Train one network; its angles are those between the chosen and the true gradients of the last batch."""
    torch.set_num_threads(1)
    dataset = load_dataset(config.data)
    split = split_dataset(dataset, config.split_seed)
    parts = {
        name: (torch.from_numpy(dataset.X[rows]), torch.from_numpy(dataset.y[rows])) for name, rows in split.items()
    }
    learner = build_learner(config, dataset.shape, len(dataset.classes))
    optimizer = build_optimizer(learner, config)
    last = count_steps(len(split["train"]), config.batch_size, config.epochs)
    settings = {name: getattr(config, name) for name in ("epochs", "batch_size", "seed", "schedule")}
    started = time.perf_counter()
    try:
        *_, end = train(learner, optimizer, *parts["train"], **settings, diagnosed=(last,))
    except Diverged:
        return Result(float("nan"), float("nan"), (), time.perf_counter() - started)
    validation, test = (evaluate(learner.network, *parts[name]).accuracy for name in ("validation", "test"))
    angles = tuple(end.diagnoses[k].angle for k in sorted(end.diagnoses))
    return Result(validation, test, angles, time.perf_counter() - started)


def _table(network: str, place: int, results: dict[tuple[str, str, int], Result]) -> list[str]:
    lines = [
        f"## {network}\n",
        "| rule | step sizes | test accuracy, seeds 0 to 2 | mean | to backprop | promised | angles, degrees |",
        "|---|---|---|---|---|---|---|",
    ]
    reference = mean(results[network, "backprop", seed].test for seed in SEEDS)
    for entry in ENTRIES:
        each = [results[network, entry.name, seed] for seed in SEEDS]
        accuracy = mean(result.test for result in each)
        angles = ", ".join(_degrees(mean(column)) for column in zip(*(result.angles for result in each), strict=True))
        rates = " / ".join(f"{rate:g}" for rate in entry.rates[place])
        scores = ", ".join(f"{result.test:.3f}" for result in each)
        promised = "-" if entry.within is None else f">= {-entry.within:.3f}"
        lines.append(
            f"| {entry.name} | {rates} | {scores} | {accuracy:.3f} | {accuracy - reference:+.3f} | {promised} "
            f"| {angles} |"
        )
    return lines


def _degrees(angle: float) -> str:
    return "-" if math.isnan(angle) else f"{angle:.0f}"


if __name__ == "__main__":
    main()
