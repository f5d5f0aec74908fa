"""Five networks of 20 hidden layers on real digits: backprop, synthetic gradients (SG), and a control for each SG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.comparison.result import ComparisonResult
from analysis.config.execution import ExecutionConfig
from analysis.config.recording import RecordingConfig
from analysis.execution.progress import Reporter, silent
from analysis.training.train import resume_run, train_run
from analysis.workflows.comparisons import compare_runs
from checkpoints import Run
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
    reporter = (execution.progress if execution else None) or silent()
    folder = Path(folder)
    for name, training in DEMO_RUNS.items():
        _train_or_continue(folder / name, training, reporter)
    return compare_runs([folder / name for name in DEMO_RUNS], output=folder / "comparison", execution=execution)


def _train_or_continue(path: Path, training: TrainingConfig, reporter: Reporter) -> None:
    if not path.exists():
        train_run(path, training, RecordingConfig(), progress=reporter)
        return
    if Run.open(path).config.get("training") != training.to_dict():
        raise ValueError(f"{path} was trained with other settings. Choose another folder with --output.")
    resume_run(path, progress=reporter)
