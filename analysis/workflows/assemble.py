"""Tables, figures and report of one analysis, written from the results in its cache.

The tables come first, then figures beside the content of the page, in two processes if there are two, then the report.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from analysis.comparison.analysis_plan import OUTCOME, AnalysisPlan, read_outcome
from analysis.comparison.summary import check_any_defined, summarise, undefined_sentences
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.tasks.rdm_file import RDM_FILE, write_rdms
from analysis.execution.cache import Cache, TaskResult
from analysis.execution.folders import refreshed, remove_stale
from analysis.execution.task import FunctionByName, Task, messages_of
from checkpoints.storage.commit import STAGING_PREFIX, replace_file, sync

__all__ = ["closing_tasks", "write_tables"]

_N_PARTS = 2  # into which figures are divided, to be drawn side by side
_DRAFTS = ("figures", "page")  # names of tasks whose results are in the report
_PICTURES, _CONTENT, _WARNINGS = "pictures.json", "content.json", "warnings.json"


def closing_tasks(plan: AnalysisPlan) -> list[Task]:
    """Return the tasks that write tables, figures, report and ``analysis.json`` when all tasks of a plan are done."""
    n_layers, cache = sum(len(view.listed) for view in plan.views), plan.tasks.cache

    def closing(name: str, function: str, after: Sequence[Task], cost: float, **inputs: Any) -> Task:
        whole = FunctionByName(f"{__name__}:{function}")
        keys = tuple(task.key for task in after)
        return Task(name, whole, {"plan": plan, **inputs}, after=keys, cost=cost, cache=cache)

    tables = closing("tables", "stage_tables", list(plan.tasks), 0.3 + 0.004 * n_layers)
    figures = [closing("figures", "draw_part", [tables], 2.5 + 0.003 * n_layers, part=part) for part in range(_N_PARTS)]
    page = closing("page", "pack_content", [tables], 0.3 + 0.006 * n_layers)
    keys = {"figures": [part.key for part in figures], "content": page.key}
    report = closing("report", "assemble", [tables, *figures, page], 0.3 + 0.003 * n_layers, **keys)
    return [tables, *figures, page, report]


def stage_tables(folder: Path, *, plan: AnalysisPlan) -> None:
    """Write the tables into a staging folder, for the tasks that follow."""
    staging = _staging(folder)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_any_defined(write_tables(plan, staging))
    (staging / _WARNINGS).write_text(json.dumps(messages_of(caught)))


def write_tables(plan: AnalysisPlan, folder: Path) -> Tables:
    """Write ``rdm.h5`` and a CSV file of every table into a folder, and return the tables."""
    write_rdms(folder / RDM_FILE, plan.tasks)
    tables = Tables(plan.views, plan.config, folder)
    for name, table in TABLES.items():
        tables.frames[name] = table.build(plan.tasks, tables.frames)
    tables.write(folder)
    return tables


def draw_part(folder: Path, *, plan: AnalysisPlan, part: int) -> TaskResult:
    """Return the files of every second figure, and what the report shows of these."""
    from analysis.comparison.figures import draw_figures, possible_figures
    from analysis.plots.drawing import save_figures
    from analysis.report.print_figures import embed_figure

    tables = Tables(plan.views, plan.config, _staging(folder))
    names = list(possible_figures(tables))[part::_N_PARTS]
    drawings = [drawing for name in names for drawing in draw_figures(tables, name)]
    with TemporaryDirectory() as name:
        figures = Path(name) / "figures"
        save_figures(drawings, figures)
        files = {path.name: np.frombuffer(path.read_bytes(), np.uint8) for path in sorted(figures.iterdir())}
        pictures = [embed_figure(drawing, figures) for drawing in drawings]
    return TaskResult({**files, _PICTURES: _as_bytes(pictures)})


def pack_content(folder: Path, *, plan: AnalysisPlan) -> TaskResult:
    """Return the content of the page that its script unpacks."""
    from analysis.report.content import page_content

    content = page_content(Tables(plan.views, plan.config, _staging(folder)))
    return TaskResult({_CONTENT: _as_bytes(content)})


def assemble(folder: Path, *, plan: AnalysisPlan, figures: Sequence[str], content: str) -> None:
    """Write the report, and move tables, figures and report into place, ``analysis.json`` last.

    Files of an earlier analysis that have no successor are removed; sections that the user added to its report stay.
    The RDMs are then kept in ``rdm.h5`` alone. ``figures`` and ``content`` are keys in the cache.
    """
    from analysis.report import write_report
    from analysis.report.user_sections import insert_sections, read_sections

    cache = Cache(folder)
    drawn, packed = [cache.read(key) for key in figures], cache.read(content)
    with refreshed(folder) as staging, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        of_tables = _take_tables(folder, plan, staging)
        tables = Tables(plan.views, plan.config, staging)
        (staging / "figures").mkdir()
        for part in drawn:
            for name in part.arrays.keys() - {_PICTURES}:
                (staging / "figures" / name).write_bytes(part.arrays[name].tobytes())
        turns = zip_longest(*(_read_json(part.arrays[_PICTURES]) for part in drawn))
        pictures = [picture for turn in turns for picture in turn if picture is not None]
        content_of_script = _read_json(packed.arrays[_CONTENT])
        write_report(staging / "report.html", tables, pictures, command=plan.command, packed=content_of_script)
        if sections := read_sections(folder):
            (staging / "report.html").write_bytes(insert_sections(staging / "report.html", sections))
        files = {str(path.relative_to(staging)): path.stat().st_size for path in staging.rglob("*") if path.is_file()}
        summary = summarise(tables)
        messages = [*undefined_sentences(tables), *plan.tasks.warnings(), *of_tables]
        messages += [message for part in (*drawn, packed) for message in part.warnings]
        messages += messages_of(caught)
        earlier = read_outcome(folder)
        remove_stale(folder, {} if earlier is None else earlier["files"], kept=files)
        (folder / OUTCOME).unlink(missing_ok=True)  # the folder is inconsistent until it is rewritten
    sync(folder / RDM_FILE)  # before the files of its matrices are removed
    replace_file(folder / OUTCOME, plan.outcome(files, summary, list(dict.fromkeys(messages))))
    drafts = [path.stem for name in _DRAFTS for path in cache.path.glob(f"{name}-*")]  # also of analyses that stopped
    cache.remove([*(task.key for task in plan.tasks.by_table["rdm"]), *drafts])


def _staging(folder: Path) -> Path:
    """Return the folder of the tables until the report is written; a later analysis removes one that was left."""
    return Cache(folder).path / f"{STAGING_PREFIX}tables"


def _take_tables(folder: Path, plan: AnalysisPlan, target: Path) -> list[str]:
    """Move the files of the tables, and return the warnings that were raised when they were built."""
    source = _staging(folder)
    if not (source / _WARNINGS).exists():  # taken by a process that died before the report was written
        stage_tables(folder, plan=plan)
    messages = [str(each) for each in json.loads((source / _WARNINGS).read_text())]
    (source / _WARNINGS).unlink()
    for path in source.iterdir():
        path.replace(target / path.name)
    source.rmdir()
    return messages


def _as_bytes(value: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(json.dumps(value, allow_nan=False).encode(), np.uint8)


def _read_json(data: np.ndarray[Any, Any]) -> Any:
    return json.loads(data.tobytes())
