"""Distances from matrix products of transformed patterns: correlation, cosine, Euclidean, Mahalanobis."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from repsim.similarity.distances.distance import About, Distance, Floats, Patterns
from repsim.similarity.distances.reading import chunks
from repsim.similarity.distances.tiles import tile_shape, write_one_minus_cosines, write_squared_distances
from repsim.similarity.precision import FloatArray, centred, constant_features, unit

# Number of patterns whose median is subtracted from all.
SAMPLE = 33


def _write_cosines(patterns: Patterns, *, centre: bool) -> str | None:
    if centre and patterns.X.shape[1] == 1:
        raise ValueError(
            f"{patterns.name} has 1 feature; a correlation between patterns needs at least 2. Use method='euclidean'."
        )
    zero: set[int] = set()

    def unit_rows(start: int, chunk: FloatArray) -> FloatArray:
        Z = chunk
        if centre:
            Z = centred(chunk, axis=1)
            Z[constant_features(chunk.T, alone=True)] = 0.0
        zero.update((start + np.flatnonzero(~Z.any(axis=1))).tolist())
        with np.errstate(invalid="ignore"):
            return unit(Z, axis=1)

    rows, shape = _rows(patterns, unit_rows)
    write_one_minus_cosines(rows, len(patterns.X), patterns.out, shape=shape)
    if not zero:
        return None
    return _undefined(sorted(zero), len(patterns.X), "variance" if centre else "norm", patterns.name)


def _write_euclidean(patterns: Patterns, *, whitened: bool = False, root: bool) -> None:
    centre = _centre(patterns)

    def deviations(chunk: FloatArray) -> FloatArray:
        Z = chunk - centre
        return patterns.whiten(Z) if whitened and patterns.whiten is not None else Z

    largest = max(float(np.abs(deviations(_read(patterns, *chunk))).max()) for chunk in chunks(patterns.X))
    _check_representable(patterns, largest, root=root)
    scale = 2.0 ** np.floor(np.log2(largest)) if largest > 0 else 1.0  # a power of two, so that nothing is rounded

    def shifted_rows(start: int, chunk: FloatArray) -> FloatArray:
        return deviations(chunk) / scale

    def finish(distances: Floats) -> Floats:
        if root:
            np.sqrt(distances, out=distances)
        distances *= scale if root else scale**2
        return distances

    rows, shape = _rows(patterns, shifted_rows)
    write_squared_distances(rows, len(patterns.X), patterns.out, shape=shape, finish=finish)


def _centre(patterns: Patterns) -> FloatArray:
    """Return the median (d,) of a few patterns, which is subtracted to reduce rounding errors."""
    # It is near most patterns, even if an outlier makes the mean distant from all of them.
    n = len(patterns.X)
    few = np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(int)).tolist()
    return np.asarray(np.median(np.concatenate([_read(patterns, i, i + 1) for i in few]), axis=0))


def _check_representable(patterns: Patterns, largest: float, *, root: bool) -> None:
    limits, longest = np.finfo(patterns.out.dtype), 2 * largest * math.sqrt(patterns.X.shape[1])
    power, what = (1, "distances") if root else (2, "squared distances")
    if longest > float(limits.max) ** (1 / power):
        size, advice = "too large", "Divide it by its largest value"
    elif 0 < largest < (float(limits.tiny) / float(limits.eps)) ** (1 / power):
        size, advice = "too small", "Multiply it by a large number"
    else:
        return
    raise ValueError(
        f"{patterns.name} has values that are up to {largest:.1e} from their median; their {what} are {size} for "
        f"{limits.dtype}. {advice}, or choose another distance, such as correlation."
    )


def _rows(
    patterns: Patterns, transform: Callable[[int, FloatArray], FloatArray]
) -> tuple[Callable[[int, int], Floats], tuple[int, int]]:
    """Return a function from start and stop to transformed rows, and the shape of tiles."""
    # An array is transformed once; other objects are read and transformed for every tile.
    X = patterns.X
    kind = np.dtype(np.float32) if X.dtype == np.float32 else np.dtype(np.float64)

    def read(start: int, stop: int) -> Floats:
        return transform(start, _read(patterns, start, stop)).astype(kind, copy=False)

    if not isinstance(X, np.ndarray):
        return read, tile_shape(len(X), kind.itemsize, patterns.memory, rereads=True)
    Z = np.empty(X.shape, dtype=kind)
    for start, stop in chunks(X):
        Z[start:stop] = read(start, stop)
    return lambda start, stop: Z[start:stop], tile_shape(len(X), kind.itemsize, patterns.memory, rereads=False)


def _read(patterns: Patterns, start: int, stop: int) -> FloatArray:
    return np.asarray(patterns.X[start:stop], dtype=np.float64)


def _undefined(stimuli: list[int], n: int, length: str, name: str) -> str:
    first = ", ".join(map(str, stimuli[:5])) + (", ..." if len(stimuli) > 5 else "")
    return f"{name}: {len(stimuli)} of {n} stimuli have zero {length} (rows {first}); their distances are NaN."


KRIEGESKORTE = "Kriegeskorte, Mur & Bandettini (2008), Representational similarity analysis"
WALTHER = "Walther et al. (2016), Reliability of dissimilarity measures for multi-voxel pattern analysis"

FAMILY = (
    Distance(
        name="correlation",
        compute=partial(_write_cosines, centre=True),
        range=(0.0, 2.0),
        reads_blocks=True,
        about=About(formula="1 − r(x, y), over features", reference=KRIEGESKORTE),
    ),
    Distance(
        name="cosine",
        compute=partial(_write_cosines, centre=False),
        range=(0.0, 2.0),
        reads_blocks=True,
        about=About(formula="1 − xᵀy / (|x| |y|)", reference=KRIEGESKORTE),
    ),
    Distance(
        name="euclidean",
        compute=partial(_write_euclidean, root=True),
        range=(0.0, np.inf),
        reads_blocks=True,
        about=About(formula="|x − y|", reference=KRIEGESKORTE),
    ),
    Distance(
        name="sqeuclidean",
        compute=partial(_write_euclidean, root=False),
        range=(0.0, np.inf),
        reads_blocks=True,
        about=About(formula="|x − y|², not divided by d", reference=KRIEGESKORTE),
    ),
    Distance(
        name="mahalanobis",
        compute=partial(_write_euclidean, root=True, whitened=True),
        range=(0.0, np.inf),
        takes_noise=True,
        reads_blocks=True,
        about=About(formula="√((x − y)ᵀ Σ⁻¹ (x − y))", reference=WALTHER),
    ),
)
