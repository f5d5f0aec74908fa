"""Tidy tables from views: one row an observation, one column a variable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.progress import Reporter
from analysis.settings import is_trained_here
from analysis.views import View
from repsim.similarity import class_structure, compare_rdms, pairwise, rdm

__all__ = [
    "class_structure_table",
    "gradient_table",
    "rdm_similarity_table",
    "read_rdm",
    "similarity_table",
    "training_table",
    "write_rdms",
]

COMPARISONS = ("pearson", "spearman")  # of `COMPARATORS`; each a column of rdm_similarity.csv


def write_rdms(path: Path, views: Sequence[View], method: str, reporter: Reporter) -> None:
    """Write the dissimilarity matrix of every layer on the held-out stimuli to an HDF5 file.

    Layout: ``/0000/<layer>`` holds the first view's condensed upper triangle in float32, row by row, and the group's
    attributes its name and step; ``/stimulus_id`` and ``/label`` are the stimuli. Root attributes name the method.
    """
    n_layers = sum(len(view.activations) for view in views)
    with h5py.File(path, "x") as file, reporter.task(f"RDMs ({method})", n_layers) as task:
        rows = views[0].rows("test")
        file.attrs["format"], file.attrs["format_version"], file.attrs["method"] = "repsim-rdms", 1, method
        file["stimulus_id"] = np.char.encode(views[0].run.stimuli.ids[rows], "utf-8")
        file["label"] = views[0].run.stimuli.labels[rows]
        for index, view in enumerate(views):
            group = file.create_group(f"{index:04d}")
            group.attrs["view"], group.attrs["step"] = view.label, view.step
            for layer, values in view.activations.items():
                group[layer] = rdm(values[rows], method=method, name=f"{view.label}: {layer}").astype(np.float32)
                task.advance(1, layer)


def read_rdm(path: Path, view: int, layer: str) -> NDArray[np.float32]:
    """Return one condensed matrix of a file that ``write_rdms`` wrote, by the view's position."""
    with h5py.File(path, "r") as file:
        return np.asarray(file[f"{view:04d}"][layer][()])


def class_structure_table(path: Path, views: Sequence[View]) -> pd.DataFrame:
    """Return mean between-class minus mean within-class distance by layer, and as a fraction of the last layer's."""
    rows = []
    for index, view, layer, depth in _each_layer(views):
        labels = view.run.stimuli.labels[view.rows("test")]
        structure = class_structure(read_rdm(path, index, layer), labels)
        rows.append({**_keys(view), "layer": layer, "depth": depth, "class_structure": structure})
    frame = pd.DataFrame(rows)
    final = frame.groupby("view", sort=False)["class_structure"].transform("last", skipna=False)
    frame["fraction_of_final"] = frame["class_structure"] / final
    return frame


def rdm_similarity_table(path: Path, views: Sequence[View]) -> pd.DataFrame:
    """Return, for each later view, the correlation of each layer's RDM with the first view's of the same name."""
    rows = []
    for index, view, layer, depth in _each_layer(views):
        if index == 0 or layer not in views[0].activations:
            continue
        pair = np.stack([read_rdm(path, 0, layer), read_rdm(path, index, layer)])
        pair[:, np.isnan(pair).any(axis=0)] = np.nan  # what is undefined in one network is left out of both
        scores = {method: compare_rdms(pair[0], pair[1], method=method) for method in COMPARISONS}
        rows.append({**_keys(view), "reference": views[0].label, "layer": layer, "depth": depth, **scores})
    return pd.DataFrame(rows, columns=["view", "run", "step", "reference", "layer", "depth", *COMPARISONS])


def similarity_table(views: Sequence[View], reporter: Reporter) -> pd.DataFrame:
    """Return unbiased linear CKA between all layers of all views on the held-out stimuli, one row an ordered pair."""
    reporter.say("CKA between all pairs of layers")
    places = [(view, layer, depth) for _, view, layer, depth in _each_layer(views)]
    arrays = {f"{view.label}: {layer}": view.activations[layer][view.rows("test")] for view, layer, _ in places}
    values = pairwise(arrays).values
    left, right = np.indices(values.shape).reshape(2, -1)
    columns: dict[str, Any] = {}
    for side, index in (("a", left), ("b", right)):
        columns[f"view_{side}"] = [places[i][0].label for i in index]
        columns[f"layer_{side}"] = [places[i][1] for i in index]
        columns[f"depth_{side}"] = [places[i][2] for i in index]
    return pd.DataFrame({**columns, "cka": values.ravel()})


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
    """Return a view of each run, with the name of the run."""
    runs = {view.run.path: view for view in views}
    return [(view.label if len(runs) > 1 else view.run.path.absolute().name, view) for view in runs.values()]


def _each_layer(views: Sequence[View]) -> Iterator[tuple[int, View, str, int]]:
    for index, view in enumerate(views):
        for depth, layer in enumerate(view.activations, start=1):
            yield index, view, layer, depth


def _keys(view: View) -> dict[str, Any]:
    return {"view": view.label, "run": str(view.run.path), "step": view.step}


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    first = [name for name in ("view", "run", "step", "reference", "layer", "depth") if name in frame]
    return frame[[*first, *(name for name in frame if name not in first)]]
