"""Newton's method for one small logistic regression, to the limit of double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.special import expit, softmax

from probes.solvers.certificate import Certificate, certify
from probes.solvers.fit import Fit, certified, empty_fit, fit_of

Array = NDArray[np.float64]

ENOUGH = 1e-15  # relative gap below which further steps only change rounding
HALVINGS = 40


def newton(
    X: Any,
    y: NDArray[np.intp],
    C: float,
    *,
    sample_weight: Array | None = None,
    start: Fit | None = None,
    tol: float = 1e-6,
    max_iter: int = 1000,
    device: str = "cpu",
) -> Fit:
    """Minimise the logistic objective of `lbfgs` by Newton's method.

    A step solves for all R (d + 1) unknowns at once, the R rows of W and their intercepts. It takes
    :math:`n R^2 d^2 / 2 + R^3 d^3 / 3` multiply-adds and memory for :math:`R^2 d^2` numbers, so the method is for few
    features and classes. Convergence is quadratic, so the search continues until the gap is within rounding of zero,
    whatever ``tol`` is. Arguments are those of `lbfgs`; ``device`` is ignored, because this runs on the CPU.

    References
    ----------
    Boyd and Vandenberghe (2004). Convex Optimization, section 9.5.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> newton(*load_iris(return_X_y=True), C=1.0).relative_gap < 1e-12
    True
    """
    X = np.asarray(X[:], dtype=np.float64)
    weights = C * (np.ones(len(y)) if sample_weight is None else sample_weight)
    fit = certified(X, y, C, start or empty_fit(y, C, sample_weight, X.shape[1]), sample_weight, tol)
    X1 = np.column_stack([X, np.ones(len(X))])
    while fit.gap > ENOUGH * fit.objective and fit.n_iter < max_iter:
        step = _step(X1, y, weights, fit)
        further = _shortened(X, y, C, sample_weight, fit, step, tol)
        if further is None:
            break  # the limit of float64
        fit = further
    return fit


def _step(X1: Array, y: NDArray[np.intp], weights: Array, fit: Fit) -> Array:
    """Return minus the inverse Hessian times the gradient, (R, d + 1); intercepts last."""
    W = np.column_stack([fit.coef, fit.intercept])
    n_rows, width = W.shape
    logits = X1 @ W.T
    p = expit(logits) if n_rows == 1 else softmax(logits, axis=1)
    targets = (y[:, np.newaxis] == (np.arange(n_rows) if n_rows > 1 else [1])).astype(np.float64)
    penalised = np.append(np.ones(width - 1), 0.0)
    gradient = (weights[:, np.newaxis] * (p - targets)).T @ X1 + W * penalised
    hessian = np.empty((n_rows, width, n_rows, width))
    for k in range(n_rows):
        for j in range(k + 1):
            curvature = weights * p[:, k] * ((k == j) - p[:, j])
            block = X1.T @ (curvature[:, np.newaxis] * X1) + (k == j) * np.diag(penalised)
            hessian[k, :, j, :] = hessian[j, :, k, :] = block
    if n_rows > 1:  # a constant added to all intercepts changes nothing; this fixes their sum
        hessian[:, -1, :, -1] += np.mean(np.einsum("kk->k", hessian[:, -1, :, -1]))
    flat = hessian.reshape(n_rows * width, -1)
    try:
        step = cho_solve(cho_factor(flat), gradient.ravel())
    except LinAlgError:  # no curvature along an intercept, since all probabilities are near 0 or 1
        step = np.linalg.lstsq(flat, gradient.ravel())[0]
    return -step.reshape(W.shape)


def _shortened(
    X: Array, y: NDArray[np.intp], C: float, sample_weight: Array | None, fit: Fit, step: Array, tol: float
) -> Fit | None:
    """Return the fit after the largest halving of the step that improves it, or None."""
    for halvings in range(HALVINGS):
        part = step / 2**halvings
        coef = fit.coef + part[:, :-1]
        proof: Certificate = certify(X, y, C, coef, fit.intercept + part[:, -1], sample_weight)
        if proof.objective < fit.objective or (proof.gap < fit.gap and proof.objective <= fit.objective * (1 + 1e-14)):
            return fit_of(coef, proof, n_iter=fit.n_iter + 1, tol=tol)
    return None
