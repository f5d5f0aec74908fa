import base64
import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.figures import draw
from analysis.findings import Findings, measure
from analysis.progress import silent
from analysis.report import write_report
from analysis.views import View

FIGURES = ["probe_accuracy", "rdm_grid", "cka", "class_structure", "training", "alignment"]


@pytest.fixture(scope="module")
def page(comparison: Findings) -> str:
    return (comparison.folder / "report.html").read_text()


def without_images(page: str) -> str:
    return re.sub(r'"data:image/png;base64,[A-Za-z0-9+/=]*"', '"data:"', page)


def test_every_figure_is_in_the_page(page: str, comparison: Findings) -> None:
    images = re.findall(r'<img src="data:image/png;base64,([^"]*)" alt="([^"]+)">', page)
    files = [(comparison.folder / "figures" / f"{name}.png").read_bytes() for name in FIGURES]
    assert [base64.b64decode(data) for data, _ in images] == files
    assert re.findall(r'<section id="([^"]+)">', page) == [*FIGURES, "accuracies", "first-layers", "networks"]


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    text = without_images(page)
    references = re.findall(r'(?:src|href|srcset|action|data)\s*=\s*"([^"]*)"', text)
    assert references
    assert all(reference == "data:" or reference.startswith("#") for reference in references)
    assert not re.search(r"https?:|//\w|url\(|@import|<script|<link|<iframe", text.replace("&lt;", ""))


def test_every_link_leads_to_a_section(page: str) -> None:
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets == set(re.findall(r'id="([^"]+)"', page)) - {"accuracies"}


def test_a_hostile_name_is_only_ever_text(page: str, comparison: Findings) -> None:
    hostile = comparison.views[-1].label
    assert hostile.startswith("<img src=x")
    assert html.escape(hostile) in page
    assert hostile not in page
    assert re.findall(r"<img (?!src=\"data:image/png)", page) == []


def test_the_page_tells_the_summary_and_how_each_network_was_trained(page: str, comparison: Findings) -> None:
    text = html.unescape(page)
    for sentence in comparison.summary():
        assert sentence in text
    assert "synthetic-gradient, boundaries" in text
    rows = dict(re.findall(r"<th>([^<]+)</th>\s*<td>([^<]*)</td>", page))
    assert rows["rule"] == "backprop"
    assert (rows["depth"], rows["examples, test"], rows["step shown"], rows["state"]) == ("3", "359", "38", "finished")
    assert rows["torch"]
    assert rows["hidden.3"] == f"{comparison.probes['accuracy'][2]:.3f}"


def test_the_page_names_every_file_beside_it(page: str, comparison: Findings) -> None:
    for path in comparison.folder.iterdir():
        if path.suffix in (".csv", ".h5"):
            assert path.name in page


def written(findings: Findings, path: Path, figures: Path) -> str:
    write_report(path / "page.html", "Title", findings, [], figures)
    return html.unescape((path / "page.html").read_text())


def test_a_probe_that_failed_is_reported(comparison: Findings, tmp_path: Path) -> None:
    assert "could not be fitted" not in written(comparison, tmp_path, comparison.folder / "figures")
    probes = comparison.probes.copy()
    probes.loc[1, ["status", "message", "accuracy"]] = ["failed", "ValueError: 3 of 9 values are <NaN>.", np.nan]
    text = written(replace(comparison, probes=probes), tmp_path, comparison.folder / "figures")
    assert "could not be fitted" in text
    assert "backprop, hidden.2: ValueError: 3 of 9 values are <NaN>." in text


def test_a_run_of_another_trainer_is_reported_with_its_own_settings(
    known_view: Callable[..., View], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    inputs, labels, split = rng.normal(size=(30, 4)), np.arange(30) % 2, np.repeat(["train", "validation", "test"], 10)
    config = {"data": "my birds", "training": ["long"], "lr": None}
    views = [known_view("mine", inputs, labels, [np.eye(4)], split=split, config=config)]
    (tmp_path / "out").mkdir()
    findings = measure(views, tmp_path / "out", distance="euclidean", reporter=silent())
    assert [drawing.name for drawing in draw(findings)] == FIGURES[:-2]
    text = written(findings, tmp_path, tmp_path)
    assert "my birds" in text
    assert "<th>lr</th>\n      <td>\u2013</td>" in text
