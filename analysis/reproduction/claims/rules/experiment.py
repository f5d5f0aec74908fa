"""E7: every learning rule on one network, as one training step with another gradient at the boundaries."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.comparison.run_tables import gradient_table
from analysis.reproduction.claim import Experiment, Part, Plan, Results, Section, Tables
from analysis.reproduction.claims.rules.figures import draw
from analysis.reproduction.claims.rules.networks import (
    BACKPROP,
    CONTROLS,
    OUTPUT_ALONE,
    SYNTHETIC,
    UNTRAINED,
    Entry,
    Study,
    study_of,
)
from analysis.reproduction.claims.rules.tables import PROFILES, summarise
from analysis.reproduction.summary import listed
from analysis.training.setup import using_threads
from probes import NetworkLayers, probe_layers
from repsim.learning import Dataset, Step, build_learner, build_optimizer, load_dataset, split_dataset, train
from repsim.similarity import class_structure, compare_rdm_pairs, pairwise, rdm

__all__ = ["RULES", "parts_of"]

_REPEATS, _STEPS = 11, 6  # of the timing: rounds over all rules, and updates of each rule in a round
_MANY = 0.5  # of the rules that have to learn for the claim to hold in part


def _parts(plan: Plan) -> list[Part]:
    return parts_of(study_of(plan), plan)


def parts_of(study: Study, plan: Plan) -> list[Part]:
    """Return the parts that train, examine, compare and time the networks of a study."""
    whole = study.to_dict()
    examined = [
        _part(f"examine-{i}", _examine, study.of(entry).to_dict(), cost=3.0)
        for i, entry in enumerate(study.entries, start=1)
    ]
    compared = [
        _part(f"similarity-of-layer-{depth}", _compare, {**whole, "depth": depth}, cost=8.0) for depth in study.depths
    ]
    timing = {**whole, "seeds": [study.seeds[0]], "data_dir": plan.data_dir, "repeats": _REPEATS, "steps": _STEPS}
    timed = _part("time-a-step", _time, timing, cost=10.0, stage=2)  # when nothing else of this runs beside it
    return [*study.parts(plan, cost=6.0), *examined, *compared, timed]


def _part(name: str, work: Callable[..., Tables], settings: Mapping[str, Any], *, cost: float, stage: int = 1) -> Part:
    return Part(name=name, work=work, settings=settings, cost=cost, group="rules", stage=stage)


def _examine(folder: Path, **settings: Any) -> Tables:
    """Probe the layers of one rule's networks, and read from their logs how far its gradients were from the true."""
    study = Study.from_dict(settings)
    (entry,), views = study.entries, study.views(folder)
    if not views:
        return {}
    stimuli = next(iter(views.values())).run.stimuli
    recordings = [
        NetworkLayers(layers=view.activations, network=name, seed=seed, checkpoint=view.step)
        for (name, seed), view in views.items()
    ]
    probes = probe_layers(recordings, stimuli.labels, stimuli.split, ids=stimuli.ids)
    tables = {"probes": probes.assign(depth=probes["layer_index"] + 1).rename(columns={"network": "method"})}
    if entry.is_trained:
        found = [gradient_table([view]).assign(method=name, seed=seed) for (name, seed), view in views.items()]
        tables["gradients"] = pd.concat(found, ignore_index=True).drop(columns=["view", "rule"])
    return tables


def _compare(folder: Path, *, depth: int, **settings: Any) -> Tables:
    """Compare one layer of all networks, all pairs, on the held-out stimuli."""
    views = Study.from_dict(settings).views(folder)
    first = next(iter(views.values()))
    layer, rows = list(first.activations)[depth - 1], first.rows("test")
    labels = first.run.stimuli.labels[rows]
    values = {view.label: view.activations[layer][rows] for view in views.values()}
    rdms = {label: rdm(each, method="correlation") for label, each in values.items()}
    measured = {
        "cka": pairwise(values).values,
        "rsa": compare_rdm_pairs(rdms).values,
        "distance": np.arccos(np.clip(pairwise(values, measure="cka_biased").values, -1.0, 1.0)),
    }
    pairs = [
        {
            "depth": depth,
            **{"method_a": a[0], "seed_a": a[1], "method_b": b[0], "seed_b": b[1]},
            **{measure: table[i, j] for measure, table in measured.items()},
        }
        for (i, a), (j, b) in combinations(enumerate(views), 2)
    ]
    structures = [
        {"method": name, "seed": seed, "depth": depth, "class_structure": class_structure(rdms[view.label], labels)}
        for (name, seed), view in views.items()
    ]
    return {"similarity": pd.DataFrame(pairs), "class_structure": pd.DataFrame(structures)}


def _time(folder: Path, *, data_dir: str | None, repeats: int, steps: int, **settings: Any) -> Tables:
    """Time an update of every rule on one processor core; rounds go over all rules, and a first one is not counted."""
    study = Study.from_dict(settings)
    dataset = load_dataset(study.training.data, data_dir)
    n_updates = (repeats + 1) * steps
    trainings = {entry.name: _updates(study, entry, dataset, n_updates) for entry in study.entries if entry.is_trained}
    with using_threads(1):
        rounds = [{name: _seconds(each, steps) for name, each in trainings.items()} for _ in range(repeats + 1)]
    seconds = pd.DataFrame(rounds[1:])
    relative = seconds.div(seconds[BACKPROP], axis=0)
    timings = pd.DataFrame({"milliseconds_a_step": 1000 * seconds.median() / steps, "relative": relative.median()})
    return {"timings": timings.rename_axis("method").reset_index().assign(repeats=repeats, steps=steps)}


def _updates(study: Study, entry: Entry, dataset: Dataset, n: int) -> Iterator[Step]:
    """Return a training of at least n updates, at rates at which none diverges."""
    training = replace(study.recipe(entry, study.seeds[0]).training, learning_rate=1e-9, estimator_learning_rate=1e-9)
    rows = split_dataset(dataset, training.split_seed)["train"]
    X, y = torch.from_numpy(dataset.X[rows]), torch.from_numpy(dataset.y[rows])
    learner = build_learner(training, dataset.shape, len(dataset.classes))
    optimizer = build_optimizer(learner, training)
    return train(learner, optimizer, X, y, epochs=n, batch_size=training.batch_size, seed=training.seed)


def _seconds(updates: Iterator[Step], steps: int) -> float:
    started = time.perf_counter()
    for _ in range(steps):
        next(updates)
    return time.perf_counter() - started


def _conclude(results: Results) -> Section:
    tables = summarise(results.tables)
    gains = tables["gains"]
    learning = gains[gains["family"] != CONTROLS]["learns"]
    return Section(
        setting=_setting(results),
        verdict="holds" if learning.all() else "holds in part" if learning.mean() >= _MANY else "does not hold",
        findings=[
            *_learning(tables),
            *_grading(tables["relations"]),
            *_noise(gains),
            *_locking(tables["rules"]),
            *_layers(tables["rules"]),
        ],
        drawings=list(draw(tables, study_of(results.plan).training.batch_size)),
        tables={**tables, "timings": results["timings"]},
        shown={
            "All rules, one row each; numbers by layer from the first hidden one": _shown(
                tables["rules"], results["timings"]
            )
        },
    )


def _setting(results: Results) -> str:
    plan, study = results.plan, study_of(results.plan)
    training, networks = study.training, results["networks"]
    return (
        f"A network of {training.depth} hidden layers of {training.width} units with batch norm and relu, trained on "
        f"{'MNIST' if plan.is_full else '3,500 MNIST digits'} for {training.epochs} epochs with Adam and a cosine "
        f"schedule, once with each of {networks['network'].nunique()} rules and of the seeds {listed(study.seeds)}. "
        "Every rule stands at all boundaries, also below the output layer; equal seeds have equal initial weights. All "
        "rules are estimators of one protocol: the training step asks the one at boundary k for g_k in place of the "
        "gradient N · ∂L/∂h_k, and does everything else alike. Width, depth and epochs are our choices; so are the "
        "step sizes (rules.csv), those of a small grid with the best validation accuracy on other seeds at quick "
        "scale, and Kickback's scalar error, that of the true class, as the rule was stated for one output. Locks "
        "follow from what an estimator needs. Likeness to backprop is measured on networks of backprop that have other "
        "seeds; backprop's own row is the ceiling. Two rules are controls: noise of the first "
        "gradient's size, and no gradient at all, so that the output layer learns alone. Time is that of an update "
        "over backprop's in the same round, the median over rounds on one processor core; it differs from run to run, "
        "and all else does not."
    )


def _learning(tables: Tables) -> Iterator[str]:
    """Say which rules learn: the verdict's reason."""
    networks, gains = tables["networks"], tables["gains"]
    rules = gains[gains["family"] != CONTROLS].sort_values("mean")
    alone = tables["accuracy"].set_index(["part", "method"])["mean"]["test", OUTPUT_ALONE]
    learning, others = rules[rules["learns"]], rules[~rules["learns"]]
    ends = [f"{row.mean:+.3f} ({row.method})" for row in learning.iloc[[0, -1] if len(learning) else []].itertuples()]
    yield (
        f"{networks['state'].eq('finished').sum()} of {len(networks)} networks of {networks['method'].nunique()} rules "
        f"were trained to the end in one step that differs in g_k alone, and {len(learning)} of {len(rules)} rules "
        f"that are no controls are more accurate on test than the output layer alone ({alone:.3f})"
        f"{', by ' if ends else ''}{' to '.join(ends)}{'; not so ' if len(others) else ''}"
        f"{', '.join(_gain(row) for _, row in others.iterrows())}."
    )


def _noise(gains: pd.DataFrame) -> Iterator[str]:
    """Say what a gradient that tells nothing adds to the output layer alone."""
    for _, row in gains[gains["family"] == CONTROLS].iterrows():
        yield f"The control with a gradient, over the one without: {_gain(row)}."


def _gain(row: pd.Series) -> str:
    return f"{row['method']} ({row['mean']:+.3f}, 95 % interval {row['low']:+.3f} to {row['high']:+.3f})"


def _grading(relations: pd.DataFrame) -> Iterator[str]:
    """Say how alignment with the true gradient goes with accuracy and with likeness to backprop."""
    words = {"test_accuracy_mean": "test accuracy", "cka_mean": "the layers' CKA to backprop"}
    for y, what in words.items():
        parts = []
        for among, rows in relations[relations["y"] == y].groupby("among", sort=False):
            found = rows.set_index("x")["spearman"]
            parts.append(
                f"{found['angle_mean']:+.2f} at the last step and {found['angle_over_training']:+.2f} averaged over "
                f"training ({rows['n_rules'].iloc[0]} {among})"
            )
        yield f"Rank correlation over rules of the angle to the true gradient with {what}: {'; '.join(parts)}."


def _locking(rules: pd.DataFrame) -> Iterator[str]:
    """Say what the best rule under each set of locks reaches."""
    parts, reached = [], rules[rules["family"] != CONTROLS].dropna(subset=["test_accuracy_mean"])
    for locked, rows in reached.groupby("locks", sort=False):
        best = rows.sort_values("test_accuracy_mean").iloc[-1]
        words = "none" if locked == "-" else str(locked).replace(", ", " and ")
        parts.append(f"{best['test_accuracy_mean']:.3f} under {words} ({best['method']}, of {len(rows)})")
    yield f"Best test accuracy by locks: {'; '.join(parts)}."


def _layers(rules: pd.DataFrame) -> Iterator[str]:
    """Say how like backprop's the layers of the rules are, and where synthetic gradients part from it."""
    by = rules.set_index("method")
    for measure, words in (("cka", "unbiased CKA"), ("rsa", "RDM correlation")):
        mean = by[f"{measure}_mean"].dropna()
        others = mean.drop([BACKPROP, UNTRAINED]).sort_values()
        yield (
            f"Mean {words} over layers to backprop of other seeds: from {others.iloc[-1]:.2f} ({others.index[-1]}) "
            f"down to {others.iloc[0]:.2f} ({others.index[0]}); ceiling {mean[BACKPROP]:.2f}, untrained "
            f"{mean[UNTRAINED]:.2f}."
        )
    structure = dict(zip(rules["method"], _by_layer(rules, "class_structure"), strict=True))
    yield f"Class structure by layer: {structure[SYNTHETIC]} ({SYNTHETIC}) and {structure[BACKPROP]} ({BACKPROP})."


def _shown(rules: pd.DataFrame, timings: pd.DataFrame) -> pd.DataFrame:
    """Return the table of the report, one row a rule, numbers by layer in one cell."""
    relative = rules["method"].map(timings.set_index("method")["relative"])
    table = {
        "rule": rules["method"],
        "g_k": rules["g"].where(rules["options"] == "-", rules["g"] + "; " + rules["options"]),
        "what else learns": rules["learns"],
        "needs": rules["needs"],
        "locks": rules["locks"],
        "test accuracy": _with_interval(rules, "test_accuracy"),
        "training accuracy": _with_interval(rules, "train_accuracy"),
        **{words: _by_layer(rules, measure) for measure, words in PROFILES.items()},
        "time a step, of backprop's": [_number(value, 2) for value in relative],
    }
    return pd.DataFrame(table).fillna("-")


def _with_interval(rules: pd.DataFrame, name: str) -> list[str]:
    means, highs = rules[f"{name}_mean"], rules[f"{name}_high"]
    return [
        f"{mean:.3f} ± {high - mean:.3f}" if np.isfinite(high) else _number(mean, 3)
        for mean, high in zip(means, highs, strict=True)
    ]


def _by_layer(rules: pd.DataFrame, measure: str) -> list[str]:
    columns = [name for name in rules if re.fullmatch(rf"{measure}_\d+", str(name))]
    digits = 0 if measure == "angle" else 2
    return [", ".join(_number(value, digits) for value in row) for row in rules[columns].itertuples(index=False)]


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


RULES = Experiment(
    name="rules",
    title="All rules in one language",
    claim="[S] Synthetic gradients fit one unifying language with other techniques that approximate errors: noise, "
    "feedback alignment, direct feedback alignment, random backpropagation and the learning channel, Kickback, schemes "
    "like target propagation.",
    parts=_parts,
    conclude=_conclude,
)
