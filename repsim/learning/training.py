"""Training loop, as a generator that yields one record per update."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from repsim.learning.config import TrainingConfig
from repsim.learning.diagnostics import Diagnosis, bias_variances, diagnose_step, true_step
from repsim.learning.learner import Learner
from repsim.learning.line_search import LineSearch, SearchedStep, TrialLosses, refuse_unsearchable
from repsim.learning.losses import LOSSES
from repsim.learning.optimizers import clip_gradients
from repsim.learning.recurrent import update_after_windows
from repsim.learning.schedules import rate_factor, warmup_steps
from repsim.learning.step import Outcome
from repsim.learning.streams import drawing_from, drawn_so_far, stream

__all__ = [
    "Batch",
    "Diverged",
    "Evaluation",
    "Step",
    "batches",
    "count_steps",
    "diagnosis_rows",
    "evaluate",
    "propagate",
    "set_rates",
    "train",
    "with_spreads",
]


class Diverged(ArithmeticError):
    """Raised when the loss of the network or of an estimator is not finite.

    Attributes
    ----------
    step : int
        Number of the update.
    loss : float
        Value of the loss.
    whose : str
        Empty for the loss of the network, otherwise a phrase such as " of the critic".
    """

    def __init__(self, step: int, loss: float, whose: str = "") -> None:
        super().__init__(f"Training diverged: the loss{whose} is {loss} at step {step}. Try a lower learning rate.")
        self.step, self.loss, self.whose = step, loss, whose

    def __reduce__(self) -> tuple[type[Diverged], tuple[int, float, str]]:
        """Return the class and its arguments, so that another process can rebuild the error."""
        return Diverged, (self.step, self.loss, self.whose)


@dataclass(frozen=True)
class Step:
    """Record of one update.

    Attributes
    ----------
    step : int
        Number of the update, from 1.
    epoch : int
        Number of the pass over the training examples, from 1.
    loss : float
        Mean loss of the batch before the update.
    accuracy : float
        Fraction of the batch classified correctly before the update, 0 to 1; NaN for regression targets.
    estimator_losses : dict of int to float
        Loss of each estimator that learns, by boundary.
    diagnoses : dict of int to Diagnosis
        Comparison of the chosen with the true gradient before the update, by boundary; empty except at the steps in
        ``diagnosed``.
    input_losses : dict of int to float
        Loss of each synthetic input, by boundary.
    line_search : dict of str to SearchedStep
        Steps that a line search made of the ``network`` and of the rule's ``estimators``; empty with other optimizers.
    """

    step: int
    epoch: int
    loss: float
    accuracy: float
    estimator_losses: dict[int, float]
    diagnoses: dict[int, Diagnosis] = field(default_factory=dict)
    input_losses: dict[int, float] = field(default_factory=dict)
    line_search: dict[str, SearchedStep] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and accuracy (0 to 1; NaN for regression targets) of a network in evaluation mode."""

    loss: float
    accuracy: float


def count_steps(n_examples: int, config: TrainingConfig) -> int:
    """Return the number of updates that ``train`` makes: full batches per epoch times epochs.

    Raises
    ------
    ValueError
        If ``config.batch_size`` exceeds the number of examples, or the warm-up the number of updates.
    """
    if config.batch_size > n_examples:
        raise ValueError(
            f"batch_size is {config.batch_size} but there are only {n_examples} training examples; use a smaller "
            "batch_size."
        )
    n_steps = (n_examples // config.batch_size) * config.epochs
    warmup_steps(config, n_steps)  # raises if it is too long
    return n_steps


def train(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    X: Tensor,
    y: Tensor,
    config: TrainingConfig,
    *,
    start: int = 0,
    diagnosed: Container[int] = (),
    diagnosis_batches: int = 0,
) -> Iterator[Step]:
    """Train a learner, and yield a record after every update. To stop the training, stop iterating.

    The order of the examples in an epoch depends only on the seed and the epoch, and the learning rate only on the
    step. A run that is continued at ``start`` with the learner and optimizer of that step therefore makes the same
    updates as an uninterrupted run, bit for bit on one machine and thread count.

    Parameters
    ----------
    learner : Learner
    optimizer : torch.optim.Optimizer
        The schedule multiplies ``initial_lr`` of each parameter group, which is set to ``lr`` if absent. It is part of
        the optimizer's ``state_dict``, so that a resumed optimizer has it.
    X : Tensor, shape (n, n_features)
    y : Tensor, shape (n,)
        Classes (int64), or regression targets (n, n_outputs).
    config : TrainingConfig
        Of its settings ``epochs``, ``batch_size``, ``seed``, ``schedule``, ``warmup`` and ``clip_norm`` are used; the
        others describe the learner and the optimizer. The last incomplete batch of each epoch is left out.
    start : int, default 0
        Number of updates already made.
    diagnosed : container of int, default empty
        Steps at which the chosen gradients are compared with the true ones, which takes another forward and backward
        pass. It does not change the training, bit for bit.
    diagnosis_batches : int, default 0
        Number of batches, 2 or more, over which bias and variance of the gradients are measured at these steps; 0 for
        none. They are drawn for each step, independently of those of the training.

    Raises
    ------
    Diverged
        If the loss of the network or of an estimator is not finite. The update of that step is not made.
    ValueError
        If ``config.batch_size`` exceeds the number of examples, or if the optimizer is a line search and the network or
        the rule has no loss that can be compared. It is raised when the generator is first advanced.
    """
    if isinstance(optimizer, LineSearch):
        refuse_unsearchable(learner.network, learner.placed().values(), type(optimizer).__name__)
    learner.train()
    for step, epoch, rows, factor in batches(len(y), config, start):
        set_rates(optimizer, factor)
        with _draws_of_update(learner, config.seed, step, X.device):
            drawn = drawn_so_far(X.device)
            batch, is_measured = (X[rows], y[rows]), step in diagnosed and diagnosis_batches > 0
            measured = copy.deepcopy(learner) if is_measured and learner.online else learner
            records, again = propagate(
                learner, optimizer, *batch, step, epoch, step in diagnosed, clip_norm=config.clip_norm
            )
            if is_measured:
                others = diagnosis_rows(len(y), config, step, diagnosis_batches)
                records = with_spreads(records, measured, ((X[rows], y[rows]) for rows in others))
        (record,) = records
        if isinstance(record, Diverged):
            raise record
        if isinstance(optimizer, LineSearch) and again is not None:
            trials = TrialLosses(learner.network, learner.loss, again, X[rows], y[rows], drawn)
            record = replace(record, line_search=trials.search(optimizer))
        else:
            clip_gradients(learner.network, config.clip_norm)
            optimizer.step()
        yield record


def _draws_of_update(learner: Learner, seed: int, step: int, device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which blocks of the user, such as dropout, draw the numbers of one update."""
    return drawing_from(seed, "update", step, device=device) if learner.network.is_own else nullcontext()


class Batch(NamedTuple):
    """One update of ``train``: its number and epoch, both from 1, the examples, and the factor of the learning rate."""

    step: int
    epoch: int
    rows: Tensor
    factor: float


def batches(n_examples: int, config: TrainingConfig, start: int = 0) -> Iterator[Batch]:
    """Yield the batch of each update of ``train`` after the first ``start``."""
    size, n_steps = config.batch_size, count_steps(n_examples, config)
    for step in range(start, n_steps):
        epoch, batch = divmod(step, n_examples // size)
        if batch == 0 or step == start:
            order = torch.randperm(n_examples, generator=stream(config.seed, "order", epoch))
        yield Batch(step + 1, epoch + 1, order[batch * size : (batch + 1) * size], rate_factor(config, step, n_steps))


def diagnosis_rows(n_examples: int, config: TrainingConfig, step: int, n: int) -> Iterator[Tensor]:
    """Yield the examples of each of n batches over which bias and variance are measured at a step."""
    for index in range(n):
        order = torch.randperm(n_examples, generator=stream(config.seed, "diagnosis", step, index))
        yield order[: config.batch_size]


def with_spreads(
    records: Sequence[Step | Diverged], learner: Learner, batches: Iterable[tuple[Tensor, Tensor]], lead: int = 0
) -> list[Step | Diverged]:
    """Return records with bias and variance over batches in their diagnoses; the learner stays as it is."""
    found = bias_variances(learner, batches, lead=lead)
    return [
        each
        if isinstance(each, Diverged)
        else replace(each, diagnoses={k: one.with_spread(found[k][i]) for k, one in each.diagnoses.items()})
        for i, each in enumerate(records)
    ]


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every group to a multiple of ``initial_lr``, by default its present learning rate."""
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
    clip_norm: float | None = None,
) -> tuple[list[Step | Diverged], Callable[[], Tensor] | None]:
    """Replace all gradients by those of one batch, and return one record per network.

    A learner may be a stack of learners; the record of a network that diverged is its error. If the learner is updated
    after each window, only the update of the last window is left to the caller; ``clip_norm`` is for the others. For a
    line search, a function that computes the losses of estimators and synthetic inputs again is returned too.
    """
    optimizer.zero_grad(set_to_none=True)
    if learner.online:
        diagnoses = _diagnose_copy(learner, X, y) if diagnosed else {}
        outcome = _updated_by_window(learner, optimizer, X, y, clip_norm)
    else:
        true = true_step(learner, X, y) if diagnosed else None
        outcome = learner.compute_gradients(X, y, watch=diagnosed, again=isinstance(optimizer, LineSearch))
        diagnoses = {} if true is None else diagnose_step(learner, outcome, true)
    accuracy = accuracies(outcome.logits, y, outcome.loss.ndim)
    learned = (outcome.estimator_losses, outcome.input_losses)
    numbers = [outcome.loss, accuracy, *(each for losses in learned for each in losses.values())]
    columns = torch.stack([each.flatten() for each in numbers], dim=1).tolist()  # one transfer for all
    records: list[Step | Diverged] = []
    for i, (loss, accuracy, *rest) in enumerate(columns):
        losses = dict(zip(outcome.estimator_losses, rest, strict=False))
        of_inputs = dict(zip(outcome.input_losses, rest[len(losses) :], strict=True))
        found = {k: each[i] for k, each in diagnoses.items()}
        record = Step(step, epoch, loss, accuracy, losses, found, of_inputs)
        records.append(_divergence(record) or record)
    return records, outcome.estimator_losses_again


def _diagnose_copy(learner: Learner, X: Tensor, y: Tensor) -> dict[int, list[Diagnosis]]:
    """Diagnose the step that would be made if all windows used the present parameters."""
    trial = copy.deepcopy(learner)
    true = true_step(trial, X, y)
    return diagnose_step(trial, trial.compute_gradients(X, y, watch=True), true)


def _updated_by_window(
    learner: Learner, optimizer: torch.optim.Optimizer, X: Tensor, y: Tensor, clip_norm: float | None
) -> Outcome:
    """Update a learner after each window of a batch but the last, whose gradients are kept.

    Parameters that a window does not concern have a gradient of zero, as some optimizers need one of all.
    """

    def complete() -> None:
        for parameter in learner.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def update() -> None:
        complete()
        clip_gradients(learner.network, clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    network: Any = learner.network
    outcome = Outcome(*update_after_windows(network, learner.placed(), X, y, update, loss=learner.loss))
    complete()
    return outcome


@torch.no_grad()
def evaluate(network: nn.Module, X: Tensor, y: Tensor, *, loss: str = "log_loss", batch_size: int = 4096) -> Evaluation:
    """Return loss and accuracy of a network in evaluation mode, and restore the mode of every module.

    Parameters
    ----------
    network : nn.Module
    X : Tensor, shape (n, n_features)
    y : Tensor, shape (n,)
        Classes (int64), or regression targets (n, n_outputs).
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    batch_size : int, default 4096
        Number of examples per forward pass; it changes the result by rounding errors only.
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
    """Return the error that names the first loss that is not finite, or None."""
    losses = [("", record.loss)]
    losses += [(f" of the estimator at boundary {k}", loss) for k, loss in record.estimator_losses.items()]
    losses += [(f" of the synthetic input at boundary {k}", loss) for k, loss in record.input_losses.items()]
    return next((Diverged(record.step, loss, whose) for whose, loss in losses if not math.isfinite(loss)), None)


def accuracies(logits: Tensor, y: Tensor, lead: int = 0) -> Tensor:
    """Return the fraction of examples classified correctly, shape (*lead); NaN for regression targets.

    With one class per scored time step, y (*lead, N, n_scored), it is the fraction of time steps.
    """
    if y.is_floating_point():
        return logits.new_full(logits.shape[:lead], math.nan)
    return (logits.contiguous().argmax(dim=-1) == y).float().flatten(lead).mean(dim=-1)
