"""Fits along a path of penalties: each starts from the one before, and what is chosen is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.reduction import Reduction, pays
from probes.solvers import Fit, Problem, is_searched, lbfgs_layers, solver_named

Array = NDArray[np.float64]

# Penalties that probes choose from unless told: ten thousandfold, since layers and networks differ in what suits them.
CS = (0.001, 0.01, 0.1, 1.0, 10.0)
# Relative gap at which fits along a path are compared: their losses differ by far less than between neighbours.
COMPARED = 1e-4
# Losses that rise so many times in a row will not fall again.
RISES = 2
# Losses that differ by less are equal.
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Path:
    """Fits along a path of C.

    Attributes
    ----------
    Cs : tuple of float
        Ascending; those that were fitted.
    losses : tuple of float
        What the judge said of each.
    best : int
        The position of the least loss; of the smallest C, where some are equal.
    fit : Fit
        The fit at that C, finished.
    n_iter : int
        Iterations of all fits.
    unfinished : tuple of (float, Fit)
        C and fit of those that did not reach their tolerance.
    """

    Cs: tuple[float, ...]
    losses: tuple[float, ...]
    best: int
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
    **settings: Any,
) -> Path:
    r"""Fit logistic probes along a path of penalties, and finish the one that a judge likes best.

    Fits go from the smallest C to the largest, each from the one before and to a relative gap of 1e-4, and end where
    the loss has risen twice in a row. The best of them is then taken to `tol`. Where there are far more features than
    examples, all fits are made in the space of the examples, which gives the same.

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
    return fit_paths([X], y, Cs, [judge], starts=[start], **settings)[0]


def fit_paths(
    layers: Sequence[Any],
    y: NDArray[np.intp],
    Cs: Sequence[float],
    judges: Sequence[Callable[[Fit], float]],
    *,
    starts: Sequence[Fit | None],
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
    y, Cs, sample_weight, solver, tol, max_iter, device
        As for `fit_path`.
    judges, starts
        One a layer.

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
    ways = [
        _Way(X, y, judge, start, solver, settings, reduce=pays(X, len(Cs)))
        for X, judge, start in zip(layers, judges, starts, strict=True)
    ]
    ordered = sorted(Cs)
    compared = tol if len(ordered) == 1 else max(tol, COMPARED)
    for C in ordered:
        going = [way for way in ways if not way.has_ended]
        for way, fit in zip(going, _fits(going, [C] * len(going), compared), strict=True):
            way.go_on(fit)
    rough = [way for way in ways if compared > tol and not way.fits[way.best].relative_gap <= tol]
    for way, fit in zip(rough, _fits(rough, [ordered[way.best] for way in rough], tol, finish=True), strict=True):
        way.fits[way.best] = fit
    return [way.path(ordered) for way in ways]


class _Way:
    """A layer on its way along the path, in the space of the examples where that is smaller."""

    def __init__(
        self,
        X: Any,
        y: NDArray[np.intp],
        judge: Callable[[Fit], float],
        start: Fit | None,
        solver: str,
        settings: dict[str, Any],
        *,
        reduce: bool,
    ) -> None:
        self.X, self.y, self.settings = X, y, settings
        self._judge, self._start = judge, start
        self._solve = solver_named(solver)
        self._reduction = Reduction(X) if reduce else None
        self.fits, self._losses, self._n_iter = list[Fit](), list[float](), 0
        # Searches of these can be joined.
        self.kind = X.shape if not reduce and isinstance(X, np.ndarray) and is_searched(solver, y, X.shape[1]) else None

    @property
    def has_ended(self) -> bool:
        """Whether the loss has risen too often in a row."""
        last = self._losses[-RISES - 1 :]
        return len(last) > RISES and all(before < after for before, after in pairwise(last))

    @property
    def best(self) -> int:
        least = np.nanmin(self._losses)
        return next(i for i, loss in enumerate(self._losses) if loss <= least + ROUNDING * abs(least))

    def from_where(self, *, finish: bool) -> Fit | None:
        """Return the fit that the next search starts from."""
        if finish:
            return self.fits[self.best]
        return self.fits[-1] if self.fits else self._start

    def go_on(self, fit: Fit) -> None:
        """Note the fit of the next C."""
        self.fits.append(fit)
        self._losses.append(self._judge(fit))

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

    def path(self, ordered: Sequence[float]) -> Path:
        """Return what was found."""
        tried = tuple(ordered[: len(self.fits)])
        return Path(
            Cs=tried,
            losses=tuple(self._losses),
            best=self.best,
            fit=self.fits[self.best],
            n_iter=self._n_iter,
            unfinished=tuple((C, fit) for C, fit in zip(tried, self.fits, strict=True) if not fit.converged),
        )


def _fits(ways: Sequence[_Way], Cs: Sequence[float], tol: float, *, finish: bool = False) -> list[Fit]:
    """Return a fit for each layer, of all at once where they are of a kind."""
    starts = [way.from_where(finish=finish) for way in ways]
    if len(ways) > 1 and ways[0].kind is not None and len({way.kind for way in ways}) == 1:
        settings = dict(ways[0].settings)
        weight = settings.pop("sample_weight")
        problems = [
            Problem(y=way.y, C=C, sample_weight=weight, start=start)
            for way, C, start in zip(ways, Cs, starts, strict=True)
        ]
        fits = lbfgs_layers([way.X for way in ways], problems, tol=tol, **settings)
    else:
        fits = [way.fit(C, start, tol) for way, C, start in zip(ways, Cs, starts, strict=True)]
    return [way.counted(fit) for way, fit in zip(ways, fits, strict=True)]
