"""L-BFGS for many logistic regressions at once, whose products with the features are joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from probes.solvers.certificate import certify
from probes.solvers.feature_products import FeatureProducts, SharedFeatures, StackedLayers, dot, on_cpu
from probes.solvers.fit import Fit, LogisticProblem, certified, empty_fit, fit_of
from probes.solvers.lbfgs_memory import LbfgsMemory
from probes.solvers.logistic_losses import LogisticLosses
from probes.solvers.seen_curvature import SeenCurvature, joined

Array = NDArray[np.float64]
Pairs = tuple[Tensor, Tensor]  # steps and changes of slope, both (P, m, q)
Solution = tuple[Array, Array, int, SeenCurvature | None]  # coefficients, intercepts, iterations

# Constants of the Armijo and Wolfe conditions: least share of the predicted decrease, largest share of the slope.
DECREASE, SLOPE = 1e-4, 0.9
MOST_TRIALS = 30
# Multiply-adds per pass. Below this a second thread gains little, and on a busy machine waiting for it costs more than
# the work itself.
WORTH_A_SECOND_THREAD = 1e8
REFRESH = 25  # iterations after which logits are recomputed, since rounding errors accumulate
# Relative rounding of an objective, by precision.
ROUNDING = {torch.float32: 2e-7, torch.float64: 1e-15}
# Relative gaps that a search in that precision cannot reach.
LEAST = {torch.float32: 1e-7, torch.float64: 0.0}
# Relative gap below which unknowns are chosen by the curvature of the loss, since the probabilities of most examples
# change little from there on; the passes that this saves in a search from further away; and the gap from which on a
# search is too short to choose them again.
SETTLED, PASSES_OF_SETTLED, NEARLY_DONE = 1.0, 8, 1e-5
# Share of the tolerance that a search aims at, since its own estimate of the gap is less exact than the certificate.
AIM = 0.7


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
    softmax cross-entropy over K rows, or one sigmoid row when K = 2. The search uses single precision as long as it
    makes progress, then double; the gap is always computed in double (`probes.solvers.certificate.certify`).

    The function does not check, center or scale X, and it does not warn: read `converged`.

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
        Start of the search: the fit of a neighbouring C, or of the layer at another checkpoint.
    tol : float, > 0
        Largest relative duality gap of a converged fit.
    max_iter : int, >= 1
        Largest number of iterations, over both precisions.
    device : str, default "cpu"
        Device on which torch multiplies.

    Returns
    -------
    Fit
        `coef`, `intercept`, `objective`, `gap`, `n_iter` (0 if the start is good enough) and `converged`.

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
    problem = LogisticProblem(y=y, C=C, sample_weight=sample_weight, start=start)
    return lbfgs_many(X, [problem], tol=tol, max_iter=max_iter, device=device)[0]


def lbfgs_many(
    X: Array, problems: Sequence[LogisticProblem], *, tol: float = 1e-6, max_iter: int = 1000, device: str = "cpu"
) -> list[Fit]:
    """Minimise several logistic objectives that share their features; each fit equals that of `lbfgs` alone.

    The coefficients of all problems are multiplied with X together, which is faster than one after the other. Each
    problem has its own curvature, step and end. Problems have the same number of classes; iterations are counted per
    problem.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> [fit.converged for fit in lbfgs_many(X, [LogisticProblem(y=y, C=C) for C in (0.1, 1.0)])]
    [True, True]
    """
    return _minimise([X] * len(problems), problems, lambda *of: SharedFeatures(X, *of), tol, max_iter, device)


def lbfgs_layers(
    layers: Sequence[Array],
    problems: Sequence[LogisticProblem],
    *,
    tol: float = 1e-6,
    max_iter: int = 1000,
    device: str = "cpu",
) -> list[Fit]:
    """Minimise a logistic objective on each of several layers of equal width; each fit equals that of `lbfgs` alone.

    All layers are held in memory, with a copy in single precision. On a GPU and on busy processors this is far faster
    than one after the other, since each step is larger. Layers have one shape, their problems the same number of
    classes; iterations are counted per problem.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> fits = lbfgs_layers([X, X - 1.0], [LogisticProblem(y=y, C=1.0)] * 2)
    >>> bool(abs(fits[0].objective - fits[1].objective) < 1e-4)
    True
    """
    return _minimise(layers, problems, None, tol, max_iter, device)


_RowsOf = Callable[[torch.dtype, str, int], FeatureProducts]


def _minimise(
    features: Sequence[Array],
    problems: Sequence[LogisticProblem],
    shared: _RowsOf | None,
    tol: float,
    max_iter: int,
    device: str,
) -> list[Fit]:
    """Minimise the objective of each problem on its features; `shared` is None unless all features are one array."""
    n_outputs = 1 if problems[0].y.max() == 1 else int(problems[0].y.max()) + 1
    n_multiplied = features[0].shape[0] * features[0].shape[1] * n_outputs * len(problems)
    with threadpool_limits(1 if n_multiplied < WORTH_A_SECOND_THREAD else None):
        fits = [_start(X, each, tol) for X, each in zip(features, problems, strict=True)]
        for dtype in (torch.float32, torch.float64):
            if not all(fit.converged for fit in fits):
                _improve(fits, features, problems, dtype, shared, tol, max_iter, device)
    return fits


def _start(X: Array, problem: LogisticProblem, tol: float) -> Fit:
    if problem.start is None:
        return empty_fit(problem.y, problem.C, problem.sample_weight, X.shape[1])
    if problem.same_features:  # of another C or tolerance, so that its certificate would say nothing
        return replace(problem.start, objective=np.inf, gap=np.inf, n_iter=0, converged=False)
    return certified(X, problem.y, problem.C, problem.start, problem.sample_weight, tol)


def _improve(
    fits: list[Fit],
    features: Sequence[Array],
    problems: Sequence[LogisticProblem],
    dtype: torch.dtype,
    shared: _RowsOf | None,
    tol: float,
    max_iter: int,
    device: str,
) -> None:
    """Improve fits until the certificate reaches the tolerance or the limit of the precision."""
    least = LEAST[dtype]
    aims = {i: max(AIM * tol, least) for i, fit in enumerate(fits) if not fit.converged and fit.n_iter < max_iter}
    if not aims:
        return
    rows = None if shared is None else shared(dtype, device, sum(len(fits[i].coef) for i in aims))
    while aims:
        used = rows or StackedLayers([features[i] for i in aims], dtype, device, len(fits[0].coef))
        with np.errstate(over="ignore", invalid="ignore"):  # overflow ends in a search without a step
            descent = _Descent(used, [problems[i] for i in aims], [fits[i] for i in aims])
            solutions = descent.run(list(aims.values()), [max_iter - fits[i].n_iter for i in aims])
        for (i, aim), (coef, intercept, n_iter, seen) in zip(list(aims.items()), solutions, strict=True):
            if len(coef) > 1:
                coef -= coef.mean(axis=0)  # a constant over classes is free, and the optimum has none
            proof = certify(features[i], problems[i].y, problems[i].C, coef, intercept, problems[i].sample_weight)
            further = replace(fit_of(coef, proof, n_iter=fits[i].n_iter + n_iter, tol=tol), curvature=seen)
            is_better = further.objective < fits[i].objective or further.gap < fits[i].gap
            fits[i] = further if is_better else replace(fits[i], n_iter=further.n_iter)
            aims[i] = max(aim * min(0.5, tol / further.relative_gap), least) if further.gap > 0 else aim
            if not (is_better and n_iter) or further.converged or further.n_iter >= max_iter or aim <= least:
                del aims[i]


class _Descent:
    """Descent of P problems at once in one precision; steps are chosen in the unknowns of `FeatureProducts`."""

    def __init__(self, rows: FeatureProducts, problems: Sequence[LogisticProblem], fits: Sequence[Fit]) -> None:
        self._rows = rows
        W = rows.tensor(np.stack([fit.coef for fit in fits]))
        self._n_rows = W.shape[1]
        self._size = self._value = self._gap = np.zeros(len(W))
        self._is_settled = False
        self._w = torch.cat([W.flatten(1), rows.tensor(np.stack([fit.intercept for fit in fits]))], dim=1)
        self._losses = LogisticLosses(rows, problems, self._n_rows)
        self._Cs = rows.tensor(np.array([problem.C for problem in problems]))
        self._seen = self._take_over(problems, fits)

    def run(self, aims: Sequence[float], most: Sequence[int]) -> list[Solution]:
        """Descend until each gap is below its aim or no step helps."""
        solutions: dict[int, Solution] = {}
        alive, aim, limit = np.arange(len(aims)), np.asarray(aims), np.asarray(most)
        self._survey()
        memory = self._flatten()
        D, stuck = memory.direction(self._slopes), np.zeros(len(alive), dtype=bool)
        for n_iter in range(int(limit.max()) + 1):
            if not self._is_settled and self._is_below(SETTLED):
                memory = self._flatten_settled() or memory
                D = memory.direction(self._slopes)
            ended = (self._gap <= aim[alive] * self._value) | stuck | (n_iter >= limit[alive])
            if ended.any():
                for p in map(int, np.flatnonzero(ended)):
                    solutions[int(alive[p])] = (*self._solution(p), n_iter, self._met(memory, p))
                if ended.all():
                    break
                left = _closed_up(~ended)
                alive, D = alive[left], D[torch.as_tensor(left, device=D.device)]
                memory.only(left)
                self._only(left)
            D, stuck = self._iterate(memory, D, refresh=n_iter % REFRESH == REFRESH - 1)
        return [solutions[i] for i in range(len(aims))]

    def _flatten(self) -> LbfgsMemory:
        """Choose unknowns where the search starts; return a memory for them, of the curvature that starts have met."""
        curvatures = self._losses.curvatures()
        self._is_settled = self._seen is not None or self._is_below(SETTLED)
        if self._seen is not None:  # the unknowns are those of the starts
            self._slopes = self._inwards()
            return self._filled(curvatures, self._seen)
        if not (self._rows.is_flattened and self._is_below(NEARLY_DONE)):
            if not (self._is_settled and self._rows.flatten(curvatures)):
                self._rows.flatten()
            self._slopes = self._inwards()
        return self._filled(curvatures, None)

    def _flatten_settled(self) -> LbfgsMemory | None:
        """Choose unknowns where the search has settled; return an empty memory for them, or None if that costs more."""
        self._is_settled = True
        curvatures = self._losses.curvatures()
        if not self._rows.flatten(curvatures, passes=PASSES_OF_SETTLED):
            return None
        self._slopes = self._inwards()
        return self._filled(curvatures, None)

    def _filled(self, curvatures: Tensor, pairs: Pairs | None) -> LbfgsMemory:
        """Return a memory of pairs in the unknowns."""
        memory = LbfgsMemory(1.0 / (1.0 + on_cpu(curvatures.sum(1))), self._slopes)
        if pairs is not None:
            memory.fill(*pairs)
        return memory

    def _met(self, memory: LbfgsMemory, p: int) -> SeenCurvature | None:
        """Return the curvature that the search of one problem has met, as far as a fit holds it."""
        steps, changes = memory.pairs_of(p)
        metric, C = self._rows.metric_of(p), float(self._Cs[p])
        return SeenCurvature(steps=steps, changes=changes, n_rows=self._n_rows, C=C, metric=metric).limited

    def _take_over(self, problems: Sequence[LogisticProblem], fits: Sequence[Fit]) -> Pairs | None:
        """Return the curvature that the starts have met and take over their unknowns, if all are of these features."""
        seen = [
            fit.curvature.at(problem.C)
            for fit, problem in zip(fits, problems, strict=True)
            if problem.same_features and fit.curvature is not None and fit.curvature.fits(self._w)
        ]
        metrics = [each.metric for each in seen if each.metric is not None]
        if len(metrics) < len(problems) or not self._rows.adopt(metrics):
            return None
        return joined(seen, self._w)

    def _is_below(self, gap: float) -> bool:
        """Return whether the relative gaps of all problems are below a value."""
        return bool((self._gap <= gap * self._value).all())

    def _iterate(self, memory: LbfgsMemory, D: Tensor, *, refresh: bool) -> tuple[Tensor, NDArray[np.bool_]]:
        """Take one step along directions D (P, q); return the next directions, and which problems found no step."""
        slope = on_cpu(dot(self._slopes, D))
        uphill = ~(slope < 0)
        if uphill.any():  # by rounding in the memory
            memory.forget(uphill)
            D = torch.where(torch.as_tensor(uphill, device=D.device)[:, None], -self._slopes, D)
            slope = on_cpu(dot(self._slopes, D))
        way = self._outwards(D)
        self._losses.look(way)
        across, of_way = self._penalties(way)
        t, stuck = self._search(slope, across, of_way)
        step = self._rows.tensor(t)[:, None]
        self._w = torch.addcmul(self._w, step, way)
        self._size = self._size + t * (2 * across + t * of_way)
        before = self._slopes
        self._measure()
        memory.remember(step * D, self._slopes - before)
        if refresh:
            self._survey()
        return memory.direction(self._slopes), stuck

    def _search(self, slope: Array, across: Array, of_way: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return a step (P,) that satisfies both conditions for each problem, or 0, and which problems found none."""
        n, start = len(slope), self._value
        low, high = np.zeros(n), np.full(n, np.inf)
        slope_low, slope_high = slope.copy(), np.full(n, np.nan)
        t, settled = np.ones(n), np.zeros(n, dtype=bool)
        noise = ROUNDING[self._rows.dtype] * np.abs(start)
        for _ in range(MOST_TRIALS):
            losses, along = self._losses.trial(t)
            value = losses + 0.5 * (self._size + t * (2 * across + t * of_way))
            along = along + across + t * of_way
            too_far = ~(value <= start + DECREASE * t * slope + noise) | ~(along <= -slope)
            too_near = ~too_far & (along < SLOPE * slope)
            settled = ~too_far & ~too_near
            if settled.all():
                break
            low, slope_low = np.where(too_near, t, low), np.where(too_near, along, slope_low)
            high, slope_high = np.where(too_far, t, high), np.where(too_far, along, slope_high)
            t = np.where(settled, t, _between(low, high, slope_low, slope_high))
        self._losses.accept(losses, settled)
        self._value = np.where(settled, value, start)
        return np.where(settled, t, 0.0), ~settled

    def _survey(self) -> None:
        """Recompute losses, penalties and gradients from the coefficients."""
        self._losses.move_to(self._w)
        W, _ = self._split(self._w)
        self._size = on_cpu(dot(W, W))
        self._value = self._losses.values + 0.5 * self._size
        self._measure()

    def _measure(self) -> None:
        """Update the gradients in the unknowns, (P, q), and the estimated gaps."""
        of_W, of_b = self._split(self._losses.slope())
        W, _ = self._split(self._w)
        G = of_W + W
        # At the best intercept, half the squared gradient is the duality gap.
        self._gap = 0.5 * on_cpu(dot(G, G) + dot(of_b, of_b))
        self._gradient = G, of_b
        self._slopes = self._inwards()

    def _inwards(self) -> Tensor:
        """Return the gradients in the unknowns, (P, q), of those in the coefficients."""
        of_W, of_b = self._gradient
        return torch.cat([self._rows.inwards(of_W).flatten(1), of_b], dim=1)

    def _outwards(self, D: Tensor) -> Tensor:
        of_W, of_b = self._split(D)
        return torch.cat([self._rows.outwards(of_W).flatten(1), of_b], dim=1)

    def _penalties(self, way: Tensor) -> Array:
        """Return the inner products of directions with the coefficients, and with themselves, (2, P)."""
        (W, _), (D, _) = self._split(self._w), self._split(way)
        return on_cpu(torch.stack([dot(W, D), dot(D, D)]))

    def _solution(self, p: int) -> tuple[Array, Array]:
        W, b = self._split(self._w[p : p + 1])
        return on_cpu(W[0]), on_cpu(b[0])

    def _split(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return w[:, : -self._n_rows].view(len(w), self._n_rows, -1), w[:, -self._n_rows :]

    def _only(self, left: NDArray[np.intp]) -> None:
        index = torch.as_tensor(left, device=self._w.device)
        self._rows.only(left)
        self._losses.only(index)
        self._w, self._slopes = self._w[index], self._slopes[index]
        self._gradient = self._gradient[0][index], self._gradient[1][index]
        self._Cs = self._Cs[index]
        self._value, self._size, self._gap = self._value[left], self._size[left], self._gap[left]


def _closed_up(stay: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the former place of each remaining problem, after the last ones have filled the gaps."""
    places = np.flatnonzero(stay)
    n = len(places)
    order = np.arange(n)
    order[~stay[:n]] = places[places >= n]
    return order


def _between(low: Array, high: Array, slope_low: Array, slope_high: Array) -> Array:
    """Return a step well inside the interval where the slope may vanish, by linear interpolation."""
    with np.errstate(all="ignore"):
        share = np.nan_to_num(-slope_low / (slope_high - slope_low), nan=0.5)
        inside = low + np.clip(share, 0.1, 0.9) * (high - low)
    return np.where(np.isinf(high), np.maximum(2.0 * low, 1e-3) * 2.0, inside)
