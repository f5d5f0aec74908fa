"""Callback for the Trainer of Hugging Face's transformers that records a run during training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from checkpoints.callbacks import StepRecorder
from checkpoints.capture.selection import Pattern
from checkpoints.run import Run

__all__ = ["RecordActivations"]


class RecordActivations(TrainerCallback):
    """Commits weights, optimizer and activations of the run's stimuli at chosen steps, and logs the trainer's metrics.

    Recording does not affect training. Only the process of rank 0 records, so it must hold the complete model: on one
    device or with data-parallel training, not with a sharded model. Steps that the run already holds are skipped, so
    that training can be resumed from an earlier step. If a pattern matches no module, training fails when it starts.

    Parameters
    ----------
    run, steps, layers, **capture_options
        As for ``StepRecorder``. Steps are numbers of updates. The inputs of the run's stimuli are a dict of the model's
        arguments, e.g. ``input_ids``.

    Examples
    --------
    Record every hundredth update::

        with Run.create("runs/mine", {"lr": 0.1}, stimuli) as run:
            record = RecordActivations(run, 100, "bert.encoder.layer.*", reduce={"**": Token(0)})
            Trainer(model, arguments, train_dataset=data, callbacks=[record]).train()
    """

    def __init__(
        self, run: Run, steps: int | Collection[int], layers: Pattern | Sequence[Pattern] = "*", **capture_options: Any
    ) -> None:
        self._recorder = StepRecorder(run, steps, layers, **capture_options)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Record the network before its first update; patterns are checked even if step 0 is not due."""
        self._recorder.check(objects["model"])
        self._record(state, objects["model"], objects["optimizer"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Record if the step is due."""
        self._record(state, objects["model"], objects["optimizer"])

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Log the trainer's metrics."""
        if state.is_world_process_zero and logs:
            self._recorder.log(state.global_step, logs)

    def _record(self, state: TrainerState, model: nn.Module, optimizer: Optimizer) -> None:
        if state.is_world_process_zero:
            self._recorder.record(state.global_step, model, optimizer)
