"""Training of one network per seed, together where that is faster, each into a run directory of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from analysis.config.recording import RecordingConfig
from analysis.config.seed_list import parse_seeds
from analysis.execution.interruption import Interruption, TrainingInterrupted
from analysis.execution.progress import Reporter, Shown, reporter_of
from analysis.execution.threads import using_threads
from analysis.training.existing_runs import existing_run, remove_replaced
from analysis.training.recorder import RunRecorder
from analysis.training.setup import TrainingSetup, check_data, configurations, describe, prepare
from analysis.training.train import made_with, open_resumable, report_resumed, resume_run
from analysis.training.user_networks.own_data import load_data
from analysis.training.user_networks.own_network import check_architecture
from checkpoints import Run
from checkpoints.generators import preserve_generators
from repsim.learning import Diverged, ReplicaTraining, TrainingConfig, build_optimizer, train_replicas
from repsim.learning.checks import check_choice

__all__ = ["resume_seeds", "train_seeds"]


def train_seeds(
    folder: str | Path,
    training: TrainingConfig,
    recording: RecordingConfig | None = None,
    *,
    seeds: str | Sequence[int],
    how: str | None = None,
    data_dir: str | Path | None = None,
    exists: str = "error",
    progress: Shown = None,
) -> list[Run]:
    """Train a network from its configuration once for each seed, and record it in ``folder/seed-<seed>``.

    Each run is the one that ``train_run`` writes with that seed, up to rounding: networks that are trained together
    share batched products. (Adam turns rounding errors of a zero gradient into whole steps, so a parameter whose
    gradient is zero may differ by more.) If a run diverges, its status says so, and the others continue.

    Parameters
    ----------
    folder : path
        May exist, also with runs of other seeds.
    training : TrainingConfig
        Its seed is ignored. Networks that are trained together use all of its ``threads``.
    recording : RecordingConfig, optional
    seeds : str or sequence of int
        Such as ``"0-9"`` or ``"0,3,5"``.
    how : str, optional
        ``"stacked"`` (together), ``"loop"`` or ``"auto"``, the default: the faster of both in a few trial updates.
    data_dir, exists, progress
        As for ``train_run``; ``exists`` is about the run of each seed. With "resume", seeds without a run are trained
        after the others have been continued.

    Returns
    -------
    list of Run
        One for each seed, open for reading.

    Raises
    ------
    ValueError, OSError
        If a setting or seed is invalid, the data cannot be read, the memory is too small, or a run exists and
        ``exists`` does not allow that. Nothing is written then.
    Diverged
        If every run diverged.
    Interrupted
        After Ctrl-C. The present step of each run is committed.
    """
    progress, folder = reporter_of(progress), Path(folder)
    chosen, recording = parse_seeds(seeds), recording or RecordingConfig()
    if (folder / "run.json").exists():
        raise FileExistsError(f"{folder} is a run; choose another folder for the runs of several seeds.")
    settings = {seed: made_with(replace(training, seed=seed), recording) for seed in chosen}
    found = [seed for seed in chosen if existing_run(_path(folder, seed), exists, settings[seed]) is not None]
    if found:
        runs = resume_seeds(folder, found, how, progress)
        if missing := [seed for seed in chosen if seed not in found]:
            runs += train_seeds(
                folder, training, recording, seeds=missing, how=how, data_dir=data_dir, progress=progress
            )
        return sorted(runs, key=lambda run: chosen.index(int(run.path.name.removeprefix("seed-"))))
    with progress.task("Loading data"):
        dataset = load_data(training.data, data_dir)
        setups = [prepare(replace(training, seed=seed), recording, dataset=dataset) for seed in chosen]
    optimizers = [build_optimizer(setup.learner, setup.training) for setup in setups]
    with preserve_generators(chosen[0]), using_threads(training.threads), ExitStack() as open_runs:
        replicas = _replicas(setups, optimizers, 0, how or "auto", progress)
        interruption = open_runs.enter_context(Interruption())
        shared = {"seeds": list(chosen), "how": replicas.choice.how}
        folder.mkdir(parents=True, exist_ok=True)
        for seed in chosen:
            remove_replaced(_path(folder, seed), exists)
        runs = [
            open_runs.enter_context(
                Run.create(_path(folder, seed), describe(setup, data_dir) | {"replicas": shared}, setup.stimuli)
            )
            for seed, setup in zip(chosen, setups, strict=True)
        ]
        with progress.task("Recording the first step"):
            recorders = [RunRecorder(*each) for each in zip(runs, setups, optimizers, strict=True)]
        errors = _run_to_the_end(folder, recorders, replicas, interruption, progress)
    if len(errors) == len(chosen):
        raise errors[0]
    return [Run.open(_path(folder, seed)) for seed in chosen]


def resume_seeds(
    folder: str | Path, seeds: str | Sequence[int], how: str | None = None, progress: Shown = None
) -> list[Run]:
    """Continue the runs of several seeds to their ends; finished runs are returned unchanged.

    Runs that were trained together and stopped at the same step continue together. On the same machine, the numbers are
    those of an uninterrupted training, bit for bit. Other runs continue one by one, those that diverged last. If a run
    diverges again, its status says so, and the others continue.

    Raises
    ------
    ValueError, OSError
        If there is no such run, it is damaged or being written, its data have changed, or ``how`` differs from the way
        in which the runs were trained before.
    Diverged, Interrupted
        As for ``train_seeds``.
    """
    progress, folder = reporter_of(progress), Path(folder)
    check_choice("how", how or "auto", ("auto", "stacked", "loop"))
    paths = [_path(folder, seed) for seed in parse_seeds(seeds)]
    stored = [open_resumable(path) for path in paths]
    diverged = [run for run in stored if run.status.get("state") == "diverged"]
    unfinished = [run for run in stored if run.status.get("state") not in ("finished", "diverged")]
    together = _continue_together(unfinished, how)
    errors = _resume_together(folder, unfinished, progress) if together else []
    errors += _resume_one_by_one([*([] if together else unfinished), *diverged], progress)
    if len(errors) == len(stored):
        raise errors[0]
    return [Run.open(path) for path in paths]


def _resume_one_by_one(runs: Sequence[Run], progress: Reporter) -> list[Diverged]:
    """Continue runs, and return the errors of those that diverged."""
    errors = []
    for run in runs:
        try:
            resume_run(run.path, progress=progress)
        except Diverged as error:
            errors.append(error)
            progress.say(f"{run.path}: {error}")
    return errors


def _path(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}"


def _continue_together(runs: Sequence[Run], how: str | None) -> bool:
    """Return whether unfinished runs were trained together and stopped at the same step."""
    ways = {run.config.get("replicas", {}).get("how") for run in runs}
    if how in ("stacked", "loop") and ways - {how}:
        raise ValueError(f"These runs were not trained with --how {how}; leave --how out to continue them.")
    together = {tuple(run.config.get("replicas", {}).get("seeds", ())) for run in runs}
    steps = {run.steps[-1] if run.steps else 0 for run in runs}
    return len(runs) > 1 and ways == {"stacked"} and len(together) == len(steps) == 1


def _resume_together(folder: Path, stored: Sequence[Run], progress: Reporter) -> list[Diverged]:
    with progress.task("Loading data"):
        setups = [prepare(*configurations(run), run.config["data"]["data_dir"]) for run in stored]
    for run, setup in zip(stored, setups, strict=True):
        check_data(run, setup)
        check_architecture(run.config, setup.learner.network, run.path)
    optimizers = [build_optimizer(setup.learner, setup.training) for setup in setups]
    training = setups[0].training
    with preserve_generators(training.seed), using_threads(training.threads), ExitStack() as open_runs:
        interruption = open_runs.enter_context(Interruption())
        runs = [
            open_runs.enter_context(Run.resume(run.path, setup.stimuli))
            for run, setup in zip(stored, setups, strict=True)
        ]
        for run in runs:
            report_resumed(run, progress)
        recorders = [RunRecorder(*each) for each in zip(runs, setups, optimizers, strict=True)]
        replicas = _replicas(setups, optimizers, recorders[0].start, "stacked", progress)
        return _run_to_the_end(folder, recorders, replicas, interruption, progress)


def _replicas(
    setups: Sequence[TrainingSetup],
    optimizers: Sequence[torch.optim.Optimizer],
    start: int,
    how: str,
    progress: Reporter,
) -> ReplicaTraining:
    replicas = train_replicas(
        [setup.learner for setup in setups],
        optimizers,
        [setup.part("train") for setup in setups],
        [setup.training for setup in setups],
        start=start,
        diagnosed=setups[0].diagnosed_steps,
        diagnosis_batches=setups[0].recording.diagnose_batches,
        how=how,
    )
    way = {"stacked": "together", "loop": "one by one"}[replicas.choice.how]
    if len(setups) > 1:
        progress.say(f"{len(setups)} seeds are trained {way}: {replicas.choice.reason}.")
    return replicas


def _run_to_the_end(
    folder: Path,
    recorders: Sequence[RunRecorder],
    replicas: ReplicaTraining,
    interruption: Interruption,
    progress: Reporter,
) -> list[Diverged]:
    """Train and record all runs, and return the errors of those that diverged."""
    start = recorders[0].start
    diverged: dict[int, Diverged] = {}
    with progress.task(folder.absolute().name, recorders[0].forecast()) as task:
        for number, updates in enumerate(replicas, start=start + 1):
            if recorders[0].reads_learner(number):
                replicas.write_back()
            notes = _follow(recorders, updates, diverged, progress)
            task.advance(1, notes[0] if notes else "")
            if interruption.requested and len(diverged) < len(recorders):
                replicas.write_back()
                raise _stop(folder, number, [each for i, each in enumerate(recorders) if i not in diverged])
            if len(diverged) == len(recorders):
                break
    with progress.task("Testing the networks"):
        for recorder in [each for i, each in enumerate(recorders) if i not in diverged]:
            recorder.finish()
    return list(diverged.values())


def _stop(folder: Path, step: int, recorders: Sequence[RunRecorder]) -> TrainingInterrupted:
    """Commit the present step of runs, and return the error that says how to continue them."""
    for recorder in recorders:
        recorder.stop(step)
    seeds = ",".join(str(recorder.setup.training.seed) for recorder in recorders)
    return TrainingInterrupted(folder, step, f"--seeds {seeds}")


def _follow(
    recorders: Sequence[RunRecorder], updates: Sequence[Any], diverged: dict[int, Diverged], progress: Reporter
) -> list[str]:
    """Log one update of every run that has not diverged, add those that diverge now, and return notes on the others."""
    notes = []
    for i, (recorder, update) in enumerate(zip(recorders, updates, strict=True)):
        if i in diverged:
            continue
        try:
            if isinstance(update, Diverged):
                raise update
            notes.append(recorder.follow(update))
        except Diverged as error:
            diverged[i] = error
            recorder.give_up(error)
            progress.say(f"{recorder.run.path}: {error}")
    return notes
