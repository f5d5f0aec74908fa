"""Tables of layers: class structure, similarity, correlation of RDMs, and layers that lack a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.tables.comparison_table import LAYER, VIEW, Column, ComparisonTable
from analysis.comparison.tasks.analysis_tasks import AnalysisTasks, Place, require
from analysis.comparison.tasks.plan import (
    COMPARATORS_SHOWN,
    plan_rdm_similarity,
    plan_similarity,
)
from analysis.comparison.view import View

if TYPE_CHECKING:
    import pandas as pd

    Tables = Mapping[str, pd.DataFrame]

__all__ = [
    "CLASS_STRUCTURE",
    "RDM_SIMILARITY",
    "SIMILARITY",
    "UNDEFINED",
    "layer_table",
    "similarity_matrices",
    "similarity_table",
]


def layer_table(table: ComparisonTable, tasks: AnalysisTasks, cells: Mapping[Place, Mapping[str, Any]]) -> pd.DataFrame:
    """Return a table with one row per layer that has cells, in the order of views and layers."""
    import pandas as pd

    rows = [
        {
            "view": view.label,
            "run": view.location,
            "step": view.step,
            "layer": layer,
            "depth": depth,
            **cells[index, layer],
        }
        for index, view in enumerate(tasks.views)
        for depth, layer in enumerate(view.listed, start=1)
        if (index, layer) in cells
    ]
    return pd.DataFrame(rows, columns=list(table.columns))


# Class structure


def _class_structure(tasks: AnalysisTasks, _: Tables) -> pd.DataFrame:
    frame = layer_table(CLASS_STRUCTURE, tasks, tasks.columns("rdm"))
    frame = frame.astype({"class_structure": "float64"})
    final = frame.groupby("view", sort=False)["class_structure"].transform("last", skipna=False)
    return frame.assign(fraction_of_final=frame["class_structure"] / final)


CLASS_STRUCTURE = ComparisonTable(
    row="a view and layer",
    columns={
        **VIEW,
        **LAYER,
        "class_structure": Column("mean distance between classes minus mean distance within classes"),
        "fraction_of_final": Column("the same, divided by that of the view's last layer"),
    },
    build=_class_structure,
)


# Correlation of RDMs


def _rdm_similarity(tasks: AnalysisTasks, _: Tables) -> pd.DataFrame:
    reference = tasks.views[0].label
    cells = {place: {"reference": reference, **values} for place, values in tasks.columns("rdm_similarity").items()}
    return layer_table(RDM_SIMILARITY, tasks, cells).astype(dict.fromkeys(COMPARATORS_SHOWN, "float64"))


RDM_SIMILARITY = ComparisonTable(
    row="a view other than the reference, and layer",
    columns={
        **VIEW,
        "reference": Column("the first view", is_text=True),
        **LAYER,
        "pearson": Column("Pearson correlation of the RDM with that of the reference's layer of the same name"),
        "spearman": Column("Spearman correlation of the same RDMs"),
    },
    plan=plan_rdm_similarity,
    build=_rdm_similarity,
)


# Similarity of layers


def similarity_table(views: Sequence[View], values: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """Return the table ``similarity`` of one matrix per measure.

    Rows and columns of the matrices are all layers of the first view, then all of the second, and so on.
    """
    import pandas as pd

    places = [(view.label, layer, depth) for view in views for depth, layer in enumerate(view.listed, start=1)]
    left, right = np.indices((len(places), len(places))).reshape(2, -1)
    columns: dict[str, Any] = {}
    for side, index in (("a", left), ("b", right)):
        for number, name in enumerate(("view", "layer", "depth")):
            columns[f"{name}_{side}"] = np.array([place[number] for place in places], dtype=object)[index]
    table = pd.DataFrame({**columns, **{name: matrix.ravel() for name, matrix in values.items()}})
    return table.astype({"depth_a": "int64", "depth_b": "int64"}).infer_objects()


def similarity_matrices(tasks: AnalysisTasks) -> dict[str, NDArray[Any]]:
    """Return the matrix of each measure, (n_layers, n_layers), for ``similarity_table``."""
    places = [(index, layer) for index, view in enumerate(tasks.views) for layer in view.listed]
    position = {place: number for number, place in enumerate(places)}
    whole = {measure: np.full((len(places), len(places)), np.nan) for measure in tasks.config.measures}
    for task in tasks.by_table["similarity"]:
        sources, matrix, n_first = task.inputs["sources"], whole[task.inputs["measure"]], task.inputs["sides"][0]
        rows, columns = (
            [position[place] for source in batch for place in tasks.places(source)]
            for batch in (sources[:n_first], sources[n_first:] or sources)
        )
        arrays = task.result().arrays
        matrix[np.ix_(rows, columns)] = require(arrays, "forth", task)
        if "back" in arrays:
            matrix[np.ix_(columns, rows)] = arrays["back"]
    return whole


SIMILARITY = ComparisonTable(
    row="an ordered pair of layers",
    columns={
        f"{name}_{side}": column._replace(meaning=f"{column.meaning}, of layer {side}")
        for side in "ab"
        for name, column in {"view": VIEW["view"], **LAYER}.items()
    },
    rest="one column per measure of `--measures` (`cka`, unbiased and linear, by default); of an asymmetric measure, "
    "the row is of layer a as X and layer b as Y ([measures.md](measures.md))",
    plan=plan_similarity,
    build=lambda tasks, _: similarity_table(tasks.views, similarity_matrices(tasks)),
)


# Layers that lack a result


def _undefined(tasks: AnalysisTasks, _: Tables) -> pd.DataFrame:
    cells = {
        place: {"results": ", ".join(dict.fromkeys(each.result for each in lacking)), "reason": lacking[0].reason}
        for place, lacking in tasks.undefined().items()
    }
    return layer_table(UNDEFINED, tasks, cells)


UNDEFINED = ComparisonTable(
    row="a layer of a view that lacks a result; no rows if every layer has every result",
    columns={
        **VIEW,
        **LAYER,
        "results": Column("missing ones of rdm, class_structure, rdm_similarity, probes, measures", is_text=True),
        "reason": Column("why the first of them is undefined", is_text=True),
    },
    build=_undefined,
)
