"""Training of a network as a pipeline of processes."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from repsim.learning.checks import check_integer, check_positive
from repsim.learning.config import TrainingConfig
from repsim.learning.decoupled.pipeline.process_group import Ended, run_together
from repsim.learning.decoupled.pipeline.stage_training import (
    PipelineSettings,
    StageRecord,
    StageReport,
    StageSetup,
    train_stage,
    wants_target,
)
from repsim.learning.decoupled.stages import Stage, check_stages_step_alone, split_into_stages
from repsim.learning.learner import Learner, draws_numbers
from repsim.learning.training import Diverged, Step, count_steps

__all__ = ["PipelineResult", "train_pipeline"]


@dataclass(frozen=True)
class PipelineResult:
    """A trained learner, the record of its training, and how the processes spent their time.

    Attributes
    ----------
    learner : Learner
        A copy of the learner that was passed, with the final weights of all stages.
    steps : list of Step
        One record per batch, as ``train`` yields them; the loss is that of the top stage.
    stages : tuple of StageReport
        One report per process, from the input to the output.
    seconds : float
        Time from the common start, when all processes are ready, to the end of the last process.
    """

    learner: Learner
    steps: list[Step]
    stages: tuple[StageReport, ...]
    seconds: float


def train_pipeline(
    learner: Learner,
    X: Tensor,
    y: Tensor,
    config: TrainingConfig,
    *,
    cuts: Sequence[int] | None = None,
    in_flight: int = 2,
    timeout: float = 300.0,
) -> PipelineResult:
    """Train each stage of a learner in a process of its own, with one processor thread per process.

    Activations are sent up from process to process. A stage below an unlocked boundary does not wait for the stages
    above: the estimator chooses g, and the stage updates and continues with the next batch. When the target of a batch
    arrives, the estimator learns from it and from the stored activation and labels. A stage below a boundary where
    backprop is used waits for the gradient of the batch; without unlocked boundaries and synthetic inputs the results
    equal those of ``train``. A stage above a synthetic input does not wait for the activation of a batch: it trains on
    the prediction, and the synthetic input learns from the activation when it arrives.

    With unlocked boundaries or synthetic inputs the results depend on when targets arrive, and so differ slightly from
    run to run. If a process fails, all processes are stopped. Processes are spawned: call this function under
    ``if __name__ == "__main__":``, with modules that can be pickled.

    Parameters
    ----------
    learner : Learner
        Built with ``together=False``. It is not changed.
    X, y : Tensor
        All training examples, as in ``train``, which draws the same batches.
    config : TrainingConfig
        Its ``optimizer`` and learning rates are used in addition to the settings that ``train`` uses. Every stage, and
        every estimator and synthetic input at a cut, has its own optimizer. They learn from a late target or activation
        at the learning rate of its batch.
    cuts : sequence of int, optional
        Boundaries between processes; by default all boundaries whose estimators are unlocked.
    in_flight : int, default 2
        Largest number of activations that may wait between two stages, 1 or more. It bounds the memory, and how many
        batches a stage can be ahead of the next, or above a synthetic input of the one below.
    timeout : float, default 300
        Seconds after which a process that waits for another process stops with an error.

    Raises
    ------
    ValueError
        If a setting is out of range, X and y differ in length, the learner cannot be split at these boundaries,
        gradients are clipped, the optimizer is a line search, or the network draws random numbers (dropout).
    Diverged
        If the loss of the network or of an estimator is not finite.
    RuntimeError
        If a process failed, died or exceeded the timeout.
    """
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} examples and y has {len(y)}; expected equally many.")
    check_integer("in_flight", in_flight, 1)
    check_positive("timeout", timeout)
    count_steps(len(y), config)  # raises if batch_size exceeds the number of examples
    check_stages_step_alone(config)
    if learner.network.is_own and draws_numbers(learner, X[: config.batch_size], y[: config.batch_size]):
        raise ValueError(
            "The network draws random numbers, such as those of dropout, which the processes of a pipeline would not "
            "draw from the seed. Turn them off, or use train."
        )
    dtype = next(parameter.dtype for parameter in learner.network.parameters())
    with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
        settings = PipelineSettings(config, in_flight, timeout, Path(folder), dtype)
        trained, records = _train_stages(learner, X, y, cuts, settings)
    reports = tuple(record.report for record in records if record.report is not None)
    seconds = max(report.seconds for report in reports)
    return PipelineResult(trained, _steps(records, len(y) // config.batch_size), reports, seconds)


def _train_stages(
    learner: Learner, X: Tensor, y: Tensor, cuts: Sequence[int] | None, settings: PipelineSettings
) -> tuple[Learner, list[StageRecord]]:
    """Return a trained copy of a learner, and the record of each of its stages."""
    sent, trained = copy.deepcopy(learner).train(), copy.deepcopy(learner)
    setups = _setups(split_into_stages(sent, cuts), sent, settings)
    for name, values in (("X", X), ("y", y)):
        save_file({name: values.contiguous()}, settings.data(name))
    try:
        records = run_together(train_stage, setups)
    except Ended as end:
        raise Diverged(*end.args) from None
    for rank, stage in enumerate(split_into_stages(trained, cuts)):
        stage.load_state_dict(load_file(settings.weights(rank)))
    return trained, records


def _setups(stages: Sequence[Stage], learner: Learner, settings: PipelineSettings) -> list[StageSetup]:
    """Return the setup of each process, from the input to the output."""
    shapes = dict(enumerate(learner.network.shapes, start=1))
    return [
        StageSetup(
            stage,
            settings,
            len(stages),
            shapes.get(stage.numbers[0] - 1, ()),
            shapes.get(stage.numbers[-1], ()),
            rank > 0 and wants_target(stages[rank - 1]),
        )
        for rank, stage in enumerate(stages)
    ]


def _steps(records: Sequence[StageRecord], steps_per_epoch: int) -> list[Step]:
    """Return the records of all stages as one record per batch."""
    losses: dict[int, list[float]] = {}
    of_inputs: dict[int, list[float]] = {}
    for record in records:
        losses |= record.estimator_losses
        of_inputs |= record.input_losses
    return [
        Step(
            i + 1,
            i // steps_per_epoch + 1,
            *outcome,
            {k: values[i] for k, values in sorted(losses.items())},
            input_losses={k: values[i] for k, values in sorted(of_inputs.items())},
        )
        for i, outcome in enumerate(records[-1].outcomes)
    ]
