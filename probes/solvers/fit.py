"""Problems that solvers take, and fits that they return: solutions with their certificates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probes.features import row_blocks
from probes.solvers.certificate import Certificate, certify

if TYPE_CHECKING:
    from probes.solvers.seen_curvature import SeenCurvature

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A solution with its certificate: `objective` exceeds the optimum by at most `gap`.

    `curvature` is what the search for it has met of the loss; a search on the same features may start from it.
    """

    coef: Array  # (K, d), or (1, d) for two classes
    intercept: Array  # (K,), or (1,) for two classes
    objective: float
    gap: float
    n_iter: int
    converged: bool
    curvature: SeenCurvature | None = field(default=None, repr=False, compare=False)

    @property
    def relative_gap(self) -> float:
        """The gap as a fraction of the objective, >= 0."""
        return self.gap / self.objective

    def _repr_html_(self) -> str:
        """Show the certificate in a notebook."""
        shown = {
            "coefficients": " × ".join(map(str, self.coef.shape)),
            "objective": f"{self.objective:.6g}",
            "relative gap, at most": f"{self.relative_gap:.3g}",
            "iterations": self.n_iter,
            "converged": self.converged,
        }
        rows = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in shown.items())
        return f"<b>Fit</b><table>{rows}</table>"

    def logits(self, X: Any) -> Array:
        """Return the logits of features standardised like the training rows: (n, K), or (n, 1) for two classes."""
        return np.concatenate([block @ self.coef.T for _, block in row_blocks(X)]) + self.intercept


@dataclass(frozen=True, kw_only=True)
class LogisticProblem:
    """One logistic regression on features that are given apart from it.

    Attributes
    ----------
    y : array, shape (n,), int
        Class codes 0 … K - 1.
    C : float, > 0
        Weight of the data against the penalty.
    sample_weight : array, shape (n,), >= 0, or None
        None means all ones.
    start : Fit or None
        Where the search starts; None means zero coefficients and the log rates of the classes.
    same_features : bool
        Whether the start is a fit to the same features, so that the search need not choose its unknowns again.
    """

    y: NDArray[np.intp]
    C: float
    sample_weight: Array | None = None
    start: Fit | None = None
    same_features: bool = False


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


def certified(X: Any, y: NDArray[np.intp], C: float, fit: Fit, sample_weight: Array | None, tol: float) -> Fit:
    """Return the coefficients of a fit to other data, with their best intercept and certificate for these data."""
    return fit_of(fit.coef, certify(X, y, C, fit.coef, fit.intercept, sample_weight), n_iter=0, tol=tol)


def empty_fit(y: NDArray[np.intp], C: float, sample_weight: Array | None, d: int) -> Fit:
    """Return zero coefficients with the log rates of the classes as intercept; the gap is not computed (infinite)."""
    counts = np.bincount(y, weights=sample_weight)
    logits = np.log(counts / counts.sum())
    return Fit(
        coef=np.zeros((1 if len(counts) == 2 else len(counts), d)),
        intercept=logits[1:] - logits[:1] if len(counts) == 2 else logits - logits.mean(),
        objective=-C * float(counts @ logits),
        gap=np.inf,
        n_iter=0,
        converged=False,
    )
