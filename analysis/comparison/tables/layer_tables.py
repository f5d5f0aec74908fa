"""Tables of layers: class structure, similarity, correlation of RDMs, and layers that lack a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.comparison.tables.schema import COMPARATORS_SHOWN, TABLES
from analysis.comparison.view import View
from analysis.execution.cache import Undefined

__all__ = ["class_structure_table", "rdm_similarity_table", "similarity_table", "undefined_table"]


Place = tuple[int, str]  # position of a view, and a layer


def class_structure_table(views: Sequence[View], values: Mapping[Place, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the table ``class_structure``; ``values`` holds ``class_structure`` for every layer."""
    rows = [
        {**_keys(view), "layer": layer, "depth": depth, **values[index, layer]}
        for index, view, layer, depth in _each_layer(views)
    ]
    frame = pd.DataFrame(rows).astype({"class_structure": "float64"})
    final = frame.groupby("view", sort=False)["class_structure"].transform("last", skipna=False)
    frame["fraction_of_final"] = frame["class_structure"] / final
    return frame


def rdm_similarity_table(views: Sequence[View], values: Mapping[Place, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the table ``rdm_similarity``; ``values`` holds every comparator for layers that both views have."""
    rows = [
        {**_keys(view), "reference": views[0].label, "layer": layer, "depth": depth, **values[index, layer]}
        for index, view, layer, depth in _each_layer(views)
        if (index, layer) in values
    ]
    frame = pd.DataFrame(rows, columns=list(TABLES["rdm_similarity"].columns))
    return frame.astype(dict.fromkeys(COMPARATORS_SHOWN, "float64"))


def similarity_table(views: Sequence[View], values: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """Return the table ``similarity``.

    Each measure has one matrix, whose rows and columns are all layers of the first view, then all of the second, and so
    on.
    """
    places = [(view.label, layer, depth) for _, view, layer, depth in _each_layer(views)]
    left, right = np.indices((len(places), len(places))).reshape(2, -1)
    columns: dict[str, Any] = {}
    for side, index in (("a", left), ("b", right)):
        for number, name in enumerate(("view", "layer", "depth")):
            columns[f"{name}_{side}"] = np.array([place[number] for place in places], dtype=object)[index]
    table = pd.DataFrame({**columns, **{name: matrix.ravel() for name, matrix in values.items()}})
    return table.astype({"depth_a": "int64", "depth_b": "int64"}).infer_objects()


def undefined_table(views: Sequence[View], undefined: Mapping[Place, Sequence[Undefined]]) -> pd.DataFrame:
    """Return the table ``undefined``; ``undefined`` holds the layers that lack a result."""
    rows = [
        {
            **_keys(view),
            "layer": layer,
            "depth": depth,
            "results": ", ".join(dict.fromkeys(each.result for each in undefined[index, layer])),
            "reason": undefined[index, layer][0].reason,
        }
        for index, view, layer, depth in _each_layer(views)
        if (index, layer) in undefined
    ]
    return pd.DataFrame(rows, columns=list(TABLES["undefined"].columns))


def _each_layer(views: Sequence[View]) -> Iterator[tuple[int, View, str, int]]:
    for index, view in enumerate(views):
        for depth, layer in enumerate(view.listed, start=1):
            yield index, view, layer, depth


def _keys(view: View) -> dict[str, Any]:
    return {"view": view.label, "run": view.location, "step": view.step}
