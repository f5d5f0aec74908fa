"""Online training of recurrent networks: an update after every window."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from repsim.learning.estimators import Estimator, Signals
from repsim.learning.networks import RecurrentNetwork
from repsim.learning.recurrent.window_tape import regression_loss

__all__ = ["update_after_windows"]


def update_after_windows(
    network: RecurrentNetwork,
    estimators: Mapping[tuple[int, ...], Estimator],
    X: Tensor,
    y: Tensor,
    update: Callable[[], None],
    *,
    loss: str = "log_loss",
) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
    """Run one network over sequences window by window, with an update after each window but the last.

    The states of earlier windows stay as they were computed. At the end of a window the estimator, as it is then,
    chooses g from the state. It learns in the next window, from the state that enters it, where its target is what that
    window passes down (Jaderberg et al. 2017, section 2.2). The gradients of the last window stay in ``.grad``, for the
    caller's update.

    Parameters
    ----------
    network, estimators, X, y, loss
        As for ``compute_gradients``; the estimator does not need the target to choose its gradient.
    update : callable
        Changes the parameters by their gradients, and removes the gradients.

    Returns
    -------
    loss : Tensor
    logits : Tensor
        Of each window before its own update.
    estimator_losses : dict of int to Tensor
        Mean over boundaries, at the first one.
    """
    estimator, n = next(iter(estimators.values()), None), X.shape[-2]
    sequences = network.input(X)
    state = network.first_state(sequences)
    logits: list[Tensor | None] = []
    losses: list[Tensor] = []
    taught: list[Tensor] = []
    starts = [0, *network.boundaries]
    for start in starts:
        entering = state.detach().requires_grad_(start > 0)
        state, found = network.run_window(sequences, entering, start)
        roots: dict[Tensor, Tensor | None] = {}
        if found is not None:
            mean = network.loss_of_window(found, y, loss, start).mean(dim=-1)
            losses.append(mean.detach())
            roots[mean] = None
        if start != starts[-1] and estimator is not None:
            roots[state] = estimator.gradient(Signals(state.detach())).detach() / n
        if roots:
            torch.autograd.backward(list(roots), list(roots.values()))
        if start > 0 and estimator is not None:
            taught += _taught(estimator, entering, n)
        if start != starts[-1]:
            update()
        logits.append(None if found is None else found.detach())
    learned = {network.window: torch.stack(taught).mean(dim=0)} if taught else {}
    return torch.stack(losses).sum(dim=0), network.joined(logits), learned


def _taught(estimator: Estimator, entering: Tensor, n: int) -> list[Tensor]:
    """Add the gradient of the estimator's loss at a state to ``.grad`` of its parameters, and return any loss."""
    signals = Signals(entering.detach())
    proposed = estimator.proposal(estimator.gradient(signals), signals)
    target = torch.zeros_like(entering) if entering.grad is None else entering.grad * n
    loss = regression_loss(estimator, proposed, signals, target)
    if loss is None:
        return []
    if loss.requires_grad:
        loss.sum().backward()
    return [loss.detach()]
