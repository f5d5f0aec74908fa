"""From recorded runs to tables, figures and a report."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.comparison.result import ComparisonResult
from analysis.comparison.store import Store
from analysis.comparison.study import Study, read_outcome
from analysis.comparison.tables import Tables
from analysis.comparison.view import View, views_of_run, views_of_runs
from analysis.config.analysis import AnalysisConfig
from analysis.config.execution import ExecutionConfig
from analysis.execution.folders import check_folder
from analysis.execution.interruption import Interrupted
from analysis.execution.progress import Reporter, silent
from checkpoints.storage.lock import Lock

if TYPE_CHECKING:
    from analysis.execution import Executor, Task

__all__ = ["analyze_run", "analyze_runs", "compare_runs", "study_of_run"]

_CHECKED_FIRST = 2 * 2**30  # bytes of activations
_LOCKED_AT_ONCE = 100  # analyses; each lock is an open file
_MOST_TOLD = 10
_USUAL = AnalysisConfig()
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

    Returns
    -------
    ComparisonResult

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
        raise ValueError(f"One output was given for {len(paths)} runs; leave it out, and each keeps its own analysis.")
    studies = [study_of_run(path, config, output) for path in dict.fromkeys(map(Path, paths))]
    return _carry_out(studies, execution or ExecutionConfig())


def study_of_run(path: str | Path, config: AnalysisConfig, output: str | Path | None = None) -> Study:
    """Return the study that ``analyze_run`` carries out.

    Raises
    ------
    ValueError, OSError
        If the run cannot be read, or a step or layer was not recorded.
    """
    path, steps = Path(path), config.steps or "first,last"
    views = views_of_run(path, steps, config.layers)
    target = Path(output) if output is not None else path / "analysis"
    command = _command("analyze", [path], views, config, {"--steps": steps, "--output": output})
    return Study(f"Analysis of {path.absolute().name}", tuple(views), target, config, command)


def compare_runs(
    paths: Sequence[str | Path],
    *,
    config: AnalysisConfig = _USUAL,
    output: str | Path | None = None,
    execution: ExecutionConfig | None = None,
) -> ComparisonResult:
    """Compare the layers of two or more runs; the first is the reference.

    Parameters
    ----------
    paths : sequence of path
        Run directories that recorded the same stimuli.
    config : AnalysisConfig, optional
        What is computed. By default all layers of the last recorded step of each run are compared.
    output : path, optional
        ``comparison`` beside the first run by default.
    execution : ExecutionConfig, optional
        As for ``analyze_run``.

    Returns
    -------
    ComparisonResult

    Raises
    ------
    ValueError, OSError, Interrupted, Incomplete
        As for ``analyze_run``, and if the runs recorded different stimuli.
    """
    steps = config.steps or "last"
    views = views_of_runs(paths, steps, config.layers)
    target = Path(output) if output is not None else Path(paths[0]).absolute().parent / "comparison"
    networks = dict.fromkeys(view.network for view in views)
    command = _command("compare", paths, views, config, {"--steps": steps, "--output": output})
    study = Study(f"Comparison of {', '.join(networks)}", tuple(views), target, config, command)
    (result,) = _carry_out([study], execution or ExecutionConfig())
    return result


def _command(
    name: str,
    paths: Sequence[str | Path],
    views: Sequence[View],
    config: AnalysisConfig,
    options: dict[str, str | Path | None],
) -> str:
    """Return the command line that does the same wherever it is given, whatever the defaults there."""
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


def _carry_out(studies: Sequence[Study], execution: ExecutionConfig) -> list[ComparisonResult]:
    """Do what is not done yet of each study."""
    stale = [study for study in studies if not study.is_done()]
    if stale:
        _do_studies(stale, execution)
    elif execution.progress is not None:
        execution.progress.say("Nothing has changed since the last analysis.")
    for study in studies:
        for message in study.warnings():
            said = message if len(studies) == 1 else f"{study.views[0].network}, {message}"
            warnings.warn(said, RuntimeWarning, stacklevel=3)
    return [_result(study) for study in studies]


def _result(study: Study) -> ComparisonResult:
    outcome = read_outcome(study.target)
    tables = Tables(study.views, study.config, study.target)
    return ComparisonResult(tables, None if outcome is None else outcome["summary"])


def _do_studies(studies: Sequence[Study], execution: ExecutionConfig) -> None:
    from analysis.execution import make_executor  # slow to import, and often there is nothing to do
    from analysis.workflows.tasks import tasks_of_study

    for study in studies:
        study.config.check_choices()
        check_folder(study.target)
    _check_views([view for study in studies for view in study.views])
    cost = sum(task.cost for task in tasks_of_study(studies[0])) * len(studies)
    reporter = execution.progress or silent()
    with make_executor(execution, cost=cost) as place:
        for start in range(0, len(studies), _LOCKED_AT_ONCE):
            with ExitStack() as locks:
                tasks = []
                for study in studies[start : start + _LOCKED_AT_ONCE]:
                    Store(study.target).make_folder()
                    locks.callback(Lock(study.target / "pieces" / "lock").release)
                    Store(study.target).clear_staging()
                    tasks += tasks_of_study(study)
                _do(tasks, place, reporter)


def _do(tasks: Sequence[Task], executor: Executor, reporter: Reporter) -> None:
    """Do tasks, and raise the first error when all that could be done is done."""
    from analysis.execution import NotBegun

    errors: dict[str, Exception] = {}
    done = 0
    try:
        with reporter.task("analysis", len(tasks)) as progress:
            for task, error in executor.completed(tasks):
                done += 1
                progress.advance(1, task.key.rpartition(":")[2].partition("-")[0].replace("_", " "))
                if error is not None and not isinstance(error, NotBegun):
                    errors[task.key] = error
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped; {done} of {len(tasks)} pieces are done and kept. Continue with the same command."
        ) from None
    if len(errors) > 1:
        for key, error in list(errors.items())[:_MOST_TOLD]:
            reporter.say(f"{key.rpartition(':')[0]}: {error}")
        reporter.say(f"{len(errors)} pieces failed; what else could be done is kept.")
    if errors:
        raise next(iter(errors.values()))


def _check_views(views: Sequence[View]) -> None:
    """See to it that views can be analysed; if that takes a moment only, compare every byte with the manifest too."""
    sizes = [entry["size"] for view in views for entry in view.run[view.step].manifest.values()]
    for view in views:
        _check_stimuli(view)
        _ = view.activations if sum(sizes) <= _CHECKED_FIRST else view.listed  # a piece compares what it reads


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
