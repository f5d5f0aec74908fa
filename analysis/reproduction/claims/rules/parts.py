"""Tasks: tune every learning rule, train it on one network, then examine, compare and time the networks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison.tables.run_tables import gradient_table
from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, claim_task
from analysis.reproduction.claims.rules.rule_comparison import RuleComparison, comparison_of
from analysis.reproduction.claims.rules.rule_entries import BACKPROP, OUTPUT_ALONE
from analysis.reproduction.kit.in_memory import InMemoryTraining
from analysis.reproduction.kit.layer_similarity import compare_layer
from analysis.training.setup import using_threads
from probes import NetworkLayers, probe_layers
from repsim.learning import Step, TrainingConfig
from repsim.similarity import pairwise

__all__ = ["examine", "parts", "tasks_of", "train_tuned"]

_REPEATS, _STEPS = 11, 6  # of the timing: rounds over all rules, and updates of each rule in a round


def parts(plan: Plan) -> list[Task]:
    """Return the tasks of the comparison at the scale of a plan."""
    return tasks_of(comparison_of(plan))


def tasks_of(comparison: RuleComparison) -> list[Task]:
    """Return the tasks that tune the rules of a comparison, and train, examine, compare and time their networks."""
    tuned = {entry.network: comparison.tuning(entry) for entry in comparison.trained}
    trained = {
        entry.network: [
            claim_task(
                f"networks-{entry.network}-seed-{seed}",
                train_tuned,
                cost=6.0,
                after=[tuned[entry.network]],
                comparison=replace(comparison, entries=(entry,), seeds=(seed,)),
            )
            for seed in comparison.seeds
        ]
        for entry in comparison.trained
    }
    networks = [task for tasks in trained.values() for task in tasks]
    examined = [
        claim_task(
            f"rules-examine-{i}",
            examine,
            cost=5.0,
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
    others = [*tuned.values(), *networks, *examined, *compared]  # none of them runs beside the timing
    timing: dict[str, Any] = {"repeats": _REPEATS, "steps": _STEPS}
    timed = claim_task("rules-time-a-step", _time, cost=10.0, after=others, alone=True, comparison=comparison, **timing)
    return [*others, timed]


def train_tuned(folder: Path, *, comparison: RuleComparison) -> Frames:
    """Train the network of one rule and one seed at the rates that the rule was tuned to; see ``Recipe.task``.

    Where the tuning diverged at all rates no network is trained, and the row says that training diverged.
    """
    (entry,), (seed,) = comparison.entries, comparison.seeds
    rates = comparison.rates(entry, folder)
    if rates is None:
        row = {"network": entry.network, "seed": seed, "rule": entry.rule, "depth": comparison.training.depth}
        return {"networks": pd.DataFrame([{**row, "state": "diverged"}])}
    return comparison.recipe(entry, seed, rates).train(folder, comparison.data_dir)


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
    _check_compared(views)
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


def _check_compared(views: Iterable[tuple[str, int]]) -> None:
    """Raise ValueError if rules that all others are compared with have no network."""
    finished = {name for name, _ in views}
    for name in (BACKPROP, OUTPUT_ALONE):
        if name not in finished:
            raise ValueError(
                f"Training with the rule '{name}' diverged for all seeds, or at all learning rates of the tuning; "
                "every rule is compared with it. Add lower learning rates to the grid."
            )


def _time(folder: Path, *, comparison: RuleComparison, repeats: int, steps: int) -> Frames:
    """Return ``timings`` of an update of every rule that does not diverge at all rates, on one core.

    They are over rounds of all rules, of which the first does not count.
    """
    data, n_updates = InMemoryTraining.of(comparison.training, comparison.data_dir), (repeats + 1) * steps
    trainings = {
        entry.name: _updates(data, replace(comparison.training, rule=entry.rule, seed=comparison.seeds[0]), n_updates)
        for entry in comparison.trained
        if comparison.rates(entry, folder)
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
