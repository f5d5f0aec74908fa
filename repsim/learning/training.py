"""Training as a generator: one record out per update; the caller stops it by stopping to iterate."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from repsim.learning.diagnostics import Diagnosis, diagnose, true_gradients
from repsim.learning.learner import Learner
from repsim.learning.losses import LOSSES
from repsim.learning.schedules import SCHEDULES
from repsim.learning.streams import stream

__all__ = ["Diverged", "Evaluation", "Step", "batches", "count_steps", "evaluate", "propagate", "set_rates", "train"]


class Diverged(ArithmeticError):
    """The loss, or that of an estimator, stopped being a finite number.

    Attributes
    ----------
    step : int
        The step at which it was seen.
    loss : float
        What it was.
    whose : str
        Empty for the loss of the network, or such as " of the critic".
    """

    def __init__(self, step: int, loss: float, whose: str = "") -> None:
        super().__init__(f"Training diverged: the loss{whose} is {loss} at step {step}. Try a lower learning rate.")
        self.step, self.loss, self.whose = step, loss, whose

    def __reduce__(self) -> tuple[type[Diverged], tuple[int, float, str]]:
        """Tell other processes how to make it again."""
        return Diverged, (self.step, self.loss, self.whose)


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
        Mean loss of the batch before the update.
    accuracy : float
        Fraction of the batch classified correctly before the update, 0 to 1; NaN for regression targets.
    estimator_losses : dict of int to float
        By boundary, for each estimator that learns.
    diagnoses : dict of int to Diagnosis
        By boundary, at the steps that were asked for: the chosen gradient beside the true one, before the update.
    """

    step: int
    epoch: int
    loss: float
    accuracy: float
    estimator_losses: dict[int, float]
    diagnoses: dict[int, Diagnosis] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and accuracy (0 to 1; NaN for regression targets) of a network in evaluation mode."""

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
    diagnosed: Container[int] = (),
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
    y : Tensor, shape (n,)
        Classes (int64), or regression targets (n, n_outputs).
    epochs, batch_size, seed : int
    schedule : str, default "constant"
        Or "cosine": rate × (1 + cos(π · step / steps)) / 2.
    start : int, default 0
        Updates already made.
    diagnosed : container of int, default empty
        The steps at which the chosen gradients are compared with the true ones, at the cost of one more forward and
        backward pass. Training goes on as without, bit for bit.

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
    learner.train()
    for step, epoch, rows in batches(len(y), epochs=epochs, batch_size=batch_size, seed=seed, start=start):
        set_rates(optimizer, SCHEDULES[schedule]((step - 1) / n_steps))
        (record,) = propagate(learner, optimizer, X[rows], y[rows], step, epoch, step in diagnosed)
        if isinstance(record, Diverged):
            raise record
        optimizer.step()
        yield record


def batches(
    n_examples: int, *, epochs: int, batch_size: int, seed: int, start: int = 0
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield for each update that ``train`` makes its number, its epoch (both from 1) and the examples in its batch."""
    steps_per_epoch = n_examples // batch_size
    for step in range(start, count_steps(n_examples, batch_size, epochs)):
        epoch, batch = divmod(step, steps_per_epoch)
        if batch == 0 or step == start:
            order = torch.randperm(n_examples, generator=stream(seed, "order", epoch))
        yield step + 1, epoch + 1, order[batch * batch_size : (batch + 1) * batch_size]


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to a multiple of its ``initial_lr``, which is its present one if it has none."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def propagate(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    X: Tensor,
    y: Tensor,
    step: int,
    epoch: int,
    diagnosed: bool = False,
) -> list[Step | Diverged]:
    """Put the gradients of one batch in place of the last's, and return what was seen.

    Parameters
    ----------
    learner : Learner
        Or a stack of them.
    optimizer : torch.optim.Optimizer
        Over its parameters; it does not step.
    X : Tensor, shape (*lead, N, n_features)
    y : Tensor, shape (*lead, N)
    step, epoch, diagnosed
        See ``Step``.

    Returns
    -------
    list of Step or Diverged
        One for each network.
    """
    optimizer.zero_grad(set_to_none=True)
    true = true_gradients(learner.network, X, y, loss=learner.loss) if diagnosed else {}
    outcome = learner.compute_gradients(X, y, watch=diagnosed)
    diagnoses = diagnose(outcome.gradients, true, lead=outcome.loss.ndim)
    numbers = [outcome.loss, accuracies(outcome.logits, y), *outcome.estimator_losses.values()]
    columns = torch.stack([each.flatten() for each in numbers], dim=1).tolist()  # one transfer for all
    records: list[Step | Diverged] = []
    for i, (loss, accuracy, *rest) in enumerate(columns):
        losses = dict(zip(outcome.estimator_losses, rest, strict=True))
        record = Step(step, epoch, loss, accuracy, losses, {k: each[i] for k, each in diagnoses.items()})
        records.append(_divergence(record) or record)
    return records


@torch.no_grad()
def evaluate(network: nn.Module, X: Tensor, y: Tensor, *, loss: str = "log_loss", batch_size: int = 4096) -> Evaluation:
    """Return loss and accuracy of a network in evaluation mode; every module's mode is put back afterwards.

    Parameters
    ----------
    network : nn.Module
    X : Tensor, shape (n, n_features)
    y : Tensor, shape (n,)
        Classes (int64), or regression targets (n, n_outputs).
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    batch_size : int, default 4096
        Examples at a time; it changes no more than rounding.
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        logits = torch.cat([network(rows) for rows in X.split(batch_size)])
    finally:
        for module, training in modes.items():
            module.training = training
    return Evaluation(float(LOSSES[loss](logits, y).mean()), float(accuracies(logits, y)))


def _divergence(record: Step) -> Diverged | None:
    """Return the error that says which loss is not finite, if one is not."""
    losses = [("", record.loss)]
    losses += [(f" of the estimator at boundary {k}", loss) for k, loss in record.estimator_losses.items()]
    return next((Diverged(record.step, loss, whose) for whose, loss in losses if not math.isfinite(loss)), None)


def accuracies(logits: Tensor, y: Tensor) -> Tensor:
    """Return the fraction of examples whose class has the largest output, shape (*lead); NaN for regression targets."""
    if y.is_floating_point():
        return logits.new_full(logits.shape[:-2], math.nan)
    return (logits.contiguous().argmax(dim=-1) == y).float().mean(dim=-1)
