"""Tasks: train every learning rule on one network, then examine, compare and time the networks."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison.tables.run_tables import gradient_table
from analysis.comparison.view import View
from analysis.config.recording import RecordingConfig
from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, claim_task
from analysis.reproduction.kit.in_memory import InMemoryTraining
from analysis.reproduction.kit.layer_similarity import compare_layer
from analysis.reproduction.kit.numbers import listed
from analysis.reproduction.kit.recipe import Recipe
from analysis.training.setup import using_threads
from probes import NetworkLayers, probe_layers
from repsim.learning import ESTIMATORS, Rule, Step, TrainingConfig, build_learner, locks, site_of
from repsim.similarity import pairwise

__all__ = ["ENTRIES", "RuleEntry", "parts"]

BACKPROP, SYNTHETIC = "backprop", "synthetic gradient"
OUTPUT_ALONE, UNTRAINED = "output layer alone", "untrained"
CONTROLS = "controls"
FAMILIES = (
    BACKPROP,
    "layer by layer",
    "direct feedback",
    "synthetic gradients",
    "scalar, local loss, targets",
    CONTROLS,
)
_LAYERED, _DIRECT, _PREDICTED, _OTHERS = FAMILIES[1:-1]


@dataclass(frozen=True)
class RuleEntry:
    """A rule at every boundary, with the best learning rates for an MLP of 4 hidden layers of 256.

    Rates are the best of a small grid by validation accuracy, on seeds that are not used in any result. A network that
    is not trained is that of backprop before its training.
    """

    name: str
    rule: str
    family: str
    learning_rate: float = 3e-3
    estimator_learning_rate: float = 1e-3
    is_trained: bool = True

    @property
    def network(self) -> str:
        """The name of its networks; the untrained network is that of backprop, before training.

        Examples
        --------
        >>> RuleEntry("BP(0.5)", "bp-lambda:lam=0.5@all", "synthetic gradients").network
        'rules-bp-0.5'
        """
        name = self.name if self.is_trained else BACKPROP
        return "rules-" + re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


ENTRIES = (
    RuleEntry(BACKPROP, "backprop", BACKPROP),
    RuleEntry("feedback alignment", "feedback-alignment", _LAYERED),
    RuleEntry("sign-symmetric, uniform", "sign-symmetric", _LAYERED),
    RuleEntry("sign-symmetric, fixed magnitude", "sign-symmetric:magnitude=fixed", _LAYERED),
    RuleEntry("sign-symmetric, resampled", "sign-symmetric:magnitude=resampled", _LAYERED),
    RuleEntry("adaptive random backprop", "adaptive-random-backprop", _LAYERED),
    RuleEntry("direct feedback alignment", "direct-feedback-alignment", _DIRECT),
    RuleEntry("adaptive skipped backprop", "adaptive-skipped-backprop", _DIRECT, 3e-3, 3e-3),
    RuleEntry("direct random target", "direct-random-target", _DIRECT),
    RuleEntry(SYNTHETIC, "synthetic-gradient@all", _PREDICTED),
    RuleEntry(
        "synthetic gradient, no labels", "synthetic-gradient:label_conditioned=false@all", _PREDICTED, 1e-3, 3e-3
    ),
    RuleEntry("SG + prop", "synthetic-gradient-prop@all", _PREDICTED, 3e-3, 3e-3),
    RuleEntry("BP(0.5)", "bp-lambda:lam=0.5@all", _PREDICTED),
    RuleEntry("Kickback", "kickback", _OTHERS, 3e-4, 1e-3),
    RuleEntry("decoupled greedy", "decoupled-greedy", _OTHERS, 3e-4, 3e-3),
    RuleEntry("target propagation", "target-propagation", _OTHERS),
    RuleEntry("noise", "noise", CONTROLS),
    RuleEntry(OUTPUT_ALONE, "noise:scale=0", CONTROLS),
    RuleEntry(UNTRAINED, "backprop", CONTROLS, is_trained=False),
)


@dataclass(frozen=True, kw_only=True)
class RuleComparison:
    """Networks that differ only in rule, learning rates and seed; those of ``training`` are not used.

    All are recorded alike, except that backprop networks are also recorded before training.
    """

    training: TrainingConfig
    recording: RecordingConfig
    seeds: tuple[int, ...]
    entries: tuple[RuleEntry, ...] = ENTRIES

    @property
    def depths(self) -> Sequence[int]:
        """The numbers of the hidden layers, and of the boundaries above them."""
        return range(1, self.training.depth + 1)

    def recipe(self, entry: RuleEntry, seed: int) -> Recipe:
        """Return the recipe of a network."""
        training = replace(
            self.training,
            rule=entry.rule,
            seed=seed,
            learning_rate=entry.learning_rate,
            estimator_learning_rate=entry.estimator_learning_rate,
        )
        recording = replace(self.recording, steps="first,last") if entry.rule == BACKPROP else self.recording
        return Recipe(name=entry.network, training=training, recording=recording)

    def tasks(self, plan: Plan, cost: float) -> dict[str, list[Task]]:
        """Return the tasks that train the networks of each rule, by the name of its networks."""
        return {
            entry.network: [self.recipe(entry, seed).task(plan, cost=cost) for seed in self.seeds]
            for entry in self.entries
            if entry.is_trained
        }

    def views(self, folder: Path) -> dict[tuple[str, int], View]:
        """Return the trained networks by name and seed, without those whose training diverged."""
        views = {}
        for entry in self.entries:
            for seed in self.seeds:
                run = self.recipe(entry, seed).open(folder)
                if run.status["state"] == "finished":
                    step = run.recorded_steps[-1 if entry.is_trained else 0]
                    views[entry.name, seed] = View(f"{entry.name}, seed {seed}", run, step)
        return views


def comparison_of(plan: Plan) -> RuleComparison:
    """Return the comparison at the scale of a plan."""
    training = TrainingConfig(
        data=plan.dataset,
        depth=4,
        width=256,
        epochs=7 if plan.is_full else 30,  # of fifteen times as many examples
        schedule="cosine",
        device=plan.device,
    )
    recording = RecordingConfig(steps="last", n_train=1000, n_validation=250, n_test=500, diagnose="1,every:50,last")
    return RuleComparison(training=training, recording=recording, seeds=plan.few_seeds)


_REPEATS, _STEPS = 11, 6  # of the timing: rounds over all rules, and updates of each rule in a round


def parts(plan: Plan) -> list[Task]:
    """Return the tasks of the comparison at the scale of a plan."""
    return tasks_of(comparison_of(plan), plan)


def tasks_of(comparison: RuleComparison, plan: Plan) -> list[Task]:
    """Return the tasks that train, examine, compare and time the networks of a comparison."""
    trained = comparison.tasks(plan, cost=6.0)
    networks = [task for tasks in trained.values() for task in tasks]
    examined = [
        claim_task(
            f"rules-examine-{i}",
            examine,
            cost=3.0,
            after=trained[entry.network],
            comparison=replace(comparison, entries=(entry,)),
        )
        for i, entry in enumerate(comparison.entries, start=1)
    ]
    compared = [
        claim_task(
            f"rules-similarity-of-layer-{depth}", _compare, cost=8.0, after=networks, comparison=comparison, depth=depth
        )
        for depth in comparison.depths
    ]
    others = [*networks, *examined, *compared]  # none of them runs beside the timing
    timing: dict[str, Any] = {"data_dir": plan.data_dir, "repeats": _REPEATS, "steps": _STEPS}
    timed = claim_task("rules-time-a-step", _time, cost=10.0, after=others, alone=True, comparison=comparison, **timing)
    return [*others, timed]


def examine(folder: Path, *, comparison: RuleComparison) -> Frames:
    """Return ``probes`` of the layers of one rule's networks, and ``gradients``: logged angles to the true ones."""
    (entry,), views = comparison.entries, comparison.views(folder)
    if not views:
        return {}
    stimuli = next(iter(views.values())).run.stimuli
    recordings = [
        NetworkLayers(layers=view.activations, network=name, seed=seed, checkpoint=view.step)
        for (name, seed), view in views.items()
    ]
    probes = probe_layers(recordings, stimuli)
    tables = {"probes": probes.assign(depth=probes["layer_index"] + 1).rename(columns={"network": "method"})}
    if entry.is_trained:
        logged = [gradient_table([view]).assign(method=name, seed=seed) for (name, seed), view in views.items()]
        tables["gradients"] = pd.concat(logged, ignore_index=True).drop(columns=["view", "rule"])
    return tables


def _compare(folder: Path, *, comparison: RuleComparison, depth: int) -> Frames:
    """Return ``similarity`` and ``class_structure`` of one layer of all networks on the held-out stimuli."""
    views = comparison.views(folder)
    first = next(iter(views.values()))
    layer, rows = list(first.activations)[depth - 1], first.rows("test")
    labels = first.run.stimuli.labels[rows]
    values = {view.label: view.activations[layer][rows] for view in views.values()}
    matrices, structure = compare_layer(values, labels)
    biased = pairwise(values, measure="cka_biased").values
    matrices["distance"] = np.arccos(np.clip(biased, -1.0, 1.0))
    pairs = [
        {
            "depth": depth,
            **{"method_a": a[0], "seed_a": a[1], "method_b": b[0], "seed_b": b[1]},
            **{measure: table[i, j] for measure, table in matrices.items()},
        }
        for (i, a), (j, b) in combinations(enumerate(views), 2)
    ]
    structures = [
        {"method": name, "seed": seed, "depth": depth, "class_structure": structure[view.label]}
        for (name, seed), view in views.items()
    ]
    return {"similarity": pd.DataFrame(pairs), "class_structure": pd.DataFrame(structures)}


def _time(folder: Path, *, comparison: RuleComparison, data_dir: str | None, repeats: int, steps: int) -> Frames:
    """Return ``timings`` of an update of every rule on one core, over rounds of all rules; the first does not count."""
    data, n_updates = InMemoryTraining.of(comparison.training, data_dir), (repeats + 1) * steps
    trainings = {
        entry.name: _updates(data, comparison.recipe(entry, comparison.seeds[0]).training, n_updates)
        for entry in comparison.entries
        if entry.is_trained
    }
    with using_threads(1):
        rounds = [{name: _seconds(each, steps) for name, each in trainings.items()} for _ in range(repeats + 1)]
    seconds = pd.DataFrame(rounds[1:])
    relative = seconds.div(seconds[BACKPROP], axis=0)
    timings = pd.DataFrame({"milliseconds_a_step": 1000 * seconds.median() / steps, "relative": relative.median()})
    return {"timings": timings.rename_axis("method").reset_index().assign(repeats=repeats, steps=steps)}


def _updates(data: InMemoryTraining, training: TrainingConfig, n: int) -> Iterator[Step]:
    """Return a training of at least n updates, at learning rates at which no rule diverges."""
    slow = replace(training, learning_rate=1e-9, estimator_learning_rate=1e-9, schedule="constant")
    return data.restarted(slow).steps(epochs=n)


def _seconds(updates: Iterator[Step], steps: int) -> float:
    started = time.perf_counter()
    for _ in range(steps):
        next(updates)
    return time.perf_counter() - started


def describe(rule: str, depth: int) -> dict[str, str]:
    """Return the formula of g_k, the options, what else learns, what the rule needs, and its locks.

    Needs and locks are those of the estimators of the rule, with its options, at all boundaries of a network of
    ``depth`` hidden layers.

    Examples
    --------
    >>> describe("synthetic-gradient@all", depth=4)["locks"]
    '-'
    """
    config = TrainingConfig(depth=depth, width=4, rule=rule)
    network = build_learner(replace(config, rule=BACKPROP), 4, 2).network
    at = {k: config.rules.get(k, Rule(BACKPROP, {})) for k in range(1, depth + 1)}
    estimators = [each.build(site_of(network, k, n_outputs=2)) for k, each in at.items()]
    kind = ESTIMATORS[at[1].name]
    return {
        "g": kind.formula,
        "options": _words(f"{name}={value}" for name, value in at[1].options.items()),
        "learns": kind.learns,
        "needs": _words(sorted(frozenset[str]().union(*(each.needs for each in estimators)))),
        "locks": _words(sorted(frozenset[str]().union(*(locks(each) for each in estimators)))),
    }


def _words(values: Iterable[Any]) -> str:
    return listed(values) or "-"
