"""Targets of probes: classes or quantities of the stimuli, with the rows of each part of the split."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from probes.stimulus_groups import check_groups
from probes.stimulus_order import RowStimuli, is_by_id, is_stimulus_set

PARTS = ("train", "validation", "test")
LABEL = "label"  # name of a target that was given without a name

Kind = Literal["categorical", "continuous"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """Class codes or real numbers, and the rows of each part of the split.

    A categorical target is made and checked by `encode_target`, a continuous one by `measured_target`.
    """

    classes: NDArray  # (K,) sorted labels; empty if the target is continuous
    y: NDArray[Any]  # (n,) codes into classes, or float64 values
    rows: dict[str, NDArray[np.intp]]  # "train", "validation", "test" -> row indices

    @property
    def kind(self) -> Kind:
        """Whether the target has classes or is a quantity."""
        return "categorical" if len(self.classes) else "continuous"

    def labels_of(self, part: str) -> NDArray[Any]:
        """Return the class codes, or the values, of one part."""
        return self.y[self.rows[part]]


def read_targets(labels: Any, split: Any, stimuli: RowStimuli) -> tuple[dict[str, Target], NDArray[Any]]:
    """Return the targets by name and the split, in the order of the layers' rows.

    Labels and split have any form that `probe_layers` accepts. Raises a ValueError if there are no labels or no split,
    two names read alike, or the split divides a group of the stimuli, and those of `encode_target`, `measured_target`
    and `RowStimuli.in_order`, with the name of the target.
    """
    targets = _by_name(labels)
    is_named = len(targets) > 1 or targets is labels
    ordered = {}
    for name, values in targets.items():
        with _naming(name, is_named):
            ordered[name] = stimuli.in_order(values, "labels")
    in_order = stimuli.in_order(_own_split(targets) if split is None else split, "split", column="split")
    for each in (labels, split, *targets.values()):
        if is_stimulus_set(each) and getattr(each, "groups", None) is not None:
            check_groups(stimuli.in_order(each, "groups", column="groups"), in_order)
    encoded = dict[str, Target]()
    for name, values in ordered.items():
        with _naming(name, is_named):
            is_measured = is_named and np.asarray(values).dtype.kind == "f"
            encoded[str(name)] = measured_target(values, in_order) if is_measured else encode_target(values, in_order)
    if len(encoded) < len(targets):
        raise ValueError(f"labels has targets of one name: {', '.join(map(repr, targets))}. Give each another name.")
    return encoded, in_order


def _by_name(labels: Any) -> Mapping[Any, Any]:
    """Return targets by name; a single one is called "label". A set of stimuli has its labels and its own targets."""
    if is_stimulus_set(labels):
        own = getattr(labels, "targets", None) or {}
        if LABEL in own:
            raise ValueError(f"labels has a target '{LABEL}' beside its labels. Give the target another name.")
        return {LABEL: labels, **{name: pd.Series(values, index=labels.ids) for name, values in own.items()}}
    if not isinstance(labels, Mapping):
        return {LABEL: labels}
    if not labels:
        raise ValueError("labels is empty; give one or more targets, name -> array of shape (n,).")
    single = [not is_by_id(each) and np.ndim(each) == 0 for each in labels.values()]
    if any(single) and not all(single):
        raise ValueError(
            "labels mixes single labels with whole targets; give a mapping of stimulus id to label, or of name to "
            "target."
        )
    return {LABEL: labels} if any(single) else labels


def _own_split(targets: Mapping[Any, Any]) -> Any:
    for each in targets.values():
        if hasattr(each, "split") and is_stimulus_set(each):
            return each
    raise ValueError("split is missing; give 'train', 'validation' or 'test' for each stimulus, or the run's stimuli.")


@contextmanager
def _naming(name: object, is_named: bool) -> Iterator[None]:
    """Put the name of a target before the message of its errors."""
    try:
        yield
    except ValueError as error:
        if not is_named:
            raise
        raise ValueError(f"Target {name!r}: {error}") from error


def encode_target(labels: ArrayLike, split: ArrayLike) -> Target:
    """Check labels and split, both of shape (n,), and encode them.

    Examples
    --------
    >>> target = encode_target(["cat", "dog", "cat", "dog"], ["train", "train", "validation", "test"])
    >>> target.y.tolist(), target.rows["train"].tolist()
    ([0, 1, 0, 1], [0, 1])
    """
    label_array = checked_labels(labels, "labels")
    classes, y = np.unique(label_array, return_inverse=True)
    target = Target(classes=classes, y=y, rows=_rows(label_array, split))
    _check_classes(target)
    return target


def measured_target(values: ArrayLike, split: ArrayLike) -> Target:
    """Check the values of a continuous target and a split, both of shape (n,).

    Examples
    --------
    >>> target = measured_target([0.5, 1.5, 1.0, 2.0, 3.0], ["train", "train", "validation", "test", "test"])
    >>> target.kind, target.labels_of("test").tolist()
    ('continuous', [2.0, 3.0])
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"labels has shape {numbers.shape}; expected real numbers of shape (n,), one per stimulus.")
    if len(unknown := np.flatnonzero(~np.isfinite(numbers))):
        raise ValueError(
            f"labels has {len(unknown)} values that are NaN or infinite, the first at row {unknown[0]}; give a finite "
            "number for every stimulus."
        )
    target = Target(classes=np.empty(0), y=numbers, rows=_rows(numbers, split))
    for part, why in (("train", "there is nothing to learn"), ("test", "R² is not defined")):
        found = target.labels_of(part)
        if found.max() == found.min():
            raise ValueError(f"labels has the one value {found[0]:g} on all rows for {part}, where {why}.")
    return target


def checked_labels(labels: ArrayLike, name: str) -> NDArray:
    """Return labels as an array of integers or strings, or raise a ValueError that calls them by `name`.

    Examples
    --------
    >>> checked_labels([3, 5], "labels")
    array([3, 5])
    """
    array = np.asarray(labels)
    if array.dtype.kind == "U" and not hasattr(labels, "dtype"):  # numpy has turned a NaN among strings into "nan"
        array = np.asarray(labels, dtype=object)
    missing = np.flatnonzero(pd.isna(array))
    if array.dtype == object and not len(missing):
        kinds = [kind for kind in (str, Integral) if all(isinstance(label, kind) for label in array.flat)]
        array = array.astype({str: str, Integral: int}[kinds[0]]) if kinds else array
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iubUT" or len(missing):
        where = f"; {len(missing)} of them are missing (NaN), the first at row {missing[0]}" if len(missing) else ""
        raise ValueError(
            f"{name} has shape {array.shape} and dtype {array.dtype}; "
            f"expected integers or strings of shape (n,){where}.{_ADVICE if array.dtype.kind == 'f' else ''}"
        )
    return array


_ADVICE = " Convert classes to integers; give a quantity by name: {'speed': values}."


def _rows(values: NDArray, given: ArrayLike) -> dict[str, NDArray[np.intp]]:
    """Return the rows of each part of a split with one entry for each value."""
    split = np.asarray(given)
    if values.shape != split.shape:
        raise ValueError(
            f"labels has {len(values)} entries and split has shape {split.shape}; "
            "both need one entry per stimulus, in the same order."
        )
    unknown = set(split.tolist()) - set(PARTS)
    if unknown:
        raise ValueError(f"Unknown split names: {_listed(unknown)}. Choose one of: {', '.join(PARTS)}.")
    rows = {part: np.flatnonzero(split == part) for part in PARTS}
    missing = [part for part in PARTS if not len(rows[part])]
    if missing:
        raise ValueError(f"split has no rows for: {', '.join(missing)}. Probes need all of: {', '.join(PARTS)}.")
    return rows


def _check_classes(target: Target) -> None:
    n_train, n_classes = len(target.rows["train"]), len(target.classes)
    if n_classes < 2:
        raise ValueError(f"labels has one class, {_listed(target.classes.tolist())}; a probe needs two or more.")
    if n_train < n_classes:
        raise ValueError(f"split has {n_train} training rows for {n_classes} classes; every class needs one or more.")
    absent = np.setdiff1d(target.y, target.labels_of("train"))
    if len(absent):
        raise ValueError(
            f"Class absent from train: {_listed(target.classes[absent].tolist())}. "
            "Move stimuli of every class to train, or leave these classes out."
        )


def _listed(names: Collection[object]) -> str:
    return ", ".join(sorted(map(repr, names)))
