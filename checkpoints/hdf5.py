"""HDF5 files made in memory and read with care."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import Damaged

__all__ = [
    "attribute",
    "checked_dataset",
    "checked_group",
    "image",
    "opened",
    "read_column",
    "set_attributes",
    "write_column",
]

_FILTER_NAMES = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
}
_FILTERS = set(_FILTER_NAMES.values())
_LARGEST_EXPANSION = 1000


def image(fill: Callable[[h5py.File], None]) -> bytes:
    """Return the bytes of an HDF5 file that ``fill`` fills.

    The file never touches the disk, so that a full disk is met by a plain write, which fails cleanly; HDF5's own
    flush on close does not.
    """
    with h5py.File("image", "w", driver="core", backing_store=False, libver=("v110", "v110")) as file:
        fill(file)
        file.flush()
        return bytes(file.id.get_file_image())


@contextmanager
def opened(path: Path, kind: str) -> Iterator[h5py.File]:
    """Open a file of this project for reading, and turn any failure to read it into one that names it.

    Raises
    ------
    Damaged
        If the file is missing, not HDF5, of another format or version, or a read inside the block fails.
    """
    if path.is_symlink() or not path.is_file():
        raise Damaged(f"{path} is missing or not a regular file.")
    try:
        with h5py.File(path, "r") as file:
            _check_format(path, file, kind)
            yield file
    except Damaged:
        raise
    except (OSError, RuntimeError, KeyError) as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error


def checked_group(path: Path, parent: h5py.Group, name: str) -> h5py.Group:
    """Return a group that lies in this file.

    Raises
    ------
    Damaged
        If there is none, or only a link in its place.
    """
    return _member(path, parent, name, h5py.Group)


def checked_dataset(path: Path, group: h5py.Group, name: str, dtype: str, ndim: int) -> h5py.Dataset:
    """Return a dataset whose bytes lie in this file and are no more than they should be.

    Parameters
    ----------
    path : Path
        Of the file, for messages.
    group : h5py.Group
    name : str
    dtype : str
        How the type is written by numpy, or how that begins: ``"<f4"``, ``"<i8"``, ``"|S"`` for text of any length.
    ndim : int

    Raises
    ------
    Damaged
        If it is reached by a link to elsewhere, stored outside or virtual, of another type or dimension, uses an
        unknown filter, or claims far more bytes than are stored.
    """
    dataset = _member(path, group, name, h5py.Dataset)
    if dataset.external or dataset.is_virtual:
        raise Damaged(f"{dataset.name} in {path} is external or virtual; it is not read.")
    if not (found := _dtype(dataset)).startswith(dtype) or dataset.ndim != ndim:
        raise Damaged(f"{dataset.name} in {path} has {dataset.ndim} axes of type {found}; expected {ndim} of {dtype}.")
    if unknown := _filters(dataset) - _FILTERS:
        raise Damaged(f"{dataset.name} in {path} uses unknown filters ({', '.join(sorted(unknown))}).")
    claimed = max(dataset.size, math.prod(dataset.chunks or ())) * dataset.dtype.itemsize
    stored = min(dataset.id.get_storage_size(), path.stat().st_size)
    if claimed > _LARGEST_EXPANSION * max(stored, 1):
        raise Damaged(f"{dataset.name} in {path} claims {claimed} bytes but stores far fewer.")
    return dataset


def write_column(file: h5py.File, name: str, values: NDArray[Any]) -> None:
    """Write one value a stimulus, with a checksum; text as UTF-8 of fixed length."""
    data = np.char.encode(values, "utf-8") if values.dtype.kind == "U" else values
    file.create_dataset(name, data=data, chunks=data.shape, fletcher32=True)


def read_column(path: Path, file: h5py.File, name: str, dtype: str) -> NDArray[Any]:
    """Read what ``write_column`` wrote; ``dtype`` as for ``checked_dataset``.

    Raises
    ------
    Damaged
        If it is not a column of this type.
    """
    values = checked_dataset(path, file, name, dtype, 1)[()]
    try:
        return np.char.decode(values, "utf-8") if dtype == "|S" else values
    except UnicodeDecodeError as error:
        raise Damaged(f"/{name} in {path} is not UTF-8 text ({error}).") from error


def set_attributes(target: Any, values: Mapping[str, Any]) -> None:
    """Set attributes; text is stored with fixed length, because HDF5 keeps no checksum of variable-length text."""
    for name, value in values.items():
        target.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value


def attribute(path: Path, target: h5py.Group, name: str, kind: str) -> Any:
    """Return an attribute that is a ``"text"``, a ``"whole number"`` or a ``"list of sizes"``.

    Raises
    ------
    Damaged
        If it is absent or of another kind.
    """
    try:
        value = target.attrs.get(name)
        value = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
        value = value.decode() if isinstance(value, bytes) else value
    except (TypeError, ValueError):
        value = None
    if not _ATTRIBUTES[kind](value):
        raise Damaged(f"Attribute '{name}' of {target.name} in {path} is missing or is no {kind}.")
    return value


def _member(path: Path, group: h5py.Group, name: str, kind: type) -> Any:
    where = f"{group.name.rstrip('/')}/{name} in {path}"
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise Damaged(f"{where} is missing or only a link.")
    member = group[name]
    if not isinstance(member, kind):
        raise Damaged(f"{where} is not a {kind.__name__.lower()}.")
    return member


def _dtype(dataset: h5py.Dataset) -> str:
    try:
        return str(dataset.dtype.str)
    except (TypeError, ValueError):
        return "unknown to numpy"


def _filters(dataset: h5py.Dataset) -> set[str]:
    properties = dataset.id.get_create_plist()
    codes = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    return {_FILTER_NAMES.get(code, str(code)) for code in codes}


def _check_format(path: Path, file: h5py.File, kind: str) -> None:
    if (found := attribute(path, file, "format", "text")) != kind:
        raise Damaged(f"{path} has format '{found}'; expected '{kind}'.")
    if (version := attribute(path, file, "format_version", "whole number")) != 1:
        raise Damaged(f"{path} has format version {version}; this reader knows 1.")


_ATTRIBUTES: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "whole number": lambda value: isinstance(value, int),
    "list of sizes": lambda value: (
        isinstance(value, list) and all(isinstance(size, int) and size >= 0 for size in value)
    ),
}
