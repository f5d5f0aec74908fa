"""Stochastic shape distance of representations with trial-to-trial variability."""

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

# Products of means below this fraction of the size of both are rounding error.
NOTHING = 1e-12


def stochastic_procrustes(
    X: ArrayLike, Y: ArrayLike, *, n_iterations: int = 200, tolerance: float = 1e-9, n_starts: int = 4, seed: int = 0
) -> float:
    r"""Compute the Gaussian stochastic shape distance: Procrustes distance of means and covariances of trials.

    .. math:: d^2(X, Y) = \min_{Q^T Q = I} \sum_i |\mu_i - Q \nu_i|^2 + B^2(S_i, Q T_i Q^T), \qquad
              B^2(S, T) = \mathrm{tr}\, S + \mathrm{tr}\, T - 2 \, \mathrm{tr} (S^{1/2} T S^{1/2})^{1/2}

    with the mean responses :math:`\mu_i, \nu_i` to each stimulus, centred over stimuli, and the sample covariances
    :math:`S_i, T_i` of the trials around them; B is the Bures distance, and the sum of both terms is the squared
    2-Wasserstein distance of normal distributions. The problem is not convex. It is minimised from several starts,
    alternating between Q and the rotations that align the square roots of the covariances; the smallest value is
    returned, an upper bound of the distance. One of the starts maps the principal axes (of means and trials together)
    of X to those of Y. It recovers the rotation of rotated copies whose axes differ in variance: their distance is 0 up
    to rounding. There is no such guarantee if variances are equal by construction, and for unrelated representations of
    few stimuli the value can be some per cent too large. More starts lower it.

    The value is neither scaled to unit size nor divided by the number of stimuli. Sample covariances of few trials
    differ by chance, so that two recordings of one representation have a positive distance.

    Parameters
    ----------
    X : array-like (n_stimuli, n_trials_x, d1)
        Responses to every stimulus in every trial; at least 2 trials.
    Y : array-like (n_stimuli, n_trials_y, d2)
        The same stimuli in the same order; trials are not matched. The narrower array is padded with features of zeros.
    n_iterations : int, default 200
        Largest number of iterations from each start.
    tolerance : float, default 1e-9
        Iterations end when one of them lowers the squared distance by less than this fraction of the size of X and Y.
    n_starts : int, default 4
        Number of initial rotations: the best for the means, that of the principal axes of X onto those of Y, and random
        ones, each with its inverse, so that the result is symmetric.
    seed : int, default 0
        Seed of the random rotations.

    Returns
    -------
    float
        At least 0; a metric if the global minimum is found.

    Raises
    ------
    ValueError
        If X or Y is not a finite real array of three dimensions with at least 2 trials, if their numbers of stimuli
        differ, if the number of iterations or of starts is not a whole number of at least 1, or if the tolerance is
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
    minima = (_lowest(islice(_descent(x, y, Q), n_iterations), enough=enough) for Q in _starts(x, y, n_starts, seed))
    return float(largest * np.sqrt(min(minima)))


class _TrialMoments(NamedTuple):
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
            "Use procrustes for data without trials."
        )
    n, r, d = array.shape
    if r < 2:
        raise ValueError(
            f"{name} has {r} trials of each stimulus; at least 2 are needed for a covariance. Record more trials, or "
            "use procrustes."
        )
    return checks.representation(array.reshape(n * r, d), name).reshape(n, r, d)


def _moments(X: FloatArray) -> _TrialMoments:
    n, r, d = X.shape
    means = X.mean(axis=1)
    roots = (X - means[:, None]) / np.sqrt(r - 1)
    if r > d:
        roots = np.asarray(np.linalg.qr(roots, mode="r"))  # (n, d, d)
    reduced = in_row_space(_TrialMoments(centred(means, axis=0), roots).stacked())
    return _TrialMoments(reduced[:n], reduced[n:].reshape(n, -1, reduced.shape[1]))


def _alike(*both: _TrialMoments) -> list[_TrialMoments]:
    """Pad both with zeros to the same number of features, and of rows of the roots."""
    rows, width = (max(each.roots.shape[axis] for each in both) for axis in (1, 2))
    padded = []
    for means, roots in both:
        _, k, d = roots.shape
        padding = [(0, 0), (0, rows - k), (0, width - d)]
        padded.append(_TrialMoments(with_width(means, width), np.pad(roots, padding)))
    return padded


def _starts(x: _TrialMoments, y: _TrialMoments, n_starts: int, seed: int) -> Iterator[FloatArray]:
    """Yield initial rotations; for exchanged X and Y they are the inverses, so that the result is symmetric."""
    rng = np.random.default_rng(seed)
    d = x.means.shape[1]
    axes = _axes_to_axes(x, y)
    cross = y.means.T @ x.means
    length = np.linalg.norm(cross)
    if length <= NOTHING * np.sqrt(x.size() * y.size()):
        yield axes  # the means do not determine a rotation
    else:
        # The axes decide where the means of few stimuli do not determine the rotation.
        yield polar(cross / length + 1e-6 * axes)
    if n_starts > 1:
        yield axes
    for _ in range(2, n_starts):
        Q = polar(rng.normal(size=(d, d)))
        yield from (Q, Q.T)


def _axes_to_axes(x: _TrialMoments, y: _TrialMoments) -> FloatArray:
    """Return the rotation of the principal axes of y, of means and trials together, onto those of x."""
    axes_x, axes_y = (np.linalg.eigh(Z.T @ Z).eigenvectors for Z in (x.stacked(), y.stacked()))
    return (axes_y * _signs(x, y, axes_x, axes_y)) @ axes_x.T


def _signs(x: _TrialMoments, y: _TrialMoments, axes_x: FloatArray, axes_y: FloatArray) -> FloatArray:
    """Return the sign of each axis for which means and covariances of x and y agree."""
    # Where y is x with the signs s, the covariances of its axes a and b are those of x times s_a s_b, and its means are
    # those of x times s_a. Sums over stimuli of the products of both are then positive numbers times these signs, which
    # the first eigenvector has.
    size = np.sqrt(x.size() * y.size()) or 1.0
    agreement = np.zeros((len(axes_x) + 1,) * 2)
    # One stimulus at a time: all covariances together would take n times the room.
    for S, T in zip(x.roots @ axes_x, y.roots @ axes_y, strict=True):
        agreement[:-1, :-1] += (S.T @ S) * (T.T @ T) / size**2
    agreement[-1, :-1] = agreement[:-1, -1] = np.vecdot((x.means @ axes_x).T, (y.means @ axes_y).T) / size
    first = np.linalg.eigh(agreement).eigenvectors[:, -1]
    return np.where(first[:-1] * first[-1] < 0, -1.0, 1.0)


def _descent(x: _TrialMoments, y: _TrialMoments, Q: FloatArray) -> Iterator[float]:
    """Yield the squared distance after each iteration, which never grows."""
    # The Bures distance is min over orthogonal R of the Frobenius norm of S^(1/2) - R T^(1/2) Q. For fixed R of all
    # stimuli, Q solves an ordinary Procrustes problem of the stacked means and roots.
    target = x.stacked()
    while True:
        R = polar(x.roots @ np.swapaxes(y.roots @ Q, 1, 2))  # (n, k, k)
        source = y._replace(roots=R @ y.roots).stacked()
        Q = polar(source.T @ target)
        yield float(np.linalg.norm(target - source @ Q) ** 2)


def _lowest(distances: Iterator[float], *, enough: float) -> float:
    """Return the last value of a falling sequence before it falls by no more than ``enough``."""
    lowest = next(distances)
    for distance in distances:
        fell = lowest - distance
        lowest = min(lowest, distance)
        if fell <= enough:
            break
    return lowest
