"""Recipes of networks that claims train and record, in run directories that they share."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

import repsim
from analysis.config.recording import RecordingConfig
from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, claim_task
from analysis.training.train import resume_run, train_run
from checkpoints import Run
from repsim.learning import Diverged, TrainingConfig, keep_freed_memory

__all__ = ["Recipe"]

_FOLDER = "networks"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Configuration of one network: method (``name``), training with its seed, and recording.

    ``like`` is the recipe of the network whose gradients its rule imitates, which is trained first.
    """

    name: str
    training: TrainingConfig
    recording: RecordingConfig
    like: Recipe | None = None

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return self.training.seed

    def task(self, plan: Plan, *, cost: float, after: Sequence[Task] = ()) -> Task:
        """Return the task that trains and records the network; claims with equal recipes share it.

        Its table ``networks`` has one row: ``network`` (the name), ``seed``, ``rule``, ``boundaries``, ``depth``,
        ``activation``, ``state``, and train, validation and test accuracy and loss at the end (missing if training
        diverged).
        """
        name = f"{_FOLDER}-{self.name}-seed-{self.seed}"
        return claim_task(name, _train, cost=cost, after=after, recipe=self, data_dir=plan.data_dir)

    def train(self, folder: Path, data_dir: str | None) -> Frames:
        """Train and record the network, or what is missing of it, and return the table of ``task``."""
        keep_freed_memory()
        path = self.path(folder)
        try:
            if path.exists():
                run = resume_run(path, progress=False)
            else:
                run = train_run(path, self._resolved(folder), self.recording, data_dir=data_dir, progress=False)
        except Diverged:
            run = Run.open(path)
        return {"networks": pd.DataFrame([_row(self, run)])}

    def path(self, folder: Path) -> Path:
        """Return the run directory of the network within the folder of a reproduction."""
        shared = {**self.training.to_dict(), "recording": self.recording.to_dict(), "seed": None}
        if self.like is not None:
            shared["like"] = self.like.path(folder).parent.name
        text = json.dumps([repsim.__version__, shared], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return folder / _FOLDER / f"{self.name}-{digest}" / f"seed-{self.seed}"

    def _resolved(self, folder: Path) -> TrainingConfig:
        """Return the training with the path of the run that its rule imitates."""
        if self.like is None:
            return self.training
        return replace(self.training, rule=f"{self.training.rule}:like={self.like.path(folder)}")

    def open(self, folder: Path) -> Run:
        """Open the finished run of the network for reading."""
        return Run.open(self.path(folder))


def _train(folder: Path, *, recipe: Recipe, data_dir: str | None) -> Frames:
    return recipe.train(folder, data_dir)


def _row(recipe: Recipe, run: Run) -> dict[str, Any]:
    columns = ("seed", "rule", "boundaries", "depth", "width", "activation", "epochs", "learning_rate")
    settings = {key: value for key, value in asdict(recipe.training).items() if key in columns}
    last = {key: run.status.get(key, math.nan) for key in ("state", "test_accuracy", "test_loss", "n_test")}
    return {"network": recipe.name, **settings, **last, **_last_epoch(run)}


def _last_epoch(run: Run) -> dict[str, float]:
    """Return means over the batches of the last epoch, and the validation accuracy at its end."""
    records = pd.DataFrame(run.metrics())
    last = records[records["epoch"] == records["epoch"].max()]
    return {
        "train_accuracy": float(last["accuracy"].mean()),
        "train_loss": float(last["loss"].mean()),
        "validation_accuracy": float(last["validation_accuracy"].iloc[-1])
        if "validation_accuracy" in last
        else math.nan,
    }
