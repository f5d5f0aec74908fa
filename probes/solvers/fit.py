"""What every solver returns: a solution with its certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.certificate import Certificate, blocks_of, certify

Array = NDArray[np.float64]


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

    def logits(self, X: Any) -> Array:
        """Return the logits of features that are standardised as those it was fitted to: (n, K), or (n, 1) for two."""
        return np.concatenate([block @ self.coef.T for _, block in blocks_of(X)]) + self.intercept


def fit_of(coef: Array, proof: Certificate, *, n_iter: int, tol: float) -> Fit:
    """Return coefficients and their certificate as a fit."""
    return Fit(
        coef=coef,
        intercept=proof.intercept,
        objective=proof.objective,
        gap=proof.gap,
        n_iter=n_iter,
        converged=bool(proof.gap <= tol * proof.objective < np.inf),
    )


def first_fit(X: Any, y: NDArray[np.intp], C: float, sample_weight: Array | None, start: Fit | None, tol: float) -> Fit:
    """Return what a search starts from: the start, or no coefficients; with the best intercept, certified."""
    n_classes = int(y.max()) + 1
    n_rows = 1 if n_classes == 2 else n_classes
    coef = np.zeros((n_rows, X.shape[1])) if start is None else start.coef
    intercept = np.zeros(n_rows) if start is None else start.intercept
    return fit_of(coef, certify(X, y, C, coef, intercept, sample_weight), n_iter=0, tol=tol)
