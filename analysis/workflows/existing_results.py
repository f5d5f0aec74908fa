"""Results that are in the folder of an analysis or comparison already: refused, or replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analysis.comparison.analysis_plan import OUTCOME, AnalysisPlan, read_outcome
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.tasks.rdm_file import RDM_FILE
from analysis.config.existing import EXISTS, advice
from analysis.execution.cache import Cache
from repsim.learning.checks import check_choice

__all__ = ["check_place"]


def check_place(plan: AnalysisPlan, exists: str) -> None:
    """Check that the results of a plan can be written to its folder.

    Raises
    ------
    FileExistsError
        If the folder holds the results of another request, unless ``exists`` is "replace"; or if it holds a file that
        would be written and that no analysis wrote.
    ValueError
        If ``exists`` is unknown.
    """
    check_choice("exists", exists, EXISTS)
    if exists != "replace" and (differences := plan.differences()):
        raise FileExistsError(
            f"{plan.folder} holds another analysis or comparison ({differences}). "
            f"{advice('another folder with --output', 'replace')}"
        )
    foreign = next(_files_of_others(plan), None)
    if foreign is not None:
        raise FileExistsError(
            f"{foreign} was not written by an analysis, and would be overwritten. Move it away, or choose another "
            "folder with --output."
        )


def _files_of_others(plan: AnalysisPlan) -> Iterator[Path]:
    """Yield the files that a plan would overwrite and that no analysis wrote.

    Without ``analysis.json``, the files beside the cache are those of an analysis that was killed.
    """
    outcome = read_outcome(plan.folder)
    if outcome is None and Cache(plan.folder).path.is_dir():
        return
    listed = {OUTCOME} if outcome is None else {OUTCOME, *outcome["files"]}
    for name in (*(f"{table}.csv" for table in TABLES), RDM_FILE, "report.html"):
        if name not in listed and (plan.folder / name).exists():
            yield plan.folder / name
    if (plan.folder / "figures").is_dir():
        from analysis.comparison.figures import FIGURES  # imports matplotlib

        drawn = {f"{name}.{kind}" for name in (*FIGURES, *plan.config.measures) for kind in ("png", "pdf")}
        found = (path for path in sorted((plan.folder / "figures").iterdir()) if path.name in drawn)
        yield from (path for path in found if f"figures/{path.name}" not in listed)
