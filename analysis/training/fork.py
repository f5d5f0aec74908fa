"""Forks: runs that continue a recorded run from one of its steps, with another learning rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.execution.progress import Shown, reporter_of
from analysis.training.existing_runs import check_not_read, existing_run, remove_replaced
from analysis.training.setup import check_data, configurations, describe, prepare
from analysis.training.train import made_with, open_resumable, resume_run, run_to_the_end
from analysis.training.transplant import kept_boundaries, started_in
from analysis.training.user_networks.own_network import check_architecture
from checkpoints import Run
from repsim.learning import TrainingConfig

__all__ = ["CHANGEABLE", "fork_run"]

CHANGEABLE = ("rule", "boundaries", "estimator_learning_rate", "epochs")


def fork_run(
    path: str | Path,
    source: str | Path,
    step: int,
    changes: Mapping[str, Any] | None = None,
    *,
    exists: str = "error",
    progress: Shown = None,
) -> Run:
    """Continue a recorded run from one of its steps in a new run directory, with another learning rule.

    The fork starts from the weights, the optimizer state and the generators that the source committed at ``step``, and
    sees the examples in the order in which the source saw them. Estimators at boundaries with an unchanged rule keep
    their state (also if it is now used and was only observed, or the reverse); others start as they would at step 0.
    The steps of the source up to ``step`` are copied. Without changes the fork repeats the source, bit for bit on one
    machine, if the source was trained alone.

    Parameters
    ----------
    path : path
        The run directory of the fork.
    source : path
        A run trained by ``train_run``, finished or stopped; it is not changed.
    step : int
        A committed step of the source, before the end of the fork's training.
    changes : mapping of str to object, optional
        New values of ``rule``, ``boundaries``, ``estimator_learning_rate`` or ``epochs``, as in ``TrainingConfig``. A
        new rule without boundaries acts at those that its text names, or at its default ones.
    exists : {"error", "resume", "replace"}, default "error"
        As for ``train_run``; a fork is continued if it has the same source, step and settings.
    progress : bool or Reporter, optional
        As for ``train_run``.

    Returns
    -------
    Run
        Finished, open for reading. Its config has an entry ``forked_from``.

    Raises
    ------
    ValueError, OSError
        If another setting is changed or a value is invalid; if the source was not trained by ``train_run``, is being
        written or damaged, or its data have changed; if the step cannot be continued; or if the path exists and
        ``exists`` does not allow that. Nothing is written then.
    Diverged, Interrupted
        As for ``train_run``. ``resume_run`` continues the fork.
    """
    check_not_read(path, exists, [source])
    path, stored = Path(path), open_resumable(source)
    before, recording = configurations(stored)
    training = _changed(before, changes or {})
    origin = {"uuid": stored.info["uuid"], "step": step}
    if existing_run(path, exists, made_with(training, recording) | {"forked_from": origin}) is not None:
        return resume_run(path, progress=progress)
    stored.check_forkable(step)
    kept, of_source = kept_boundaries(before, training), started_in(stored.config)
    started = {k: of_source.get(k, 0) if k in kept else step for k in training.rules}
    started = {k: update for k, update in started.items() if update > 0}
    data_dir = stored.config["data"]["data_dir"]
    progress = reporter_of(progress)
    with progress.task("Loading data"):
        setup = prepare(training, recording, data_dir, started=started)
    check_data(stored, setup)
    check_architecture(stored.config, setup.learner.network, source)
    if step >= setup.n_steps:
        raise ValueError(
            f"Step {step} is not before the end of this training, step {setup.n_steps}; choose an earlier step or more "
            "epochs."
        )
    forked_from = {
        "path": str(Path(source).absolute()),
        **origin,
        "changes": _difference(before, training),
        "estimators_started": {"before": _as_keys(of_source), "after": _as_keys(started)},
    }
    config = {**describe(setup, data_dir), "forked_from": forked_from}
    remove_replaced(path, exists)
    return run_to_the_end(lambda: Run.fork(path, stored, step, config, setup.stimuli), setup, progress)


def _changed(training: TrainingConfig, changes: Mapping[str, Any]) -> TrainingConfig:
    if fixed := [name for name in changes if name not in CHANGEABLE]:
        raise ValueError(f"A fork cannot change {fixed[0]}; expected one of: {', '.join(CHANGEABLE)}.")
    if "rule" in changes:  # boundaries belong to the rule that they were given with
        changes = {"boundaries": None, **changes}
    return replace(training, **changes)


def _difference(before: TrainingConfig, after: TrainingConfig) -> dict[str, dict[str, Any]]:
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in CHANGEABLE)
    return {name: {"before": old, "after": new} for name, old, new in pairs if old != new}


def _as_keys(started: Mapping[int, int]) -> dict[str, int]:
    return {str(k): update for k, update in started.items()}
