"""Conclusion: which rules learn, and a table of all measurements with one row per rule."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from analysis.reproduction.claim import Frames, Results, Section
from analysis.reproduction.claims.rules.parts import (
    BACKPROP,
    CONTROLS,
    ENTRIES,
    OUTPUT_ALONE,
    SYNTHETIC,
    UNTRAINED,
    comparison_of,
    describe,
)
from analysis.reproduction.kit.numbers import listed, rows_of, seed_intervals, with_interval
from repsim.similarity.precision import FloatArray

__all__ = ["PROFILES", "classical_scaling", "conclude", "summarise"]

PROFILES = {
    "angle": "angle to the true gradient (degrees)",
    "probe": "probe accuracy",
    "class_structure": "class structure",
    "cka": "CKA to backprop",
    "rsa": "RDM correlation to backprop",
}
_ENTRIES = {entry.name: entry for entry in ENTRIES}
_ACCURACIES = {"test": "test_accuracy", "train": "train_accuracy"}

_MANY = 0.5  # share of the rules that have to learn for the claim to hold in part


def conclude(results: Results) -> Section:
    """Return "holds" if all rules other than the controls learn, and "holds in part" if half of them do."""
    tables = summarise(results.tables)
    gains = tables["gains"]
    learns = gains[gains["family"] != CONTROLS]["learns"]
    return Section(
        setting=_setting(results),
        verdict="holds" if learns.all() else "holds in part" if learns.mean() >= _MANY else "does not hold",
        findings=[
            *_learning(tables),
            *_grading(tables["relations"]),
            *_noise(gains),
            *_locking(tables["rules"]),
            *_layers(tables["rules"]),
        ],
        tables={**tables, "timings": results["timings"]},
        shown={
            "All rules, one row each; numbers by layer, from the first hidden one": _shown(
                tables["rules"], results["timings"]
            )
        },
    )


def summarise(tables: Mapping[str, pd.DataFrame]) -> Frames:
    """Return all tables of the claim except the timings, from those of its tasks.

    Returns
    -------
    dict of str to DataFrame
        ``networks``, ``probes``, ``gradients``, ``similarity`` and ``class_structure`` from the tasks;
        ``accuracy``: intervals of test and training accuracy; ``gains``: test accuracy minus that of the output layer
        alone, in pairs of equal seeds; ``profiles``: each of ``PROFILES`` by layer; ``alignment``: the angle by step;
        ``relations``: rank correlations over rules; ``embedding`` and ``embedding_axes``; ``rules``: one row per rule.
    """
    names = {entry.network: entry.name for entry in ENTRIES if entry.is_trained}
    networks = tables["networks"].assign(method=tables["networks"]["network"].map(names))
    made = {
        "networks": networks,
        "accuracy": _accuracy(networks),
        "gains": _gains(networks),
        "profiles": _profiles(tables),
        "alignment": _alignment(tables["gradients"]),
    }
    made["rules"] = _rules(networks, made)
    made["relations"] = _relations(made["rules"])
    embedding, axes = _embedding(tables["similarity"])
    unchanged = {name: tables[name] for name in ("probes", "gradients", "similarity", "class_structure")}
    return {**made, "embedding": embedding, "embedding_axes": axes, **unchanged}


def _accuracy(networks: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method and part of the data."""
    each = [
        seed_intervals(networks, ["method"], column).assign(part=part).astype({"n_seeds": int})
        for part, column in _ACCURACIES.items()
    ]
    return pd.concat(each, ignore_index=True)


def _gains(networks: pd.DataFrame) -> pd.DataFrame:
    """Return test accuracies minus that of the output layer alone, in pairs of equal seeds.

    A rule ``learns`` if all its trainings finished and the whole 95 % interval is above zero.
    """
    by_seed = networks.pivot(index="seed", columns="method", values="test_accuracy")
    gain = by_seed.sub(by_seed[OUTPUT_ALONE], axis=0).drop(columns=OUTPUT_ALONE)
    order = [name for name in networks["method"].unique() if name != OUTPUT_ALONE]
    gains = seed_intervals(gain[order].melt(var_name="method", value_name="gain"), ["method"], "gain")
    finished = networks["state"].eq("finished").groupby(networks["method"]).all()
    return gains.assign(
        family=[_ENTRIES[name].family for name in gains["method"]],
        learns=(gains["low"] > 0) & gains["method"].map(finished).astype(bool),
    )


def _profiles(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row per method, measure and layer."""
    gradients, similarity = tables["gradients"], _to_backprop(tables["similarity"])
    last = gradients[gradients["step"] == gradients["step"].max()].rename(columns={"boundary": "depth"})
    sources = {
        "angle": (last, "angle"),
        "probe": (tables["probes"], "accuracy"),
        "class_structure": (tables["class_structure"], "class_structure"),
        **{measure: (similarity, measure) for measure in ("cka", "rsa", "distance")},
    }
    profiles = [
        seed_intervals(table, ["method", "depth"], column).assign(measure=measure)
        for measure, (table, column) in sources.items()
    ]
    return pd.concat(profiles, ignore_index=True)


def _to_backprop(similarity: pd.DataFrame) -> pd.DataFrame:
    """Return the mean similarity of each network and layer to the backprop networks of other seeds."""
    swap = {"method_a": "method_b", "method_b": "method_a", "seed_a": "seed_b", "seed_b": "seed_a"}
    both = pd.concat([similarity, similarity.rename(columns=swap)], ignore_index=True)
    to_backprop = both[(both["method_b"] == BACKPROP) & (both["seed_a"] != both["seed_b"])]
    groups = to_backprop.groupby(["method_a", "seed_a", "depth"], sort=False)
    means = groups[["cka", "rsa", "distance"]].mean().reset_index()
    return means.rename(columns={"method_a": "method", "seed_a": "seed"})


def _alignment(gradients: pd.DataFrame) -> pd.DataFrame:
    """Return the angle to the true gradient by method, step and boundary, and its mean over boundaries (NaN)."""
    at_all = gradients.groupby(["method", "seed", "step"], sort=False)["angle"].mean().reset_index()
    each = [
        seed_intervals(gradients, ["method", "step", "boundary"], "angle"),
        seed_intervals(at_all, ["method", "step"], "angle"),
    ]
    return pd.concat(each, ignore_index=True)


def _rules(networks: pd.DataFrame, made: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row per rule: description, accuracies and means of its layers; the untrained network is last."""
    profiles, alignment = made["profiles"], made["alignment"]
    by_method = networks.drop_duplicates("method").set_index("method")
    described = pd.DataFrame(
        [describe(rule, int(depth)) for rule, depth in zip(by_method["rule"], by_method["depth"], strict=True)],
        index=by_method.index,
    )
    order = list(dict.fromkeys([*by_method.index, *profiles["method"]]))
    table = pd.DataFrame(index=pd.Index(order, name="method")).join(described)
    for part, rows in made["accuracy"].groupby("part", sort=False):
        table = table.join(rows.set_index("method")[["mean", "low", "high"]].add_prefix(f"{part}_accuracy_"))
    over_training = alignment[alignment["boundary"].isna()].groupby("method")["mean"].mean()
    table = table.join(over_training.rename("angle_over_training"))
    wide = profiles.pivot(index="method", columns=["measure", "depth"], values="mean")
    means = wide.T.groupby(level="measure").mean().T.add_suffix("_mean")
    wide.columns = ["_".join(map(str, column)) for column in wide.columns.to_list()]
    entries = [_ENTRIES[name] for name in order]
    table.insert(0, "family", [entry.family for entry in entries])
    table["learning_rate"] = [entry.learning_rate for entry in entries]
    table["estimator_learning_rate"] = [entry.estimator_learning_rate for entry in entries]
    return table.join(wide).join(means).reset_index()


def _relations(rules: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman correlations over rules of the angle to the true gradient with accuracy and similarity.

    They are NaN where all rules have the same value.
    """
    trained = rules.dropna(subset=["angle_mean", "test_accuracy_mean"])
    among = {"rules with a gradient": trained, "without controls": trained[trained["family"] != CONTROLS]}
    rows = [
        {
            "among": group,
            "x": x,
            "y": y,
            "spearman": chosen[x].rank().corr(chosen[y].rank()),
            "n_rules": len(chosen),
        }
        for group, chosen in among.items()
        for x in ("angle_mean", "angle_over_training")
        for y in ("test_accuracy_mean", "cka_mean", "rsa_mean")
    ]
    return pd.DataFrame(rows)


def _embedding(similarity: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two coordinates of every network, from mean distances over layers, and the share of each axis."""
    ends = [["method_a", "seed_a"], ["method_b", "seed_b"]]
    pairs = similarity.groupby([*ends[0], *ends[1]], sort=False)["distance"].mean().reset_index()
    a, b = (list(pairs[end].itertuples(index=False, name=None)) for end in ends)
    keys = list(dict.fromkeys([*a, *b]))
    place = {key: i for i, key in enumerate(keys)}
    distances = np.zeros((len(keys), len(keys)))
    i, j = [place[key] for key in a], [place[key] for key in b]
    distances[i, j] = distances[j, i] = pairs["distance"]
    coordinates, shares = classical_scaling(distances)
    embedding = pd.DataFrame(keys, columns=["method", "seed"]).assign(x=coordinates[:, 0], y=coordinates[:, 1])
    return embedding, pd.DataFrame({"axis": ["x", "y"], "share": shares})


def classical_scaling(distances: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""Return coordinates (n, 2) whose distances approximate those given, and the share of variance of each axis.

    Coordinates are eigenvectors of :math:`-\frac12 H D^{\circ 2} H`, with H the centring matrix, times the square
    roots of their eigenvalues, with a positive largest entry. Shares are relative to the sum of the positive
    eigenvalues. An axis without a positive eigenvalue has coordinates and a share of 0.

    Examples
    --------
    >>> coordinates, shares = classical_scaling(np.array([[0.0, 3.0], [3.0, 0.0]]))
    >>> coordinates[:, 0].round(6).tolist(), shares.tolist()
    ([1.5, -1.5], [1.0, 0.0])
    """
    squared = distances**2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean()
    with threadpool_limits(1):  # the last bits depend on the number of threads
        values, vectors = np.linalg.eigh(-centred / 2)
    values, vectors = np.clip(values[::-1], 0.0, None), vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))])
    return (vectors * signs * np.sqrt(values))[:, :2], values[:2] / values.sum()


def _setting(results: Results) -> str:
    plan, comparison = results.plan, comparison_of(results.plan)
    training, networks = comparison.training, results["networks"]
    return (
        f"A network of {training.depth} hidden layers of {training.width} units with batch norm and relu, trained on "
        f"{plan.digits} for {training.epochs} epochs with Adam and a cosine "
        f"schedule, once with each of {networks['network'].nunique()} rules for each of the seeds "
        f"{listed(comparison.seeds)}. Every rule is used at all boundaries, including the one below the output layer; "
        "equal seeds have equal initial weights. All rules are estimators of one protocol: the training step gets g_k "
        "from the estimator at boundary k in place of the gradient N · ∂L/∂h_k, and is otherwise the same. Width, "
        "depth and epochs are our choices; so are the learning rates (rules.csv), the best of a small grid by "
        "validation accuracy on other seeds at quick scale, and Kickback's scalar error, that of the true class, as "
        "the rule was stated for one output. Locks follow from what an estimator needs. Similarity to backprop is "
        "measured against backprop networks of other seeds; the row of backprop itself is the ceiling. Two rules are "
        "controls: noise of the size of the first gradient, and no gradient at all, so that only the output layer "
        "learns. Time is that of an update divided by backprop's in the same round, the median over rounds on one "
        "processor core; it varies from run to run, while all other numbers are reproducible."
    )


def _learning(tables: Frames) -> Iterator[str]:
    """Yield which rules learn, the reason for the verdict."""
    networks, gains = tables["networks"], tables["gains"]
    rules = gains[gains["family"] != CONTROLS].sort_values("mean")
    alone = tables["accuracy"].set_index(["part", "method"])["mean"]["test", OUTPUT_ALONE]
    learning, others = rules[rules["learns"]], rules[~rules["learns"]]
    ends = [f"{row.mean:+.3f} ({row.method})" for row in learning.iloc[[0, -1] if len(learning) else []].itertuples()]
    gained = f", by {' to '.join(ends)}" if ends else ""
    failed = f"; exceptions: {', '.join(_gain(row) for row in others.itertuples())}" if len(others) else ""
    yield (
        f"{networks['state'].eq('finished').sum()} of {len(networks)} networks of {networks['method'].nunique()} rules "
        f"were trained to the end in one step that differs only in g_k, and {len(learning)} of {len(rules)} rules "
        f"other than the controls have a higher test accuracy than the output layer alone ({alone:.3f}){gained}"
        f"{failed}."
    )


def _noise(gains: pd.DataFrame) -> Iterator[str]:
    """Yield what an uninformative gradient adds to the output layer alone."""
    for row in gains[gains["family"] == CONTROLS].itertuples():
        yield f"Gain of the control with a gradient over the control without: {_gain(row)}."


def _gain(row: Any) -> str:
    return f"{row.method} {with_interval(row, '+.3f')}"


def _grading(relations: pd.DataFrame) -> Iterator[str]:
    """Yield rank correlations of alignment with accuracy and with similarity to backprop."""
    words = {"test_accuracy_mean": "test accuracy", "cka_mean": "the layers' CKA to backprop"}
    for y, quantity in words.items():
        correlations = []
        for among, rows in rows_of(relations, y=y).groupby("among", sort=False):
            spearman = rows.set_index("x")["spearman"]
            correlations.append(
                f"{spearman['angle_mean']:+.2f} at the last step and {spearman['angle_over_training']:+.2f} averaged "
                f"over training ({rows['n_rules'].iloc[0]} {among})"
            )
        yield (
            f"Rank correlation over rules of the angle to the true gradient with {quantity}: {'; '.join(correlations)}."
        )


def _locking(rules: pd.DataFrame) -> Iterator[str]:
    """Yield the test accuracy of the best rule under each set of locks."""
    best_of_locks, reached = [], rules[rules["family"] != CONTROLS].dropna(subset=["test_accuracy_mean"])
    for locked, rows in reached.groupby("locks", sort=False):
        best = rows.sort_values("test_accuracy_mean").iloc[-1]
        words = "none" if locked == "-" else str(locked).replace(", ", " and ")
        best_of_locks.append(f"{best['test_accuracy_mean']:.3f} under {words} ({best['method']}, of {len(rows)})")
    yield f"Best test accuracy by locks: {'; '.join(best_of_locks)}."


def _layers(rules: pd.DataFrame) -> Iterator[str]:
    """Yield similarities of layers to backprop, and the class structure of synthetic gradients and backprop."""
    by = rules.set_index("method")
    for measure, words in (("cka", "unbiased CKA"), ("rsa", "RDM correlation")):
        mean = by[f"{measure}_mean"].dropna()
        others = mean.drop([BACKPROP, UNTRAINED]).sort_values()
        yield (
            f"Mean {words} over layers to backprop networks of other seeds: from {others.iloc[-1]:.2f} "
            f"({others.index[-1]}) down to {others.iloc[0]:.2f} ({others.index[0]}); ceiling {mean[BACKPROP]:.2f}, "
            f"untrained {mean[UNTRAINED]:.2f}."
        )
    structure = dict(zip(rules["method"], _by_layer(rules, "class_structure"), strict=True))
    yield f"Class structure by layer: {structure[SYNTHETIC]} ({SYNTHETIC}) and {structure[BACKPROP]} ({BACKPROP})."


def _shown(rules: pd.DataFrame, timings: pd.DataFrame) -> pd.DataFrame:
    """Return the table of the report: one row per rule, with the numbers of all layers in one cell."""
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
        "time per step, relative to backprop": [_number(value, 2) for value in relative],
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
