"""Condensed matrices from matrix products, a tile at a time, so that no n x n matrix is ever held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from repsim.similarity.distances.distance import Floats
from repsim.similarity.precision import FloatArray

# A squared distance this small beside the squared norms it was subtracted from has lost digits. It is computed anew, so
# that its error is small beside the distance itself.
NEAR = {np.dtype(np.float64): 1e-3, np.dtype(np.float32): 0.1}
# A difference this small beside the lengths of both rows, in machine epsilons, is rounding, and zero.
ZERO = 4
# If more than one in so many distances of a row is to be computed anew, a product in double precision is faster.
FEW = 32
# Entries of a tile where all rows are in memory (8 MiB in float64): larger ones leave the cache before they are used.
TILE = 2**20

NOBODY = np.empty(0, dtype=np.intp)

Rows = Callable[[int, int], Floats]


class _Tile:
    """Products of some rows with some others, first in the precision of the rows.

    Parameters
    ----------
    A : array (p, d)
    B : array (q, d)
    room : array (at least p * q,)
        Where the products go.
    """

    def __init__(self, A: Floats, B: Floats, room: Floats) -> None:
        self.A, self.B = A, B
        self.products = np.matmul(A, B.T, out=room[: len(A) * len(B)].reshape(len(A), len(B)))

    def multiply_in_double(self) -> None:
        """Replace the products by those in double precision, some features at a time."""
        (_, d), step = self.A.shape, max(1, TILE // len(self.B))
        self.products = np.zeros(self.products.shape)
        for start in range(0, d, step):
            A, B = (each[:, start : start + step].astype(np.float64) for each in (self.A, self.B))
            self.products += A @ B.T


class _Piece(NamedTuple):
    """The products of row i with consecutive rows after it.

    Attributes
    ----------
    i : int
    after : slice
        Which rows.
    place : slice
        Where these pairs stand in the condensed matrix.
    tile : _Tile
    k, first : int
        The products are ``tile.products[k, first:]``.
    """

    i: int
    after: slice
    place: slice
    tile: _Tile
    k: int
    first: int

    def distances(self, scale: Any, of_products: Callable[[Floats], Floats]) -> tuple[Floats, Any]:
        """Return distances that follow from the products, and which of them are near beside ``scale``."""
        for _ in range(2):
            distances = of_products(self.tile.products[self.k, self.first :])
            limit = NEAR[distances.dtype] * scale
            if np.ndim(limit) == 0 and distances.min() >= limit:  # faster than looking for them
                return distances, NOBODY
            near = np.flatnonzero(distances < limit)
            if distances.dtype == np.float64 or FEW * near.size <= len(distances):
                break
            self.tile.multiply_in_double()
        return distances, near

    def squared_differences(self, which: Any, scale: Any) -> FloatArray:
        """Return the squared distance of row i to some of the rows after it, from their differences.

        Zero if it is rounding beside ``scale``, the sum of the squared lengths of both rows.
        """
        row = self.tile.A[self.k]
        differences = np.subtract(self.tile.B[self.first :][which], row, dtype=np.float64)
        distances = np.vecdot(differences, differences)
        distances[distances <= (ZERO * np.finfo(row.dtype).eps) ** 2 * scale] = 0.0
        return distances


def write_squared_distances(
    rows: Rows, n: int, out: Any, *, shape: tuple[int, int], finish: Callable[[Floats], Floats] = lambda piece: piece
) -> None:
    """Write the squared distance of every two rows; never negative, and zero between equal rows.

    Parameters
    ----------
    rows : callable
        Takes start and stop, returns rows (stop - start, d) of float32 or float64.
    n : int
        How many there are.
    out : array-like (n * (n - 1) / 2,)
    shape : (int, int)
        Rows and columns of a tile; with fewer than n columns, rows are asked for again for every tile.
    finish : callable, optional
        What is done to each piece before it is written; it may work in place.

    Examples
    --------
    >>> X, out = np.array([[0.0], [3.0], [4.0]]), np.empty(3)
    >>> write_squared_distances(lambda start, stop: X[start:stop], 3, out, shape=(2, 2))
    >>> out
    array([ 9., 16.,  1.])
    """
    blocks = (rows(start, min(start + shape[0], n)) for start in range(0, n, shape[0]))
    squares = np.concatenate([np.vecdot(block, block) for block in blocks])  # (n,)
    for piece in _pieces(rows, n, shape):
        scale = squares[piece.after] + squares[piece.i]

        def less_products(products: Floats, scale: Floats = scale) -> Floats:
            products *= -2
            products += scale
            return products

        distances, near = piece.distances(scale, less_products)
        if near.size:
            distances[near] = piece.squared_differences(near, scale[near])
        out[piece.place] = finish(distances)


def write_one_minus_cosines(rows: Rows, n: int, out: Any, *, shape: tuple[int, int]) -> None:
    """Write one minus the product of every two rows of length one, within [0, 2]; NaN where a row is NaN.

    This is half the squared distance. The rows are not checked.

    Parameters
    ----------
    rows, n, out, shape
        As for `write_squared_distances`.

    Examples
    --------
    >>> X, out = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), np.empty(3)
    >>> write_one_minus_cosines(lambda start, stop: X[start:stop], 3, out, shape=(2, 2))
    >>> out.round(12)
    array([1. , 0.4, 0.2])
    """
    for piece in _pieces(rows, n, shape):
        distances, near = piece.distances(1, lambda products: np.subtract(1, products, out=products))
        if near.size:
            distances[near] = piece.squared_differences(near, 2.0) / 2
        out[piece.place] = np.minimum(distances, 2, out=distances)


def _pieces(rows: Rows, n: int, shape: tuple[int, int]) -> Iterator[_Piece]:
    """Give the pairs i < j of all rows, tile by tile."""
    height, width = shape
    room = np.empty(0)
    for start in range(0, n, height):
        A = rows(start, min(start + height, n))
        for begin in range(start, n, width):
            end = min(begin + width, n)
            B = A[: end - begin] if begin == start and end <= start + len(A) else rows(begin, end)
            if room.size < len(A) * len(B):
                room = np.empty(
                    len(A) * len(B), dtype=A.dtype
                )  # new memory for every tile costs as much as its product
            tile = _Tile(A, B, room)
            for k in range(len(A)):
                i, first = start + k, max(start + k + 1 - begin, 0)
                if first < len(B):
                    place = condensed_index(i, begin + first, n)
                    yield _Piece(i, slice(begin + first, end), slice(place, place + len(B) - first), tile, k, first)


def condensed_index(i: int, j: int, n: int) -> int:
    """Return where the pair i < j stands in a condensed matrix of n rows.

    Examples
    --------
    >>> condensed_index(1, 2, 4)
    3
    """
    return i * n - i * (i + 1) // 2 + j - i - 1


def tile_shape(n: int, itemsize: int, memory: int, *, rereads: bool) -> tuple[int, int]:
    """Return rows and columns of a tile: flat where rows are at hand, square where they are read again.

    Examples
    --------
    >>> tile_shape(1000, 8, 10**6, rereads=False), tile_shape(1000, 8, 10**6, rereads=True)
    ((125, 1000), (353, 353))
    """
    entries = memory // itemsize
    if rereads:
        side = max(1, min(n, int(entries**0.5)))
        return side, side
    return max(1, min(entries, TILE) // n), n
