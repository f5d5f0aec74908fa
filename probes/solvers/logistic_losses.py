"""Logistic losses of many problems at once, with their gradients and their values along a line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from probes.solvers.feature_products import FeatureProducts, dot, on_cpu
from probes.solvers.fit import LogisticProblem

Array = NDArray[np.float64]

STRAIGHT = 40.0  # logits above which softplus equals the logit, also in double precision


class LogisticLosses:
    r"""C Σ s ℓ for P problems at coefficients w (P, R (d + 1)), in one precision.

    w holds the coefficients of a problem row by row, then its R intercepts; R is the number of classes, or 1 for two.
    Logits are stored, so that trials along a line need no product with the features. `values` (P,) are the losses at
    the current coefficients.
    """

    def __init__(self, rows: FeatureProducts, problems: Sequence[LogisticProblem], n_outputs: int) -> None:
        self._rows, self._n_outputs = rows, n_outputs
        shift = int(n_outputs == 1)  # the one row is that of the second of two classes
        codes = torch.as_tensor(np.stack([problem.y for problem in problems]), device=rows.device)  # (P, n)
        classes = torch.arange(shift, n_outputs + shift, device=rows.device)
        self._targets = rows.tensor(codes[:, None] == classes[:, None])  # (P, R, n)
        ones = np.ones(len(problems[0].y))
        each = [ones if problem.sample_weight is None else problem.sample_weight for problem in problems]
        scaled = [problem.C * weights for problem, weights in zip(problems, each, strict=True)]
        self._weights = rows.tensor(np.stack(scaled))[:, None]  # C s, (P, 1, n)

    def move_to(self, w: Tensor) -> None:
        """Compute logits and losses at coefficients w."""
        self._Z = self._logits(w)
        self._residuals, mass = self._residuals_at(self._Z)
        self.values = on_cpu(self._sums(self._Z, mass))

    def look(self, way: Tensor) -> None:
        """Set the direction (P, q) of the line through the current coefficients for the next trials."""
        self._Z_way = self._logits(way)

    def trial(self, t: Array) -> tuple[Array, Array]:
        """Return losses and directional derivatives at steps t along the line, each (P,)."""
        Z = torch.addcmul(self._Z, self._rows.tensor(t)[:, None, None], self._Z_way)
        residuals, mass = self._residuals_at(Z)
        value, along = on_cpu(torch.stack([self._sums(Z, mass), dot(residuals, self._Z_way).double()]))
        self._tried = Z, residuals
        return value, along

    def accept(self, values: Array, moved: NDArray[np.bool_]) -> None:
        """Make the last trial current for the problems in `moved`."""
        Z, residuals = self._tried
        if not moved.all():
            mask = torch.as_tensor(moved, device=Z.device)[:, None, None]
            Z, residuals = torch.where(mask, Z, self._Z), torch.where(mask, residuals, self._residuals)
        self._Z, self._residuals = Z, residuals
        self.values = np.where(moved, values, self.values)

    def slope(self) -> Tensor:
        """Return the gradients with respect to coefficients and intercepts, (P, q)."""
        return torch.cat([self._rows.back(self._residuals).flatten(1), self._residuals.sum(2)], dim=1)

    def curvatures(self) -> Tensor:
        """Return second derivatives of the loss of each example in a logit, averaged over classes, (P, n)."""
        p = torch.sigmoid(self._Z) if self._n_outputs == 1 else torch.softmax(self._Z, dim=1)
        return (self._weights * p * (1 - p)).mean(1)

    def only(self, index: Tensor) -> None:
        """Keep only the problems at the given positions."""
        for name in ("_Z", "_residuals", "_targets", "_weights"):
            setattr(self, name, getattr(self, name)[index])
        self.values = self.values[index.cpu().numpy()]

    def _logits(self, w: Tensor) -> Tensor:
        split = w.shape[1] - self._n_outputs
        return self._rows.logits(w[:, :split].view(len(w), self._n_outputs, -1), w[:, split:])

    def _residuals_at(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        """Return C s (p - y), (P, R, n), and the log-sum-exp of the logits, (P, 1, n)."""
        if self._n_outputs == 1:
            p, mass = torch.sigmoid(Z), softplus(Z, 1.0, STRAIGHT)
        else:
            largest = Z.amax(1, keepdim=True)
            p = (Z - largest).exp_()
            total = p.sum(1, keepdim=True)
            p.div_(total)
            mass = total.log_().add_(largest)
        return p.sub_(self._targets).mul_(self._weights), mass

    def _sums(self, Z: Tensor, mass: Tensor) -> Tensor:
        """Return the losses C s' l, (P,), in double precision."""
        losses = mass - (self._targets * Z).sum(1, keepdim=True)
        return (self._weights * losses).sum((1, 2), dtype=torch.float64)
