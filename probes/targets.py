"""What probes are asked to read out: a class label for every stimulus, and which stimuli are for what."""

from collections.abc import Collection
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Labels as class codes, and the rows of each part; made, and checked, by `encode_target`."""

    classes: NDArray  # (K,) sorted labels
    y: NDArray[np.intp]  # (n,) codes into classes
    rows: dict[str, NDArray[np.intp]]  # "train", "validation", "test" -> row indices

    def facts(self) -> dict[str, Any]:
        """Return what a table says of the task: sizes of parts, and the accuracy of always answering one class."""
        sizes: dict[str, Any] = {f"n_{part}": len(self.rows[part]) for part in PARTS}
        commonest = np.argmax(np.bincount(self.labels_of("train")))
        return {**sizes, "chance": float(np.mean(self.labels_of("test") == commonest))}

    def labels_of(self, part: str) -> NDArray[np.intp]:
        """Return the class codes of one part."""
        return self.y[self.rows[part]]


def encode_target(labels: ArrayLike, split: ArrayLike) -> Target:
    """Check labels and split, and encode them.

    Parameters
    ----------
    labels : array-like, shape (n,), of int or str
        The class of each stimulus, two classes or more.
    split : array-like, shape (n,), of str
        "train", "validation" or "test" for each stimulus. Each part has a row, and "train" has every class.

    Returns
    -------
    Target
        The classes, the class codes and the row indices of the three parts.

    Raises
    ------
    ValueError
        If the lengths differ, a label or split name is not of the kinds above, or a part or class is missing.

    Examples
    --------
    >>> task = encode_target(["cat", "dog", "cat", "dog"], ["train", "train", "validation", "test"])
    >>> task.y.tolist(), task.rows["train"].tolist()
    ([0, 1, 0, 1], [0, 1])
    """
    label_array, split_array = checked_labels(labels, "labels"), np.asarray(split)
    if label_array.shape != split_array.shape:
        raise ValueError(
            f"labels has {len(label_array)} entries and split has shape {split_array.shape}; "
            "both need one entry per stimulus, in the same order."
        )
    classes, y = np.unique(label_array, return_inverse=True)
    task = Target(classes=classes, y=y, rows=_rows(split_array))
    _check_classes(task)
    return task


def checked_labels(labels: ArrayLike, name: str) -> NDArray:
    """Return labels as an array of integers or strings, or raise a ValueError that calls them by name.

    Examples
    --------
    >>> checked_labels([3, 5], "labels")
    array([3, 5])
    """
    array = np.asarray(labels)
    if array.dtype.kind == "U" and not hasattr(labels, "dtype"):  # a NaN among strings has become one of them
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
        raise ValueError(f"Unknown split names: {_listed(unknown)}. Choose from: {', '.join(PARTS)}.")
    rows = {part: np.flatnonzero(split == part) for part in PARTS}
    missing = [part for part in PARTS if not len(rows[part])]
    if missing:
        raise ValueError(f"split has no rows for: {', '.join(missing)}. Probes need all of: {', '.join(PARTS)}.")
    return rows


def _check_classes(task: Target) -> None:
    n_train, n_classes = len(task.rows["train"]), len(task.classes)
    if n_classes < 2:
        raise ValueError(f"labels has one class, {_listed(task.classes.tolist())}; a probe needs two or more.")
    if n_train < n_classes:
        raise ValueError(f"split has {n_train} training rows for {n_classes} classes; every class needs one or more.")
    absent = np.setdiff1d(task.y, task.labels_of("train"))
    if len(absent):
        raise ValueError(
            f"Class absent from train: {_listed(task.classes[absent].tolist())}. "
            "Move stimuli of every class to train, or leave these classes out."
        )


def _listed(names: Collection[object]) -> str:
    return ", ".join(sorted(map(repr, names)))
