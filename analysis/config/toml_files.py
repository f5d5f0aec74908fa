"""Settings in TOML files: ``repsim.toml`` in the working directory, and the file of ``--config``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.recording import CaptureConfig, RecordingConfig
from repsim.learning.config import OF_BUILT_IN, OF_FEED_FORWARD, TrainingConfig, is_recurrent
from repsim.settings import Settings

__all__ = ["DEFAULTS_FILE", "TABLES", "SettingsFile", "merge", "read_defaults", "read_settings", "read_toml"]

S = TypeVar("S", bound=Settings)

DEFAULTS_FILE = Path("repsim.toml")
TABLES: dict[str, type[Settings]] = {
    "training": TrainingConfig,
    "recording": RecordingConfig,
    "capture": CaptureConfig,
    "analysis": AnalysisConfig,
    "comparison": DesignConfig,
    "execution": ExecutionConfig,
}


@dataclass(frozen=True)
class SettingsFile:
    """The tables of a TOML file, by name, and the files or modules with the user's own parts that it imports."""

    path: Path
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    imports: tuple[str, ...] = ()


def read_defaults(path: Path = DEFAULTS_FILE) -> SettingsFile:
    """Return the defaults of a project, which have no tables if there is no such file."""
    if not path.is_file():
        return SettingsFile(path)
    content = read_toml(path)
    imports = content.pop("import", [])
    if not isinstance(imports, list) or not all(isinstance(each, str) for each in imports):
        raise ValueError(
            f"{path}: import is {imports!r}; expected a list of files or modules, such as ['my_parts.py']."
        )
    return replace(_settings_file(path, content, TABLES), imports=tuple(_beside(path, each) for each in imports))


def _beside(path: Path, given: str) -> str:
    """Return a file as seen from the folder of a settings file; the name of a module stays as it is."""
    return str(path.parent / given) if given.endswith(".py") else given


def read_settings(path: Path, names: Iterable[str]) -> SettingsFile:
    """Return the tables of a TOML file; ``merge`` checks the settings in them."""
    return _settings_file(path, read_toml(path), names)


def _settings_file(path: Path, tables: dict[str, Any], names: Iterable[str]) -> SettingsFile:
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
    config: type[S], files: Sequence[SettingsFile], given: Mapping[str, Any], *, check_choices: bool = False
) -> S:
    """Return the settings of one class in several files, overridden by those given on the command line.

    Later files override earlier ones. If the settings are invalid, the error names the first file after which they are.
    With ``check_choices``, choices that are slow to import are checked too.
    """
    (table,) = (name for name, each in TABLES.items() if issubclass(config, each))
    try:
        return _build(config, _merged(table, files, given), check_choices)
    except ValueError:
        for n_files in range(1, len(files) + 1):
            try:
                _build(config, _merged(table, files[:n_files], {}), check_choices)
            except ValueError as error:
                raise ValueError(f"{files[n_files - 1].path}, [{table}]: {error}") from None
        raise


def _merged(table: str, files: Sequence[SettingsFile], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of files and those given, of which later ones override earlier ones.

    The defaults of a project for built-in networks do not concern a model that is chosen elsewhere, and those for
    feed-forward networks not a recurrent one.
    """
    defaults: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for file in files:
        (defaults if file.path == DEFAULTS_FILE else chosen).update(file.tables.get(table, {}))
    chosen |= given
    if table == "training" and chosen.get("model"):
        defaults = {name: value for name, value in defaults.items() if name not in (*OF_BUILT_IN, "depth")}
    elif table == "training" and is_recurrent(chosen.get("network")):
        defaults = {name: value for name, value in defaults.items() if name not in OF_FEED_FORWARD}
    return defaults | chosen


def _build(config: type[S], settings: Mapping[str, Any], check_choices: bool) -> S:
    built = config.from_dict(settings)
    if check_choices:
        built.check_choices()
    return built
