"""Condensed distance matrices from tiles of matrix products, without an n x n matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from repsim.similarity.distances.distance import Floats
from repsim.similarity.precision import FloatArray

# Below this fraction of the squared norms, a squared distance has lost digits. It is computed again from differences.
NEAR = {np.dtype(np.float64): 1e-3, np.dtype(np.float32): 0.1}
# Differences below this number of machine epsilons of the lengths of both rows are rounding errors, and set to zero.
ZERO = 4
# If more than one in this number of distances of a row is computed again, a product in double precision is faster.
FEW = 32
# Entries of a tile if all rows are in memory (8 MiB in float64); larger tiles do not fit in the cache.
TILE = 2**20

NONE = np.empty(0, dtype=np.intp)

Rows = Callable[[int, int], Floats]
Index = TypeVar("Index", int, NDArray[np.intp])


class _ProductTile:
    """Products of rows A (p, d) with rows B (q, d), computed in the precision of the rows until it is found too low."""

    def __init__(self, A: Floats, B: Floats, room: Floats) -> None:
        self.A, self.B = A, B
        self.products = np.matmul(A, B.T, out=room[: len(A) * len(B)].reshape(len(A), len(B)))

    def multiply_in_double(self) -> None:
        """Replace the products by products in double precision, computed for some features at a time."""
        (_, d), step = self.A.shape, max(1, TILE // len(self.B))
        self.products = np.zeros(self.products.shape)
        for start in range(0, d, step):
            A, B = (each[:, start : start + step].astype(np.float64) for each in (self.A, self.B))
            self.products += A @ B.T


class _RowProducts(NamedTuple):
    """Products of row i with consecutive later rows: ``tile.products[k, first:]``."""

    i: int
    after: slice  # the later rows
    place: slice  # of these pairs in the condensed matrix
    tile: _ProductTile
    k: int
    first: int

    def distances(self, scale: Any, of_products: Callable[[Floats], Floats]) -> tuple[Floats, Any]:
        """Return distances from the products, and the indices of those that are small relative to ``scale``."""
        for _ in range(2):
            distances = of_products(self.tile.products[self.k, self.first :])
            limit = NEAR[distances.dtype] * scale
            if np.ndim(limit) == 0 and distances.min() >= limit:  # faster than a search for them
                return distances, NONE
            near = np.flatnonzero(distances < limit)
            if distances.dtype == np.float64 or FEW * near.size <= len(distances):
                break
            self.tile.multiply_in_double()
        return distances, near

    def squared_differences(self, which: Any, scale: Any) -> FloatArray:
        """Return squared distances of row i from differences; zero if they are rounding errors of ``scale``."""
        row = self.tile.A[self.k]
        differences = np.subtract(self.tile.B[self.first :][which], row, dtype=np.float64)
        distances = np.vecdot(differences, differences)
        distances[distances <= (ZERO * np.finfo(row.dtype).eps) ** 2 * scale] = 0.0
        return distances


def write_squared_distances(
    rows: Rows, n: int, out: Any, *, shape: tuple[int, int], finish: Callable[[Floats], Floats] = lambda row: row
) -> None:
    """Write the squared distances of all pairs of n rows to ``out``; nonnegative, and zero between equal rows.

    ``rows`` takes start and stop; it is called again for every tile if ``shape``, that of a tile, has fewer than n
    columns. ``finish`` is applied to the distances of each row and may work in place.
    """
    blocks = (rows(start, min(start + shape[0], n)) for start in range(0, n, shape[0]))
    squares = np.concatenate([np.vecdot(block, block) for block in blocks])  # (n,)
    for row in _row_products(rows, n, shape):
        scale = squares[row.after] + squares[row.i]

        def less_products(products: Floats, scale: Floats = scale) -> Floats:
            products *= -2
            products += scale
            return products

        distances, near = row.distances(scale, less_products)
        if near.size:
            distances[near] = row.squared_differences(near, scale[near])
        out[row.place] = finish(distances)


def write_one_minus_cosines(rows: Rows, n: int, out: Any, *, shape: tuple[int, int]) -> None:
    """Write one minus the products of all pairs of rows of length one, within [0, 2]; NaN where a row is NaN.

    This is half the squared distance. Arguments are those of `write_squared_distances`.
    """
    for row in _row_products(rows, n, shape):
        distances, near = row.distances(1, lambda products: np.subtract(1, products, out=products))
        if near.size:
            distances[near] = row.squared_differences(near, 2.0) / 2
        out[row.place] = np.minimum(distances, 2, out=distances)


def _row_products(rows: Rows, n: int, shape: tuple[int, int]) -> Iterator[_RowProducts]:
    """Yield the products of all pairs of rows, tile by tile."""
    height, width = shape
    room = np.empty(0)
    for start in range(0, n, height):
        A = rows(start, min(start + height, n))
        for begin in range(start, n, width):
            end = min(begin + width, n)
            B = A[: end - begin] if begin == start and end <= start + len(A) else rows(begin, end)
            if room.size < len(A) * len(B):
                # Allocated once: new memory for every tile costs as much as its product.
                room = np.empty(len(A) * len(B), dtype=A.dtype)
            tile = _ProductTile(A, B, room)
            for k in range(len(A)):
                i, first = start + k, max(start + k + 1 - begin, 0)
                if first < len(B):
                    place = condensed_index(i, begin + first, n)
                    yield _RowProducts(
                        i, slice(begin + first, end), slice(place, place + len(B) - first), tile, k, first
                    )


def condensed_index(i: Index, j: Index, n: int) -> Index:
    """Return the index of the pair i < j, or of many such pairs, in a condensed matrix of n rows."""
    return i * n - i * (i + 1) // 2 + j - i - 1


def tile_shape(n: int, itemsize: int, memory: int, *, rereads: bool) -> tuple[int, int]:
    """Return rows and columns of a tile: flat if all rows are in memory, square if rows are read again."""
    entries = memory // itemsize
    if rereads:
        side = max(1, min(n, int(entries**0.5)))
        return side, side
    return max(1, min(entries, TILE) // n), n
