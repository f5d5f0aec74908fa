"""What follows from the networks of E7: one row a rule, and the tables behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from analysis.reproduction.claim import Tables
from analysis.reproduction.claims.rules.networks import BACKPROP, CONTROLS, ENTRIES, OUTPUT_ALONE, describe
from analysis.reproduction.summary import seed_intervals
from repsim.similarity.precision import FloatArray

__all__ = ["PROFILES", "classical_scaling", "summarise"]

PROFILES = {
    "angle": "angle to the true gradient (degrees)",
    "probe": "probe accuracy",
    "class_structure": "class structure",
    "cka": "CKA to backprop",
    "rsa": "RDM correlation to backprop",
}
_ENTRIES = {entry.name: entry for entry in ENTRIES}
_ACCURACIES = {"test": "test_accuracy", "train": "train_accuracy"}


def summarise(tables: Mapping[str, pd.DataFrame]) -> Tables:
    """Return all tables of the experiment but the timings, from those of its parts.

    Returns
    -------
    dict of str to DataFrame
        ``networks``, ``probes``, ``gradients``, ``similarity`` and ``class_structure`` as the parts left them;
        ``accuracy``: intervals of test and training accuracy; ``gains``: test accuracy less that of the output layer
        alone in pairs of equal seeds; ``profiles``: each of ``PROFILES`` by layer; ``alignment``: the angle by step;
        ``relations``: rank correlations over rules; ``embedding`` and ``embedding_axes``; ``rules``: one row a rule.
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
    kept = {name: tables[name] for name in ("probes", "gradients", "similarity", "class_structure")}
    return {**made, "embedding": embedding, "embedding_axes": axes, **kept}


def _accuracy(networks: pd.DataFrame) -> pd.DataFrame:
    """Return one row a method and part of the data."""
    each = [
        seed_intervals(networks, ["method"], column).assign(part=part).astype({"n_seeds": int})
        for part, column in _ACCURACIES.items()
    ]
    return pd.concat(each, ignore_index=True)


def _gains(networks: pd.DataFrame) -> pd.DataFrame:
    """Return by how much each rule is more accurate on test than the output layer alone, in pairs of equal seeds.

    A rule ``learns`` if all its trainings came to their end and the whole 95 % interval is above zero.
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
    """Return one row a method, measure and layer."""
    gradients, likeness = tables["gradients"], _likeness(tables["similarity"])
    last = gradients[gradients["step"] == gradients["step"].max()].rename(columns={"boundary": "depth"})
    sources = {
        "angle": (last, "angle"),
        "probe": (tables["probes"], "accuracy"),
        "class_structure": (tables["class_structure"], "class_structure"),
        **{measure: (likeness, measure) for measure in ("cka", "rsa", "distance")},
    }
    profiles = [
        seed_intervals(table, ["method", "depth"], column).assign(measure=measure)
        for measure, (table, column) in sources.items()
    ]
    return pd.concat(profiles, ignore_index=True)


def _likeness(similarity: pd.DataFrame) -> pd.DataFrame:
    """Return by network and layer the mean similarity to the networks of backprop that have other seeds."""
    swap = {"method_a": "method_b", "method_b": "method_a", "seed_a": "seed_b", "seed_b": "seed_a"}
    both = pd.concat([similarity, similarity.rename(columns=swap)], ignore_index=True)
    to_backprop = both[(both["method_b"] == BACKPROP) & (both["seed_a"] != both["seed_b"])]
    groups = to_backprop.groupby(["method_a", "seed_a", "depth"], sort=False)
    means = groups[["cka", "rsa", "distance"]].mean().reset_index()
    return means.rename(columns={"method_a": "method", "seed_a": "seed"})


def _alignment(gradients: pd.DataFrame) -> pd.DataFrame:
    """Return the angle to the true gradient by method, step and boundary, and its mean over boundaries (empty)."""
    at_all = gradients.groupby(["method", "seed", "step"], sort=False)["angle"].mean().reset_index()
    each = [
        seed_intervals(gradients, ["method", "step", "boundary"], "angle"),
        seed_intervals(at_all, ["method", "step"], "angle"),
    ]
    return pd.concat(each, ignore_index=True)


def _rules(networks: pd.DataFrame, made: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row a rule: what it is, what it reaches, and what its layers are like; the untrained network last."""
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
    """Return Spearman correlations over rules between alignment with the true gradient and what is reached.

    Empty where all rules reach the same.
    """
    trained = rules.dropna(subset=["angle_mean", "test_accuracy_mean"])
    among = {"rules with a gradient": trained, "without controls": trained[trained["family"] != CONTROLS]}
    rows = [
        {
            "among": words,
            "x": x,
            "y": y,
            "spearman": chosen[x].rank().corr(chosen[y].rank()),
            "n_rules": len(chosen),
        }
        for words, chosen in among.items()
        for x in ("angle_mean", "angle_over_training")
        for y in ("test_accuracy_mean", "cka_mean", "rsa_mean")
    ]
    return pd.DataFrame(rows)


def _embedding(similarity: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two coordinates of every network, by the mean distance over layers; and the share of each axis."""
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


def classical_scaling(distances: FloatArray, n_axes: int = 2) -> tuple[FloatArray, FloatArray]:
    r"""Return coordinates (n, n_axes) whose distances come near those given, and each axis' share of the variance.

    Eigenvectors of :math:`-\frac12 H D^{\circ 2} H`, with H the centring matrix, times the roots of their eigenvalues;
    of each, the largest entry is positive. Shares are of the sum of the positive eigenvalues. An axis without a
    positive eigenvalue has coordinates and a share of 0.

    Examples
    --------
    >>> coordinates, shares = classical_scaling(np.array([[0.0, 3.0], [3.0, 0.0]]), n_axes=1)
    >>> coordinates.ravel().round(6).tolist(), shares.tolist()
    ([1.5, -1.5], [1.0])
    """
    squared = distances**2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean()
    with threadpool_limits(1):  # the number of threads would decide the last bits
        values, vectors = np.linalg.eigh(-centred / 2)
    values, vectors = np.clip(values[::-1], 0.0, None), vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))])
    return (vectors * signs * np.sqrt(values))[:, :n_axes], values[:n_axes] / values.sum()
