"""Array type, centring, and rounding errors of representations."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SINGLE = float(np.finfo(np.float32).eps)
DOUBLE = float(np.finfo(np.float64).eps)
# Values of a feature are equal up to rounding if they span no more than this number of machine epsilons of the largest:
# sums of 512 terms in different orders span up to 40.
CONSTANT = 64
# Numbers of single precision above this have few binary places after the point, and may be whole numbers by rounding.
EXACT = 2.0**20
# Number of rows that are compared first, to exclude most features that are not constant.
_FEW = 16


def centred(X: FloatArray, axis: int) -> FloatArray:
    """Subtract the mean of columns (axis 0) or rows (axis 1), so that equal values become exactly zero."""
    Z = X - X.mean(axis, keepdims=True)
    # The rounding error of the mean of equal values remains in their deviations and would look like a signal. These
    # deviations are a few units in the last place, so that their own mean is exact.
    Z -= Z.mean(axis, keepdims=True)
    return Z


def unit(X: FloatArray, axis: int | None = None) -> FloatArray:
    """Scale an array, or each of its columns (axis 0) or rows (axis 1), to length one; NaN where all is zero."""
    Z = X / np.abs(X).max(axis, keepdims=True)  # so that no square overflows or vanishes
    Z /= np.linalg.norm(Z, axis=axis, keepdims=True)
    return Z


def epsilon_of(X: NDArray[Any]) -> float:
    """Return the machine epsilon of the precision of values, which may be lower than that of the array.

    It is that of single precision if all values are numbers of single precision, unless all are whole numbers (counts,
    codes), which are exact. The values must not be centred.
    """
    if not (_is_single(X[:_FEW]).all() and _is_single(X).all()):
        return DOUBLE
    if not _is_whole(X[:_FEW]).all():
        return SINGLE
    sizes = np.abs(X)
    smallest = np.min(sizes, initial=EXACT, where=sizes > 0)
    return DOUBLE if smallest < EXACT and sizes.max() <= EXACT / SINGLE and _is_whole(X).all() else SINGLE


def _is_whole(X: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.rint(X) == X)


def _is_single(X: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which values are numbers of single precision."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(X.astype(np.float32, copy=False) == X)


class FeatureRange:
    """Range of each feature over blocks of stimuli, from which constant features follow."""

    def __init__(self, d: int) -> None:
        self.low, self.high = np.full(d, np.inf), np.full(d, -np.inf)
        self._is_single, self._is_whole = np.ones((2, d), dtype=bool)

    def update(self, block: NDArray[Any]) -> None:
        """Include a block of stimuli (b, d)."""
        self.low = np.minimum(self.low, block.min(axis=0))
        self.high = np.maximum(self.high, block.max(axis=0))
        which = np.flatnonzero(self._is_single & self._spans_at_most(SINGLE, self._typical_sizes()))
        self._is_single[which] = _is_single(block[:, which]).all(axis=0)
        self._is_whole[which] &= _is_whole(block[:, which]).all(axis=0)

    def constant(self) -> NDArray[np.bool_]:
        """Return which features (d,) are constant up to rounding, as part of one layer.

        A feature is constant if its values span no more than `CONSTANT` machine epsilons of the largest value. All
        features are constant if each spans no more than that of its own largest value or of the median feature's: sums
        that nearly cancel have the rounding errors of their terms. The epsilon is that of `epsilon_of` for the values
        of the feature.
        """
        own = self.constant_alone()
        return own if own.all() else own | self._within_rounding(self._typical_sizes()).all()

    def constant_alone(self) -> NDArray[np.bool_]:
        """Return which features (d,) are constant up to rounding, each on its own."""
        return self._within_rounding(self._sizes())

    def _sizes(self) -> FloatArray:
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def _typical_sizes(self) -> FloatArray:
        """Return the size of each feature (d,), or the median of the nonzero sizes if that is larger."""
        sizes = self._sizes()
        positive = sizes[sizes > 0]
        return np.maximum(sizes, np.median(positive)) if positive.size else sizes

    def _within_rounding(self, sizes: FloatArray) -> NDArray[np.bool_]:
        is_rounded = self._is_single & ~(self._is_whole & (self._sizes() < EXACT))
        return self._spans_at_most(DOUBLE, sizes) | (is_rounded & self._spans_at_most(SINGLE, sizes))

    def _spans_at_most(self, epsilon: float, sizes: FloatArray) -> NDArray[np.bool_]:
        with np.errstate(over="ignore"):
            spans = self.high - self.low
        return np.asarray(spans <= CONSTANT * epsilon * sizes)


def constant_features(X: NDArray[Any], *, alone: bool = False) -> NDArray[np.bool_]:
    """Return which features are constant over the stimuli, up to rounding.

    With ``alone``, features are tested one by one (`FeatureRange.constant_alone`) instead of as parts of a layer
    (`FeatureRange.constant`). X is not centred; with its transpose, patterns are tested for being constant over
    features.
    """
    with np.errstate(over="ignore"):
        if (np.abs(X[0] - X[-1]) > 2 * CONSTANT * SINGLE * np.abs(X[0])).all():
            return np.zeros(X.shape[1], dtype=bool)
    few = FeatureRange(X.shape[1])
    few.update(X[np.linspace(0, len(X) - 1, min(len(X), _FEW)).astype(np.intp)])
    is_constant = few.constant_alone() if alone else few.constant()
    which = np.flatnonzero(is_constant)
    if which.size and len(X) > _FEW:
        all_of_them = len(which) == X.shape[1]
        candidates = FeatureRange(len(which))
        candidates.update(X if all_of_them else X[:, which])
        is_constant[which] = candidates.constant() if all_of_them and not alone else candidates.constant_alone()
    return is_constant


def without_rounding(X: NDArray[Any]) -> NDArray[Any]:
    """Set features that are constant up to rounding to exactly one value."""
    which = np.flatnonzero(constant_features(X))
    if (X[:, which] == X[0, which]).all():
        return X
    X = X.copy()
    X[:, which] = X[0, which]
    return X


def rounding_of_directions(X: FloatArray) -> float:
    """Return the largest distance of patterns, scaled to unit length, that is rounding error."""
    return max(CONSTANT * epsilon_of(X), 1e-12)


def rounding_of(X: FloatArray) -> float:
    r"""Return the singular value below which a direction of a representation is rounding error.

    A matrix of independent errors of :math:`\epsilon |x_{ij}|` has a spectral norm of about
    :math:`\epsilon \, \mathrm{rms}(X) (\sqrt n + \sqrt d)` at most, where :math:`\epsilon` is that of `epsilon_of`. A
    decomposition adds :math:`\max(n, d)` machine epsilons of double precision.
    """
    largest = np.abs(X).max()
    norm = largest * np.linalg.norm(X / largest) if largest else 0.0  # so that no square overflows or vanishes
    n, d = X.shape
    return float(norm * max(epsilon_of(X) * (n**-0.5 + d**-0.5), DOUBLE * max(n, d)))
