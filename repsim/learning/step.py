"""The synchronous training step: one forward pass, one gradient per boundary, exact backprop inside segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from repsim.learning.estimators import Estimator
from repsim.learning.losses import count_examples
from repsim.learning.networks import Chain, RecurrentNetwork
from repsim.learning.recurrent import WindowTape
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
    """

    loss: Tensor
    logits: Tensor
    estimator_losses: dict[int, Tensor]
    gradients: dict[int, Tensor] = field(default_factory=dict)


def compute_gradients(
    network: Chain,
    estimators: Mapping[int, Estimator] | Mapping[tuple[int, ...], Estimator],
    X: Tensor,
    y: Tensor,
    *,
    loss: str = "log_loss",
    watch: bool = False,
) -> Outcome:
    """Add the gradients of one batch to ``.grad`` of the network's and the estimators' parameters.

    The estimator at boundary k chooses g_k in place of N · ∂L/∂h_k; inside a segment the chain rule is exact.
    Boundaries without an estimator use backprop. The output segment always learns from the true loss. Gradients of
    weights are means over the batch; gradients at boundaries are per example, so that no estimator depends on N.

    Consecutive segments joined by backprop are differentiated as one span, which gives the same numbers with less
    work.

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
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    watch : bool, default False
        Whether to return the gradients at all boundaries. It does not change the update, bit for bit.
    """
    tape = run_forward(network, estimators, X, y, watch=watch)
    value = tape.descend_from_loss(y, loss)
    return Outcome(value, tape.output.detach(), tape.teach(), tape.gradients() if watch else {})


def run_forward(
    network: Chain,
    estimators: Mapping[int, Estimator] | Mapping[tuple[int, ...], Estimator],
    X: Tensor,
    y: Tensor,
    *,
    watch: bool = False,
) -> Tape | WindowTape:
    """Return the forward pass of one batch, ready for the backward pass; arguments as for ``compute_gradients``."""
    if isinstance(network, RecurrentNetwork):
        return WindowTape(network, estimators, X, watch)
    segments = dict(enumerate(network.segments, start=1))
    return Tape(segments, estimators, network.input(X), count_examples(y), watch)
