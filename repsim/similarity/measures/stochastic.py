"""Shape distance of representations whose responses vary from trial to trial."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.arrays import FloatArray, centred
from repsim.similarity.measures.procrustes import in_row_space, polar, with_width


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
    is returned. It is an upper bound of the distance, exact for rotated copies; between unrelated representations of
    few stimuli it can be some per cent too large, and more starts lower it.

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
        At least 0, a metric up to the search for the minimum; 0 if the trials of Y are those of X, rotated and moved.

    Raises
    ------
    ValueError
        If X or Y is not a finite real array of three dimensions with at least 2 trials, if their numbers of stimuli
        differ, or if there are no iterations or no starts.

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
        if number < 1:
            raise ValueError(f"{name} is {number}; expected at least 1.")
    trials = {"X": _trials(X, "X"), "Y": _trials(Y, "Y")}
    checks.same_stimuli({name: len(each) for name, each in trials.items()})
    x, y = _alike(*(_moments(each) for each in trials.values()))
    enough = tolerance * (x.size() + y.size())
    found = (_lowest(islice(_descent(x, y, Q), n_iterations), enough=enough) for Q in _starts(x, y, n_starts, seed))
    return float(np.sqrt(min(found)))


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
    # Where the means of few stimuli leave the rotation open, the axes decide.
    yield polar(cross / (np.linalg.norm(cross) or 1.0) + 1e-6 * axes)
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
    # An axis has no sign of its own; the means on both sides agree on one.
    agreement = np.vecdot((x.means @ axes_x).T, (y.means @ axes_y).T)
    return (axes_y * np.where(agreement < 0, -1.0, 1.0)) @ axes_x.T


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
