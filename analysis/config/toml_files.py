"""Settings in TOML files: ``repsim.toml`` in the working directory, and the file of ``--config``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["DEFAULTS_FILE", "SettingsFile", "merge", "read_defaults", "read_settings", "read_toml"]

T = TypeVar("T")

DEFAULTS_FILE = Path("repsim.toml")
_DEFAULTS_TABLES = ("training", "recording", "capture", "analysis", "execution")


@dataclass(frozen=True)
class SettingsFile:
    """The tables of a TOML file, by name."""

    path: Path
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_defaults(path: Path = DEFAULTS_FILE) -> SettingsFile:
    """Return the defaults of a project, which have no tables if there is no such file."""
    return read_settings(path, _DEFAULTS_TABLES) if path.is_file() else SettingsFile(path)


def read_settings(path: Path, names: Sequence[str]) -> SettingsFile:
    """Return the tables of a TOML file; ``merge`` checks the settings in them."""
    tables = read_toml(path)
    for name, table in tables.items():
        if name not in names or not isinstance(table, dict):
            listed = " or ".join(f"[{each}]" for each in names)
            raise ValueError(f"{path}: '{name}' is not one of its tables; put settings under {listed}.")
    return SettingsFile(path, tables)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a TOML file ({error}).") from None


def merge(
    build: Callable[[Mapping[str, Any]], T], table: str, files: Sequence[SettingsFile], given: Mapping[str, Any]
) -> T:
    """Return the settings of one table of several files, overridden by those given on the command line.

    Later files override earlier ones. If the settings are invalid, the error names the first file after which they are.
    """
    settings: dict[str, Any] = {}
    for file in files:
        settings |= file.tables.get(table, {})
    try:
        return build({**settings, **given})
    except ValueError:
        _blame(build, table, files)
        raise


def _blame(build: Callable[[Mapping[str, Any]], T], table: str, files: Sequence[SettingsFile]) -> None:
    """Raise an error that names the first file after which the settings are invalid, if there is one."""
    settings: dict[str, Any] = {}
    for file in files:
        settings |= file.tables.get(table, {})
        try:
            build(settings)
        except ValueError as error:
            raise ValueError(f"{file.path}, [{table}]: {error}") from None
