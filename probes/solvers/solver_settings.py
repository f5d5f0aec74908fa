"""Settings of a solver: its name, tolerance, limit of iterations and device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probes.checks import check_positive, check_positive_integer
from probes.solvers import SOLVERS, Fit

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SolverSettings:
    """Settings of the solver of a logistic regression, as in `LogisticProbe`; checked when they are made."""

    solver: str = "auto"
    tol: float = 1e-6
    max_iter: int = 1000
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raise a ValueError that names the first setting out of range."""
        check_positive(self.tol, "tol")
        check_positive_integer(self.max_iter, "max_iter")
        if self.solver not in SOLVERS:
            raise ValueError(f"Unknown solver {self.solver!r}. Choose one of: {', '.join(sorted(SOLVERS))}.")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device is {self.device!r}, which torch cannot use on this machine: {error}") from error

    @property
    def solving(self) -> dict[str, Any]:
        """The settings of the solver by name."""
        return {"solver": self.solver, **self.limits}

    @property
    def limits(self) -> dict[str, Any]:
        """The settings that every solver takes."""
        return {"tol": self.tol, "max_iter": self.max_iter, "device": self.device}

    def solve(
        self,
        X: Any,
        y: NDArray[np.intp],
        C: float,
        *,
        sample_weight: Array | None = None,
        start: Fit | None = None,
        tol: float | None = None,
    ) -> Fit:
        """Return the fit of the solver, to `tol` if it is given; arguments are those of `lbfgs`."""
        limits = self.limits if tol is None else {**self.limits, "tol": tol}
        return SOLVERS[self.solver](X, y, C, sample_weight=sample_weight, start=start, **limits)
