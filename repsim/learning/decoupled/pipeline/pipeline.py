"""Training in a pipeline, from the outside: cut, send out, start, and put together again."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from safetensors.torch import load_file, save_file
from torch import Tensor

from repsim.learning.checks import check_choice, check_integer, check_positive
from repsim.learning.decoupled.local import Stage, split_into_stages
from repsim.learning.decoupled.pipeline.processes import Ended, run_together
from repsim.learning.decoupled.pipeline.worker import Job, Plan, Record, StageReport, wants_target, work
from repsim.learning.learner import Learner
from repsim.learning.optimizers import OPTIMIZERS
from repsim.learning.schedules import SCHEDULES
from repsim.learning.training import Diverged, Step, count_steps

__all__ = ["PipelineResult", "train_pipeline"]


@dataclass(frozen=True)
class PipelineResult:
    """What a pipeline made.

    Attributes
    ----------
    learner : Learner
        A copy of the one that was given, with the final weights of all stages.
    steps : list of Step
        One for each batch, as ``train`` yields them: the loss is that which the top stage saw.
    stages : tuple of StageReport
    seconds : float
        From the common start, when all processes were ready, to the end of the last.
    """

    learner: Learner
    steps: list[Step]
    stages: tuple[StageReport, ...]
    seconds: float


def train_pipeline(
    learner: Learner,
    X: Tensor,
    y: Tensor,
    *,
    cuts: Sequence[int] | None = None,
    epochs: int,
    batch_size: int,
    seed: int,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    estimator_learning_rate: float = 1e-3,
    schedule: str = "constant",
    in_flight: int = 2,
    timeout: float = 300.0,
) -> PipelineResult:
    """Train a learner with its stages in processes of their own, one processor thread each.

    Activations go up from process to process. Below an unlocked boundary nothing is awaited from above: the estimator
    chooses g, the stage learns and goes on to the next batch; when the target of the batch arrives, it teaches the
    estimator on the stored activation and labels. Below a boundary where backprop acts, the stage waits for the
    gradient of the batch: the locked schedule, whose numbers are those of ``train``.

    With unlocked boundaries the numbers depend on when targets arrive, and so differ a little from run to run. Errors
    leave no process behind. Processes are spawned: call this under ``if __name__ == "__main__":``, with modules that
    can be pickled.

    Parameters
    ----------
    learner : Learner
        Built with ``together=False``; it is left as it is.
    X, y : Tensor
        Of all training examples, as in ``train``; batches are the same.
    cuts : sequence of int, optional
        The boundaries between processes; by default all whose estimators are unlocked.
    epochs, batch_size, seed : int
        As in ``train``.
    optimizer : str, default "adam"
        A key of ``OPTIMIZERS``. Each stage has one of its own, and so has each estimator at a cut.
    learning_rate, estimator_learning_rate : float, default 1e-3
        For the segments, and for what learns in estimators.
    schedule : str, default "constant"
        A key of ``SCHEDULES``; targets that arrive late teach at the rate of their batch.
    in_flight : int, default 2
        How many activations may wait between two stages, 1 or more. It bounds the memory, and how far a stage gets
        ahead of the next.
    timeout : float, default 300
        Seconds after which a process that waits for another gives up.

    Returns
    -------
    PipelineResult

    Raises
    ------
    ValueError
        If a setting is out of range, or the learner cannot be cut so.
    Diverged
        If the loss, or that of an estimator, is not finite.
    RuntimeError
        If a process failed, died or waited too long.
    """
    _check(optimizer, schedule, learning_rate, estimator_learning_rate, in_flight, timeout)
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} examples and y has {len(y)}; give one label for each example.")
    count_steps(len(y), batch_size, epochs)  # raises if not even one batch can be filled
    sent, trained = copy.deepcopy(learner).train(), copy.deepcopy(learner)
    with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
        plan = Plan(
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            optimizer=optimizer,
            rates=(learning_rate, estimator_learning_rate),
            schedule=schedule,
            in_flight=in_flight,
            timeout=timeout,
            folder=folder,
            dtype=next(parameter.dtype for parameter in sent.network.parameters()),
        )
        jobs = _jobs(split_into_stages(sent, cuts), sent, plan)
        for name, values in (("X", X), ("y", y)):
            save_file({name: values.contiguous()}, plan.data(name))
        try:
            records = run_together(work, jobs)
        except Ended as end:
            raise Diverged(*end.args) from None
        for rank, stage in enumerate(split_into_stages(trained, cuts)):
            stage.load_state_dict(load_file(plan.weights(rank)))
    reports = tuple(record.report for record in records)
    return PipelineResult(
        trained, _steps(records, len(y) // batch_size), reports, max(each.seconds for each in reports)
    )


def _check(
    optimizer: str, schedule: str, learning_rate: float, estimator_learning_rate: float, in_flight: int, timeout: float
) -> None:
    check_choice("optimizer", optimizer, OPTIMIZERS)
    check_choice("schedule", schedule, SCHEDULES)
    check_positive("learning_rate", learning_rate)
    check_positive("estimator_learning_rate", estimator_learning_rate)
    check_integer("in_flight", in_flight, 1)
    check_positive("timeout", timeout)


def _jobs(stages: Sequence[Stage], learner: Learner, plan: Plan) -> list[Job]:
    shapes = dict(enumerate(learner.network.shapes, start=1))
    return [
        Job(
            stage,
            plan,
            len(stages),
            shapes.get(stage.numbers[0] - 1, ()),
            shapes.get(stage.numbers[-1], ()),
            rank > 0 and wants_target(stages[rank - 1]),
        )
        for rank, stage in enumerate(stages)
    ]


def _steps(records: Sequence[Record], steps_per_epoch: int) -> list[Step]:
    losses: dict[int, list[float]] = {}
    for record in records:
        losses |= record.estimator_losses
    return [
        Step(i + 1, i // steps_per_epoch + 1, *outcome, {k: values[i] for k, values in sorted(losses.items())})
        for i, outcome in enumerate(records[-1].outcomes)
    ]
