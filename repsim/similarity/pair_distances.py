"""Squared distances of all pairs of stimuli in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from repsim.similarity.precision import FloatArray

# Pairs of stimuli whose products are formed at a time (8 MiB), so that no n x n matrix is held.
PAIRS_AT_ONCE = 2**20


def squared_distances(Z: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    """Yield the squared distances of a block of rows to all rows.

    It comes with the index of its first row. The distance from a row to itself is infinite. Distances are computed from
    products, with the rounding errors of the squares of the rows.
    """
    squares = np.vecdot(Z, Z)
    rows = max(1, PAIRS_AT_ONCE // len(Z))
    for start in range(0, len(Z), rows):
        distances = Z[start : start + rows] @ Z.T  # (rows, n)
        distances *= -2
        distances += squares
        distances += squares[start : start + rows, None]
        itself = np.arange(len(distances))
        distances[itself, start + itself] = np.inf
        yield start, distances
