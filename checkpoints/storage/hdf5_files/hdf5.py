"""HDF5 files of a run: written through a sink, and opened with checks of the format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import Damaged
from checkpoints.storage.hdf5_files.hdf5_attributes import LONGEST_TEXT, attribute
from checkpoints.storage.hdf5_files.hdf5_datasets import checked_dataset, errors_as_damaged, filter_names
from checkpoints.storage.hdf5_files.sink import Sink
from checkpoints.storage.regular_files import check_regular

__all__ = ["MOST_LAYERS", "created", "opened", "read_column", "set_attributes", "write_column"]

MOST_LAYERS = 10_000


@contextmanager
def created(path: Path) -> Iterator[tuple[h5py.File, Sink]]:
    """Create a new HDF5 file; all calls must come from one thread.

    Yields
    ------
    file : h5py.File
        Without chunk cache, so write whole chunks. Metadata has checksums (HDF5 1.10 format).
    sink : Sink
        Its ``check`` raises the first disk error so far; call it after each block.
    """
    with Sink(path) as sink:
        with h5py.File(sink, "w", libver=("v110", "v110"), rdcc_nbytes=0) as file:
            yield file, sink
        sink.check()


@contextmanager
def opened(path: Path, kind: str) -> Iterator[h5py.File]:
    """Open an HDF5 file of a run for reading; errors inside the block become ``Damaged``, which names the file."""
    check_regular(path)
    try:
        with ExitStack() as stack:
            with errors_as_damaged(path):
                file = stack.enter_context(h5py.File(path, "r"))
                _check_format(path, file, kind)
            yield file
    except Damaged:
        raise
    except (OSError, RuntimeError, KeyError) as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error


def write_column(file: h5py.Group, name: str, values: NDArray[Any]) -> None:
    """Write one value per stimulus, with a checksum; text becomes UTF-8 of fixed length."""
    try:
        data = np.char.encode(values, "utf-8") if values.dtype.kind == "U" else values
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object!r} in /{name} is not Unicode text; it cannot be stored as UTF-8.") from error
    file.create_dataset(name, data=data, chunks=data.shape, fletcher32=True)


def read_column(path: Path, file: h5py.Group, name: str, dtype: str | tuple[str, ...]) -> NDArray[Any]:
    """Return a column that ``write_column`` wrote, of a ``dtype`` as for ``checked_dataset``; else ``Damaged``."""
    column = checked_dataset(path, file, name, dtype, 1)
    if "gzip" in filter_names(column.id.get_create_plist()):
        raise Damaged(f"/{name} in {path} is compressed; expected an uncompressed column.")
    with errors_as_damaged(path):
        values = column[()]
    try:
        return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
    except UnicodeDecodeError as error:
        raise Damaged(f"/{name} in {path} is not UTF-8 text ({error}).") from error


def set_attributes(target: Any, values: Mapping[str, Any]) -> None:
    """Set attributes. Text gets a fixed length, because HDF5 has no checksum for text of variable length."""
    for name, value in values.items():
        target.attrs[name] = _encoded(name, value) if isinstance(value, str) else value


def _encoded(name: str, text: str) -> np.bytes_:
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"The {name} {text!r} is not Unicode text; it cannot be stored as UTF-8.") from error
    if len(content) > LONGEST_TEXT:
        raise ValueError(f"The {name} {text[:20]!r}… has {len(content)} bytes; at most {LONGEST_TEXT} are read again.")
    if content.endswith(b"\0"):
        raise ValueError(f"The {name} {text!r} ends with a zero byte, which HDF5 does not keep.")
    return np.bytes_(content)


def _check_format(path: Path, file: h5py.File, kind: str) -> None:
    if (found := attribute(path, file, "format", "text")) != kind:
        raise Damaged(f"{path} has format '{found}'; expected '{kind}'.")
    if (version := attribute(path, file, "format_version", "whole number")) != 1:
        raise Damaged(f"{path} has format version {version}; this version of repsim reads 1.")
