"""Solvers of L2-penalised logistic regression on arrays, listed in SOLVERS by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.solvers.fit import Fit, LogisticProblem
from probes.solvers.lbfgs import lbfgs, lbfgs_layers, lbfgs_many
from probes.solvers.newton import newton

__all__ = [
    "SOLVERS",
    "Fit",
    "LogisticProblem",
    "Solver",
    "auto",
    "is_searched",
    "lbfgs",
    "lbfgs_layers",
    "lbfgs_many",
    "newton",
]

Solver = Callable[..., Fit]

# Number of unknowns up to which Newton steps cost less than the passes over the data that they save.
SMALL = 150


def auto(X: Any, y: Any, C: float, **settings: Any) -> Fit:
    """Minimise the logistic objective, by `newton` if there are few unknowns and by `lbfgs` otherwise.

    Arguments are those of `lbfgs`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> auto(*load_iris(return_X_y=True), C=1.0).converged
    True
    """
    return (lbfgs if is_searched("auto", y, X.shape[1]) else newton)(X, y, C, **settings)


def is_searched(name: str, y: NDArray[np.intp], d: int) -> bool:
    """Return whether the named solver uses `lbfgs` for class codes y and d features.

    Examples
    --------
    >>> is_searched("auto", np.array([0, 1, 2]), 4), is_searched("auto", np.array([0, 1, 2]), 512)
    (False, True)
    """
    n_classes = int(y.max()) + 1
    n_unknowns = (1 if n_classes == 2 else n_classes) * (d + 1)
    return name == "lbfgs" or (name == "auto" and n_unknowns > SMALL)


# Functions with the arguments of `lbfgs`; a fit made by `fit_of` has its certificate, whatever the method.
SOLVERS: dict[str, Solver] = {"auto": auto, "lbfgs": lbfgs, "newton": newton}
