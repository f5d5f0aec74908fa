"""Fits along a path of penalties: each starts from the one before, and what is chosen is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.reduction import Reduction, pays
from probes.solvers import Fit, Solver, solver_named

Array = NDArray[np.float64]

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
    sample_weight: Array | None = None,
    start: Fit | None = None,
    solver: str = "auto",
    tol: float = 1e-6,
    max_iter: int = 1000,
    device: str = "cpu",
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
    sample_weight : array, shape (n,), optional
    start : Fit, optional
        Where the first fit starts, such as that of this layer at an earlier checkpoint.
    solver, tol, max_iter, device
        As in `LogisticProbe`.

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
    settings = {"sample_weight": sample_weight, "max_iter": max_iter, "device": device}
    fitter = _Fitter(X, y, solver_named(solver), settings, reduce=pays(X, len(Cs)))
    ordered, fits, losses = sorted(Cs), list[Fit](), list[float]()
    for C in ordered:
        start = fitter.fit(C, start, tol if len(ordered) == 1 else max(tol, COMPARED))
        fits.append(start)
        losses.append(judge(start))
        if len(losses) > RISES and all(losses[-k - 1] < losses[-k] for k in range(1, RISES + 1)):
            break
    least = np.nanmin(losses)
    best = next(i for i, loss in enumerate(losses) if loss <= least + ROUNDING * abs(least))
    if not fits[best].relative_gap <= tol:
        fits[best] = fitter.fit(ordered[best], fits[best], tol)
    tried = tuple(ordered[: len(fits)])
    return Path(
        Cs=tried,
        losses=tuple(losses),
        best=best,
        fit=fits[best],
        n_iter=fitter.n_iter,
        unfinished=tuple((C, fit) for C, fit in zip(tried, fits, strict=True) if not fit.converged),
    )


class _Fitter:
    """Fits of one X and y, in the space of the examples where that is smaller."""

    def __init__(self, X: Any, y: NDArray[np.intp], solve: Solver, settings: dict[str, Any], *, reduce: bool) -> None:
        self._X, self._y, self._solve, self._settings = X, y, solve, settings
        self._reduction = Reduction(X) if reduce else None
        self.n_iter = 0

    def fit(self, C: float, start: Fit | None, tol: float) -> Fit:
        """Return a fit to a relative gap."""
        fit = self._fit(C, start, tol)
        self.n_iter += fit.n_iter
        return fit

    def _fit(self, C: float, start: Fit | None, tol: float) -> Fit:
        if self._reduction is None:
            return self._solve(self._X, self._y, C, start=start, tol=tol, **self._settings)
        small = self._solve(
            self._reduction.X,
            self._y,
            C,
            start=None if start is None else self._reduction.reduced(start),
            tol=tol / 2,
            **self._settings,
        )
        fit = self._reduction.expanded(small, self._y, C, self._settings["sample_weight"], tol=tol)
        if fit.converged or not small.converged:
            return fit
        further = self._solve(self._X, self._y, C, start=fit, tol=tol, **self._settings)  # of what rounding took
        return replace(further, n_iter=fit.n_iter + further.n_iter)
