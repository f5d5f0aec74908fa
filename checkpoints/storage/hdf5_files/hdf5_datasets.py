"""Groups and datasets of an HDF5 file from an untrusted source, checked before they are read."""

from __future__ import annotations

import itertools
import math
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from checkpoints.errors import Damaged
from checkpoints.storage.hdf5_files.checksum import CHECKSUM_BYTES

__all__ = [
    "check_expansion",
    "check_inflation",
    "check_link",
    "checked_dataset",
    "checked_group",
    "checked_size",
    "errors_as_damaged",
    "filter_names",
    "object_name",
]

_FILTER_NAMES = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
}
_FILTERS = set(_FILTER_NAMES.values())
_LARGEST_EXPANSION = 256  # zeros at gzip level 1 shrink by 228


class errors_as_damaged:
    """Context manager that turns every error of h5py into ``Damaged``; for blocks in which only the file can be wrong.

    It is a class because it is entered several times per layer, and a generator takes five times as long.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Raise Damaged from any other error."""
        if isinstance(error, Exception) and not isinstance(error, Damaged):
            raise Damaged(f"{self._path} cannot be read ({error}).") from error


def checked_group(path: Path, parent: h5py.Group, name: str) -> h5py.Group:
    """Return a group that is stored in this file; ``Damaged`` if there is none, or only a soft or external link."""
    with errors_as_damaged(path):
        return h5py.Group(_member(path, parent, name, h5py.h5g.GroupID))


def check_link(path: Path, group: h5py.Group, name: str) -> None:
    """Raise Damaged unless the group has a hard link of this name; other links may lead out of the file."""
    try:
        is_hard = group.id.links.get_info(name.encode()).type == h5py.h5l.TYPE_HARD
    except (KeyError, RuntimeError):
        is_hard = False
    if not is_hard:
        raise Damaged(f"{group.name.rstrip('/')}/{name} in {path} is missing or only a link.")


def checked_dataset(path: Path, group: h5py.Group, name: str, dtype: str | tuple[str, ...], ndim: int) -> h5py.Dataset:
    """Return a dataset that is stored in this file and claims no more bytes than it stores.

    ``dtype`` is NumPy's string for the type, or its beginning, or several of these: ``"<f4"``, ``"<i8"``, ``"|S"`` for
    text of any length.

    Raises
    ------
    Damaged
        If the dataset is reached by a soft or external link; is stored in another file or virtual; has another type or
        number of axes; uses an unknown filter, or a filter twice; claims far more bytes than it stores; or lacks a
        chunk.
    """
    with errors_as_damaged(path):
        return h5py.Dataset(_checked(path, group, name, dtype, ndim)[0])


def checked_size(
    path: Path, group: h5py.Group, name: str, dtype: str | tuple[str, ...], ndim: int
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Check a dataset as ``checked_dataset`` does; return its shape, type and size in memory."""
    with errors_as_damaged(path):
        dataset, claimed = _checked(path, group, name, dtype, ndim)
        return dataset.shape, dataset.dtype, claimed


def _checked(
    path: Path, group: h5py.Group, name: str, dtype: str | tuple[str, ...], ndim: int
) -> tuple[h5py.h5d.DatasetID, int]:
    """Return a dataset and the bytes that it claims, by low-level calls, which are far faster than h5py's objects."""
    dataset = _member(path, group, name, h5py.h5d.DatasetID)
    properties = dataset.get_create_plist()
    filters = filter_names(properties)
    _check_layout(path, dataset, properties, filters, dtype, ndim)
    return dataset, _check_storage(path, dataset, properties, filters)


def _check_layout(
    path: Path,
    dataset: h5py.h5d.DatasetID,
    properties: h5py.h5p.PropDCID,
    filters: list[str],
    dtype: str | tuple[str, ...],
    ndim: int,
) -> None:
    if properties.get_external_count() or properties.get_layout() == h5py.h5d.VIRTUAL:
        raise Damaged(f"{object_name(dataset)} in {path} is external or virtual; such datasets are not read.")
    if not (found := _dtype(dataset)).startswith(dtype) or dataset.rank != ndim:
        expected = dtype if isinstance(dtype, str) else " or ".join(dtype)
        raise Damaged(
            f"{object_name(dataset)} in {path} has {dataset.rank} axes of type {found}; expected {ndim} of {expected}."
        )
    if unknown := set(filters) - _FILTERS:
        raise Damaged(f"{object_name(dataset)} in {path} uses unknown filters ({', '.join(sorted(unknown))}).")
    if len(filters) != len(set(filters)):
        raise Damaged(f"{object_name(dataset)} in {path} uses a filter twice ({', '.join(filters)}).")


def _check_storage(path: Path, dataset: h5py.h5d.DatasetID, properties: h5py.h5p.PropDCID, filters: list[str]) -> int:
    """Return the number of bytes that reading the dataset, or one chunk of it, may take."""
    shape = dataset.shape
    chunks = properties.get_chunk() if properties.get_layout() == h5py.h5d.CHUNKED else ()
    size = math.prod(shape)
    claimed = max(size, math.prod(chunks)) * dataset.dtype.itemsize if size else 0
    stored = min(dataset.get_storage_size(), path.stat().st_size)
    if claimed > stored:
        name = object_name(dataset)
        check_expansion(path, name, claimed, stored)
        if "gzip" not in filters:
            raise Damaged(f"{name} in {path} claims {claimed} bytes but stores {stored}.")
    if chunks:
        expected = math.prod(-(-length // chunk) for length, chunk in zip(shape, chunks, strict=True))
        if (found := dataset.get_num_chunks()) != expected:
            raise Damaged(f"{object_name(dataset)} in {path} has {found} chunks; expected {expected}.")
    return claimed


def check_expansion(path: Path, name: str, claimed: int, stored: int) -> None:
    """Raise Damaged if more bytes are claimed than the stored bytes can hold at the best compression."""
    if claimed > _LARGEST_EXPANSION * max(stored, 1):
        raise Damaged(f"{name} in {path} claims {claimed} bytes but stores far fewer.")


def check_inflation(path: Path, dataset: h5py.Dataset, rows: range) -> None:
    """Raise Damaged if a compressed chunk of these rows inflates to more than a chunk, which HDF5 does not check."""
    filters = filter_names(dataset.id.get_create_plist())
    if "gzip" not in filters or not rows:
        return
    most = math.prod(dataset.chunks) * dataset.dtype.itemsize + CHECKSUM_BYTES
    height, width = dataset.chunks
    first, last = min(rows[0], rows[-1]), max(rows[0], rows[-1])
    with errors_as_damaged(path):
        for place in itertools.product(
            range(first - first % height, last + 1, height), range(0, dataset.shape[1], width)
        ):
            skipped, content = dataset.id.read_direct_chunk(place)
            if (
                not skipped >> filters.index("gzip") & 1
                and len(zlib.decompressobj().decompress(content, most + 1)) > most
            ):
                raise Damaged(f"A chunk of {dataset.name} in {path} inflates to more than the {most} bytes of a chunk.")


def _member(path: Path, group: h5py.Group, name: str, kind: type) -> Any:
    """Return the low-level object behind a hard link."""
    check_link(path, group, name)
    member = h5py.h5o.open(group.id, name.encode())
    if not isinstance(member, kind):
        what = "group" if kind is h5py.h5g.GroupID else "dataset"
        raise Damaged(f"{group.name.rstrip('/')}/{name} in {path} is not a {what}.")
    return member


def object_name(member: Any) -> str:
    """Return the path of an object inside its file, for messages."""
    return (h5py.h5i.get_name(member) or b"An object").decode(errors="replace")


def _dtype(dataset: h5py.h5d.DatasetID) -> str:
    try:
        return "enumeration" if h5py.check_enum_dtype(dataset.dtype) else str(dataset.dtype.str)
    except (TypeError, ValueError):
        return "unknown to numpy"


def filter_names(properties: h5py.h5p.PropDCID) -> list[str]:
    """Return the names of the filters in the order of writing; the number of an unknown filter."""
    codes = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    return [_FILTER_NAMES.get(code, str(code)) for code in codes]
