"""Settings of a training from TOML files: hand-written, so every mistake is answered with the file and the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from analysis.config.defaults import DEFAULTS_FILE, Defaults, read_tables
from analysis.config.recording import RecordingConfig
from repsim.learning import TrainingConfig

__all__ = ["Layer", "merged", "read_config"]

T = TypeVar("T")
Layer = tuple[str, Mapping[str, Mapping[str, Any]]]  # the name of a file, and its tables

_TABLES = ("training", "recording")


def read_config(
    path: Path | None, training: Mapping[str, Any], recording: Mapping[str, Any], defaults: Defaults | None = None
) -> tuple[TrainingConfig, RecordingConfig]:
    """Return the settings of a file, overridden by others, such as those of a command line.

    Parameters
    ----------
    path : path or None
        A TOML file with the tables ``[training]`` (fields of ``TrainingConfig``) and ``[recording]`` (fields of
        ``RecordingConfig``), each optional. None: there is no file.
    training, recording : mapping
        Settings that win over those of the file.
    defaults : Defaults, optional
        Settings that the file wins over.

    Raises
    ------
    ValueError
        If the file is not TOML, or a table, a field or its value will not do; the message names the first.
    OSError
        If it cannot be read.
    """
    layers: list[Layer] = []
    if defaults is not None:
        layers.append((str(DEFAULTS_FILE), {"training": defaults.training, "recording": defaults.recording}))
    if path is not None:
        layers.append((str(path), read_tables(path, _TABLES)))
    return merged(layers, training, recording)


def merged(
    layers: Sequence[Layer], training: Mapping[str, Any], recording: Mapping[str, Any]
) -> tuple[TrainingConfig, RecordingConfig]:
    """Return the settings of several files, of which later ones win, overridden by others.

    Raises
    ------
    ValueError
        If a field or its value will not do; the message names the file that it stands in.
    """
    return (
        _merge(layers, "training", TrainingConfig.from_dict, training),
        _merge(layers, "recording", RecordingConfig.from_dict, recording),
    )


def _merge(layers: Sequence[Layer], table: str, build: Callable[[dict[str, Any]], T], others: Mapping[str, Any]) -> T:
    settings: dict[str, Any] = {}
    for _, tables in layers:
        settings |= tables.get(table, {})
    try:
        return build({**settings, **others})
    except ValueError:
        _blame(layers, table, build)
        raise


def _blame(layers: Sequence[Layer], table: str, build: Callable[[dict[str, Any]], T]) -> None:
    """Raise an error that names the first file after which settings will not do, if there is one."""
    settings: dict[str, Any] = {}
    for file, tables in layers:
        settings |= tables.get(table, {})
        try:
            build(settings)
        except ValueError as error:
            raise ValueError(f"{file}, [{table}]: {error}") from None
