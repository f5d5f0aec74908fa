"""All pairs of representations at once: each is prepared once, and the pairs share a few large products."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import isqrt

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.arrays import FloatArray
from repsim.similarity.measures.cka import alignment, check_enough, warn_undefined
from repsim.similarity.measures.hsic import degrees, gram, hsic_from_features, normalised

# Larger tiles of a Gram matrix are not faster, and waste more of the half that symmetry saves.
LARGEST_TILE = 512
# Multiply-adds that fit in the time it takes to centre and compare one entry of a Gram matrix.
ENTRY = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairwise:
    """Every row's representation compared with every column's.

    Parameters
    ----------
    values : array (n_rows, n_columns)
    rows, columns : tuple of str
        Names of the representations.
    measure : str
        The key of `MEASURES` that was computed.
    """

    values: FloatArray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    measure: str


def pairwise(
    X: Mapping[str, ArrayLike],
    Y: Mapping[str, ArrayLike] | None = None,
    *,
    measure: str = "cka",
    memory: int = 256 * 2**20,
) -> Pairwise:
    """Compare every representation in X with every one in Y.

    The values are those of the measure's own function, to rounding. Every input is converted once, to centred float64,
    and those copies are held; beside them no more than `memory`.

    Parameters
    ----------
    X : mapping from str to array-like (n, d_i)
        Layer name to what the layer did on n stimuli: arrays, or anything `numpy.asarray` reads. The d_i may differ.
    Y : mapping from str to array-like (n, d_j), optional
        The same stimuli in the same order; X itself by default.
    measure : str, default "cka"
        A key of `MEASURES`.
    memory : int, default 256 MiB
        Bound in bytes on the products held at a time. A smaller one takes longer, and gives the same.

    Returns
    -------
    Pairwise
        Values (len(X), len(Y)), in the measure's range; symmetric if Y is None. NaN where the measure is undefined.

    Raises
    ------
    TypeError
        If X or Y is not a mapping.
    ValueError
        If there are no representations, or one is not a finite real matrix, or their numbers of stimuli differ or are
        too few for the measure; if there is no such measure; if `memory` is too small.

    Warns
    -----
    RuntimeWarning
        Once, with their names, if the measure is undefined for some representations.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> pairwise({"input": X, "scaled": 2 * X, "first": X[:, :1]}).values.round(2)
    array([[1.  , 1.  , 0.78],
           [1.  , 1.  , 0.78],
           [0.78, 0.78, 1.  ]])
    """
    all_pairs = checks.choice(measure, ALL_PAIRS, "measure")
    values = all_pairs(X, Y, memory=memory)
    return Pairwise(values=values, rows=tuple(X), columns=tuple(X if Y is None else Y), measure=measure)


def _cka(X: Mapping[str, ArrayLike], Y: Mapping[str, ArrayLike] | None, *, memory: int, unbiased: bool) -> FloatArray:
    """CKA of every X with every Y, and with every X if Y is None."""
    layers = _prepared(X, "X")
    p, first_y = len(layers), 0
    if Y is not None:
        layers |= _prepared(Y, "Y")
        first_y = p
    checks.same_stimuli({name: len(layer) for name, layer in layers.items()})
    hsic = _hsic(list(layers.values()), _pairs(p, first_y, len(layers)), memory=memory, unbiased=unbiased)
    own = np.diagonal(hsic)
    warn_undefined(dict(zip(layers, own, strict=True)))
    return alignment(hsic[:p, first_y:], own[:p], own[first_y:])


def _prepared(layers: Mapping[str, ArrayLike], side: str) -> dict[str, FloatArray]:
    if not isinstance(layers, Mapping):
        raise TypeError(
            f"{side} is a {type(layers).__name__}; expected a mapping from layer names to arrays. "
            "Compare two arrays with linear_cka(X, Y)."
        )
    if not layers:
        raise ValueError(f"{side} has no representations; expected at least 1. Check which layers were recorded.")
    labels = {name: f"{side}[{name!r}]" for name in layers}
    return {label: normalised(checks.representation(layers[name], label)) for name, label in labels.items()}


def _pairs(p: int, first_y: int, total: int) -> list[tuple[int, int]]:
    """Positions (i, j), i <= j: the pairs asked for, and each representation with itself."""
    asked = {(i, j) for i in range(p) for j in range(first_y, total) if i < j}
    return sorted(asked | {(i, i) for i in range(total)})


def _hsic(layers: list[FloatArray], pairs: list[tuple[int, int]], *, memory: int, unbiased: bool) -> FloatArray:
    """HSIC (n_layers, n_layers) by the route that is faster; its upper triangle is right at least at the pairs."""
    n, widths = len(layers[0]), [layer.shape[1] for layer in layers]
    check_enough(n, unbiased=unbiased)
    products = [widths[i] * widths[j] for i, j in pairs]
    if sum(products) < n / 2 * sum(width + ENTRY for width in widths) and 8 * max(products) <= memory:
        return _from_features(layers, pairs, unbiased=unbiased)
    return _from_grams(layers, memory=memory, unbiased=unbiased)


def _from_features(layers: list[FloatArray], pairs: list[tuple[int, int]], *, unbiased: bool) -> FloatArray:
    hsic = np.full((len(layers), len(layers)), np.nan)
    for i, j in pairs:
        hsic[i, j] = hsic[j, i] = hsic_from_features(layers[i], layers[j], unbiased=unbiased)
    return hsic


def _from_grams(layers: list[FloatArray], *, memory: int, unbiased: bool) -> FloatArray:
    """Stack the same tile of all Gram matrices; one product of the stack with itself adds it to every HSIC."""
    n, count = len(layers[0]), len(layers)
    size = _tile_size(n, count, memory)
    stack, hsic = np.empty(count * size * size), np.zeros((count, count))
    for rows, columns in _tiles(n, size):
        shape = (count, rows.stop - rows.start, columns.stop - columns.start)
        tiles = stack[: np.prod(shape)].reshape(shape)
        for layer, tile in zip(layers, tiles, strict=True):
            gram(layer, rows, columns, unbiased=unbiased, out=tile)
        flat = tiles.reshape(count, -1)
        hsic += (1 if rows == columns else 2) * (flat @ flat.T)
    return hsic / degrees(n, unbiased=unbiased)


def _tile_size(n: int, count: int, memory: int) -> int:
    if memory < 8 * count:
        raise ValueError(
            f"memory is {memory} bytes; {count} representations need at least {8 * count}. "
            "Leave it at its default unless memory is short."
        )
    return min(n, LARGEST_TILE, isqrt(memory // (8 * count)))


def _tiles(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the tiles on and above the diagonal; those above stand for their mirror images as well."""
    blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    for i, rows in enumerate(blocks):
        for columns in blocks[i:]:
            yield rows, columns


ALL_PAIRS: dict[str, Callable[..., FloatArray]] = {
    "cka": partial(_cka, unbiased=True),
    "cka_biased": partial(_cka, unbiased=False),
}
