"""Rows that are tokens of sequences: which tokens are rows, and values of each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.conversion import as_array, as_label_vector
from checkpoints.stimulus_inputs.input_source import Arrays, InputSource, by_name

__all__ = ["as_token_mask", "per_token"]

_READ_ROWS = 512


def as_token_mask(mask: Any, inputs: Arrays | InputSource, ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which tokens of each sequence are rows, (n, n_positions).

    ``mask`` is such an array, the name of an input that is one, or None: then every position along the second axis of
    the inputs is a token.
    """
    if mask is None:
        return np.ones((len(ids), _length(inputs)), dtype=bool)
    what = f"Mask '{mask}'" if isinstance(mask, str) else "The mask"
    array = _input(mask, inputs) if isinstance(mask, str) else as_array(mask, "Masks")
    if array.ndim != 2 or len(array) != len(ids):
        raise ValueError(f"{what} has shape {array.shape}; expected ({len(ids)}, n_positions), one row per sequence.")
    if array.dtype.kind not in "fiub" or not ((array == 0) | (array == 1)).all():
        raise ValueError(f"{what} has values other than 0 and 1; expected 1 for a token and 0 for padding.")
    shown = array != 0
    if len(empty := ids[~shown.any(axis=1)]):
        raise ValueError(f"{what} leaves the sequence '{empty[0]}' no token; leave the sequence out.")
    return shown


def per_token(values: Any, mask: NDArray[np.bool_], what: str) -> NDArray[Any]:
    """Return the value of each row from values of shape (n, n_positions), one per token, or (n,), one per sequence."""
    array = as_array(values, what)
    if array.shape == mask.shape:
        return array[mask]
    expected = ValueError(
        f"{what} have shape {array.shape} for {mask.shape[0]} sequences of {mask.shape[1]} positions; expected one "
        "value per sequence or one per position."
    )
    try:
        vector = as_label_vector(array)
    except ValueError as error:
        raise expected from error
    if vector.shape != mask.shape[:1]:
        raise expected
    return np.repeat(vector, mask.sum(axis=1))


def _length(inputs: Arrays | InputSource) -> int:
    """Return the length of the second axis of the inputs."""
    first = inputs.take([0]) if isinstance(inputs, InputSource) else inputs
    lengths = {part.shape[1] for part in by_name(first).values() if part.ndim > 1}
    if len(lengths) != 1:
        found = " and ".join(map(str, sorted(lengths))) or "no such axis"
        raise ValueError(
            f"The second axes of the inputs have {found} positions, so it is not known what a token is. Give a mask of "
            "shape (n, n_positions)."
        )
    return int(lengths.pop())


def _input(name: str, inputs: Arrays | InputSource) -> NDArray[Any]:
    """Return a whole input by its name."""
    named = by_name(inputs.take([0]) if isinstance(inputs, InputSource) else inputs)
    if not name or name not in named:
        names = ", ".join(filter(None, named)) or "one without a name"
        raise ValueError(f"There is no mask '{name}' among the inputs ({names}).")
    if not isinstance(inputs, InputSource):
        return named[name]
    return np.concatenate([by_name(block)[name] for block in inputs.blocks(range(len(inputs)), _READ_ROWS)])
