"""Forward pass of one batch through a chain of segments, and backward pass of its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from repsim.learning.estimators import Estimator, Signals
from repsim.learning.estimators.passes.equilibrium_propagation import EquilibriumPropagation
from repsim.learning.estimators.passes.second_pass import run_second_passes
from repsim.learning.inputs import SyntheticInput
from repsim.learning.losses import LOSSES
from repsim.learning.networks.true_gradient import apply_without_side_effects, true_gradients_from
from repsim.learning.streams import drawing_again, drawn_so_far

__all__ = ["Tape"]


class Tape:
    """The forward pass of one batch through consecutive segments, and its backward pass with chosen gradients.

    The chain is cut at boundaries where an estimator chooses the gradient. The segments between two cuts are a span,
    which autograd differentiates as one.

    Parameters
    ----------
    segments : mapping of int to nn.Module
        Consecutive segments by number: segment k lies above boundary k - 1.
    estimators : mapping
        Estimators at the boundaries between these segments, keyed as in ``compute_gradients``.
    X : Tensor
        Input of the first segment.
    n_examples : int
        Number of examples N in the batch.
    watch : bool, default False
        See ``compute_gradients``.
    predicted : mapping of int to Tensor, optional
        Predictions of synthetic inputs, by the boundary between these segments above which they replace h_k.
    """

    def __init__(
        self,
        segments: Mapping[int, nn.Module],
        estimators: Mapping[int, Estimator] | Mapping[tuple[int, ...], Estimator],
        X: Tensor,
        n_examples: int,
        watch: bool = False,
        predicted: Mapping[int, Tensor] | None = None,
    ) -> None:
        self._predicted = dict(predicted or {})
        self._segments, self._n, self._watch = dict(segments), n_examples, watch
        if any(isinstance(each, EquilibriumPropagation) for each in estimators.values()):
            raise ValueError(
                "EquilibriumPropagation trains a network that relaxes to an equilibrium. Build it with build_learner "
                "or Learner.with_rule, and train with the synchronous step."
            )
        self._placed = {key if isinstance(key, tuple) else (key,): each for key, each in estimators.items()}
        self._alone = {ks[0]: estimator for ks, estimator in self._placed.items() if len(ks) == 1}
        self._cuts = self._find_cuts()
        self._below: dict[int, Tensor] = {}  # h_k, or its prediction, as a leaf: the input of the span above cut k
        self._h: dict[int, Tensor] = {}  # h_k, the output of segment k, with its graph
        self._g: dict[int, Tensor] = {}  # g_k at cut k
        self._true: dict[int, Tensor] = {}  # N · ∂L/∂h_k, where an estimator needs it
        self._proposed: dict[tuple[int, ...], tuple[Tensor, Signals]] = {}  # by estimator
        self._learning_again = {k: each for k, each in self._alone.items() if each.learns_again}
        self._again: dict[int, Tensor] = {}  # h'_k, with its graph, where a rule learns in a second pass
        h = self._X = X.detach()  # the input gets no gradient
        needing = [k for ks, each in self._placed.items() if "true_gradient" in each.needs for k in ks]
        self._lowest_true = min(needing, default=None)
        for k, segment in self._segments.items():
            if k - 1 == self._lowest_true:
                self._drawn = drawn_so_far(X.device)
            if k - 1 in self._cuts:
                h = self._below[k - 1] = self._predicted.get(k - 1, h).detach().requires_grad_()
            estimator = self._alone.get(k - 1)
            h = self._h[k] = segment(h) if estimator is None else estimator.through(segment, h)
            if watch and h.requires_grad:
                h.retain_grad()
        self.output = h

    def needs(self, signal: str) -> bool:
        """Return whether any estimator needs a signal to choose its gradient."""
        return any(signal in estimator.needs for estimator in self._placed.values())

    def descend_from_loss(self, y: Tensor, loss: str) -> Tensor:
        """Run the backward pass from the true loss, a key of ``LOSSES``, and return its mean, shape (*lead)."""
        value = LOSSES[loss](self.output, y).mean(dim=-1)  # (*lead)
        error = None
        if self.needs("error"):
            error = torch.autograd.grad(value.sum(), self.output, retain_graph=True)[0] * self._n
        self._true = self._true_gradients(y, loss)
        self.descend(y, value.sum(), None, error)
        return value.detach()

    def descend(
        self, y: Tensor | None, root: Tensor, root_gradient: Tensor | None = None, error: Tensor | None = None
    ) -> None:
        """Choose a gradient at each cut, from the top down, and add parameter gradients to ``.grad`` of the segments.

        Differentiation starts at ``root``: a scalar loss, or the output with its per-example gradient. ``error`` is the
        per-example gradient of the loss with respect to the output, required if an estimator needs it.
        """
        for ks, estimator in self._placed.items():
            if len(ks) > 1:
                signals = self._signals_of_stack(ks, estimator, y, error)
                chosen = estimator.gradient(signals)
                self._proposed[ks] = chosen, signals
                self._g |= dict(zip(ks, chosen.detach().unbind(_stack_axis(chosen, estimator)), strict=True))
        self._again = run_second_passes(self._learning_again, self._segments, self._X, y, error)
        if root_gradient is not None:
            self._g[max(self._segments)] = root_gradient
        roots, root_gradients = [root], [None if root_gradient is None else root_gradient / self._n]
        for k in reversed([k for k in self._cuts if k in self._h]):  # the gradient at the input is not chosen here
            if k not in self._g:
                influence = self._influence(k)  # before the graph that it needs is used up
                if self._waits(k):
                    torch.autograd.backward(roots, root_gradients)
                    roots, root_gradients = [], []
                chosen = self._choose(k, y, error, influence).detach()
                self._g[k] = self._first_pass(k, chosen)
                if k in self._again:
                    self._pass_down(k)
                    roots.append(self._again[k])
                    root_gradients.append(chosen / self._n)
                    continue
            roots.append(self._h[k])
            root_gradients.append(self._g[k] / self._n)
        torch.autograd.backward(roots, root_gradients)

    def teach(self) -> dict[int, Tensor]:
        """Add the gradients of the estimators' losses to ``.grad`` of their parameters, and return the losses."""
        losses: dict[int, Tensor] = {}
        learning: list[Tensor] = []
        for ks, (proposed, signals) in self._proposed.items():
            estimator = self._placed[ks]
            loss: Tensor | None
            if estimator.regresses and not proposed.requires_grad:
                loss = estimator.loss_of_residual(self._residual(ks, proposed, estimator), signals)
            else:
                loss = estimator.loss(proposed, self._with_target(ks, estimator, signals))
            if loss is not None:
                losses |= zip(ks, loss.detach().unbind(-1) if len(ks) > 1 else [loss.detach()], strict=True)
                learning += [loss.sum()] if loss.requires_grad else []
        if learning:
            torch.autograd.backward(learning)  # the parameters of different boundaries are disjoint
        return dict(sorted(losses.items()))

    def teach_inputs(self, modules: Mapping[int, SyntheticInput]) -> dict[int, Tensor]:
        """Add the gradients of the losses of synthetic inputs to ``.grad`` of their parameters; return the losses."""
        losses = self.input_losses(modules, self._predicted)
        if losses:
            torch.autograd.backward([loss.sum() for loss in losses.values()])
        return {k: loss.detach() for k, loss in losses.items()}

    def input_losses(self, modules: Mapping[int, SyntheticInput], predicted: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Return the losses of synthetic inputs with these predictions."""
        return {k: module.loss(predicted[k], self._h[k]) for k, module in modules.items()}

    @torch.no_grad()
    def input_errors(self, modules: Mapping[int, SyntheticInput]) -> dict[int, Tensor]:
        """Return the relative error of each synthetic input."""
        return {k: module.relative_error(self._predicted[k], self._h[k]) for k, module in modules.items()}

    @torch.no_grad()
    def estimator_losses(self) -> Tensor:
        """Return the sum of the losses of estimators that learn, with their present parameters, after ``teach``.

        Buffers of estimators, such as running averages, stay as they are.
        """
        total = self.output.new_zeros(())
        for ks, (_, signals) in self._proposed.items():
            estimator = self._placed[ks]
            if type(estimator).loss is not Estimator.loss and any(p.requires_grad for p in estimator.parameters()):
                buffers = [(buffer, buffer.clone()) for buffer in estimator.buffers()]
                loss = self._loss_again(ks, estimator, signals)
                total = total if loss is None else total + loss.sum()
                for buffer, before in buffers:
                    buffer.copy_(before)
        return total

    def _loss_again(self, ks: tuple[int, ...], estimator: Estimator, signals: Signals) -> Tensor | None:
        signals = self._with_target(ks, estimator, signals)
        return estimator.loss(estimator.proposal(estimator.gradient(signals), signals), signals)

    def _with_target(self, ks: tuple[int, ...], estimator: Estimator, signals: Signals) -> Signals:
        """Return the signals with those that are known only after the backward pass."""
        target = None if estimator.learns_again else self._targets(ks, estimator)
        return replace(signals, target=target, segment_above=self._segment_above(ks[0]))

    def gradients(self) -> dict[int, Tensor]:
        """Return g_k, per example, at every boundary between these segments.

        At the boundary of an observed rule, the gradient that the rule would have chosen is returned.
        """
        gradients: dict[int, Tensor] = {}
        for k in list(self._segments)[:-1]:
            gradients[k] = self._g[k] if k in self._g else _gradient(self._h[k]) * self._n
        return gradients | {ks[0]: proposed.detach() for ks, (proposed, _) in self._proposed.items() if len(ks) == 1}

    def target_below(self) -> Tensor:
        """Return the gradient that arrives at the input of the first segment, per example."""
        return _gradient(self._below[min(self._segments) - 1]) * self._n

    def _find_cuts(self) -> list[int]:
        """Return the boundaries at which the chain is cut, in ascending order."""
        cuts = ({min(self._segments) - 1} | self._predicted.keys()) - {0}
        for ks, estimator in self._placed.items():
            if not estimator.passes_target_unchanged:
                cuts |= {k + up for k in ks for up in ((0, 1) if estimator.needs & _ABOVE else (0,))}
                cuts |= {k - 1 for k in ks if estimator.learns_again} - {0}
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
            self._h[k].detach(),
            y,
            target=self._target(k) if "target" in needs else None,
            error=error if "error" in needs else None,
            influence=influence,
            activation_above=self._h[k + 1].detach() if "activation_above" in needs else None,
            gradient_above=self._g[k + 1] if "gradient_above" in needs else None,
            true_gradient=self._true[k] if "true_gradient" in needs else None,
            again=self._again[k].detach() if estimator.learns_again else None,
        )
        chosen = estimator.gradient(signals)
        self._proposed[k,] = self._first_pass(k, estimator.proposal(chosen, signals)), signals
        return chosen

    def _first_pass(self, k: int, gradient: Tensor) -> Tensor:
        """Return g_k: of the gradient in a second pass, the rows of the examples as they were first repeated."""
        if k not in self._again:
            return gradient
        axis = self._h[k].ndim - len(self._alone[k].site.shape) - 1
        return gradient.narrow(axis, 0, self._n)

    def _pass_down(self, k: int) -> None:
        """Give the boundary below k its pull-back of g_k, which reaches no parameter of segment k.

        Segment k learns in the second pass, but rules below may use the gradient that arrives there in the first.
        """
        if k == 1 or k - 1 in self._learning_again:
            return
        below = self._alone.get(k - 1)
        feedback = [] if below is None else list(below.parameters())  # which may act in the backward pass of segment k
        inputs = [self._below[k - 1], *feedback]
        torch.autograd.backward(self._h[k], self._g[k] / self._n, retain_graph=True, inputs=inputs)

    def _true_gradients(self, y: Tensor, loss: str) -> dict[int, Tensor]:
        """Return the true gradient from the lowest boundary on whose estimator needs it."""
        lowest = self._lowest_true
        if lowest is None:
            return {}
        above = {k: segment for k, segment in self._segments.items() if k > lowest}
        with drawing_again(self._drawn, y.device):
            return true_gradients_from(self._h[lowest], above, y, loss)

    def _influence(self, k: int) -> Tensor | None:
        if k not in self._alone or "influence" not in self._alone[k].needs:
            return None
        above = self._h[k + 1]
        return torch.autograd.grad(above, self._below[k], torch.ones_like(above), retain_graph=True)[0]

    def _signals_of_stack(
        self, ks: tuple[int, ...], estimator: Estimator, y: Tensor | None, error: Tensor | None
    ) -> Signals:
        axis = self._h[ks[0]].ndim - len(estimator.site.shape) - 1
        h = torch.stack([self._h[k].detach() for k in ks], dim=axis)
        labels, error = (None if each is None else each.unsqueeze(axis) for each in (y, error))
        needs_true = "true_gradient" in estimator.needs
        true = torch.stack([self._true[k] for k in ks], dim=axis) if needs_true else None
        return Signals(h, labels, error=error, true_gradient=true)

    def _target(self, k: int) -> Tensor:
        """Return t_k, the gradient that the span above boundary k passes down, per example."""
        return _gradient(self._below[k]) * self._n

    def _targets(self, ks: tuple[int, ...], estimator: Estimator) -> Tensor:
        if len(ks) == 1:
            return self._target(ks[0])
        axis = self._below[ks[0]].ndim - len(estimator.site.shape) - 1
        return torch.stack([_gradient(self._below[k]) for k in ks], dim=axis).mul_(self._n)

    def _residual(self, ks: tuple[int, ...], proposed: Tensor, estimator: Estimator) -> Tensor:
        """Return g - t, in the memory of g (which is still in the CPU cache) unless g is needed later."""
        residual = proposed.clone() if self._watch else proposed
        parts = [residual] if len(ks) == 1 else residual.unbind(_stack_axis(proposed, estimator))
        for k, part in zip(ks, parts, strict=True):
            part.sub_(_gradient(self._below[k]), alpha=self._n)
        return residual

    def _segment_above(self, k: int) -> Callable[[Tensor], Tensor]:
        segment = self._segments[k + 1]

        @torch.no_grad()
        def apply(h: Tensor) -> Tensor:
            return apply_without_side_effects(segment, h)

        return apply


_ABOVE = frozenset({"influence", "activation_above", "gradient_above"})


def _gradient(h: Tensor) -> Tensor:
    assert h.grad is not None
    return h.grad


def _stack_axis(chosen: Tensor, estimator: Estimator) -> int:
    """Return the axis of a stacked gradient that counts boundaries: the one before the axis of examples."""
    return chosen.ndim - len(estimator.site.shape) - 2
