"""Tables, figures and report of one analysis, written from the results in its cache."""

from __future__ import annotations

import warnings
from pathlib import Path

from analysis.comparison.analysis_plan import OUTCOME, AnalysisPlan, read_outcome
from analysis.comparison.figures import draw_figures
from analysis.comparison.summary import check_any_defined, summarise, undefined_sentences
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.tasks.rdm_file import RDM_FILE, write_rdms
from analysis.execution.cache import Cache
from analysis.execution.folders import refreshed, remove_stale
from analysis.plots.drawing import save_figures
from analysis.report import write_report
from analysis.report.user_sections import insert_sections, read_sections
from checkpoints.storage.commit import replace_file, sync

__all__ = ["assemble", "write_tables"]


def assemble(folder: Path, *, plan: AnalysisPlan) -> None:
    """Write the tables, figures and report of an analysis whose tasks are done, and ``analysis.json`` last.

    Files of an earlier analysis that have no successor are removed; sections that the user added to its report stay.
    The RDMs are then kept in ``rdm.h5`` alone.
    """
    with refreshed(folder) as staging:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tables = write_tables(plan, staging)
            check_any_defined(tables)
            drawings = list(draw_figures(tables))
            save_figures(drawings, staging / "figures")
            write_report(staging / "report.html", tables, drawings, staging / "figures", command=plan.command)
            if sections := read_sections(folder):
                (staging / "report.html").write_bytes(insert_sections(staging / "report.html", sections))
        files = {str(path.relative_to(staging)): path.stat().st_size for path in staging.rglob("*") if path.is_file()}
        summary = summarise(tables)
        earlier = read_outcome(folder)
        remove_stale(folder, {} if earlier is None else earlier["files"], kept=files)
        (folder / OUTCOME).unlink(missing_ok=True)  # the folder is inconsistent until it is rewritten
    messages = [*undefined_sentences(tables), *plan.tasks.warnings()]
    messages += [str(each.message) for each in caught if issubclass(each.category, RuntimeWarning | UserWarning)]
    sync(folder / RDM_FILE)  # before the files of its matrices are removed
    replace_file(folder / OUTCOME, plan.outcome(files, summary, list(dict.fromkeys(messages))))
    Cache(folder).remove(task.key for task in plan.tasks.by_table["rdm"])


def write_tables(plan: AnalysisPlan, folder: Path) -> Tables:
    """Write ``rdm.h5`` and a CSV file of every table into a folder, and return the tables."""
    write_rdms(folder / RDM_FILE, plan.tasks)
    tables = Tables(plan.views, plan.config, folder)
    for name, table in TABLES.items():
        tables.frames[name] = table.build(plan.tasks, tables.frames)
    tables.write(folder)
    return tables
