"""Sufficient condition for the convergence of training with synthetic gradients, evaluated on a real run."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp

from repsim.learning.checks import check_integer, check_positive
from repsim.learning.estimators import Estimator
from repsim.learning.learner import Learner
from repsim.learning.line_search import largest_error_ratio
from repsim.learning.networks import Chain, true_gradients
from repsim.learning.training import Step
from repsim.theory.spectral_norm import spectral_norm

__all__ = ["Tracking", "track", "tracked"]


@dataclass(frozen=True)
class Tracking:
    """Error of the gradient chosen at boundary k, measured in the gradient of the parameters θ that learn from it.

    Let g and t be the chosen and true gradients of N examples (rows g_i and t_i = N ∂L/∂h_i), and J = ∂h_k/∂θ the
    Jacobian of the whole batch. The true gradient of θ is Jᵀt / N and that of the rule Jᵀg / N; their difference is
    bounded by ‖Jᵀ(g − t)‖ / N ≤ ε C. With sufficiently small steps, descent on the loss of these N examples converges
    to a stationary point of it if, at every step,

        ε C ≤ ‖∂L/∂θ‖ (1 − δ) / (1 + δ)    for one fixed δ in (0, 1).

    This is global: it holds for every start, if the loss is bounded below and its gradient is Lipschitz continuous. The
    stationary point may be a saddle or a poor minimum, and one ``Tracking`` is local: it says whether the condition
    holds at one θ. The condition does not cover the noise of changing batches. If it holds with one δ for the
    parameters below each of several boundaries, it holds for all of these parameters together.

    Attributes
    ----------
    segments : range
        Segments that hold θ: those between the next lower boundary with an estimator and boundary k.
    epsilon : float
        ε = ‖g − t‖_F / √N, the root mean square over examples of the error of the chosen gradient; 0 or more.
    jacobian_norm : float
        Estimate of C = ‖J‖₂ / √N from below, see ``spectral_norm``; in units of h per unit of θ.
    jacobian_bound : float
        Upper bound of C with probability 1 - 1e-6. ``error_bound`` and the properties derived from it use this bound,
        and so are conservative.
    gradient_norm : float
        ‖∂L/∂θ‖ = ‖Jᵀt‖ / N.
    error_norm : float
        ‖Jᵀ(g − t)‖ / N: the actual error, which is at most ``error_bound``.

    References
    ----------
    After Czarnecki et al. (2017), Understanding synthetic gradients and decoupled neural interfaces. Their bounds are
    for one example; the means over examples used here are the tightest bounds for a batch.
    """

    segments: range
    epsilon: float
    jacobian_norm: float
    jacobian_bound: float
    gradient_norm: float
    error_norm: float

    @property
    def error_bound(self) -> float:
        """Upper bound ε C of ``error_norm``."""
        return self.epsilon * self.jacobian_bound

    @property
    def ratio(self) -> float:
        """The ratio r = ε C / ‖∂L/∂θ‖, 0 or more; infinite if only ∂L/∂θ is 0, and 0 if both are 0."""
        if self.gradient_norm == 0:
            return 0.0 if self.error_bound == 0 else math.inf
        return self.error_bound / self.gradient_norm

    @property
    def delta(self) -> float:
        """Largest δ with which the condition holds, (1 − r) / (1 + r), 0 to 1; NaN if r ≥ 1 and there is none."""
        return (1 - self.ratio) / (1 + self.ratio) if self.ratio < 1 else math.nan

    @property
    def margin(self) -> float:
        """Difference ‖∂L/∂θ‖ − ε C between the gradient and the bound of its error; negative if no δ exists."""
        return self.gradient_norm - self.error_bound

    def holds(self, delta: float) -> bool:
        """Return whether ε C ≤ ‖∂L/∂θ‖ (1 − δ) / (1 + δ).

        Raises
        ------
        ValueError
            If δ is not between 0 and 1.
        """
        return self.error_bound <= self.gradient_norm * largest_error_ratio(delta)


def track(
    learner: Learner, X: Tensor, y: Tensor, *, boundaries: Collection[int] | None = None, tolerance: float = 0.05
) -> dict[int, Tracking]:
    """Evaluate the convergence condition of a learner on one batch, at each boundary.

    Gradients are computed in a copy: parameters, buffers, ``.grad`` and modes of the learner do not change, bit for
    bit. A rule that draws random numbers uses those of its next step, without consuming them. The network is evaluated
    in its present mode; batch norm in training mode couples the examples, and J is the Jacobian of the whole batch.
    Changes that feedback alignment makes inside a segment with several affine maps are not part of g and are ignored.

    At each boundary ≈ 7 / √tolerance products with J and Jᵀ are computed, each pair of which takes about as long as a
    training step of the segments below, and as many vectors of the size of h_k or θ are stored, whichever is smaller.

    Parameters
    ----------
    learner : Learner
        One learner, not a stack.
    X : Tensor, shape (N, n_features)
    y : Tensor, shape (N,) or (N, n_outputs)
        Classes, or regression targets.
    boundaries : collection of int, optional
        Boundaries to evaluate; by default those with an estimator other than backprop. At a boundary with backprop the
        gradient from above is compared. An observed rule is treated as if it were in use.
    tolerance : float, default 0.05
        Largest relative distance of the bound of ‖J‖₂ above the norm.

    Returns
    -------
    dict of int to Tracking
        Results by boundary; empty if the network learns by backprop alone and ``boundaries`` is not given.

    Raises
    ------
    ValueError
        If a boundary does not exist, if no parameter learns from its gradient, if the learner is a stack, or if the
        tolerance is not above 0.
    ArithmeticError
        If the Jacobian is not finite.

    Examples
    --------
    >>> from repsim.learning import TrainingConfig, build_learner
    >>> config = TrainingConfig(rule="synthetic-gradient", depth=4, width=8)
    >>> X, y = torch.eye(12, 6), torch.arange(12) % 3
    >>> tracking = track(build_learner(config, 6, 3), X, y)
    >>> tracking[2].segments, tracking[2].holds(0.5)  # S starts at zero, so that its error is the whole gradient
    (range(1, 3), False)
    """
    check_positive("tolerance", tolerance)
    standing = _standing(learner)
    chosen_boundaries = standing if boundaries is None else sorted(boundaries)
    spans = {k: _span_below(learner.network, k, standing) for k in chosen_boundaries}
    twin = copy.deepcopy(learner).requires_grad_()  # so that gradients reach boundaries above frozen segments
    true = true_gradients(twin.network, X, y, loss=twin.loss)
    outcome = twin.compute_gradients(X, y, watch=True)
    if outcome.loss.ndim:
        raise ValueError(f"The learner is a stack of {len(outcome.loss)}; unstack it, and track one learner at a time.")
    inputs = _inputs(twin.network, X)
    return {
        k: _compare(learner.network, span, inputs, outcome.gradients[k], true[k], tolerance)
        for k, span in spans.items()
    }


def tracked(
    steps: Iterable[Step], learner: Learner, X: Tensor, y: Tensor, *, every: int, tolerance: float = 0.05
) -> Iterator[tuple[Step, dict[int, Tracking]]]:
    """Yield the records of ``train``, each with the results of ``track`` after every N-th update.

    The training is not changed, bit for bit.

    Parameters
    ----------
    steps : iterable of Step
        The generator that ``train`` returned for the same learner.
    learner, X, y, tolerance
        As in ``track``; the examples can differ from those of the batch.
    every : int
        Interval N between evaluations, in steps, 1 or more.

    Yields
    ------
    step : Step
        Record of the update.
    tracking : dict of int to Tracking
        Results by boundary; empty at steps that ``every`` does not divide.

    Raises
    ------
    ValueError
        If ``every`` is below 1. It is raised when the generator is first advanced.
    """
    check_integer("every", every, 1)
    for step in steps:
        yield step, {} if step.step % every else track(learner, X, y, tolerance=tolerance)


def _standing(learner: Learner) -> list[int]:
    """Return the boundaries with a rule other than backprop, in ascending order."""
    return sorted(k for ks, estimator in learner.placed().items() for k in ks if not _is_backprop(estimator))


def _is_backprop(estimator: Estimator) -> bool:
    return estimator.passes_target_unchanged and type(estimator).through is Estimator.through


def _span_below(network: Chain, k: int, standing: list[int]) -> range:
    """Return the segments whose parameters learn from g_k."""
    network.check_boundary(k)
    span = range(max((below for below in standing if below < k), default=0) + 1, k + 1)
    if not any(parameter.requires_grad for i in span for parameter in network.segments[i - 1].parameters()):
        raise ValueError(
            f"No parameter learns from the gradient at boundary {k}: segments {span[0]} to {k} have no parameter that "
            "requires a gradient. Leave this boundary out of 'boundaries'."
        )
    return span


@torch.no_grad()
def _inputs(network: Chain, X: Tensor) -> list[Tensor]:
    """Return h_0 … h_K of a forward pass, which changes running statistics."""
    activations = [network.input(X)]
    for segment in network.segments:
        activations.append(segment(activations[-1]))
    return activations


def _compare(network: Chain, span: range, inputs: list[Tensor], g: Tensor, t: Tensor, tolerance: float) -> Tracking:
    theta, back, forth = _jacobian(nn.Sequential(*(network.segments[i - 1] for i in span)), inputs[span[0] - 1])
    n_examples, error = len(g), (g - t).flatten()
    if len(error) <= len(theta):
        bounds = spectral_norm(lambda u: forth(back(u)), error, tolerance)
    else:
        bounds = spectral_norm(lambda v: back(forth(v)), theta, tolerance)
    lower, upper = (norm / math.sqrt(n_examples) for norm in bounds)
    return Tracking(
        span,
        epsilon=float(error.double().norm()) / math.sqrt(n_examples),
        jacobian_norm=lower,
        jacobian_bound=upper,
        gradient_norm=float(back(t.flatten()).double().norm()) / n_examples,
        error_norm=float(back(error).double().norm()) / n_examples,
    )


Map = Callable[[Tensor], Tensor]


def _jacobian(span: nn.Sequential, X: Tensor) -> tuple[Tensor, Map, Map]:
    """Return θ as a vector (P,), u ↦ Jᵀu and v ↦ J v, where J = ∂h/∂θ (N·d × P) of the activations of a batch."""
    learning = {name: parameter.detach() for name, parameter in span.named_parameters() if parameter.requires_grad}
    theta = torch.cat([parameter.flatten() for parameter in learning.values()])

    def activations(theta: Tensor) -> Tensor:
        parts = theta.split([parameter.numel() for parameter in learning.values()])
        parameters = {name: part.view_as(learning[name]) for name, part in zip(learning, parts, strict=True)}
        buffers = {name: buffer.clone() for name, buffer in span.named_buffers()}
        return functional_call(span, parameters | buffers, (X,)).flatten()

    h, back, *_ = vjp(activations, theta)
    _, forth, *_ = vjp(lambda u: back(u)[0], torch.zeros_like(h))  # the vjp of a linear map is its transpose
    return theta, lambda u: back(u)[0], lambda v: forth(v)[0]
