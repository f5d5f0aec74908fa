"""Attributes of an HDF5 file from an untrusted source, read only if their declared size is small."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from checkpoints.errors import Damaged
from checkpoints.storage.hdf5_files.hdf5_datasets import errors_as_damaged, object_name

__all__ = ["LONGEST_TEXT", "attribute", "attributes"]

LONGEST_TEXT = 2**16  # bytes
_MOST_SIZES = 64


def attribute(path: Path, target: h5py.Group, name: str, kind: str) -> Any:
    """Return one attribute; see ``attributes``."""
    return attributes(path, target, {name: kind})[name]


def attributes(
    path: Path, target: h5py.Group, kinds: Mapping[str, str], optional: Collection[str] = ()
) -> dict[str, Any]:
    """Return attributes as Python values, by name. Their declared size is checked before they are read.

    A kind is ``"text"``, ``"whole number"`` or ``"list of sizes"``. Raise ``Damaged`` if an attribute is absent and not
    ``optional``, of another kind, or too large for its kind.
    """
    location = target["/"].id if isinstance(target, h5py.File) else target.id
    values = {}
    with errors_as_damaged(path):
        for name, kind in kinds.items():
            value = _stored_attribute(location, name.encode(), kind)
            if value is not None and _ATTRIBUTES[kind](value):
                values[name] = value
            elif name not in optional or h5py.h5a.exists(location, name.encode()):
                raise Damaged(f"Attribute '{name}' of {object_name(location)} in {path} is missing or is not a {kind}.")
    return values


def _stored_attribute(location: Any, name: bytes, kind: str) -> Any:
    """Return an attribute, or None if it is absent or of another kind; low-level calls are faster than ``attrs``."""
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
        or not size == _stored_bytes(stored) <= LONGEST_TEXT  # a single text; reading fills that many bytes unchecked
    ):
        return None
    if stored_type.get_strpad() != h5py.h5t.STR_NULLPAD:  # bytes after the end of the text are not part of it
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
    except RuntimeError:  # h5py mistakes a size of 0 for an error
        return 0


_ATTRIBUTES: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "whole number": lambda value: isinstance(value, int),
    "list of sizes": lambda value: (
        isinstance(value, list) and all(isinstance(size, int) and size >= 0 for size in value)
    ),
}
