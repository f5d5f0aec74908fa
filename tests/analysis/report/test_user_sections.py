"""Sections of the user: shown as they were added, kept when the report is made anew, and harmless to the page."""

import html
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from analysis import Report, compare_runs
from analysis.comparison.analysis_plan import read_outcome
from analysis.config.analysis import AnalysisConfig
from analysis.execution.cache import Cache
from analysis.report import user_sections
from analysis.report.user_sections import SECTIONS_FILE, UserSection, make_section
from checkpoints import Damaged
from checkpoints.storage.lock import Lock, Locked

HOSTILE = '</section><script>alert(1)</script>" onload="alert(2)'
TABLE = pd.DataFrame({"layer": ["hidden.1", HOSTILE], "accuracy": [0.5, np.nan]})


CONFIG = AnalysisConfig(Cs=(0.1,), layers=("hidden.1",))


@pytest.fixture(scope="module")
def finished(runs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of one layer, with empty figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: Path(path).write_bytes(b""))
        paths, output = [runs["backprop"], runs["synthetic"]], tmp_path_factory.mktemp("finished")
        return compare_runs(paths, config=CONFIG, output=output).tables.folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the comparison."""
    return Path(shutil.copytree(finished, tmp_path / "comparison"))


@pytest.fixture
def report(folder: Path) -> Report:
    return Report(folder)


def shown(report: Report) -> list[str]:
    """Return the HTML of the added sections in the page."""
    return re.findall(r'<section id="user-\d+".*?</section>', report.path.read_text(), flags=re.DOTALL)


def links(report: Report) -> list[str]:
    return re.findall(r'<a href="#user-\d+">(.*?)</a>', report.path.read_text())


# What is added


def test_a_page_with_no_sections_left_is_the_page_as_it_was(report: Report) -> None:
    before = {path.name: path.read_bytes() for path in report.folder.iterdir() if path.is_file()}
    report.add("Best layers", TABLE)
    report.add("Remarks", "<p>One.</p>")
    changed = {name for name, content in before.items() if (report.folder / name).read_bytes() != content}
    assert changed == {"report.html", "analysis.json"}
    report.remove("Remarks")
    report.remove("Best layers")
    assert {path.name: path.read_bytes() for path in report.folder.iterdir() if path.is_file()} == before


def test_a_table_is_shown_with_its_texts_escaped(report: Report) -> None:
    report.add(HOSTILE, TABLE, caption=HOSTILE)
    (section,) = shown(report)
    assert "<td>hidden.1</td>\n      <td>0.5</td>" in section
    assert "<td></td>" in section
    assert section.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4  # heading, label, cell and caption
    assert "<script>" not in section
    assert links(report) == [HOSTILE.translate({60: "&lt;", 62: "&gt;", 34: "&#34;"})]


def test_an_index_becomes_columns_and_missing_values_are_empty(report: Report) -> None:
    index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["arm", None])
    frame = pd.DataFrame([[np.int64(3), None], [np.inf, pd.Timestamp("2020-01-02")]], index=index)
    frame.columns = pd.MultiIndex.from_tuples([("x", "y"), ("x", "z")])
    assert make_section("T", frame).content == {
        "columns": ["arm", "", "x, y", "x, z"],
        "rows": [["a", 1, 3.0, None], ["b", 2, "inf", "2020-01-02 00:00:00"]],
    }
    report.add("T", frame)
    assert "<td></td>" in shown(report)[0]
    assert "None" not in shown(report)[0]


def test_a_figure_is_a_vector_picture_with_words(report: Report) -> None:
    figure, ax = plt.subplots()
    ax.plot([0, 1])
    report.add("Curve", ax, caption="A line.", alt='It "rises".')
    (section,) = shown(report)
    assert '<img src="data:image/svg+xml;base64,' in section
    assert 'alt="It &#34;rises&#34;."' in section
    assert "<figcaption>A line.</figcaption>" in section
    assert make_section("Curve", figure) == make_section("Curve", figure)  # no date, no random names
    assert make_section("Curve", figure, "A line.").alt == "A line."
    assert make_section("Curve", figure).alt == "Curve"
    plt.close(figure)


def test_a_figure_with_a_large_svg_becomes_a_png(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_sections, "_MOST_SVG", 100)
    figure, _ = plt.subplots()
    report.add("Curve", figure)
    assert '<img src="data:image/png;base64,iVBOR' in shown(report)[0]
    plt.close(figure)


def test_html_is_in_a_frame_without_rights(report: Report) -> None:
    given = '<p title="x">Seed 3</p><script>document.title = "mine"</script>'
    report.add("Remarks", given, caption="By hand.")
    (section,) = shown(report)
    (document,) = re.findall(r'sandbox="allow-scripts" srcdoc="([^"]*)"></iframe>', section)
    assert html.unescape(document).startswith('<meta charset="utf-8"><meta http-equiv="Content-Security-Policy"')
    assert given in html.unescape(document)
    assert given not in section


# Order, and mistakes


def test_sections_are_ordered_replaced_and_removed(report: Report) -> None:
    for title in ("a", "b", "c"):
        report.add(title, f"<p>{title}</p>")
    report.add("first", "<p>1</p>", before="a")
    report.add("b", TABLE, replace=True)
    assert report.titles == links(report) == ["first", "a", "b", "c"]
    assert "<table" in shown(report)[2]
    report.add("c", "<p>new</p>", before="a", replace=True)
    report.add("first", "<p>new</p>", before="b", replace=True)
    report.remove("a")
    assert Report(report.folder).titles == links(report) == ["c", "first", "b"]
    assert repr(report).endswith("report.html', added sections: ['c', 'first', 'b'])")


MISTAKES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "taken": ({"title": "old"}, ValueError, "has a section 'old' already. Choose another title, or give replace=True"),
    "unknown before": ({"before": "x"}, ValueError, "no added section 'x'. Those that were added: old."),
    "itself": ({"title": "old", "before": "old", "replace": True}, ValueError, "'old' cannot be placed before itself"),
    "type": ({"content": [1]}, TypeError, "'new' is of type list; expected a pandas DataFrame, a matplotlib figure"),
    "empty": ({"content": " \n"}, ValueError, "The HTML of section 'new' is empty."),
    "alt": ({"alt": "words"}, ValueError, "alt describes a figure in words, and section 'new' is none."),
    "no title": ({"title": " "}, ValueError, "one line of 1 to 200 printable characters; this one is ' '"),
    "two lines": ({"title": "a\nb"}, ValueError, "one line of 1 to 200 printable characters; this one is 'a\\nb'"),
    "long title": ({"title": "a" * 201}, ValueError, "one line of 1 to 200 printable characters"),
    "number": ({"title": 3}, TypeError, "The title of a section is text; this one is of type int."),
    "cells": ({"content": pd.DataFrame(np.zeros((50_001, 2)))}, ValueError, "has 100002 cells; a section shows at"),
    "own heading": ({"title": "Settings of the runs"}, ValueError, "'Settings of the runs' is the title of a section"),
    "own link": ({"title": "training "}, ValueError, "'training ' is the title of a section of the page itself."),
    "size": ({"content": "x" * 12_000_000}, ValueError, "would have 12.0 MB together; at most 12 MB are kept"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_changes_nothing(report: Report, mistake: str) -> None:
    report.add("old", "<p>1</p>")
    given, error, words = MISTAKES[mistake]
    before = {path.name: path.read_bytes() for path in report.folder.iterdir() if path.is_file()}
    with pytest.raises(error, match=re.escape(words)):
        report.add(**{"title": "new", "content": "<p>2</p>", **given})
    assert {path.name: path.read_bytes() for path in report.folder.iterdir() if path.is_file()} == before


def test_a_section_that_is_not_there_cannot_be_removed(report: Report) -> None:
    with pytest.raises(ValueError, match=r"no added section 'x'\. None has been added\."):
        report.remove("x")


def test_a_report_needs_a_finished_analysis(folder: Path, runs: Mapping[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no finished report\. Make one with repsim analyze"):
        Report(runs["backprop"])
    shutil.copytree(folder, tmp_path / "run" / "analysis")
    with pytest.raises(FileNotFoundError, match=r"holds no finished report\. Give .*run/analysis\."):
        Report(tmp_path / "run")
    with pytest.raises(TypeError, match=r"by the folder of an analysis, or by its result; this is a int"):
        Report(3)  # type: ignore[arg-type]


def test_a_report_that_is_being_written_is_refused(report: Report) -> None:
    Cache(report.folder).make_folder()
    lock = Lock(Cache(report.folder).path / "lock")
    with pytest.raises(Locked, match="is being written by"):
        report.add("a", "<p>1</p>")
    lock.release()
    report.add("a", "<p>1</p>")


def test_a_page_of_an_earlier_version_is_left_alone(report: Report) -> None:
    report.path.write_text("<html></html>")
    with pytest.raises(ValueError, match="has no place for sections of yours; an earlier version of repsim wrote it"):
        report.add("a", "<p>1</p>")
    assert report.path.read_text() == "<html></html>"
    assert report.titles == []


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "it is of another format": lambda content: content | {"format_version": 2},
    "unexpected keyword argument": lambda content: content | {"sections": [content["sections"][0] | {"script": "x"}]},
    "two sections have one title": lambda content: content | {"sections": content["sections"] * 2},
    "is not readable JSON": lambda content: b"\x80\x04K\x01.",  # a pickle
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_sections_is_refused(report: Report, damage: str) -> None:
    report.add("a", "<p>1</p>")
    path = report.folder / SECTIONS_FILE
    changed = DAMAGES[damage](json.loads(path.read_text()))
    path.write_bytes(changed if isinstance(changed, bytes) else json.dumps(changed).encode())
    with pytest.raises(Damaged, match=damage):
        Report(report.folder)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("script", "alert(1)"),
        ("html", 1),
        ("svg", None),
        ("png", "no base 64!"),
        ("table", {"columns": ["a"], "rows": [[1, 2]]}),
        ("table", {"columns": ["a"], "rows": [[{"b": 1}]]}),
        ("table", {"rows": []}),
        ("table", []),
    ],
)
def test_content_that_cannot_be_shown_is_refused(report: Report, kind: str, content: Any) -> None:
    user_sections.write_sections(report.folder, [UserSection(title="a", kind=kind, content=content)])
    with pytest.raises(Damaged, match=r"the content of 'a' cannot be shown.*Move it away, and add the sections again"):
        report.add("b", "<p>1</p>")


# Later analyses


def test_sections_outlast_analyses(runs: Mapping[str, Path], folder: Path, blank_figures: None) -> None:
    """They make nothing stale, and another comparison in the folder, with another setting, shows them again."""
    paths = [runs["backprop"], runs["synthetic"]]
    report = Report(compare_runs(paths, config=CONFIG, output=folder))
    report.add("Remarks", "<p>Seed 3</p>")
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    compare_runs(paths, config=CONFIG, output=folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == written
    compare_runs(paths, config=replace(CONFIG, layers=("hidden.2",)), output=folder, exists="replace")
    assert links(report) == report.titles == ["Remarks"]
    outcome = read_outcome(report.folder)
    assert outcome is not None
    assert outcome["files"]["report.html"] == report.path.stat().st_size


def test_damaged_sections_stop_an_analysis_before_it_computes(runs: Mapping[str, Path], tmp_path: Path) -> None:
    (tmp_path / SECTIONS_FILE).write_text("{}")
    with pytest.raises(Damaged, match=r"report_sections\.json is not a file of report sections"):
        compare_runs([runs["backprop"], runs["synthetic"]], output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [SECTIONS_FILE]
