"""HDF5 files written through a sink and read with care."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.checksum import CHECKSUM_BYTES
from checkpoints.errors import Damaged
from checkpoints.files import check_regular
from checkpoints.sink import Sink

__all__ = [
    "MOST_LAYERS",
    "attribute",
    "check_expansion",
    "check_inflation",
    "checked_dataset",
    "checked_group",
    "claimed_bytes",
    "created",
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
MOST_LAYERS = 10_000
_LARGEST_EXPANSION = 256  # zeros at gzip level 1 shrink by 228
_LONGEST_TEXT = 2**16
_MOST_SIZES = 64


@contextmanager
def created(path: Path) -> Iterator[tuple[h5py.File, Sink]]:
    """Make a new HDF5 file; all calls must come from one thread.

    Yields
    ------
    file : h5py.File
        Without chunk cache: write whole chunks. Metadata carries checksums (HDF5 1.10 format).
    sink : Sink
        Its ``check`` raises what the disk has refused so far; ask it after each block.

    Raises
    ------
    OSError
        If the file could not be written, naming it; at the end at the latest.
    """
    with Sink(path) as sink:
        with h5py.File(sink, "w", libver=("v110", "v110"), rdcc_nbytes=0) as file:
            yield file, sink
        sink.check()


@contextmanager
def opened(path: Path, kind: str) -> Iterator[h5py.File]:
    """Open a file of this project for reading, and turn any failure to read it into one that names it.

    Raises
    ------
    Damaged
        If the file is missing, not HDF5, of another format or version, or a read inside the block fails.
    """
    check_regular(path)
    try:
        with ExitStack() as stack:
            with _distrusting(path):
                file = stack.enter_context(h5py.File(path, "r"))
                _check_format(path, file, kind)
            yield file
    except Damaged:
        raise
    except (OSError, RuntimeError, KeyError) as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error


@contextmanager
def _distrusting(path: Path) -> Iterator[None]:
    """Turn whatever h5py makes of malformed bytes into Damaged; not for blocks where a caller's mistake may surface."""
    try:
        yield
    except Damaged:
        raise
    except Exception as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error


def checked_group(path: Path, parent: h5py.Group, name: str) -> h5py.Group:
    """Return a group that lies in this file.

    Raises
    ------
    Damaged
        If there is none, or only a link in its place.
    """
    with _distrusting(path):
        return _member(path, parent, name, h5py.Group)


def checked_dataset(path: Path, group: h5py.Group, name: str, dtype: str | tuple[str, ...], ndim: int) -> h5py.Dataset:
    """Return a dataset whose bytes lie in this file and are no more than they should be.

    Parameters
    ----------
    path : Path
        Of the file, for messages.
    group : h5py.Group
    name : str
    dtype : str or tuple of str
        How the type is written by numpy, or how that begins: ``"<f4"``, ``"<i8"``, ``"|S"`` for text of any length.
        Any of several.
    ndim : int

    Raises
    ------
    Damaged
        If it is reached by a link to elsewhere, stored outside or virtual, of another type or dimension, uses an
        unknown filter or one twice, claims far more bytes than are stored, or lacks a chunk.
    """
    with _distrusting(path):
        dataset = _member(path, group, name, h5py.Dataset)
        _check_layout(path, dataset, dtype, ndim)
        _check_storage(path, dataset)
        return dataset


def _check_layout(path: Path, dataset: h5py.Dataset, dtype: str | tuple[str, ...], ndim: int) -> None:
    if dataset.external or dataset.is_virtual:
        raise Damaged(f"{dataset.name} in {path} is external or virtual; it is not read.")
    if not (found := _dtype(dataset)).startswith(dtype) or dataset.ndim != ndim:
        expected = dtype if isinstance(dtype, str) else " or ".join(dtype)
        raise Damaged(
            f"{dataset.name} in {path} has {dataset.ndim} axes of type {found}; expected {ndim} of {expected}."
        )
    filters = _filters(dataset)
    if unknown := set(filters) - _FILTERS:
        raise Damaged(f"{dataset.name} in {path} uses unknown filters ({', '.join(sorted(unknown))}).")
    if len(filters) != len(set(filters)):
        raise Damaged(f"{dataset.name} in {path} uses a filter twice ({', '.join(filters)}).")


def _check_storage(path: Path, dataset: h5py.Dataset) -> None:
    stored, claimed = min(dataset.id.get_storage_size(), path.stat().st_size), claimed_bytes(dataset)
    check_expansion(path, dataset.name, claimed, stored)
    if "gzip" not in _filters(dataset) and claimed > stored:
        raise Damaged(f"{dataset.name} in {path} claims {claimed} bytes but stores {stored}.")
    if dataset.chunks:
        expected = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
        if (found := dataset.id.get_num_chunks()) != expected:
            raise Damaged(f"{dataset.name} in {path} has {found} chunks; expected {expected}.")


def claimed_bytes(dataset: h5py.Dataset) -> int:
    """Return how much memory reading the dataset, or one chunk of it, may take."""
    if dataset.size == 0:
        return 0
    return int(max(dataset.size, math.prod(dataset.chunks or ())) * dataset.dtype.itemsize)


def check_expansion(path: Path, name: str, claimed: int, stored: int) -> None:
    """Raise Damaged if far more bytes are claimed than the stored ones can hold, however well compressed."""
    if claimed > _LARGEST_EXPANSION * max(stored, 1):
        raise Damaged(f"{name} in {path} claims {claimed} bytes but stores far fewer.")


def check_inflation(path: Path, dataset: h5py.Dataset, rows: range) -> None:
    """Raise Damaged if a compressed chunk of these rows holds more than a chunk: HDF5 would inflate it to the end."""
    filters = _filters(dataset)
    if "gzip" not in filters or not rows:
        return
    most = math.prod(dataset.chunks) * dataset.dtype.itemsize + CHECKSUM_BYTES
    height, width = dataset.chunks
    first, last = min(rows[0], rows[-1]), max(rows[0], rows[-1])
    with _distrusting(path):
        for place in itertools.product(
            range(first - first % height, last + 1, height), range(0, dataset.shape[1], width)
        ):
            skipped, content = dataset.id.read_direct_chunk(place)
            if (
                not skipped >> filters.index("gzip") & 1
                and len(zlib.decompressobj().decompress(content, most + 1)) > most
            ):
                raise Damaged(f"A chunk of {dataset.name} in {path} inflates to more than the {most} bytes of a chunk.")


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
    column = checked_dataset(path, file, name, dtype, 1)
    if "gzip" in _filters(column):
        raise Damaged(f"/{name} in {path} is compressed; a column is not.")
    with _distrusting(path):
        values = column[()]
    try:
        return np.char.decode(values, "utf-8") if dtype == "|S" else values
    except UnicodeDecodeError as error:
        raise Damaged(f"/{name} in {path} is not UTF-8 text ({error}).") from error


def set_attributes(target: Any, values: Mapping[str, Any]) -> None:
    """Set attributes; text is stored with fixed length, because HDF5 keeps no checksum of variable-length text."""
    for name, value in values.items():
        target.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value


def attribute(path: Path, target: h5py.Group, name: str, kind: str, *, absent: Any = None) -> Any:
    """Return an attribute that is a ``"text"``, a ``"whole number"`` or a ``"list of sizes"``.

    Parameters
    ----------
    path : Path
        Of the file, for messages.
    target : h5py.Group
    name, kind : str
    absent : optional
        Returned if there is no such attribute; None makes that an error.

    Raises
    ------
    Damaged
        If it is absent, of another kind, or larger than such a value is.
    """
    with _distrusting(path):
        if absent is not None and not target.attrs.__contains__(name):
            return absent
        value = _stored_attribute(target, name)
    if not _ATTRIBUTES[kind](value):
        raise Damaged(f"Attribute '{name}' of {target.name} in {path} is missing or is no {kind}.")
    return value


def _stored_attribute(target: h5py.Group, name: str) -> Any:
    """Return an attribute as a Python value, or None: nothing is read before its declared size is known to be small."""
    try:
        stored = target.attrs.get_id(name)
        if (
            stored.dtype.kind not in "Siu"
            or h5py.check_enum_dtype(stored.dtype)
            or math.prod(stored.shape) > _MOST_SIZES
        ):
            return None
        if stored.dtype.itemsize > _LONGEST_TEXT:
            return None
        value = target.attrs[name].tolist() if stored.shape or stored.dtype.kind != "S" else target.attrs[name]
        return value.decode() if isinstance(value, bytes) else value
    except (KeyError, TypeError, ValueError):
        return None


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
        return "enumeration" if h5py.check_enum_dtype(dataset.dtype) else str(dataset.dtype.str)
    except (TypeError, ValueError):
        return "unknown to numpy"


def _filters(dataset: h5py.Dataset) -> list[str]:
    """Return the filters in the order in which writing applies them, by name; an unknown one by its number."""
    properties = dataset.id.get_create_plist()
    codes = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    return [_FILTER_NAMES.get(code, str(code)) for code in codes]


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
