"""Sparse random projection of activations to a fixed number of components."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isqrt, sqrt
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from checkpoints.capture.reductions.protocol import Reduction, check_whole, wide_type

__all__ = ["SparseProjection"]


@dataclass(frozen=True)
class SparseProjection(Reduction):
    """A random projection to ``n_components`` numbers, determined by ``seed``, width and number of components.

    Each component is the sum of √d of the d features, drawn without replacement, with random signs. Squared distances
    are preserved on average, and up to a factor 1 ± ε for n stimuli with O(log n / ε²) components. The real and the
    imaginary part of a complex number are two features.

    References
    ----------
    Li, Hastie, Church (2006), Very sparse random projections, section 3.

    Raises
    ------
    ValueError
        If ``n_components`` is below 1.
    """

    example: ClassVar[str] = "sparse_projection(100, seed=0)"

    n_components: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the number of components."""
        check_whole(self.n_components, "n_components")
        check_whole(self.seed, "seed")
        if self.n_components < 1:
            raise ValueError(f"n_components is {self.n_components}; expected 1 or more.")

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, n_components)."""
        wide = values.to(wide_type(values.dtype)).resolve_conj()
        flat = (torch.view_as_real(wide) if wide.is_complex() else wide).flatten(1)
        projection = _projection(flat.shape[1], self.n_components, self.seed, flat.device, flat.dtype)
        return torch.sparse.mm(projection, flat.T).T

    def __str__(self) -> str:
        """Return the name."""
        return f"sparse_projection({self.n_components}, seed={self.seed})"


@lru_cache(maxsize=32)  # every block of stimuli uses the same
def _projection(n_features: int, n_components: int, seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the projection as a sparse (n_components, n_features) matrix."""
    draw = np.random.default_rng([seed, n_features, n_components])
    chosen = max(1, isqrt(n_features))
    columns = np.stack([draw.choice(n_features, chosen, replace=False) for _ in range(n_components)])
    signs = draw.choice(np.array([-1.0, 1.0]), size=columns.shape)
    columns_in_order = np.argsort(columns, axis=1)
    values = np.take_along_axis(signs, columns_in_order, 1) * sqrt(n_features / (chosen * n_components))
    rows = torch.arange(n_components).repeat_interleave(chosen)
    places = torch.stack([rows, torch.from_numpy(np.sort(columns, axis=1).ravel())])
    return torch.sparse_coo_tensor(
        places, torch.from_numpy(values.ravel()), (n_components, n_features), check_invariants=True, is_coalesced=True
    ).to(device, dtype)
