"""Forward pass of sequences over windows of a recurrent network, and backward pass of the gradients between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from repsim.learning.estimators import Estimator, Signals
from repsim.learning.networks import RecurrentNetwork

__all__ = ["WindowTape", "regression_loss"]


class WindowTape:
    """The forward pass of one batch of sequences, and its backward pass with chosen gradients between windows.

    One estimator serves all boundaries, as windows share their parameters. It chooses the vector g_t that stands in for
    N times the gradient, with respect to the state after time step t, of the loss of all later windows. Its target is
    what the next window passes down from its own loss and from the vector chosen at its end. Without an estimator
    autograd differentiates the whole sequence.

    Parameters
    ----------
    network : RecurrentNetwork
        One network, or a stack of networks.
    estimators : mapping
        Empty, or the one estimator.
    X : Tensor, shape (*lead, N, T · n_features)
    watch : bool, default False
        See ``compute_gradients``.
    """

    def __init__(
        self,
        network: RecurrentNetwork,
        estimators: Mapping[int, Estimator] | Mapping[tuple[int, ...], Estimator],
        X: Tensor,
        watch: bool = False,
    ) -> None:
        self._network, self._n, self._watch = network, X.shape[-2], watch
        self._estimator = next(iter(estimators.values()), None)
        self._passed = network.run_windows(X, cut=self._estimator is not None)
        self._proposed: dict[int, tuple[Tensor, Signals]] = {}  # by boundary; all at the first one if chosen together
        self._g: dict[int, Tensor] = {}

    @property
    def output(self) -> Tensor:
        """The logits, as the network returns them."""
        return self._network.joined(self._passed.logits)

    def descend_from_loss(self, y: Tensor, loss: str) -> Tensor:
        """Run the backward pass from the true loss, a key of ``LOSSES``, and return its mean, shape (*lead)."""
        losses = self._network.losses_of(self._passed.logits, y, loss)
        means = [None if each is None else each.mean(dim=-1) for each in losses]  # (*lead) of each window
        found = torch.stack([each for each in means if each is not None]).sum(dim=0)
        if self._estimator is None:
            self._backpropagate(found.sum())
        elif "target" in self._estimator.needs:
            self._descend_in_turn(means)
        else:
            self._descend_at_once(found.sum())
        return found.detach()

    def _backpropagate(self, total: Tensor) -> None:
        if self._watch:
            for state in self._passed.entering.values():
                state.retain_grad()
        total.backward()
        if self._watch:
            self._g = {t: self._target(t) for t in self._passed.entering}

    def _descend_at_once(self, total: Tensor) -> None:
        """Choose the gradients at all boundaries together, and run one backward pass of all windows."""
        assert self._estimator is not None
        leaving = self._passed.leaving
        signals = Signals(torch.cat([state.detach() for state in leaving.values()], dim=-2))
        chosen = self._estimator.gradient(signals)
        self._proposed[self._network.window] = self._estimator.proposal(chosen, signals), signals
        self._g = dict(zip(leaving, chosen.detach().split(self._n, dim=-2), strict=True))
        roots = [total, *leaving.values()]
        torch.autograd.backward(roots, [None, *(g / self._n for g in self._g.values())])

    def _descend_in_turn(self, means: Sequence[Tensor | None]) -> None:
        """Choose the gradient at each boundary, from the last one down, after the backward pass of the next window."""
        assert self._estimator is not None
        starts = [0, *self._passed.entering]
        for start, mean in zip(reversed(starts), reversed(means), strict=True):
            stop = start + self._network.window
            roots: dict[Tensor, Tensor | None] = {} if mean is None else {mean.sum(): None}
            if stop in self._g:
                roots[self._passed.leaving[stop]] = self._g[stop] / self._n
            if roots:
                torch.autograd.backward(list(roots), list(roots.values()))
            if start > 0:
                signals = Signals(self._passed.leaving[start].detach(), target=self._target(start))
                chosen = self._estimator.gradient(signals)
                self._proposed[start] = self._estimator.proposal(chosen, signals), signals
                self._g[start] = chosen.detach()

    def teach(self) -> dict[int, Tensor]:
        """Add the gradient of the estimator's loss, its mean over boundaries, to ``.grad`` of its parameters.

        Returns
        -------
        dict of int to Tensor
            The loss, shape (*lead), at the first boundary; empty if nothing learns.
        """
        if self._estimator is None:
            return {}
        first, together = self._network.window, list(self._passed.entering)
        losses = []
        for t, (proposed, signals) in self._proposed.items():
            targets = [self._target(each) for each in ([t] if len(self._proposed) > 1 else together)]
            loss = regression_loss(self._estimator, proposed, signals, torch.cat(targets, dim=-2))
            losses += [] if loss is None else [loss]
        if not losses:
            return {}
        mean = torch.stack(losses).mean(dim=0)
        if mean.requires_grad:
            mean.sum().backward()
        return {first: mean.detach()}

    def gradients(self) -> dict[int, Tensor]:
        """Return g_t, per example, at every boundary; of an observed rule, the gradient that it would have chosen."""
        proposed = {t: each.detach() for t, (each, _) in self._proposed.items()} if self._is_by_boundary else {}
        return dict(sorted((self._g | proposed).items()))

    @property
    def _is_by_boundary(self) -> bool:
        """Whether each boundary has a proposal of its own."""
        return self._estimator is not None and "target" in self._estimator.needs

    def _target(self, t: int) -> Tensor:
        """Return what the window after boundary t passes down, per example; 0 if its loss does not depend on it."""
        state = self._passed.entering[t]
        return torch.zeros_like(state) if state.grad is None else state.grad * self._n


def regression_loss(estimator: Estimator, proposed: Tensor, signals: Signals, target: Tensor) -> Tensor | None:
    """Return the loss that an estimator minimises, shape (*lead), or None if it has none."""
    if estimator.regresses and not proposed.requires_grad:
        return estimator.loss_of_residual(proposed - target, signals)
    return estimator.loss(proposed, replace(signals, target=target))
