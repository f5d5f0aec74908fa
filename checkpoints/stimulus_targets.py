"""Targets of stimuli besides their label: one value per stimulus, a class or a number, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.conversion import as_column, as_label_vector, as_texts
from checkpoints.errors import Damaged
from checkpoints.storage.hdf5_files.hdf5 import read_column, set_attributes, write_column
from checkpoints.storage.hdf5_files.hdf5_attributes import attribute
from checkpoints.storage.hdf5_files.hdf5_datasets import checked_group

__all__ = ["as_groups", "as_target", "class_numbers", "read_targets_group", "write_targets_group"]

_MOST_TARGETS = 10_000
_TYPES = ("|S", "<i8", "<f8")  # text, whole numbers, numbers


def class_numbers(labels: Any, classes: Any = None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return labels as whole numbers, and the names of the classes that they number.

    Text is numbered in the order of ``classes``, or else in alphabetical order. Whole numbers stay as they are; their
    classes have no names unless ``classes`` gives them, from class 0 on.
    """
    array = as_label_vector(labels)
    names = () if classes is None else tuple(as_texts(classes, "Class names").tolist())
    if len(set(names)) != len(names):
        raise ValueError("Names of classes repeat; give every class a name of its own.")
    if array.dtype.kind in "US":
        return _numbered(as_texts(array, "Labels"), names)
    numbers = _whole_numbers(array)
    if names and numbers.size and not 0 <= numbers.min() <= numbers.max() < len(names):
        raise ValueError(
            f"Labels lie between {numbers.min()} and {numbers.max()}, but there are names for the classes 0 to "
            f"{len(names) - 1}; give one name for each class."
        )
    return numbers, names


def _numbered(texts: NDArray[Any], names: tuple[str, ...]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    names = names or tuple(np.unique(texts).tolist())
    numbers = {name: number for number, name in enumerate(names)}
    if unknown := sorted(set(texts.tolist()) - set(names)):
        raise ValueError(f"Label '{unknown[0]}' is not among the classes {', '.join(names)}.")
    return np.array([numbers[text] for text in texts.tolist()], dtype=np.int64), names


def _whole_numbers(array: NDArray[Any]) -> NDArray[np.int64]:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"Labels are of type {array.dtype}; expected text or whole numbers, one for each class.")
    with np.errstate(invalid="ignore"):  # the comparison finds values out of range
        numbers = array.astype(np.int64)
    if (other := numbers != array).any():
        raise ValueError(
            f"Label {array[other][0]} is not a whole number in the range of int64; expected one whole number per class."
        )
    return numbers


def as_target(values: Any, name: str, n: int) -> NDArray[Any]:
    """Return a target as text or int64 (classes), or as float64 (a continuous quantity), of shape (n,)."""
    if not isinstance(name, str) or not name or name == "label":
        raise ValueError(f"A target is named {name!r}; expected a text other than 'label', which names the labels.")
    try:
        array = as_label_vector(values)
    except ValueError as error:
        raise ValueError(f"Target '{name}': {error}") from error
    if array.shape != (n,):
        raise ValueError(f"Target '{name}' has {len(array)} values for {n} stimuli; expected one per stimulus.")
    if array.dtype.kind in "US":
        return as_texts(array, f"Values of target '{name}'")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ValueError(f"Target '{name}' has values that are NaN or infinite; leave out these stimuli.")
        return array.astype(np.float64)
    if array.dtype.kind not in "iub":
        raise ValueError(f"Target '{name}' has type {array.dtype}; expected text or numbers.")
    try:
        return _whole_numbers(array)
    except ValueError as error:
        raise ValueError(f"Target '{name}': {error}") from error


def as_groups(groups: Any, split: NDArray[Any]) -> NDArray[Any] | None:
    """Return the group of each stimulus as text, after checking that no group is in two parts of the split."""
    if groups is None:
        return None
    names = as_texts(as_column(groups, "Groups"), "Groups")
    if names.shape != split.shape:
        raise ValueError(f"Groups have shape {names.shape} for {len(split)} stimuli; expected one per stimulus.")
    part_of: dict[str, str] = {}
    for group, part in zip(names.tolist(), split.tolist(), strict=True):
        if (known := part_of.setdefault(group, part)) != part:
            raise ValueError(
                f"Group '{group}' is in the parts {known} and {part} of the split; a group must be in one part only, "
                "because its stimuli resemble one another. Move all of them to one part."
            )
    return names


def write_targets_group(file: h5py.File, targets: Mapping[str, NDArray[Any]]) -> None:
    """Write targets into the group ``/targets``, in their order."""
    for number, (name, values) in enumerate(targets.items()):
        group = file.create_group(f"targets/{number:04d}")
        set_attributes(group, {"name": name})
        write_column(group, "value", values)


def read_targets_group(path: Path, file: h5py.File, n: int) -> dict[str, NDArray[Any]]:
    """Return the targets of ``n`` stimuli by name, in their order; none if the file has no such group."""
    if "targets" not in file:
        return {}
    groups = checked_group(path, file, "targets")
    if len(groups) > _MOST_TARGETS:
        raise Damaged(f"{path} claims {len(groups)} targets; at most {_MOST_TARGETS} are read.")
    targets: dict[str, NDArray[Any]] = {}
    for key in sorted(map(str, groups)):
        group = checked_group(path, groups, key)
        name = attribute(path, group, "name", "text")
        values = read_column(path, group, "value", _TYPES)
        if name in targets or values.shape != (n,):
            raise Damaged(f"{path} has a target '{name}' twice, or of another length than the ids.")
        targets[name] = values
    return targets
