"""Arrays in ``.npy``, ``.npz`` and HDF5 files: described without reading them, and opened for each block."""

from __future__ import annotations

import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import Damaged
from checkpoints.stimulus_inputs.array_inputs import ArrayInputs
from checkpoints.storage.hdf5_files.hdf5_datasets import check_link, checked_dataset, errors_as_damaged

__all__ = ["array_of_npy", "arrays_of_hdf5", "arrays_of_npz", "column_of_hdf5", "is_compressed"]

_LOCAL_HEADER = 30  # bytes of a member of a zip archive before its name
_READ_BYTES = 2**20
_NUMBERS = tuple(f"{order}{kind}" for order in "<>|" for kind in "fiub")
_HEADERS: dict[tuple[int, int], Callable[[BinaryIO], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def array_of_npy(path: Path) -> ArrayInputs:
    """Return the array of an ``.npy`` file.

    Raises
    ------
    ValueError
        If the file is no readable ``.npy`` file, holds objects or no values, or is shorter than it claims.
    """
    with _errors_named(path), path.open("rb") as file:
        return _mapped(path, file, f"{path}", os.fstat(file.fileno()).st_size)


def is_compressed(path: Path) -> bool:
    """Return whether arrays of an ``.npz`` file are compressed, so that no part of them can be read alone."""
    with _errors_named(path), zipfile.ZipFile(path) as archive:
        return any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist())


def arrays_of_npz(path: Path) -> dict[str, ArrayInputs]:
    """Return the arrays of an uncompressed ``.npz`` file by name, after comparing all bytes with their checksums.

    Raises
    ------
    ValueError
        As for ``array_of_npy``; also if an array is compressed, or its checksum is wrong.
    """
    with _errors_named(path), path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = [each for each in archive.infolist() if each.filename.endswith(".npy")]
        return {each.filename.removesuffix(".npy"): _member(path, file, archive, each) for each in members}


def arrays_of_hdf5(path: Path, names: list[str]) -> dict[str, ArrayInputs]:
    """Return datasets of numbers at the root of an HDF5 file by name.

    Raises
    ------
    Damaged
        If a dataset is missing, a link, external, virtual, uses an unknown filter, holds no numbers, or claims more
        bytes than it stores.
    """
    found = {}
    for name in names:
        with _opened_dataset(path, name) as dataset:
            found[name] = ArrayInputs(
                f"{name} in {path}", dataset.shape, dataset.dtype, partial(_opened_dataset, path, name)
            )
    return found


def column_of_hdf5(path: Path, name: str) -> NDArray[Any]:
    """Return a whole dataset of numbers or text at the root of an HDF5 file; raises ``Damaged``."""
    with errors_as_damaged(path), h5py.File(path, "r") as file:
        check_link(path, file, name)
        values = file[name]
        if h5py.check_string_dtype(values.dtype) is None:
            return np.asarray(values[()])
        return np.asarray(values.asstr()[()], dtype=str)


def _member(path: Path, file: BinaryIO, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> ArrayInputs:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    with archive.open(member) as content:  # compares the checksum at the end
        while content.read(_READ_BYTES):
            pass
    file.seek(member.header_offset)
    name_length, extra_length = struct.unpack("<HH", file.read(_LOCAL_HEADER)[26:])
    file.seek(member.header_offset + _LOCAL_HEADER + name_length + extra_length)
    return _mapped(path, file, f"{member.filename.removesuffix('.npy')} in {path}", file.tell() + member.file_size)


def _mapped(path: Path, file: BinaryIO, what: str, end: int) -> ArrayInputs:
    """Return the array that begins at the position of a file and ends at or before ``end``."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{what} has version {version[0]}.{version[1]} of the format, which is not read")
    shape, is_fortran, dtype = _HEADERS[version](file)
    offset = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{what} holds Python objects, which are never loaded; save plain arrays")
    if not shape or 0 in shape:
        raise ValueError(f"{what} has shape {shape}; expected one row for each stimulus, with values")
    if offset + math.prod(shape) * dtype.itemsize > end:
        raise ValueError(f"{what} is shorter than its header claims")
    order: Any = "F" if is_fortran else "C"

    @contextmanager
    def opened() -> Iterator[Any]:
        yield np.memmap(path, dtype, "r", offset, shape, order)

    return ArrayInputs(what, shape, dtype, opened)


@contextmanager
def _opened_dataset(path: Path, name: str) -> Iterator[h5py.Dataset]:
    with h5py.File(path, "r") as file:
        with errors_as_damaged(path):
            check_link(path, file, name)
            rank = getattr(file[name], "ndim", 0)
        if not rank:
            raise Damaged(f"{name} in {path} is no array; expected one row for each stimulus.")
        yield checked_dataset(path, file, name, _NUMBERS, rank)


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Raise any error of reading a file as a ValueError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file makes zipfile and numpy raise almost anything
        described = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read ({described}).") from error
