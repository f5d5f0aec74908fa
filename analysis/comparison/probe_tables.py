"""Tables of probes: of each network, over seeds, and how early each network can be read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.comparison.steps import is_trained_here
from analysis.comparison.view import View
from probes import first_layer_reaching, seed_bands, seed_differences
from probes.statistics.differences import DIFFERENCES

__all__ = ["FRACTIONS", "first_layer_table", "probe_band_table", "probe_difference_table", "probe_table"]

# Of the accuracy at the last layer.
FRACTIONS = (0.5, 0.8, 0.9, 0.95, 0.99)
_NOT_NUMBERS = ("view", "layer", "target", "network", "status", "message", "C_at_edge", "converged")


def probe_table(views: Sequence[View], found: Mapping[tuple[int, str], Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row a network and layer: a linear probe fitted on train, chosen on validation, scored on test.

    Networks that differ in nothing but their seed have one ``method``.

    Parameters
    ----------
    views : sequence of View
    found : mapping of (position of the view, layer) to mapping
        The row that ``probes.probe_layers`` gives.
    """
    rows = [
        {"view": view.label, "step": view.step, "depth": depth, **found[index, layer]}
        for index, view in enumerate(views)
        for depth, layer in enumerate(view.listed, start=1)
    ]
    table = pd.DataFrame(rows)
    numbers = [str(name) for name in table if table[name].dtype == object and name not in _NOT_NUMBERS]
    table = table.astype(dict.fromkeys(numbers, "float64"))  # a failed probe has null where a number would be
    counts = [name for name in ("n_constant", "C_extended") if name in table]
    table = table.astype(dict.fromkeys(counts, "Int64"))  # which a failed probe has not
    methods = dict(zip([view.label for view in views], _methods(views), strict=True))
    table["run"] = table["view"].map({view.label: str(view.run.path.absolute()) for view in views})
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
    """Return one row a method and layer: mean accuracy over seeds, an interval for it, and a band for all layers."""
    tables = [
        seed_bands(rows).merge(rows[["layer", "depth"]].drop_duplicates("layer"), on="layer")
        for _, rows in probes.groupby("method", sort=False)
    ]
    return pd.concat(tables, ignore_index=True)


def first_layer_table(probes: pd.DataFrame) -> pd.DataFrame:
    """Return one row a network and fraction: the first layer whose accuracy is that fraction of the last layer's."""
    tables = [
        first_layer_reaching(probes, fraction, network=["view", "method", "seed"]).assign(fraction=fraction)
        for fraction in FRACTIONS
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[["view", "method", "seed", "fraction", "depth", "layer", "n_layers", "status", "message"]]


def probe_difference_table(probes: pd.DataFrame) -> pd.DataFrame:
    """Return one row a method and layer: accuracy less that of the first method, in pairs of equal seeds.

    Methods that have not the seeds of the first, two or more, have no rows; nor have layers that only one has.
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
    """Return the method and the seed of each view; a network that is no seed of a method is one of its own, seed 0."""
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
    """Return the folder of several seeds, as far as it is in the label, or the network's own name."""
    folder, _, name = view.label.rpartition("/")
    if not name.startswith("seed-"):
        return view.label
    return folder or view.run.path.absolute().parent.name
