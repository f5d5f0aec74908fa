"""From recorded runs to tables, figures and a report."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.comparison.result import Findings
from analysis.comparison.store import Store
from analysis.comparison.study import Study
from analysis.comparison.view import View, views_of_run, views_of_runs
from analysis.config.analysis import AnalysisConfig
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
_SPLITS = ("train", "validation", "test")


def analyze_run(
    path: str | Path,
    *,
    steps: str = "first,last",
    layers: Sequence[str] = ("**",),
    output: str | Path | None = None,
    distance: str = "correlation",
    measures: Sequence[str] = ("cka",),
    Cs: Sequence[float] = AnalysisConfig.Cs,
    executor: str | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    reporter: Reporter | None = None,
) -> Findings:
    """Probe and compare the layers of one run at one or more of its recorded steps.

    What an earlier, perhaps interrupted, analysis in the same folder found out of the same activations is used again.
    If nothing has changed, nothing is done.

    Parameters
    ----------
    path : path
        The run.
    steps : str, default "first,last"
        ``first``, ``last``, ``all`` or step numbers joined by commas.
    layers : sequence of str, default ("**",)
        Names or patterns of recorded layers.
    output : path, optional
        ``<run>/analysis`` by default. Files of an earlier analysis there are replaced, others left alone.
    distance : str, default "correlation"
        A method of ``repsim.similarity.rdm``.
    measures : sequence of str, default ("cka",)
        Keys of ``repsim.similarity.MEASURES``. The first is the one that figures show.
    Cs : sequence of float, > 0, default (0.001, 0.01, 0.1, 1.0, 10.0)
        Weights of the data against the penalty that probes choose from.
    executor, jobs, scheduler
        Where the work is done; see ``analysis.execution.make_executor``. The numbers are the same everywhere.
    reporter : Reporter, optional

    Returns
    -------
    Findings

    Raises
    ------
    ValueError, OSError
        If the run, a step or a setting will not do; a file that differs from its manifest is named.
    Interrupted
        After Ctrl-C; what is done is kept, and the same call goes on with it.
    Incomplete
        If processes or the scheduler died.
    """
    (findings,) = analyze_runs(
        [path],
        steps=steps,
        layers=layers,
        output=output,
        distance=distance,
        measures=measures,
        Cs=Cs,
        executor=executor,
        jobs=jobs,
        scheduler=scheduler,
        reporter=reporter,
    )
    return findings


def analyze_runs(
    paths: Sequence[str | Path],
    *,
    steps: str = "first,last",
    layers: Sequence[str] = ("**",),
    output: str | Path | None = None,
    distance: str = "correlation",
    measures: Sequence[str] = ("cka",),
    Cs: Sequence[float] = AnalysisConfig.Cs,
    executor: str | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    reporter: Reporter | None = None,
) -> list[Findings]:
    """Do what ``analyze_run`` does with each of several runs, as one set of tasks.

    Parameters
    ----------
    paths : sequence of path
    output : path, optional
        For one run only.
    steps, layers, distance, measures, Cs, executor, jobs, scheduler, reporter
        As for ``analyze_run``.

    Returns
    -------
    list of Findings
        One a run.

    Raises
    ------
    ValueError, OSError, Interrupted, Incomplete
        As for ``analyze_run``. Nothing is written if one of the runs will not do.
    """
    if output is not None and len(paths) > 1:
        raise ValueError(f"One output was given for {len(paths)} runs; leave it out, and each keeps its own analysis.")
    config, layers = _asked(distance, measures, Cs), _named(layers)
    studies = [study_of_run(path, config, steps, layers, output) for path in dict.fromkeys(map(Path, paths))]
    return _carry_out(studies, executor, jobs, scheduler, reporter or silent())


def study_of_run(
    path: str | Path,
    config: AnalysisConfig,
    steps: str = "first,last",
    layers: Sequence[str] = ("**",),
    output: str | Path | None = None,
) -> Study:
    """Return what ``analyze_run`` carries out.

    Raises
    ------
    ValueError, OSError
        If the run or a step will not do.
    """
    path = Path(path)
    views = views_of_run(path, steps, layers)
    target = Path(output) if output is not None else path / "analysis"
    command = _command("analyze", [path], views, config, {"--steps": steps, "--output": output})
    return Study(f"Analysis of {path.absolute().name}", tuple(views), target, config, command)


def compare_runs(
    paths: Sequence[str | Path],
    *,
    steps: str = "last",
    layers: Sequence[str] = ("**",),
    output: str | Path | None = None,
    distance: str = "correlation",
    measures: Sequence[str] = ("cka",),
    Cs: Sequence[float] = AnalysisConfig.Cs,
    executor: str | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    reporter: Reporter | None = None,
) -> Findings:
    """Compare the layers of two or more runs; the first is the reference.

    Parameters
    ----------
    paths : sequence of path
        Runs that recorded the same stimuli.
    steps : str, default "last"
        The recorded steps of each that are compared, as for ``analyze_run``.
    output : path, optional
        ``comparison`` beside the first run by default.
    layers, distance, measures, Cs, executor, jobs, scheduler, reporter
        As for ``analyze_run``.

    Returns
    -------
    Findings

    Raises
    ------
    ValueError, OSError, Interrupted, Incomplete
        As for ``analyze_run``, and if the runs recorded different stimuli.
    """
    config, layers = _asked(distance, measures, Cs), _named(layers)
    views = views_of_runs(paths, steps, layers)
    target = Path(output) if output is not None else Path(paths[0]).absolute().parent / "comparison"
    networks = dict.fromkeys(view.network for view in views)
    command = _command("compare", paths, views, config, {"--steps": steps, "--output": output})
    study = Study(f"Comparison of {', '.join(networks)}", tuple(views), target, config, command)
    (findings,) = _carry_out([study], executor, jobs, scheduler, reporter or silent())
    return findings


def _asked(distance: str, measures: Sequence[str], Cs: Sequence[float]) -> AnalysisConfig:
    values = {"distance": distance, "measures": _named(measures), "Cs": [float(C) for C in Cs]}
    return AnalysisConfig.from_dict(values)


def _named(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return names as they are meant: a single one is one."""
    found = (names,) if isinstance(names, str) else tuple(names)
    if not found:
        raise ValueError("No layers and no measures can be left; give one name or pattern at least.")
    return found


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


def _carry_out(
    studies: Sequence[Study], executor: str | None, jobs: int | None, scheduler: str | None, reporter: Reporter
) -> list[Findings]:
    """Do what is not done yet of each study."""
    stale = [study for study in studies if not study.is_done()]
    if stale:
        _do_studies(stale, executor, jobs, scheduler, reporter)
    else:
        reporter.say("Nothing has changed since the last analysis.")
    for study in studies:
        for message in study.warnings():
            said = message if len(studies) == 1 else f"{study.views[0].network}, {message}"
            warnings.warn(said, RuntimeWarning, stacklevel=3)
    return [Findings.of(study) for study in studies]


def _do_studies(
    studies: Sequence[Study], executor: str | None, jobs: int | None, scheduler: str | None, reporter: Reporter
) -> None:
    from analysis.execution import make_executor  # slow to import, and often there is nothing to do
    from analysis.workflows.tasks import tasks_of_study

    for study in studies:
        study.config.check()
        check_folder(study.target)
    _check_views([view for study in studies for view in study.views])
    cost = sum(task.cost for task in tasks_of_study(studies[0])) * len(studies)
    with make_executor(executor, jobs=jobs, scheduler=scheduler, cost=cost, say=reporter.say) as place:
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
