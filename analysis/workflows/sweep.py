"""Train many networks, each in a run directory of its own, and say what became of each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.comparison.schema import read_table
from analysis.config.analysis import AnalysisConfig
from analysis.config.toml_files import SettingsFile
from analysis.config.execution import ExecutionConfig
from analysis.config.recording import RecordingConfig
from analysis.config.sweep_file import Sweep, SweptRun, read_sweep
from analysis.execution import Executor, NotBegun, Task, make_executor
from analysis.execution.folders import check_folder
from analysis.execution.interruption import Interrupted
from analysis.execution.progress import Reporter, silent
from analysis.training.setup import configurations
from analysis.training.train import resume_run, train_run
from analysis.workflows.analyze import analyze_run, study_of_run
from checkpoints import Damaged, Run
from checkpoints.storage.commit import replace_file
from checkpoints.storage.lock import Lock
from repsim.learning import Diverged, TrainingConfig, keep_freed_memory

__all__ = ["Swept", "sweep", "sweep_table"]

TABLE = "sweep.csv"
_SECONDS_BETWEEN_TABLES = 5.0
_ENDED = ("finished", "diverged")


@dataclass(frozen=True)
class Swept:
    """What became of a sweep.

    Attributes
    ----------
    folder : Path
    table : DataFrame
        One row a training: see ``sweep_table``.
    """

    folder: Path
    table: pd.DataFrame

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as JSON takes them."""
        table = self.table.astype(object)
        rows = table.where(table.notna(), None).to_dict("records")
        return [{str(name): value for name, value in row.items()} for row in rows]

    def summary(self) -> list[str]:
        """Return in words how many ran, failed and remain, and why those that failed did."""
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
    """Train what is not trained yet of a sweep; one that fails does not stop the others.

    Parameters
    ----------
    path : path
        The file; see ``analysis.config.sweep_file.read_sweep``.
    output : path, optional
        ``runs/NAME`` by default, NAME being the file's without its ending. Holds a run directory a training, and
        ``sweep.csv``.
    data_dir : path, optional
        For the data set ``mnist``.
    defaults : SettingsFile, optional
    only_list : bool, default False
        Train nothing; say what there is to do.
    execution : ExecutionConfig, optional
        Where networks are trained and who is told about their progress.

    Returns
    -------
    Swept

    Raises
    ------
    ValueError, OSError
        If the file, a setting or the folder will not do, or a run of other settings stands in a training's place;
        nothing is then written.
    Interrupted
        After Ctrl-C; the same call goes on.
    """
    execution, path = execution or ExecutionConfig(), Path(path)
    reporter = execution.progress or silent()
    asked = read_sweep(path, defaults)
    folder = Path(output) if output is not None else Path("runs") / path.stem
    check_folder(folder)
    for run in asked.runs:
        _check_place(folder / run.name, run)
    if only_list:
        return Swept(folder, sweep_table(asked, folder, _earlier_reasons(folder)))
    tasks = _tasks(asked, folder, data_dir)
    cost = float("inf") if tasks else 0.0
    place = make_executor(execution, cost=cost)
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / "lock")
    try:
        reasons = _do(asked, tasks, place, folder, reporter)
    finally:
        lock.release()
    return Swept(folder, _write_table(asked, folder, reasons))


def sweep_table(asked: Sweep, folder: Path, reasons: Mapping[str, str]) -> pd.DataFrame:
    """Return one row a training: its settings, its state, and the reason if it failed.

    ``state`` is that of its run directory (``finished``, ``diverged``, ``interrupted``, ``stopped``, ``running``),
    ``failed`` if it came to none, and ``waiting`` if it is yet to begin.
    """
    rows = []
    for run in asked.runs:
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


@dataclass(frozen=True)
class _Order:
    """One training, or one analysis of what it came to."""

    path: Path
    training: TrainingConfig
    recording: RecordingConfig
    data_dir: str | None
    analysis: AnalysisConfig | None


def _train(order: _Order) -> None:
    keep_freed_memory()
    if (order.path / "run.json").is_file():
        resume_run(order.path)
    else:
        train_run(order.path, order.training, order.recording, data_dir=order.data_dir)


def _analyze(order: _Order) -> None:
    analyze_run(order.path, config=order.analysis or AnalysisConfig(), execution=ExecutionConfig(executor="serial"))


def _tasks(asked: Sweep, folder: Path, data_dir: str | Path | None) -> list[Task]:
    where = None if data_dir is None else str(Path(data_dir).absolute())
    tasks = []
    for run in asked.runs:
        order = _Order((folder / run.name).absolute(), run.training, run.recording, where, asked.analysis)
        state = Run.open(order.path).status["state"] if (order.path / "run.json").is_file() else None
        if state not in _ENDED:
            tasks.append(Task(f"train:{run.name}", _train, order))
        if asked.analysis is not None and state != "diverged" and not _is_analysed(order, state):
            tasks.append(Task(f"analyze:{run.name}", _analyze, order, (f"train:{run.name}",)))
    return tasks


def _is_analysed(order: _Order, state: str | None) -> bool:
    if state != "finished":
        return False
    try:
        return study_of_run(order.path, order.analysis or AnalysisConfig()).is_done()
    except (ValueError, OSError):
        return False  # the task finds out why


def _do(asked: Sweep, tasks: Sequence[Task], place: Executor, folder: Path, reporter: Reporter) -> dict[str, str]:
    """Do tasks, keep the table up to date, and return why those that failed did, by the run's name."""
    reasons: dict[str, str] = {}
    if not tasks:
        reporter.say("Every training is at its end.")
        return reasons
    done, written = 0, time.monotonic()
    try:
        with reporter.task("sweep", len(tasks)) as progress:
            for task, error in place.completed(tasks):
                if isinstance(error, Interrupted):
                    raise KeyboardInterrupt
                done += 1
                what, _, name = task.key.partition(":")
                progress.advance(1, name)
                if error is not None and not isinstance(error, NotBegun):
                    reasons[name] = " ".join(f"{'analysis: ' if what == 'analyze' else ''}{_said(error)}".split())
                    reporter.say(f"{name}: {reasons[name]}")
                if time.monotonic() - written > _SECONDS_BETWEEN_TABLES:
                    _write_table(asked, folder, reasons)
                    written = time.monotonic()
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped; {done} of {len(tasks)} are done and kept. Continue with the same command."
        ) from None
    finally:
        _write_table(asked, folder, reasons)
    return reasons


def _earlier_reasons(folder: Path) -> dict[str, str]:
    """Return why trainings failed when the table was last written."""
    if not (folder / TABLE).is_file():
        return {}
    table = read_table(folder / TABLE)
    if not {"run", "reason"} <= set(table):
        return {}
    failed = table.dropna(subset="reason")
    return dict(zip(failed["run"].astype(str), failed["reason"].astype(str), strict=True))


def _said(error: Exception) -> str:
    known = isinstance(error, ValueError | OSError | Diverged)
    return str(error) if known else f"{type(error).__name__}: {error}"


def _write_table(asked: Sweep, folder: Path, reasons: Mapping[str, str]) -> pd.DataFrame:
    table = sweep_table(asked, folder, reasons)
    replace_file(folder / TABLE, table.to_csv(index=False).encode())
    return table


def _check_place(path: Path, run: SweptRun) -> None:
    """Refuse to take another run for one of the sweep's."""
    if not path.exists():
        return
    if not (path / "run.json").is_file():
        raise FileExistsError(f"{path} exists and is no run; choose another folder with --output.")
    training, recording = configurations(Run.open(path))
    for done, differs in (("trained", training != run.training), ("recorded", recording != run.recording)):
        if differs:
            raise ValueError(f"{path} was {done} with other settings; choose another folder with --output.")
