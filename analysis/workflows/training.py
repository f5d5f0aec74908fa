"""Train a network and record it: data in, a run directory out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.interruption import Interrupted, Interruption
from analysis.progress import Reporter, Task, silent
from analysis.settings import RecordingConfig, choose_steps, is_trained_here
from checkpoints import Capture, Run, Stimuli
from checkpoints.generators import kept_generators
from repsim.learning import (
    SPLITS,
    Dataset,
    Diverged,
    Learner,
    Step,
    TrainingConfig,
    build_learner,
    build_optimizer,
    count_steps,
    evaluate,
    load_dataset,
    split_dataset,
    train,
)

__all__ = ["check_layers", "choose_stimuli", "configurations", "resume_run", "train_run", "using_threads"]


def train_run(
    path: str | Path,
    training: TrainingConfig,
    recording: RecordingConfig | None = None,
    *,
    data_dir: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Train a network from its configuration and record it in a new run directory.

    Everything that can be wrong with the settings or the data is found before anything is written.

    Parameters
    ----------
    path : path
        Must not exist.
    training : TrainingConfig
    recording : RecordingConfig, optional
    data_dir : path, optional
        For the data set ``mnist``.
    reporter : Reporter, optional
        Silent by default.

    Returns
    -------
    Run
        Finished, open for reading.

    Raises
    ------
    ValueError, OSError
        If a setting, the data or the path will not do.
    Diverged
        If the loss stops being finite; the run's status says so, and earlier checkpoints stay.
    Interrupted
        After Ctrl-C; the present step is committed.
    """
    recording = recording or RecordingConfig()
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already. Choose another name, or continue it with --resume.")
    job = _prepare(training, recording, data_dir)
    if training.data.endswith(".npz"):
        training = replace(training, data=str(Path(training.data).absolute()))  # found again from any folder
    config = {
        "training": training.to_dict(),
        "recording": recording.to_dict(),
        "data": {
            "name": job.dataset.name,
            "data_dir": str(Path(data_dir).absolute()) if data_dir is not None else None,
            "n_features": int(job.dataset.X.shape[1]),
            "classes": list(job.dataset.classes),
            **{f"n_{part}": len(job.split[part]) for part in SPLITS},
        },
    }
    with kept_generators(training.seed), using_threads(training.threads), Run.create(path, config, job.stimuli) as run:
        _run_to_the_end(run, job, reporter or silent())
    return Run.open(path)


def resume_run(path: str | Path, *, reporter: Reporter | None = None) -> Run:
    """Continue a run from its last committed step to its end; a finished run is returned as it is.

    The numbers are those of the uninterrupted run, bit for bit, on the same machine.

    Raises
    ------
    ValueError, OSError
        If there is no such run, it is damaged or being written, or its data are not what they were.
    Diverged, Interrupted
        As for ``train_run``.
    """
    stored = Run.open(path)
    if "source" in stored.config:
        source = stored.config["source"]
        raise ValueError(
            f"{path} holds recordings of {source.get('path') or source.get('model')}; there is nothing to train."
        )
    if stored.status.get("state") == "finished":
        return stored
    training, recording = configurations(stored)
    job = _prepare(training, recording, stored.config["data"]["data_dir"])
    with kept_generators(training.seed), using_threads(training.threads), Run.resume(path, job.stimuli) as run:
        if run.taken_over_from:
            (reporter or silent()).say(
                f"{path} was being written by {run.taken_over_from}, which died; it is taken over."
            )
        _run_to_the_end(run, job, reporter or silent())
    return Run.open(path)


def configurations(run: Run) -> tuple[TrainingConfig, RecordingConfig]:
    """Return the settings that a run was trained and recorded with.

    Raises
    ------
    ValueError
        If it was not trained by this package's trainer.
    """
    config = run.config
    if not is_trained_here(config):
        raise ValueError(f"{run.path} was not trained by repsim train, so it cannot be retrained or recorded anew.")
    return TrainingConfig.from_dict(config["training"]), RecordingConfig.from_dict(config["recording"])


def choose_stimuli(dataset: Dataset, split: dict[str, NDArray[np.int64]], sizes: dict[str, int], seed: int) -> Stimuli:
    """Choose the examples to record: from each part, class by class in turn, in an order that the seed decides.

    Returns
    -------
    Stimuli
        Ordered by label.
    """
    chosen = {part: _draw_evenly(split[part], dataset.y, sizes[part], seed) for part in SPLITS}
    indices = np.concatenate([chosen[part] for part in SPLITS])
    parts = np.repeat(SPLITS, [len(chosen[part]) for part in SPLITS])
    return Stimuli.of([f"{index:08d}" for index in indices], dataset.y[indices], parts, dataset.X[indices])


def _draw_evenly(indices: NDArray[np.int64], y: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    shuffled = np.random.default_rng([seed, 0x571]).permutation(indices)
    labels = y[shuffled]
    turn = np.zeros(len(shuffled), dtype=np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:size]])


def check_layers(learner: Learner, layers: Sequence[str], stimuli: Stimuli) -> None:
    """Record one stimulus to no file, so that layers which cannot be recorded are found before anything is written.

    Raises
    ------
    ValueError
        If a pattern matches no layer, or one that the network does not reach.
    """
    Capture(learner.network, layers).record(stimuli.first_inputs(1))


@dataclass(frozen=True)
class _Job:
    """All that one training run needs, checked and ready."""

    training: TrainingConfig
    recording: RecordingConfig
    dataset: Dataset
    split: dict[str, NDArray[np.int64]]
    stimuli: Stimuli
    learner: Learner
    n_steps: int
    recorded_steps: Sequence[int]

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        indices = self.split[name]
        return torch.from_numpy(self.dataset.X[indices]), torch.from_numpy(self.dataset.y[indices])


def _prepare(training: TrainingConfig, recording: RecordingConfig, data_dir: str | Path | None) -> _Job:
    dataset = load_dataset(training.data, data_dir)
    split = split_dataset(dataset, training.seed)
    n_steps = count_steps(len(split["train"]), training.batch_size, training.epochs)
    steps = choose_steps(recording.steps, n_steps)
    if not steps:
        raise ValueError(f"steps '{recording.steps}' name no step of this training, which ends at step {n_steps}.")
    learner = build_learner(training, dataset.X.shape[1], len(dataset.classes))
    stimuli = choose_stimuli(dataset, split, recording.sizes, training.seed)
    check_layers(learner, recording.layers, stimuli)
    return _Job(training, recording, dataset, split, stimuli, learner, n_steps, steps)


def _run_to_the_end(run: Run, job: _Job, reporter: Reporter) -> None:
    optimizer = build_optimizer(job.learner, job.training)
    committed = run.steps
    start = committed[-1] if committed else 0
    if committed:
        run[start].restore(job.learner, optimizer)
        reporter.say(f"{run.path} continues after step {start}.")
    run.cut_metrics(start)
    spent = run.status.get("seconds", 0.0)
    run.set_status("running", step=start, n_steps=job.n_steps, seconds=spent)
    started = time.monotonic() - spent  # as if it had never been stopped
    with _status_on_failure(run, job, started):
        _commit_if_due(run, job, optimizer, start)
        with reporter.task(run.path.absolute().name, job.n_steps) as task, Interruption() as interruption:
            task.advance(start)
            for step in _steps(job, optimizer, start):
                _log(run, job, step, task)
                _commit_if_due(run, job, optimizer, step.step)
                if interruption.requested:
                    _commit_weights(run, job, optimizer, step.step)
                    raise Interrupted(run.path, step.step)
        _commit_weights(run, job, optimizer, job.n_steps)
    test = evaluate(job.learner.network, *job.part("test"))
    run.set_status(
        "finished",
        step=job.n_steps,
        n_steps=job.n_steps,
        seconds=_seconds_since(started),
        test_loss=test.loss,
        test_accuracy=test.accuracy,
        n_test=len(job.split["test"]),
    )


def _steps(job: _Job, optimizer: torch.optim.Optimizer, start: int) -> Iterator[Step]:
    X, y = job.part("train")
    settings = job.training
    return train(
        job.learner,
        optimizer,
        X,
        y,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        schedule=settings.schedule,
        start=start,
    )


def _log(run: Run, job: _Job, step: Step, task: Task) -> None:
    record: dict[str, Any] = {
        "step": step.step,
        "epoch": step.epoch,
        "loss": step.loss,
        "accuracy": step.accuracy,
    }
    if step.estimator_losses:
        record["estimator_losses"] = {str(k): value for k, value in step.estimator_losses.items()}
    ends_epoch = step.step % (job.n_steps // job.training.epochs) == 0
    record |= _validate(job, step.step) if ends_epoch else {}
    run.log(record)
    task.advance(1, f"validation accuracy {record['validation_accuracy']:.3f}" if ends_epoch else "")


def _validate(job: _Job, step: int) -> dict[str, float]:
    validation = evaluate(job.learner.network, *job.part("validation"))
    if not np.isfinite(validation.loss):
        raise Diverged(step, validation.loss)
    return {"validation_loss": validation.loss, "validation_accuracy": validation.accuracy}


def _commit_if_due(run: Run, job: _Job, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step in job.recorded_steps and step not in run.steps:
        capture = Capture(job.learner.network, job.recording.layers)
        run.checkpoint(step, job.learner, optimizer, capture=capture, compress=job.recording.compress)


def _commit_weights(run: Run, job: _Job, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Commit a step that was not recorded, so that it can be continued or recorded later."""
    if step not in run.steps:
        run.checkpoint(step, job.learner, optimizer)


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads inside the block: their number decides the last bits of a run."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _status_on_failure(run: Run, job: _Job, started: float) -> Iterator[None]:
    try:
        yield
    except Diverged as error:
        place = {"step": error.step, "n_steps": job.n_steps, "seconds": _seconds_since(started)}
        run.set_status("diverged", **place, message=str(error))
        raise
    except Interrupted as error:
        run.set_status("interrupted", step=error.step, n_steps=job.n_steps, seconds=_seconds_since(started))
        raise


def _seconds_since(started: float) -> float:
    return round(time.monotonic() - started, 1)
