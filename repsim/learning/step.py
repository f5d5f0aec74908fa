"""The synchronous training step: one forward pass, one gradient per boundary, exact backprop inside segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from repsim.learning.estimators import Estimator
from repsim.learning.estimators.passes.equilibrium_propagation import learn_from_equilibria
from repsim.learning.inputs import SyntheticInput, predict_inputs
from repsim.learning.losses import count_examples
from repsim.learning.networks import Chain, EquilibriumNetwork, RecurrentNetwork
from repsim.learning.recurrent import WindowTape, check_without_inputs
from repsim.learning.tape import Tape

__all__ = ["Outcome", "compute_gradients", "run_forward"]


@dataclass(frozen=True)
class Outcome:
    """Losses, logits and gradients of one training step; every tensor is detached.

    Attributes
    ----------
    loss : Tensor, shape (*lead)
        Mean loss of the batch; for a stack of networks, of each.
    logits : Tensor, shape (*lead, N, n_outputs)
    estimator_losses : dict of int to Tensor
        Loss of each estimator that learns, by boundary, shape (*lead).
    gradients : dict of int to Tensor
        g_k at each boundary, per example, if ``watch`` is True, otherwise empty. Where an estimator is only observed,
        the gradient that it would have chosen.
    input_losses : dict of int to Tensor
        Loss of each synthetic input, by boundary, shape (*lead).
    input_errors : dict of int to Tensor
        ‖ĥ_k − h_k‖ / ‖h_k‖ over all examples and units, by boundary, shape (*lead), if ``watch`` is True.
    estimator_losses_again : callable, optional
        Function that returns the sum of the losses of estimators and synthetic inputs with their present parameters, on
        the signals and targets of this batch; only if ``again`` is True, as it keeps these in memory.
    """

    loss: Tensor
    logits: Tensor
    estimator_losses: dict[int, Tensor]
    gradients: dict[int, Tensor] = field(default_factory=dict)
    input_losses: dict[int, Tensor] = field(default_factory=dict)
    input_errors: dict[int, Tensor] = field(default_factory=dict)
    estimator_losses_again: Callable[[], Tensor] | None = None


def compute_gradients(
    network: Chain,
    estimators: Mapping[int, Estimator] | Mapping[tuple[int, ...], Estimator],
    X: Tensor,
    y: Tensor,
    *,
    synthetic_inputs: Mapping[int, SyntheticInput] | None = None,
    loss: str = "log_loss",
    watch: bool = False,
    again: bool = False,
) -> Outcome:
    """Add the gradients of one batch to ``.grad`` of the network's and the estimators' parameters.

    The estimator at boundary k chooses g_k in place of N · ∂L/∂h_k; inside a segment the chain rule is exact.
    Boundaries without an estimator use backprop. The output segment always learns from the true loss. Gradients of
    weights are means over the batch; gradients at boundaries are per example, so that no estimator depends on N.

    Consecutive segments joined by backprop are differentiated as one span, which gives the same numbers with less
    work.

    An ``EquilibriumNetwork`` has no such pass; its weights learn from two equilibria, by equilibrium propagation.

    Parameters
    ----------
    network : Chain
        One network, or a stack of networks (``stack``).
    estimators : mapping of int, or of tuple of int, to Estimator
        Keyed by boundary; a stack of estimators is keyed by the tuple of its boundaries.
    X : Tensor, shape (*lead, N, n_features)
    y : Tensor, shape (*lead, N)
        Classes (int64), or regression targets (*lead, N, n_outputs); for a recurrent network with targets at several
        time steps, classes (*lead, N, n_scored).
    synthetic_inputs : mapping of int to SyntheticInput, optional
        By boundary. The segments above such a boundary train on the prediction of h_k from the stimulus, and everything
        that comes from above, such as t_k, was computed there; the estimator sees the activation from below. Batch
        norms update their statistics from the input on which they train. A recurrent network has none.
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    watch : bool, default False
        Whether to return the gradients at all boundaries. It does not change the update, bit for bit.
    again : bool, default False
        Whether to return a function that computes the losses of estimators and synthetic inputs again.
    """
    if isinstance(network, EquilibriumNetwork):
        each = {k: estimator for ks, estimator in estimators.items() for k in (ks if isinstance(ks, tuple) else (ks,))}
        value, output, chosen = learn_from_equilibria(network, each, X, y, loss)
        return Outcome(value, output, {}, chosen if watch else {})
    modules = synthetic_inputs or {}
    tape = run_forward(network, estimators, X, y, synthetic_inputs=modules, watch=watch)
    value, losses = tape.descend_from_loss(y, loss), tape.teach()
    outcome = Outcome(value, tape.output.detach(), losses, tape.gradients() if watch else {})
    if isinstance(tape, WindowTape):
        return outcome
    errors = tape.input_errors(modules) if watch else {}
    repeat = partial(_losses_again, tape, modules, X, y) if again else None
    return replace(outcome, input_losses=tape.teach_inputs(modules), input_errors=errors, estimator_losses_again=repeat)


@torch.no_grad()
def _losses_again(tape: Tape, modules: Mapping[int, SyntheticInput], X: Tensor, y: Tensor) -> Tensor:
    """Return the sum of the losses of estimators and synthetic inputs with their present parameters."""
    of_inputs = tape.input_losses(modules, predict_inputs(modules, X, y))
    return tape.estimator_losses() + sum(loss.sum() for loss in of_inputs.values())


def run_forward(
    network: Chain,
    estimators: Mapping[int, Estimator] | Mapping[tuple[int, ...], Estimator],
    X: Tensor,
    y: Tensor,
    *,
    synthetic_inputs: Mapping[int, SyntheticInput] | None = None,
    watch: bool = False,
) -> Tape | WindowTape:
    """Return the forward pass of one batch, ready for the backward pass; arguments as for ``compute_gradients``."""
    if isinstance(network, RecurrentNetwork):
        check_without_inputs(network, synthetic_inputs or {})
        return WindowTape(network, estimators, X, watch)
    segments = dict(enumerate(network.segments, start=1))
    predicted = predict_inputs(synthetic_inputs or {}, X, y)
    return Tape(segments, estimators, network.input(X), count_examples(y), watch, predicted)
