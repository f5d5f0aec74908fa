"""The report as a person sees it: in a browser, without a network."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from analysis.findings import Findings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to open the report with")


@pytest.fixture(scope="module")
def page(comparison: Findings) -> Iterator[Any]:
    """The report in an offline browser, with what it complained of and asked for."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        page = browser.new_context(offline=True).new_page()
        page.complaints, page.requests = [], []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
        page.on("requestfailed", lambda request: page.complaints.append(request.url))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto((comparison.folder / "report.html").as_uri())
        yield page
        browser.close()


def test_nothing_is_asked_of_the_network_and_nothing_fails(page: Any) -> None:
    assert page.complaints == []
    outside = [url for url in page.requests if not url.startswith("data:")]
    assert outside == [page.url]


def test_every_image_is_seen(page: Any) -> None:
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) == 6
    assert min(widths) > 0


def test_the_title_and_every_link_work(page: Any, comparison: Findings) -> None:
    assert page.title() == "Comparison of " + ", ".join(view.label for view in comparison.views)
    for link in page.query_selector_all("nav a"):
        assert page.query_selector(f"section{link.get_attribute('href')} h2").is_visible()


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_the_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for box in (image.bounding_box() for image in page.query_selector_all("img")):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
