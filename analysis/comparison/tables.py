"""Tidy tables from views: one row an observation, one column a variable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.comparison import Piece, Store
from analysis.comparison.dataset_names import dataset_name
from analysis.comparison.plan import COMPARATORS_SHOWN
from analysis.comparison.steps import is_trained_here
from analysis.comparison.undefined import Undefined
from analysis.comparison.view import View

__all__ = [
    "class_structure_table",
    "gradient_table",
    "rdm_similarity_table",
    "read_rdm",
    "similarity_table",
    "training_table",
    "undefined_table",
    "write_rdms",
]


def write_rdms(
    path: Path, views: Sequence[View], method: str, pieces: Mapping[tuple[int, str], Piece], store: Store
) -> None:
    """Write the dissimilarity matrix of every layer on the held-out stimuli to an HDF5 file.

    Layout: ``/0000/<layer>`` holds the first view's condensed upper triangle in float32, row by row, and the group's
    attributes its name and step; see ``dataset_name`` for layers with a slash in their names. ``/stimulus_id`` and
    ``/label`` are the stimuli. Root attributes name the method. ``/keys`` has every matrix once more (it is the same
    one), by the key of its piece. A matrix that is not defined is NaN everywhere and has an attribute ``undefined``:
    JSON of its layer and the reason.
    """
    with h5py.File(path, "x") as file:
        rows = views[0].rows("test")
        file.attrs["format"], file.attrs["format_version"], file.attrs["method"] = "repsim-rdms", 1, method
        file["stimulus_id"] = np.char.encode(views[0].run.stimuli.ids[rows], "utf-8")
        file["label"] = views[0].run.stimuli.labels[rows]
        keys = file.create_group("keys")
        for index, view in enumerate(views):
            group = file.create_group(f"{index:04d}")
            group.attrs["view"], group.attrs["step"] = view.label, view.step
            for layer in view.listed:
                key = pieces[index, layer].key
                if key not in keys:
                    found = store.read(key)
                    keys[key] = found.arrays["rdm"]
                    keys[key].attrs["warnings"] = json.dumps(list(found.warnings))
                    if found.undefined:
                        keys[key].attrs["undefined"] = json.dumps([[u.layer, u.reason] for u in found.undefined])
                group[dataset_name(layer)] = keys[key]


def read_rdm(path: Path, view: int, layer: str) -> NDArray[np.float32]:
    """Return one condensed matrix of a file that ``write_rdms`` wrote, by the view's position."""
    with h5py.File(path, "r") as file:
        return np.asarray(file[f"{view:04d}"][dataset_name(layer)][()])


def class_structure_table(views: Sequence[View], found: Mapping[tuple[int, str], Mapping[str, Any]]) -> pd.DataFrame:
    """Return mean between-class minus mean within-class distance by layer, and as a fraction of the last layer's.

    Parameters
    ----------
    views : sequence of View
    found : mapping of (position of the view, layer) to mapping
        With ``class_structure``.
    """
    rows = [
        {**_keys(view), "layer": layer, "depth": depth, **found[index, layer]}
        for index, view, layer, depth in _each_layer(views)
    ]
    frame = pd.DataFrame(rows).astype({"class_structure": "float64"})
    final = frame.groupby("view", sort=False)["class_structure"].transform("last", skipna=False)
    frame["fraction_of_final"] = frame["class_structure"] / final
    return frame


def rdm_similarity_table(views: Sequence[View], found: Mapping[tuple[int, str], Mapping[str, Any]]) -> pd.DataFrame:
    """Return, for each later view, the correlation of each layer's RDM with the first view's of the same name.

    Parameters
    ----------
    views : sequence of View
    found : mapping of (position of the view, layer) to mapping
        With one value a comparator; layers that are in one view only are missing.
    """
    rows = [
        {**_keys(view), "reference": views[0].label, "layer": layer, "depth": depth, **found[index, layer]}
        for index, view, layer, depth in _each_layer(views)
        if (index, layer) in found
    ]
    frame = pd.DataFrame(rows, columns=["view", "run", "step", "reference", "layer", "depth", *COMPARATORS_SHOWN])
    return frame.astype(dict.fromkeys(COMPARATORS_SHOWN, "float64"))


def similarity_table(views: Sequence[View], values: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """Return the similarity of all layers of all views on the held-out stimuli, one row an ordered pair.

    Parameters
    ----------
    views : sequence of View
    values : mapping of str to array (n_layers, n_layers)
        By measure; all layers of the first view, then of the second, and so on.
    """
    places = [(view.label, layer, depth) for _, view, layer, depth in _each_layer(views)]
    left, right = np.indices((len(places), len(places))).reshape(2, -1)
    columns: dict[str, Any] = {}
    for side, index in (("a", left), ("b", right)):
        for number, name in enumerate(("view", "layer", "depth")):
            columns[f"{name}_{side}"] = np.array([place[number] for place in places], dtype=object)[index]
    table = pd.DataFrame({**columns, **{name: matrix.ravel() for name, matrix in values.items()}})
    return table.astype({"depth_a": "int64", "depth_b": "int64"}).infer_objects()


def undefined_table(views: Sequence[View], found: Mapping[tuple[int, str], Sequence[Undefined]]) -> pd.DataFrame:
    """Return one row for each layer of a view that lacks a result: which results, and why the first of them.

    Parameters
    ----------
    views : sequence of View
    found : mapping of (position of the view, layer) to sequence of Undefined
        Layers that have every result are missing.
    """
    rows = [
        {
            **_keys(view),
            "layer": layer,
            "depth": depth,
            "results": ", ".join(dict.fromkeys(each.result for each in found[index, layer])),
            "reason": found[index, layer][0].reason,
        }
        for index, view, layer, depth in _each_layer(views)
        if (index, layer) in found
    ]
    return pd.DataFrame(rows, columns=["view", "run", "step", "layer", "depth", "results", "reason"])


def training_table(views: Sequence[View]) -> pd.DataFrame:
    """Return one row a run and epoch: mean training loss and accuracy, and validation at its end.

    Runs that did not log an epoch, a loss and an accuracy have no rows.
    """
    frames = []
    for name, view in _runs(views):
        records = pd.DataFrame(view.run.metrics())
        if {"epoch", "loss", "accuracy"} <= set(records):
            numbers = records.select_dtypes("number")
            frames.append(numbers.groupby("epoch", as_index=False).mean().drop(columns="step").assign(view=name))
    return (
        pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["epoch", "loss", "accuracy", "view"])
    )


def gradient_table(views: Sequence[View]) -> pd.DataFrame:
    """Return one row a run, diagnosed step and boundary: the gradient that the rule chose beside the true one.

    ``norm`` and ``true_norm`` are root mean squares over examples, ``relative_error`` is ‖g − t‖ / ‖t‖, ``angle`` is in
    degrees, ``estimator_loss`` what the estimator minimises. What is undefined is empty: the angle of a zero, the loss
    of a rule in which nothing learns, the rule of a run that does not say where its rules act.
    """
    rows = [
        {
            "view": name,
            "step": record["step"],
            "boundary": int(boundary),
            "rule": rules.get(int(boundary), "backprop") if rules is not None else None,
            **values,
            "estimator_loss": record.get("estimator_losses", {}).get(boundary),
        }
        for name, view in _runs(views)
        if is_trained_here(view.run.config)
        for rules in [_rule_at(view)]
        for record in view.run.metrics()
        for boundary, values in record.get("gradients", {}).items()
    ]
    return pd.DataFrame(rows, columns=_GRADIENT_COLUMNS)


def _rule_at(view: View) -> dict[int, str] | None:
    boundaries = view.run.config.get("boundaries")
    return None if boundaries is None else {k: rule for rule, ks in boundaries.items() for k in ks}


_GRADIENT_COLUMNS = [
    "view",
    "step",
    "boundary",
    "rule",
    "norm",
    "true_norm",
    "relative_error",
    "cosine",
    "angle",
    "estimator_loss",
]


def _runs(views: Sequence[View]) -> list[tuple[str, View]]:
    """Return a view of each run, with the name of the network."""
    runs = {view.run.path: view for view in views}
    return [(view.network if len(runs) > 1 else view.run.path.absolute().name, view) for view in runs.values()]


def _each_layer(views: Sequence[View]) -> Iterator[tuple[int, View, str, int]]:
    for index, view in enumerate(views):
        for depth, layer in enumerate(view.listed, start=1):
            yield index, view, layer, depth


def _keys(view: View) -> dict[str, Any]:
    return {"view": view.label, "run": str(view.run.path.absolute()), "step": view.step}
