"""A study as tasks: its pieces that are not done, and last its tables, figures and report."""

from __future__ import annotations

from dataclasses import replace

from analysis.comparison import plan, tasks_of
from analysis.comparison.study import Study
from analysis.execution import Task
from analysis.workflows.measuring import assemble

__all__ = ["tasks_of_study"]


def tasks_of_study(study: Study) -> list[Task]:
    """Return what is to be done for a study."""
    pieces = tasks_of(plan(study.views, study.config), study.target)
    n_layers = sum(len(view.listed) for view in study.views)
    travelling = replace(study, target=study.target.absolute())
    last = Task(
        f"{study.target}:report-{study.fingerprint[:24]}",
        assemble,
        travelling,
        tuple(task.key for task in pieces),
        cost=5.0 + 0.05 * n_layers,
    )
    return [*pieces, last]
