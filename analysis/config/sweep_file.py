"""Sweep files: many trainings described in one TOML file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.recording import RecordingConfig
from analysis.config.roles import REFERENCE, ROLES, ArmRole, check_roles, check_roles_are_held
from analysis.config.seed_list import parse_seeds
from analysis.config.toml_files import DEFAULTS_FILE, SettingsFile, merge, read_settings
from repsim.learning import TrainingConfig

__all__ = ["Sweep", "SweptArm", "SweptRun", "read_design", "read_sweep"]

_MOST_RUNS = 100_000
_TABLES = ("training", "recording", "grid", "cases", "arms", "analysis", "comparison")
_RESERVED = ("lock", "sweep.csv", "comparison")
_NAME = re.compile(r"[\w.+-]+")
_OTHER_ARM = re.compile(r"\{([\w.+-]+)\}")  # in a rule: the run of another arm at the same point of the grid
_SEEDS = ("seed", "split_seed")  # settings in which networks of one arm differ
_BORROWS = "accuracy-matched"  # role of arms that have no networks of their own


@dataclass(frozen=True)
class SweptRun:
    """One training of a sweep.

    ``name`` is the path of its run directory in the folder of the sweep; ``settings`` are those in which it differs
    from the others; ``after`` names the runs that its rule reads.
    """

    name: str
    settings: Mapping[str, Any]
    training: TrainingConfig
    recording: RecordingConfig
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweptArm:
    """A group of trainings with a role in a comparison; ``method`` is the one that a control is for, "" for all."""

    name: str
    role: str
    method: str
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """The trainings that a file describes.

    Attributes
    ----------
    runs : sequence of SweptRun
    analysis : AnalysisConfig or None
        The analysis of each run; None if they are not analyzed, or if the file has arms.
    arms : sequence of SweptArm
        Empty if the file has no arms.
    comparison : AnalysisConfig
        What is compared of the arms.
    design : DesignConfig
        How the arms are compared.
    """

    runs: Sequence[SweptRun]
    analysis: AnalysisConfig | None
    arms: Sequence[SweptArm] = ()
    comparison: AnalysisConfig = field(default_factory=AnalysisConfig)
    design: DesignConfig = field(default_factory=DesignConfig)


def read_sweep(path: Path, defaults: SettingsFile | None = None, folder: Path | None = None) -> Sweep:
    """Return the trainings that a file describes.

    Parameters
    ----------
    path : Path
        A TOML file. ``[training]`` and ``[recording]`` hold the settings that all trainings share. ``[grid]`` has a
        list of values for each setting that varies (seeds also as text, ``"0-9"``): every combination is trained.
        ``[cases.NAME]`` has settings that belong together; if there are cases, each is trained at every point of the
        grid. ``[analysis]``, which may be empty, asks for an analysis of every run; its keys are those of
        ``AnalysisConfig``.

        ``[arms.NAME]`` in place of cases makes the file a design: each arm has a ``role``, a control may name the
        ``method`` that it is for, and the other keys are settings of training; ``seed`` may be a list there too.
        ``{NAME}`` in a rule stands for the run of another arm at the same point of the grid. ``[analysis]`` then says
        what is compared, and ``[comparison]`` how; its keys are those of ``DesignConfig``.
    defaults : SettingsFile, optional
        Settings that the file overrides.
    folder : Path, optional
        Folder of the runs, which rules may refer to; ``runs/NAME`` by default, where NAME is that of the file.
    """
    file = read_settings(path, _TABLES)
    files = [defaults or SettingsFile(DEFAULTS_FILE), file]
    grid = _lists(f"{path}, [grid]", file.tables.get("grid", {}))
    cases = _cases(path, "cases", file.tables.get("cases", {}))
    roles, arms = _arms(path, file.tables.get("arms", {}))
    if roles and (varied := [name for name in grid if name not in _SEEDS]):
        raise ValueError(
            f"{path}, [grid]: {varied[0]} varies, but networks of one arm may differ in their seeds only. Give each "
            "value an arm of its own."
        )
    if cases and roles:
        raise ValueError(f"{path} has both [cases] and [arms]; an arm is a case with a role. Put all under [arms].")
    if not grid and not cases and not arms:
        raise ValueError(
            f"{path} has neither [grid] nor [cases.NAME] nor [arms.NAME]: nothing varies. Train one network by repsim "
            "train."
        )
    n_runs = sum(math.prod(map(len, _axes(grid, arms.get(name, {})).values())) for name in cases or arms or [""])
    if n_runs > _MOST_RUNS:
        raise ValueError(f"{path} describes {n_runs} trainings; expected at most {_MOST_RUNS}.")
    recording = merge(RecordingConfig, files, {})
    where = (folder if folder is not None else default_folder(path)).absolute()
    runs = []
    for name, settings, changes in _points(grid, cases or arms, "arm" if arms else "case"):
        changes, after = _resolved(path, name, settings["arm"], changes, arms, where) if arms else (changes, ())
        runs.append(SweptRun(name, settings, _training(files, name, changes), recording, after))
    comparison = merge(AnalysisConfig, files, {}, check_choices=True)
    if roles:
        _check_arms(path, roles, runs)
    return Sweep(
        _in_order(path, runs),
        comparison if "analysis" in file.tables and not roles else None,
        _swept_arms(roles, runs),
        comparison,
        merge(DesignConfig, files, {}, check_choices=True),
    )


def read_design(path: Path, defaults: SettingsFile | None = None, folder: Path | None = None) -> Sweep:
    """Return the trainings of a file with arms; see ``read_sweep``."""
    described = read_sweep(path, defaults, folder)
    if not described.arms:
        raise ValueError(
            f"{path} has no [arms.NAME]; a comparison needs arms with roles. See examples/attribution.toml."
        )
    return described


def default_folder(path: Path) -> Path:
    """Return the folder of the runs of a file, ``runs/NAME``."""
    return Path("runs") / path.stem


def _arms(path: Path, table: Mapping[str, Any]) -> tuple[dict[str, tuple[str, str]], dict[str, dict[str, Any]]]:
    """Return the role and method of each arm, and the settings of those that have networks of their own."""
    roles, settings = {}, {}
    for name, values in _cases(path, "arms", table).items():
        role, method = values.pop("role", None), values.pop("method", "")
        if not isinstance(role, str) or not isinstance(method, str):
            raise ValueError(f"{path}, [arms.{name}]: role and method have to be text, such as role = 'reference'.")
        if role not in ROLES:
            raise ValueError(f"{path}, [arms.{name}]: unknown role '{role}'. Choose one of: {', '.join(ROLES)}.")
        roles[name] = role, method
        seeds = {key: values[key] for key in _SEEDS if key in values}
        values |= _lists(f"{path}, [arms.{name}]", {k: [v] if isinstance(v, int) else v for k, v in seeds.items()})
        if role != _BORROWS:
            settings[name] = values
        elif values:
            raise ValueError(
                f"{path}, [arms.{name}]: an arm that is {_BORROWS} has the networks of the reference; remove "
                f"{', '.join(values)}."
            )
    return roles, settings


def _swept_arms(roles: Mapping[str, tuple[str, str]], runs: Sequence[SweptRun]) -> list[SweptArm]:
    of_arm = {name: tuple(run.name for run in runs if run.settings["arm"] == name) for name in roles}
    reference = next((of_arm[name] for name, (role, _) in roles.items() if role == REFERENCE), ())
    return [
        SweptArm(name, role, method, reference if role == _BORROWS else of_arm[name])
        for name, (role, method) in roles.items()
    ]


def _check_arms(path: Path, roles: Mapping[str, tuple[str, str]], runs: Sequence[SweptRun]) -> None:
    """Raise ValueError if the roles of arms, or the settings that they hold fixed, do not fit, before any training."""
    training = {run.settings["arm"]: run.training.to_dict() for run in reversed(runs)}
    arms = [ArmRole(name, role, method, training.get(name)) for name, (role, method) in roles.items()]
    try:
        check_roles(arms)
        check_roles_are_held(arms)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _resolved(
    path: Path,
    name: str,
    arm: str,
    changes: Mapping[str, Any],
    arms: Mapping[str, Any],
    folder: Path,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Replace the names of other arms in a rule by the paths of their runs; return these runs' names too."""
    rule = changes.get("rule")
    named = _OTHER_ARM.findall(rule) if isinstance(rule, str) else []
    named = [other for other in named if other in arms or other != "seed"]  # {seed} is left to the rule
    place = name.partition("/")[2]
    for other in named:
        if other not in arms or other == arm:
            raise ValueError(f"{path}: the rule of {name} names {{{other}}}, which is no other arm with networks.")
    runs = {other: f"{other}/{place}" if place else other for other in named}
    for other, run in runs.items():
        changes = {**changes, "rule": changes["rule"].replace(f"{{{other}}}", str(folder / run))}
    return dict(changes), tuple(runs.values())


def _in_order(path: Path, runs: Sequence[SweptRun]) -> list[SweptRun]:
    """Return runs so that each comes after those that its rule reads."""
    ordered: dict[str, SweptRun] = {}
    waiting, names = list(runs), {run.name for run in runs}
    for run in runs:
        if missing := [name for name in run.after if name not in names]:
            raise ValueError(
                f"{path}: the rule of {run.name} needs {missing[0]}, which is not among the trainings. Give both arms "
                "the same seeds."
            )
    while waiting:
        ready = [run for run in waiting if set(run.after) <= set(ordered)]
        if not ready:
            other = next(name for name in waiting[0].after if name not in ordered)
            raise ValueError(f"{path}: the rules of {waiting[0].name} and {other} need each other.")
        ordered |= {run.name: run for run in ready}
        waiting = [run for run in waiting if run.name not in ordered]
    return list(ordered.values())


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
    grid: Mapping[str, Sequence[Any]], cases: Mapping[str, Mapping[str, Any]], kind: str
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the name of each training, what distinguishes it and its settings; seeds vary fastest."""
    for case, changes in (cases or {"": {}}).items():
        axes = _axes(grid, changes if kind == "arm" else {})
        names = sorted(axes, key=lambda name: name == "seed")
        for values in product(*(axes[name] for name in names)):
            place = dict(zip(names, values, strict=True))
            parts = [case, *(f"{name}-{_in_path(value)}" for name, value in place.items())]
            yield "/".join(filter(None, parts)), {**({kind: case} if case else {}), **place}, {**changes, **place}


def _axes(grid: Mapping[str, Sequence[Any]], changes: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Return the values of each setting that varies, with the seeds that an arm has of its own."""
    return {**grid, **{name: changes[name] for name in _SEEDS if isinstance(changes.get(name), list)}}


def _in_path(value: Any) -> str:
    return re.sub(r"[^\w.+-]", "_", str(value))


def _lists(place: str, table: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values of each setting that varies."""
    known = sorted(each.name for each in TrainingConfig.settings())
    grid: dict[str, list[Any]] = {}
    for name, values in table.items():
        if name not in known:
            raise ValueError(f"{place}: unknown setting '{name}'. Choose one of: {', '.join(known)}.")
        if name == "seed" and isinstance(values, str):
            values = _seeds(place, values)
        if not isinstance(values, list) or not values:
            raise ValueError(f"{place}: {name} is {values!r}; expected a list of one or more values.")
        if len({_in_path(value) for value in values}) < len(values):
            raise ValueError(f"{place}: {name} has equal values, or two with the same folder name: {values!r}.")
        grid[name] = values
    return grid


def _seeds(place: str, text: str) -> list[int]:
    try:
        return list(parse_seeds(text))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _cases(path: Path, kind: str, table: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for name, settings in table.items():
        if not isinstance(settings, dict):
            raise ValueError(f"{path}, [{kind}]: '{name}' is not a table; put its settings under [{kind}.NAME].")
        one = kind.removesuffix("s")
        if not _NAME.fullmatch(name) or set(name) <= {"."}:
            raise ValueError(f"{path}: {one} '{name}' cannot name a folder; use letters, digits, dots, + and hyphens.")
        if name in _RESERVED:
            raise ValueError(f"{path}: {one} '{name}' has the name of a file of the sweep; rename it.")
    return {name: dict(settings) for name, settings in table.items()}
