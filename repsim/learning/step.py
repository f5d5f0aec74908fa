"""The synchronous training step: one forward pass, one gradient per boundary, the chain rule inside each span."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from repsim.learning.estimators import Estimator, Signals
from repsim.learning.networks import Chain

__all__ = ["Outcome", "compute_gradients"]


@dataclass(frozen=True)
class Outcome:
    """What one step saw.

    Attributes
    ----------
    loss : Tensor, scalar
        Mean cross-entropy of the batch in nats, detached.
    logits : Tensor, shape (N, n_classes)
        Detached.
    estimator_losses : dict of int to Tensor
        For each boundary whose estimator learns, its loss, detached.
    """

    loss: Tensor
    logits: Tensor
    estimator_losses: dict[int, Tensor]


def compute_gradients(
    network: Chain, estimators: Mapping[int, Estimator], X: Tensor, y: Tensor, *, everywhere: bool = False
) -> Outcome:
    """Add the gradients of one batch to ``.grad`` of the network's and the estimators' parameters.

    At each boundary k the estimator there chooses g_k in place of N · ∂L/∂h_k; inside a segment the chain rule is
    exact. Boundaries without an estimator use backprop. The output segment always learns from the true loss. Weight
    gradients are means over the batch; boundary gradients are per example, so that no estimator depends on N.

    Consecutive segments joined by backprop are differentiated as one span, which gives the same numbers with less
    work; ``everywhere=True`` cuts at every boundary all the same (to test just that).

    Parameters
    ----------
    network : Chain
    estimators : mapping of int to Estimator
        By boundary.
    X : Tensor, shape (N, n_features)
    y : Tensor of int64, shape (N,)
    everywhere : bool, default False

    Returns
    -------
    Outcome
    """
    n_examples = len(y)
    cuts = [k for k in sorted(estimators) if everywhere or not estimators[k].passes_target_unchanged]
    tape = _forward(network, cuts, X)
    logits = tape[-1].output
    loss = F.cross_entropy(logits, y)

    roots, root_gradients = [loss], [torch.ones_like(loss)]
    estimates: dict[int, Tensor] = {}
    for below, above in zip(range(len(cuts) - 1, -1, -1), range(len(cuts), 0, -1), strict=True):
        boundary = cuts[below]
        signals = Signals(tape[above].input.detach(), y)
        if "target" in estimators[boundary].needs:
            torch.autograd.backward(roots, root_gradients)
            roots, root_gradients = [], []
            signals = replace(signals, target=_target(tape[above], n_examples))
        estimates[boundary] = estimators[boundary].gradient(signals)
        roots.append(tape[below].output)
        root_gradients.append(estimates[boundary].detach() / n_examples)
    torch.autograd.backward(roots, root_gradients)

    signals_at = {
        boundary: Signals(span.input.detach(), y, _target(span, n_examples))
        for boundary, span in zip(cuts, tape[1:], strict=True)
    }
    return Outcome(loss.detach(), logits.detach(), _teach(estimators, estimates, signals_at))


@dataclass(frozen=True)
class _Span:
    """Consecutive segments that share one autograd graph: from the cut below to the cut above."""

    input: Tensor
    output: Tensor


def _forward(network: Chain, cuts: list[int], X: Tensor) -> list[_Span]:
    segments = network.segments
    edges = [0, *cuts, len(segments)]
    tape = []
    h = X
    for start, stop in pairwise(edges):
        h = below = h.detach().requires_grad_(start > 0)
        for segment in segments[start:stop]:
            h = segment(h)
        tape.append(_Span(below, h))
    return tape


def _target(span: _Span, n_examples: int) -> Tensor:
    """Return t_k: what the span above the boundary passes down, per example."""
    assert span.input.grad is not None
    return span.input.grad * n_examples


def _teach(
    estimators: Mapping[int, Estimator], estimates: Mapping[int, Tensor], signals_at: Mapping[int, Signals]
) -> dict[int, Tensor]:
    losses = {k: estimators[k].loss(estimate, signals_at[k]) for k, estimate in estimates.items()}
    learning = {k: loss for k, loss in losses.items() if loss is not None}
    if learning:
        torch.stack(list(learning.values())).sum().backward()  # the parameters of different boundaries are disjoint
    return {k: loss.detach() for k, loss in sorted(learning.items())}
