"""Settings from a TOML file: hand-written, so every mistake is answered with the file and the field."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from analysis.settings import RecordingConfig
from repsim.learning import TrainingConfig

__all__ = ["read_config"]

T = TypeVar("T")


def read_config(
    path: Path | None, training: Mapping[str, Any], recording: Mapping[str, Any]
) -> tuple[TrainingConfig, RecordingConfig]:
    """Return the settings of a file, overridden by others, such as those of a command line.

    Parameters
    ----------
    path : path or None
        A TOML file with the tables ``[training]`` (fields of ``TrainingConfig``) and ``[recording]`` (fields of
        ``RecordingConfig``), each optional. None: there is no file.
    training, recording : mapping
        Settings that win over those of the file.

    Raises
    ------
    ValueError
        If the file is not TOML, or a table, a field or its value will not do; the message names the first.
    OSError
        If it cannot be read.
    """
    tables = {} if path is None else _read(path)
    return (
        _merge(path, "training", TrainingConfig.from_dict, tables, training),
        _merge(path, "recording", RecordingConfig.from_dict, tables, recording),
    )


_TABLES = ("training", "recording")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file ({error}).") from None
    for name, table in tables.items():
        if name not in _TABLES or not isinstance(table, dict):
            raise ValueError(f"{path}: '{name}' is none of its tables; put settings under [training] or [recording].")
    return tables


def _merge(
    path: Path | None,
    name: str,
    build: Callable[[dict[str, Any]], T],
    tables: Mapping[str, dict[str, Any]],
    others: Mapping[str, Any],
) -> T:
    try:
        return build({**tables.get(name, {}), **others})
    except ValueError:
        try:
            build(tables.get(name, {}))
        except ValueError as error:
            raise ValueError(f"{path}, [{name}]: {error}") from None
        raise
