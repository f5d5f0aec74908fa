"""Curvature that one search has met, as the start of the memory of another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

MOST_BYTES = 2**22  # that a fit holds of the curvature


@dataclass(frozen=True, kw_only=True)
class SeenCurvature:
    """The last m steps of a search at one C, the oldest first, and how they changed the gradient.

    Both have shape (m, R d + R): R rows of d unknowns, and the R intercepts. Coefficients are the unknowns times M,
    (d, d), whose inverse is L; `unknowns` is (M, L), or None where the unknowns are the coefficients.
    """

    steps: Tensor
    changes: Tensor
    n_rows: int
    C: float
    unknowns: tuple[Tensor, Tensor] | None

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
        if self.unknowns is not None:
            M, _ = self.unknowns
            of_penalty = by_row(self.steps, self.n_rows, lambda S: S @ M @ M.mT)
        changes = share * self.changes
        changes[:, : -self.n_rows] += (1 - share) * of_penalty[:, : -self.n_rows]
        return replace(self, changes=changes, C=C)

    @property
    def in_coefficients(self) -> SeenCurvature:
        """The same with the coefficients as unknowns."""
        if self.unknowns is None:
            return self
        M, L = self.unknowns
        steps = by_row(self.steps, self.n_rows, lambda S: S @ M)
        changes = by_row(self.changes, self.n_rows, lambda Y: Y @ L.mT)
        return replace(self, steps=steps, changes=changes, unknowns=None)

    @property
    def limited(self) -> SeenCurvature | None:
        """The newest pairs that are small enough to be held, or None if there are none."""
        of_unknowns = 0 if self.unknowns is None else sum(each.nbytes for each in self.unknowns)
        most = (MOST_BYTES - of_unknowns) // (2 * self.steps.element_size() * self.steps.shape[1])
        if most < 1 or not len(self.steps):
            return None
        return replace(self, steps=self.steps[-most:].clone(), changes=self.changes[-most:].clone())


def by_row(pairs: Tensor, n_rows: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return pairs (..., m, R d + R) with a function of (..., m R, d) applied to all but the intercepts."""
    of_W, of_b = pairs[..., :-n_rows], pairs[..., -n_rows:]
    rows = of_W.reshape(*of_W.shape[:-2], -1, of_W.shape[-1] // n_rows)
    return torch.cat([function(rows).reshape(of_W.shape), of_b], dim=-1)


def joined(curvatures: Sequence[SeenCurvature | None], like: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return steps and changes of P searches, each (P, m, q), or None if there are none.

    Zeros come before those of a search that has fewer of them. ``like`` (P, q) has the precision and the device.
    """
    m = max(0 if each is None else len(each.steps) for each in curvatures)
    if not m:
        return None
    steps, changes = like.new_zeros(2, len(curvatures), m, like.shape[1])
    for p, each in enumerate(curvatures):
        if each is not None:
            steps[p, m - len(each.steps) :], changes[p, m - len(each.steps) :] = each.steps, each.changes
    return steps, changes
