"""Arrays for ``numpy.load``, without pickle: activations by step and layer, or dissimilarity matrices."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.export.sources import ExportedAnalysis, ExportedRun, blocks

__all__ = ["write_analysis", "write_recording"]


def write_recording(run: ExportedRun, path: Path, done: Callable[[str], None]) -> None:
    """Write ``STEP/LAYER``, (n, d) of the recorded type, the columns of the stimuli, (n,), step and layer.

    Layers go to disk in blocks of rows.
    """
    names = list(dict.fromkeys(place.layer.name for place in run.layers))
    with _opened(path) as archive:
        for name, values in run.stimulus_columns.items():
            _put(archive, name, values)
        _put(archive, "step", np.array(run.steps))
        _put(archive, "layer", np.array(names))
        for step, _, layer in run.layers:
            parts = (block for _, block in blocks(layer))
            _stream(archive, f"{step}/{layer.name}", layer.shape, layer.dtype, parts)
            done(layer.name)


def write_analysis(analysis: ExportedAnalysis, path: Path, done: Callable[[str], None]) -> None:
    """Write ``VIEW/LAYER``, (n(n-1)/2,), VIEW being a position as in ``rdm.h5``, and what the stimuli and views are."""
    with _opened(path) as archive:
        _put(archive, "stimulus_id", analysis.stimulus_ids)
        _put(archive, "label", analysis.labels)
        _put(archive, "view", np.array([view.label for view in analysis.views], dtype=str))
        _put(archive, "step", np.array([view.step for view in analysis.views], dtype=np.int64))
        _put(archive, "distance", np.array(analysis.method))
        for matrix in analysis.matrices:
            _put(archive, f"{matrix.view.key}/{matrix.layer}", analysis.rdm(matrix))
            done(matrix.layer)


def _opened(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path, "x", zipfile.ZIP_STORED)


def _put(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    _stream(archive, name, values.shape, values.dtype, [values])


def _stream(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterable[NDArray[Any]]
) -> None:
    """Write an array whose rows come in parts."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for part in parts:
            member.write(np.ascontiguousarray(part).tobytes())
