"""What findings look like in a notebook."""

from html import escape

import pytest
from matplotlib.figure import Figure

from analysis.comparison.notebook import findings_html, plot_findings
from analysis.comparison.result import Findings


def test_findings_are_sentences_and_views_with_names_escaped(comparison: Findings) -> None:
    html = findings_html(comparison)
    assert html.count("<li>") == len(comparison.summary())
    for sentence in comparison.summary():
        assert escape(sentence) in html
    assert html.count("<tr>") == 1 + len(comparison.views)
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html


def test_a_figure_of_the_report_is_drawn_by_its_name(comparison: Findings) -> None:
    ax = plot_findings(comparison, "class_structure")
    assert len(ax.lines) >= len(comparison.views)
    assert ax._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_a_figure_can_be_put_on_other_axes(comparison: Findings) -> None:
    ax = Figure().add_subplot()
    assert plot_findings(comparison, "class_structure", ax) is ax
    assert len(ax.images) == 1
    assert not ax.axison


def test_an_unknown_figure_lists_those_there_are(comparison: Findings) -> None:
    with pytest.raises(ValueError, match=r"There is no figure 'umap'. Choose one of: probe_accuracy, .*cka, "):
        plot_findings(comparison, "umap")
