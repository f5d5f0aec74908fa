"""HDF5 file of dissimilarity matrices: ``rdm.h5`` of a comparison."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import h5py
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from analysis.comparison.tasks.analysis_tasks import AnalysisTasks
    from analysis.execution.cache import TaskResult

__all__ = ["RDM_FILE", "dataset_name", "layer_name", "read_rdm", "write_rdms"]

RDM_FILE = "rdm.h5"
_ESCAPE = re.compile(r"%(?:2F|2E|25|00)")
_TO_ESCAPE = re.compile(rf"[/\0]|^\.$|{_ESCAPE.pattern}")


def write_rdms(path: Path, tasks: AnalysisTasks) -> None:
    """Write the dissimilarity matrix of every layer on the held-out stimuli, as the tasks have stored them.

    ``/0000/<layer>`` holds the condensed upper triangle of the first view in float32, row by row; the attributes of
    the group are its name and step, and ``dataset_name`` gives the names of layers. ``/stimulus_id`` and ``/label``
    describe the stimuli; the root attributes name the method. An undefined matrix is NaN everywhere and has an
    attribute ``undefined``: JSON of its layer and the reason. ``/keys`` links every matrix a second time: it has a
    group for each result in the cache, by key, with the matrices by their position, and all else of the result in an
    attribute ``result``.
    """
    views = tasks.views
    matrices = {place: (task, k) for task in tasks.by_table["rdm"] for k, place in enumerate(tasks.places_of(task))}
    with h5py.File(path, "x") as file:
        rows = views[0].rows("test")
        file.attrs["format"], file.attrs["format_version"], file.attrs["method"] = (
            "repsim-rdms",
            1,
            tasks.config.distance,
        )
        file["stimulus_id"] = np.char.encode(views[0].stimuli.ids[rows], "utf-8")
        file["label"] = views[0].stimuli.labels[rows]
        keys = file.create_group("keys")
        for index, view in enumerate(views):
            group = file.create_group(f"{index:04d}")
            group.attrs["view"], group.attrs["step"] = view.label, view.step
            for layer in view.listed:
                task, position = matrices[index, layer]
                if task.key not in keys:
                    _write_result(keys.create_group(task.key), task.inputs["sources"][0].layers, task.result())
                group[dataset_name(layer)] = keys[task.key][str(position)]


def _write_result(group: h5py.Group, layers: Sequence[str], result: TaskResult) -> None:
    """Write the RDMs of some layers, and what else their task found."""
    for position, layer in enumerate(layers):
        matrix = group.create_dataset(str(position), data=result.arrays[str(position)])
        undefined = [[u.layer, u.reason] for u in result.undefined if (u.layer, u.result) == (layer, "rdm")]
        if undefined:
            matrix.attrs["undefined"] = json.dumps(undefined)
    everything = {"values": result.values, "warnings": result.warnings, "undefined": result.undefined}
    group.attrs["result"] = json.dumps(everything)


def read_rdm(path: Path, view: int, layer: str) -> NDArray[np.float32]:
    """Return one condensed matrix of a file that ``write_rdms`` wrote, by the position of the view."""
    with h5py.File(path, "r") as file:
        return np.asarray(file[f"{view:04d}"][dataset_name(layer)][()])


def dataset_name(layer: str) -> str:
    """Return the name of a layer's data set: the layer's own name with ``%2F`` for a slash, as HDF5 names are paths.

    Also escaped are a zero byte (``%00``), the name ``.`` (``%2E``) and the per cent sign of text that looks like one
    of these escapes (``%25``), so that different layers have different names.

    Examples
    --------
    >>> dataset_name("hidden.1"), dataset_name("a/b"), dataset_name("50%")
    ('hidden.1', 'a%2Fb', '50%')
    """
    return _TO_ESCAPE.sub(lambda match: f"%{ord(match[0][0]):02X}{match[0][1:]}", layer)


def layer_name(dataset: str) -> str:
    """Return the layer for which ``dataset_name`` gives this name.

    Examples
    --------
    >>> layer_name("a%2Fb")
    'a/b'
    """
    return _ESCAPE.sub(lambda match: unquote(match[0]), dataset)
