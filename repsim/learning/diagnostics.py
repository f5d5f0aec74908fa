"""Comparison of the gradients that a rule chooses with the true gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Diagnosis", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """Comparison of the chosen gradient g with the true gradient t at one boundary, for one batch.

    Attributes
    ----------
    norm, true_norm : float
        ‖g‖ and ‖t‖: the root mean square over examples of the norm of the per-example gradient.
    relative_error : float
        ‖g − t‖ / ‖t‖, 0 or more; NaN if t is 0.
    cosine : float
        ⟨g, t⟩ / (‖g‖ ‖t‖) over all examples and units, -1 to 1; NaN if g or t is 0.
    angle : float
        Arc cosine of ``cosine`` in degrees, 0 to 180; NaN if ``cosine`` is NaN.
    """

    norm: float
    true_norm: float
    relative_error: float
    cosine: float
    angle: float


def diagnose(chosen: Mapping[int, Tensor], true: Mapping[int, Tensor], lead: int = 0) -> dict[int, list[Diagnosis]]:
    """Compare chosen gradients with true gradients at each boundary.

    Parameters
    ----------
    chosen, true : mapping of int to Tensor, shape (*lead, N, ...)
        Per-example gradients by boundary.
    lead : int, default 0
        Number of leading axes: 0 for one network, 1 for a stack of networks.

    Returns
    -------
    dict of int to list of Diagnosis
        One comparison per network, by boundary.
    """
    return {k: _compare(chosen[k].flatten(lead + 1), true[k].flatten(lead + 1)) for k in sorted(chosen)}


def _compare(g: Tensor, t: Tensor) -> list[Diagnosis]:
    pairs = zip(g.flatten(0, -3), t.flatten(0, -3), strict=True) if g.ndim > 2 else [(g, t)]
    return [_compare_one(g.double(), t.double()) for g, t in pairs]


def _compare_one(g: Tensor, t: Tensor) -> Diagnosis:
    norm, true_norm = float(g.norm()), float(t.norm())
    product = norm * true_norm
    cosine = min(1.0, max(-1.0, float((g * t).sum()) / product)) if 0 < product < math.inf else math.nan
    error = float((g - t).norm()) / true_norm if true_norm > 0 else math.nan
    scale = math.sqrt(len(g))
    return Diagnosis(norm / scale, true_norm / scale, error, cosine, math.degrees(math.acos(cosine)))
