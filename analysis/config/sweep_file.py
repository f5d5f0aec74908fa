"""Sweep files: many trainings described in one TOML file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from analysis.config.analysis import AnalysisConfig
from analysis.config.recording import RecordingConfig
from analysis.config.seed_list import parse_seeds
from analysis.config.toml_files import DEFAULTS_FILE, SettingsFile, merge, read_settings
from repsim.learning import TrainingConfig

__all__ = ["Sweep", "SweptRun", "read_sweep"]

_MOST_RUNS = 100_000
_TABLES = ("training", "recording", "grid", "cases", "analysis")
_RESERVED = ("lock", "sweep.csv")
_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class SweptRun:
    """One training of a sweep.

    ``name`` is the path of its run directory in the folder of the sweep; ``settings`` are those in which it differs
    from the others.
    """

    name: str
    settings: Mapping[str, Any]
    training: TrainingConfig
    recording: RecordingConfig


@dataclass(frozen=True)
class Sweep:
    """The trainings that a file describes, and the analysis of each (None: they are not analyzed)."""

    runs: Sequence[SweptRun]
    analysis: AnalysisConfig | None


def read_sweep(path: Path, defaults: SettingsFile | None = None) -> Sweep:
    """Return the trainings that a file describes.

    Parameters
    ----------
    path : Path
        A TOML file. ``[training]`` and ``[recording]`` hold the settings that all trainings share. ``[grid]`` has a
        list of values for each setting that varies (seeds also as text, ``"0-9"``): every combination is trained.
        ``[cases.NAME]`` has settings that belong together; if there are cases, each is trained at every point of the
        grid. ``[analysis]``, which may be empty, asks for an analysis of every run; its keys are those of
        ``AnalysisConfig``.
    defaults : SettingsFile, optional
        Settings that the file overrides.
    """
    file = read_settings(path, _TABLES)
    files = [defaults or SettingsFile(DEFAULTS_FILE), file]
    grid, cases = _grid(path, file.tables.get("grid", {})), _cases(path, file.tables.get("cases", {}))
    if not grid and not cases:
        raise ValueError(
            f"{path} has neither [grid] nor [cases.NAME]: nothing varies. Train one network by repsim train."
        )
    n_runs = math.prod([len(cases or [0]), *map(len, grid.values())])
    if n_runs > _MOST_RUNS:
        raise ValueError(f"{path} describes {n_runs} trainings; expected at most {_MOST_RUNS}.")
    recording = merge(RecordingConfig, files, {})
    runs = []
    for name, settings, changes in _points(grid, cases):
        training = _training(files, name, changes)
        runs.append(SweptRun(name, settings, training, recording))
    return Sweep(runs, merge(AnalysisConfig, files, {}, check_choices=True) if "analysis" in file.tables else None)


def _training(files: Sequence[SettingsFile], name: str, changes: Mapping[str, Any]) -> TrainingConfig:
    try:
        training = merge(TrainingConfig, files, changes)
    except ValueError as error:
        blamed = str(error).startswith(tuple(str(file.path) for file in files))
        raise ValueError(str(error) if blamed else f"{files[-1].path}: {name}: {error}") from None
    if not training.data.endswith(".npz"):
        return training
    return replace(training, data=str(Path(training.data).absolute()))  # as a run directory stores it


def _points(
    grid: Mapping[str, Sequence[Any]], cases: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the name of each training, what distinguishes it and its settings; seeds vary fastest."""
    names = sorted(grid, key=lambda name: name == "seed")
    for case, changes in (cases or {"": {}}).items():
        for values in product(*(grid[name] for name in names)):
            place = dict(zip(names, values, strict=True))
            parts = [case, *(f"{name}-{_in_path(value)}" for name, value in place.items())]
            yield "/".join(filter(None, parts)), {**({"case": case} if case else {}), **place}, {**changes, **place}


def _in_path(value: Any) -> str:
    return re.sub(r"[^\w.+-]", "_", str(value))


def _grid(path: Path, table: Mapping[str, Any]) -> dict[str, list[Any]]:
    known = sorted(each.name for each in TrainingConfig.settings())
    grid: dict[str, list[Any]] = {}
    for name, values in table.items():
        if name not in known:
            raise ValueError(f"{path}, [grid]: unknown setting '{name}'. Choose one of: {', '.join(known)}.")
        if name == "seed" and isinstance(values, str):
            values = _seeds(path, values)
        if not isinstance(values, list) or not values:
            raise ValueError(f"{path}, [grid]: {name} is {values!r}; expected a list of one or more values.")
        if len({_in_path(value) for value in values}) < len(values):
            raise ValueError(f"{path}, [grid]: {name} has equal values, or two with the same folder name: {values!r}.")
        grid[name] = values
    return grid


def _seeds(path: Path, text: str) -> list[int]:
    try:
        return list(parse_seeds(text))
    except ValueError as error:
        raise ValueError(f"{path}, [grid]: {error}") from None


def _cases(path: Path, table: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for name, settings in table.items():
        if not isinstance(settings, dict):
            raise ValueError(f"{path}, [cases]: '{name}' is not a table; put its settings under [cases.NAME].")
        if not _NAME.fullmatch(name) or set(name) <= {"."}:
            raise ValueError(f"{path}: case '{name}' cannot name a folder; use letters, digits, dots, + and hyphens.")
        if name in _RESERVED:
            raise ValueError(f"{path}: case '{name}' has the name of a file of the sweep; rename it.")
    return dict(table)
