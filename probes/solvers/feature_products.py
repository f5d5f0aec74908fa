"""Products with the features of all examples, in one precision, on one device: of one layer, or of several at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probes.features import row_blocks

RESIDENT = 512 * 2**20  # bytes of a copy in another precision that are held rather than made anew at every pass
PASSES_SAVED = 30  # by flatter objectives, at least
ROWS_A_FEATURE = 4  # as many rows as tell what is elongated
_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


class FeatureProducts(ABC):
    """What torch multiplies with: features X (n, d) that problems share, or X (P, n, d) of a layer each.

    Parameters
    ----------
    dtype : torch.dtype
        float32 or float64.
    device : str
    """

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self.dtype, self.device = dtype, torch.device(device)
        self._metric: Tensor | None = None  # (d, d) or (P, d, d)

    @abstractmethod
    def logits(self, W: Tensor, b: Tensor) -> Tensor:
        """Return W X' + b, shape (P, R, n), for W (P, R, d) and b (P, R)."""

    @abstractmethod
    def back(self, residuals: Tensor) -> Tensor:
        """Return residuals X, shape (P, R, d), for residuals (P, R, n)."""

    @abstractmethod
    def only(self, left: NDArray[np.intp]) -> None:
        """Go on with some problems, the k-th being the one that was at left[k] >= k."""

    def tensor(self, values: Any) -> Tensor:
        """Return an array in this precision, on this device."""
        if isinstance(values, np.ndarray):
            values = np.require(values, requirements=["C", "W"])
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def inwards(self, G: Tensor) -> Tensor:
        """Return slopes (P, R, d) along coefficients as those along the unknowns of a descent."""
        return G if self._metric is None else G @ self._metric.mT

    def outwards(self, U: Tensor) -> Tensor:
        """Return unknowns (P, R, d) as coefficients."""
        return U if self._metric is None else U @ self._metric

    def _flatten(self, X: Tensor, n_outputs: int) -> None:
        r"""Choose unknowns in which the objectives are less elongated, if that costs less than it saves.

        With :math:`X^\top X = \bar\lambda (L L^\top - I)`, :math:`\bar\lambda` the mean eigenvalue, the unknowns are
        :math:`U = W L`: as if every example had a curvature such that the average direction is bent by the loss as much
        as by the penalty.

        Parameters
        ----------
        X : Tensor, shape (..., n, d)
        n_outputs : int
            FeatureProducts of W that are multiplied with each X.
        """
        n, d = X.shape[-2:]
        step = max(1, n // (ROWS_A_FEATURE * d))
        if d * (d + 2 * (n // step)) > PASSES_SAVED * 4 * n * n_outputs:
            return
        some = X[..., ::step, :]
        gram = some.mT @ some
        mean = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        eye = torch.eye(d, dtype=self.dtype, device=self.device).expand_as(gram)
        L, failed = torch.linalg.cholesky_ex(eye + gram / torch.where(mean > 0, mean, 1.0))
        if not failed.any() and bool(torch.isfinite(L).all()):  # numbers were not too large for this precision
            self._metric = torch.linalg.solve_triangular(L, eye, upper=False)


class SharedFeatures(FeatureProducts):
    """Features X (n, d) of all problems, held, or read by blocks at each pass where a copy would be too large.

    Parameters
    ----------
    X : array, shape (n, d), or what gives such rows by slices
    dtype, device
        As for `FeatureProducts`.
    n_outputs : int
        FeatureProducts of W of all problems.
    """

    def __init__(self, X: Any, dtype: torch.dtype, device: str, n_outputs: int) -> None:
        super().__init__(dtype, device)
        self._X, self._whole = X, None
        size = X.shape[0] * X.shape[1] * dtype.itemsize
        if isinstance(X, np.ndarray) and (X.dtype == _NUMPY[dtype] or size <= RESIDENT or self.device.type != "cpu"):
            self._whole = self.tensor(X)
            self._flatten(self._whole, n_outputs)

    def logits(self, W: Tensor, b: Tensor) -> Tensor:
        """Return W X' + b."""
        flat = W.flatten(0, 1)
        if self._whole is not None:
            Z = flat @ self._whole.T
        else:
            Z = torch.cat([flat @ block.T for _, block in self._blocks()], dim=1)
        return Z.view(*b.shape, -1).add_(b[:, :, None])

    def back(self, residuals: Tensor) -> Tensor:
        """Return residuals X."""
        flat = residuals.flatten(0, 1)
        if self._whole is not None:
            return (flat @ self._whole).view(*residuals.shape[:2], -1)
        total = flat.new_zeros(len(flat), self._X.shape[1])
        for rows, block in self._blocks():
            total += flat[:, rows] @ block
        return total.view(*residuals.shape[:2], -1)

    def only(self, left: NDArray[np.intp]) -> None:
        """Do nothing: the features are those of all."""

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for rows, block in row_blocks(self._X, _NUMPY[self.dtype]):
            yield rows, self.tensor(block)


class StackedLayers(FeatureProducts):
    """Features X (P, n, d), of a problem each, in a copy of their own.

    Parameters
    ----------
    layers : sequence of array, shape (n, d)
        All of one shape.
    dtype, device
        As for `FeatureProducts`.
    n_outputs : int
        FeatureProducts of W of one problem.
    """

    def __init__(self, layers: Sequence[NDArray[Any]], dtype: torch.dtype, device: str, n_outputs: int) -> None:
        super().__init__(dtype, device)
        n, d = layers[0].shape
        self._X = torch.empty(len(layers), d, n, dtype=dtype, device=self.device)  # transposed: read faster both ways
        for X, layer in zip(self._X, layers, strict=True):
            X.copy_(self.tensor(layer).T)
        self._flatten(self._X.mT, n_outputs)

    def logits(self, W: Tensor, b: Tensor) -> Tensor:
        """Return W X' + b."""
        return torch.bmm(W, self._X).add_(b[:, :, None])

    def back(self, residuals: Tensor) -> Tensor:
        """Return residuals X."""
        return torch.bmm(residuals, self._X.mT)

    def only(self, left: NDArray[np.intp]) -> None:
        """Move the features of the problems that go on to the front."""
        for place, before in enumerate(left):
            if before != place:
                self._X[place] = self._X[before]
        self._X = self._X[: len(left)]
        if self._metric is not None:
            self._metric = self._metric[torch.as_tensor(left, device=self.device)]


def dot(one: Tensor, other: Tensor) -> Tensor:
    """Return inner products over all axes but the first, (P,).

    Examples
    --------
    >>> dot(torch.ones(2, 3), torch.ones(2, 3)).tolist()
    [3.0, 3.0]
    """
    return torch.linalg.vecdot(one.flatten(1), other.flatten(1))


def on_cpu(values: Tensor) -> NDArray[np.float64]:
    """Return a tensor as an array in double precision.

    Examples
    --------
    >>> on_cpu(torch.ones(2))
    array([1., 1.])
    """
    return values.double().cpu().numpy()
