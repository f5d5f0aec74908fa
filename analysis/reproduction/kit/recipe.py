"""Recipes of networks that claims train and record, in run directories that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.config.recording import RecordingConfig
from analysis.reproduction.claim import ClaimTask, Frames, Plan, claim_task, digest
from analysis.training.train import resume_run, train_run
from checkpoints import Run
from repsim.learning import Diverged, TrainingConfig

__all__ = ["Recipe"]

_FOLDER = "networks"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Configuration of one network: method (``name``), training with its seed, and recording."""

    name: str
    training: TrainingConfig
    recording: RecordingConfig

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON-ready values."""
        return {"name": self.name, "training": self.training.to_dict(), "recording": self.recording.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe that ``to_dict`` wrote."""
        training = TrainingConfig.from_dict(values["training"])
        return cls(name=values["name"], training=training, recording=RecordingConfig.from_dict(values["recording"]))

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return self.training.seed

    def task(self, plan: Plan, *, cost: float) -> ClaimTask:
        """Return the task that trains and records the network; claims with equal recipes share it.

        Its table ``networks`` has one row: ``network`` (the name), ``seed``, ``rule``, ``boundaries``, ``depth``,
        ``activation``, ``state``, and train, validation and test accuracy and loss at the end (missing if training
        diverged).
        """
        settings = {**self.to_dict(), "data_dir": plan.data_dir}
        return claim_task(_FOLDER, f"{self.name}-seed-{self.seed}", _train, cost=cost, **settings)

    def path(self, folder: Path) -> Path:
        """Return the run directory of the network within the folder of a reproduction."""
        shared = {**self.training.to_dict(), "recording": self.recording.to_dict(), "seed": None}
        return folder / _FOLDER / f"{self.name}-{digest(shared)}" / f"seed-{self.seed}"

    def open(self, folder: Path) -> Run:
        """Open the finished run of the network for reading."""
        return Run.open(self.path(folder))


def _train(folder: Path, *, data_dir: str | None, **settings: Any) -> Frames:
    recipe = Recipe.from_dict(settings)
    path = recipe.path(folder)
    try:
        run = (
            resume_run(path) if path.exists() else train_run(path, recipe.training, recipe.recording, data_dir=data_dir)
        )
    except Diverged:
        run = Run.open(path)
    return {"networks": pd.DataFrame([_row(recipe, run)])}


def _row(recipe: Recipe, run: Run) -> dict[str, Any]:
    columns = ("seed", "rule", "boundaries", "depth", "width", "activation", "epochs", "learning_rate")
    settings = {key: value for key, value in asdict(recipe.training).items() if key in columns}
    last = {key: run.status.get(key) for key in ("state", "test_accuracy", "test_loss", "n_test")}
    return {"network": recipe.name, **settings, **last, **_last_epoch(run)}


def _last_epoch(run: Run) -> dict[str, float | None]:
    """Return means over the batches of the last epoch, and the validation accuracy at its end."""
    records = pd.DataFrame(run.metrics())
    last = records[records["epoch"] == records["epoch"].max()]
    return {
        "train_accuracy": float(last["accuracy"].mean()),
        "train_loss": float(last["loss"].mean()),
        "validation_accuracy": float(last["validation_accuracy"].iloc[-1]) if "validation_accuracy" in last else None,
    }
