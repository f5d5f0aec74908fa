"""Shape distance of representations whose responses vary from trial to trial."""

import math
from collections.abc import Iterator
from itertools import islice
from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.measures.procrustes import in_row_space, polar, with_width
from repsim.similarity.precision import FloatArray, centred

# An agreement of means this small beside the size of both is nothing but rounding.
NOTHING = 1e-12


def stochastic_procrustes(
    X: ArrayLike, Y: ArrayLike, *, n_iterations: int = 200, tolerance: float = 1e-9, n_starts: int = 4, seed: int = 0
) -> float:
    r"""Gaussian stochastic shape distance: Procrustes distance of means and of trial-to-trial covariances at once.

    .. math:: d^2(X, Y) = \min_{Q^T Q = I} \sum_i |\mu_i - Q \nu_i|^2 + B^2(S_i, Q T_i Q^T), \qquad
              B^2(S, T) = \mathrm{tr}\, S + \mathrm{tr}\, T - 2 \, \mathrm{tr} (S^{1/2} T S^{1/2})^{1/2}

    with the mean responses :math:`\mu_i, \nu_i` to each stimulus, the means over stimuli taken off, and the sample
    covariances :math:`S_i, T_i` of the trials around them; B is the Bures distance, and the sum of both terms the
    squared 2-Wasserstein distance of normal distributions. The problem is not convex: its minimum is sought from
    several starts, by turns for Q and for what aligns the square roots of the covariances, and the smallest value found
    is returned. It is an upper bound of the distance. One start is the rotation itself for rotated copies of recorded
    responses, whose principal axes (of means and trials together) differ in variance: these are 0 apart, up to
    rounding. Nothing warrants it where variances are equal by construction; and between unrelated representations of
    few stimuli the value can be some per cent too large. More starts lower it.

    Neither scaled to unit size nor divided by the number of stimuli. Sample covariances of few trials differ by chance,
    so that two recordings of one representation are some distance apart.

    Parameters
    ----------
    X : array-like (n_stimuli, n_trials_x, d1)
        Responses to every stimulus in every trial; at least 2 trials.
    Y : array-like (n_stimuli, n_trials_y, d2)
        The same stimuli in the same order; trials are not matched. The narrower one is padded with features of zeros.
    n_iterations : int, default 200
        At most so many turns from each start.
    tolerance : float, default 1e-9
        A start is done when a turn lowers the squared distance by less than this fraction of the size of X and Y.
    n_starts : int, default 4
        How many rotations to start from: the best for the means, that of the principal axes of X onto those of Y, and
        random ones, each with its inverse, so that the result is symmetric.
    seed : int, default 0
        Of the random starts.

    Returns
    -------
    float
        At least 0, a metric up to the search for the minimum.

    Raises
    ------
    ValueError
        If X or Y is not a finite real array of three dimensions with at least 2 trials, if their numbers of stimuli
        differ, if the number of iterations or of starts is no whole number of at least 1, or if the tolerance is
        negative or not finite.

    References
    ----------
    Duong, Zhou, Nassar, Berman, Olieslagers & Williams (2023). Representational dissimilarity metric spaces for
    stochastic neural networks. ICLR.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(10, 5, 3))
    >>> round(stochastic_procrustes(X, X[:, :, ::-1] + 1), 6)
    0.0
    """
    for name, number in (("n_iterations", n_iterations), ("n_starts", n_starts)):
        if not isinstance(number, Integral) or number < 1:
            raise ValueError(f"{name} is {number}; expected a whole number of at least 1.")
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance}; expected a finite number of at least 0. The usual one is 1e-9.")
    trials = {"X": _trials(X, "X"), "Y": _trials(Y, "Y")}
    checks.same_stimuli({name: len(each) for name, each in trials.items()})
    largest = max(np.abs(each).max() for each in trials.values()) or 1.0  # so that no square overflows or vanishes
    x, y = _alike(*(_moments(each / largest) for each in trials.values()))
    enough = tolerance * (x.size() + y.size())
    found = (_lowest(islice(_descent(x, y, Q), n_iterations), enough=enough) for Q in _starts(x, y, n_starts, seed))
    return float(largest * np.sqrt(min(found)))


class _Moments(NamedTuple):
    means: FloatArray  # (n, d)
    roots: FloatArray  # (n, k, d), of which root.T @ root is a stimulus's covariance

    def size(self) -> float:
        return float(np.vdot(self.means, self.means) + np.vdot(self.roots, self.roots))

    def stacked(self) -> FloatArray:
        return np.concatenate([self.means, self.roots.reshape(-1, self.roots.shape[2])])


def _trials(X: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(X)
    if array.ndim != 3:
        raise ValueError(
            f"{name} has shape {array.shape}; expected three dimensions (n_stimuli, n_trials, n_features). "
            "Without trials take procrustes."
        )
    n, r, d = array.shape
    if r < 2:
        raise ValueError(
            f"{name} has {r} trials of each stimulus; at least 2 are needed for a covariance. Record more trials, or "
            "take procrustes."
        )
    return checks.representation(array.reshape(n * r, d), name).reshape(n, r, d)


def _moments(X: FloatArray) -> _Moments:
    n, r, d = X.shape
    means = X.mean(axis=1)
    roots = (X - means[:, None]) / np.sqrt(r - 1)
    if r > d:
        roots = np.asarray(np.linalg.qr(roots, mode="r"))  # (n, d, d)
    reduced = in_row_space(_Moments(centred(means, axis=0), roots).stacked())
    return _Moments(reduced[:n], reduced[n:].reshape(n, -1, reduced.shape[1]))


def _alike(*both: _Moments) -> list[_Moments]:
    """Pad both with zeros to the same number of features, and of rows of the roots."""
    rows, width = (max(each.roots.shape[axis] for each in both) for axis in (1, 2))
    padded = []
    for means, roots in both:
        _, k, d = roots.shape
        padding = [(0, 0), (0, rows - k), (0, width - d)]
        padded.append(_Moments(with_width(means, width), np.pad(roots, padding)))
    return padded


def _starts(x: _Moments, y: _Moments, n_starts: int, seed: int) -> Iterator[FloatArray]:
    """Rotations to start from; those from Y to X are the inverses, so that both ways mirror each other."""
    rng = np.random.default_rng(seed)
    d = x.means.shape[1]
    axes = _axes_to_axes(x, y)
    cross = y.means.T @ x.means
    length = np.linalg.norm(cross)
    if length <= NOTHING * np.sqrt(x.size() * y.size()):
        yield axes  # means that agree only by rounding say nothing of the rotation
    else:
        # Where the means of few stimuli leave the rotation open, the axes decide.
        yield polar(cross / length + 1e-6 * axes)
    if n_starts > 1:
        yield axes
    for _ in range(2, n_starts):
        Q = polar(rng.normal(size=(d, d)))
        yield from (Q, Q.T)


def _axes_to_axes(x: _Moments, y: _Moments) -> FloatArray:
    """Turn the principal axes of means and trials together onto one another, in order.

    Between rotated copies of fewer stimuli than features this is the rotation, which the means alone do not tell.
    """
    axes_x, axes_y = (np.linalg.eigh(Z.T @ Z).eigenvectors for Z in (x.stacked(), y.stacked()))
    return (axes_y * _signs(x, y, axes_x, axes_y)) @ axes_x.T


def _signs(x: _Moments, y: _Moments, axes_x: FloatArray, axes_y: FloatArray) -> FloatArray:
    r"""Sign of each axis, which has none of its own, by what means and covariances on both sides agree on.

    Where y is x with the signs :math:`\sigma`, the covariances of its axes a and b are those of x times
    :math:`\sigma_a \sigma_b`, and its means those of x times :math:`\sigma_a`. Sums over stimuli of the products of
    both sides then are a matrix of positive numbers times these signs, which its first eigenvector has.
    """
    size = np.sqrt(x.size() * y.size()) or 1.0
    agreement = np.zeros((len(axes_x) + 1,) * 2)
    # One stimulus at a time: all covariances together would take n times the room.
    for S, T in zip(x.roots @ axes_x, y.roots @ axes_y, strict=True):
        agreement[:-1, :-1] += (S.T @ S) * (T.T @ T) / size**2
    agreement[-1, :-1] = agreement[:-1, -1] = np.vecdot((x.means @ axes_x).T, (y.means @ axes_y).T) / size
    first = np.linalg.eigh(agreement).eigenvectors[:, -1]
    return np.where(first[:-1] * first[-1] < 0, -1.0, 1.0)


def _descent(x: _Moments, y: _Moments, Q: FloatArray) -> Iterator[float]:
    """Squared distance after every turn, never larger than before.

    The Bures distance is min over orthogonal R of the Frobenius norm of S^(1/2) - R T^(1/2) Q. With the R of all
    stimuli held, Q is that of an ordinary Procrustes problem on the means and the roots, stacked.
    """
    target = x.stacked()
    while True:
        R = polar(x.roots @ np.swapaxes(y.roots @ Q, 1, 2))  # (n, k, k)
        source = y._replace(roots=R @ y.roots).stacked()
        Q = polar(source.T @ target)
        yield float(np.linalg.norm(target - source @ Q) ** 2)


def _lowest(distances: Iterator[float], *, enough: float) -> float:
    """Follow a falling sequence until it falls by no more than ``enough``."""
    lowest = next(distances)
    for distance in distances:
        fell = lowest - distance
        lowest = min(lowest, distance)
        if fell <= enough:
            break
    return lowest
