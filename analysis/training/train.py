"""Training of one network into a run directory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.config.recording import RecordingConfig
from analysis.execution.interruption import Interruption
from analysis.execution.progress import Reporter, Shown, reporter_of
from analysis.execution.threads import using_threads
from analysis.own_parts.importing import imported_modules
from analysis.training.existing_runs import existing_run, remove_replaced
from analysis.training.recorder import RunRecorder
from analysis.training.setup import TrainingSetup, check_data, configurations, describe, located, prepare
from analysis.training.transplant import started_in
from analysis.training.user_networks.own_network import check_architecture
from checkpoints import Run
from checkpoints.generators import preserve_generators
from repsim.learning import Diverged, TrainingConfig, build_optimizer, train

__all__ = ["made_with", "open_resumable", "report_resumed", "resume_run", "run_to_the_end", "train_run"]


def train_run(
    path: str | Path,
    training: TrainingConfig,
    recording: RecordingConfig | None = None,
    *,
    data_dir: str | Path | None = None,
    exists: str = "error",
    progress: Shown = None,
) -> Run:
    """Train a network from its configuration and record it in a new run directory.

    Settings and data are checked before anything is written.

    Parameters
    ----------
    path : path
        The run directory.
    training : TrainingConfig
    recording : RecordingConfig, optional
    data_dir : path, optional
        Folder of the IDX files of the data set ``mnist``.
    exists : {"error", "resume", "replace"}, default "error"
        If the path exists: raise an error; continue the run if it has the same settings, and return a finished one
        unchanged; or remove it first, which is refused if it is not a run or holds files that are not of a run.
    progress : bool or Reporter, optional
        Whether progress and messages are shown; by default on a terminal and in a notebook.

    Returns
    -------
    Run
        Finished, open for reading.

    Raises
    ------
    ValueError, OSError
        If a setting is invalid, the data cannot be read, or the path exists and ``exists`` does not allow that.
    Diverged
        If the loss is no longer finite. The status of the run says so, and earlier checkpoints are kept.
    Interrupted
        After Ctrl-C. The present step is committed.
    """
    recording = recording or RecordingConfig()
    path = Path(path)
    if existing_run(path, exists, made_with(training, recording)) is not None:
        return resume_run(path, progress=progress)
    progress = reporter_of(progress)
    with progress.task("Loading data"):
        setup = prepare(training, recording, data_dir)
    config = describe(setup, data_dir)
    remove_replaced(path, exists)
    return run_to_the_end(lambda: Run.create(path, config, setup.stimuli), setup, progress)


def made_with(training: TrainingConfig, recording: RecordingConfig) -> dict[str, Any]:
    """Return the entries of the config of a run that is trained from its first step with these settings."""
    settings = TrainingConfig.later_defaults() | located(training).to_dict()
    if training.depth is None:
        del settings["depth"]  # which the model decides
    recorded = RecordingConfig.later_defaults() | recording.to_dict()
    return {"training": settings, "recording": recorded, "forked_from": None}


def resume_run(path: str | Path, *, progress: Shown = None) -> Run:
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
    progress = reporter_of(progress)
    with progress.task("Loading data"):
        setup = prepare(training, recording, stored.config["data"]["data_dir"], started=started_in(stored.config))
    check_data(stored, setup)
    check_architecture(stored.config, setup.learner.network, path)
    return run_to_the_end(lambda: Run.resume(path, setup.stimuli), setup, progress)


def open_resumable(path: str | Path) -> Run:
    """Open a run for reading; warn of files with the user's own parts that have changed since it was started."""
    stored = Run.open(path)
    if "source" in stored.config:
        source = stored.config["source"]
        raise ValueError(
            f"{path} holds recordings of {source.get('path') or source.get('model')}; there is nothing to train."
        )
    now = {str(module): module.sha256 for module in imported_modules()}
    for name, sha256 in stored.config.get("imported", {}).items():
        if now.get(name, sha256) != sha256:
            warnings.warn(f"{name} has changed since {path} was started with it.", RuntimeWarning, stacklevel=3)
    return stored


def report_resumed(run: Run, progress: Reporter) -> None:
    """Report which dead process the run was taken over from, if any, and the step after which it continues."""
    if run.taken_over_from:
        progress.say(f"{run.path} was being written by {run.taken_over_from}, which died; it is taken over.")
    if run.steps:
        progress.say(f"{run.path} continues after step {run.steps[-1]}.")


def run_to_the_end(opened: Callable[[], Run], setup: TrainingSetup, progress: Shown) -> Run:
    """Train a network to its end in the run that ``opened`` opens for writing, and return the run, open for reading."""
    reporter, training = reporter_of(progress), setup.training
    optimizer = build_optimizer(setup.learner, training)  # before the run is written, as it refuses some settings
    with (
        preserve_generators(training.seed),
        using_threads(training.threads),
        Interruption() as interruption,
        opened() as run,
    ):
        report_resumed(run, reporter)
        with reporter.task(f"Recording step {run.steps[-1] if run.steps else 0}"):
            recorder = RunRecorder(run, setup, optimizer)
        data, diagnosed = setup.part("train"), setup.diagnosed_steps
        n_batches = setup.recording.diagnose_batches
        steps = train(
            setup.learner,
            optimizer,
            *data,
            training,
            start=recorder.start,
            diagnosed=diagnosed,
            diagnosis_batches=n_batches,
        )
        try:
            with reporter.task(run.path.absolute().name, recorder.forecast()) as task:
                for step in steps:
                    task.advance(1, recorder.follow(step))
                    if interruption.requested:
                        raise recorder.stop(step.step)
        except Diverged as error:
            recorder.give_up(error)
            raise
        with reporter.task("Testing the network"):
            recorder.finish()
    return Run.open(run.path)
