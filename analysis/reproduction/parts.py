"""The parts of experiments on disk: done once, each committed whole, read back as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.comparison.schema import read_table
from analysis.reproduction.claim import ClaimTask, Frames, Plan, Results
from checkpoints.storage.commit import staged_directory, write_file
from checkpoints.storage.regular_files import is_system_file
from repsim.learning import keep_freed_memory

__all__ = ["Assignment", "is_done", "perform", "read_results"]

_FOLDER = "parts"


@dataclass(frozen=True)
class Assignment:
    """A part, and the folder of the reproduction that it belongs to."""

    part: ClaimTask
    folder: Path


def is_done(part: ClaimTask, folder: Path) -> bool:
    """Return whether a part's tables are there."""
    return _place(part, folder).is_dir()


def perform(assignment: Assignment) -> None:
    """Do a part, and commit its tables and settings; one that is done already is left alone."""
    part, folder = assignment.part, assignment.folder
    place = _place(part, folder)
    if place.is_dir():
        return
    keep_freed_memory()
    tables = part.function(folder, **part.settings)
    place.parent.mkdir(parents=True, exist_ok=True)
    with staged_directory(place) as staging:
        for name, table in tables.items():
            if table.columns.empty:
                continue  # nothing was found, and CSV has no way to say it
            write_file(staging / f"{name}.csv", table.to_csv(index=False).encode())
        write_file(staging / "settings.json", json.dumps(dict(part.settings), indent=1).encode())


def read_results(parts: Sequence[ClaimTask], plan: Plan, folder: Path) -> Results:
    """Return the tables of parts that are done, those of equal name one below the other."""
    found: dict[str, list[pd.DataFrame]] = {}
    for part in parts:
        for name, table in _read(_place(part, folder)):
            found.setdefault(name, []).append(table)
    tables: Frames = {name: pd.concat(each, ignore_index=True) for name, each in found.items()}
    return Results(plan=plan, folder=folder, tables=tables)


def _read(place: Path) -> Iterable[tuple[str, pd.DataFrame]]:
    for path in sorted(path for path in place.glob("*.csv") if not is_system_file(path.name)):
        yield path.stem, read_table(path)


def _place(part: ClaimTask, folder: Path) -> Path:
    return folder / _FOLDER / part.key
