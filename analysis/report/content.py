"""Data for the script of the page: views, stimuli, tables, and packed arrays of every layer."""

from __future__ import annotations

import math
from math import isqrt
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from analysis.comparison.attribution.answer import contrast_titles, quantity_label
from analysis.comparison.figures.seed_curves import curve_styles
from analysis.comparison.tables.probe_tables import score_columns
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.view import View
from analysis.report.charts import possible_charts
from analysis.report.embedding import Embedding, aligned, classical_mds, pca
from analysis.report.packing import Arrays
from analysis.report.sections import describe_measures
from analysis.report.thumbnails import thumbnails

__all__ = ["MOST_SHOWN", "RDM_BUDGET", "choose_shown", "most_shown", "page_content", "pairs_of"]

MOST_SHOWN = 200  # stimuli
RDM_BUDGET = 4_700_000  # bytes, all matrices of a page
_SIMILARITY_BUDGET = 600_000  # bytes, all measures
_MOST_CELLS = 500_000  # of a table in the page


def page_content(tables: Tables) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the data that the script unpacks at once, ready for JSON, and the packed arrays that it unpacks later."""
    views, arrays = tables.views, Arrays()
    test = views[0].rows("test")
    labels = views[0].stimuli.labels[test]
    shown = choose_shown(labels, most_shown(_count_layers(tables)))
    shown = shown[np.argsort(labels[shown], kind="stable")]  # labels of tokens are in no order
    with threadpool_limits(1):  # matrices are small
        fits = _add_layers(arrays, tables, shown)
    _add_similarity(arrays, tables)
    content = {
        "distance": tables.config.distance,
        "views": [
            {
                **{"label": v.label, "network": v.network, "method": tables.methods[v.label], "step": v.step},
                **{"layers": list(v.activations), "fits": fit},
            }
            for v, fit in zip(views, fits, strict=True)
        ],
        "styles": {
            name: {"colour": style.colour, "dash": style.dash, "symbol": style.symbol}
            for name, style in curve_styles(tables).items()
        },
        "targets": [{"name": name, "score": score} for name, score in score_columns(tables["probes"]).items()],
        "quantities": {str(name): quantity_label(str(name)) for name in tables["attribution"]["quantity"].unique()},
        "contrasts": [[*pair, title] for pair, title in contrast_titles(tables).items()],
        "stimuli": _stimuli(tables, test[shown]),
        "measures": describe_measures(tables),
        "charts": [
            {"name": name, "heading": each.heading, "table": each.table, "value": each.value, "ylabel": each.ylabel}
            for name, each in possible_charts(tables).items()
        ],
        "has_log_loss": _has_log_loss(tables),
        "tables": {name: _columns(table) for name, table in _small_tables(tables).items()},
        "arrays": arrays.index,
    }
    return content, arrays.packed


def _count_layers(tables: Tables) -> int:
    return sum(len(view.activations) for view in tables.views)


def _stimuli(tables: Tables, rows: NDArray[np.int64]) -> dict[str, Any]:
    view = tables.views[0]
    stimuli, classes = view.stimuli, view.classes
    recorded = rows if view.matching is None else view.matching.rows(view.run.stimuli)[rows]
    sprite, why_not = thumbnails(view.run, recorded)
    labels = stimuli.labels[rows].tolist()
    return {
        "n_test": tables.n_test,
        "ids": [str(each) for each in stimuli.ids[rows]],
        "labels": labels,
        "classes": {label: classes[label] for label in sorted(set(labels))},
        "sprite": None if sprite is None else sprite._asdict(),
        "why_not": why_not,
    }


def _has_log_loss(tables: Tables) -> bool:
    configs = [view.run.config.get("training") for view in tables.views]
    return all(isinstance(config, dict) and config.get("loss") == "log_loss" for config in configs)


def _small_tables(tables: Tables) -> dict[str, pd.DataFrame]:
    """Return the tables that are small enough for the page; similarities are arrays instead."""
    small = {name: table for name, table in tables.items() if name != "similarity"}
    return {name: table for name, table in small.items() if table.size <= _MOST_CELLS}


def _columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    return {str(name): [_plain(value) for value in table[name].tolist()] for name in table}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return _number(value)
    return value if isinstance(value, bool | int | str | None) else str(value)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


# Layers: matrices and embeddings


def _add_layers(arrays: Arrays, tables: Tables, shown: NDArray[np.int64]) -> list[list[dict[str, Any]]]:
    """Add ``rdm-V-L``, ``mds-V-L`` and ``pca-V-L`` of layer L of view V; return the fit of each plane."""
    pairs = pairs_of(shown, tables.n_test)
    n_bytes: Literal[1, 2] = 2 if 2 * len(pairs) * _count_layers(tables) <= RDM_BUDGET else 1
    planes, fits = _Planes(), []
    for v, view in enumerate(tables.views):
        fits.append([dict[str, Any]() for _ in view.activations])
        for k, layer in enumerate(view.activations):
            rdm = tables.rdm(v, layer)[pairs]
            arrays.add(f"rdm-{v}-{k}", rdm, n_bytes)
            distances = np.sqrt(rdm) if tables.config.distance == "sqeuclidean" else rdm
            embeddings = {"mds": classical_mds(distances), "pca": pca(_activations(view, layer, shown))}
            for kind, embedding in embeddings.items():
                arrays.add(f"{kind}-{v}-{k}", planes.aligned(kind, v, layer, embedding), 2)
                fits[v][k][kind] = round(embedding.fit, 4)
    return fits


def _activations(view: View, layer: str, shown: NDArray[np.int64]) -> NDArray[Any]:
    return np.asarray(view.activations[layer][view.rows("test")[shown]])


class _Planes:
    """Alignment of planes: with the same layer of the first view, or else with the layer before."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], NDArray[np.float64]] = {}
        self._last: dict[tuple[str, int], NDArray[np.float64]] = {}

    def aligned(self, kind: str, view: int, layer: str, embedding: Embedding) -> NDArray[np.float64]:
        reference = self._first.get((kind, layer), self._last.get((kind, view)))
        points = embedding.points if reference is None else aligned(embedding.points, reference)
        if view == 0:
            self._first[kind, layer] = points
        self._last[kind, view] = points
        return points


def _add_similarity(arrays: Arrays, tables: Tables) -> None:
    """Add ``similarity-M``, all layers of all views by all, for the M-th measure; NaN where a pair has no value."""
    table, measures = tables["similarity"], tables.measures
    layers = [(view.label, layer) for view in tables.views for layer in view.activations]
    places = {place: index for index, place in enumerate(layers)}
    a, b = (
        [places[place] for place in zip(table[f"view_{side}"], table[f"layer_{side}"], strict=True)] for side in "ab"
    )
    affordable = _SIMILARITY_BUDGET // max(len(places) ** 2 * len(measures), 1)
    n_bytes: Literal[1, 2, 4] = 4 if affordable >= 4 else 2 if affordable >= 2 else 1
    for index, measure in enumerate(measures):
        matrix = np.full((len(places), len(places)), np.nan)
        matrix[a, b] = table[measure]
        arrays.add(f"similarity-{index}", matrix, n_bytes)


# Stimuli: a choice that keeps all matrices together small


def most_shown(n_rdms: int, budget: int = RDM_BUDGET) -> int:
    """Return the number of stimuli that so many matrices can have at one byte per distance: 2 to 200.

    Examples
    --------
    >>> most_shown(300), most_shown(800)
    (177, 108)
    """
    pairs = budget // max(n_rdms, 1)
    return min(MOST_SHOWN, max(2, (1 + isqrt(1 + 8 * pairs)) // 2))


def choose_shown(labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the positions of at most ``most`` stimuli, balanced over classes and spread over each class.

    Examples
    --------
    >>> choose_shown(np.array([0, 0, 0, 0, 1]), 3).tolist()
    [0, 3, 4]
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    turns = np.concatenate([np.arange(len(each)) for each in members])
    owners = np.repeat(np.arange(len(members)), [len(each) for each in members])
    quotas = np.bincount(owners[np.argsort(turns, kind="stable")[:most]], minlength=len(members))
    chosen = [
        each[np.linspace(0, len(each) - 1, quota).round().astype(np.int64)]
        for each, quota in zip(members, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def pairs_of(shown: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the positions of all pairs of the shown stimuli, in any order, in a condensed matrix of n stimuli.

    Examples
    --------
    >>> pairs_of(np.array([0, 2, 3]), 4).tolist(), pairs_of(np.array([2, 0, 3]), 4).tolist()
    ([1, 2, 5], [1, 5, 2])
    """
    left, right = np.triu_indices(len(shown), k=1)
    i, j = np.minimum(shown[left], shown[right]), np.maximum(shown[left], shown[right])
    return n * i - i * (i + 1) // 2 + j - i - 1
