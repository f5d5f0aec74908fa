"""Analysis and comparison of recorded runs."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.comparison.analysis_plan import AnalysisPlan, read_outcome
from analysis.comparison.attribution.arms import Arm
from analysis.comparison.attribution.design import open_design
from analysis.comparison.attribution.grouping import arms_of
from analysis.comparison.result import ComparisonResult
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.view import View, views_of_run, views_of_runs
from analysis.config.analysis import AnalysisConfig
from analysis.config.design import DesignConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.roles import REFERENCE
from analysis.config.sweep_file import default_folder, read_design
from analysis.config.toml_files import SettingsFile
from analysis.execution.folders import check_folder, remove_unfinished
from checkpoints.storage.lock import Lock
from repsim.settings import Settings

__all__ = ["analyze_run", "analyze_runs", "compare_arms", "compare_design", "compare_runs", "plan_run"]

_CHECKED_FIRST = 2 * 2**30  # bytes of activations
_LOCKED_AT_ONCE = 100  # analyses; each lock is an open file
_USUAL = AnalysisConfig()
_USUAL_DESIGN = DesignConfig()
_SPLITS = ("train", "validation", "test")


def analyze_run(
    path: str | Path,
    *,
    config: AnalysisConfig = _USUAL,
    output: str | Path | None = None,
    execution: ExecutionConfig | None = None,
) -> ComparisonResult:
    """Probe and compare the layers of one run at one or more of its recorded steps.

    Results that an earlier, perhaps interrupted, analysis in the same folder computed from the same activations are
    used again. If nothing has changed, nothing is computed.

    Parameters
    ----------
    path : path
        The run directory.
    config : AnalysisConfig, optional
        What is computed. By default all layers of the first and the last recorded step are analyzed.
    output : path, optional
        ``<run>/analysis`` by default. Files of an earlier analysis there are replaced, others left alone.
    execution : ExecutionConfig, optional
        Where the tasks run and who is told about their progress. The numbers are the same everywhere.

    Raises
    ------
    ValueError, OSError
        If the run cannot be read, a step or layer was not recorded, or a setting is invalid. A file that differs from
        its manifest is named.
    Interrupted
        After Ctrl-C. Finished tasks are kept, and the same call continues.
    Incomplete
        If worker processes or the scheduler died.
    """
    (result,) = analyze_runs([path], config=config, output=output, execution=execution)
    return result


def analyze_runs(
    paths: Sequence[str | Path],
    *,
    config: AnalysisConfig = _USUAL,
    output: str | Path | None = None,
    execution: ExecutionConfig | None = None,
) -> list[ComparisonResult]:
    """Analyze several runs, each by itself as ``analyze_run`` does, with one set of tasks.

    Parameters
    ----------
    paths : sequence of path
        Run directories.
    output : path, optional
        For one run only.
    config, execution
        As for ``analyze_run``.

    Returns
    -------
    list of ComparisonResult
        One for each run.

    Raises
    ------
    ValueError, OSError, Interrupted, Incomplete
        As for ``analyze_run``. Nothing is written if one of the runs cannot be analyzed.
    """
    if output is not None and len(paths) > 1:
        raise ValueError(
            f"One output was given for {len(paths)} runs. Leave it out: each run has an analysis of its own."
        )
    plans = [plan_run(path, config, output) for path in dict.fromkeys(map(Path, paths))]
    return _carry_out(plans, execution or ExecutionConfig())


def plan_run(path: str | Path, config: AnalysisConfig, output: str | Path | None = None) -> AnalysisPlan:
    """Return the plan that ``analyze_run`` carries out."""
    path, steps = Path(path), config.steps or "first,last"
    views = views_of_run(path, steps, config.layers)
    folder = Path(output) if output is not None else path / "analysis"
    command = _command("analyze", [path], views, config, {"--steps": steps, "--output": output})
    return AnalysisPlan(f"Analysis of {path.absolute().name}", tuple(views), folder, config, command)


def compare_runs(
    paths: Sequence[str | Path],
    *,
    config: AnalysisConfig = _USUAL,
    design: DesignConfig = _USUAL_DESIGN,
    output: str | Path | None = None,
    execution: ExecutionConfig | None = None,
) -> ComparisonResult:
    """Compare the layers of two or more runs; the first is the reference.

    Runs that differ in their seeds only are an arm. If there are two or more arms of three seeds, the tables
    ``attribution`` and ``similarity_tests`` compare the arms as groups.

    Parameters
    ----------
    paths : sequence of path
        Run directories that recorded the same stimuli.
    config : AnalysisConfig, optional
        What is computed. By default all layers of the last recorded step of each run are compared.
    design : DesignConfig, optional
        How arms are compared, and their controls. If there are controls, one network of each arm is shown in detail, at
        the last aligned step, and arms are compared at all aligned steps by default.
    output : path, optional
        ``comparison`` beside the first run by default.
    execution : ExecutionConfig, optional
        As for ``analyze_run``.

    Raises
    ------
    ValueError, OSError, Interrupted, Incomplete
        As for ``analyze_run``, and if the runs recorded different stimuli, or the arms cannot be compared.
    """
    arms = arms_of(paths, design)
    if design.controls:
        return compare_arms(arms, config=config, design=design, output=output, execution=execution, paths=paths)
    steps = config.steps or "last"
    views = views_of_runs(paths, steps, config.layers)
    first = Path(paths[0])
    beside = first.parent if first.name not in ("", "..") else first.resolve().parent
    folder = Path(output) if output is not None else beside / "comparison"
    networks = dict.fromkeys(view.network for view in views)
    command = _command("compare", paths, views, config, {"--steps": steps, "--output": output})
    opened = open_design(arms, design, replace(config, steps=steps)) if arms else None
    plan = AnalysisPlan(f"Comparison of {', '.join(networks)}", tuple(views), folder, config, command, opened)
    (result,) = _carry_out([plan], execution or ExecutionConfig())
    return result


def compare_arms(
    arms: Sequence[Arm],
    *,
    config: AnalysisConfig = _USUAL,
    design: DesignConfig = _USUAL_DESIGN,
    output: str | Path | None = None,
    execution: ExecutionConfig | None = None,
    paths: Sequence[str | Path] = (),
) -> ComparisonResult:
    """Compare arms: groups of networks that differ in their seeds only, each with a role.

    Parameters
    ----------
    arms : sequence of Arm
        One reference, one or more methods, and any number of controls.
    config, output, execution
        As for ``compare_runs``. By default the arms are compared at all steps that they recorded at equal fractions of
        their training.
    design : DesignConfig, optional
        How arms are aligned, and the smallest differences of interest.
    paths : sequence of path, optional
        What the command line named, for the command that the report shows.

    Raises
    ------
    ValueError, OSError, Interrupted, Incomplete
        As for ``compare_runs``.
    """
    opened = open_design(arms, design, config)
    first = next(arm for arm in opened.arms if arm.arm.role == REFERENCE)
    folder = Path(output) if output is not None else first.runs[0].path.absolute().parent.parent / "comparison"
    views = opened.shown()
    options = {"--align": design.align, "--steps": config.steps, "--output": output}
    command = _command(
        "compare", paths or [run.path for arm in opened.arms for run in arm.runs], views, config, options
    )
    for control in design.controls:
        command += f" --control {shlex.quote(control)}"
    title = f"Comparison of {', '.join(arm.name for arm in opened.arms)}"
    plan = AnalysisPlan(title, tuple(views), folder, config, command, opened)
    (result,) = _carry_out([plan], execution or ExecutionConfig())
    return result


def compare_design(
    path: str | Path,
    *,
    folder: str | Path | None = None,
    defaults: SettingsFile | None = None,
    given: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
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
    execution : ExecutionConfig, optional
        As for ``analyze_run``.

    Raises
    ------
    ValueError, OSError, Interrupted, Incomplete
        As for ``compare_runs``, and if the file is invalid or an arm is not trained.
    """
    path = Path(path)
    where = Path(folder) if folder is not None else default_folder(path)
    described = read_design(path, defaults, where)
    values = dict(given or {})
    config = replace(described.comparison, **_of(AnalysisConfig, values))
    design = replace(described.design, **_of(DesignConfig, values))
    arms = []
    for arm in described.arms:
        runs = tuple(where / name for name in arm.runs)
        missing = [run for run in runs if not (run / "run.json").is_file()]
        if missing:
            raise ValueError(f"Arm '{arm.name}': there is no run {missing[0]}. Train it by repsim sweep {path}.")
        arms.append(Arm(arm.name, arm.role, runs, arm.method))
    return compare_arms(
        arms,
        config=config,
        design=design,
        output=output if output is not None else where / "comparison",
        execution=execution,
        paths=[path],
    )


def _of(config: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    known = {each.name for each in config.settings()}
    return {name: value for name, value in values.items() if name in known}


def _command(
    name: str,
    paths: Sequence[str | Path],
    views: Sequence[View],
    config: AnalysisConfig,
    options: dict[str, str | Path | None],
) -> str:
    """Return a command line that names every setting, so that it does not depend on defaults."""
    words = ["repsim", name, *map(str, paths)]
    for layer in views[0].layers:
        words += ["--layers", layer]
    given = {
        **{option: value for option, value in options.items() if value is not None},
        "--distance": config.distance,
        "--measures": ",".join(config.measures),
        "--Cs": ",".join(f"{C!r}" for C in config.Cs),
    }
    for option, value in given.items():
        words += [option, str(value)]
    return shlex.join(words)


def _carry_out(plans: Sequence[AnalysisPlan], execution: ExecutionConfig) -> list[ComparisonResult]:
    """Run the plans whose results are missing or stale, repeat the warnings of all, and return the results."""
    stale = [plan for plan in plans if not plan.is_done()]
    if stale:
        _run_plans(stale, execution)
    elif execution.progress is not None:
        execution.progress.say("Nothing has changed since the last analysis.")
    for plan in plans:
        for message in plan.warnings():
            text = message if len(plans) == 1 else f"{plan.views[0].network}, {message}"
            warnings.warn(text, RuntimeWarning, stacklevel=3)
    return [_result(plan) for plan in plans]


def _result(plan: AnalysisPlan) -> ComparisonResult:
    outcome = read_outcome(plan.folder)
    tables = Tables(plan.views, plan.config, plan.folder)
    return ComparisonResult(tables, None if outcome is None else outcome["summary"])


def _run_plans(plans: Sequence[AnalysisPlan], execution: ExecutionConfig) -> None:
    """Run the tasks of plans, as one set for as many analyses as can be locked at once."""
    from analysis.execution import Cache, make_executor, run_tasks, total_cost  # slow to import
    from analysis.workflows.assemble import tasks_of_plan

    for plan in plans:
        plan.config.check_choices()
        check_folder(plan.folder)
    _check_views([view for plan in plans for view in plan.views])
    cost = total_cost(tasks_of_plan(plans[0])) * len(plans)
    with make_executor(execution, cost=cost) as executor:
        for start in range(0, len(plans), _LOCKED_AT_ONCE):
            with ExitStack() as locks:
                batch = plans[start : start + _LOCKED_AT_ONCE]
                for plan in batch:
                    cache = Cache(plan.folder)
                    cache.make_folder()
                    locks.callback(Lock(cache.path / "lock").release)
                    cache.remove_staging()
                    remove_unfinished(plan.folder)
                tasks = [task for plan in batch for task in tasks_of_plan(plan)]
                errors = run_tasks(tasks, execution, label="analysis", executor=executor)
                if errors:
                    raise next(iter(errors.values()))


def _check_views(views: Sequence[View]) -> None:
    """Check that views can be analyzed; if that takes only a moment, check every byte of their files too."""
    sizes = [entry["size"] for view in views for entry in view.run[view.step].manifest.values()]
    for view in views:
        _check_stimuli(view)
        _ = view.activations if sum(sizes) <= _CHECKED_FIRST else view.listed  # a task checks what it reads


def _check_stimuli(view: View) -> None:
    stimuli = view.run.stimuli
    missing = [part for part in _SPLITS if not (stimuli.split == part).any()]
    n_classes = len(np.unique(stimuli.labels[stimuli.split == "test"]))
    if missing or n_classes < 2:
        lack = f"no stimuli for {' or '.join(missing)}" if missing else "stimuli of one class only"
        raise ValueError(
            f"{view.run.path} recorded {lack}; an analysis needs labels, and stimuli for training, validation and "
            "test. Record with both, or use repsim.rdm and repsim.pairwise on its layers."
        )
