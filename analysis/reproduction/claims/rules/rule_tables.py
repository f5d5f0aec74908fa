"""Tables of the claim: accuracies, differences, profiles by layer, relations, and one row per rule."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from analysis.reproduction.claim import Frames
from analysis.reproduction.claims.rules.family_relations import correlate_over_families
from analysis.reproduction.claims.rules.rule_entries import (
    BACKPROP,
    CONTROLS,
    ENTRIES,
    FAMILY_OF,
    OUTPUT_ALONE,
    describe,
)
from analysis.reproduction.claims.rules.rule_pairs import NUMBERS, differences_from, pair_table, rule_bands
from analysis.reproduction.kit.numbers import rows_of, seed_intervals
from analysis.reproduction.kit.rule_tuning import TunedRates, choose_rates
from repsim.similarity.precision import FloatArray

__all__ = ["classical_scaling", "summarise"]

_METHOD_OF = {entry.network: entry.name for entry in ENTRIES if entry.is_trained}
_ACCURACIES = {"test": "test_accuracy", "train": "train_accuracy"}


def summarise(tables: Mapping[str, pd.DataFrame]) -> Frames:
    """Return all tables of the claim except the timings, from those of its tasks.

    Returns
    -------
    dict of str to DataFrame
        ``networks``, ``probes``, ``gradients``, ``similarity`` and ``class_structure`` from the tasks; ``tuning``: all
        tuning trainings, and whether their rates were ``chosen``; ``accuracy``: intervals of test and training accuracy
        with bands over all rules; ``pairs``: the difference of every two rules, with its verdict; ``gains``: those from
        the output layer alone; ``profiles``: angle, probes, class structure and similarity to backprop by
        layer; ``alignment``: the angle by step;
        ``relations``: rank correlations over rules; ``embedding`` and ``embedding_axes``; ``rules``: one row per rule.
    """
    networks = tables["networks"].assign(method=tables["networks"]["network"].map(_METHOD_OF))
    pairs = pair_table(_by_seed(networks, "test_accuracy"))
    made = {
        "networks": networks,
        "tuning": _chosen(tables["tuning"]),
        "accuracy": _accuracy(networks),
        "pairs": pairs,
        "gains": _gains(pairs),
        "profiles": _profiles(tables),
        "alignment": _alignment(tables["gradients"]),
    }
    made["rules"] = _rules(networks, made)
    made["relations"] = _relations(made["rules"])
    embedding, axes = _embedding(tables["similarity"])
    unchanged = {name: tables[name] for name in ("probes", "gradients", "similarity", "class_structure")}
    return {**made, "embedding": embedding, "embedding_axes": axes, **unchanged}


def _by_seed(networks: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a table (n_seeds, n_rules); NaN where the training diverged."""
    finished = networks[column].where(networks["state"] == "finished")
    wide = networks.assign(value=finished).pivot(index="seed", columns="method", values="value")
    return wide[list(networks["method"].unique())]


def _chosen(tuning: pd.DataFrame) -> pd.DataFrame:
    """Return the tuning trainings with their rule, and whether their rates are those that the rule was given."""
    parts = []
    for network, rows in tuning.groupby("network", sort=False):
        rates = choose_rates(rows)
        own = rows["estimator_learning_rate"]
        is_chosen = (
            (rows["learning_rate"] == rates.learning_rate)
            & ((own == rates.estimator_learning_rate) | (own.isna() & math.isnan(rates.estimator_learning_rate)))
            if rates
            else False
        )
        parts.append(rows.assign(method=_METHOD_OF[str(network)], chosen=is_chosen))
    return pd.concat(parts, ignore_index=True)


def _accuracy(networks: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method and part of the data; the bands are over all methods of a part."""
    each = []
    for part, column in _ACCURACIES.items():
        bands = rule_bands(_by_seed(networks, column))[["band_low", "band_high"]].rename_axis("method").reset_index()
        rows = seed_intervals(networks, ["method"], column).merge(bands, on="method")
        each.append(rows.assign(part=part).astype({"n_seeds": int}))
    return pd.concat(each, ignore_index=True)


def _gains(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return test accuracies minus that of the output layer alone, in pairs of equal seeds.

    A rule ``learns`` if the whole band, over all pairs of rules, is above the smallest difference of interest.
    """
    gains = differences_from(pairs, OUTPUT_ALONE)
    return gains.assign(
        family=gains["method"].map(FAMILY_OF), learns=(gains["verdict"] == "different") & (gains["mean"] > 0)
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
        table = table.join(rows.set_index("method")[NUMBERS].add_prefix(f"{part}_accuracy_"))
    over_training = alignment[alignment["boundary"].isna()].groupby("method")["mean"].mean()
    table = table.join(over_training.rename("angle_over_training"))
    wide = profiles.pivot(index="method", columns=["measure", "depth"], values="mean")
    means = wide.T.groupby(level="measure").mean().T.add_suffix("_mean")
    wide.columns = ["_".join(map(str, column)) for column in wide.columns.to_list()]
    table.insert(0, "family", [FAMILY_OF[str(name)] for name in order])
    chosen = rows_of(made["tuning"], chosen=True).drop_duplicates("method").set_index("method")
    return table.join(chosen[list(TunedRates._fields)]).join(wide).join(means).reset_index()


def _relations(rules: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman correlations over rules of the angle to the true gradient with accuracy and similarity.

    Families are the unit of their intervals. They are NaN where all rules have the same value.
    """
    trained = rules.dropna(subset=["angle_mean", "test_accuracy_mean", "cka_mean", "rsa_mean"])
    among = {"rules with a gradient": trained, "without controls": trained[trained["family"] != CONTROLS]}
    rows = [
        {"among": group, "x": x, "y": y, **correlate_over_families(chosen, x, y)}
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
