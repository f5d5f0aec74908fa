"""L-BFGS for many logistic regressions on the same features, as wide products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from probes.certificate import certify
from probes.solvers.fit import Fit, first_fit, fit_of
from probes.solvers.memory import Memory
from probes.solvers.rows import Rows

Array = NDArray[np.float64]

# Armijo's and Wolfe's constants: how much of the decrease that the slope promises, how much of the slope may be left.
DECREASE, SLOPE = 1e-4, 0.9
MOST_TRIALS = 30
# Multiply-adds a pass. Below it a second thread gains little, and on a busy machine waiting for it costs far more than
# the work.
WORTH_A_SECOND_THREAD = 1e8
REFRESH = 25  # iterations after which logits are computed anew, as rounding adds up in them
# Rounding of an objective in units of itself, by the precision that it is computed in.
ROUNDING = {torch.float32: 2e-7, torch.float64: 1e-15}
# Relative gaps below which a search in that precision only wastes iterations.
LEAST = {torch.float32: 1e-7, torch.float64: 0.0}
# The share of the tolerance that the fit itself aims at; the rest is left to what the certificate sees better.
AIM = 0.7


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One logistic regression on features that it shares with others.

    Attributes
    ----------
    y : array, shape (n,), int
        Class codes 0 … K - 1.
    C : float, > 0
    sample_weight : array, shape (n,), or None
        >= 0; None is all ones.
    start : Fit or None
        Where the search starts; None is no coefficients, and the log rates of the classes.
    """

    y: NDArray[np.intp]
    C: float
    sample_weight: Array | None = None
    start: Fit | None = None


def lbfgs(
    X: Array,
    y: NDArray[np.intp],
    C: float,
    *,
    sample_weight: Array | None = None,
    start: Fit | None = None,
    tol: float = 1e-6,
    max_iter: int = 1000,
    device: str = "cpu",
) -> Fit:
    r"""Minimise the logistic objective until the duality gap is small.

    The objective is :math:`P(W, b) = C \sum_i s_i \, \ell(y_i, W x_i + b) + \tfrac12 \lVert W \rVert_F^2`, with the
    softmax cross-entropy over K rows, or one sigmoid row when K = 2. The work is done in single precision as long as it
    makes progress, then in double; the gap is always computed in double (`probes.certificate.certify`).

    It does not check, center or scale X, and it does not warn: read `converged`.

    Parameters
    ----------
    X : array, shape (n, d), float32 or float64, finite
        Features. Standardised ones converge faster.
    y : array, shape (n,), int
        Class codes 0 … K - 1, each of which occurs, K >= 2.
    C : float, > 0
        Weight of the data against the penalty.
    sample_weight : array, shape (n,), >= 0, optional
        s; each class has a weight above zero. All ones by default.
    start : Fit, optional
        Where to start: the fit of a neighbouring C, or of the layer at another checkpoint.
    tol : float, > 0
        Largest relative duality gap of a converged fit.
    max_iter : int, >= 1
        Iterations allowed in all.
    device : str, default "cpu"
        Where torch is to multiply.

    Returns
    -------
    Fit
        `coef`, `intercept`, `objective`, `gap`, `n_iter` (0 where the start is good enough) and `converged`.

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
    problem = Problem(y=y, C=C, sample_weight=sample_weight, start=start)
    return lbfgs_many(X, [problem], tol=tol, max_iter=max_iter, device=device)[0]


def lbfgs_many(
    X: Array, problems: Sequence[Problem], *, tol: float = 1e-6, max_iter: int = 1000, device: str = "cpu"
) -> list[Fit]:
    """Minimise several logistic objectives that share their features; each as `lbfgs` alone would.

    The coefficients of all are multiplied with X at once, which is faster than one after the other. Each has its own
    curvature, its own step and its own end.

    Parameters
    ----------
    X : array, shape (n, d)
    problems : sequence of Problem
        Of one number of classes.
    tol, max_iter, device
        As for `lbfgs`; iterations are counted for each.

    Returns
    -------
    list of Fit

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> [fit.converged for fit in lbfgs_many(X, [Problem(y=y, C=C) for C in (0.1, 1.0)])]
    [True, True]
    """
    n_outputs = sum(1 if each.y.max() == 1 else int(each.y.max()) + 1 for each in problems)
    with threadpool_limits(1 if X.shape[0] * X.shape[1] * n_outputs < WORTH_A_SECOND_THREAD else None):
        fits = [first_fit(X, each.y, each.C, each.sample_weight, each.start, tol) for each in problems]
        for dtype in (torch.float32, torch.float64):
            if not all(fit.converged for fit in fits):
                _improve(fits, X, problems, Rows(X, dtype, device), tol, max_iter)
    return fits


def _improve(fits: list[Fit], X: Array, problems: Sequence[Problem], rows: Rows, tol: float, max_iter: int) -> None:
    """Take fits as far as the precision of the rows allows, or to the tolerance; the certificate decides."""
    least = LEAST[rows.dtype]
    aims = {i: max(AIM * tol, least) for i, fit in enumerate(fits) if not fit.converged}
    rows.flatten(sum(len(fits[i].coef) for i in aims))
    while aims:
        descent = _Descent(rows, [problems[i] for i in aims], [fits[i] for i in aims])
        found = descent.run(list(aims.values()), [max_iter - fits[i].n_iter for i in aims])
        for (i, aim), (coef, intercept, n_iter) in zip(list(aims.items()), found, strict=True):
            if len(coef) > 1:
                coef -= coef.mean(axis=0)  # a constant over classes is free, and the optimum has none
            proof = certify(X, problems[i].y, problems[i].C, coef, intercept, problems[i].sample_weight)
            further = fit_of(coef, proof, n_iter=fits[i].n_iter + n_iter, tol=tol)
            is_better = further.objective < fits[i].objective or further.gap < fits[i].gap
            fits[i] = further if is_better else replace(fits[i], n_iter=further.n_iter)
            aims[i] = max(aim * min(0.5, tol / further.relative_gap), least) if further.gap > 0 else aim
            if not (is_better and n_iter) or further.converged or further.n_iter >= max_iter or aim <= least:
                del aims[i]


class _Descent:
    """The search for P problems at once in one precision: W (P, R, d), b (P, R), logits Z (P, R, n)."""

    def __init__(self, rows: Rows, problems: Sequence[Problem], fits: Sequence[Fit]) -> None:
        self._rows = rows
        self._W = rows.inwards(rows.tensor(np.stack([fit.coef for fit in fits])))
        self._b = rows.tensor(np.stack([fit.intercept for fit in fits]))
        n_rows, shift = self._W.shape[1], int(self._W.shape[1] == 1)  # the one row is that of the second of two classes
        codes = torch.as_tensor(np.stack([problem.y for problem in problems]), device=rows.device)  # (P, n)
        classes = torch.arange(shift, n_rows + shift, device=rows.device)
        self._targets = rows.tensor(codes[:, None] == classes[:, None])  # (P, R, n)
        each = [1.0 if problem.sample_weight is None else problem.sample_weight for problem in problems]
        ones = np.ones(len(problems[0].y))
        scaled = [problem.C * weight * ones for problem, weight in zip(problems, each, strict=True)]
        self._weights = rows.tensor(np.stack(scaled))  # C s, (P, n)

    def run(self, aims: Sequence[float], most: Sequence[int]) -> list[tuple[Array, Array, int]]:
        """Descend until the relative gap, as far as it can be told here, is below its aim, or there is no way down.

        Returns
        -------
        list of (array (R, d), array (R,), int)
            Coefficients, intercept and iterations of each problem.
        """
        found: dict[int, tuple[Array, Array, int]] = {}
        alive, aim, limit = np.arange(len(aims)), np.asarray(aims), np.asarray(most)
        self._Z = self._rows.logits(self._W, self._b)
        loss, curvature, residuals = self._measure(self._Z)
        value = loss + 0.5 * self._product(self._W, self._W)
        g = self._slopes(residuals)
        memory = Memory(len(alive), g.shape[1], 1.0 / (1.0 + curvature), g)
        stuck = np.zeros(len(alive), dtype=bool)
        for n_iter in range(int(limit.max()) + 1):
            small = self._gap(g) <= aim[alive] * value
            ended = small | stuck | (n_iter >= limit[alive])
            if ended.any():
                for p in np.flatnonzero(ended):
                    found[int(alive[p])] = (_on_cpu(self._rows.outwards(self._W[p])), _on_cpu(self._b[p]), n_iter)
                if ended.all():
                    break
                left = np.flatnonzero(~ended)
                alive, value, g = alive[left], value[left], g[torch.as_tensor(left, device=g.device)]
                memory.only(left)
                self._only(left)
            value, g, stuck = self._iterate(memory, value, g, refresh=n_iter % REFRESH == REFRESH - 1)
        return [found[i] for i in range(len(aims))]

    def _iterate(
        self, memory: Memory, value: Array, g: Tensor, *, refresh: bool
    ) -> tuple[Array, Tensor, NDArray[np.bool_]]:
        """Go one step down; return the new values, slopes, and which problems found no way."""
        D, slope = self._downhill(memory, g)
        D_W, D_b = self._split(D)
        Z_D = self._rows.logits(D_W, D_b)
        t, value, residuals, stuck = self._search(D_W, Z_D, value, slope)
        step = self._rows.tensor(t)[:, None]
        self._W, self._b = self._W + step[:, :, None] * D_W, self._b + step * D_b
        self._Z = self._rows.logits(self._W, self._b) if refresh else self._Z + step[:, :, None] * Z_D
        new = self._slopes(residuals)
        memory.update(step * D, new - g)
        return value, new, stuck

    def _downhill(self, memory: Memory, g: Tensor) -> tuple[Tensor, Array]:
        """Return directions (P, q), and the slopes along them (P,), the gradient's where rounding spoiled the rest."""
        D = memory.direction(g)
        slope = _on_cpu((D * g).sum(1))
        uphill = ~(slope < 0)
        if uphill.any():
            memory.forget(uphill)
            D = torch.where(torch.as_tensor(uphill, device=g.device)[:, None], -g, D)
            slope = _on_cpu((D * g).sum(1))
        return D, slope

    def _search(
        self, D_W: Tensor, Z_D: Tensor, start: Array, slope: Array
    ) -> tuple[Array, Array, Tensor, NDArray[np.bool_]]:
        """Find for each problem a step that is short enough and long enough, from the logits alone."""
        n = len(start)
        low, high = np.zeros(n), np.full(n, np.inf)
        slope_low, slope_high = slope.copy(), np.full(n, np.nan)
        t, settled = np.ones(n), np.zeros(n, dtype=bool)
        noise = ROUNDING[self._rows.dtype] * np.abs(start)
        of_W, across, of_D = self._product(self._W, self._W), self._product(self._W, D_W), self._product(D_W, D_W)
        for _ in range(MOST_TRIALS):
            loss, _, residuals = self._measure(self._Z + self._rows.tensor(t)[:, None, None] * Z_D)
            value = loss + 0.5 * (of_W + 2 * t * across + t * t * of_D)
            along = _on_cpu((residuals * Z_D).sum((1, 2))) + across + t * of_D
            too_far = ~(value <= start + DECREASE * t * slope + noise) | ~(along <= -slope)
            too_near = ~too_far & (along < SLOPE * slope)
            settled = ~too_far & ~too_near
            if settled.all():
                break
            low, slope_low = np.where(too_near, t, low), np.where(too_near, along, slope_low)
            high, slope_high = np.where(too_far, t, high), np.where(too_far, along, slope_high)
            t = np.where(settled, t, _between(low, high, slope_low, slope_high))
        return np.where(settled, t, 0.0), np.where(settled, value, start), self._kept(residuals, settled), ~settled

    def _kept(self, residuals: Tensor, settled: NDArray[np.bool_]) -> Tensor:
        """Return the residuals of those that moved, and those of where they were of the others."""
        if settled.all():
            return residuals
        mask = torch.as_tensor(settled, device=residuals.device)[:, None, None]
        return torch.where(mask, residuals, self._measure(self._Z)[2])

    def _measure(self, Z: Tensor) -> tuple[Array, Array, Tensor]:
        """Return losses C s' l (P,), their mean curvatures (P,) and residuals C s (p - y), (P, R, n)."""
        if Z.shape[1] == 1:
            p = torch.sigmoid(Z)
            losses = torch.nn.functional.softplus(Z[:, 0]) - self._targets[:, 0] * Z[:, 0]
        else:
            losses = torch.logsumexp(Z, 1) - (self._targets * Z).sum(1)
            p = torch.softmax(Z, 1)
        total = _on_cpu((self._weights * losses).sum(1, dtype=torch.float64))
        curvature = _on_cpu((self._weights * (1 - p.square().sum(1))).sum(1)) / Z.shape[1]
        return total, curvature, p.sub_(self._targets).mul_(self._weights[:, None])

    def _product(self, one: Tensor, other: Tensor) -> Array:
        """Return inner products (P,) of coefficients of the features as they came."""
        return _on_cpu((one * other * self._rows.penalty).sum((1, 2)))

    def _slopes(self, residuals: Tensor) -> Tensor:
        """Return the gradient of each objective, coefficients before intercepts, (P, R (d + 1))."""
        of_W = self._rows.back(residuals) + self._W * self._rows.penalty
        return torch.cat([of_W.flatten(1), residuals.sum(2)], dim=1)

    def _gap(self, g: Tensor) -> Array:
        """Return half the squared gradients in the features as they came, which the gap is at the best intercept."""
        of_W, of_b = self._split(g)
        return 0.5 * _on_cpu((of_W.square() / self._rows.penalty).sum((1, 2)) + of_b.square().sum(1))

    def _split(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        n_problems, n_rows, d = self._W.shape
        return flat[:, : n_rows * d].reshape(n_problems, n_rows, d), flat[:, n_rows * d :]

    def _only(self, left: NDArray[np.intp]) -> None:
        index = torch.as_tensor(left, device=self._W.device)
        for name in ("_W", "_b", "_Z", "_targets", "_weights"):
            setattr(self, name, getattr(self, name)[index])


def _between(low: Array, high: Array, slope_low: Array, slope_high: Array) -> Array:
    """Return where the slope, which grows along the way, may vanish, well inside the interval."""
    with np.errstate(all="ignore"):
        share = np.nan_to_num(-slope_low / (slope_high - slope_low), nan=0.5)
        inside = low + np.clip(share, 0.1, 0.9) * (high - low)
    return np.where(np.isinf(high), np.maximum(2.0 * low, 1e-3) * 2.0, inside)


def _on_cpu(values: Tensor) -> Array:
    return values.double().cpu().numpy()
