"""The synchronous training step: one forward pass, one gradient per boundary, the chain rule inside each span."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from repsim.learning.estimators import Estimator, Signals
from repsim.learning.losses import LOSSES
from repsim.learning.networks import Chain

__all__ = ["Outcome", "Tape", "compute_gradients", "count_examples"]


@dataclass(frozen=True)
class Outcome:
    """What one step saw; every tensor is detached.

    Attributes
    ----------
    loss : Tensor, shape (*lead)
        Mean loss of the batch. A stack of networks has one each.
    logits : Tensor, shape (*lead, N, n_outputs)
    estimator_losses : dict of int to Tensor
        For each boundary whose estimator learns, its loss, shape (*lead).
    gradients : dict of int to Tensor
        For each boundary, if they were asked for, g_k, per example; where an estimator is observed, that which it
        would have chosen.
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
    everywhere: bool = False,
    watch: bool = False,
) -> Outcome:
    """Add the gradients of one batch to ``.grad`` of the network's and the estimators' parameters.

    At each boundary k the estimator there chooses g_k in place of N · ∂L/∂h_k; inside a segment the chain rule is
    exact. Boundaries without an estimator use backprop. The output segment always learns from the true loss. Weight
    gradients are means over the batch; boundary gradients are per example, so that no estimator depends on N.

    Consecutive segments joined by backprop are differentiated as one span, which gives the same numbers with less
    work; ``everywhere=True`` cuts wherever there is an estimator all the same (to test just that).

    Parameters
    ----------
    network : Chain
        Or a stack of them (``stacking.stack``).
    estimators : mapping of int, or of tuple of int, to Estimator
        By boundary; a stack of estimators by its boundaries.
    X : Tensor, shape (*lead, N, n_features)
    y : Tensor, shape (*lead, N)
        Classes (int64), or regression targets (*lead, N, n_outputs).
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    everywhere : bool, default False
    watch : bool, default False
        Whether to return the gradients of all boundaries; the update is the same, bit for bit.

    Returns
    -------
    Outcome
    """
    segments = dict(enumerate(network.segments, start=1))
    tape = Tape(segments, estimators, network.input(X), count_examples(y), everywhere, watch)
    value = tape.descend_from_loss(y, loss)
    return Outcome(value, tape.output.detach(), tape.teach(), tape.gradients() if watch else {})


def count_examples(y: Tensor) -> int:
    """Return N for classes (*lead, N) or regression targets (*lead, N, n_outputs)."""
    return y.shape[-2] if y.is_floating_point() and y.ndim > 1 else y.shape[-1]


class Tape:
    """One batch on its way up through consecutive segments, and the gradients on their way down.

    Parameters
    ----------
    segments : mapping of int to nn.Module
        Consecutive, by number: segment k lies above boundary k - 1.
    estimators : mapping
        Those at boundaries between these segments.
    X : Tensor
        What enters the first of them.
    n_examples : int
        N.
    everywhere, watch : bool
        See ``compute_gradients``.
    """

    def __init__(
        self,
        segments: Mapping[int, nn.Module],
        estimators: Mapping[int, Estimator] | Mapping[tuple[int, ...], Estimator],
        X: Tensor,
        n_examples: int,
        everywhere: bool = False,
        watch: bool = False,
    ) -> None:
        self._segments, self._n, self._watch = dict(segments), n_examples, watch
        self._placed = {key if isinstance(key, tuple) else (key,): each for key, each in estimators.items()}
        self._alone = {ks[0]: estimator for ks, estimator in self._placed.items() if len(ks) == 1}
        self._cuts = self._find_cuts(everywhere)
        self._below: dict[int, Tensor] = {}  # h_k as a leaf: the input of the span above cut k
        self._h: dict[int, Tensor] = {}  # h_k, the output of segment k, with its graph
        self._g: dict[int, Tensor] = {}  # g_k at cut k
        self._proposed: dict[tuple[int, ...], tuple[Tensor, Signals]] = {}  # what each estimator proposed, and saw
        h = X.detach()  # the input gets no gradient
        for k, segment in self._segments.items():
            if k - 1 in self._cuts:
                h = self._below[k - 1] = h.detach().requires_grad_()
            estimator = self._alone.get(k - 1)
            h = self._h[k] = segment(h) if estimator is None else estimator.through(segment, h)
            if watch and h.requires_grad:
                h.retain_grad()
        self.output = h

    def needs(self, signal: str) -> bool:
        """Return whether any estimator reads a signal to choose its gradient."""
        return any(signal in estimator.needs for estimator in self._placed.values())

    def descend_from_loss(self, y: Tensor, loss: str) -> Tensor:
        """Descend from the true loss of the output, a key of ``LOSSES``; return its mean, shape (*lead)."""
        value = LOSSES[loss](self.output, y).mean(dim=-1)  # (*lead)
        error = None
        if self.needs("error"):
            error = torch.autograd.grad(value.sum(), self.output, retain_graph=True)[0] * self._n
        self.descend(y, value.sum(), None, error)
        return value.detach()

    def descend(
        self, y: Tensor | None, root: Tensor, root_gradient: Tensor | None = None, error: Tensor | None = None
    ) -> None:
        """Choose a gradient at each cut, from the top, and add those of the segments' parameters to ``.grad``.

        Parameters
        ----------
        y : Tensor or None
            Labels.
        root, root_gradient : Tensor
            What to differentiate at the top: a scalar, or the output and its gradient, per example.
        error : Tensor, optional
            e, if an estimator needs it.
        """
        for ks, estimator in self._placed.items():
            if len(ks) > 1:
                signals = self._signals_of_stack(ks, estimator, y, error)
                chosen = estimator.gradient(signals)
                self._proposed[ks] = chosen, signals
                self._g |= dict(zip(ks, chosen.detach().unbind(_stack_axis(chosen, estimator)), strict=True))
        if root_gradient is not None:
            self._g[max(self._segments)] = root_gradient
        roots, root_gradients = [root], [None if root_gradient is None else root_gradient / self._n]
        for k in reversed([k for k in self._cuts if k in self._h]):  # no one here chooses what goes further down
            if k not in self._g:
                influence = self._influence(k)  # before the graph that it needs is used up
                if self._waits(k):
                    torch.autograd.backward(roots, root_gradients)
                    roots, root_gradients = [], []
                self._g[k] = self._choose(k, y, error, influence).detach()
            roots.append(self._h[k])
            root_gradients.append(self._g[k] / self._n)
        torch.autograd.backward(roots, root_gradients)

    def teach(self) -> dict[int, Tensor]:
        """Add the gradients of what estimators minimise to ``.grad`` of their parameters; return their losses."""
        losses: dict[int, Tensor] = {}
        learning: list[Tensor] = []
        for ks, (proposed, signals) in self._proposed.items():
            estimator = self._placed[ks]
            loss: Tensor | None
            if estimator.regresses and not proposed.requires_grad:
                loss = estimator.loss_of_residual(self._residual(ks, proposed, estimator), signals)
            else:
                target, above = self._targets(ks, estimator), self._segment_above(ks[0])
                loss = estimator.loss(proposed, replace(signals, target=target, segment_above=above))
            if loss is not None:
                losses |= zip(ks, loss.detach().unbind(-1) if len(ks) > 1 else [loss.detach()], strict=True)
                learning += [loss.sum()] if loss.requires_grad else []
        if learning:
            torch.autograd.backward(learning)  # the parameters of different boundaries are disjoint
        return dict(sorted(losses.items()))

    def gradients(self) -> dict[int, Tensor]:
        """Return g_k at every boundary between these segments, per example; what is observed, where a rule is."""
        found: dict[int, Tensor] = {}
        for k in list(self._segments)[:-1]:
            found[k] = self._g[k] if k in self._g else _gradient(self._h[k]) * self._n
        return found | {ks[0]: proposed.detach() for ks, (proposed, _) in self._proposed.items() if len(ks) == 1}

    def target_below(self) -> Tensor:
        """Return the gradient that arrives at the input of the first segment, per example."""
        return _gradient(self._below[min(self._segments) - 1]) * self._n

    def _find_cuts(self, everywhere: bool) -> list[int]:
        """Return the boundaries at which the chain is cut, ascending."""
        cuts = {min(self._segments) - 1} - {0}
        for ks, estimator in self._placed.items():
            if everywhere or not estimator.passes_target_unchanged:
                cuts |= {k + up for k in ks for up in ((0, 1) if estimator.needs & _ABOVE else (0,))}
        return sorted(cuts & {k - 1 for k in self._segments})

    def _waits(self, k: int) -> bool:
        """Return whether g_k cannot be chosen before the spans above are differentiated."""
        return k not in self._alone or "target" in self._alone[k].needs

    def _choose(self, k: int, y: Tensor | None, error: Tensor | None, influence: Tensor | None) -> Tensor:
        if k not in self._alone:
            return self._target(k)
        estimator = self._alone[k]
        needs = estimator.needs
        signals = Signals(
            self._below[k].detach(),
            y,
            target=self._target(k) if "target" in needs else None,
            error=error if "error" in needs else None,
            influence=influence,
            activation_above=self._h[k + 1].detach() if "activation_above" in needs else None,
            gradient_above=self._g[k + 1] if "gradient_above" in needs else None,
        )
        chosen = estimator.gradient(signals)
        self._proposed[k,] = estimator.proposal(chosen, signals), signals
        return chosen

    def _influence(self, k: int) -> Tensor | None:
        if k not in self._alone or "influence" not in self._alone[k].needs:
            return None
        above = self._h[k + 1]
        return torch.autograd.grad(above, self._below[k], torch.ones_like(above), retain_graph=True)[0]

    def _signals_of_stack(
        self, ks: tuple[int, ...], estimator: Estimator, y: Tensor | None, error: Tensor | None
    ) -> Signals:
        axis = self._below[ks[0]].ndim - len(estimator.site.shape) - 1
        h = torch.stack([self._below[k].detach() for k in ks], dim=axis)
        labels, error = (None if each is None else each.unsqueeze(axis) for each in (y, error))
        return Signals(h, labels, error=error)

    def _target(self, k: int) -> Tensor:
        """Return t_k: what the span above the boundary passes down, per example."""
        return _gradient(self._below[k]) * self._n

    def _targets(self, ks: tuple[int, ...], estimator: Estimator) -> Tensor:
        if len(ks) == 1:
            return self._target(ks[0])
        axis = self._below[ks[0]].ndim - len(estimator.site.shape) - 1
        return torch.stack([_gradient(self._below[k]) for k in ks], dim=axis).mul_(self._n)

    def _residual(self, ks: tuple[int, ...], proposed: Tensor, estimator: Estimator) -> Tensor:
        """Return g - t, in the memory of g unless that is looked at later: what is written anew is not in any cache."""
        residual = proposed.clone() if self._watch else proposed
        parts = [residual] if len(ks) == 1 else residual.unbind(_stack_axis(proposed, estimator))
        for k, part in zip(ks, parts, strict=True):
            part.sub_(_gradient(self._below[k]), alpha=self._n)
        return residual

    def _segment_above(self, k: int) -> Callable[[Tensor], Tensor]:
        segment = self._segments[k + 1]

        @torch.no_grad()
        def forgetful(h: Tensor) -> Tensor:
            buffers = {name: buffer.clone() for name, buffer in segment.named_buffers()}
            return functional_call(segment, buffers, (h,))

        return forgetful


_ABOVE = frozenset({"influence", "activation_above", "gradient_above"})


def _gradient(h: Tensor) -> Tensor:
    assert h.grad is not None
    return h.grad


def _stack_axis(chosen: Tensor, estimator: Estimator) -> int:
    """Return the axis of the boundaries in what a stack of estimators chose: that before the examples'."""
    return chosen.ndim - len(estimator.site.shape) - 2
