"""Recording a run while Lightning trains."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from checkpoints.callbacks import check_steps, is_due, metrics_record
from checkpoints.capture.capture import Capture
from checkpoints.capture.selection import Pattern
from checkpoints.run import Run

__all__ = ["RecordActivations"]


class RecordActivations(Callback):
    """Commits weights, optimizers and activations of the run's stimuli at chosen steps, and logs the metrics then.

    Training is as it would be without it: what the module logs in ``forward`` is not logged for the recorded passes,
    and these run in the trainer's precision. The process of rank 0 alone records, so it must hold the model whole: on
    one device or with data-parallel training, not with a sharded model. A step that the run holds already is left as
    it is, so that training may be resumed from an earlier one.

    Parameters
    ----------
    run : Run
        Created or resumed, with the inputs of its stimuli at hand.
    steps : int or collection of int
        Record every so many values of ``trainer.global_step``, from 0 on, or at these. 0 is the network before its
        first update. Lightning counts the steps of several optimizers together.
    layers : pattern or sequence of patterns, default "*"
        See ``Capture``; names are those in the LightningModule.
    **capture_options
        Further arguments of ``Capture``, e.g. ``reduce`` or ``forward``.

    Raises
    ------
    ValueError
        If ``steps`` names no step; when training starts, if a pattern matches no module.

    Examples
    --------
    Record every hundredth step::

        with Run.create("runs/mine", {"lr": 0.1}, stimuli) as run:
            Trainer(max_steps=1000, callbacks=[RecordActivations(run, 100, "network.*")]).fit(module, batches)
    """

    def __init__(
        self, run: Run, steps: int | Collection[int], layers: Pattern | Sequence[Pattern] = "*", **capture_options: Any
    ) -> None:
        self._run, self._steps = run, check_steps(steps)
        self._layers, self._options = layers, capture_options

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the network before its first update; a wrong pattern fails here, not at the first step due."""
        Capture(pl_module, self._layers, **self._options)
        self._record(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Record if the step is due; while gradients accumulate, its number stays the same."""
        self._record(trainer, pl_module)

    def _record(self, trainer: Trainer, module: LightningModule) -> None:
        run, step = self._run, trainer.global_step
        if not trainer.is_global_zero or not is_due(self._steps, step) or step in run.steps:
            return
        run.log(metrics_record(step, trainer.callback_metrics))
        capture = Capture(module, self._layers, **self._options)
        run.checkpoint(step, module, trainer.optimizers, capture=capture)
