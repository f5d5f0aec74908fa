"""Families of synthetic gradient modules: features, and their least squares fit to the true gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from repsim.learning.checks import check_choice, check_integer

__all__ = ["FAMILIES", "Features", "choose_features", "fit_features", "relu_features"]

Features = Callable[[Tensor, Tensor], Tensor]
_RANK_TOLERANCE = 1e-10  # singular values of the features below this fraction of the largest count as zero


def relu_features(n_inputs: int, n_units: int, *, generator: Generator) -> Features:
    """Return φ(h, y) = [h, y, 1, relu(W [h, y, 1])] with W (n_units, n_inputs + 1) drawn from N(0, 1) and then fixed.

    Families of one seed are nested: the first units do not depend on their number, and without units the family is
    "linear-labels". If Φ has rank N, the family represents every t; m ≥ N is necessary for this, but not sufficient.

    Parameters
    ----------
    n_inputs : int
        Number of units of h_k plus number of outputs of the network.
    n_units : int
        Number of relu units, 1 or more.
    generator : Generator
        Source of W.

    Raises
    ------
    ValueError
        If a number is below 1. The returned function raises it if h and y do not have ``n_inputs`` columns together.
    """
    check_integer("n_inputs", n_inputs, 1)
    check_integer("n_units", n_units, 1)
    rows = [torch.randn(n_inputs + 1, generator=generator, dtype=torch.float64) for _ in range(n_units)]
    weight = torch.stack(rows)  # drawn one by one, so that the first do not depend on n_units

    def features(h: Tensor, y: Tensor) -> Tensor:
        inputs = _with_labels(h, y)
        if inputs.shape[1] != n_inputs + 1:
            raise ValueError(
                f"h has {h.shape[1]} columns and y {y.shape[1]}; these features were drawn for {n_inputs} in all. "
                "Set n_inputs to the units at the boundary plus the outputs of the network."
            )
        return torch.cat([inputs, torch.relu(inputs @ weight.to(inputs).T)], dim=1)

    return features


def fit_features(features: Tensor, t: Tensor, ridge: float) -> Tensor:
    """Return s = Φ A, the (ridge) least squares fit of t (N, d) on features Φ (N, m)."""
    if ridge == 0:
        return features @ (torch.linalg.pinv(features, rtol=_RANK_TOLERANCE) @ t)
    gram = features @ features.T / len(features)  # (N, N)
    identity = torch.eye(len(features), dtype=features.dtype, device=features.device)
    return t - ridge * torch.linalg.solve(gram + ridge * identity, t)  # less rounding than K (K + ridge I)⁻¹ t


def _with_labels(h: Tensor, y: Tensor) -> Tensor:
    return torch.cat([h, y, _ones(h)], dim=1)


def _ones(h: Tensor) -> Tensor:
    return torch.ones_like(h[:, :1])


def choose_features(family: str | Features) -> Features | None:
    """Return the features of a family by name, or ``family`` itself; None stands for the true gradient."""
    if not isinstance(family, str):
        return family
    check_choice("family", family, FAMILIES)
    return FAMILIES[family]


FAMILIES: dict[str, Features | None] = {
    "exact": None,  # s = t
    "linear-labels": _with_labels,
    "linear": lambda h, y: torch.cat([h, _ones(h)], dim=1),
    "constant": lambda h, y: _ones(h),
}
