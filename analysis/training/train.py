"""Training of one network into a run directory."""

from __future__ import annotations

from pathlib import Path

from analysis.config.recording import RecordingConfig
from analysis.execution.interruption import Interruption
from analysis.execution.progress import Reporter, silent
from analysis.execution.threads import using_threads
from analysis.training.recorder import RunRecorder
from analysis.training.setup import TrainingSetup, configurations, describe, prepare
from checkpoints import Run
from checkpoints.generators import preserve_generators
from repsim.learning import Diverged, TrainingConfig, build_optimizer, train

__all__ = ["open_resumable", "report_resumed", "resume_run", "train_run"]


def train_run(
    path: str | Path,
    training: TrainingConfig,
    recording: RecordingConfig | None = None,
    *,
    data_dir: str | Path | None = None,
    progress: Reporter | None = None,
) -> Run:
    """Train a network from its configuration and record it in a new run directory.

    Settings and data are checked before anything is written.

    Parameters
    ----------
    path : path
        Must not exist.
    training : TrainingConfig
    recording : RecordingConfig, optional
    data_dir : path, optional
        Folder of the IDX files of the data set ``mnist``.
    progress : Reporter, optional
        Shows progress and messages; by default nothing is shown.

    Returns
    -------
    Run
        Finished, open for reading.

    Raises
    ------
    ValueError, OSError
        If a setting is invalid, the data cannot be read, or the path exists.
    Diverged
        If the loss is no longer finite. The status of the run says so, and earlier checkpoints are kept.
    Interrupted
        After Ctrl-C. The present step is committed.
    """
    recording = recording or RecordingConfig()
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already. Choose another name, or continue it with --resume.")
    setup = prepare(training, recording, data_dir)
    config = describe(setup, data_dir)
    with (
        preserve_generators(training.seed),
        using_threads(training.threads),
        Interruption() as interruption,
        Run.create(path, config, setup.stimuli) as run,
    ):
        _run_to_the_end(run, setup, interruption, progress or silent())
    return Run.open(path)


def resume_run(path: str | Path, *, progress: Reporter | None = None) -> Run:
    """Continue a run from its last committed step to its end; a finished run is returned unchanged.

    On the same machine, the numbers are those of the uninterrupted run, bit for bit.

    Raises
    ------
    ValueError, OSError
        If there is no such run, it is damaged or being written, or its data have changed.
    Diverged, Interrupted
        As for ``train_run``.
    """
    stored = open_resumable(path)
    if stored.status.get("state") == "finished":
        return stored
    training, recording = configurations(stored)
    setup = prepare(training, recording, stored.config["data"]["data_dir"])
    with (
        preserve_generators(training.seed),
        using_threads(training.threads),
        Interruption() as interruption,
        Run.resume(path, setup.stimuli) as run,
    ):
        report_resumed(run, progress or silent())
        _run_to_the_end(run, setup, interruption, progress or silent())
    return Run.open(path)


def open_resumable(path: str | Path) -> Run:
    """Open a run for reading."""
    stored = Run.open(path)
    if "source" in stored.config:
        source = stored.config["source"]
        raise ValueError(
            f"{path} holds recordings of {source.get('path') or source.get('model')}; there is nothing to train."
        )
    return stored


def report_resumed(run: Run, progress: Reporter) -> None:
    """Report which dead process the run was taken over from, if any, and the step after which it continues."""
    if run.taken_over_from:
        progress.say(f"{run.path} was being written by {run.taken_over_from}, which died; it is taken over.")
    if run.steps:
        progress.say(f"{run.path} continues after step {run.steps[-1]}.")


def _run_to_the_end(run: Run, setup: TrainingSetup, interruption: Interruption, progress: Reporter) -> None:
    optimizer = build_optimizer(setup.learner, setup.training)
    recorder = RunRecorder(run, setup, optimizer)
    steps = train(
        setup.learner,
        optimizer,
        *setup.part("train"),
        setup.training,
        start=recorder.start,
        diagnosed=setup.diagnosed_steps,
    )
    try:
        with progress.task(run.path.absolute().name, setup.n_steps) as task:
            task.advance(recorder.start)
            for step in steps:
                task.advance(1, recorder.follow(step))
                if interruption.requested:
                    raise recorder.stop(step.step)
    except Diverged as error:
        recorder.give_up(error)
        raise
    recorder.finish()
