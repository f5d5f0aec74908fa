"""Five networks of 20 hidden layers on real digits: backprop, synthetic gradients (SG), and a control for each SG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.comparison.result import ComparisonResult
from analysis.config.execution import ExecutionConfig
from analysis.config.recording import RecordingConfig
from analysis.training.train import train_run
from analysis.workflows.comparisons import compare_runs
from repsim.learning import TrainingConfig

__all__ = ["DEMO_RUNS", "demo"]

# Stacked this deep, SGs can only follow a network that moves slowly: a lower rate, and more epochs.
_SLOW: dict[str, Any] = {"epochs": 130, "learning_rate": 2e-4, "estimator_learning_rate": 1e-3}
_USUAL: dict[str, Any] = {"epochs": 40, "learning_rate": 3e-3, "estimator_learning_rate": 1e-3, "schedule": "cosine"}

DEMO_RUNS = {
    "backprop": TrainingConfig(rule="backprop", epochs=40, learning_rate=3e-3, schedule="cosine"),
    "sg-middle": TrainingConfig(rule="synthetic-gradient", boundaries="middle", **_USUAL),
    "sg-every-boundary": TrainingConfig(rule="synthetic-gradient", boundaries="inner", **_SLOW),
    # Controls: what the decoupling of the network in the middle changes by itself, and what the slow schedule does.
    "greedy-middle": TrainingConfig(rule="decoupled-greedy", boundaries="middle", **_USUAL),
    "backprop-slow": TrainingConfig(rule="backprop", epochs=130, learning_rate=2e-4),
}


def demo(folder: str | Path, *, execution: ExecutionConfig | None = None) -> ComparisonResult:
    """Train those of the networks that are not trained yet, and compare all.

    Parameters
    ----------
    folder : path
        Holds one run directory per network, and ``comparison``. Unfinished runs of an earlier demo are continued.
    execution : ExecutionConfig, optional
        Where the comparison runs, and who is told about the progress of training and comparison.

    Raises
    ------
    ValueError
        If the folder holds a run of the same name with other settings.
    """
    progress, folder = None if execution is None else execution.progress, Path(folder)
    for name, training in DEMO_RUNS.items():
        train_run(folder / name, training, RecordingConfig(), exists="resume", progress=progress)
    return compare_runs([folder / name for name in DEMO_RUNS], output=folder / "comparison", execution=execution)
