"""Targets of probes: class labels of the stimuli, with the rows of each part of the split."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from probes.stimulus_order import RowStimuli, is_by_id, is_stimulus_set

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Labels as class codes, and the rows of each part of the split; made and checked by `encode_target`."""

    classes: NDArray  # (K,) sorted labels
    y: NDArray[np.intp]  # (n,) codes into classes
    rows: dict[str, NDArray[np.intp]]  # "train", "validation", "test" -> row indices

    def labels_of(self, part: str) -> NDArray[np.intp]:
        """Return the class codes of one part."""
        return self.y[self.rows[part]]


def read_targets(labels: Any, split: Any, stimuli: RowStimuli) -> tuple[dict[str, Target], NDArray[Any]]:
    """Return the targets by name and the split, in the order of the layers' rows.

    Labels and split have any form that `probe_layers` accepts. Raises a ValueError if there are no labels or no split,
    or two names read alike, and those of `encode_target` and `RowStimuli.in_order`, with the name of the target.
    """
    targets = _by_name(labels)
    is_named = targets is labels
    ordered = {}
    for name, values in targets.items():
        with _naming(name, is_named):
            ordered[name] = stimuli.in_order(values, "labels")
    in_order = stimuli.in_order(_own_split(targets) if split is None else split, "split", column="split")
    encoded = dict[str, Target]()
    for name, values in ordered.items():
        with _naming(name, is_named):
            encoded[str(name)] = encode_target(values, in_order)
    if len(encoded) < len(targets):
        raise ValueError(f"labels has targets of one name: {', '.join(map(repr, targets))}. Give each another name.")
    return encoded, in_order


def _by_name(labels: Any) -> Mapping[Any, Any]:
    """Return targets by name; a single one is called "label"."""
    if not isinstance(labels, Mapping):
        return {"label": labels}
    if not labels:
        raise ValueError("labels is empty; give one or more targets, name -> array of shape (n,).")
    single = [not is_by_id(each) and np.ndim(each) == 0 for each in labels.values()]
    if any(single) and not all(single):
        raise ValueError(
            "labels mixes single labels with whole targets; give a mapping of stimulus id to label, or of name to "
            "target."
        )
    return {"label": labels} if any(single) else labels


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
    label_array, split_array = checked_labels(labels, "labels"), np.asarray(split)
    if label_array.shape != split_array.shape:
        raise ValueError(
            f"labels has {len(label_array)} entries and split has shape {split_array.shape}; "
            "both need one entry per stimulus, in the same order."
        )
    classes, y = np.unique(label_array, return_inverse=True)
    target = Target(classes=classes, y=y, rows=_rows(split_array))
    _check_classes(target)
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
            f"expected integers or strings of shape (n,){where}."
        )
    return array


def _rows(split: NDArray) -> dict[str, NDArray[np.intp]]:
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
