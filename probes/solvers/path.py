"""Fits along a path of penalties: each starts from the one before, and what is chosen is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.grids import chosen, next_decade, wider
from probes.solvers import Fit, LogisticProblem, is_searched, lbfgs_layers, solver_named
from probes.solvers.example_space import ExampleSpace, pays
from probes.solvers.fit import empty_fit

Array = NDArray[np.float64]

# Values of C that probes choose from by default; extended where the best lies at an edge.
CS = (0.001, 0.01, 0.1, 1.0, 10.0)
# Relative gap at which fits along a path are compared: their losses differ by far less than between neighbours.
COMPARED = 1e-4
# Losses that rise so many times in a row will not fall again.
RISES = 2
# Losses (nats) that differ by no more are equal at the edge of a grid that may be extended: fits along a path are not
# compared more exactly than this.
EQUAL = 1e-4


@dataclass(frozen=True, kw_only=True)
class Path:
    """Fits along a path of C.

    Attributes
    ----------
    Cs : tuple of float
        The values that were fitted, ascending.
    losses : tuple of float
        The judge's loss of each fit.
    best : int
        The position of the least loss, or of the smallest C that is as good (see `probes.grids.chosen`).
    side : int
        Where a better C may lie beyond the grid: -1 below its smallest C, 1 above its largest, 0 for neither.
    n_extended : int
        Number of values, a decade apart, by which the grid was extended.
    fit : Fit
        The fit at the best C, finished.
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


def fit_path(
    X: Any,
    y: NDArray[np.intp],
    Cs: Sequence[float],
    judge: Callable[[Fit], float],
    *,
    start: Fit | None = None,
    most_decades: int = 0,
    **settings: Any,
) -> Path:
    r"""Fit logistic probes along a path of penalties, and finish the one with the least loss.

    Fits go from the smallest C to the largest, each from the one before and to a relative gap of 1e-4, and end where
    the loss has risen twice in a row. Where a better C may lie beyond the edge of the grid (see `probes.grids.wider`),
    the grid is extended, a decade at a time. The best fit is then taken to `tol`. Where there are far more features
    than examples, all fits are made in the space of the examples, which gives the same.

    Parameters
    ----------
    X : array, shape (n, d), or what gives such rows by slices
        Standardised training features.
    y : array, shape (n,), int
        Class codes 0 … K - 1.
    Cs : sequence of float, > 0
        One or more. A single one is fitted to `tol` at once.
    judge : callable
        Takes a `Fit`, returns a loss: the log loss on validation rows.
    start : Fit, optional
        Where the first fit starts, such as that of this layer at an earlier checkpoint.
    most_decades : int, >= 0, default 0
        Decades by which the grid may be extended. A grid of a single C is never extended.
    **settings
        `sample_weight` (n,), and `solver`, `tol`, `max_iter` and `device` as in `LogisticProbe`.

    Returns
    -------
    Path

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> fit_path(X, y, (0.1, 1.0), judge=lambda fit: fit.objective).best
    0
    """
    return fit_paths([X], y, Cs, [judge], starts=[start], most_decades=most_decades, **settings)[0]


def fit_paths(
    layers: Sequence[Any],
    y: NDArray[np.intp],
    Cs: Sequence[float],
    judges: Sequence[Callable[[Fit], float]],
    *,
    starts: Sequence[Fit | None],
    most_decades: int = 0,
    sample_weight: Array | None = None,
    solver: str = "auto",
    tol: float = 1e-6,
    max_iter: int = 1000,
    device: str = "cpu",
) -> list[Path]:
    """Fit a path on each of several layers, as `fit_path` does; those of equal width are searched together.

    Parameters
    ----------
    layers : sequence of array, shape (n, d), or what gives such rows by slices
    y, Cs, most_decades, sample_weight, solver, tol, max_iter, device
        As for `fit_path`.
    judges, starts
        One per layer.

    Returns
    -------
    list of Path

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> paths = fit_paths([X, -X], y, (0.1, 1.0), [lambda fit: fit.objective] * 2, starts=[None, None])
    >>> [path.best for path in paths]
    [0, 0]
    """
    settings = {"sample_weight": sample_weight, "max_iter": max_iter, "device": device}
    ordered = sorted(Cs)
    searches = [
        _Search(X, y, judge, start, ordered, most_decades, solver, settings)
        for X, judge, start in zip(layers, judges, starts, strict=True)
    ]
    compared = tol if len(ordered) == 1 else max(tol, COMPARED)
    while going := [(search, C) for search in searches if (C := search.next_C()) is not None]:
        for (search, C), fit in zip(going, _fits(going, compared), strict=True):
            search.add(C, fit)
    rough = [
        (search, search.best)
        for search in searches
        if compared > tol and not search.fits[search.best].relative_gap <= tol
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
        judge: Callable[[Fit], float],
        start: Fit | None,
        Cs: Sequence[float],
        most_decades: int,
        solver: str,
        settings: dict[str, Any],
    ) -> None:
        self.X, self.y, self.settings = X, y, settings
        self._judge, self._start = judge, start
        self._Cs, self._most = Cs, most_decades if len(Cs) > 1 else 0
        self._equal = EQUAL if self._most else 0.0
        self._solve = solver_named(solver)
        reduce = pays(X, len(Cs))
        self._reduction = ExampleSpace(X) if reduce else None
        self.fits, self._losses, self._n_iter = dict[float, Fit](), dict[float, float](), 0
        # Searches of these can be joined.
        self.kind = X.shape if not reduce and isinstance(X, np.ndarray) and is_searched(solver, y, X.shape[1]) else None

    def next_C(self) -> float | None:
        """Return the C that is to be fitted next: of the grid, then of its extension; None where the path ends."""
        rest = [C for C in self._Cs if C not in self.fits]
        if rest and not self._has_risen:
            return rest[0]
        tried, side = sorted(self.fits), self._side
        if not side or self._n_extended == self._most:
            return None
        return next_decade(tried[0] if side < 0 else tried[-1], side)

    @property
    def best(self) -> float:
        """The C that is chosen of those that were fitted."""
        return sorted(self.fits)[chosen(self._along, self._equal)]

    @property
    def _along(self) -> list[float]:
        return [self._losses[C] for C in sorted(self.fits)]

    @property
    def _side(self) -> int:
        return wider(self._along, self._equal, (lambda: self._null) if self._most else None)

    @cached_property
    def _null(self) -> float:
        """The loss of the class rates alone."""
        return self._judge(empty_fit(self.y, 1.0, self.settings["sample_weight"], self.X.shape[1]))

    @property
    def _n_extended(self) -> int:
        return len(self.fits.keys() - set(self._Cs))

    @property
    def _has_risen(self) -> bool:
        """Whether the loss has risen too often in a row."""
        last = self._along[-RISES - 1 :]
        return len(last) > RISES and all(before < after for before, after in pairwise(last))

    def start_of(self, C: float) -> Fit | None:
        """Return the fit that a search starts from: that of the nearest C."""
        if not self.fits:
            return self._start
        return self.fits[min(self.fits, key=lambda other: abs(log(other / C)))]

    def add(self, C: float, fit: Fit) -> None:
        """Note the fit of a C."""
        self.fits[C] = fit
        self._losses[C] = self._judge(fit)

    def counted(self, fit: Fit) -> Fit:
        """Count the iterations of a fit."""
        self._n_iter += fit.n_iter
        return fit

    def fit(self, C: float, start: Fit | None, tol: float) -> Fit:
        """Return a fit to a relative gap."""
        if self._reduction is None:
            return self._solve(self.X, self.y, C, start=start, tol=tol, **self.settings)
        small = self._solve(
            self._reduction.X,
            self.y,
            C,
            start=None if start is None else self._reduction.reduced(start),
            tol=tol / 2,
            **self.settings,
        )
        fit = self._reduction.expanded(small, self.y, C, self.settings["sample_weight"], tol=tol)
        if fit.converged or not small.converged:
            return fit
        further = self._solve(self.X, self.y, C, start=fit, tol=tol, **self.settings)  # of what rounding took
        return replace(further, n_iter=fit.n_iter + further.n_iter)

    def path(self) -> Path:
        """Return what was found."""
        tried = tuple(sorted(self.fits))
        return Path(
            Cs=tried,
            losses=tuple(self._along),
            best=tried.index(self.best),
            side=self._side,
            n_extended=self._n_extended,
            fit=self.fits[self.best],
            n_iter=self._n_iter,
            unfinished=tuple((C, self.fits[C]) for C in tried if not self.fits[C].converged),
        )


def _fits(going: Sequence[tuple[_Search, float]], tol: float) -> list[Fit]:
    """Return a fit for each layer at its C, of all layers at once where they are of a kind."""
    if len(going) > 1 and going[0][0].kind is not None and len({search.kind for search, _ in going}) == 1:
        settings = dict(going[0][0].settings)
        weight = settings.pop("sample_weight")
        problems = [
            LogisticProblem(y=search.y, C=C, sample_weight=weight, start=search.start_of(C)) for search, C in going
        ]
        fits = lbfgs_layers([search.X for search, _ in going], problems, tol=tol, **settings)
    else:
        fits = [search.fit(C, search.start_of(C), tol) for search, C in going]
    return [search.counted(fit) for (search, _), fit in zip(going, fits, strict=True)]
