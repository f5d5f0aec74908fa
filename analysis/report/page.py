"""Self-contained HTML pages: rendering of templates, and the interactive report of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.comparison.attribution.answer import answer, answer_table
from analysis.comparison.summary import summarise, undefined_sentences
from analysis.comparison.tables.result_tables import Tables
from analysis.report.charts import possible_charts
from analysis.report.content import page_content
from analysis.report.packing import pack, pack_json
from analysis.report.sections import TABLES_IN_SECTIONS, TABLES_SHOWN, describe_methods, title_of

__all__ = ["SCRIPTS", "as_html", "render", "template", "write_report"]

# In the order in which they are joined, within one function.
SCRIPTS = (
    *("data", "dom", "files", "pdf", "methods", "chart", "curves", "matrix"),
    *("explorer", "sections", "lead", "main"),
)


def write_report(
    path: Path,
    tables: Tables,
    pictures: Sequence[Mapping[str, Any]],
    *,
    command: str,
    packed: tuple[Mapping[str, Any], Mapping[str, str]] | None = None,
) -> None:
    """Write the report of a comparison as one HTML file that works offline.

    ``pictures`` are the figures as ``embed_figure`` returns them; ``packed`` is what ``page_content`` returned, if it
    was called before.
    """
    content, arrays = packed or page_content(tables)
    words = describe_methods(tables)
    first, details = answer(tables)
    page = render(
        "report.html.j2",
        title=title_of(tables),
        answer=first,
        details=details,
        answer_table=_table_html(answer_table(tables)) if details else "",
        summary=summarise(tables)[len(first) + len(details) :],
        undefined=undefined_sentences(tables),
        words=words,
        seeds=words["seeds"],
        n_networks=len({view.network for view in tables.views}),
        charts={name: (chart, chart.words(tables)) for name, chart in possible_charts(tables).items()},
        drawings=pictures,
        has={name: len(tables[name]) > 0 for name in ("training", "gradients", "probe_differences")},
        tables={name: _table_html(build(tables)) for name, build in TABLES_IN_SECTIONS.items()},
        shown={name: (each, _table_html(each.build(tables))) for name, each in TABLES_SHOWN.items()},
        command=command,
        files=[f"{name}.csv" for name in tables] + [tables.rdm_path.name],
        style=template("report/report.css"),
        script="\n".join(template(f"report/{name}.js") for name in SCRIPTS),
        plotly=_plotly(),
        content=pack_json(content),
        arrays=arrays,
    )
    path.write_text(page, encoding="utf-8", errors="backslashreplace")  # names of files may be no UTF-8


def _table_html(table: pd.DataFrame) -> str:
    return as_html(table, index=not isinstance(table.index, pd.RangeIndex))


def render(name: str, **values: Any) -> str:
    """Return a template of this package with the values filled in. Text is escaped unless marked as safe."""
    environment = Environment(loader=PackageLoader("analysis.report"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(name).render(**values)


def as_html(table: pd.DataFrame, *, index: bool = True) -> str:
    """Return a table as HTML, with its texts escaped."""
    return table.to_html(border=0, escape=True, index=index)


def template(name: str) -> str:
    """Return the text of a file in the folder of templates."""
    return (files("analysis.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """Return the library that draws the charts, packed."""
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    return pack(get_plotlyjs().encode())
