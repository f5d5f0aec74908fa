"""Tables of probes: scores of each network, statistics over seeds, first layers that reach a fraction."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.comparison.steps import is_trained_here
from analysis.comparison.view import View
from probes import first_layer_reaching, seed_bands, seed_differences
from probes.statistics.differences import DIFFERENCES

__all__ = ["FRACTIONS", "first_layer_table", "probe_band_table", "probe_difference_table", "probe_table"]

# Of the accuracy at the last layer.
FRACTIONS = (0.5, 0.8, 0.9, 0.95, 0.99)


def probe_table(views: Sequence[View], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return one row per network and layer: a linear probe fitted on train, chosen on validation, scored on test.

    Networks that differ in nothing but their seed have the same ``method``.
    """
    named = [
        rows.assign(view=view.label, step=view.step, depth=range(1, len(rows) + 1))
        for view, rows in zip(views, tables, strict=True)
    ]
    table = pd.concat(named, ignore_index=True)
    methods = dict(zip([view.label for view in views], _methods(views), strict=True))
    table["run"] = table["view"].map({view.label: view.location for view in views})
    table["method"] = table["view"].map({label: method for label, (method, _) in methods.items()})
    table["seed"] = table["view"].map({label: seed for label, (_, seed) in methods.items()})
    first = ["view", "run", "step", "layer", "depth", "d", "method", "seed"]
    left_out = {
        "network",
        "checkpoint",
        "target",
        "layer_index",
        "codelength",
        "random_label_accuracy",
        "control_accuracy",
        "selectivity",
    }
    return table[[*first, *(name for name in table if name not in {*first, *left_out})]]


def probe_band_table(probes: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method and layer: mean accuracy over seeds, an interval, and a band for all layers."""
    tables = [
        seed_bands(rows).merge(rows[["layer", "depth"]].drop_duplicates("layer"), on="layer")
        for _, rows in probes.groupby("method", sort=False)
    ]
    return pd.concat(tables, ignore_index=True)


def first_layer_table(probes: pd.DataFrame) -> pd.DataFrame:
    """Return one row per view and fraction: the first layer that reaches this fraction of the last layer's accuracy."""
    tables = [
        first_layer_reaching(probes, fraction, network=["view", "method", "seed"]).assign(fraction=fraction)
        for fraction in FRACTIONS
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[["view", "method", "seed", "fraction", "depth", "layer", "n_layers", "status", "message"]]


def probe_difference_table(probes: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method and layer: accuracy minus that of the first method, in pairs of equal seeds.

    Only methods that have the same two or more seeds as the first have rows, and only layers that both have.
    """
    reference, *others = probes["method"].unique()
    of = {method: probes[probes["method"] == method] for method in (reference, *others)}
    seeds = set(of[reference]["seed"])
    tables = []
    for method in others:
        layers = set(of[method]["layer"]) & set(of[reference]["layer"])
        if len(seeds) > 1 and set(of[method]["seed"]) == seeds and layers:
            both = pd.concat([of[reference], of[method]])
            tables.append(seed_differences(both[both["layer"].isin(layers)], reference=reference))
    if not tables:
        return pd.DataFrame(columns=["method", "layer", "depth", *DIFFERENCES])
    table = pd.concat(tables, ignore_index=True)
    depths = of[reference].drop_duplicates("layer").set_index("layer")["depth"]
    table.insert(2, "depth", table["layer"].map(depths))
    return table


def _methods(views: Sequence[View]) -> list[tuple[str, int]]:
    """Return the method and the seed of each view; a network without others of its method has seed 0."""
    trained = [_without_seed(view) for view in views]
    counts = Counter(key for key, _ in trained)
    repeated = {key for (key, _), count in Counter(trained).items() if count > 1}  # a copy of a network
    names: dict[str, str] = {}
    taken = {view.label for view in views}
    found = []
    for view, (key, seed) in zip(views, trained, strict=True):
        if counts[key] < 2 or key in repeated or seed is None:
            found.append((view.label, 0))
            continue
        if key not in names:
            name = _method_name(view)
            free = (each for each in (name, f"{name}, step {view.step}") if each not in taken)
            names[key] = next(free, view.label)
            taken.add(names[key])
        found.append((names[key], seed))
    return found


def _without_seed(view: View) -> tuple[str, int | None]:
    config: dict[str, Any] = view.run.config
    if not is_trained_here(config):
        return view.label, None
    training = {name: value for name, value in config["training"].items() if name != "seed"}
    return json.dumps([training, config["data"], view.step], sort_keys=True), config["training"].get("seed")


def _method_name(view: View) -> str:
    """Return the folder of several seeds, as far as it is in the label, or the name of the network."""
    folder, _, name = view.label.rpartition("/")
    if not name.startswith("seed-"):
        return view.label
    return folder or view.run.path.absolute().parent.name
