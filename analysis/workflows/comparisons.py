"""Comparison of runs and of arms."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.comparison.analysis_plan import AnalysisPlan
from analysis.comparison.attribution.arms import Arm
from analysis.comparison.attribution.design import open_design
from analysis.comparison.attribution.grouping import arms_of
from analysis.comparison.result import ComparisonResult
from analysis.comparison.view import views_of_runs
from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.roles import METHOD, REFERENCE
from analysis.config.sweep_file import SweptArm, default_folder, read_design
from analysis.config.toml_files import SettingsFile
from analysis.execution.progress import watched
from analysis.workflows.analyze import carry_out, command_line
from repsim.settings import Settings

__all__ = ["compare_arms", "compare_design", "compare_runs", "plan_arms", "plan_comparison", "plan_design"]

_USUAL = AnalysisConfig()
_USUAL_DESIGN = DesignConfig()


def compare_runs(
    paths: Sequence[str | Path],
    *,
    config: AnalysisConfig = _USUAL,
    design: DesignConfig = _USUAL_DESIGN,
    output: str | Path | None = None,
    exists: str = "error",
    execution: ExecutionConfig | None = None,
) -> ComparisonResult:
    """Compare the layers of two or more runs; the first is the reference.

    Runs that differ in their seeds only are an arm. If there are two or more arms of three seeds, the tables
    ``attribution`` and ``similarity_tests`` compare the arms as groups.

    Parameters
    ----------
    paths : sequence of path
        Run directories that recorded the same stimuli, or, with ``match="ids"`` in the design, some of the same ids.
    config : AnalysisConfig, optional
        What is computed. By default all layers of the last recorded step of each run are compared.
    design : DesignConfig, optional
        How stimuli are matched, how arms are compared, and their controls. If there are controls, one network of each
        arm is shown in detail, at the last aligned step, and arms are compared at all aligned steps by default.
    output : path, optional
        ``comparison`` beside the first run by default; with controls, beside the folder of the reference's runs.
    exists : {"error", "resume", "replace"}, default "error"
        The same comparison in the same folder is continued, or read if nothing has changed. If the folder holds a
        comparison of other runs or with other settings, "replace" removes its files; otherwise it is left alone, with
        an error. Files that are not of a comparison are never removed.
    execution : ExecutionConfig, optional
        As for ``analyze_run``.

    Raises
    ------
    ValueError, OSError, Interrupted, Incomplete
        As for ``analyze_run``, and if the runs recorded different stimuli, or a control cannot be compared.

    Warns
    -----
    RuntimeWarning
        If there are arms of three seeds that cannot be compared as groups, with the reason.
    """
    with watched(execution, f"Comparing {len(paths)} runs") as (execution, _):
        return _carried_out(plan_comparison(paths, config, design, output), execution, exists)


def compare_arms(
    arms: Sequence[Arm],
    *,
    config: AnalysisConfig = _USUAL,
    design: DesignConfig = _USUAL_DESIGN,
    output: str | Path | None = None,
    exists: str = "error",
    execution: ExecutionConfig | None = None,
) -> ComparisonResult:
    """Compare arms: groups of networks that differ in their seeds only, each with a role.

    Parameters
    ----------
    arms : sequence of Arm
        One reference, one or more methods, and any number of controls.
    config, output, exists, execution
        As for ``compare_runs``. By default the arms are compared at all steps that they recorded at equal fractions of
        their training.
    design : DesignConfig, optional
        How arms are aligned, and the smallest differences of interest.

    Raises
    ------
    ValueError, OSError, Interrupted, Incomplete
        As for ``compare_runs``.
    """
    with watched(execution, f"Comparing {len(arms)} arms") as (execution, _):
        return _carried_out(plan_arms(arms, config, design, output), execution, exists)


def compare_design(
    path: str | Path,
    *,
    folder: str | Path | None = None,
    defaults: SettingsFile | None = None,
    given: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    exists: str = "error",
    execution: ExecutionConfig | None = None,
) -> ComparisonResult:
    """Compare the arms of a design file, which ``sweep`` has trained.

    Parameters
    ----------
    path : path
        A TOML file with ``[arms.NAME]``; see ``analysis.config.sweep_file.read_sweep``.
    folder : path, optional
        Folder of the runs; ``runs/NAME`` by default, where NAME is that of the file.
    defaults : SettingsFile, optional
        Settings of the project, which the file overrides.
    given : mapping, optional
        Settings of the analysis and of the design, by name, that override the file.
    output : path, optional
        ``comparison`` in the folder of the runs by default.
    exists, execution
        As for ``compare_runs``.

    Raises
    ------
    ValueError, OSError, Interrupted, Incomplete
        As for ``compare_runs``, and if the file is invalid or an arm is not trained.
    """
    with watched(execution, f"Comparing the arms of {path}") as (execution, _):
        return _carried_out(plan_design(path, folder, defaults, given, output), execution, exists)


def _carried_out(plan: AnalysisPlan, execution: ExecutionConfig, exists: str) -> ComparisonResult:
    (result,) = carry_out([plan], execution, exists)
    return result


def plan_comparison(
    paths: Sequence[str | Path], config: AnalysisConfig, design: DesignConfig, output: str | Path | None
) -> AnalysisPlan:
    """Return the plan that ``compare_runs`` carries out."""
    if isinstance(paths, str | Path):
        raise ValueError(f"paths is '{paths}'; expected a list of two or more runs, such as ['runs/bp', 'runs/sg'].")
    design.smallest_of(config.measures)  # raises if a quantity is unknown
    arms = arms_of(paths, design)
    if design.controls:
        return plan_arms(arms, config, design, output, paths)
    steps = config.steps or "last"
    views = views_of_runs(paths, steps, config.layers, design.match)
    first = Path(paths[0])
    beside = first.parent if first.name not in ("", "..") else first.resolve().parent
    folder = Path(output) if output is not None else beside / "comparison"
    networks = dict.fromkeys(view.network for view in views)
    command = command_line("compare", paths, views, config, {"--steps": steps, "--output": output})
    command += _match_option(design)
    opened = None
    try:
        opened = open_design(arms, design, replace(config, steps=steps)) if arms else None
    except ValueError as error:
        warnings.warn(f"Arms are not compared as groups: {error}", RuntimeWarning, stacklevel=3)
    if opened is not None:
        command += _design_options(design)
    config = replace(config, steps=steps)
    return AnalysisPlan(f"Comparison of {', '.join(networks)}", tuple(views), folder, config, command, opened)


def plan_arms(
    arms: Sequence[Arm],
    config: AnalysisConfig,
    design: DesignConfig,
    output: str | Path | None,
    named: Sequence[str | Path] = (),
) -> AnalysisPlan:
    """Return the plan that ``compare_arms`` carries out; ``named`` are the runs that the command line named."""
    opened = open_design(arms, design, config)
    first = next(arm for arm in opened.arms if arm.arm.role == REFERENCE)
    folder = Path(output) if output is not None else first.runs[0].path.absolute().parent.parent / "comparison"
    views = opened.shown()
    runs = named or [run.path for arm in opened.arms for run in arm.runs]
    command = command_line("compare", runs, views, config, {"--steps": config.steps, "--output": output})
    command += _match_option(design) + _design_options(design)
    methods = " and ".join(arm.name for arm in opened.arms if arm.arm.role == METHOD)
    title = f"Comparison of {methods} with {first.name}"
    config = replace(config, steps=config.steps or "all")
    return AnalysisPlan(title, tuple(views), folder, config, command, opened)


def plan_design(
    path: str | Path,
    folder: str | Path | None,
    defaults: SettingsFile | None,
    given: Mapping[str, Any] | None,
    output: str | Path | None,
) -> AnalysisPlan:
    """Return the plan that ``compare_design`` carries out."""
    path = Path(path)
    where = Path(folder) if folder is not None else default_folder(path)
    described = read_design(path, defaults, where)
    config = replace(described.comparison, **_of(AnalysisConfig, given or {}))
    design = replace(described.design, **_of(DesignConfig, given or {}))
    arms = [_trained(arm, where, path) for arm in described.arms]
    return plan_arms(arms, config, design, output if output is not None else where / "comparison", [path])


def _trained(arm: SweptArm, folder: Path, file: Path) -> Arm:
    """Return an arm of a design file with the paths of its runs, all of which exist."""
    runs = tuple(folder / name for name in arm.runs)
    missing = [run for run in runs if not (run / "run.json").is_file()]
    if missing:
        raise ValueError(f"Arm '{arm.name}': there is no run {missing[0]}. Train it by repsim sweep {file}.")
    return Arm(arm.name, arm.role, runs, arm.method)


def _match_option(design: DesignConfig) -> str:
    return "" if design.match == "inputs" else f" --match {design.match}"


def _design_options(design: DesignConfig) -> str:
    """Return the options of a design as they stand on a command line."""
    words = ["--align", design.align]
    words += [word for control in design.controls for word in ("--control", control)]
    words += [word for effect in design.smallest_effects for word in ("--smallest-effect", effect)]
    return f" {shlex.join(words)}"


def _of(config: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    known = {each.name for each in config.settings()}
    return {name: value for name, value in values.items() if name in known}
