"""Training in a pipeline, from the inside: what one process does from the first batch to the last target."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from repsim.learning.decoupled.local import Guess, Stage, learns_from_target, one_update
from repsim.learning.decoupled.pipeline.messages import Clock, Mailbox, Receiver, Sender, connect, talk
from repsim.learning.decoupled.pipeline.processes import Ended
from repsim.learning.schedules import SCHEDULES
from repsim.learning.training import accuracies, batches, count_steps

__all__ = ["Job", "Plan", "Record", "StageReport", "wants_target", "work"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all processes have in common; see ``train_pipeline``."""

    epochs: int
    batch_size: int
    seed: int
    optimizer: str
    rates: tuple[float, float]
    schedule: str
    in_flight: int
    timeout: float
    folder: str
    dtype: torch.dtype  # of activations and gradients

    @property
    def store(self) -> Path:
        """Where the processes find one another."""
        return Path(self.folder) / "store"

    def data(self, name: str) -> Path:
        """Return the file of X or y."""
        return Path(self.folder) / f"{name}.safetensors"

    def weights(self, rank: int) -> Path:
        """Return the file of a stage's final weights."""
        return Path(self.folder) / f"stage_{rank}.safetensors"


@dataclass(frozen=True)
class Job:
    """What one process is to do.

    Attributes
    ----------
    stage : Stage
    plan : Plan
    n_processes : int
    shape_below, shape_above : tuple of int
        Of one example's activation at the boundaries below and above; empty where there is none.
    target_wanted_below : bool
        Whether the stage below makes use of the target.
    """

    stage: Stage
    plan: Plan
    n_processes: int
    shape_below: tuple[int, ...]
    shape_above: tuple[int, ...]
    target_wanted_below: bool


@dataclass
class Record:
    """What one process has seen, step by step.

    Attributes
    ----------
    outcomes : list of pairs of float
        Loss and accuracy; in the top stage alone.
    estimator_losses : dict of int to list of float
        By boundary.
    report : StageReport, optional
        At the end.
    """

    outcomes: list[tuple[float, float]] = field(default_factory=list)
    estimator_losses: dict[int, list[float]] = field(default_factory=dict)
    report: StageReport | None = None

    def add_outcome(self, loss: float, accuracy: float) -> None:
        """Keep what the output of a batch was like."""
        _check(len(self.outcomes) + 1, loss)
        self.outcomes.append((loss, accuracy))

    def add_losses(self, losses: Mapping[int, Tensor]) -> None:
        """Keep the estimators' losses of a batch."""
        for k, loss in losses.items():
            values = self.estimator_losses.setdefault(k, [])
            _check(len(values) + 1, float(loss), k)
            values.append(float(loss))


def _check(step: int, loss: float, boundary: int | None = None) -> None:
    if not isfinite(loss):
        raise Ended(step, loss, "" if boundary is None else f" of the estimator at boundary {boundary}")


@dataclass(frozen=True)
class StageReport:
    """How one process spent its time, from the common start to its last act.

    Attributes
    ----------
    segments : tuple of int
        Numbers of its segments.
    seconds : float
        The time it took.
    idle : dict of str to float
        Seconds in which it was blocked: by ``"input"`` (waiting for an activation from below), ``"room"`` (the stage
        above has not taken what was sent), ``"gradient"`` (waiting for the gradient from above; 0 below an unlocked
        boundary) and ``"drain"`` (all its batches are done, but not all targets of its estimator have arrived).
    cpu : float
        Seconds that its threads ran on a processor. Less than ``busy`` by what other programs took of it.
    ahead : int
        The most batches that it had learned from, or begun, while their targets had not arrived.
    """

    segments: tuple[int, ...]
    seconds: float
    idle: dict[str, float]
    cpu: float
    ahead: int

    @property
    def idle_seconds(self) -> float:
        """Seconds in which it was blocked."""
        return sum(self.idle.values())

    @property
    def busy(self) -> float:
        """Seconds in which it was not blocked."""
        return self.seconds - self.idle_seconds

    @property
    def idle_fraction(self) -> float:
        """The share of its time in which it was blocked, 0 to 1."""
        return self.idle_seconds / self.seconds


def work(rank: int, job: Job) -> Record:
    """Train one stage, leave its weights in a file and return what was seen."""
    torch.set_num_threads(1)
    plan = job.plan
    y = load_file(plan.data("y"))["y"]
    X = load_file(plan.data("X"))["X"] if rank == 0 else None
    with talk():
        down = connect(rank, job.n_processes, plan.store, plan.timeout)
    worker = _Worker(rank, job, X, y, down)
    with talk():
        dist.barrier()  # the common start
    record = worker.run()
    save_file({name: value.contiguous() for name, value in job.stage.state_dict().items()}, plan.weights(rank))
    with talk():
        dist.barrier()  # nobody hangs up while a message is on its way
        dist.destroy_process_group()
    return record


class _Worker:
    """One stage with its neighbours."""

    def __init__(self, rank: int, job: Job, X: Tensor | None, y: Tensor, down: dist.ProcessGroup) -> None:
        plan, stage = job.plan, job.stage
        self._stage, self._plan, self._X, self._y, self._target_wanted = stage, plan, X, y, job.target_wanted_below
        self._own, others = stage.optimizers(plan.optimizer, *plan.rates)
        self._n_steps = count_steps(len(y), plan.batch_size, plan.epochs)
        self._clock, self._record = Clock(), Record()
        below, above = ((plan.batch_size, *shape) for shape in (job.shape_below, job.shape_above))
        self._inputs = Receiver(rank - 1, below, plan.dtype, 0 if X is not None else self._n_steps, self._clock)
        self._outputs = Sender(rank + 1, None, plan.in_flight - 1, self._clock)  # one more is with the receiver
        self._targets = Sender(rank - 1, down, 1, self._clock)
        n_targets = self._n_steps if wants_target(stage) else 0
        mailbox = Mailbox(rank + 1, above, plan.dtype, n_targets, down, plan.timeout, self._clock)
        self._above = _Locked(mailbox) if stage.above is None else _Unlocked(stage, others, mailbox, self._record)

    def run(self) -> Record:
        """Learn from every batch, then from the targets that are still on their way."""
        plan, n_examples = self._plan, len(self._y)
        self._clock.start()
        for step, _, rows in batches(n_examples, epochs=plan.epochs, batch_size=plan.batch_size, seed=plan.seed):
            factor = SCHEDULES[plan.schedule]((step - 1) / self._n_steps)
            self._learn(rows, factor)
        self._outputs.finish()
        self._targets.finish()
        self._above.finish()
        clock = self._clock
        numbers, ahead = self._stage.numbers, 0 if self._stage.is_top else self._above.ahead
        self._record.report = StageReport(numbers, clock.seconds(), clock.idle, clock.cpu_seconds(), ahead)
        return self._record

    def _learn(self, rows: Tensor, factor: float) -> None:
        y = self._y[rows]
        tape = self._stage(self._inputs.take() if self._X is None else self._X[rows], len(y))
        output, gradient = tape.output.detach(), None
        if not self._stage.is_top:
            self._outputs.send(output)
            gradient = self._above.gradient(output, y, factor)
        with one_update(self._own, factor):
            loss, estimator_losses = self._stage.learn(tape, y, gradient)
            if self._target_wanted:
                self._targets.send(tape.target_below())
            if loss is not None:
                self._record.add_outcome(float(loss), float(accuracies(output, y)))
            self._record.add_losses(estimator_losses)


class _Locked:
    """g is the target, which is waited for."""

    ahead = 1

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def gradient(self, h: Tensor, y: Tensor, factor: float) -> Tensor:
        return self._mailbox.wait("gradient")

    def finish(self) -> None:
        """Nothing is left to come."""


class _Unlocked:
    """g is what the estimator chooses at once; targets teach it when they arrive, in the order of the batches."""

    def __init__(self, stage: Stage, optimizer: torch.optim.Optimizer | None, mailbox: Mailbox, record: Record) -> None:
        self._stage, self._optimizer, self._mailbox, self._record = stage, optimizer, mailbox, record
        self._waiting: deque[tuple[Guess, float]] = deque()
        self.ahead = 0

    def gradient(self, h: Tensor, y: Tensor, factor: float) -> Tensor:
        while self._waiting and self._mailbox.has_some():
            self._teach_first(self._mailbox.take())
        guess = self._stage.guess(h, y)
        if wants_target(self._stage):
            self._waiting.append((replace(guess, proposed=guess.proposed.detach()), factor))  # without the graph
            self.ahead = max(self.ahead, len(self._waiting))
        else:
            self._teach(guess, None, factor)
        return guess.gradient

    def finish(self) -> None:
        while self._waiting:
            self._teach_first(self._mailbox.wait("drain"))

    def _teach_first(self, target: Tensor) -> None:
        guess, factor = self._waiting.popleft()
        if self._optimizer is not None:  # the parameters have moved since, so that a graph to them must be new
            guess = self._stage.guess(guess.signals.activation, guess.signals.labels)
        self._teach(guess, target, factor)

    def _teach(self, guess: Guess, target: Tensor | None, factor: float) -> None:
        with one_update(self._optimizer, factor):
            self._record.add_losses(self._stage.teach(guess, target))


def wants_target(stage: Stage) -> bool:
    """Return whether a stage makes use of the target that the stage above can give it."""
    return not stage.is_top and (stage.above is None or learns_from_target(stage.above))
