"""Products with the features of all examples in one precision on one device, of one layer or of several at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probes.features import row_blocks

RESIDENT = 512 * 2**20  # bytes up to which a copy in another precision is held instead of made at every pass
PASSES_SAVED = 30  # passes that better conditioned unknowns save, at least
ROWS_PER_FEATURE = 4  # rows that suffice to choose these unknowns
_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


class FeatureProducts(ABC):
    """Products with features X (n, d) that P problems share, or X (P, n, d) of one layer per problem."""

    def __init__(self, dtype: torch.dtype, device: str, n_outputs: int) -> None:
        self.dtype, self.device = dtype, torch.device(device)
        self._n_outputs = n_outputs
        self._metric: Tensor | None = None  # (d, d) or (P, d, d)

    @abstractmethod
    def logits(self, W: Tensor, b: Tensor) -> Tensor:
        """Return W X' + b, shape (P, R, n), for W (P, R, d) and b (P, R)."""

    @abstractmethod
    def back(self, residuals: Tensor) -> Tensor:
        """Return residuals X, shape (P, R, d), for residuals (P, R, n)."""

    @abstractmethod
    def only(self, left: NDArray[np.intp]) -> None:
        """Keep only the problems at the positions ``left``; left[k] >= k."""

    @abstractmethod
    def flatten(self, curvatures: Tensor | None = None, *, passes: int = PASSES_SAVED) -> bool:
        """Choose better conditioned unknowns, if that costs less than ``passes`` passes; return whether it was done.

        Unknowns are coefficients before. ``curvatures`` (P, n) are second derivatives of the loss of each example in a
        logit, of which only the ratios matter; without them they are taken as equal.
        """

    def tensor(self, values: Any) -> Tensor:
        """Return an array in this precision, on this device."""
        if isinstance(values, np.ndarray):
            values = np.require(values, requirements=["C", "W"])
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def inwards(self, G: Tensor) -> Tensor:
        """Return the gradient (P, R, d) in the unknowns of a descent, given the gradient in the coefficients."""
        return G if self._metric is None else G @ self._metric.mT

    def outwards(self, U: Tensor) -> Tensor:
        """Return the coefficients (P, R, d) that unknowns stand for."""
        return U if self._metric is None else U @ self._metric

    def metric_of(self, p: int) -> Tensor | None:
        """Return the factor (d, d) of the unknowns of one problem, or None if they are the coefficients."""
        return self._metric if self._metric is None or self._metric.ndim == 2 else self._metric[p]

    @abstractmethod
    def adopt(self, metrics: Sequence[Tensor]) -> bool:
        """Take over the unknowns of each problem from another search; return whether that is possible."""

    @property
    def is_flattened(self) -> bool:
        """Whether unknowns differ from coefficients."""
        return self._metric is not None

    def _flatten(self, X: Tensor, curvatures: Tensor | None, passes: int) -> bool:
        """Choose the unknowns for features X (..., n, d), by a regular sample of examples."""
        # With X' diag(curvatures) X = m (L L' - I), where m is the mean eigenvalue, the unknowns are U = W L. They have
        # the curvature of the identity if loss and penalty have the same curvature in the average direction.
        n, d = X.shape[-2:]
        step = max(1, n // (ROWS_PER_FEATURE * d))
        if d * (d + 2 * (n // step)) > passes * 4 * n * self._n_outputs:
            return False
        some = X[..., ::step, :]
        gram = some.mT @ (some if curvatures is None else some * curvatures[..., ::step, None])
        mean = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        eye = torch.eye(d, dtype=self.dtype, device=self.device).expand_as(gram)
        L, failed = torch.linalg.cholesky_ex(eye + gram / torch.where(mean > 0, mean, 1.0))
        if failed.any() or not bool(torch.isfinite(L).all()):  # X overflows this precision
            return False
        self._metric = torch.linalg.solve_triangular(L, eye, upper=False)
        return True


class SharedFeatures(FeatureProducts):
    """Features X (n, d) that all problems share; read by blocks at each pass if a copy would be too large.

    `n_outputs` is the number of rows of W of all problems together.
    """

    def __init__(self, X: Any, dtype: torch.dtype, device: str, n_outputs: int) -> None:
        super().__init__(dtype, device, n_outputs)
        self._X, self._whole = X, None
        size = X.shape[0] * X.shape[1] * dtype.itemsize
        if isinstance(X, np.ndarray) and (X.dtype == _NUMPY[dtype] or size <= RESIDENT or self.device.type != "cpu"):
            self._whole = self.tensor(X)

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
        """Do nothing, since the problems share their features."""

    def flatten(self, curvatures: Tensor | None = None, *, passes: int = PASSES_SAVED) -> bool:
        """Choose the unknowns of all problems, if the features are held; by curvatures only those of a single one."""
        if self._whole is None or (curvatures is not None and len(curvatures) > 1):
            return False
        return self._flatten(self._whole, None if curvatures is None else curvatures[0], passes)

    def adopt(self, metrics: Sequence[Tensor]) -> bool:
        """Take over the unknowns of a single problem, as all problems have the same unknowns here."""
        if len(metrics) > 1:
            return False
        self._metric = metrics[0]
        return True

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for rows, block in row_blocks(self._X, _NUMPY[self.dtype]):
            yield rows, self.tensor(block)


class StackedLayers(FeatureProducts):
    """A copy of the features X (P, n, d) of one layer per problem; all layers have the same shape.

    `n_outputs` is the number of rows of W of one problem.
    """

    def __init__(self, layers: Sequence[NDArray[Any]], dtype: torch.dtype, device: str, n_outputs: int) -> None:
        super().__init__(dtype, device, n_outputs)
        n, d = layers[0].shape
        self._X = torch.empty(len(layers), d, n, dtype=dtype, device=self.device)  # transposed: read faster both ways
        for X, layer in zip(self._X, layers, strict=True):
            X.copy_(self.tensor(layer).T)

    def logits(self, W: Tensor, b: Tensor) -> Tensor:
        """Return W X' + b."""
        return torch.bmm(W, self._X).add_(b[:, :, None])

    def back(self, residuals: Tensor) -> Tensor:
        """Return residuals X."""
        return torch.bmm(residuals, self._X.mT)

    def flatten(self, curvatures: Tensor | None = None, *, passes: int = PASSES_SAVED) -> bool:
        """Choose the unknowns of each problem by its curvatures."""
        return self._flatten(self._X.mT, curvatures, passes)

    def adopt(self, metrics: Sequence[Tensor]) -> bool:
        """Take over the unknowns of each problem."""
        self._metric = torch.stack(list(metrics))
        return True

    def only(self, left: NDArray[np.intp]) -> None:
        """Move the features of the remaining problems to the front."""
        for place, before in enumerate(left):
            if before != place:
                self._X[place] = self._X[before]
        self._X = self._X[: len(left)]
        if self._metric is not None:
            self._metric = self._metric[torch.as_tensor(left, device=self.device)]


def dot(one: Tensor, other: Tensor) -> Tensor:
    """Return inner products over all axes but the first, (P,)."""
    return torch.linalg.vecdot(one.flatten(1), other.flatten(1))


def on_cpu(values: Tensor) -> NDArray[np.float64]:
    """Return a tensor as an array in double precision."""
    return values.double().cpu().numpy()
