"""Certificate of optimality for L2-penalised logistic regression: the duality gap, computed from the gradient."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.features import row_blocks

Array = NDArray[np.float64]

NEWTON_STEPS = 200
ROUNDING = 1e-13
FLOOR = 1e-100  # of curvature and step, to avoid division by zero


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Bound on the distance of (W, b) from the optimum; see `certify`."""

    intercept: Array  # (n_rows,) the best intercept for the given W
    objective: float
    gap: float


def certify(
    X: Any, y: NDArray[np.intp], C: float, coef: Array, intercept: Array, sample_weight: Array | None = None
) -> Certificate:
    r"""Return a bound on the distance of a logistic regression from its optimum.

    The objective, with one row of `W` per class (softmax), or a single row for two classes (sigmoid), is

    .. math:: P(W, b) = C \sum_i s_i \, \ell(y_i, W x_i + b) + \tfrac12 \lVert W \rVert_F^2 .

    Write :math:`\alpha_i = C s_i (p_i - y_i)` for the residuals at the best intercept of this `W`, where
    :math:`\sum_i \alpha_i = 0`. Then :math:`\alpha` is feasible for the dual problem, and the duality gap is

    .. math:: P(W, b) - D(\alpha) = \tfrac12 \lVert G \rVert_F^2, \qquad G = W + \alpha^\top X .

    So :math:`P - P^* \le` gap, and by strong convexity :math:`\lVert W - W^* \rVert_F \le \sqrt{2\,\mathrm{gap}}`.

    Parameters
    ----------
    X : array, shape (n, d), float64 or float32, or an object whose slices are such arrays
        Features. All sums are in double precision.
    y : array, shape (n,), int
        Class codes 0 … K - 1.
    C : float, > 0
        Weight of the data against the penalty.
    coef : array, shape (K, d), or (1, d) when K = 2
        `W`.
    intercept : array, shape (K,), or (1,) when K = 2
        Start of the search for the best intercept.
    sample_weight : array, shape (n,), >= 0, optional
        s; all ones by default.

    Returns
    -------
    Certificate
        The best `intercept` for these coefficients (it sums to zero when K > 2, where a common constant is arbitrary);
        `objective`, > 0, and `gap`, >= 0, both at the coefficients and this intercept. The gap is infinite if the
        search for the best intercept failed, which may happen if logits are in the hundreds and wrong.

    References
    ----------
    Yu, Huang and Lin (2011). Dual coordinate descent methods for logistic regression and maximum entropy models.
    Machine Learning 85, 41-75 (the dual problem).

    Examples
    --------
    >>> X, y = np.array([[-1.0], [1.0]]), np.array([0, 1])
    >>> certificate = certify(X, y, 1.0, coef=np.zeros((1, 1)), intercept=np.zeros(1))
    >>> float(certificate.gap)
    0.5
    """
    weights = np.ones(len(y)) if sample_weight is None else sample_weight
    margins = _with_reference(np.concatenate([coef @ block.T for _, block in row_blocks(X)], axis=1))  # (K, n)
    reference = _with_reference(intercept[:, np.newaxis])
    best, residuals, loss = _at_best_intercept(margins, y, weights, reference)
    gradient = coef.copy()
    for rows, block in row_blocks(X):
        gradient += C * residuals[-len(coef) :, rows] @ block
    return Certificate(
        intercept=best[1:] - best[:1] if len(coef) == 1 else best - best.mean(),
        objective=C * loss + 0.5 * float(np.vdot(coef, coef)),
        gap=0.5 * float(np.vdot(gradient, gradient)) if _balanced(residuals, weights) else np.inf,
    )


def _with_reference(logits: Array) -> Array:
    """Return logits (K, n), with a row of zeros for the first of two classes."""
    return logits if len(logits) > 1 else np.concatenate([np.zeros_like(logits), logits])


def _at_best_intercept(
    margins: Array, y: NDArray[np.intp], weights: Array, intercept: Array
) -> tuple[Array, Array, float]:
    """Return the best intercept (K,), and the residuals (K, n) and the sum of losses at it."""
    # A Newton step that changes the differences between logits by r is shortened to log(1 + r). For the logistic loss
    # this never overshoots, and leaves the last steps nearly whole (generalised self-concordance: Sun and Tran-Dinh
    # 2019, Math. Program. 178).
    examples = np.arange(len(y))
    for step in range(NEWTON_STEPS + 1):
        means = margins + intercept  # (K, n)
        largest = means.max(axis=0)
        own = means[y, examples] - largest
        means -= largest
        np.exp(means, out=means)
        total = means.sum(axis=0)
        means /= total
        residuals = weights * means
        residuals[y, examples] -= weights
        if _balanced(residuals, weights) or step == NEWTON_STEPS:
            break
        change = _newton_step(means, weights, residuals.sum(axis=1))
        size = np.ptp(change) + FLOOR
        intercept = intercept - (change * (np.log1p(size) / size))[:, np.newaxis]
    return intercept[:, 0], residuals, float(weights @ (np.log(total) - own))


def _balanced(residuals: Array, weights: Array) -> bool:
    return bool(np.max(np.abs(residuals.sum(axis=1))) <= ROUNDING * weights.sum())


def _newton_step(means: Array, weights: Array, slope: Array) -> Array:
    # The curvature, diag(p) - p p' summed over examples, is singular along 1. Computing its diagonal from the other
    # entries and scaling it to ones keeps the digits of classes whose probability is near 0 or 1.
    curvature = -(weights * means) @ means.T  # (K, K)
    np.fill_diagonal(curvature, 0.0)
    diagonal = FLOOR - curvature.sum(axis=0)
    scale = 1.0 / np.sqrt(diagonal)
    curvature = scale[:, np.newaxis] * (curvature + np.diag(diagonal)) * scale
    return scale * np.linalg.lstsq(curvature, scale * slope)[0]
