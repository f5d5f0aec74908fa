"""Training as a generator: one record out per update; the caller stops it by stopping to iterate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning.learner import Learner
from repsim.learning.schedules import SCHEDULES
from repsim.learning.seeds import stream

__all__ = ["Diverged", "Evaluation", "Step", "count_steps", "evaluate", "train"]


class Diverged(ArithmeticError):
    """The loss, or that of an estimator, stopped being a finite number.

    Attributes
    ----------
    step : int
        The step at which it was seen.
    """

    def __init__(self, step: int, loss: float, boundary: int | None = None) -> None:
        whose = "" if boundary is None else f" of the estimator at boundary {boundary}"
        super().__init__(
            f"Training diverged: the loss{whose} is {loss} at step {step}. Try a lower learning rate; "
            "checkpoints committed before this step are intact."
        )
        self.step = step


@dataclass(frozen=True)
class Step:
    """One update.

    Attributes
    ----------
    step : int
        Updates made so far, from 1.
    epoch : int
        The pass over the training examples that this update belongs to, from 1.
    loss : float
        Mean cross-entropy of the batch before the update, in nats.
    accuracy : float
        Fraction of the batch classified correctly before the update, 0 to 1.
    estimator_losses : dict of int to float
        By boundary, for each estimator that learns.
    """

    step: int
    epoch: int
    loss: float
    accuracy: float
    estimator_losses: dict[int, float]


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy in nats and accuracy (0 to 1) of a network in evaluation mode."""

    loss: float
    accuracy: float


def count_steps(n_examples: int, batch_size: int, epochs: int) -> int:
    """Return the number of updates that ``train`` makes: whole batches an epoch, times epochs.

    Raises
    ------
    ValueError
        If not even one batch can be filled.
    """
    if batch_size > n_examples:
        raise ValueError(
            f"batch_size is {batch_size} but there are only {n_examples} training examples; use a smaller batch_size."
        )
    return (n_examples // batch_size) * epochs


def train(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    X: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    schedule: str = "constant",
    start: int = 0,
) -> Iterator[Step]:
    """Train a learner, yielding after every update.

    The order of the examples in an epoch is a function of the seed and the epoch, and a scheduled learning rate of
    the step, so that a run continued at ``start`` with the learner and optimizer of that step makes the updates that
    it would have made uninterrupted, bit for bit on one machine and thread count.

    Parameters
    ----------
    learner : Learner
    optimizer : torch.optim.Optimizer
        The base of the schedule is each group's ``initial_lr``, set to its ``lr`` here if absent. It is part of the
        optimizer's ``state_dict``, so that a resumed optimizer has it.
    X : Tensor, shape (n, n_features)
    y : Tensor of int64, shape (n,)
    epochs, batch_size, seed : int
    schedule : str, default "constant"
        Or "cosine": rate × (1 + cos(π · step / steps)) / 2.
    start : int, default 0
        Updates already made.

    Yields
    ------
    Step

    Raises
    ------
    Diverged
        If the loss, or that of an estimator, is not finite; the update of that step is not made.
    ValueError
        If not even one batch can be filled. Both come when the generator is first advanced, not at the call.
    """
    n_steps = count_steps(len(y), batch_size, epochs)
    steps_per_epoch = len(y) // batch_size
    base_rates = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
    learner.train()
    for step in range(start, n_steps):
        epoch, batch = divmod(step, steps_per_epoch)
        if batch == 0 or step == start:
            order = _order(seed, epoch, len(y))
        _set_rates(optimizer, base_rates, SCHEDULES[schedule](step / n_steps))
        chosen = order[batch * batch_size : (batch + 1) * batch_size]
        yield _update(learner, optimizer, X[chosen], y[chosen], step + 1, epoch + 1)


@torch.no_grad()
def evaluate(network: nn.Module, X: Tensor, y: Tensor, *, batch_size: int = 4096) -> Evaluation:
    """Return loss and accuracy of a network in evaluation mode; every module's mode is put back afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        logits = torch.cat([network(rows) for rows in X.split(batch_size)])
    finally:
        for module, training in modes.items():
            module.training = training
    return Evaluation(float(F.cross_entropy(logits, y)), _accuracy(logits, y))


def _update(learner: Learner, optimizer: torch.optim.Optimizer, X: Tensor, y: Tensor, step: int, epoch: int) -> Step:
    optimizer.zero_grad(set_to_none=True)
    outcome = learner.compute_gradients(X, y)
    loss = float(outcome.loss)
    estimator_losses = {k: float(value) for k, value in outcome.estimator_losses.items()}
    for boundary, value in [(None, loss), *estimator_losses.items()]:
        if not math.isfinite(value):
            raise Diverged(step, value, boundary)
    optimizer.step()
    return Step(step, epoch, loss, _accuracy(outcome.logits, y), estimator_losses)


def _order(seed: int, epoch: int, n_examples: int) -> Tensor:
    return torch.randperm(n_examples, generator=stream(seed, "order", epoch))


def _set_rates(optimizer: torch.optim.Optimizer, base_rates: list[float], factor: float) -> None:
    for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
        group["lr"] = rate * factor


def _accuracy(logits: Tensor, y: Tensor) -> float:
    return float((logits.argmax(dim=1) == y).float().mean())
