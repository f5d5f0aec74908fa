"""Comparison of the gradients that a rule chooses with the true gradients, in one batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from repsim.learning.diagnostics.bias_variance import BiasVariance
from repsim.learning.diagnostics.flat_gradients import flat_gradient, flatten_parameters, rows_of
from repsim.learning.learner import Learner
from repsim.learning.networks import RecurrentNetwork
from repsim.learning.networks.true_gradient import gradients_of_segments
from repsim.learning.step import Outcome
from repsim.learning.streams import drawing_again, drawn_so_far

__all__ = ["Diagnosis", "TrueStep", "diagnose", "diagnose_step", "true_step"]


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
    update_cosine : float or None
        Cosine between the gradients of all parameters of segment k by the rule and by backprop, -1 to 1; NaN if one of
        them is 0. With plain gradient descent it is that of the update with backprop's update. At a rule that is only
        observed the network uses backprop, so it is 1. None if only gradients at boundaries were compared. Of a
        recurrent network it is that of the cell, the same at all boundaries.
    weight_angle : float or None
        Angle in degrees, 0 to 180, between the feedback weights of the rule and the weights of segment k + 1 that they
        replace in the backward pass; None if the rule has no such weights.
    input_error : float or None
        ‖ĥ_k − h_k‖ / ‖h_k‖ over all examples and units, 0 or more; None without a synthetic input.
    squared_bias, variance, true_variance : float or None
        Of the gradient of all parameters of segment k over batches, divided by the mean squared norm of a batch's true
        gradient; see ``BiasVariance``. None if it was not measured.
    """

    norm: float
    true_norm: float
    relative_error: float
    cosine: float
    angle: float
    update_cosine: float | None = None
    weight_angle: float | None = None
    input_error: float | None = None
    squared_bias: float | None = None
    variance: float | None = None
    true_variance: float | None = None

    def with_spread(self, found: BiasVariance) -> Diagnosis:
        """Return this diagnosis with bias and variance over batches."""
        size = found.true_norm**2
        names = ("squared_bias", "variance", "true_variance")
        return replace(self, **{name: getattr(found, name) / size if size > 0 else math.nan for name in names})


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


@dataclass(frozen=True)
class TrueStep:
    """Backprop's gradients of one batch: N · ∂L/∂h_k by boundary, and those of the parameters below each boundary."""

    boundaries: dict[int, Tensor]
    segments: dict[int, list[Tensor]]


def true_step(learner: Learner, X: Tensor, y: Tensor) -> TrueStep:
    """Return backprop's gradients of one batch; the learner and the global generators stay as they are."""
    with drawing_again(drawn_so_far(X.device), X.device):
        return TrueStep(*gradients_of_segments(learner.network, X, y, loss=learner.loss))


def diagnose_step(learner: Learner, outcome: Outcome, true: TrueStep) -> dict[int, list[Diagnosis]]:
    """Compare a watched step, whose gradients the parameters still hold, with backprop's step of the same batch.

    Returns
    -------
    dict of int to list of Diagnosis
        One comparison per network, by boundary.
    """
    lead, network = tuple(outcome.loss.shape), learner.network
    found = diagnose(outcome.gradients, true.boundaries, len(lead))
    aligned = _weight_cosines(learner, lead)
    for k in found:
        own, backprop = flat_gradient(network.learning_below(k), lead), flatten_parameters(true.segments[k], lead)
        cosines = _cosines(own, backprop)
        angles = [math.degrees(math.acos(each)) for each in aligned[k]] if k in aligned else [None] * len(cosines)
        errors = outcome.input_errors[k].flatten().tolist() if k in outcome.input_errors else [None] * len(cosines)
        found[k] = [
            replace(each, update_cosine=cosine, weight_angle=angle, input_error=error)
            for each, cosine, angle, error in zip(found[k], cosines, angles, errors, strict=True)
        ]
    return found


def _weight_cosines(learner: Learner, lead: tuple[int, ...]) -> dict[int, list[float]]:
    """Return the cosine between feedback weights and weights, of each network, at boundaries that have such weights."""
    found: dict[int, list[float]] = {}
    if isinstance(learner.network, RecurrentNetwork):  # whose rules leave the backward pass of the cell as it is
        return found
    for (k, *others), estimator in learner.placed().items():
        pairs = [] if others else estimator.feedback_pairs(learner.network.segments[k])
        if pairs:
            found[k] = _cosines(*(flatten_parameters(each, lead) for each in zip(*pairs, strict=True)))
    return found


def _compare(g: Tensor, t: Tensor) -> list[Diagnosis]:
    pairs = zip(g.flatten(0, -3), t.flatten(0, -3), strict=True) if g.ndim > 2 else [(g, t)]
    return [_compare_one(g.double(), t.double()) for g, t in pairs]


def _compare_one(g: Tensor, t: Tensor) -> Diagnosis:
    norm, true_norm, cosine = float(g.norm()), float(t.norm()), _cosine(g, t)
    error = float((g - t).norm()) / true_norm if true_norm > 0 else math.nan
    scale = math.sqrt(len(g))
    return Diagnosis(norm / scale, true_norm / scale, error, cosine, math.degrees(math.acos(cosine)))


def _cosines(one: Tensor, other: Tensor) -> list[float]:
    """Return the cosines between vectors (*lead, entries)."""
    pairs = zip(*(rows_of(each.double()) for each in (one, other)), strict=True)
    return [_cosine(*pair) for pair in pairs]


def _cosine(one: Tensor, other: Tensor) -> float:
    product = float(one.norm()) * float(other.norm())
    return min(1.0, max(-1.0, float((one * other).sum()) / product)) if 0 < product < math.inf else math.nan
