"""Sweeps: many trainings, each in a run directory of its own, and a table of their states."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.comparison.tables.schema import read_table
from analysis.config.analysis import AnalysisConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.recording import RecordingConfig
from analysis.config.sweep_file import Sweep, SweptRun, default_folder, read_sweep
from analysis.config.toml_files import SettingsFile
from analysis.execution import Executor, Task, describe_error, make_executor, run_tasks
from analysis.execution.folders import check_folder
from analysis.execution.progress import reporter_of
from analysis.training.setup import configurations
from analysis.training.train import train_run
from analysis.workflows.analyze import analyze_run, plan_run
from checkpoints import Damaged, Run
from checkpoints.storage.commit import replace_file
from checkpoints.storage.lock import Lock
from repsim.learning import TrainingConfig, keep_freed_memory

__all__ = ["Swept", "sweep", "sweep_table"]

TABLE = "sweep.csv"
_SECONDS_BETWEEN_TABLES = 5.0
_ENDED = ("finished", "diverged")


@dataclass(frozen=True)
class Swept:
    """The result of a sweep.

    Attributes
    ----------
    folder : Path
        Holds the run directories and ``sweep.csv``.
    table : DataFrame
        One row per training; see ``sweep_table``.
    """

    folder: Path
    table: pd.DataFrame

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as JSON takes them."""
        table = self.table.astype(object)
        rows = table.where(table.notna(), None).to_dict("records")
        return [{str(name): value for name, value in row.items()} for row in rows]

    def summary(self) -> list[str]:
        """Return sentences: how many trainings are in which state, and the reason for each failure."""
        counts = self.table["state"].value_counts()
        said = [f"{len(self.table)} trainings: {', '.join(f'{count} {state}' for state, count in counts.items())}."]
        failed = self.table[self.table["reason"] != ""]
        return said + [f"{row.run}: {row.reason}" for row in failed.itertuples()]


def sweep(
    path: str | Path,
    *,
    output: str | Path | None = None,
    data_dir: str | Path | None = None,
    defaults: SettingsFile | None = None,
    only_list: bool = False,
    execution: ExecutionConfig | None = None,
) -> Swept:
    """Train all networks of a sweep that are not trained yet. One that fails does not stop the others.

    Parameters
    ----------
    path : path
        The file; see ``analysis.config.sweep_file.read_sweep``.
    output : path, optional
        ``runs/NAME`` by default, where NAME is that of the file without its ending. Holds one run directory per
        training, and ``sweep.csv``.
    data_dir : path, optional
        Folder of the IDX files, for the data set ``mnist``.
    defaults : SettingsFile, optional
        Settings of the project, which the file overrides.
    only_list : bool, default False
        Train nothing; only return the table.
    execution : ExecutionConfig, optional
        Where networks are trained and who is told about their progress.

    Raises
    ------
    ValueError, OSError
        If the file is invalid, the folder cannot be used, or holds a run with other settings in the place of a
        training. Nothing is written then.
    Interrupted
        After Ctrl-C. The same call continues.
    """
    execution, path = execution or ExecutionConfig(), Path(path)
    folder = Path(output) if output is not None else default_folder(path)
    described = read_sweep(path, defaults, folder)
    check_folder(folder)
    for run in described.runs:
        _check_place(folder / run.name, run)
    if only_list:
        return Swept(folder, sweep_table(described, folder, _earlier_reasons(folder)))
    tasks = _tasks(described, folder, data_dir)
    executor = make_executor(execution, cost=float("inf") if tasks else 0.0)
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / "lock")
    try:
        table = _run(described, tasks, folder, execution, executor)
    finally:
        lock.release()
    return Swept(folder, table)


def sweep_table(described: Sweep, folder: Path, reasons: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per training: its settings, its state, and the reason if it failed.

    ``state`` is that of its run directory (``finished``, ``diverged``, ``interrupted``, ``stopped``, ``running``),
    ``failed`` if training failed before there was one, or ``waiting`` if it has not started.
    """
    rows = []
    for run in described.runs:
        status: dict[str, Any] = {"state": "failed" if run.name in reasons else "waiting"}
        if (folder / run.name / "run.json").is_file():
            status = _status(folder / run.name)
        rows.append(
            {
                "run": run.name,
                **run.settings,
                "state": status["state"],
                "step": status.get("step"),
                "n_steps": status.get("n_steps"),
                "test_accuracy": status.get("test_accuracy"),
                "seconds": status.get("seconds"),
                "reason": reasons.get(run.name, status.get("message", "")),
            }
        )
    return pd.DataFrame(rows)


def _status(path: Path) -> dict[str, Any]:
    try:
        return Run.open(path).status
    except Damaged as error:
        return {"state": "damaged", "message": str(error)}


def _train(*, path: str, training: TrainingConfig, recording: RecordingConfig, data_dir: str | None) -> None:
    keep_freed_memory()
    train_run(path, training, recording, data_dir=data_dir, exists="resume", progress=False)


def _analyze(*, path: str, config: AnalysisConfig) -> None:
    analyze_run(path, config=config, execution=ExecutionConfig(executor="serial", progress=False))


def _tasks(described: Sweep, folder: Path, data_dir: str | Path | None) -> list[Task]:
    """Return the trainings that have not ended and the analyses that are missing or stale."""
    idx_folder = None if data_dir is None else str(Path(data_dir).absolute())
    tasks: list[Task] = []
    keys: dict[str, str] = {}  # of trainings that have not ended, by the name of the run
    for run in described.runs:
        path = (folder / run.name).absolute()
        state = Run.open(path).status["state"] if (path / "run.json").is_file() else None
        inputs = {"path": str(path), "training": run.training, "recording": run.recording, "data_dir": idx_folder}
        training = Task(run.name, _train, inputs, after=tuple(keys[name] for name in run.after if name in keys))
        if state not in _ENDED:
            tasks.append(training)
            keys[run.name] = training.key
        config = described.analysis
        if config is not None and state != "diverged" and not _is_analyzed(path, config, state):
            tasks.append(Task(run.name, _analyze, {"path": str(path), "config": config}, after=(training.key,)))
    return tasks


def _is_analyzed(path: Path, config: AnalysisConfig, state: str | None) -> bool:
    if state != "finished":
        return False
    try:
        return plan_run(path, config).is_done()
    except (ValueError, OSError):
        return False  # the task reports the error


def _run(
    described: Sweep, tasks: Sequence[Task], folder: Path, execution: ExecutionConfig, executor: Executor
) -> pd.DataFrame:
    """Run tasks and write the table now and then; return it."""
    reasons: dict[str, str] = {}
    if not tasks:
        reporter_of(execution.progress).say("All trainings have ended.")
    written = time.monotonic()

    def note(task: Task, error: Exception | None) -> None:
        nonlocal written
        if error is not None:
            reasons[task.name] = f"{'analysis: ' if task.function is _analyze else ''}{describe_error(error)}"
        if time.monotonic() - written > _SECONDS_BETWEEN_TABLES:
            _write_table(described, folder, reasons)
            written = time.monotonic()

    try:
        run_tasks(tasks, execution, label="sweep", executor=executor, on_end=note)
    finally:
        table = _write_table(described, folder, reasons)
    return table


def _earlier_reasons(folder: Path) -> dict[str, str]:
    """Return the reasons of failures in the table that was written last, by the names of the runs."""
    if not (folder / TABLE).is_file():
        return {}
    table = read_table(folder / TABLE)
    if not {"run", "reason"} <= set(table):
        return {}
    failed = table.dropna(subset="reason")
    return dict(zip(failed["run"].astype(str), failed["reason"].astype(str), strict=True))


def _write_table(described: Sweep, folder: Path, reasons: Mapping[str, str]) -> pd.DataFrame:
    table = sweep_table(described, folder, reasons)
    replace_file(folder / TABLE, table.to_csv(index=False).encode())
    return table


def _check_place(path: Path, run: SweptRun) -> None:
    """Raise if the place of a training is taken by something else."""
    if not path.exists():
        return
    if not (path / "run.json").is_file():
        raise FileExistsError(f"{path} exists and is not a run. Choose another folder with --output.")
    training, recording = configurations(Run.open(path))
    for made, differs in (("trained", training != run.training), ("recorded", recording != run.recording)):
        if differs:
            raise ValueError(f"{path} was {made} with other settings. Choose another folder with --output.")
