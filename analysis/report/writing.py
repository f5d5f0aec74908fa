"""One self-contained HTML page: text, tables and figures as they are, and data for the charts that a script draws."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from analysis.comparison.result import Findings
from analysis.plots.drawing import Drawing
from analysis.report import static
from analysis.report.content import content_of
from analysis.report.packing import pack, pack_json
from analysis.report.page import as_html, render
from analysis.report.printed import printed
from analysis.report.rerun import command_of
from analysis.report.words import methods_in_words

__all__ = ["write_report"]

# In the order in which they are put together, within one function.
_SCRIPTS = ("data", "dom", "files", "chart", "curves", "matrix", "explorer", "sections", "main")


def write_report(
    path: Path,
    title: str,
    findings: Findings,
    drawings: Sequence[Drawing],
    figures: Path,
    *,
    command: str | None = None,
) -> None:
    """Write the page.

    Parameters
    ----------
    path : Path
        The new HTML file.
    title : str
    findings : Findings
    drawings : sequence of Drawing
    figures : Path
        Folder with a PNG and a PDF of each drawing, which are put into the page.
    command : str, optional
        The command line that makes the report again; what the findings tell of it by default.
    """
    content, arrays = content_of(findings)
    page = render(
        "report.html.j2",
        title=title,
        summary=findings.summary(),
        undefined=findings.undefined_in_words(),
        words=methods_in_words(findings),
        drawings=[printed(drawing, figures, findings) for drawing in drawings],
        has={name: bool(len(getattr(findings, name))) for name in ("training", "gradients", "probe_differences")},
        tables={name: _html(getattr(static, name)(findings)) for name in _TABLES},
        command=command if command is not None else command_of(findings),
        files=[f"{name}.csv" for name in findings.tables] + [findings.rdm_path.name],
        style=_template("report/report.css"),
        script="\n".join(_template(f"report/{name}.js") for name in _SCRIPTS),
        plotly=_plotly(),
        content=pack_json(content),
        arrays=arrays.packed,
    )
    path.write_text(page, encoding="utf-8")


_TABLES = ("runs", "accuracy_by_layer", "first_layers", "differences", "settings")


def _html(table: pd.DataFrame) -> str:
    return as_html(table, index=not isinstance(table.index, pd.RangeIndex))


def _template(name: str) -> str:
    return (files("analysis.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """Return the library that draws, packed."""
    return pack(get_plotlyjs().encode())
