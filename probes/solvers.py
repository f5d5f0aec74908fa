"""Fits of L2-penalised logistic regression on arrays: pure functions that return a certified `Fit`."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from probes.certificate import certify

Array = NDArray[np.float64]

# Multiply-adds a pass. Below it a second BLAS thread gains nothing, and on a busy machine waiting for it costs far more
# than the work.
_WORTH_A_SECOND_THREAD = 1e8


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A solution and its certificate: `objective` exceeds the optimum by at most `gap`."""

    coef: Array  # (K, d), or (1, d) for two classes
    intercept: Array  # (K,), or (1,) for two classes
    objective: float
    gap: float
    n_iter: int
    converged: bool

    @property
    def relative_gap(self) -> float:
        """The gap as a fraction of the objective, >= 0."""
        return self.gap / self.objective


Solver = Callable[..., Fit]


def lbfgs(X: Array, y: NDArray[np.intp], C: float, *, tol: float = 1e-6, max_iter: int = 1000) -> Fit:
    r"""Minimise the logistic objective with scikit-learn's L-BFGS, until the duality gap is small.

    The objective is :math:`P(W, b) = C \sum_i \ell(y_i, W x_i + b) + \tfrac12 \lVert W \rVert_F^2`, with the softmax
    cross-entropy over K rows, or one sigmoid row when K = 2. L-BFGS stops on the largest entry of the gradient, which
    says little about the objective. Here it is stopped where that entry would prove `gap <= tol * objective`, the
    proof is computed (see `probes.certificate.certify`), and the fit goes on from where it is if the proof fails.

    It does not check, center or scale X, and it does not warn: read `converged`.

    Parameters
    ----------
    X : array, shape (n, d), float64, finite
        Features. Standardised ones converge faster.
    y : array, shape (n,), int
        Class codes 0 … K - 1, each of which occurs, K >= 2.
    C : float, > 0
        Weight of the data against the penalty.
    tol : float, > 0
        Largest relative duality gap of a converged fit.
    max_iter : int, >= 1
        L-BFGS iterations allowed in all.

    Returns
    -------
    Fit
        `coef`, `intercept`, `objective`, `gap`, `n_iter` (0 when the intercept alone is optimal) and `converged`.

    References
    ----------
    Liu and Nocedal (1989). On the limited memory BFGS method for large scale optimization. Math. Program. 45.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> fit = lbfgs(*load_iris(return_X_y=True), C=1.0)
    >>> fit.converged, fit.relative_gap < 1e-6, fit.coef.shape
    (True, True, (3, 4))
    """
    n_classes = int(y.max()) + 1
    n_rows = 1 if n_classes == 2 else n_classes
    with threadpool_limits(1 if X.size * n_rows < _WORTH_A_SECOND_THREAD else None):
        fit = _certified(X, y, C, np.zeros((n_rows, X.shape[1])), np.zeros(n_rows), n_iter=0, tol=tol)
        while not fit.converged and fit.n_iter < max_iter:
            gradient_tol = _gradient_tol(fit, tol) / (C * len(y))  # scikit-learn minimises P / (C n)
            coef, intercept, n_iter = _continued(X, y, C, fit, gradient_tol, max_iter - fit.n_iter)
            further = _certified(X, y, C, coef, intercept, n_iter=fit.n_iter + n_iter, tol=tol)
            if further.objective >= fit.objective and further.gap >= fit.gap:
                break  # the limit of float64
            fit = further
    return fit


def _certified(
    X: Array, y: NDArray[np.intp], C: float, coef: Array, intercept: Array, *, n_iter: int, tol: float
) -> Fit:
    proof = certify(X, y, C, coef, intercept)
    return Fit(
        coef=coef,
        intercept=proof.intercept,
        objective=proof.objective,
        gap=proof.gap,
        n_iter=n_iter,
        converged=bool(proof.gap <= tol * proof.objective < np.inf),
    )


def _gradient_tol(fit: Fit, tol: float) -> float:
    """Bound the entries of the gradient G so that ½‖G‖² <= ½ tol * objective; half is left to the intercept."""
    return float(np.sqrt(tol * fit.objective / fit.coef.size))


def _continued(
    X: Array, y: NDArray[np.intp], C: float, start: Fit, gradient_tol: float, max_iter: int
) -> tuple[Array, Array, int]:
    model = LogisticRegression(C=C, tol=gradient_tol, max_iter=max_iter, warm_start=True)
    model.coef_, model.intercept_ = start.coef, start.intercept
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the certificate decides, not the solver's opinion
        model.fit(X, y)
    return model.coef_, model.intercept_, int(model.n_iter_[0])


def solver_named(name: str) -> Solver:
    """Look a solver up by name.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in SOLVERS:
        raise ValueError(f"Unknown solver {name!r}. Choose one of: {', '.join(sorted(SOLVERS))}.")
    return SOLVERS[name]


SOLVERS: dict[str, Solver] = {
    "lbfgs": lbfgs,
}
