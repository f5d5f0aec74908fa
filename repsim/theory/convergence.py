"""The condition under which training by synthetic gradients is sure to converge, checked on a real run."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp

from repsim.learning.chain import Chain
from repsim.learning.checks import check_integer, check_positive
from repsim.learning.diagnostics import true_gradients
from repsim.learning.estimators import Estimator
from repsim.learning.learner import Learner
from repsim.learning.training import Step
from repsim.theory.spectral_norm import spectral_norm

__all__ = ["Tracking", "track", "tracked"]


@dataclass(frozen=True)
class Tracking:
    """How well the gradient chosen at boundary k follows the true one, as the parameters θ that learn from it feel it.

    With chosen and true gradients g and t of N examples (rows g_i and t_i = N ∂L/∂h_i) and the Jacobian J = ∂h_k/∂θ of
    the whole batch, the true gradient of θ is Jᵀt / N, the rule's is Jᵀg / N, and they differ by εC at the most:
    ‖Jᵀ(g − t)‖ / N ≤ ε C. With steps that are small enough, descent on the loss of these N examples converges to a
    stationary point of it if, at every step,

        ε C ≤ ‖∂L/∂θ‖ (1 − δ) / (1 + δ)    for one fixed δ in (0, 1).

    Batches that change add noise, which this does not see. If it holds for the parameters below each of several
    boundaries, with one δ, it holds for all of them together.

    Attributes
    ----------
    segments : range
        Those that hold θ: from above the next lower boundary with an estimator, to k.
    epsilon : float
        ε = ‖g − t‖_F / √N, the root mean square over examples of the error of the chosen gradient; 0 or more.
    jacobian_norm : float
        C = ‖J‖₂ / √N, or a little less, see ``spectral_norm``; in units of h per unit of θ.
    jacobian_bound : float
        A number no smaller than C, with probability 1 - 1e-6; ``error_bound`` and what follows from it use it, and so
        err on the safe side.
    gradient_norm : float
        ‖∂L/∂θ‖ = ‖Jᵀt‖ / N.
    error_norm : float
        ‖Jᵀ(g − t)‖ / N: the actual error, which the theorem bounds by ``error_bound``.

    References
    ----------
    After Czarnecki et al. (2017), Understanding synthetic gradients and decoupled neural interfaces. There the bounds
    are those of one example; means over examples make them the tightest for a batch.
    """

    segments: range
    epsilon: float
    jacobian_norm: float
    jacobian_bound: float
    gradient_norm: float
    error_norm: float

    @property
    def error_bound(self) -> float:
        """The bound ε C of ``error_norm``."""
        return self.epsilon * self.jacobian_bound

    @property
    def ratio(self) -> float:
        """The ratio r = ε C / ‖∂L/∂θ‖, 0 or more; infinite where only ∂L/∂θ is 0, and 0 where both are."""
        if self.gradient_norm == 0:
            return 0.0 if self.error_bound == 0 else math.inf
        return self.error_bound / self.gradient_norm

    @property
    def delta(self) -> float:
        """The largest δ with which the condition holds, (1 − r) / (1 + r), 0 to 1; NaN where none will do, r ≥ 1."""
        return (1 - self.ratio) / (1 + self.ratio) if self.ratio < 1 else math.nan

    @property
    def margin(self) -> float:
        """By how much the gradient exceeds the bound of its error, ‖∂L/∂θ‖ − ε C; below 0 where no δ will do."""
        return self.gradient_norm - self.error_bound

    def holds(self, delta: float) -> bool:
        """Return whether ε C ≤ ‖∂L/∂θ‖ (1 − δ) / (1 + δ).

        Raises
        ------
        ValueError
            If δ is not between 0 and 1.
        """
        if not 0 < delta < 1:
            raise ValueError(f"delta is {delta!r}; expected a number between 0 and 1, both excluded.")
        return self.error_bound <= self.gradient_norm * (1 - delta) / (1 + delta)


def track(
    learner: Learner, X: Tensor, y: Tensor, *, boundaries: Collection[int] | None = None, tolerance: float = 0.05
) -> dict[int, Tracking]:
    """Return, boundary by boundary, whether the chosen gradient of a batch satisfies the condition of convergence.

    Gradients are those of a copy: parameters, buffers, ``.grad`` and modes of the learner stay as they are, bit for
    bit. A rule that draws shows the draw that its next step will use, and still has it to use. The network is taken in
    the mode that it is in; batch norm in training mode couples the examples, and J is that of the whole batch. What a
    rule of the feedback family changes inside a segment with several affine maps is no part of g and is not seen.

    At each boundary, ≈ 7 / √tolerance products with J and with Jᵀ are made, of about a training step of the
    segments below together, and as many vectors kept of the size of h_k or of θ, whichever is smaller.

    Parameters
    ----------
    learner : Learner
        One, not a stack.
    X : Tensor, shape (N, n_features)
    y : Tensor, shape (N,) or (N, n_outputs)
    boundaries : collection of int, optional
        Where to look; by default, where an estimator other than backprop stands. At any other the gradient that
        arrives there is what is compared. Where a rule is observed it is taken as if it were in use.
    tolerance : float, default 0.05
        How far the bound of ‖J‖₂ may lie above the norm, relatively.

    Returns
    -------
    dict of int to Tracking
        Empty if the network learns by backprop alone and no boundary is named.

    Raises
    ------
    ValueError
        If there is no such boundary, no parameter learns from it, the learner is a stack, or the tolerance is not
        above 0.
    ArithmeticError
        If the Jacobian is not finite.

    Examples
    --------
    >>> from repsim.learning import TrainingConfig, build_learner
    >>> config = TrainingConfig(rule="synthetic-gradient", depth=4, width=8)
    >>> X, y = torch.eye(12, 6), torch.arange(12) % 3
    >>> seen = track(build_learner(config, 6, 3), X, y)
    >>> seen[2].segments, seen[2].holds(0.5)  # S starts at zero: it errs by the whole gradient
    (range(1, 3), False)
    """
    check_positive("tolerance", tolerance)
    standing = _standing(learner)
    chosen_boundaries = standing if boundaries is None else sorted(boundaries)
    spans = {k: _span_below(learner.network, k, standing) for k in chosen_boundaries}
    twin = copy.deepcopy(learner).requires_grad_()  # so that gradients reach boundaries above what is frozen
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
    """Yield what ``train`` yields, and beside every so many steps what ``track`` sees after the update, else nothing.

    Training goes on as without, bit for bit.

    Parameters
    ----------
    steps : iterable of Step
        That of ``train``, over the same learner.
    learner, X, y, tolerance
        As in ``track``; the examples need not be those of the batch.
    every : int
        1 or more; steps whose number it divides are looked at.

    Yields
    ------
    step : Step
    seen : dict of int to Tracking
        Empty at the other steps.

    Raises
    ------
    ValueError
        If ``every`` is below 1, when the generator is first advanced.
    """
    check_integer("every", every, 1)
    for step in steps:
        yield step, {} if step.step % every else track(learner, X, y, tolerance=tolerance)


def _standing(learner: Learner) -> list[int]:
    """Return the boundaries at which something else than backprop chooses, ascending."""
    return sorted(k for ks, estimator in learner.placed().items() for k in ks if not _is_backprop(estimator))


def _is_backprop(estimator: Estimator) -> bool:
    return estimator.passes_target_unchanged and type(estimator).through is Estimator.through


def _span_below(network: Chain, k: int, standing: list[int]) -> range:
    """Return the segments that learn from g_k."""
    network.check_boundary(k)
    span = range(max((below for below in standing if below < k), default=0) + 1, k + 1)
    if not any(parameter.requires_grad for i in span for parameter in network.segments[i - 1].parameters()):
        raise ValueError(
            f"No parameter learns from the gradient at boundary {k}: segments {span[0]} to {k} have none that requires "
            "a gradient. Leave this boundary out of 'boundaries'."
        )
    return span


@torch.no_grad()
def _inputs(network: Chain, X: Tensor) -> list[Tensor]:
    """Return h_0 … h_K; running statistics change."""
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
    _, forth, *_ = vjp(lambda u: back(u)[0], torch.zeros_like(h))  # that of a linear map is its transpose
    return theta, lambda u: back(u)[0], lambda v: forth(v)[0]
