"""Recording a run while the Trainer of Hugging Face's transformers trains."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from checkpoints.callbacks import check_steps, is_due, metrics_record
from checkpoints.capture.capture import Capture
from checkpoints.capture.selection import Pattern
from checkpoints.run import Run

__all__ = ["RecordActivations"]


class RecordActivations(TrainerCallback):
    """Commits weights, optimizer and activations of the run's stimuli at chosen steps, and logs what the trainer logs.

    Training is as it would be without it. The process of rank 0 alone records, so it must hold the model whole: on one
    device or with data-parallel training, not with a sharded model. A step that the run holds already is left as it
    is, so that training may be resumed from an earlier one.

    Parameters
    ----------
    run : Run
        Created or resumed; the inputs of its stimuli are a dict of what the model is called with, e.g. ``input_ids``.
    steps : int or collection of int
        Record every so many updates, from 0 on, or after these. 0 is the network before its first update.
    layers : pattern or sequence of patterns, default "*"
        See ``Capture``.
    **capture_options
        Further arguments of ``Capture``, e.g. ``reduce={"**": Token(0)}``.

    Raises
    ------
    ValueError
        If ``steps`` names no step; when training starts, if a pattern matches no module.

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
        self._run, self._steps = run, check_steps(steps)
        self._layers, self._options = layers, capture_options

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Record the network before its first update; a wrong pattern fails here, not at the first step due."""
        Capture(objects["model"], self._layers, **self._options)
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
        """Log the numbers that the trainer logs."""
        if state.is_world_process_zero and logs:
            self._run.log(metrics_record(state.global_step, logs))

    def _record(self, state: TrainerState, model: nn.Module, optimizer: Optimizer) -> None:
        run, step = self._run, state.global_step
        if not state.is_world_process_zero or not is_due(self._steps, step) or step in run.steps:
            return
        capture = Capture(model, self._layers, **self._options)
        run.checkpoint(step, model, optimizer, capture=capture)
