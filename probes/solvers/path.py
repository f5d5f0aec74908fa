"""Fits along a path of penalties: each starts from the nearest one before, and the chosen one is refined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.grids import PenaltyGrid
from probes.solvers import Fit, LogisticProblem, is_searched, lbfgs_layers
from probes.solvers.example_space import ExampleSpace, pays
from probes.solvers.fit import empty_fit
from probes.solvers.solver_settings import SolverSettings

# Values of C that probes choose from by default; extended where the best lies at an edge.
CS = (0.001, 0.01, 0.1, 1.0, 10.0)
# Relative gap at which fits along a path are compared: it changes losses far less than the step to a neighbour does.
COMPARED = 1e-4
# Losses (nats) that differ by no more are equal at the edge of a grid that may be extended: fits along a path are not
# compared more exactly than this.
EQUAL = 1e-4
USUAL = SolverSettings()
Judge = Callable[[Fit], float | NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class PenaltyPath:
    """Fits along a path of C.

    Attributes
    ----------
    Cs : tuple of float
        The values that were fitted, ascending.
    losses : tuple of float
        The mean of the judge's losses of each fit.
    best : int
        The position of the least loss, or of the smallest C that is as good (see `probes.grids.chosen`).
    side : int
        Where a better C may lie beyond the grid: -1 below its smallest C, 1 above its largest, 0 for neither.
    n_extended : int
        Number of values, a decade apart, by which the grid was extended.
    fit : Fit
        The fit at the best C, refined to `tol`.
    n_iter : int
        Iterations of all fits.
    unfinished : tuple of (float, Fit)
        C and fit of those that did not reach their tolerance.
    """

    Cs: tuple[float, ...]
    losses: tuple[float, ...]
    best: int
    side: int
    n_extended: int
    fit: Fit
    n_iter: int
    unfinished: tuple[tuple[float, Fit], ...]


def fit_paths(
    layers: Sequence[Any],
    y: NDArray[np.intp],
    Cs: Sequence[float],
    judges: Sequence[Judge],
    *,
    starts: Sequence[Fit | None],
    most_decades: int = 0,
    settings: SolverSettings = USUAL,
) -> list[PenaltyPath]:
    r"""Fit logistic probes along a path of penalties on each of several layers, and refine the best of each layer.

    Fits go from the smallest C to the largest, each to a relative gap of 1e-4 and from the fit before, and end where
    the loss has risen twice in a row, or once clearly (see `probes.grids.is_clear_rise`). Where a better C may lie
    beyond the edge of the grid (see `probes.grids.wider`), the grid is extended, a decade at a time. The best fit is
    then refined to `tol`. Where there are far more features than examples, all fits are made in the space of the
    examples, which gives the same solutions. Layers of equal width are searched together.

    Parameters
    ----------
    layers : sequence of array, shape (n, d), or of objects whose slices are such arrays
        Standardised training features.
    y : array, shape (n,), int
        Class codes 0 … K - 1.
    Cs : sequence of float, > 0
        One or more. A single one is fitted to `tol` at once.
    judges : sequence of callable
        One per layer: takes a `Fit` and returns the losses of the same examples each time, shape (m,), such as log
        losses of validation rows, or their mean.
    starts : sequence of Fit or None
        One per layer: where its first fit starts, such as the fit of this layer at an earlier checkpoint.
    most_decades : int, >= 0, default 0
        Decades by which the grid may be extended. A grid of a single C is never extended.
    settings : SolverSettings
        Solver, tolerance, limit of iterations and device.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> paths = fit_paths([X, -X], y, (0.1, 1.0), [lambda fit: fit.objective] * 2, starts=[None, None])
    >>> [path.best for path in paths]
    [0, 0]
    """
    searches = [
        _Search(X, y, judge, start, Cs, most_decades, settings)
        for X, judge, start in zip(layers, judges, starts, strict=True)
    ]
    tol = settings.tol
    compared = tol if len(Cs) == 1 else max(tol, COMPARED)
    while going := [(search, C) for search in searches if (C := search.grid.next_value()) is not None]:
        for (search, C), fit in zip(going, _fits(going, compared), strict=True):
            search.add(C, fit)
    rough = [
        (search, search.grid.best)
        for search in searches
        if compared > tol and not search.fits[search.grid.best].relative_gap <= tol
    ]
    for (search, C), fit in zip(rough, _fits(rough, tol), strict=True):
        search.fits[C] = fit
    return [search.path() for search in searches]


class _Search:
    """The search along the path of one layer, in the space of the examples where that is smaller."""

    def __init__(
        self,
        X: Any,
        y: NDArray[np.intp],
        judge: Judge,
        start: Fit | None,
        Cs: Sequence[float],
        most_decades: int,
        settings: SolverSettings,
    ) -> None:
        self.X, self.y, self.settings = X, y, settings
        self._judge, self._start = judge, start
        self.grid = PenaltyGrid(Cs, sign=1, equal=EQUAL, most_decades=most_decades, null=self._loss_without_features)
        self.fits, self._n_iter = dict[float, Fit](), 0
        reduce = pays(X, len(Cs))
        self._space = ExampleSpace(X) if reduce else None
        # Layers of equal kind can be searched together.
        alone = reduce or not isinstance(X, np.ndarray) or not is_searched(settings.solver, y, X.shape[1])
        self.kind = None if alone else X.shape

    def _loss_without_features(self) -> float:
        return float(np.mean(self._judge(empty_fit(self.y, 1.0, None, self.X.shape[1]))))

    def start_of(self, C: float) -> Fit | None:
        """Return the start of a search: the fit of the nearest C."""
        if not self.fits:
            return self._start
        return self.fits[min(self.fits, key=lambda other: abs(log(other / C)))]

    def add(self, C: float, fit: Fit) -> None:
        """Record the fit of a C and its losses."""
        self.fits[C] = fit
        self.grid.add(C, self._judge(fit))

    def counted(self, fit: Fit) -> Fit:
        """Count the iterations of a fit."""
        self._n_iter += fit.n_iter
        return fit

    def fit(self, C: float, start: Fit | None, tol: float) -> Fit:
        """Return a fit to a relative gap."""
        if self._space is None:
            return self.settings.solve(self.X, self.y, C, start=start, tol=tol)
        reduced = None if start is None else self._space.reduced(start)
        small = self.settings.solve(self._space.X, self.y, C, start=reduced, tol=tol / 2)
        fit = self._space.expanded(small, self.y, C, tol=tol)
        if fit.converged or not small.converged:
            return fit
        # Rounding took digits that are recovered here.
        further = self.settings.solve(self.X, self.y, C, start=fit, tol=tol)
        return replace(further, n_iter=fit.n_iter + further.n_iter)

    def path(self) -> PenaltyPath:
        """Return the fits that were made, and the chosen one."""
        tried, best = tuple(self.grid.tried), self.grid.best
        return PenaltyPath(
            Cs=tried,
            losses=tuple(self.grid.losses[C] for C in tried),
            best=tried.index(best),
            side=self.grid.side,
            n_extended=self.grid.n_extended,
            fit=replace(self.fits[best], curvature=None),  # which is of no use for other features
            n_iter=self._n_iter,
            unfinished=tuple((C, self.fits[C]) for C in tried if not self.fits[C].converged),
        )


def _fits(going: Sequence[tuple[_Search, float]], tol: float) -> list[Fit]:
    """Return a fit for each layer at its C; layers of equal kind are fitted together."""
    if len(going) > 1 and going[0][0].kind is not None and len({search.kind for search, _ in going}) == 1:
        problems = [
            LogisticProblem(y=search.y, C=C, start=search.start_of(C), same_features=bool(search.fits))
            for search, C in going
        ]
        limits = {**going[0][0].settings.limits, "tol": tol}
        fits = lbfgs_layers([search.X for search, _ in going], problems, **limits)
    else:
        fits = [search.fit(C, search.start_of(C), tol) for search, C in going]
    return [search.counted(fit) for (search, _), fit in zip(going, fits, strict=True)]
