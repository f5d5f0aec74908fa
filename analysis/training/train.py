"""Train a network and record it: data in, a run directory out."""

from __future__ import annotations

from pathlib import Path

from analysis.config.recording import RecordingConfig
from analysis.execution.interruption import Interruption
from analysis.execution.progress import Reporter, silent
from analysis.training.job import Job, configurations, describe, prepare, using_threads
from analysis.training.recorder import Chronicle
from checkpoints import Run
from checkpoints.generators import preserve_generators
from repsim.learning import Diverged, TrainingConfig, build_optimizer, train

__all__ = ["resumable", "resume_run", "say_resumed", "train_run"]


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
    job = prepare(training, recording, data_dir)
    config = describe(job, data_dir)
    with preserve_generators(training.seed), using_threads(training.threads), Run.create(path, config, job.stimuli) as run:
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
    stored = resumable(path)
    if stored.status.get("state") == "finished":
        return stored
    training, recording = configurations(stored)
    job = prepare(training, recording, stored.config["data"]["data_dir"])
    with preserve_generators(training.seed), using_threads(training.threads), Run.resume(path, job.stimuli) as run:
        say_resumed(run, reporter or silent())
        _run_to_the_end(run, job, reporter or silent())
    return Run.open(path)


def resumable(path: str | Path) -> Run:
    """Open a run for reading.

    Raises
    ------
    ValueError
        If it holds recordings of something that was trained elsewhere.
    """
    stored = Run.open(path)
    if "source" in stored.config:
        source = stored.config["source"]
        raise ValueError(
            f"{path} holds recordings of {source.get('path') or source.get('model')}; there is nothing to train."
        )
    return stored


def say_resumed(run: Run, reporter: Reporter) -> None:
    """Say who was writing a run before, if they died, and after which step it goes on."""
    if run.taken_over_from:
        reporter.say(f"{run.path} was being written by {run.taken_over_from}, which died; it is taken over.")
    if run.steps:
        reporter.say(f"{run.path} continues after step {run.steps[-1]}.")


def _run_to_the_end(run: Run, job: Job, reporter: Reporter) -> None:
    optimizer = build_optimizer(job.learner, job.training)
    chronicle = Chronicle(run, job, optimizer)
    X, y = job.part("train")
    settings = job.training
    steps = train(
        job.learner,
        optimizer,
        X,
        y,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        schedule=settings.schedule,
        start=chronicle.start,
        diagnosed=job.diagnosed_steps,
    )
    try:
        with reporter.task(run.path.absolute().name, job.n_steps) as task, Interruption() as interruption:
            task.advance(chronicle.start)
            for step in steps:
                task.advance(1, chronicle.follow(step))
                if interruption.requested:
                    raise chronicle.stop(step.step)
    except Diverged as error:
        chronicle.give_up(error)
        raise
    chronicle.finish()
