"""HDF5 files made in memory and read with care."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from checkpoints.errors import Damaged

__all__ = ["attribute", "checked_dataset", "image", "opened", "set_attributes"]

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
    except (OSError, RuntimeError) as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error


def checked_dataset(path: Path, group: Any, name: str) -> h5py.Dataset:
    """Return a dataset whose bytes lie in this file and are no more than they should be.

    Raises
    ------
    Damaged
        If it is reached by a link to elsewhere, stored outside or virtual, of a type other than plain numbers or
        fixed-length text, uses an unknown filter, or claims far more bytes than are stored.
    """
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise Damaged(f"{path} has no {group.name}/{name}, or only a link in its place.")
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset):
        raise Damaged(f"{group.name}/{name} in {path} is not a dataset.")
    if dataset.external or dataset.is_virtual or dataset.dtype.kind not in "fiuS":
        raise Damaged(f"{dataset.name} in {path} is external, virtual or of type {dataset.dtype}; it is not read.")
    if unknown := _filters(dataset) - _FILTERS:
        raise Damaged(f"{dataset.name} in {path} uses unknown filters ({', '.join(sorted(unknown))}).")
    if dataset.nbytes > _LARGEST_EXPANSION * max(dataset.id.get_storage_size(), 1):
        raise Damaged(f"{dataset.name} in {path} claims {dataset.nbytes} bytes but stores far fewer.")
    return dataset


def set_attributes(target: Any, values: Mapping[str, Any]) -> None:
    """Set attributes; text is stored with fixed length, because HDF5 keeps no checksum of variable-length text."""
    for name, value in values.items():
        target.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value


def attribute(target: Any, name: str) -> Any:
    """Return an attribute as str, int, float or array, or None if it is absent."""
    value = target.attrs.get(name)
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def _filters(dataset: h5py.Dataset) -> set[str]:
    properties = dataset.id.get_create_plist()
    codes = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    return {_FILTER_NAMES.get(code, str(code)) for code in codes}


def _check_format(path: Path, file: h5py.File, kind: str) -> None:
    found, version = attribute(file, "format"), attribute(file, "format_version")
    if found != kind:
        raise Damaged(f"{path} has format {found!r}; expected {kind!r}.")
    if version != 1:
        raise Damaged(f"{path} has format version {version}; this reader knows 1.")
