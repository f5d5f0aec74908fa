"""Digests of the inputs of single stimuli, by which inputs can be compared whatever their order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["row_digests"]

_BYTES = 16


def row_digests(inputs: NDArray[Any] | Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return one digest per stimulus: equal inputs have equal digests, in any order and in any set.

    Parameters
    ----------
    inputs : array, shape (n, ...), or mapping of str to array
        As ``Stimuli`` holds them. The digests of a block of stimuli are those that the whole set gives.

    Returns
    -------
    str array, shape (n,)
        BLAKE2b of names, types, shapes and bytes of the inputs of one stimulus, as 32 hexadecimal digits.

    Examples
    --------
    >>> a, b = row_digests(np.eye(2)), row_digests(np.eye(2)[::-1])
    >>> bool((a == b[::-1]).all()), bool((a == b).any())
    (True, False)
    """
    parts = sorted(inputs.items()) if isinstance(inputs, Mapping) else [("", inputs)]
    header = hashlib.blake2b(digest_size=_BYTES)
    for name, part in parts:
        header.update(f"{name and name + ' '}{part.dtype.str} {part.shape[1:]}".encode())
    return np.array([_digest(header, [part[row] for _, part in parts]) for row in range(len(parts[0][1]))], dtype=str)


def _digest(header: Any, rows: list[Any]) -> str:
    """Return the digest of the inputs of one stimulus, which follow a header that all stimuli share."""
    digest = header.copy()
    for row in rows:
        digest.update(np.ascontiguousarray(row).data)
    return str(digest.hexdigest())
