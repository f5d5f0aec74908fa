import base64
import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis import AnalysisConfig, analyze_run
from analysis.comparison.figures import FIGURES
from analysis.comparison.result import ComparisonResult


def test_a_notebook_shows_the_summary_and_the_views_with_names_escaped(comparison: ComparisonResult) -> None:
    html = comparison._repr_html_()
    assert html.count("<li>") == len(comparison.summary())
    for sentence in comparison.summary():
        assert escape(sentence) in html
    assert html.count("<tr>") == 1 + len(comparison.tables.views)
    assert html.count("<img") == html.count('<img src="data:image/png;base64,') == 3
    assert "&lt;img src=x onerror=alert(1)&gt;" in html


def test_a_figure_of_the_report_is_drawn_by_its_name(comparison: ComparisonResult) -> None:
    ax = comparison.plot("class_structure")
    assert len(ax.lines) >= len(comparison.tables.views)
    assert ax._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_a_figure_can_be_put_on_other_axes(comparison: ComparisonResult) -> None:
    ax = Figure().add_subplot()
    assert comparison.plot("class_structure", ax) is ax
    assert len(ax.images) == 1
    assert not ax.axison


def test_a_notebook_shows_the_main_figures_and_links_the_report(
    comparison: ComparisonResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(comparison.tables.folder.parent)
    html = comparison._repr_html_()
    link = re.findall(r'href="([^"]*)"', html)
    assert link == [f"{comparison.tables.folder.name}/report.html"]
    assert (comparison.tables.folder.parent / link[0]).samefile(comparison.report)
    pictures = [base64.b64decode(each) for each in re.findall(r'src="data:image/png;base64,([^"]*)"', html)]
    sizes = [Image.open(io.BytesIO(picture)).size for picture in pictures]
    assert all(max(size) <= 900 for size in sizes)
    assert sum(map(len, pictures)) < 400_000


def test_a_figure_without_a_file_is_drawn_for_the_notebook(comparison: ComparisonResult, tmp_path: Path) -> None:
    tables = replace(comparison.tables, folder=tmp_path, frames=dict(comparison.tables.items()))
    assert ComparisonResult(tables)._picture("class_structure").startswith(b"\x89PNG")


def test_a_terminal_shows_the_summary_and_what_there_is(comparison: ComparisonResult) -> None:
    lines = repr(comparison).splitlines()
    assert lines[0] == f"3 views in {comparison.tables.folder}"
    assert lines[1:-3] == [f"- {sentence}" for sentence in comparison.summary()]
    assert lines[-3].startswith("Tables, such as result.tables['")
    assert lines[-2].startswith("Figures, such as result.plot('probe_accuracy'): probe_accuracy, ")
    assert lines[-1] == f"Report: {comparison.report}"


def test_the_most_telling_figure_is_drawn_without_a_name(
    comparison: ComparisonResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert comparison.plot()._repr_png_() == comparison.plot("cka")._repr_png_()  # type: ignore[attr-defined]
    alone = replace(comparison.tables, views=comparison.tables.views[:1])
    assert ComparisonResult(alone)._most_telling() == comparison.figures[0] == "probe_accuracy"
    monkeypatch.setitem(FIGURES, "training", replace(FIGURES["training"], leads=True))
    assert comparison._most_telling() == "training"


def test_an_unknown_figure_lists_those_there_are(comparison: ComparisonResult) -> None:
    with pytest.raises(ValueError, match=r"There is no figure 'umap'. Choose one of: probe_accuracy, .*cka, "):
        comparison.plot("umap")


def test_a_run_whose_name_is_not_utf8_is_analysed(copied: Callable[[str], Path], blank_figures: None) -> None:
    path = copied("backprop")
    strange = path.parent / os.fsdecode(b"run-\xff")
    path.rename(strange)
    result = analyze_run(strange, config=AnalysisConfig(steps="last"))
    assert result.tables.views[0].network == "run-\\udcff"
    assert set(result.tables["class_structure"]["run"]) == {f"{path.parent}/run-\\udcff"}
    assert "Analysis of run-\\udcff" in (strange / "analysis/report.html").read_text()
