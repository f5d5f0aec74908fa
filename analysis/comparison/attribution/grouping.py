"""Runs of a command line as arms: runs that differ in their seeds only are one arm."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.comparison.attribution.arms import Arm
from analysis.comparison.attribution.contrasts import LEAST_SEEDS
from analysis.config.comparison_design import DesignConfig
from analysis.config.recorded_steps import is_trained_here
from analysis.config.roles import METHOD, REFERENCE
from checkpoints import Run

__all__ = ["arms_of", "expand", "groups_of"]


def expand(pattern: str | Path) -> list[Path]:
    """Return the paths that a pattern such as ``runs/sg/seed-*`` matches, ascending; an existing path is itself.

    Folders of analyses beside the runs, such as ``runs/sg/comparison``, are left out.

    Raises
    ------
    FileNotFoundError
        If nothing matches, or the path is a folder of runs in place of a run.
    """
    text = str(pattern)
    if Path(text).exists() or not glob.has_magic(text):
        _reject_folder_of_runs(Path(text))
        return [Path(text)]
    found = sorted(map(Path, glob.glob(text)), key=_natural)  # noqa: PTH207 (the pattern may be absolute)
    if not found:
        raise FileNotFoundError(f"No run matches '{text}'.")
    return [path for path in found if not _is_of_analysis(path)] or found


def _is_of_analysis(path: Path) -> bool:
    """Return whether an analysis wrote a folder, also if it was interrupted."""
    written = (path / "analysis.json").is_file() or (path / "cache" / "lock").is_file()
    return written and not (path / "run.json").exists()


def _reject_folder_of_runs(path: Path) -> None:
    runs = [] if (path / "run.json").exists() else sorted(each.parent.name for each in path.glob("*/run.json"))
    if runs:
        raise FileNotFoundError(
            f"{path} is a folder of {len(runs)} runs. Name all of them by the pattern '{path}/*', or one, such as "
            f"{path / runs[0]}."
        )


def _reject_analysis(path: Path) -> None:
    if _is_of_analysis(path):
        raise FileNotFoundError(
            f"{path} is the folder of an analysis and not a run. Leave it out; a pattern in quotes, such as "
            f"'{path.parent / '*'}', leaves it out by itself."
        )


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts seed-2 before seed-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def groups_of(paths: Sequence[str | Path]) -> dict[str, tuple[Path, ...]]:
    """Return runs by the name of their group, in the order in which they are given.

    Runs of one group differ in their seeds only. A group has the name of the folder that holds its runs or, for runs
    that were not trained here, those in one folder are a group. The folder of an analysis raises FileNotFoundError.
    """
    by_settings: dict[str, list[Path]] = {}
    for path in map(Path, paths):
        _reject_analysis(path)
        config = Run.open(path).config
        place = str(path.absolute().parent)
        key = _settings(config) if is_trained_here(config) else place
        by_settings.setdefault(key, []).append(path)
    groups: dict[str, tuple[Path, ...]] = {}
    for members in by_settings.values():
        run = members[0].absolute()
        name = run.parent.name if len(members) > 1 or run.name.startswith("seed-") else run.name
        taken = sum(each == name or each.startswith(f"{name} (") for each in groups)
        groups[f"{name} ({taken + 1})" if taken else name] = tuple(members)
    return groups


def _settings(config: Mapping[str, object]) -> str:
    training = config["training"]
    assert isinstance(training, dict)
    kept = {name: value for name, value in training.items() if name not in ("seed", "split_seed")}
    return json.dumps([kept, config.get("boundaries")], sort_keys=True, default=str)


def arms_of(paths: Sequence[str | Path], config: DesignConfig) -> list[Arm]:
    """Return the arms of a command line: the first group of runs is the reference, others are methods.

    Without controls, groups that are too small are left out, and the list is empty if fewer than two are left.

    Raises
    ------
    ValueError, FileNotFoundError
        If a control names no runs.
    """
    groups = groups_of(paths)
    if not config.controls:
        groups = {name: runs for name, runs in groups.items() if len(runs) >= LEAST_SEEDS}
        if len(groups) < 2:
            return []
    first = next(iter(groups))
    arms = [Arm(name, REFERENCE if name == first else METHOD, runs) for name, runs in groups.items()]
    for role, method, pattern in config.control_patterns:
        runs = tuple(expand(pattern))
        if len(runs) == 1 and not Path(runs[0]).exists():
            raise FileNotFoundError(f"There is no run {pattern} for the control {role}.")
        arms.append(Arm(_free(runs[0].absolute().parent.name, role, arms), role, runs, method))
    return arms


def _free(name: str, role: str, arms: Sequence[Arm]) -> str:
    """Return the name of a control that no other arm has."""
    taken = {arm.name for arm in arms}
    for candidate in (name, role, f"{name} ({role})"):
        if candidate not in taken:
            return candidate
    return f"{role} {len(arms)}"
