"""Curvature that one search has met, as the start of the memory of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

MOST_BYTES = 2**22  # that a fit holds of the curvature


@dataclass(frozen=True, kw_only=True)
class SeenCurvature:
    """The last m steps of a search at one C, the oldest first, and how they changed the gradient.

    Both have shape (m, R d + R): R rows of d unknowns, and the R intercepts. Coefficients are the unknowns times
    `metric` (d, d), or the unknowns themselves if that is None. It holds for the features that were searched: on those
    of another checkpoint it saves no iterations.
    """

    steps: Tensor
    changes: Tensor
    n_rows: int
    C: float
    metric: Tensor | None

    def fits(self, like: Tensor) -> bool:
        """Return whether a search for coefficients (P, R d + R) can use it: changes of less precision are rounding."""
        return self.steps.shape[1] == like.shape[1] and self.steps.dtype == like.dtype

    def at(self, C: float) -> SeenCurvature:
        """Return the steps with the changes that they would have made at another C.

        The gradient is that of the loss, in proportion to C, and that of the penalty, which are the coefficients.
        """
        if C == self.C:
            return self
        share = C / self.C
        of_penalty = self.steps
        if self.metric is not None:
            of_penalty = _by_row(self.steps, self.n_rows, self.metric @ self.metric.mT)
        changes = share * self.changes
        changes[:, : -self.n_rows] += (1 - share) * of_penalty[:, : -self.n_rows]
        return replace(self, changes=changes, C=C)

    @property
    def limited(self) -> SeenCurvature | None:
        """The newest pairs that are small enough to be held, or None if there are none."""
        rest = MOST_BYTES - (0 if self.metric is None else self.metric.nbytes)
        most = rest // (2 * self.steps.element_size() * self.steps.shape[1])
        if most < 1 or not len(self.steps):
            return None
        return replace(self, steps=self.steps[-most:].clone(), changes=self.changes[-most:].clone())


def _by_row(steps: Tensor, n_rows: int, factor: Tensor) -> Tensor:
    """Return steps (m, R d + R) with each row of d unknowns times a factor (d, d)."""
    of_W, of_b = steps[:, :-n_rows], steps[:, -n_rows:]
    return torch.cat([(of_W.reshape(-1, len(factor)) @ factor).reshape(of_W.shape), of_b], dim=1)


def joined(curvatures: Sequence[SeenCurvature], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return steps and changes of P searches, each (P, m, q).

    Zeros come before those of a search that has fewer of them. ``like`` (P, q) has the precision and the device.
    """
    m = max(len(each.steps) for each in curvatures)
    steps, changes = like.new_zeros(2, len(curvatures), m, like.shape[1])
    for p, each in enumerate(curvatures):
        steps[p, m - len(each.steps) :], changes[p, m - len(each.steps) :] = each.steps, each.changes
    return steps, changes
