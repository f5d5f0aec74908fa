"""HDF5 files written through a sink and read with care."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import Damaged
from checkpoints.storage.checksum import CHECKSUM_BYTES
from checkpoints.storage.regular_files import check_regular
from checkpoints.storage.sink import Sink

__all__ = [
    "MOST_LAYERS",
    "attribute",
    "attributes",
    "check_expansion",
    "check_inflation",
    "check_link",
    "checked_dataset",
    "checked_group",
    "checked_size",
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
    """Create a new HDF5 file; all calls must come from one thread.

    Yields
    ------
    file : h5py.File
        Without chunk cache: write whole chunks. Metadata carries checksums (HDF5 1.10 format).
    sink : Sink
        Its ``check`` raises the errors of the disk so far; call it after each block.

    Raises
    ------
    OSError
        If the file could not be written, at the latest at the end of the block; the message names the file.
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


class _distrusting:
    """Turn every error that h5py raises for malformed bytes into Damaged; not for blocks where callers may be at fault.

    A class, as it is entered several times per layer and a generator takes five times as long.
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
    """Return a group that lies in this file.

    Raises
    ------
    Damaged
        If there is none, or only a link in its place.
    """
    with _distrusting(path):
        return h5py.Group(_member(path, parent, name, h5py.h5g.GroupID))


def check_link(path: Path, group: h5py.Group, name: str) -> None:
    """Raise Damaged unless a hard link of this name is in the group: other links may lead out of the file."""
    try:
        is_hard = group.id.links.get_info(name.encode()).type == h5py.h5l.TYPE_HARD
    except (KeyError, RuntimeError):
        is_hard = False
    if not is_hard:
        raise Damaged(f"{group.name.rstrip('/')}/{name} in {path} is missing or only a link.")


def checked_dataset(path: Path, group: h5py.Group, name: str, dtype: str | tuple[str, ...], ndim: int) -> h5py.Dataset:
    """Return a dataset whose bytes lie in this file and are no more than they should be.

    Parameters
    ----------
    path : Path
        Of the file, for messages.
    group : h5py.Group
    name : str
    dtype : str or tuple of str
        NumPy's string for the type, or the beginning of it: ``"<f4"``, ``"<i8"``, ``"|S"`` for text of any length. Of
        several, any is accepted.
    ndim : int

    Raises
    ------
    Damaged
        If it is reached by a link to elsewhere, stored outside or virtual, of another type or dimension, uses an
        unknown filter or one twice, claims far more bytes than are stored, or lacks a chunk.
    """
    with _distrusting(path):
        return h5py.Dataset(_checked(path, group, name, dtype, ndim)[0])


def checked_size(
    path: Path, group: h5py.Group, name: str, dtype: str | tuple[str, ...], ndim: int
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Check a dataset as ``checked_dataset`` does; return its shape, type and how much memory reading it may take."""
    with _distrusting(path):
        dataset, claimed = _checked(path, group, name, dtype, ndim)
        return dataset.shape, dataset.dtype, claimed


def _checked(
    path: Path, group: h5py.Group, name: str, dtype: str | tuple[str, ...], ndim: int
) -> tuple[h5py.h5d.DatasetID, int]:
    """Return a dataset and the bytes that it claims; by HDF5's own calls, as h5py's objects take far longer to make."""
    dataset = _member(path, group, name, h5py.h5d.DatasetID)
    properties = dataset.get_create_plist()
    filters = _filters(properties)
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
        raise Damaged(f"{_name(dataset)} in {path} is external or virtual; it is not read.")
    if not (found := _dtype(dataset)).startswith(dtype) or dataset.rank != ndim:
        expected = dtype if isinstance(dtype, str) else " or ".join(dtype)
        raise Damaged(
            f"{_name(dataset)} in {path} has {dataset.rank} axes of type {found}; expected {ndim} of {expected}."
        )
    if unknown := set(filters) - _FILTERS:
        raise Damaged(f"{_name(dataset)} in {path} uses unknown filters ({', '.join(sorted(unknown))}).")
    if len(filters) != len(set(filters)):
        raise Damaged(f"{_name(dataset)} in {path} uses a filter twice ({', '.join(filters)}).")


def _check_storage(path: Path, dataset: h5py.h5d.DatasetID, properties: h5py.h5p.PropDCID, filters: list[str]) -> int:
    """Return the bytes of memory that reading the dataset, or one chunk of it, may take."""
    shape = dataset.shape
    chunks = properties.get_chunk() if properties.get_layout() == h5py.h5d.CHUNKED else ()
    size = math.prod(shape)
    claimed = max(size, math.prod(chunks)) * dataset.dtype.itemsize if size else 0
    stored = min(dataset.get_storage_size(), path.stat().st_size)
    if claimed > stored:
        name = _name(dataset)
        check_expansion(path, name, claimed, stored)
        if "gzip" not in filters:
            raise Damaged(f"{name} in {path} claims {claimed} bytes but stores {stored}.")
    if chunks:
        expected = math.prod(-(-length // chunk) for length, chunk in zip(shape, chunks, strict=True))
        if (found := dataset.get_num_chunks()) != expected:
            raise Damaged(f"{_name(dataset)} in {path} has {found} chunks; expected {expected}.")
    return claimed


def check_expansion(path: Path, name: str, claimed: int, stored: int) -> None:
    """Raise Damaged if far more bytes are claimed than the stored ones can hold, however well compressed."""
    if claimed > _LARGEST_EXPANSION * max(stored, 1):
        raise Damaged(f"{name} in {path} claims {claimed} bytes but stores far fewer.")


def check_inflation(path: Path, dataset: h5py.Dataset, rows: range) -> None:
    """Raise Damaged if a compressed chunk of these rows holds more than a chunk: HDF5 would inflate it to the end."""
    filters = _filters(dataset.id.get_create_plist())
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
    """Write one value per stimulus, with a checksum; text as UTF-8 of fixed length."""
    try:
        data = np.char.encode(values, "utf-8") if values.dtype.kind == "U" else values
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object!r} in /{name} is not Unicode text; it cannot be stored as UTF-8.") from error
    file.create_dataset(name, data=data, chunks=data.shape, fletcher32=True)


def read_column(path: Path, file: h5py.File, name: str, dtype: str) -> NDArray[Any]:
    """Read what ``write_column`` wrote; ``dtype`` as for ``checked_dataset``.

    Raises
    ------
    Damaged
        If it is not a column of this type.
    """
    column = checked_dataset(path, file, name, dtype, 1)
    if "gzip" in _filters(column.id.get_create_plist()):
        raise Damaged(f"/{name} in {path} is compressed; a column is not.")
    with _distrusting(path):
        values = column[()]
    try:
        return np.char.decode(values, "utf-8") if dtype == "|S" else values
    except UnicodeDecodeError as error:
        raise Damaged(f"/{name} in {path} is not UTF-8 text ({error}).") from error


def set_attributes(target: Any, values: Mapping[str, Any]) -> None:
    """Set attributes; text is stored with fixed length, because HDF5 keeps no checksum of variable-length text.

    Raises
    ------
    ValueError
        If a text would not be read back as it is.
    """
    for name, value in values.items():
        target.attrs[name] = _encoded(name, value) if isinstance(value, str) else value


def _encoded(name: str, text: str) -> np.bytes_:
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"The {name} {text!r} is not Unicode text; it cannot be stored as UTF-8.") from error
    if len(content) > _LONGEST_TEXT:
        raise ValueError(f"The {name} {text[:20]!r}… has {len(content)} bytes; at most {_LONGEST_TEXT} are read again.")
    if content.endswith(b"\0"):
        raise ValueError(f"The {name} {text!r} ends with a zero byte, which HDF5 does not keep.")
    return np.bytes_(content)


def attribute(path: Path, target: h5py.Group, name: str, kind: str) -> Any:
    """Return an attribute that is a ``"text"``, a ``"whole number"`` or a ``"list of sizes"``; see ``attributes``."""
    return attributes(path, target, {name: kind})[name]


def attributes(
    path: Path, target: h5py.Group, kinds: Mapping[str, str], optional: Collection[str] = ()
) -> dict[str, Any]:
    """Return attributes as Python values, by name.

    Parameters
    ----------
    path : Path
        Of the file, for messages.
    target : h5py.Group
    kinds : mapping of str to str
        The kind of each: ``"text"``, ``"whole number"`` or ``"list of sizes"``.
    optional : collection of str, optional
        Names of attributes that may be absent; they are then left out.

    Raises
    ------
    Damaged
        If one is absent, of another kind, or larger than such a value is.
    """
    location = target["/"].id if isinstance(target, h5py.File) else target.id
    values = {}
    with _distrusting(path):
        for name, kind in kinds.items():
            value = _stored_attribute(location, name.encode(), kind)
            if value is not None and _ATTRIBUTES[kind](value):
                values[name] = value
            elif name not in optional or h5py.h5a.exists(location, name.encode()):
                raise Damaged(f"Attribute '{name}' of {_name(location)} in {path} is missing or is no {kind}.")
    return values


def _stored_attribute(location: Any, name: bytes, kind: str) -> Any:
    """Return an attribute, or None: nothing is read before its declared size is known to be small.

    It is read by HDF5's own calls, which take a fraction of the time of h5py's ``attrs``.
    """
    try:
        stored = h5py.h5a.open(location, name)
        return _stored_text(stored) if kind == "text" else _stored_numbers(stored, kind)
    except (KeyError, TypeError, ValueError):
        return None


def _stored_text(stored: h5py.h5a.AttrID) -> str | None:
    stored_type = stored.get_type()
    size = stored_type.get_size()
    if (
        stored_type.get_class() != h5py.h5t.STRING
        or stored_type.is_variable_str()
        or not size == _stored_bytes(stored) <= _LONGEST_TEXT  # one text: the read fills that many bytes, unchecked
    ):
        return None
    if stored_type.get_strpad() != h5py.h5t.STR_NULLPAD:  # what follows the end of the text is no part of it
        stored_type = stored_type.copy()
        stored_type.set_strpad(h5py.h5t.STR_NULLPAD)
    value = np.empty((), dtype=f"S{size}")
    stored.read(value, stored_type)
    return str(value.item().decode())


def _stored_numbers(stored: h5py.h5a.AttrID, kind: str) -> Any:
    stored_type, shape = stored.get_type(), stored.shape
    expected = () if kind == "whole number" else (min(_stored_bytes(stored) // stored_type.get_size(), _MOST_SIZES),)
    if stored_type.get_class() != h5py.h5t.INTEGER or shape != expected:
        return None
    dtype = np.dtype("<i8") if stored_type.equal(h5py.h5t.STD_I64LE) else stored_type.dtype
    values = np.empty(shape, dtype=dtype)
    if values.size:
        stored.read(values, stored_type)
    return values.tolist()


def _stored_bytes(stored: h5py.h5a.AttrID) -> int:
    try:
        return int(stored.get_storage_size())
    except RuntimeError:  # h5py takes 0 for an error
        return 0


def _member(path: Path, group: h5py.Group, name: str, kind: type) -> Any:
    """Return the low-level object that a hard link leads to."""
    check_link(path, group, name)
    member = h5py.h5o.open(group.id, name.encode())
    if not isinstance(member, kind):
        what = "group" if kind is h5py.h5g.GroupID else "dataset"
        raise Damaged(f"{group.name.rstrip('/')}/{name} in {path} is not a {what}.")
    return member


def _name(member: Any) -> str:
    return (h5py.h5i.get_name(member) or b"An object").decode(errors="replace")


def _dtype(dataset: h5py.h5d.DatasetID) -> str:
    try:
        return "enumeration" if h5py.check_enum_dtype(dataset.dtype) else str(dataset.dtype.str)
    except (TypeError, ValueError):
        return "unknown to numpy"


def _filters(properties: h5py.h5p.PropDCID) -> list[str]:
    """Return the filters in the order in which writing applies them, by name; an unknown one by its number."""
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
