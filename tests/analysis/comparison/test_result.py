import os
from collections.abc import Callable
from html import escape
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from analysis import AnalysisConfig, analyze_run
from analysis.comparison.result import ComparisonResult


def test_a_notebook_shows_the_summary_and_the_views_with_names_escaped(comparison: ComparisonResult) -> None:
    html = comparison._repr_html_()
    assert html.count("<li>") == len(comparison.summary())
    for sentence in comparison.summary():
        assert escape(sentence) in html
    assert html.count("<tr>") == 1 + len(comparison.tables.views)
    assert "<img" not in html
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
