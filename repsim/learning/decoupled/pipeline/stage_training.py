"""Training of one stage of a pipeline in its process."""

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

from repsim.learning.config import TrainingConfig
from repsim.learning.decoupled.pipeline.messages import Clock, Mailbox, Receiver, Sender, connect, talk
from repsim.learning.decoupled.pipeline.process_group import Ended
from repsim.learning.decoupled.stages import Guess, Stage, learns_from_target, one_update
from repsim.learning.training import accuracies, batches, count_steps

__all__ = ["PipelineSettings", "StageRecord", "StageReport", "StageSetup", "train_stage", "wants_target"]


@dataclass(frozen=True)
class PipelineSettings:
    """Settings that all processes share; see ``train_pipeline``."""

    config: TrainingConfig
    in_flight: int
    timeout: float
    folder: Path  # for the files through which the processes exchange data
    dtype: torch.dtype  # of activations and gradients

    @property
    def store(self) -> Path:
        """File through which the processes find one another."""
        return self.folder / "store"

    def data(self, name: str) -> Path:
        """Return the path of the file that holds X or y."""
        return self.folder / f"{name}.safetensors"

    def weights(self, rank: int) -> Path:
        """Return the path of the file that holds the final weights of a stage."""
        return self.folder / f"stage_{rank}.safetensors"


@dataclass(frozen=True)
class StageSetup:
    """A stage, and everything that its process needs to train it.

    Attributes
    ----------
    stage : Stage
    settings : PipelineSettings
    n_processes : int
    shape_below, shape_above : tuple of int
        Shape of one example's activation at the boundaries below and above; empty where there is no boundary.
    target_wanted_below : bool
        Whether the stage below needs the gradient that this stage passes down.
    """

    stage: Stage
    settings: PipelineSettings
    n_processes: int
    shape_below: tuple[int, ...]
    shape_above: tuple[int, ...]
    target_wanted_below: bool


@dataclass
class StageRecord:
    """Losses and accuracies of one stage, step by step.

    ``outcomes`` has loss and accuracy of each batch, in the top stage only; ``report`` is None until the process has
    finished.
    """

    outcomes: list[tuple[float, float]] = field(default_factory=list)
    estimator_losses: dict[int, list[float]] = field(default_factory=dict)
    input_losses: dict[int, list[float]] = field(default_factory=dict)
    report: StageReport | None = None

    def add_outcome(self, loss: float, accuracy: float) -> None:
        """Append the loss and accuracy of a batch."""
        _check(len(self.outcomes) + 1, loss)
        self.outcomes.append((loss, accuracy))

    def add_losses(self, losses: Mapping[int, Tensor]) -> None:
        """Append the losses of the estimators for a batch."""
        _append(self.estimator_losses, losses, "estimator")

    def add_input_losses(self, losses: Mapping[int, Tensor]) -> None:
        """Append the losses of the synthetic inputs for a batch."""
        _append(self.input_losses, losses, "synthetic input")


def _append(record: dict[int, list[float]], losses: Mapping[int, Tensor], what: str) -> None:
    for k, loss in losses.items():
        values = record.setdefault(k, [])
        _check(len(values) + 1, float(loss), f" of the {what} at boundary {k}")
        values.append(float(loss))


def _check(step: int, loss: float, whose: str = "") -> None:
    if not isfinite(loss):
        raise Ended(step, loss, whose)


@dataclass(frozen=True)
class StageReport:
    """How one process spent its time, from the common start of all processes to the end of its work.

    Attributes
    ----------
    segments : tuple of int
        Numbers of its segments.
    seconds : float
        Total time.
    idle : dict of str to float
        Seconds spent waiting, by reason: ``"input"`` (for an activation from below; above a synthetic input, only when
        the stage is ``in_flight`` batches ahead of it), ``"room"`` (for the stage above to receive earlier
        activations), ``"gradient"`` (for the gradient from above; 0 below an unlocked boundary) and ``"drain"`` (after
        the last batch, for the remaining targets of its estimator and of its synthetic input).
    cpu : float
        Seconds of processor time. It is less than ``busy`` by the time that other programs used the processor.
    ahead : int
        Largest number of batches that were learned from, or begun, before their targets had arrived.
    ahead_of_input : int
        Largest number of batches begun before their activation from below had arrived; 0 without a synthetic input.
    """

    segments: tuple[int, ...]
    seconds: float
    idle: dict[str, float]
    cpu: float
    ahead: int
    ahead_of_input: int = 0

    @property
    def idle_seconds(self) -> float:
        """Seconds spent waiting."""
        return sum(self.idle.values())

    @property
    def busy(self) -> float:
        """Seconds not spent waiting."""
        return self.seconds - self.idle_seconds

    @property
    def idle_fraction(self) -> float:
        """Fraction of the time spent waiting, 0 to 1."""
        return self.idle_seconds / self.seconds


def train_stage(rank: int, setup: StageSetup) -> StageRecord:
    """Train one stage, save its weights to a file and return its record."""
    torch.set_num_threads(1)
    settings = setup.settings
    y = load_file(settings.data("y"))["y"]
    X = load_file(settings.data("X"))["X"] if rank == 0 or setup.stage.reads_stimuli else None
    with talk():
        down = connect(rank, setup.n_processes, settings.store, settings.timeout)
    trainer = _StageTrainer(rank, setup, X, y, down)
    with talk():
        dist.barrier()  # the common start
    record = trainer.run()
    save_file({name: value.contiguous() for name, value in setup.stage.state_dict().items()}, settings.weights(rank))
    with talk():
        dist.barrier()  # no process disconnects while a message is in transit
        dist.destroy_process_group()
    return record


class _StageTrainer:
    """Training loop of one stage, with the connections to its neighbours."""

    def __init__(self, rank: int, setup: StageSetup, X: Tensor | None, y: Tensor, down: dist.ProcessGroup) -> None:
        settings, stage, config = setup.settings, setup.stage, setup.settings.config
        self._stage, self._config, self._X, self._y = stage, config, X, y
        self._target_wanted = setup.target_wanted_below
        self._own, others, of_input = stage.optimizers(config)
        n_steps = count_steps(len(y), config)
        self._clock, self._record = Clock(), StageRecord()
        below, above = ((config.batch_size, *shape) for shape in (setup.shape_below, setup.shape_above))
        self._below: _Stimuli | _RealInput | _PredictedInput
        if rank == 0:
            self._below = _Stimuli()
        elif stage.below is None:
            self._below = _RealInput(Receiver(rank - 1, below, settings.dtype, n_steps, self._clock))
        else:
            room = settings.in_flight
            arrivals = Mailbox(rank - 1, below, settings.dtype, n_steps, None, settings.timeout, self._clock, room=room)
            self._below = _PredictedInput(stage, of_input, arrivals, self._record, room)
        self._outputs = Sender(rank + 1, None, settings.in_flight - 1, self._clock)  # the receiver holds one more
        self._targets = Sender(rank - 1, down, 1, self._clock)
        n_targets = n_steps if wants_target(stage) else 0
        mailbox = Mailbox(rank + 1, above, settings.dtype, n_targets, down, settings.timeout, self._clock)
        self._above = (
            _LockedBoundary(mailbox) if stage.above is None else _UnlockedBoundary(stage, others, mailbox, self._record)
        )

    def run(self) -> StageRecord:
        """Train on every batch, then teach the estimator the remaining targets; return the record."""
        self._clock.start()
        for batch in batches(len(self._y), self._config):
            self._learn(batch.rows, batch.factor)
        self._outputs.finish()
        self._targets.finish()
        self._below.finish()
        self._above.finish()
        clock = self._clock
        numbers, ahead = self._stage.numbers, 0 if self._stage.is_top else self._above.ahead
        spent = clock.seconds(), clock.idle, clock.cpu_seconds()
        self._record.report = StageReport(numbers, *spent, ahead, self._below.ahead)
        return self._record

    def _learn(self, rows: Tensor, factor: float) -> None:
        y, X = self._y[rows], None if self._X is None else self._X[rows]
        tape = self._stage(self._below.take(X, y, factor), len(y), X, y)
        output, gradient = tape.output.detach(), None
        if not self._stage.is_top:
            self._outputs.send(output)
            gradient = self._above.gradient(output, y, factor)
        with one_update(self._own, factor):
            learned = self._stage.learn(tape, y, gradient)
            if self._target_wanted:
                self._targets.send(tape.target_below())
            if learned.loss is not None:
                self._record.add_outcome(float(learned.loss), float(accuracies(output, y)))
            self._record.add_losses(learned.estimator_losses)
            self._record.add_input_losses(learned.input_losses)


class _Stimuli:
    """The input of the first stage."""

    ahead = 0

    def take(self, X: Tensor | None, y: Tensor, factor: float) -> Tensor:
        assert X is not None
        return X

    def finish(self) -> None:
        """Do nothing, as nothing is outstanding."""


class _RealInput:
    """The activation from below, for which the stage waits."""

    ahead = 0

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def take(self, X: Tensor | None, y: Tensor, factor: float) -> Tensor:
        return self._receiver.take()

    def finish(self) -> None:
        """Do nothing, as the stage has waited for every activation."""


class _PredictedInput:
    """A synthetic input, which predicts at once, and learns from activations when they arrive, batch by batch."""

    def __init__(
        self, stage: Stage, optimizer: torch.optim.Optimizer | None, mailbox: Mailbox, record: StageRecord, most: int
    ) -> None:
        self._stage, self._optimizer, self._mailbox, self._record = stage, optimizer, mailbox, record
        self._most = most  # batches ahead of the stage below
        self._waiting: deque[tuple[Tensor, Tensor, float]] = deque()
        self.ahead = 0

    def take(self, X: Tensor | None, y: Tensor, factor: float) -> Tensor:
        while self._waiting and self._mailbox.has_some():
            self._teach_first(self._mailbox.take())
        while len(self._waiting) >= self._most:
            self._teach_first(self._mailbox.wait("input"))
        assert X is not None
        self._waiting.append((X, y, factor))
        self.ahead = max(self.ahead, len(self._waiting))
        return self._predict(X, y).detach()

    def finish(self) -> None:
        while self._waiting:
            self._teach_first(self._mailbox.wait("drain"))

    def _teach_first(self, h: Tensor) -> None:
        X, y, factor = self._waiting.popleft()
        with one_update(self._optimizer, factor):
            self._record.add_input_losses(self._stage.teach_input(self._predict(X, y), h))

    def _predict(self, X: Tensor, y: Tensor) -> Tensor:
        assert self._stage.below is not None
        return self._stage.below(X, y)


class _LockedBoundary:
    """A boundary with backprop: g is the gradient from above, for which the stage waits."""

    ahead = 1

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def gradient(self, h: Tensor, y: Tensor, factor: float) -> Tensor:
        return self._mailbox.wait("gradient")

    def finish(self) -> None:
        """Do nothing, as no targets are outstanding."""


class _UnlockedBoundary:
    """A boundary whose estimator chooses g at once, and learns from targets when they arrive, batch by batch."""

    def __init__(
        self, stage: Stage, optimizer: torch.optim.Optimizer | None, mailbox: Mailbox, record: StageRecord
    ) -> None:
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
        if self._optimizer is not None:  # the parameters have changed since, so that a new graph is needed
            guess = self._stage.guess(guess.signals.activation, guess.signals.labels)
        self._teach(guess, target, factor)

    def _teach(self, guess: Guess, target: Tensor | None, factor: float) -> None:
        with one_update(self._optimizer, factor):
            self._record.add_losses(self._stage.teach(guess, target))


def wants_target(stage: Stage) -> bool:
    """Return whether a stage needs the gradient that the stage above passes down."""
    return not stage.is_top and (stage.above is None or learns_from_target(stage.above))
