"""Stimuli in files of arrays: ``.npz``, ``.npy`` and HDF5; large ones are read in blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from analysis.training.user_stimuli.stimulus_columns import ABOUT, GivenStimuli
from checkpoints.stimulus_inputs.array_files import (
    array_of_npy,
    arrays_of_hdf5,
    arrays_of_npz,
    column_of_hdf5,
    is_compressed,
)
from checkpoints.stimulus_inputs.array_inputs import ArrayInputs
from checkpoints.stimulus_inputs.input_source import Arrays, InputSource, NamedInputs
from checkpoints.storage.hdf5_files.hdf5_datasets import errors_as_damaged
from repsim.learning import read_npz

__all__ = ["hdf5_stimuli", "npy_stimuli", "npz_stimuli"]

_IN_MEMORY_BYTES = 2**27  # of files that are read as a whole


def npz_stimuli(path: Path, say: Callable[[str], None]) -> GivenStimuli:
    """Return the stimuli of an ``.npz`` file; see ``load_stimuli``."""
    large = path.is_file() and path.stat().st_size > _IN_MEMORY_BYTES
    if large and not is_compressed(path):
        parts = arrays_of_npz(path)
        columns = {name: part.take(range(len(part))) for name, part in parts.items() if name in ABOUT}
        inputs = {name: part for name, part in parts.items() if name not in ABOUT}
        return _stimuli(path, inputs, columns, list(parts))
    if large:
        say(f"{path} is compressed, so it is read as a whole; save it with numpy.savez to read it in blocks.")
    names, arrays = read_npz(path)
    in_memory = {name: array for name, array in arrays.items() if name not in ABOUT}
    return _stimuli(path, in_memory, {name: arrays[name] for name in ABOUT if name in arrays}, names)


def npy_stimuli(path: Path, say: Callable[[str], None]) -> GivenStimuli:
    """Return the stimuli of an ``.npy`` file, which has no labels."""
    return _stimuli(path, {"X": array_of_npy(path)}, {}, ["X"])


def hdf5_stimuli(path: Path, say: Callable[[str], None]) -> GivenStimuli:
    """Return the stimuli of an HDF5 file: datasets at its root, named as the arrays of an ``.npz`` file."""
    with errors_as_damaged(path), h5py.File(path, "r") as file:
        names = list(file)
    inputs = arrays_of_hdf5(path, [name for name in names if name not in ABOUT])
    return _stimuli(path, inputs, {name: column_of_hdf5(path, name) for name in ABOUT if name in names}, names)


def _stimuli(
    path: Path,
    parts: Mapping[str, NDArray[Any] | ArrayInputs],
    columns: Mapping[str, NDArray[Any]],
    names: list[str],
) -> GivenStimuli:
    """Return stimuli of arrays by name, of which a single one may be the network's only argument, X."""
    if not parts:
        found = ", ".join(names) or "nothing"
        raise ValueError(f"{path} holds no stimuli (found: {found}). Save them with numpy.savez(path, X=X, y=y).")
    if unusable := [name for name, part in parts.items() if part.dtype.kind not in "fiub" or not part.shape]:
        part = parts[unusable[0]]
        raise ValueError(
            f"{unusable[0]} in {path} has type {part.dtype} and shape {part.shape}; expected real numbers, one row "
            "for each stimulus."
        )
    size = sum(prod(part.shape) * part.dtype.itemsize for part in parts.values())
    is_source = any(isinstance(part, ArrayInputs) for part in parts.values())
    if is_source and size > _IN_MEMORY_BYTES:
        return GivenStimuli(_source(parts), columns, str(path))
    arrays = {
        name: part.take(range(len(part))) if isinstance(part, ArrayInputs) else part for name, part in parts.items()
    }
    if infinite := [name for name, part in arrays.items() if not np.isfinite(part).all()]:
        raise ValueError(f"{infinite[0]} in {path} has values that are NaN or infinite.")
    inputs: Arrays = arrays["X"] if list(arrays) == ["X"] else arrays
    return GivenStimuli(inputs, columns, str(path))


def _source(parts: Mapping[str, Any]) -> InputSource:
    return parts["X"] if list(parts) == ["X"] else NamedInputs(parts)
