"""Train one network a seed, all at once where that is faster, into an ordinary run directory each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from analysis.config.recording import RecordingConfig
from analysis.config.seeds import parse_seeds
from analysis.execution.interruption import Interruption, TrainingInterrupted
from analysis.execution.progress import Reporter, silent
from analysis.training.job import Job, configurations, describe, prepare, using_threads
from analysis.training.recorder import Chronicle
from analysis.training.train import resumable, resume_run, say_resumed
from checkpoints import Run
from checkpoints.generators import preserve_generators
from repsim.learning import Diverged, ReplicaTraining, TrainingConfig, build_optimizer, load_dataset, train_replicas
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
    reporter: Reporter | None = None,
) -> list[Run]:
    """Train a network from its configuration once for each seed, and record it in ``folder/seed-<seed>``.

    Each run is what ``train_run`` with that seed would have written, up to rounding: trained at once, networks are one
    stack of products. (Adam makes whole steps of gradients that are nothing but rounding, so a parameter whose gradient
    is zero may differ by more.) A run that diverges says so in its status and does not stop the others.

    Parameters
    ----------
    folder : path
        May exist; runs of these seeds must not.
    training : TrainingConfig
        Its seed is not used. A stack makes use of more than one of its ``threads`` where processors are free.
    recording : RecordingConfig, optional
    seeds : str or sequence of int
        Such as ``"0-9"`` or ``"0,3,5"``.
    how : str, optional
        ``"stacked"``, ``"loop"`` or ``"auto"``, the default: what a few updates show to be faster.
    data_dir, reporter
        As for ``train_run``.

    Returns
    -------
    list of Run
        One a seed, open for reading.

    Raises
    ------
    ValueError, OSError
        If a setting, a seed, the data, the memory or a path will not do; nothing is then written.
    Diverged
        If every run did.
    Interrupted
        After Ctrl-C; the present step of all is committed.
    """
    reporter, folder = reporter or silent(), Path(folder)
    chosen = parse_seeds(seeds)
    if (folder / "run.json").exists():
        raise FileExistsError(f"{folder} is a run; choose another folder for the runs of several seeds.")
    for seed in chosen:
        if (path := _path(folder, seed)).exists():
            raise FileExistsError(f"{path} exists already. Choose another folder, or continue with --resume.")
    dataset = load_dataset(training.data, data_dir)
    jobs = [prepare(replace(training, seed=seed), recording or RecordingConfig(), dataset=dataset) for seed in chosen]
    optimizers = [build_optimizer(job.learner, job.training) for job in jobs]
    with preserve_generators(chosen[0]), using_threads(training.threads), ExitStack() as open_runs:
        replicas = _replicas(jobs, optimizers, 0, how or "auto", reporter)
        shared = {"seeds": list(chosen), "how": replicas.choice.how}
        folder.mkdir(parents=True, exist_ok=True)
        runs = [
            open_runs.enter_context(
                Run.create(_path(folder, seed), describe(job, data_dir) | {"replicas": shared}, job.stimuli)
            )
            for seed, job in zip(chosen, jobs, strict=True)
        ]
        chronicles = [Chronicle(*each) for each in zip(runs, jobs, optimizers, strict=True)]
        errors = _run_to_the_end(folder, chronicles, replicas, reporter)
    if len(errors) == len(chosen):
        raise errors[0]
    return [Run.open(_path(folder, seed)) for seed in chosen]


def resume_seeds(
    folder: str | Path, seeds: str | Sequence[int], how: str | None = None, reporter: Reporter | None = None
) -> list[Run]:
    """Continue the runs of several seeds to their ends; finished ones are left as they are.

    Runs that stopped at the same step go on together in the way in which they began, and the numbers are those of an
    uninterrupted training, bit for bit, on the same machine. Others go on one by one. Those that diverged come last; if
    they do so again, they say so in their status and do not stop the others.

    Raises
    ------
    ValueError, OSError
        If there is no such run, it is damaged or being written, its data are not what they were, or ``how`` is not the
        way in which they began.
    Diverged, Interrupted
        As for ``train_seeds``.
    """
    reporter, folder = reporter or silent(), Path(folder)
    check_choice("how", how or "auto", ("auto", "stacked", "loop"))
    paths = [_path(folder, seed) for seed in parse_seeds(seeds)]
    stored = [resumable(path) for path in paths]
    diverged = [run for run in stored if run.status.get("state") == "diverged"]
    unfinished = [run for run in stored if run.status.get("state") not in ("finished", "diverged")]
    together = _go_together(unfinished, how)
    errors = _resume_together(folder, unfinished, reporter) if together else []
    errors += _resume_one_by_one([*([] if together else unfinished), *diverged], reporter)
    if len(errors) == len(stored):
        raise errors[0]
    return [Run.open(path) for path in paths]


def _resume_one_by_one(runs: Sequence[Run], reporter: Reporter) -> list[Diverged]:
    """Continue runs, and return what those that diverged raised."""
    errors = []
    for run in runs:
        try:
            resume_run(run.path, reporter=reporter)
        except Diverged as error:
            errors.append(error)
            reporter.say(f"{run.path}: {error}")
    return errors


def _path(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}"


def _go_together(runs: Sequence[Run], how: str | None) -> bool:
    """Return whether unfinished runs are one stack that stopped at one step."""
    ways = {run.config.get("replicas", {}).get("how") for run in runs}
    if how in ("stacked", "loop") and ways - {how}:
        raise ValueError(f"These runs were not trained with --how {how}; leave --how out to continue them.")
    together = {tuple(run.config.get("replicas", {}).get("seeds", ())) for run in runs}
    steps = {run.steps[-1] if run.steps else 0 for run in runs}
    return len(runs) > 1 and ways == {"stacked"} and len(together) == len(steps) == 1


def _resume_together(folder: Path, stored: Sequence[Run], reporter: Reporter) -> list[Diverged]:
    jobs = []
    for run in stored:
        training, recording = configurations(run)
        jobs.append(prepare(training, recording, run.config["data"]["data_dir"]))
    optimizers = [build_optimizer(job.learner, job.training) for job in jobs]
    with preserve_generators(jobs[0].training.seed), using_threads(jobs[0].training.threads), ExitStack() as open_runs:
        runs = [
            open_runs.enter_context(Run.resume(run.path, job.stimuli)) for run, job in zip(stored, jobs, strict=True)
        ]
        for run in runs:
            say_resumed(run, reporter)
        chronicles = [Chronicle(*each) for each in zip(runs, jobs, optimizers, strict=True)]
        replicas = _replicas(jobs, optimizers, chronicles[0].start, "stacked", reporter)
        return _run_to_the_end(folder, chronicles, replicas, reporter)


def _replicas(
    jobs: Sequence[Job], optimizers: Sequence[torch.optim.Optimizer], start: int, how: str, reporter: Reporter
) -> ReplicaTraining:
    settings = jobs[0].training
    replicas = train_replicas(
        [job.learner for job in jobs],
        optimizers,
        [job.part("train") for job in jobs],
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seeds=[job.training.seed for job in jobs],
        schedule=settings.schedule,
        start=start,
        diagnosed=jobs[0].diagnosed_steps,
        how=how,
    )
    way = {"stacked": "at once", "loop": "one beside the other"}[replicas.choice.how]
    if len(jobs) > 1:
        reporter.say(f"{len(jobs)} seeds are trained {way}: {replicas.choice.reason}.")
    return replicas


def _run_to_the_end(
    folder: Path, chronicles: Sequence[Chronicle], replicas: ReplicaTraining, reporter: Reporter
) -> list[Diverged]:
    """Train and record all runs, and return the errors of those that diverged."""
    n_steps, start = chronicles[0].job.n_steps, chronicles[0].start
    ended: dict[int, Diverged] = {}
    with reporter.task(folder.absolute().name, n_steps) as task, Interruption() as interruption:
        task.advance(start)
        for number, updates in enumerate(replicas, start=start + 1):
            if chronicles[0].reads_learner(number):
                replicas.write_back()
            notes = _follow(chronicles, updates, ended, reporter)
            task.advance(1, next(notes, ""))
            if interruption.requested and len(ended) < len(chronicles):
                replicas.write_back()
                going = [chronicle for i, chronicle in enumerate(chronicles) if i not in ended]
                for chronicle in going:
                    chronicle.stop(number)
                seeds = ",".join(str(chronicle.job.training.seed) for chronicle in going)
                raise TrainingInterrupted(folder, number, f"--seeds {seeds}")
            if len(ended) == len(chronicles):
                break
    for i, chronicle in enumerate(chronicles):
        if i not in ended:
            chronicle.finish()
    return list(ended.values())


def _follow(
    chronicles: Sequence[Chronicle], updates: Sequence[Any], ended: dict[int, Diverged], reporter: Reporter
) -> Iterator[str]:
    """Log one update of every run that goes on; return what there is to say."""
    notes = []
    for i, (chronicle, update) in enumerate(zip(chronicles, updates, strict=True)):
        if i in ended:
            continue
        try:
            if isinstance(update, Diverged):
                raise update
            notes.append(chronicle.follow(update))
        except Diverged as error:
            ended[i] = error
            chronicle.give_up(error)
            reporter.say(f"{chronicle.run.path}: {error}")
    return iter(notes)
