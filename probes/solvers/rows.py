"""Products with the features of all examples, in one precision, on one device, by blocks of rows if need be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probes.certificate import blocks_of

RESIDENT = 512 * 2**20  # bytes of a copy in another precision that are held rather than made anew at every pass
PASSES_SAVED = 30  # by flatter objectives, at least
_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


class Rows:
    """Features X (n, d) as torch multiplies them.

    Parameters
    ----------
    X : array, shape (n, d), or what gives such rows by slices
    dtype : torch.dtype
        float32 or float64.
    device : str
    """

    def __init__(self, X: Any, dtype: torch.dtype, device: str) -> None:
        self.dtype, self.device = dtype, torch.device(device)
        self._X, self._whole = X, None
        self._turn: Tensor | None = None
        self._back: Tensor | None = None
        self._used: Tensor | None = None
        self.penalty = torch.ones(X.shape[1], dtype=dtype, device=device)  # on the square of each coefficient
        size = X.shape[0] * X.shape[1] * dtype.itemsize
        if isinstance(X, np.ndarray) and (X.dtype == _NUMPY[dtype] or size <= RESIDENT or self.device.type != "cpu"):
            self._whole = self.tensor(X)

    def flatten(self, n_outputs: int) -> None:
        r"""Turn and stretch the features so that the objectives are less elongated, if that costs less than it saves.

        With :math:`X^\top X = V \Lambda V^\top` the features become :math:`X V D^{1/2}`,
        :math:`D = (1 + \Lambda / \bar\lambda)^{-1}`: as if every example had a curvature such that the average
        direction is bent by the loss as much as by the penalty. Coefficients U of these are
        :math:`W = U D^{1/2} V^\top` of the others, and :math:`\lVert W \rVert^2 = \sum_j D_j u_j^2`.

        Parameters
        ----------
        n_outputs : int
            Rows of W of all problems.
        """
        if self._whole is None:
            return
        n, d = self._whole.shape
        if d * (9 * d + 2 * n) > PASSES_SAVED * 4 * n * n_outputs:
            return
        self._used = self._whole.any(0)
        values, V = torch.linalg.eigh(self._whole.T @ self._whole)
        values = values.clamp(min=0.0)
        if not values[-1] > 0:
            return
        self.penalty = 1.0 / (1.0 + values / values.mean())
        self._turn = V * self.penalty.sqrt()  # (d, d)
        self._back = V / self.penalty.sqrt()
        self._whole = self._whole @ self._turn

    def inwards(self, W: Tensor) -> Tensor:
        """Return coefficients (..., d) of the features as those of what `flatten` made of them."""
        return W if self._back is None else W @ self._back

    def outwards(self, U: Tensor) -> Tensor:
        """Undo `inwards`."""
        if self._turn is None or self._used is None:
            return U
        return torch.where(self._used, U @ self._turn.T, 0.0)  # a feature that is always zero has no coefficient

    def tensor(self, values: Any) -> Tensor:
        """Return an array in this precision, on this device."""
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def logits(self, W: Tensor, b: Tensor) -> Tensor:
        """Return W X' + b, shape (P, R, n), for W (P, R, d) and b (P, R)."""
        flat = W.flatten(0, 1)
        if self._whole is not None:
            Z = flat @ self._whole.T
        else:
            Z = torch.cat([flat @ block.T for _, block in self._blocks()], dim=1)
        return Z.view(*b.shape, -1).add_(b[:, :, None])

    def back(self, residuals: Tensor) -> Tensor:
        """Return residuals X, shape (P, R, d), for residuals (P, R, n)."""
        flat = residuals.flatten(0, 1)
        if self._whole is not None:
            return (flat @ self._whole).view(*residuals.shape[:2], -1)
        total = flat.new_zeros(len(flat), self._X.shape[1])
        for rows, block in self._blocks():
            total += flat[:, rows] @ block
        return total.view(*residuals.shape[:2], -1)

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for rows, block in blocks_of(self._X, _NUMPY[self.dtype]):
            yield rows, self.tensor(block)
