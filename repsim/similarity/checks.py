"""Checks of arguments, made once by the public functions of this package."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from repsim.similarity.precision import FloatArray, without_rounding

T = TypeVar("T")


def representation(
    X: ArrayLike, name: str = "X", *, keep_single: bool = False, least: int = 2, is_block: bool = False
) -> FloatArray:
    """Convert the activations of a layer to a finite float64 matrix.

    Features that are constant up to rounding are set to exactly one value (see `precision.without_rounding`): a
    layer that is constant up to rounding is then constant in everything that is computed from it. In a block of
    stimuli they cannot be detected. The result is X itself if it already is such an array and needs no change;
    ``keep_single`` leaves float32 as it is.
    """
    array = real_array(X, name)
    check_shape(array, name, least)
    if not (keep_single and array.dtype == np.float32):
        array = array.astype(np.float64, copy=False)
    _check_finite(array, name)
    return array if is_block else without_rounding(array)


def representations(given: Mapping[str, ArrayLike], *, least: int = 2, is_block: bool = False) -> dict[str, FloatArray]:
    """Convert representations of the same stimuli, by their names in messages, as `representation` does."""
    same_ids(given)
    arrays = {name: representation(each, name, least=least, is_block=is_block) for name, each in given.items()}
    same_stimuli({name: len(array) for name, array in arrays.items()})
    return arrays


def real_array(X: ArrayLike, name: str) -> NDArray[Any]:
    """Convert an array-like or a tensor, on any device and with or without gradients, to an array of real numbers."""
    array = _as_array(X, name)
    check_real(array.dtype, name)
    return array


def check_real(dtype: np.dtype[Any], name: str) -> None:
    """Check that a dtype is of real numbers."""
    if dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {dtype}; expected real numbers. Convert it to float first.")


def same_stimuli(sizes: Mapping[str, int]) -> None:
    """Check that all numbers of stimuli, by the names of representations in messages, are equal."""
    (first, n), *others = sizes.items()
    for other, m in others:
        if m != n:
            raise ValueError(
                f"{first} has {n} samples and {other} has {m}; both must come from the same stimuli in the same order. "
                "Record both with the same stimulus set."
            )


def same_ids(representations: Mapping[str, object]) -> None:
    """Check that representations which carry the ids of their stimuli are of the same ones in the same order.

    Ids are read from the attribute ``stimulus_ids``, which recorded layers have; what has none is not compared.
    """
    carried = {name: getattr(each, "stimulus_ids", None) for name, each in representations.items()}
    known = [
        (name, ids if isinstance(ids, np.ndarray) else np.asarray(ids))
        for name, ids in carried.items()
        if ids is not None
    ]
    for (first, expected), (other, ids) in zip(known[:1] * len(known), known, strict=True):
        if ids is expected or np.array_equal(ids, expected):
            continue
        where = int(np.flatnonzero(ids != expected)[0]) if ids.shape == expected.shape else min(len(ids), len(expected))
        shown = [repr(str(each[where])) if where < len(each) else "nothing" for each in (expected, ids)]
        raise ValueError(
            f"{first} and {other} are of different stimuli: at position {where} {shown[0]} and {shown[1]}. "
            "Record both with the same stimulus set."
        )


def mapping(given: Mapping[str, ArrayLike], side: str, what: str, advice: str) -> dict[str, ArrayLike]:
    """Check a mapping from names to arrays, and return it with the names that error messages use.

    ``side`` is the name of the argument ("X", "models"), ``what`` a plural noun for its values; ``advice`` ends the
    messages. Keys of the result are such as "models['classes']".
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"{side} is a {type(given).__name__}; expected a mapping from names to {what}. {advice}")
    if not given:
        raise ValueError(f"{side} has no {what}; expected at least 1. {advice}")
    return {f"{side}[{name!r}]": each for name, each in given.items()}


def is_read_in_blocks(X: object) -> bool:
    """Return whether an object is not an array but has rows that can be read by slices."""
    return not isinstance(X, np.ndarray | list | tuple | torch.Tensor) and all(
        hasattr(X, what) for what in ("shape", "dtype", "__getitem__", "__len__")
    )


def whole_number(value: object, name: str, least: int) -> int:
    """Return a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}.")
    return int(value)


def device(name: str, what: str, *, can_use_it: bool) -> None:
    """Check that torch has a device, and that a measure uses it."""
    if not can_use_it:
        raise ValueError(f"{what} does not use a device. Omit device=.")
    try:
        torch.ones(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise ValueError(f"Unknown or unavailable device {name!r} ({reason}). Omit it to use the CPU.") from error


def choice(name: str, choices: Mapping[str, T], kind: str) -> T:
    """Return the value of a name in a dict of choices; ``kind`` is a noun for the choice, such as "method"."""
    if name not in choices:
        near = get_close_matches(str(name).lower(), choices, n=1)
        hint = f"Did you mean {near[0]!r}? Choose one of" if near else "Choose one of"
        raise ValueError(f"Unknown {kind} {name!r}. {hint}: {', '.join(sorted(choices))}.")
    return choices[name]


def _as_array(X: ArrayLike, name: str) -> NDArray:
    if isinstance(X, Mapping):
        raise ValueError(f"{name} is a mapping; expected an array. Put nested layers into one mapping.")
    if isinstance(X, torch.Tensor):
        if X.layout != torch.strided:
            raise ValueError(f"{name} is a sparse tensor; expected a dense one. Call .to_dense() first.")
        X = X.detach().cpu()
        return (X.float() if X.dtype == torch.bfloat16 else X).resolve_conj().resolve_neg().numpy()
    if np.ma.is_masked(X):
        raise ValueError(
            f"{name} is a masked array with masked values; expected no masked values. Fill them or leave them out."
        )
    try:
        return np.asarray(X)
    except ValueError as error:
        raise ValueError(f"{name} is ragged: its rows have different lengths. Expected rows of one length.") from error


def check_shape(array: Any, name: str, least: int = 2) -> None:
    """Check that an array has shape (n, d) with enough stimuli and at least one feature."""
    if len(array.shape) != 2:
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}; expected two dimensions (n_stimuli, n_features). "
            "Flatten each stimulus to one row first."
        )
    n, d = array.shape
    if n < least:
        raise ValueError(f"{name} has {n} stimuli; at least {least} are needed to compare. Record more stimuli.")
    if d == 0:
        raise ValueError(f"{name} has no features; expected at least 1. Check which layer was recorded.")


def _check_finite(array: FloatArray, name: str) -> None:
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(
            f"{name} has {bad} of {array.size} values that are NaN or infinite, first in row {row}; all must be "
            "finite. Look for a training run that diverged, or leave those stimuli out."
        )
