"""Callback for Lightning that records a run during training."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from checkpoints.callbacks import StepRecorder
from checkpoints.capture.selection import Pattern
from checkpoints.run import Run

__all__ = ["RecordActivations"]


class RecordActivations(Callback):
    """Commits weights, optimizers and activations of the run's stimuli at chosen steps, and logs the metrics.

    Recording does not affect training: recorded passes run in the trainer's precision, and ``self.log`` does nothing in
    them. Only the process of rank 0 records, so it must hold the complete model: on one device or with data-parallel
    training, not with a sharded model. Steps that the run already holds are skipped, so that training can be resumed
    from an earlier step. If a pattern matches no module, training fails when it starts.

    Parameters
    ----------
    run, steps, layers, **capture_options
        As for ``StepRecorder``. Steps are values of ``trainer.global_step``, in which Lightning adds up the steps of
        several optimizers. Layers are named relative to the LightningModule.

    Examples
    --------
    Record every hundredth step::

        with Run.create("runs/mine", {"lr": 0.1}, stimuli) as run:
            Trainer(max_steps=1000, callbacks=[RecordActivations(run, 100, "network.*")]).fit(module, batches)
    """

    def __init__(
        self, run: Run, steps: int | Collection[int], layers: Pattern | Sequence[Pattern] = "*", **capture_options: Any
    ) -> None:
        self._recorder = StepRecorder(run, steps, layers, **capture_options)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the network before its first update; patterns are checked even if step 0 is not due."""
        self._recorder.check(pl_module)
        self._record(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Record if the step is due; its number stays the same while gradients accumulate."""
        self._record(trainer, pl_module)

    def _record(self, trainer: Trainer, module: LightningModule) -> None:
        step = trainer.global_step
        if trainer.is_global_zero and self._recorder.is_due(step):
            self._recorder.log(step, trainer.callback_metrics)
            self._recorder.record(step, module, trainer.optimizers)
