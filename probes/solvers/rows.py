"""Products with the features of all examples, in one precision, on one device, by blocks of rows if need be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probes.certificate import blocks_of

RESIDENT = 512 * 2**20  # bytes of a copy in another precision that are held rather than made anew at every pass
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
        size = X.shape[0] * X.shape[1] * dtype.itemsize
        if isinstance(X, np.ndarray) and (X.dtype == _NUMPY[dtype] or size <= RESIDENT or self.device.type != "cpu"):
            self._whole = self.tensor(X)

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
