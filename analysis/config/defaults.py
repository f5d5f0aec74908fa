"""Defaults of a project: what ``repsim.toml`` in the working directory says, where a command is not told otherwise."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["DEFAULTS_FILE", "Defaults", "check_analysis", "read_defaults", "read_tables", "read_toml"]

DEFAULTS_FILE = Path("repsim.toml")
_TABLES = ("training", "recording", "analysis", "execution")
_ANALYSIS = ("steps", "layers", "distance", "measures", "Cs")
_EXECUTION = ("executor", "jobs", "scheduler")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Settings by table.

    Attributes
    ----------
    training, recording : mapping
        Fields of ``TrainingConfig`` and ``RecordingConfig``.
    analysis : mapping
        ``steps``, ``layers`` and fields of ``AnalysisConfig``.
    execution : mapping
        ``executor``, ``jobs``, ``scheduler``.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    recording: Mapping[str, Any] = field(default_factory=dict)
    analysis: Mapping[str, Any] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)

    def asked(self, **given: Any) -> dict[str, Any]:
        """Return what an analysis is asked for: what is given (and not None), and the defaults of the rest."""
        return {**self.analysis, **{name: value for name, value in given.items() if value is not None}}

    def place(self, **given: Any) -> dict[str, Any]:
        """Return where work is done: what is given, or if nothing is, the defaults."""
        chosen = {name: value for name, value in given.items() if value is not None}
        return chosen or dict(self.execution)


def read_defaults(path: Path = DEFAULTS_FILE) -> Defaults:
    """Return the defaults in a file; none, if there is no such file.

    Raises
    ------
    ValueError
        If it is not TOML, or has something that is no default.
    """
    if not path.is_file():
        return Defaults()
    tables = read_tables(path, _TABLES)
    check_analysis(path, tables.get("analysis", {}))
    _check_execution(path, tables.get("execution", {}))
    return Defaults(**tables)


def read_tables(path: Path, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the tables of a TOML file.

    Raises
    ------
    ValueError
        If it is not TOML, or holds something else than tables of these names.
    """
    tables = read_toml(path)
    for name, table in tables.items():
        if name not in names or not isinstance(table, dict):
            listed = " or ".join(f"[{each}]" for each in names)
            raise ValueError(f"{path}: '{name}' is none of its tables; put settings under {listed}.")
    return tables


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises
    ------
    ValueError
        If it is not TOML, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a TOML file ({error}).") from None


def check_analysis(path: Path, table: Mapping[str, Any]) -> None:
    """See to it that the table ``[analysis]`` of a file holds what an analysis can be asked for.

    Raises
    ------
    ValueError
        If it does not; the message names the file.
    """
    from analysis.config.analysis import AnalysisConfig

    _check_names(path, "analysis", table, _ANALYSIS)
    layers = table.get("layers", [])
    if not isinstance(table.get("steps", ""), str) or not isinstance(layers, list):
        raise ValueError(f"{path}, [analysis]: expected steps as text, and layers as a list of names or patterns.")
    if not all(isinstance(layer, str) for layer in layers):
        raise ValueError(f"{path}, [analysis]: layers are {layers!r}; expected a list of names or patterns.")
    try:
        AnalysisConfig.from_dict({name: value for name, value in table.items() if name not in ("steps", "layers")})
    except ValueError as error:
        raise ValueError(f"{path}, [analysis]: {error}") from None


def _check_names(path: Path, name: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := sorted(set(table) - set(known)):
        raise ValueError(f"{path}, [{name}]: unknown setting '{unknown[0]}'. Choose from: {', '.join(known)}.")


def _check_execution(path: Path, table: Mapping[str, Any]) -> None:
    _check_names(path, "execution", table, _EXECUTION)
    for name in ("executor", "scheduler"):
        if not isinstance(table.get(name, ""), str):
            raise ValueError(f"{path}, [execution]: {name} is {table[name]!r}; expected text.")
    if "jobs" in table and (isinstance(table["jobs"], bool) or not isinstance(table["jobs"], int)):
        raise ValueError(f"{path}, [execution]: jobs is {table['jobs']!r}; expected a whole number.")
