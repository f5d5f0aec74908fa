"""What a solver is asked: one logistic regression on features that it shares with others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.solvers.fit import Fit

Array = NDArray[np.float64]


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
