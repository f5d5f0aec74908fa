"""Recorder of a training run: log, checkpoints and status."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import Any

import torch

from analysis.execution.interruption import TrainingInterrupted
from analysis.execution.progress import StepForecast
from analysis.training.setup import TrainingSetup
from analysis.training.teaching_signals import TeachingSignals
from analysis.training.transplant import restore_training
from checkpoints import Capture, Run
from repsim.learning import Diagnosis, Diverged, Step, evaluate

__all__ = ["RunRecorder"]

_FACTORS = {"epoch": 5.0, "recorded": 20.0}  # times that updates of a kind take longer than others, until measured


class RunRecorder:
    """Writer of the log, the checkpoints and the status of one training run.

    If the run has committed steps, the learner and the optimizer are set to the last of them.
    """

    def __init__(self, run: Run, setup: TrainingSetup, optimizer: torch.optim.Optimizer) -> None:
        self.run, self.setup, self.optimizer = run, setup, optimizer
        self.start = restore_training(run, setup, optimizer)
        run.cut_metrics(self.start)
        spent = run.status.get("seconds", 0.0)
        run.set_status("running", step=self.start, n_steps=setup.n_steps, seconds=spent)
        self._started = time.monotonic() - spent  # includes the time before an interruption
        self.commit_if_due(self.start)

    def forecast(self) -> StepForecast:
        """Return a forecast of the updates, some of which are followed by a recording or end an epoch."""
        epochs = range(self.setup.steps_per_epoch, self.setup.n_steps + 1, max(1, self.setup.steps_per_epoch))
        kinds = dict.fromkeys(epochs, "epoch") | dict.fromkeys(self.setup.recorded_steps, "recorded")
        return StepForecast(self.setup.n_steps, done=self.start, kinds=kinds, factors=_FACTORS)

    def reads_learner(self, step: int) -> bool:
        """Return whether ``follow`` reads the learner and the optimizer after an update."""
        return self._ends_epoch(step) or self._is_due(step)

    def follow(self, step: Step) -> str:
        """Log an update, commit its checkpoint if one is due, and return a note for the progress bar.

        Raise ``Diverged`` if the validation loss is not finite.
        """
        record: dict[str, Any] = {
            "step": step.step,
            "epoch": step.epoch,
            "loss": step.loss,
            "accuracy": _finite(step.accuracy),
        }
        if step.estimator_losses:
            record["estimator_losses"] = {str(k): value for k, value in step.estimator_losses.items()}
        if step.input_losses:
            record["input_losses"] = {str(k): value for k, value in step.input_losses.items()}
        if step.diagnoses:
            record["gradients"] = {str(k): _without_nan(_applicable(each)) for k, each in step.diagnoses.items()}
        if step.line_search:
            record["line_search"] = {name: _without_nan(asdict(each)) for name, each in step.line_search.items()}
        if self._ends_epoch(step.step):
            record |= self._validate(step.step)
        self.run.log(record)
        self.commit_if_due(step.step)
        accuracy = record.get("validation_accuracy")
        return "" if accuracy is None else f"validation accuracy {accuracy:.3f}"

    def commit_if_due(self, step: int) -> None:
        """Commit a step with its activations if it is among the recorded steps and not committed yet."""
        if self._is_due(step):
            learner, recording = self.setup.learner, self.setup.recording
            self.run.checkpoint(
                step,
                learner,
                self.optimizer,
                capture=Capture(learner.network, recording.layers),
                gradients=TeachingSignals(learner) if recording.record_signals else None,
                compress=recording.compress,
            )

    def stop(self, step: int) -> TrainingInterrupted:
        """Commit the present step, set the status to interrupted, and return the error to raise."""
        self._commit_weights(step)
        self._set_status("interrupted", step)
        return TrainingInterrupted(self.run.path, step)

    def give_up(self, error: Diverged) -> None:
        """Set the status to diverged."""
        self._set_status("diverged", error.step, message=str(error))

    def finish(self) -> None:
        """Commit the last step, and set the status to finished, with loss and accuracy on the test examples."""
        self._commit_weights(self.setup.n_steps)
        test = evaluate(self.setup.learner.network, *self.setup.part("test"), loss=self.setup.training.loss)
        scores = {
            "test_loss": test.loss,
            "test_accuracy": _finite(test.accuracy),
            "n_test": len(self.setup.split["test"]),
        }
        self._set_status("finished", self.setup.n_steps, **scores)

    def _ends_epoch(self, step: int) -> bool:
        return step % self.setup.steps_per_epoch == 0

    def _is_due(self, step: int) -> bool:
        return step in self.setup.recorded_steps and step not in self.run.steps

    def _validate(self, step: int) -> dict[str, float | None]:
        validation = evaluate(self.setup.learner.network, *self.setup.part("validation"), loss=self.setup.training.loss)
        if not math.isfinite(validation.loss):
            raise Diverged(step, validation.loss, " on the validation examples")
        return {"validation_loss": validation.loss, "validation_accuracy": _finite(validation.accuracy)}

    def _commit_weights(self, step: int) -> None:
        """Commit a step without activations, so that it can be continued or recorded later."""
        if step not in self.run.steps:
            self.run.checkpoint(step, self.setup.learner, self.optimizer)

    def _set_status(self, state: str, step: int, **facts: Any) -> None:
        seconds = round(time.monotonic() - self._started, 1)
        self.run.set_status(state, step=step, n_steps=self.setup.n_steps, seconds=seconds, **facts)


def _applicable(diagnosis: Diagnosis) -> dict[str, float]:
    """Return the numbers of a diagnosis, without those that its boundary does not have."""
    return {name: value for name, value in asdict(diagnosis).items() if value is not None}


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with None for floats that are not finite, which JSON does not have."""
    return {name: _finite(value) if isinstance(value, float) else value for name, value in values.items()}


def _finite(value: float) -> float | None:
    """Return a number, or None if it is not finite, such as the accuracy of regression."""
    return value if math.isfinite(value) else None
