"""The report as a person sees it: in a browser, without a network."""

import csv
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import squareform

from analysis import Report
from analysis.comparison.result import ComparisonResult
from analysis.report import write_report
from analysis.report.charts import CHARTS, LayerChart

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
MAGIC = {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF-1.4"}
LOST = 9
BETWEEN_DOWNLOADS = 150  # milliseconds
FORMULA = '=1+1,"x"'
LUMINANCE = (0.2126, 0.7152, 0.0722)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to open the report with")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Any, comparison: ComparisonResult) -> Any:
    """The report in an offline browser, all of it seen, with what it complained of and asked for."""
    return opened(browser, comparison.tables.folder / "report.html")


@pytest.fixture(scope="module")
def strange(browser: Any, comparison: ComparisonResult, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A report of a stimulus without distances and of a run that a spreadsheet would run, opened in the dark."""
    folder = tmp_path_factory.mktemp("strange")
    shutil.copy(comparison.tables.rdm_path, folder)
    with h5py.File(folder / comparison.tables.rdm_path.name, "r+") as file:
        values = squareform(file["0000/hidden.3"][()], checks=False)
        values[LOST] = values[:, LOST] = np.nan
        file["0000/hidden.3"][()] = squareform(values, checks=False)
    structure = comparison.tables["class_structure"].replace({"view": {"backprop": FORMULA}})
    probes = comparison.tables["probes"].copy()
    probes.loc[1, "accuracy"] = np.nan  # of the second of three layers
    tables = replace(
        comparison.tables, folder=folder, frames={**comparison.tables, "class_structure": structure, "probes": probes}
    )
    loss = LayerChart(heading="Loss", link="Loss", table="probes", value="log_loss", ylabel="nats", words=lambda _: "")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(CHARTS, "loss-by-layer", loss)
        write_report(folder / "report.html", tables, [], command="repsim")
    return opened(browser, folder / "report.html", color_scheme="dark")


@pytest.fixture(scope="module")
def answered(browser: Any, arm_comparison: ComparisonResult, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The report of a comparison of arms with controls."""
    path = tmp_path_factory.mktemp("answered") / "report.html"
    write_report(path, arm_comparison.tables, [], command="repsim")
    return opened(browser, path)


@pytest.fixture(scope="module")
def alone(browser: Any, comparison: ComparisonResult, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The report of one network, whose probes have a second target."""
    path = tmp_path_factory.mktemp("alone") / "report.html"
    tables = comparison.tables
    name = tables.views[0].label
    frames = {kind: of_one(table, name) for kind, table in tables.items()}
    size = frames["probes"].assign(target="size", kind="continuous", accuracy=np.nan, r2=[-0.5, 0.25, 0.5])
    frames["probes"] = pd.concat([frames["probes"], size], ignore_index=True)
    write_report(path, replace(tables, views=tables.views[:1], frames=frames), [], command="repsim")
    return opened(browser, path)


def of_one(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a table that are about one network alone."""
    for column in ("view", "view_a", "view_b", "method"):
        table = table[table[column] == name] if column in table else table
    return table


def opened(browser: Any, path: Path, **options: Any) -> Any:
    page = browser.new_context(offline=True, accept_downloads=True, **options).new_page()
    page.complaints, page.requests = [], []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
    page.on("requestfailed", lambda request: page.complaints.append(request.url))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_function("window.repsimReady")
    for chart in page.query_selector_all(".chart"):
        chart.scroll_into_view_if_needed()
        chart.wait_for_selector(".plot .main-svg", state="attached")
    return page


def plotted(page: Any, chart: str, what: str = "data[0].z") -> Any:
    """Return what plotly holds of a chart, once what was asked of it is drawn."""
    return page.evaluate(
        """async ([name, what]) => {
            const host = document.querySelector(`[data-chart="${name}"]`);
            await new Promise((done) => setTimeout(done, 80));
            const keys = what.split(/[.[\\]]+/).filter(Boolean);
            const value = keys.reduce((at, key) => at?.[key], host.querySelector(".plot"));
            return JSON.parse(JSON.stringify(value, (_, v) => (ArrayBuffer.isView(v) ? [...v] : v)) ?? "null");
        }""",
        [chart, what],
    )


def matrix(result: ComparisonResult, view: int, layer: int) -> Any:
    names = list(result.tables.views[view].activations)
    return squareform(result.tables.rdm(view, names[layer]).astype(float), checks=False)


def slide(page: Any, chart: str, label: str, value: int) -> None:
    slider = page.locator(f'[data-chart="{chart}"] label', has_text=label).locator("input")
    slider.fill(str(value))


def download(page: Any, button: str) -> Any:
    """Click a button that saves something, at the pace of a person: Chromium drops the eleventh within a second."""
    page.wait_for_timeout(BETWEEN_DOWNLOADS)
    with page.expect_download() as waiting:
        page.locator(button).click()
    return waiting


def downloaded(page: Any, chart: str, kind: str) -> bytes:
    waiting = download(page, f'[data-chart="{chart}"] [data-save="{kind}"]')
    assert waiting.value.suggested_filename.endswith(f".{kind}")
    return Path(waiting.value.path()).read_bytes()


def csv_rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


# What it must not do


def test_the_page_makes_no_request_and_logs_no_error(page: Any) -> None:
    outside = [url for url in page.requests if not url.startswith(("data:", "blob:"))]
    assert outside == [page.url]
    assert page.complaints == []


def test_names_are_escaped_in_every_chart(page: Any, comparison: ComparisonResult) -> None:
    hostile = comparison.tables.views[-1].label
    assert page.locator("img[src=x]").count() == 0
    assert page.locator('[data-chart="rdm-b"] h3').inner_text() == f"B: {hostile}, hidden.3"
    names = plotted(page, "probes", "data")
    assert names[-1]["name"] == hostile.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    title = page.locator('[data-chart="similarity"] .xtitle').text_content()  # in lines
    assert title.replace(" ", "").endswith(hostile.replace(" ", ""))


# What is seen


def test_every_image_is_seen(page: Any) -> None:
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) == 8
    assert min(widths) > 0


def test_the_title_and_every_link_work(page: Any, comparison: ComparisonResult) -> None:
    names = [view.label for view in comparison.tables.views]
    assert page.title() == f"Comparison of {', '.join(names[:-1])} and {names[-1]}"
    for link in page.query_selector_all("nav a"):
        assert page.query_selector(f"section{link.get_attribute('href')} h2").is_visible()


def test_headings_are_in_order(page: Any) -> None:
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.filter((e) => !e.hidden).map((e) => +e.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_control_has_a_name(page: Any) -> None:
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, select, input, [tabindex], .plot")].filter((e) =>
            !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.[0]?.textContent.trim())).length"""
    )
    assert nameless == 0


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_the_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_timeout(400)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("img", ".main-svg", "button", "select", "input"):
        for box in filter(None, (each.bounding_box() for each in page.query_selector_all(selector))):
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
    page.set_viewport_size({"width": 1280, "height": 800})
    page.wait_for_function("document.querySelector('[data-chart=rdm-a] .main-svg').clientWidth > 400")  # drawn again


@pytest.mark.parametrize("width", [1280, 400])
def test_no_text_of_a_chart_is_cut_off_after_the_window_is_resized(answered: Any, width: int) -> None:
    answered.set_viewport_size({"width": width, "height": 800})
    answered.wait_for_function(
        """[...document.querySelectorAll(".plot")].every((plot) => {
            const drawn = plot.querySelector(".main-svg");
            return !drawn || Math.abs(drawn.clientWidth - plot.clientWidth) < 2;
        })"""
    )
    answered.wait_for_timeout(300)
    cut = answered.evaluate(
        """[...document.querySelectorAll(".chart .plot")].flatMap((plot) => {
            const box = plot.getBoundingClientRect();
            return [...plot.querySelectorAll("text")].filter((text) => {
                const { left, right, top, bottom, width } = text.getBoundingClientRect();
                const isBeside = left < box.left - 1 || right > box.right + 1;
                return width && (isBeside || top < box.top - 1 || bottom > box.bottom + 1);
            }).map((text) => `${plot.closest(".chart").dataset.chart}: ${text.textContent}`);
        })"""
    )
    assert cut == []
    bars = answered.eval_on_selector_all(".chart .plot", "all => all.map((e) => e.querySelectorAll('.cbtitle').length)")
    assert max(bars) == 1  # none is left of the other width
    answered.set_viewport_size({"width": 1280, "height": 800})
    answered.wait_for_function("document.querySelector('[data-chart=rdm-a] .main-svg').clientWidth > 400")


def contrast(first: str, second: str) -> float:
    def luminance(colour: str) -> float:
        parts = np.array([int(part) / 255 for part in re.findall(r"\d+", colour)[:3]])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ LUMINANCE)

    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def colours_of(page: Any) -> list[float]:
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ways = [".keys", ".note", "nav a", "summary", "td", "footer"]
    return [contrast(page.eval_on_selector(way, "e => getComputedStyle(e).color"), paper) for way in ways]


def test_both_schemes_can_be_read_and_the_button_changes_them(strange: Any) -> None:
    page = strange
    dark = plotted(page, "probes", "layout.paper_bgcolor")
    assert min(colours_of(page)) >= 4.5
    page.click("#theme")
    assert min(colours_of(page)) >= 4.5
    assert (dark, plotted(page, "probes", "layout.paper_bgcolor")) == ("#15181e", "#ffffff")
    assert page.locator("#theme").inner_text() == "Dark"
    assert page.complaints == []


# The first screen


def test_the_first_screen_has_the_answer_and_its_pictures(answered: Any, arm_comparison: ComparisonResult) -> None:
    answered.evaluate("scrollTo(0, 0)")
    assert answered.locator(".answer p").first.inner_text() == arm_comparison.summary()[0]
    for name in ("lead-a", "lead-b"):
        assert answered.locator(f'[data-chart="{name}"]').bounding_box()["y"] < 620
    assert answered.locator("h1").inner_text() == "sg (3 seeds) compared with bp (3 seeds), with 4 controls"


def test_marks_in_the_picture_are_the_verdicts_of_the_table(answered: Any, arm_comparison: ComparisonResult) -> None:
    marks = {"different": "●", "equivalent": "=", "undecided": "?"}
    table = arm_comparison.tables["attribution"].query("contrast == 'total' and quantity == 'accuracy'")
    panels = plotted(answered, "lead-a", "data")
    quantities = list(arm_comparison.tables["attribution"]["quantity"].unique())
    cells = [each for each in panels if each["meta"] == {"r": 0, "c": quantities.index("accuracy")}]
    heat, text = cells
    shown = table.pivot(index="depth", columns="at", values="difference")[list(table["at"].unique())]
    np.testing.assert_allclose(np.array(heat["z"], dtype=float), shown / table["smallest"].iloc[0], atol=1e-9)
    assert sorted(text["text"]) == sorted(table["verdict"].map(marks))


def test_a_cell_is_read_and_its_curves_are_chosen_with_the_keyboard(answered: Any) -> None:
    plot = answered.locator('[data-chart="lead-a"] .plot')
    plot.focus()
    plot.press("ArrowUp")
    for _ in range(40):
        plot.press("ArrowRight")  # to the last quantity and step
    said = answered.locator('[data-chart="lead-a"] .readout').inner_text()
    assert re.search(r"probe accuracy, layer \S+, 100 %: [+−]\d\.\d{3} \[", said)
    plot.press("Enter")
    answered.wait_for_function("document.querySelector('[data-chart=lead-b] h3').textContent.startsWith('Probe acc')")
    assert answered.locator('[data-chart="lead-b"] .choice input:checked').count() == 2


def test_arms_are_lines_and_differences_have_bands(answered: Any, arm_comparison: ComparisonResult) -> None:
    chart = answered.locator('[data-chart="lead-b"]')
    chart.locator(".choice label", has_text="Arms").click()
    lines = [each["name"] for each in plotted(answered, "lead-b", "data") if each.get("name")]
    assert set(arm_comparison.tables["arms"]["arm"]) - {"bp at 100 %"} >= set(lines) >= {"bp", "sg", "slow"}
    chart.locator(".choice label", has_text="Differences").click()
    data = plotted(answered, "lead-b", "data")
    filled = [each for each in data if each.get("fill") == "tonexty"]
    of_points_alone = [each for each in data if "name" not in each and each["line"]["width"] == 2]
    assert len(filled) + len(of_points_alone) == 5  # in total, and beyond each control


def test_the_report_of_one_network_starts_with_its_probes(alone: Any, comparison: ComparisonResult) -> None:
    assert alone.title().startswith("Analysis of ")
    (line,) = (each for each in plotted(alone, "lead-a", "data") if each.get("name"))
    assert line["y"] == comparison.tables["probes"]["accuracy"][:3].tolist()
    (line,) = (each for each in plotted(alone, "lead-b", "data") if each.get("name"))
    assert line["y"] == comparison.tables["class_structure"]["class_structure"][:3].tolist()


def test_other_targets_of_probes_are_chosen(alone: Any) -> None:
    alone.locator('[data-chart="probes"] select').select_option(label="size")
    (line,) = (each for each in plotted(alone, "probes", "data") if each.get("name"))
    assert line["y"] == [-0.5, 0.25, 0.5]
    assert alone.locator('[data-chart="probes"] .ytitle').text_content() == "probe R² on test, size"


def test_sliders_with_one_position_are_hidden(page: Any) -> None:
    assert page.locator('[data-chart="rdm-a"] label', has_text="Checkpoint").is_hidden()
    assert page.locator('[data-chart="rdm-a"] label', has_text="Layer").is_visible()


# For everyone


@pytest.mark.parametrize("name", ["answered", "alone"])
def test_axe_finds_no_violation_of_wcag(name: str, request: pytest.FixtureRequest) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="there is no axe-core; install axe-playwright-python")
    page = request.getfixturevalue(name)
    page.evaluate((Path(axe.__path__[0]) / "axe.min.js").read_text())
    for width, scheme in ((1280, "light"), (1280, "dark"), (400, "light")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(300)
        found = page.evaluate(
            "axe.run({ exclude: ['.svg-container'] }, "  # whose name and table stand beside it
            "{ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'], resultTypes: ['violations'] })"
        )
        told = [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]
        assert told == [], (width, scheme)
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="light")


def test_every_chart_is_printed_light_and_as_wide_as_the_paper(answered: Any) -> None:
    answered.emulate_media(color_scheme="dark")
    answered.wait_for_function("window.repsimDrawn")
    answered.wait_for_function(
        "document.querySelector('[data-chart=structure] .plot').layout.paper_bgcolor === '#15181e'"
    )
    answered.evaluate("dispatchEvent(new Event('beforeprint'))")  # the browser waits for no promise
    charts = answered.evaluate(
        "[...document.querySelectorAll('.plot')].map((e) => [e.layout?.paper_bgcolor, "
        "e.querySelector('.main-svg')?.hasAttribute('viewBox')])"
    )
    assert len(charts) > 8
    assert {tuple(each) for each in charts} == {("#ffffff", True)}
    assert answered.locator("details.print:not([open])").count() == 0
    answered.emulate_media(media="print")
    width = answered.evaluate("document.querySelector('main').clientWidth")
    widths = answered.eval_on_selector_all(".plot .main-svg", "all => all.map((e) => e.getBoundingClientRect().right)")
    assert max(widths) <= width + 1
    answered.emulate_media(media="screen", color_scheme="light")
    answered.evaluate("dispatchEvent(new Event('afterprint'))")
    assert answered.locator("details.print[open]").count() == 0


# What can be done


def test_sliders_and_runs_change_the_matrix(page: Any, comparison: ComparisonResult) -> None:
    for layer in (0, 2, 1):
        slide(page, "rdm-a", "Layer", layer)
        np.testing.assert_allclose(plotted(page, "rdm-a"), matrix(comparison, 0, layer), atol=1e-4)
    page.locator('[data-chart="rdm-a"] select').select_option(index=1)
    np.testing.assert_allclose(plotted(page, "rdm-a"), matrix(comparison, 1, 1), atol=1e-4)
    assert page.locator('[data-chart="rdm-a"] output').all_inner_texts() == ["step 38", "hidden.2 (2 of 3)"]
    page.locator('[data-chart="rdm-a"] select').select_option(index=0)


def test_linked_panels_show_the_same_layer(page: Any) -> None:
    link = page.locator("#scale label", has_text="Link A and B").locator("input")
    link.check()
    slide(page, "rdm-b", "Layer", 0)
    page.wait_for_function("document.querySelector('[data-chart=rdm-a] h3').textContent.endsWith('hidden.1')")
    link.uncheck()
    slide(page, "rdm-b", "Layer", 2)
    page.wait_for_function("document.querySelector('[data-chart=rdm-b] h3').textContent.endsWith('hidden.3')")
    assert page.locator('[data-chart="rdm-a"] h3').inner_text().endswith("hidden.1")


def test_pointing_at_a_cell_shows_its_stimuli_and_the_true_distance(page: Any, comparison: ComparisonResult) -> None:
    row, column = 7, 40
    distance = matrix(comparison, 0, 2)[row, column]
    slide(page, "rdm-a", "Layer", 2)
    page.wait_for_function(
        "([i, j, d]) => Math.abs(document.querySelector('[data-chart=rdm-a] .plot').data[0].z[i][j] - d) < 1e-4",
        arg=[row, column, distance],
    )
    n = len(comparison.tables.views[0].rows("test"))
    readout = page.locator('[data-chart="rdm-a"] .readout')
    stimuli = comparison.tables.views[0].run.stimuli
    ids, labels = (each[comparison.tables.views[0].rows("test")] for each in (stimuli.ids, stimuli.labels))
    for _ in range(20):  # the page may still move while charts above are drawn
        box = page.locator('[data-chart="rdm-a"] .nsewdrag').bounding_box()
        for share in (0.4, 0.5):
            page.mouse.move(
                box["x"] + (column + share) * box["width"] / n, box["y"] + (row + share) * box["height"] / n
            )
        readout.locator(".thumb").first.wait_for()
        page.wait_for_timeout(100)
        value, first, second = readout.locator("p").all_inner_texts()
        if first == f"row: {ids[row]}, class {labels[row]}":
            break
    assert float(value.rpartition(" ")[2]) == pytest.approx(distance, abs=1e-4)
    assert first == f"row: {ids[row]}, class {labels[row]}"
    assert second == f"column: {ids[column]}, class {labels[column]}"
    assert readout.locator(".thumb").count() == 2


def test_the_arrow_keys_walk_over_a_matrix(page: Any, comparison: ComparisonResult) -> None:
    slide(page, "rdm-b", "Layer", 0)
    plot = page.locator('[data-chart="rdm-b"] .plot')
    plot.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"):
        plot.press(key)
    value = page.locator('[data-chart="rdm-b"] .readout .value').inner_text()
    assert float(value.rpartition(" ")[2]) == pytest.approx(matrix(comparison, 2, 0)[2, 1], abs=1e-4)
    x0 = [shape["x0"] for shape in plotted(page, "rdm-b", "layout.shapes") if shape["type"] == "rect"]
    assert x0 == [0.5]  # the cursor's cell


def test_a_click_on_a_similarity_sets_both_panels_and_the_plane(page: Any, comparison: ComparisonResult) -> None:
    chart = page.locator('[data-chart="similarity"]')
    chart.scroll_into_view_if_needed()
    box = chart.locator(".nsewdrag").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 6 - 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 6, box["y"] + box["height"] / 2)
    page.wait_for_function("""document.querySelector('[data-chart="embedding"] h3').textContent.includes("hidden.2")""")
    titles = [page.locator(f'[data-chart="{name}"] h3').inner_text() for name in ("rdm-a", "rdm-b")]
    assert titles == ["A: backprop, hidden.2", f"B: {comparison.tables.views[2].label}, hidden.1"]
    np.testing.assert_allclose(plotted(page, "rdm-b"), matrix(comparison, 2, 0), atol=1e-4)


def test_a_similarity_is_chosen_with_the_keyboard_alone(page: Any, comparison: ComparisonResult) -> None:
    page.locator('[data-chart="similarity"] select').nth(1).select_option(index=1)
    plot = page.locator('[data-chart="similarity"] .plot')
    plot.focus()
    for key in ("End", "End", "ArrowUp", "ArrowUp", "ArrowUp", "Enter"):
        plot.press(key)
    table = comparison.tables["similarity"]
    found = table.query("view_a == 'backprop' and view_b == 'synthetic' and depth_a == 3 and depth_b == 3")["cka"]
    said = page.locator('[data-chart="similarity"] .readout').inner_text()
    assert float(said.rpartition(" ")[2]) == pytest.approx(float(found.iloc[0]), abs=1e-3)
    np.testing.assert_allclose(plotted(page, "rdm-b"), matrix(comparison, 1, 2), atol=1e-4)
    np.testing.assert_allclose(plotted(page, "rdm-a"), matrix(comparison, 0, 2), atol=1e-4)


def test_the_plane_switches_between_mds_and_pca_and_names_stimuli(page: Any, comparison: ComparisonResult) -> None:
    before = plotted(page, "embedding", "data[0].x")
    page.locator('[data-chart="embedding"] select').select_option(label="PCA of the activations")
    assert plotted(page, "embedding", "data[0].x") != before
    plot = page.locator('[data-chart="embedding"] .plot')
    plot.focus()
    plot.press("ArrowRight")
    first = comparison.tables.views[0].rows("test")[0]
    assert (
        comparison.tables.views[0].run.stimuli.ids[first]
        in page.locator('[data-chart="embedding"] .readout').inner_text()
    )
    page.locator('[data-chart="embedding"] select').select_option(label="MDS of the distances")


def test_curves_can_be_hidden(page: Any) -> None:
    boxes = page.locator('[data-chart="structure"] .legend input')
    assert len(plotted(page, "structure", "data")) == 3
    boxes.first.uncheck()
    assert len(plotted(page, "structure", "data")) == 2
    boxes.first.check()


def test_an_added_chart_is_drawn_by_layer(strange: Any, comparison: ComparisonResult) -> None:
    lines = plotted(strange, "loss-by-layer", "data")
    assert [y for line in lines for y in line["y"]] == comparison.tables["probes"]["log_loss"].tolist()


def test_a_chart_is_also_a_table(page: Any, comparison: ComparisonResult) -> None:
    chart = page.locator('[data-chart="structure"]')
    chart.locator("summary").click()
    chart.locator("td").first.wait_for()
    cells = chart.locator("tbody tr").first.locator("td").all_inner_texts()
    assert cells[:3] == ["backprop", "hidden.1", "1"]
    assert float(cells[3]) == pytest.approx(comparison.tables["class_structure"]["class_structure"].iloc[0], rel=1e-3)


# What can be taken away


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
@pytest.mark.parametrize("chart", ["probes", "rdm-a", "embedding"])
def test_a_chart_is_saved_as_a_picture(page: Any, chart: str, kind: str) -> None:
    data = downloaded(page, chart, kind)
    assert data.startswith(MAGIC[kind])
    assert len(data) > 5000
    if kind == "pdf":
        start = int(re.search(rb"startxref\n(\d+)\n%%EOF", data)[1])
        assert data[start : start + 4] == b"xref"
        places = [int(place) for place in re.findall(rb"(\d{10}) 00000 n", data)]
        assert [data[place : place + 7] for place in places] == [b"%d 0 obj" % k for k in range(1, len(places) + 1)]
        assert (b"/Subtype /Image" in data) == (chart == "rdm-a")  # a matrix is a picture within the vector graphics
        said = b"".join(bytes.fromhex(text.decode()) + b"|" for text in re.findall(rb"<([0-9a-f]+)> Tj", data))
        assert {"probes": b"probe accuracy on test|", "rdm-a": b"class|", "embedding": b"MDS 1|"}[chart] in said


def test_numbers_are_saved_as_they_are_in_the_tables(page: Any, comparison: ComparisonResult) -> None:
    rows = csv_rows(downloaded(page, "probes", "csv"))
    assert [float(row["accuracy"]) for row in rows] == comparison.tables["probes"]["accuracy"].tolist()
    assert [row["curve"] for row in rows] == comparison.tables["probes"]["view"].tolist()
    rows = csv_rows(downloaded(page, "similarity", "csv"))
    table = comparison.tables["similarity"].set_index(["view_a", "layer_a", "view_b", "layer_b"])["cka"]
    assert len(rows) == 9
    for row in rows:
        key = tuple(row[name] for name in table.index.names)
        assert float(row["cka"]) == pytest.approx(table[key], abs=1e-6)


def test_the_distances_shown_are_saved(page: Any, comparison: ComparisonResult) -> None:
    slide(page, "rdm-a", "Layer", 1)
    rows = csv_rows(downloaded(page, "rdm-a", "csv"))
    kept = comparison.tables.rdm(0, "hidden.2")
    np.testing.assert_allclose([float(row["distance"]) for row in rows], kept, atol=1e-4)
    assert rows[0]["stimulus_a"] < rows[0]["stimulus_b"]


def test_formulas_in_saved_csv_are_quoted_and_numbers_are_not(strange: Any) -> None:
    data = downloaded(strange, "structure", "csv")
    assert "'" + FORMULA in {row["curve"] for row in csv_rows(data)}
    assert b"'-" not in downloaded(strange, "embedding", "csv")


def test_a_band_is_interrupted_where_it_is_not_known(strange: Any) -> None:
    bands = [trace["x"] for trace in plotted(strange, "probes", "data") if trace["mode"] == "lines"]
    assert bands[:2] == [[1, 1], [3, 3]]  # of points alone


def test_missing_distances_are_grey_and_empty_in_saved_files(strange: Any) -> None:
    z = np.array(plotted(strange, "rdm-a"), dtype=float)
    assert np.isnan(z[LOST]).all()
    assert np.isnan(z[:, LOST]).all()
    assert np.isnan(z).sum() == 2 * len(z) - 1
    assert strange.locator('[data-chart="rdm-a"] .note').inner_text().startswith("Grey: distance not defined")
    assert "1 of the stimuli are missing" in strange.locator('[data-chart="embedding"] .note').inner_text()
    rows = csv_rows(downloaded(strange, "rdm-a", "csv"))
    assert sum(row["distance"] == "" for row in rows) == len(z) - 1


@pytest.mark.parametrize("kind", ["png", "svg", "pdf", "csv"])
def test_a_figure_for_print_is_saved(page: Any, comparison: ComparisonResult, kind: str) -> None:
    waiting = download(page, f'#probe_accuracy [data-save="{kind}"]')
    data = Path(waiting.value.path()).read_bytes()
    if kind == "csv":
        assert [float(row["accuracy"]) for row in csv_rows(data)] == comparison.tables["probes"]["accuracy"].tolist()
    elif kind == "svg":
        assert b"<svg" in data
    else:
        assert data == (comparison.tables.folder / "figures" / f"probe_accuracy.{kind}").read_bytes()


def test_no_action_logged_an_error(page: Any) -> None:
    assert page.complaints == []


# Sections of the user


def test_html_of_the_user_runs_alone_and_loads_nothing(
    browser: Any, comparison: ComparisonResult, tmp_path: Path
) -> None:
    ignored = shutil.ignore_patterns("cache", "figures")
    folder = Path(shutil.copytree(comparison.tables.folder, tmp_path / "comparison", ignore=ignored))
    hostile = """<!doctype html><p>waiting</p><div style="height: 700px"></div><img src="https://example.org/x.png"><script>
      let reached = "nothing";
      try { parent.document.title = "mine"; reached = "page"; } catch (error) {}
    </script><script>document.querySelector("p").textContent = "reached " + reached;</script>"""
    Report(folder).add('<b>"Remarks"</b>', hostile)
    page = browser.new_context(offline=True).new_page()
    loaded: list[str] = []
    page.on("requestfinished", lambda request: loaded.append(request.url))
    page.goto((folder / "report.html").as_uri())
    page.wait_for_function("window.repsimReady")
    page.get_by_role("link", name='<b>"Remarks"</b>').click()
    page.emulate_media(color_scheme="dark")
    frame = page.frame_locator(".from-user iframe")
    ink, paper = (
        frame.locator("p").evaluate("e => getComputedStyle(e).color"),
        page.eval_on_selector(".from-user iframe", "e => getComputedStyle(e).backgroundColor"),
    )
    assert contrast(ink, paper) >= 4.5
    assert frame.locator("p").inner_text() == "reached nothing"
    page.wait_for_function("document.querySelector('.from-user iframe').clientHeight > 700")
    height = frame.locator("html").evaluate("e => e.offsetHeight")
    assert page.eval_on_selector(".from-user iframe", "e => parseFloat(e.style.height)") == height  # no gap below
    assert not [url for url in loaded if url.startswith("http")]
    assert page.title() != "mine"
    page.context.close()
