"""Classes, conditions and folds of stimuli, and the noise around their means."""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity.distances.noise_covariance import noise_covariance
from repsim.similarity.precision import FloatArray

Codes = NDArray[np.intp]

# Largest residuals whose fourth powers, which shrinkage of a covariance needs, are in the range of double precision.
NOISE_RANGE = 1e70


def class_codes(labels: ArrayLike, n: int, what: str, name: str, *, unit: str = "rows") -> Codes:
    """Return the class of every row as a number, in the order of `numpy.unique`.

    Missing labels and labels of mixed kinds are errors: NaN would be a class of its own, and numpy converts 1 to "1" if
    another label is a string. ``what``, ``name`` and ``unit`` are what messages call the labels, the array and its
    rows.
    """
    array = np.asarray(labels)
    if array.shape != (n,):
        raise ValueError(f"{name} has {n} {unit} and {what} has shape {array.shape}; expected shape ({n},).")
    # Before conversion: numpy converts None and numbers among strings to strings.
    given = array if hasattr(labels, "dtype") else np.asarray(labels, dtype=object)
    if missing := int(np.count_nonzero(_missing(given) | np.ma.getmask(labels))):
        raise ValueError(
            f"{missing} of the {n} {what} of {name} are missing (None or NaN); expected one for each of the {unit}. "
            f"Leave out the {unit} without a label."
        )
    kinds = sorted({_kind(each) for each in set(map(type, given))}) if given.dtype == object else []
    if len(kinds) > 1:
        raise ValueError(
            f"The {n} {what} of {name} are of mixed kinds ({', '.join(kinds)}); expected all numbers or all strings. "
            "Convert them to one kind."
        )
    try:
        return np.unique(array, return_inverse=True)[1]
    except TypeError as error:
        raise ValueError(
            f"The {n} {what} of {name} ({', '.join(kinds)}) have no order; expected all numbers or all strings. "
            "Convert them to one kind."
        ) from error


def _missing(array: NDArray[Any]) -> NDArray[np.bool_]:
    if array.dtype == object:
        return np.array([each is None or type(each).__name__ == "NAType" or bool(each != each) for each in array])
    return array != array  # true for NaN and NaT only


def _kind(type_: type) -> str:
    """Return the kind of a type; Booleans and numbers differ, as True and 1 would be one class."""
    for kind, name in (((bool, np.bool_), "Boolean"), ((Number, np.number), "number"), (str, "string")):
        if issubclass(type_, kind):
            return name
    return type_.__name__


def check_labels(labels: ArrayLike, n: int, name: str) -> Codes:
    """Return the condition of every row as a number, in the order of `numpy.unique`."""
    codes = class_codes(labels, n, "labels", name)
    if codes.max() == 0:
        raise ValueError(f"{name} has only one condition; expected at least 2. Pass labels of more conditions.")
    return codes


def comparable_classes(labels: ArrayLike, n: int, name: str) -> Codes:
    """Return the class of every stimulus as a number, for comparisons within and between classes."""
    codes = class_codes(labels, n, "labels", name, unit="stimuli")
    counts = np.bincount(codes)
    if len(counts) == 1:
        raise ValueError(
            f"All {n} labels are {np.asarray(labels)[0]}; at least 2 classes are needed. "
            "Record stimuli of more classes."
        )
    if counts.max() == 1:
        raise ValueError(f"Each of the {n} classes has 1 member; expected a class of at least 2. Record more stimuli.")
    return codes


def averaged(X: ArrayLike, codes: Codes) -> FloatArray:
    """Return the mean of the rows of every condition."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(codes.max() + 1))
    sums = np.add.reduceat(np.asarray(X, dtype=np.float64)[order], starts, axis=0)
    return sums / np.bincount(codes)[:, None]


def split_into_folds(X: ArrayLike, codes: Codes, folds: ArrayLike, name: str) -> FloatArray:
    """Return the mean of the rows of every condition within every fold."""
    array, parts = np.asarray(X, dtype=np.float64), class_codes(folds, len(codes), "folds", name)
    if parts.max() == 0:
        raise ValueError(
            f"{name} has only one fold; cross-validation needs at least 2. Divide the data into more folds."
        )
    counts = np.zeros((parts.max() + 1, codes.max() + 1), dtype=int)
    np.add.at(counts, (parts, codes), 1)
    if (counts == 0).any():
        raise ValueError(
            f"{name}: {(counts == 0).any(axis=0).sum()} conditions do not occur in every fold. "
            "Leave them out, or divide the data into fewer folds."
        )
    return np.stack([averaged(array[parts == part], codes[parts == part]) for part in range(len(counts))])


def noise_of(X: ArrayLike, codes: Codes | None, folds: ArrayLike | None, name: str) -> FloatArray:
    """Return the shrunk covariance of the deviations from the means of conditions, or of conditions in folds."""
    array = np.asarray(X, dtype=np.float64)
    groups = np.zeros(len(array), dtype=np.intp) if codes is None else codes
    if folds is not None:
        parts = class_codes(folds, len(array), "folds", name)
        groups = np.unique(np.stack([groups, parts]), axis=1, return_inverse=True)[1].ravel()
    means = averaged(array, groups)
    degrees = len(array) - len(means)
    if degrees == 0:
        raise ValueError(
            f"{name} has one row per condition{'' if folds is None else ' and fold'}, so that its noise cannot be "
            "estimated. Pass the noise covariance, or record repeats."
        )
    residuals = array - means[groups]
    largest = float(np.abs(residuals).max())
    if not largest:
        raise ValueError(
            f"{name} does not vary within conditions, so that its noise cannot be estimated. Pass the noise "
            "covariance, or leave the layer out if it is constant."
        )
    if not 1 / NOISE_RANGE <= largest <= NOISE_RANGE:
        raise ValueError(
            f"{name} has values up to {largest:.1e} from the means of their conditions; to estimate noise, expected "
            f"between {1 / NOISE_RANGE:.0e} and {NOISE_RANGE:.0e}. Divide {name} by its largest value."
        )
    return noise_covariance(residuals, degrees)
