"""Analysis of recorded runs, each by itself; and how plans of analyses and comparisons are carried out."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from analysis.comparison.analysis_plan import AnalysisPlan, read_outcome
from analysis.comparison.result import ComparisonResult
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.tasks.source import Source
from analysis.comparison.view import View, views_of_run
from analysis.config.analysis import AnalysisConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.existing import EXISTS
from analysis.execution.folders import check_folder, remove_unfinished
from analysis.execution.progress import reporter_of, watched
from analysis.execution.task import Task
from analysis.own_parts.importing import imported_by_request
from analysis.workflows.existing_results import check_place
from checkpoints.storage.lock import Lock
from repsim.learning.checks import check_choice

__all__ = ["analyze_run", "analyze_runs", "carry_out", "command_line", "plan_run", "tasks_of_plan"]

_CHECKED_FIRST = 2 * 2**30  # bytes of activations
_LOCKED_AT_ONCE = 100  # analyses; each lock is an open file
_USUAL = AnalysisConfig()
_SPLITS = ("train", "validation", "test")


def analyze_run(
    path: str | Path,
    *,
    config: AnalysisConfig = _USUAL,
    output: str | Path | None = None,
    exists: str = "error",
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
        ``<run>/analysis`` by default, where an earlier analysis is replaced, also one with other settings.
    exists : {"error", "resume", "replace"}, default "error"
        If ``output`` holds an analysis or comparison of other runs or with other settings: "replace" removes its files,
        otherwise it is left alone, with an error. Files that are not of an analysis are never removed.
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
    (result,) = analyze_runs([path], config=config, output=output, exists=exists, execution=execution)
    return result


def analyze_runs(
    paths: Sequence[str | Path],
    *,
    config: AnalysisConfig = _USUAL,
    output: str | Path | None = None,
    exists: str = "error",
    execution: ExecutionConfig | None = None,
) -> list[ComparisonResult]:
    """Analyze several runs, each by itself as ``analyze_run`` does, with one set of tasks.

    Parameters
    ----------
    paths : sequence of path
        Run directories.
    output : path, optional
        For one run only.
    config, exists, execution
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
    with watched(execution, f"Analyzing {', '.join(map(str, paths[:3]))}") as (shown, _):
        plans = [plan_run(path, config, output) for path in dict.fromkeys(map(Path, paths))]
        return carry_out(plans, shown, exists if output is not None else _of_a_run(exists))


def _of_a_run(exists: str) -> str:
    """Return what is done about an earlier analysis in the folder of its own run: it is replaced."""
    check_choice("exists", exists, EXISTS)
    return "replace"


def plan_run(path: str | Path, config: AnalysisConfig, output: str | Path | None = None) -> AnalysisPlan:
    """Return the plan that ``analyze_run`` carries out."""
    path, steps = Path(path), config.steps or "first,last"
    config = replace(config, steps=steps)
    views = views_of_run(path, steps, config.layers)
    folder = Path(output) if output is not None else path / "analysis"
    command = command_line("analyze", [path], views, config, {"--steps": steps, "--output": output})
    return AnalysisPlan(f"Analysis of {path.absolute().name}", tuple(views), folder, config, command)


def command_line(
    name: str,
    paths: Sequence[str | Path],
    views: Sequence[View],
    config: AnalysisConfig,
    options: dict[str, str | Path | None],
) -> str:
    """Return a command line that names every setting, so that it does not depend on defaults."""
    words = ["repsim", name, *map(str, paths)]
    for module in imported_by_request():
        words += ["--import", str(module)]
    for layer in views[0].layers:
        words += ["--layers", layer]
    given = {
        **{option: value for option, value in options.items() if value is not None},
        "--distance": config.distance,
        "--measures": ",".join(config.measures),
        "--Cs": ",".join(f"{C!r}" for C in config.Cs),
        **{f"--{name}": value for name in ("targets", "groups") if (value := getattr(config, name)) is not None},
    }
    for option, value in given.items():
        words += [option, str(value)]
    return shlex.join(words)


def carry_out(
    plans: Sequence[AnalysisPlan], execution: ExecutionConfig, exists: str = "error"
) -> list[ComparisonResult]:
    """Run the plans whose results are missing or stale, repeat the warnings of all, and return the results.

    ``exists`` says what is done about other results in their folders; see ``analyze_run``.
    """
    check_choice("exists", exists, EXISTS)
    stale = [plan for plan in plans if not plan.is_done()]
    for plan in stale:
        plan.config.check_choices()
        check_place(plan, exists)
    if stale:
        _run_plans(stale, execution)
    else:
        reporter_of(execution.progress).say("Nothing has changed since the last analysis.")
    for plan in plans:
        for message in plan.warnings():
            text = message if len(plans) == 1 else f"{plan.views[0].network}, {message}"
            warnings.warn(text, RuntimeWarning, stacklevel=3)
    return [_result(plan) for plan in plans]


def _result(plan: AnalysisPlan) -> ComparisonResult:
    outcome = read_outcome(plan.folder)
    folder = plan.folder.absolute()  # read later, maybe in another directory
    made = None if outcome is None else outcome["fingerprint"]
    tables = Tables(plan.views, plan.config, folder, is_current=partial(_is_still, folder, made))
    return ComparisonResult(tables, None if outcome is None else outcome["summary"])


def _is_still(folder: Path, made: str | None) -> bool:
    """Return whether a folder holds the results with a fingerprint."""
    outcome = read_outcome(folder)
    return made is None or (outcome is not None and outcome["fingerprint"] == made)


def _run_plans(plans: Sequence[AnalysisPlan], execution: ExecutionConfig) -> None:
    """Run the tasks of plans, as one set for as many analyses as can be locked at once."""
    from analysis.execution import Cache, make_executor, run_tasks, total_cost  # slow to import
    from analysis.report.user_sections import read_sections

    reporter = reporter_of(execution.progress)
    for plan in plans:
        check_folder(plan.folder)
        read_sections(plan.folder)  # raises if they are damaged, before anything is computed
    views = [view for plan in plans for view in plan.views]
    with reporter.task(f"Checking {len(views)} recorded steps"):
        _check_views(views)
        for plan in plans:
            _check_targets(plan)
    with reporter.task("Planning"):
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


def tasks_of_plan(plan: AnalysisPlan) -> list[Task]:
    """Return the tasks of an analysis and, last, those that write its tables, figures and report."""
    from analysis.workflows.assemble import closing_tasks

    return [*plan.tasks, *closing_tasks(plan)]


def _check_views(views: Sequence[View]) -> None:
    """Check that views can be analyzed; if that takes only a moment, check every byte of their files too."""
    sizes = [entry["size"] for view in views for entry in view.run[view.step].manifest.values()]
    for view in views:
        _check_stimuli(view)
        _ = view.activations if sum(sizes) <= _CHECKED_FIRST else view.listed  # a task checks what it reads


def _check_targets(plan: AnalysisPlan) -> None:
    """Check that the targets of all stimuli can be probed, and that the split divides no group."""
    for view in {view.run.path: view for view in plan.views}.values():
        run, stimuli = view.run, Source.of(view).stimuli
        stimuli = stimuli if plan.targets is None else plan.targets.added_to(stimuli)
        if not stimuli.targets and stimuli.groups is None:
            continue
        from probes.stimulus_order import RowStimuli  # slow to import
        from probes.targets import read_targets

        try:
            read_targets(stimuli, None, RowStimuli(()))
        except ValueError as error:
            whole = [name for name, values in stimuli.targets.items() if values.dtype.kind == "i"]
            of_whole = any(f"Target '{name}'" in str(error) for name in whole)
            advice = (
                " If whole numbers are quantities, end the name of the column in ':continuous'." if of_whole else ""
            )
            raise ValueError(f"{run.path}: {error}{advice}") from error


def _check_stimuli(view: View) -> None:
    stimuli = view.stimuli
    missing = [part for part in _SPLITS if not (stimuli.split == part).any()]
    n_classes = len(np.unique(stimuli.labels[stimuli.split == "test"]))
    if missing or n_classes < 2:
        lack = f"no stimuli for {' or '.join(missing)}" if missing else "stimuli of one class only"
        raise ValueError(
            f"{view.run.path} recorded {lack}; an analysis needs labels, and stimuli for training, validation and "
            "test. Record with both, or use repsim.rdm and repsim.pairwise on its layers."
        )
