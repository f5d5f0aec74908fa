"""Networks that experiments train and record, in run directories that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.experiments.experiment import Part, Plan, Tables, digest
from analysis.settings import RecordingConfig
from analysis.workflows.training import resume_run, train_run
from checkpoints import Run
from repsim.learning import Diverged, TrainingConfig

__all__ = ["network_part", "network_path", "open_network"]

_FOLDER = "networks"


def network_part(
    name: str, training: TrainingConfig, recording: RecordingConfig, plan: Plan, *, cost: float, stage: int = 0
) -> Part:
    """Return the part that trains and records one network; experiments that ask for the same one share it.

    Its table ``networks`` has one row: ``network`` (the name), ``seed``, ``rule``, ``boundaries``, ``depth``,
    ``activation``, ``state``, train, validation and test accuracy and loss at the end (empty if training diverged).

    Parameters
    ----------
    name : str
        Of the method, without the seed.
    training, recording
        The seed is that of ``training``.
    plan : Plan
    cost, stage
        See ``Part``.
    """
    settings = {
        "name": name,
        "training": training.to_dict(),
        "recording": recording.to_dict(),
        "data_dir": plan.data_dir,
    }
    return Part(
        name=f"{name}-seed-{training.seed}", work=_train, settings=settings, cost=cost, group=_FOLDER, stage=stage
    )


def network_path(folder: Path, name: str, training: TrainingConfig, recording: RecordingConfig) -> Path:
    """Return the run directory of a network within the folder of a reproduction."""
    different = digest({**training.to_dict(), "recording": recording.to_dict(), "seed": None})
    return folder / _FOLDER / f"{name}-{different}" / f"seed-{training.seed}"


def open_network(folder: Path, name: str, training: TrainingConfig, recording: RecordingConfig) -> Run:
    """Open the finished run of a network for reading."""
    return Run.open(network_path(folder, name, training, recording))


def _train(
    folder: Path, *, name: str, training: Mapping[str, Any], recording: Mapping[str, Any], data_dir: str | None
) -> Tables:
    settings, recorded = TrainingConfig.from_dict(dict(training)), RecordingConfig.from_dict(dict(recording))
    path = network_path(folder, name, settings, recorded)
    try:
        run = resume_run(path) if path.exists() else train_run(path, settings, recorded, data_dir=data_dir)
    except Diverged:
        run = Run.open(path)
    return {"networks": pd.DataFrame([_row(name, settings, run)])}


def _row(name: str, training: TrainingConfig, run: Run) -> dict[str, Any]:
    kept = ("seed", "rule", "boundaries", "depth", "width", "activation", "epochs", "learning_rate")
    settings = {key: value for key, value in asdict(training).items() if key in kept}
    last = {key: run.status.get(key) for key in ("state", "test_accuracy", "test_loss", "n_test")}
    return {"network": name, **settings, **last, **_ending(run)}


def _ending(run: Run) -> dict[str, float | None]:
    """Return means over the last epoch's batches, and what validation came to at its end."""
    records = pd.DataFrame(run.metrics())
    last = records[records["epoch"] == records["epoch"].max()]
    return {
        "train_accuracy": float(last["accuracy"].mean()),
        "train_loss": float(last["loss"].mean()),
        "validation_accuracy": float(last["validation_accuracy"].iloc[-1]) if "validation_accuracy" in last else None,
    }
