"""The longest copy task that a recurrent network solves in windows of 5 steps, with and without synthetic gradients.

``python benchmarks/bench_sequences.py`` trains five seeds of each rule on a curriculum (Jaderberg et al. 2017, section
3.2): copy:3 first, and one symbol more as soon as the mean loss of 50 updates in a row is below 0.15 bits per symbol.
A training ends after a fixed number of updates of fresh sequences. It prints the longest length by seed, with
a 95 % interval for the mean over seeds (Student), and for the differences in pairs of seeds, and writes SEQUENCES.md.
"""

from __future__ import annotations

import argparse
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

import torch
from scipy.stats import t as student

from repsim.learning import Learner, RecurrentNetwork, TrainingConfig, build_learner, build_optimizer, sequence_task
from repsim.learning.training import propagate

WINDOW, SHORTEST, LONGEST = 5, 3, 60
SOLVED, IN_A_ROW = 0.15 * math.log(2), 50
BATCH, AT_ONCE = 64, 50  # sequences of an update; updates whose sequences are drawn together
SEEDS = range(5)
RULES = {
    "truncated BPTT": "truncated",
    "truncated BPTT + SG": "synthetic-gradient:hidden_layers=1",
    "BP(0.5)": "bp-lambda:lam=0.5,hidden_layers=1",
    "BPTT": "backprop",
}
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Setting:
    """What all trainings have in common."""

    network: str
    width: int
    rate: float
    updates: str
    n_updates: int


def longest_solved(job: tuple[str, int], setting: Setting) -> int:
    """Return the longest length that one network solves, or 2 if none."""
    torch.set_num_threads(1)
    rule, seed = job
    online = setting.updates if rule in ("truncated", "synthetic-gradient:hidden_layers=1") else "sequence"
    config = TrainingConfig(
        network=setting.network,
        width=setting.width,
        window=WINDOW,
        rule=rule,
        updates=online,
        learning_rate=setting.rate,
        estimator_learning_rate=setting.rate,
        seed=seed,
    )
    task = sequence_task("copy", SHORTEST, n_examples=1)
    learner = build_learner(config, task.shape, task.n_outputs, scored=task.scored)
    optimizer, length, recent = build_optimizer(learner, config), SHORTEST, deque[float](maxlen=IN_A_ROW)
    for step in range(setting.n_updates):
        if step % AT_ONCE == 0 or not recent:
            batches = _batches(length, seed, step)
        X, y = next(batches)
        (record,) = propagate(learner, optimizer, X, y, step + 1, 1)
        optimizer.step()
        recent.append(record.loss)
        if len(recent) == IN_A_ROW and mean(recent) < SOLVED:
            length += 1
            if length > LONGEST:
                break
            learner, recent = _longer(learner, length), deque[float](maxlen=IN_A_ROW)
    print(f"{rule}, seed {seed}: {length - 1}", flush=True)
    return length - 1


def _batches(length: int, seed: int, step: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    task = sequence_task("copy", length, n_examples=BATCH * AT_ONCE, seed=10_000_000 * (seed + 1) + step)
    yield from zip(torch.from_numpy(task.X).split(BATCH), torch.from_numpy(task.learned).split(BATCH), strict=True)


def _longer(learner: Learner, length: int) -> Learner:
    """Return a learner with the same modules for longer sequences."""
    before, task = learner.network, sequence_task("copy", length, n_examples=1)
    assert isinstance(before, RecurrentNetwork)
    network = RecurrentNetwork(before.cell, before.output, task.shape, scored=task.scored, window=WINDOW)
    estimators = {ks[0]: estimator for ks, estimator in learner.placed().items()}
    return Learner(network, estimators, online=learner.online)


def interval(values: list[float]) -> str:
    """Return the mean with a 95 % interval."""
    half = float(student.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return f"{mean(values):.1f} ({mean(values) - half:.1f} to {mean(values) + half:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="rnn")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--updates", default="sequence", choices=["sequence", "window"])
    parser.add_argument("--n-updates", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    setting = Setting(given.network, given.width, given.rate, given.updates, given.n_updates)
    jobs = [(RULES[name], seed) for name in given.rules for seed in range(given.seeds)]
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(longest_solved, setting=setting), jobs))
    lengths = {name: found[i * given.seeds : (i + 1) * given.seeds] for i, name in enumerate(given.rules)}
    text = report(setting, lengths)
    print(text)
    if set(lengths) == set(RULES) and given.seeds == len(SEEDS):
        (HERE / "SEQUENCES.md").write_text(text)


def report(setting: Setting, lengths: dict[str, list[int]]) -> str:
    """Return the lengths by rule as a page."""
    lines = [
        "# The longest copy task that is solved\n",
        "Written by `python benchmarks/bench_sequences.py`, whose first lines describe the curriculum. "
        f"Network {setting.network} with {setting.width} units, windows of {WINDOW} time steps (BPTT has the whole "
        f"sequence), Adam with step size {setting.rate:g}, {setting.n_updates:,} updates of {BATCH} sequences, updated "
        f"after each {setting.updates} (BPTT and BP(λ): after each sequence). A length of N has 2 N time steps.\n",
        "| rule | longest N, by seed | mean (95 % interval) | difference from truncated BPTT |",
        "|---|---|---|---|",
    ]
    base = lengths.get("truncated BPTT")
    for name, values in lengths.items():
        is_base = base is None or name == "truncated BPTT"
        difference = "-" if is_base else interval([float(a - b) for a, b in zip(values, base, strict=True)])
        shown = interval([float(value) for value in values]) if len(values) > 1 else str(values[0])
        lines.append(f"| {name} | {', '.join(map(str, values))} | {shown} | {difference if len(values) > 1 else '-'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
