"""From recorded runs to tables, figures and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis.drawing import save_figures
from analysis.figures import draw
from analysis.findings import Findings, measure
from analysis.folders import check_folder, refreshed
from analysis.progress import Reporter, silent
from analysis.report import write_report
from analysis.views import View, views_of_run, views_of_runs
from probes.path import CS
from repsim.learning import SPLITS
from repsim.similarity import DISTANCES

__all__ = ["analyze_run", "compare_runs"]


def analyze_run(
    path: str | Path,
    *,
    steps: str = "first,last",
    output: str | Path | None = None,
    distance: str = "correlation",
    Cs: Sequence[float] = CS,
    reporter: Reporter | None = None,
) -> Findings:
    """Probe and compare the layers of one run at one or more of its recorded steps.

    Parameters
    ----------
    path : path
        The run.
    steps : str, default "first,last"
        ``first``, ``last``, ``all`` or step numbers joined by commas.
    output : path, optional
        ``<run>/analysis`` by default. Files of an earlier analysis there are replaced, others left alone.
    distance : str, default "correlation"
        A method of ``repsim.similarity.rdm``.
    Cs : sequence of float, > 0, default (0.001, 0.01, 0.1, 1.0, 10.0)
        Weights of the data against the penalty that probes choose from.
    reporter : Reporter, optional

    Returns
    -------
    Findings

    Raises
    ------
    ValueError, OSError
        If the run, a step or the distance will not do; a file that differs from its manifest is named.
    """
    views = views_of_run(path, steps)
    target = Path(output) if output is not None else Path(path) / "analysis"
    return _write(views, target, f"Analysis of {Path(path).absolute().name}", distance, Cs, reporter or silent())


def compare_runs(
    paths: Sequence[str | Path],
    *,
    output: str | Path | None = None,
    distance: str = "correlation",
    Cs: Sequence[float] = CS,
    reporter: Reporter | None = None,
) -> Findings:
    """Compare the layers of two or more runs at their last recorded steps; the first is the reference.

    Parameters
    ----------
    paths : sequence of path
        Runs that recorded the same stimuli.
    output : path, optional
        ``comparison`` beside the first run by default.
    distance : str, default "correlation"
    Cs : sequence of float, > 0, default (0.001, 0.01, 0.1, 1.0, 10.0)
    reporter : Reporter, optional

    Returns
    -------
    Findings

    Raises
    ------
    ValueError, OSError
        As for ``analyze_run``, and if the runs recorded different stimuli.
    """
    views = views_of_runs(paths)
    target = Path(output) if output is not None else Path(paths[0]).absolute().parent / "comparison"
    title = "Comparison of " + ", ".join(view.label for view in views)
    return _write(views, target, title, distance, Cs, reporter or silent())


def _write(
    views: list[View], target: Path, title: str, distance: str, Cs: Sequence[float], reporter: Reporter
) -> Findings:
    alone = [name for name, each in DISTANCES.items() if not each.needs]
    if distance not in alone:
        raise ValueError(f"Unknown distance '{distance}'. Choose one of: {', '.join(alone)}.")
    if not len(Cs) or not all(np.isfinite(C) and C > 0 for C in Cs):
        raise ValueError(f"Cs are {', '.join(map(str, Cs)) or 'none'}; expected one or more positive, finite numbers.")
    check_folder(target)
    for view in views:
        _check_stimuli(view)
        _ = view.activations  # verified before the work begins
    with refreshed(target) as staging:
        findings = measure(views, staging, distance=distance, Cs=Cs, reporter=reporter)
        reporter.say("Drawing figures and writing the report")
        drawings = list(draw(findings))
        save_figures(drawings, staging / "figures")
        write_report(staging / "report.html", title, findings, drawings, staging / "figures")
    return replace(findings, folder=target)


def _check_stimuli(view: View) -> None:
    stimuli = view.run.stimuli
    missing = [part for part in SPLITS if not (stimuli.split == part).any()]
    n_classes = len(np.unique(stimuli.labels[stimuli.split == "test"]))
    if missing or n_classes < 2:
        lack = f"no stimuli for {' or '.join(missing)}" if missing else "stimuli of one class only"
        raise ValueError(
            f"{view.run.path} recorded {lack}; an analysis needs labels, and stimuli for training, validation and "
            "test. Record with both, or use repsim.rdm and repsim.pairwise on its layers."
        )
