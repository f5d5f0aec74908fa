"""Sweeps: many trainings described in one TOML file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from analysis.config.analysis import AnalysisConfig
from analysis.config.defaults import DEFAULTS_FILE, Defaults, check_analysis, read_tables
from analysis.config.files import Layer, merged
from analysis.config.recording import RecordingConfig
from analysis.config.seeds import parse_seeds
from repsim.learning import TrainingConfig

__all__ = ["Sweep", "SweptRun", "read_sweep"]

_MOST_RUNS = 100_000
_TABLES = ("training", "recording", "grid", "cases", "analysis")
_TAKEN = ("lock", "sweep.csv")
_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class SweptRun:
    """One training of a sweep.

    Attributes
    ----------
    name : str
        Where its run directory is, below the folder of the sweep: ``CASE/depth-4/seed-0``.
    settings : mapping
        What makes it differ from the others: the case, and its place in the grid.
    training : TrainingConfig
    recording : RecordingConfig
    """

    name: str
    settings: Mapping[str, Any]
    training: TrainingConfig
    recording: RecordingConfig


@dataclass(frozen=True)
class Sweep:
    """What a file asks for: trainings, and what is to be found out of each (None: nothing)."""

    runs: Sequence[SweptRun]
    analysis: Mapping[str, Any] | None


def read_sweep(path: Path, defaults: Defaults | None = None) -> Sweep:
    """Return the trainings that a file describes.

    Parameters
    ----------
    path : Path
        A TOML file. ``[training]`` and ``[recording]`` hold what all have in common. ``[grid]`` has a list of values
        for each setting that varies (seeds also as text, ``"0-9"``): every combination is trained. ``[cases.NAME]`` has
        settings that go together; if there are cases, each is trained at every point of the grid. ``[analysis]``,
        which may be empty, asks for an analysis of every run, with ``steps``, ``layers``, ``distance``, ``measures``
        and ``Cs``.
    defaults : Defaults, optional
        Settings that the file wins over.

    Raises
    ------
    ValueError
        If the file is not understood, or one of the trainings has settings that will not do; the message names it.
    OSError
        If the file cannot be read.
    """
    tables = read_tables(path, _TABLES)
    common = defaults or Defaults()
    layers: list[Layer] = [
        (str(DEFAULTS_FILE), {"training": common.training, "recording": common.recording}),
        (str(path), {name: tables.get(name, {}) for name in ("training", "recording")}),
    ]
    grid, cases = _grid(path, tables.get("grid", {})), _cases(path, tables.get("cases", {}))
    if not grid and not cases:
        raise ValueError(
            f"{path} has neither [grid] nor [cases.NAME]: nothing varies. Train one network by repsim train."
        )
    n_runs = len(cases or [0])
    for values in grid.values():
        n_runs *= len(values)
    if n_runs > _MOST_RUNS:
        raise ValueError(f"{path} asks for {n_runs} trainings; at most {_MOST_RUNS} are taken at a time.")
    runs = []
    for name, settings, changes in _points(grid, cases):
        try:
            training, recording = merged(layers, changes, {})
        except ValueError as error:
            said = str(error)
            blamed = said.startswith(tuple(file for file, _ in layers))
            raise ValueError(said if blamed else f"{path}: {name}: {said}") from None
        runs.append(SweptRun(name, settings, _found_anywhere(training), recording))
    return Sweep(runs, _analysis(path, tables, common))


def _points(
    grid: Mapping[str, Sequence[Any]], cases: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the name, the place and the settings of each training; seeds vary fastest."""
    names = sorted(grid, key=lambda name: name == "seed")
    for case, changes in (cases or {"": {}}).items():
        for values in product(*(grid[name] for name in names)):
            place = dict(zip(names, values, strict=True))
            parts = [case, *(f"{name}-{_in_path(value)}" for name, value in place.items())]
            yield "/".join(filter(None, parts)), {**({"case": case} if case else {}), **place}, {**changes, **place}


def _found_anywhere(training: TrainingConfig) -> TrainingConfig:
    """Name the file of a user's data so that it is found from any folder, as a run directory does."""
    if not training.data.endswith(".npz"):
        return training
    return replace(training, data=str(Path(training.data).absolute()))


def _in_path(value: Any) -> str:
    return re.sub(r"[^\w.+-]", "_", str(value))


def _grid(path: Path, table: Mapping[str, Any]) -> dict[str, list[Any]]:
    known = {field.name for field in fields(TrainingConfig)}
    grid: dict[str, list[Any]] = {}
    for name, values in table.items():
        if name not in known:
            raise ValueError(f"{path}, [grid]: unknown setting '{name}'. Choose from: {', '.join(sorted(known))}.")
        if name == "seed" and isinstance(values, str):
            values = _seeds(path, values)
        if not isinstance(values, list) or not values:
            raise ValueError(f"{path}, [grid]: {name} is {values!r}; expected a list of one or more values.")
        if len({_in_path(value) for value in values}) < len(values):
            raise ValueError(
                f"{path}, [grid]: {name} has a value twice, or two that would have one folder: {values!r}."
            )
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
            raise ValueError(f"{path}, [cases]: '{name}' is no table; put the settings of a case under [cases.NAME].")
        if not _NAME.fullmatch(name) or set(name) <= {"."}:
            raise ValueError(f"{path}: case '{name}' cannot name a folder; use letters, digits, dots, + and hyphens.")
        if name in _TAKEN:
            raise ValueError(f"{path}: case '{name}' has the name of a file of the sweep; give it another.")
    return dict(table)


def _analysis(path: Path, tables: Mapping[str, Any], defaults: Defaults) -> Mapping[str, Any] | None:
    if "analysis" not in tables:
        return None
    check_analysis(path, tables["analysis"])
    settings = {**defaults.analysis, **tables["analysis"]}
    try:
        AnalysisConfig.from_dict({name: settings[name] for name in settings if name not in ("steps", "layers")}).check()
    except ValueError as error:
        raise ValueError(f"{path}, [analysis]: {error}") from None
    return settings
