"""Ridge regression along a path of C, of which the best is chosen by the error on validation rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.estimators.ridge.eigen_solution import inverse, refuse_overflow, spectrum
from probes.estimators.ridge.leave_one_out import EQUAL
from probes.features import row_blocks
from probes.grids import PenaltyGrid
from probes.scores import mean_squared_error
from probes.solvers.fit import Fit
from probes.solvers.path import PenaltyPath

Array = NDArray[np.float64]


class RidgeFits:
    r"""Ridge regressions of several targets on the same features, for any C, from one eigendecomposition.

    Each minimises :math:`\tfrac C2 \lVert t - X w - b \rVert^2 + \tfrac12 \lVert w \rVert^2`, which is scikit-learn's
    Ridge with alpha = 1 / C. Features are read in blocks of rows, and computed with in double precision.

    Parameters
    ----------
    X : array, shape (n, d), or an object whose slices are such arrays
        Features, finite.
    T : array, shape (n, k), float64, finite
        Targets.

    Examples
    --------
    >>> fit = RidgeFits(np.array([[-1.0], [0.0], [1.0]]), np.array([[-2.0], [0.0], [2.0]])).fit(0.5)
    >>> fit.coef.tolist(), fit.intercept.tolist(), fit.objective
    ([[1.0]], [0.0], 1.0)
    """

    def __init__(self, X: Any, T: Array) -> None:
        n, d = X.shape
        self._X, self._T = X, T
        self._mean = sum(block.sum(axis=0) for _, block in row_blocks(X)) / n
        self._center = T.mean(axis=0)
        refuse_overflow(T - self._center, "targets")
        self._is_primal = d < n
        if self._is_primal:
            gram: Array = sum((A.T @ A for _, A in self._blocks()), np.zeros((d, d)))
        else:
            gram = np.block([[A @ B.T for _, B in self._blocks()] for _, A in self._blocks()])
        self._values, self._vectors = spectrum(gram)
        self._loadings = self._vectors.T @ (self._products(T - self._center) if self._is_primal else T - self._center)

    def _blocks(self) -> Any:
        """Yield blocks of centered features with their rows."""
        return ((rows, block - self._mean) for rows, block in row_blocks(self._X))

    def _products(self, R: Array) -> Array:
        """Return X'R of centered features, (d, k)."""
        return sum((A.T @ R[rows] for rows, A in self._blocks()), np.zeros((self._X.shape[1], R.shape[1])))

    def fit(self, C: float) -> Fit:
        """Return the regression at one C, with one row of coefficients for each target."""
        solved = self._vectors @ (inverse(self._values, 1.0 / C)[:, np.newaxis] * self._loadings)
        coef = (solved if self._is_primal else self._products(solved)).T  # (k, d)
        intercept = self._center - coef @ self._mean
        errors = np.concatenate([block @ coef.T for _, block in row_blocks(self._X)]) + intercept - self._T
        objective = 0.5 * (C * float(np.sum(errors**2)) + float(np.sum(coef**2)))
        return Fit(coef=coef, intercept=intercept, objective=objective, gap=0.0, n_iter=0, converged=True)


def validated_path(
    train: tuple[Any, Array], validation: tuple[Any, Array], Cs: Sequence[float], *, most_decades: int = 0
) -> PenaltyPath:
    """Return the ridge regression whose mean squared error on validation rows is least.

    As for logistic probes, C is tried in ascending order until the error has risen twice in a row, or once clearly, the
    smallest C is chosen on a tie, and the grid is extended where a better C may lie beyond its edge (see
    `probes.grids`). Errors that differ by no more than 1e-4 of the variance of the training targets are equal at the
    edge.

    Parameters
    ----------
    train, validation : pairs of array, shape (n_part, d), and array, shape (n_part,)
        Features standardised by the training rows, and the target.
    Cs : sequence of float, > 0
        Weights of the squared error against the penalty.
    most_decades : int, >= 0, default 0
        Decades by which the grid may be extended. A grid of a single C is never extended.

    Returns
    -------
    PenaltyPath
        Its losses are mean squared errors over the variance of the training targets.

    Examples
    --------
    >>> X, y = np.array([[-1.0], [0.0], [1.0]]), np.array([-2.0, 0.0, 2.0])
    >>> path = validated_path((X, y), (X, y), [0.1, 1.0, 10.0])
    >>> path.Cs[path.best], path.side
    (10.0, 1)
    """
    (X, y), (Z, z) = train, validation
    fits = RidgeFits(X, y[:, np.newaxis])
    variance = float(np.var(y))

    def loss(predicted: Array) -> float:
        return mean_squared_error(predicted, z) / variance

    grid = PenaltyGrid(
        Cs, sign=1, equal=EQUAL, most_decades=most_decades, null=lambda: loss(np.full(len(z), float(y.mean())))
    )
    found = dict[float, Fit]()
    while (C := grid.next_value()) is not None:
        found[C] = fits.fit(C)
        grid.add(C, np.square(found[C].logits(Z)[:, 0] - z) / variance)
    tried, best = tuple(grid.tried), grid.best
    return PenaltyPath(
        Cs=tried,
        losses=tuple(grid.losses[C] for C in tried),
        best=tried.index(best),
        side=grid.side,
        n_extended=grid.n_extended,
        fit=found[best],
        n_iter=0,
        unfinished=(),
    )
