import base64
import html
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from matplotlib.image import imread
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist, squareform

from analysis import AnalysisConfig, analyze_run
from analysis.comparison.result import ComparisonResult
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.view import View
from analysis.plots.axes import figure_of, new_axes
from analysis.plots.drawing import Drawing, save_figures
from analysis.report import write_report
from analysis.report.charts import CHARTS, LayerChart
from analysis.report.content import RDM_BUDGET, choose_shown, most_shown, pairs_of
from analysis.report.embedding import aligned, classical_mds, pca
from analysis.report.packing import Arrays, pack_json, quantise
from analysis.report.print_figures import embed_figure
from analysis.report.sections import TABLES_SHOWN, ReportTable, describe_measure
from analysis.report.thumbnails import images_of, sprite_of, thumbnails
from checkpoints import Run
from repsim.learning import load_dataset
from repsim.settings import setting
from repsim.similarity import MEASURES, Measure

FIGURES = ["probe_accuracy", "rdm_grid", "cka", "class_structure", "layer_quantities", "training"]
FIGURES += ["alignment", "signals"]
SECTIONS = [
    *("overview", "training-curves", "probes", "explorer", "similarity", "embedding", "structure", "gradients"),
    *("accuracies", "first-layers", "networks", "figures", "reproduce"),
]


@pytest.fixture(scope="module")
def page(comparison: ComparisonResult) -> str:
    return (comparison.tables.folder / "report.html").read_text()


def without_data(page: str) -> str:
    """Return the page without pictures and scripts; what they do is looked at in a browser."""
    page = re.sub(r'"data:image/png;base64,[A-Za-z0-9+/=]*"', '"data:"', page)
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def unpacked(page: str, name: str) -> bytes:
    text = re.search(rf'<script type="text/plain" id="{name}">([^<]*)</script>', page)
    assert text
    return zlib.decompress(base64.b64decode(text[1]))


def content(page: str) -> Any:
    return json.loads(unpacked(page, "content"))


# The page


def test_every_figure_is_in_the_page(page: str, comparison: ComparisonResult) -> None:
    images = re.findall(r'<img src="data:image/png;base64,([^"]*)" width="\d+" alt="([^"]+)">', page)
    files = [(comparison.tables.folder / "figures" / f"{name}.png").read_bytes() for name in FIGURES]
    assert [base64.b64decode(data) for data, _ in images] == files
    for name in FIGURES:
        assert unpacked(page, f"{name}-pdf") == (comparison.tables.folder / "figures" / f"{name}.pdf").read_bytes()
        assert b"<svg" in unpacked(page, f"{name}-svg")[:1000]
    assert re.findall(r'<section id="([^"]+)">', page) == SECTIONS


def test_a_large_figure_is_shown_smaller_and_drawn_once(comparison: ComparisonResult, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((900, 1200, 3))
    ax = new_axes(12.0, 9.0)
    ax.imshow(noise)
    drawing = Drawing("noise", "Noise", "Much.", figure_of(ax))
    save_figures([drawing], tmp_path / "figures")
    shown = embed_figure(drawing, tmp_path / "figures")
    assert (tmp_path / "figures/noise.png").stat().st_size > 1_000_000
    assert shown["source"].startswith("data:image/webp;base64,")
    assert len(shown["source"]) < 1_000_000
    assert shown["files"] == {}
    assert shown["data"] == ""


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    text = without_data(page)
    references = re.findall(r'(?:src|href|srcset|action|data)\s*=\s*"([^"]*)"', text)
    assert references
    assert all(reference == "data:" or reference.startswith("#") for reference in references)
    assert not re.search(r"https?:|//\w|url\(|@import|<link|<iframe", text.replace("&lt;", ""))
    assert "default-src 'none'" in text  # and the browser holds the script to it
    assert re.findall(r"<script [^>]*src", page) == []


def test_every_link_leads_to_a_section(page: str) -> None:
    targets = re.findall(r'href="#([^"]+)"', page)
    assert set(targets) == set(SECTIONS)


def test_names_are_escaped_in_the_page(page: str, comparison: ComparisonResult) -> None:
    hostile = comparison.tables.views[-1].label
    assert hostile.startswith("<img src=x")
    assert html.escape(hostile) in page
    assert hostile not in page
    assert re.findall(r"<img (?!src=\"data:image/png)", page) == []
    assert content(page)["views"][-1]["label"] == hostile


def test_the_page_has_the_summary_and_the_settings_of_each_network(page: str, comparison: ComparisonResult) -> None:
    text = html.unescape(page)
    for sentence in comparison.summary():
        assert sentence in text
    assert "synthetic-gradient, boundaries" in text
    rows = dict(re.findall(r"<th>([^<]+)</th>\s*<td>([^<]*)</td>", page))
    assert rows["rule"] == "backprop"
    assert (rows["depth"], rows["examples, test"], rows["step shown"], rows["state"]) == ("3", "359", "38", "finished")
    assert rows["torch"]
    assert rows["hidden.3"] == f"{comparison.tables['probes']['accuracy'][2]:.3f}"


def test_settings_are_listed_by_method(comparison: ComparisonResult) -> None:
    views = comparison.tables.views[:2]
    planted = SimpleNamespace(views=views, methods={view.label: "same" for view in views})
    shown = TABLES_SHOWN["networks"].build(cast(Tables, planted))
    rules = [view.run.config["training"]["rule"] for view in views]
    assert list(shown.columns) == ["same (2 seeds)"]
    assert rules[0] != rules[1]
    assert shown.loc["rule"].item() == "; ".join(rules)
    assert shown.loc["depth"].item() == "3"


def test_many_networks_are_rows_of_the_table_of_probes(comparison: ComparisonResult) -> None:
    names = [f"v{k}" for k in range(12)]
    rows = comparison.tables["probes"].iloc[:3]
    probes = pd.concat([rows.assign(view=name) for name in names])
    planted = replace(
        comparison.tables, views=[SimpleNamespace(label=name) for name in names], frames={"probes": probes}
    )
    shown = TABLES_SHOWN["accuracies"].build(planted)
    assert list(shown.index) == names
    assert list(shown.columns) == list(rows["layer"])


def test_the_page_names_every_file_beside_it(page: str, comparison: ComparisonResult) -> None:
    for path in comparison.tables.folder.iterdir():
        if path.suffix in (".csv", ".h5"):
            assert path.name in page


def test_the_page_names_the_methods_behind_bands(page: str) -> None:
    assert "multinomial logistic regression with an L2 penalty" in page
    assert "Bands are one standard error from the number of test stimuli" in page


def test_the_tables_are_in_the_page_with_all_their_digits(page: str, comparison: ComparisonResult) -> None:
    tables = content(page)["tables"]
    assert tables["probes"]["accuracy"] == comparison.tables["probes"]["accuracy"].tolist()
    assert tables["class_structure"]["layer"] == comparison.tables["class_structure"]["layer"].tolist()


def test_matrices_are_kept_to_a_fraction_of_their_range(page: str, comparison: ComparisonResult) -> None:
    known = content(page)["arrays"]["rdm-1-2"]
    codes = np.frombuffer(unpacked(page, "array-rdm-1-2"), dtype="<u2")
    step = (known["high"] - known["low"]) / 65534
    rdm = comparison.tables.rdm(1, "hidden.3")
    assert known["bytes"] == 2
    assert_allclose(known["low"] + codes * step, rdm, rtol=0, atol=step * 0.501)


def test_similarities_are_those_of_the_table(page: str, comparison: ComparisonResult) -> None:
    matrix = np.frombuffer(unpacked(page, "array-similarity-0"), dtype="<f4").reshape(9, 9)
    assert_allclose(matrix.ravel(), comparison.tables["similarity"]["cka"], rtol=1e-6)


def written(tables: Tables, path: Path, command: str = "repsim") -> str:
    write_report(path / "page.html", tables, [], command=command)
    return html.unescape((path / "page.html").read_text())


def test_undefined_results_are_reported(comparison: ComparisonResult, tmp_path: Path) -> None:
    assert "Results that are not defined" not in written(comparison.tables, tmp_path)
    probes = comparison.tables["probes"].copy()
    probes.loc[1, ["status", "message", "accuracy"]] = ["failed", "ValueError: 3 of 9 values are <NaN>.", np.nan]
    cells = ["backprop", "", 38, "hidden.2", 2, "probes", "3 of 9 values are <NaN>."]
    undefined = pd.DataFrame([cells], columns=comparison.tables["undefined"].columns)
    text = written(
        replace(comparison.tables, frames={**comparison.tables.frames, "probes": probes, "undefined": undefined}),
        tmp_path,
    )
    assert "Results that are not defined (their cells are empty):" in text
    assert "backprop, step 38, layer 'hidden.2' has no probe. 3 of 9 values are <NaN>." in text
    assert content(text)["tables"]["probes"]["accuracy"][1] is None


def test_other_measures_are_shown_beside_the_first(comparison: ComparisonResult, tmp_path: Path) -> None:
    table = comparison.tables["similarity"].assign(procrustes=1.0, mine=np.nan)
    text = written(replace(comparison.tables, frames={**comparison.tables.frames, "similarity": table}), tmp_path)
    measures = {measure["name"]: measure for measure in content(text)["measures"]}
    assert list(measures) == ["cka", "procrustes", "mine"]
    assert measures["procrustes"]["words"].startswith("Procrustes distance, a distance from 0 to 1.41:")
    assert np.isnan(np.frombuffer(unpacked(text, "array-similarity-2"), dtype="<f4")).all()


def test_a_run_of_another_trainer_is_reported_with_its_own_settings(
    known_view: Callable[..., View], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    inputs, labels, split = rng.normal(size=(30, 4)), np.arange(30) % 2, np.repeat(["train", "validation", "test"], 10)
    config = {"data": "my birds", "training": ["long"], "lr": None}
    view = known_view("mine", inputs, labels, [np.eye(4)], split=split, config=config)
    result = analyze_run(view.run.path, output=tmp_path / "out", config=AnalysisConfig(distance="euclidean"))
    text = html.unescape((result.tables.folder / "report.html").read_text())
    assert re.findall(r'<figure id="([^"]+)"', text) == FIGURES[:-3]
    assert "my birds" in text
    assert "<th>lr</th>\n      <td>\u2013</td>" in text
    assert "No pictures of the stimuli: the run does not name" in content(text)["stimuli"]["why_not"]


# Tables and charts from outside the package


def test_an_entry_adds_a_table_to_the_page(
    comparison: ComparisonResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def best(tables: Tables) -> pd.DataFrame:
        return tables["probes"].groupby("view", sort=False)[["accuracy"]].max()

    mine = ReportTable(heading="Best <probes>", link="Best", build=best, words="Of all layers.")
    monkeypatch.setitem(TABLES_SHOWN, "best", mine)
    page = written(comparison.tables, tmp_path)
    assert '<section id="best"><h2>Best <probes></h2><p>Of all layers.</p>' in page
    assert '<a href="#best">Best</a>' in page
    assert f"<td>{comparison.tables['probes']['accuracy'][:3].max():.6f}</td>" in page


def test_an_entry_adds_a_chart_to_the_page(
    comparison: ComparisonResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = LayerChart(
        heading="Loss", link="Loss", table="probes", value="log_loss", ylabel="nats", words=lambda tables: "By layer."
    )
    monkeypatch.setitem(CHARTS, "mine", mine)
    monkeypatch.setitem(CHARTS, "nothing", replace(mine, table="undefined"))
    page = written(comparison.tables, tmp_path)
    assert '<div class="chart" data-chart="mine"></div>' in page
    assert content(page)["charts"][1:] == [
        {"name": "mine", "heading": "Loss", "table": "probes", "value": "log_loss", "ylabel": "nats"}
    ]
    assert "#nothing" not in page


# The command


def test_the_page_gives_the_command_that_makes_it_again(comparison: ComparisonResult, tmp_path: Path) -> None:
    page = written(comparison.tables, tmp_path, command="mine 'a b'")
    assert "<code><span>mine</span> <span>'a</span> <span>b'</span></code>" in page  # lines break between words


def test_a_new_setting_of_an_analysis_is_listed_by_itself(comparison: ComparisonResult, tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Extended(AnalysisConfig):
        new_option: float = setting(0.25, help="An option.")

    text = written(replace(comparison.tables, config=Extended()), tmp_path)
    assert re.search(r"<th>new option</th>\s*<td>0.25</td>", text)
    assert re.search(r"<th>Cs</th>\s*<td>0.001, 0.01, 0.1, 1, 10</td>", text)


# Numbers in a page


@pytest.mark.parametrize("n_bytes", [1, 2])
@pytest.mark.parametrize("values", [[], [np.nan], [2.0, 2.0, np.nan], [0.5, np.inf, -3.1, -np.inf, 0.7, np.nan]])
def test_quantised_numbers_are_exact_to_half_a_step(n_bytes: int, values: list[float]) -> None:
    codes, low, high = quantise(values, n_bytes)
    known, missing = np.isfinite(values), 256**n_bytes - 1
    step = (high - low) / (missing - 1)
    assert codes.itemsize == n_bytes
    assert ((codes == missing) == ~known).all()
    assert_allclose(low + codes[known] * step, np.array(values)[known], rtol=0, atol=0.5001 * step)


def test_an_array_of_four_bytes_is_kept_as_it_is() -> None:
    arrays = Arrays()
    arrays.add("x", [[0.1, np.nan]], 4)
    data = zlib.decompress(base64.b64decode(arrays.packed["x"]))
    assert_allclose(np.frombuffer(data, dtype="<f4"), np.float32([0.1, np.nan]))


def test_packed_text_cannot_end_a_script() -> None:
    assert re.fullmatch("[A-Za-z0-9+/=]*", pack_json({"name": "</script><!--"}))


# Which stimuli are shown


def test_all_matrices_together_fit_the_budget() -> None:
    for n_rdms in (1, 30, 300, 800, 20_000):
        n = most_shown(n_rdms)
        assert 2 <= n <= 200
        assert n == 2 or n_rdms * n * (n - 1) // 2 <= RDM_BUDGET
        assert n == 200 or n_rdms * n * (n + 1) // 2 > RDM_BUDGET


def test_shown_stimuli_are_even_over_classes_and_ascending() -> None:
    labels = np.repeat([0, 1, 2, 5], [100, 4, 50, 300])
    shown = choose_shown(labels, 40)
    assert (np.diff(shown) > 0).all()
    assert dict(zip(*np.unique(labels[shown], return_counts=True), strict=True)) == {0: 12, 1: 4, 2: 12, 5: 12}
    assert choose_shown(labels, 1000).tolist() == list(range(len(labels)))


def test_pairs_of_shown_stimuli_are_found_in_a_condensed_matrix() -> None:
    points = np.random.default_rng(0).normal(size=(30, 3))
    shown = np.array([0, 4, 5, 17, 29])
    assert_allclose(pdist(points)[pairs_of(shown, 30)], pdist(points[shown]))


# Stimuli in a plane


def planar(n: int = 40, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(n, 2)) * [3, 1]


def test_mds_recovers_the_distances_of_points_in_a_plane() -> None:
    found = classical_mds(pdist(planar()))
    assert_allclose(pdist(found.points), pdist(planar()), atol=1e-9)
    assert found.fit == pytest.approx(1.0)


def test_mds_leaves_out_stimuli_without_distances_only() -> None:
    distances = squareform(pdist(planar()))
    distances[5] = distances[:, 5] = np.nan
    found = classical_mds(squareform(distances, checks=False))
    assert np.isnan(found.points).any(axis=1).nonzero()[0].tolist() == [5]
    assert_allclose(pdist(np.delete(found.points, 5, 0)), pdist(np.delete(planar(), 5, 0)), atol=1e-9)
    assert np.isnan(classical_mds(np.full(45, np.nan)).points).all(axis=1).sum() >= 9


def test_pca_equals_a_singular_value_decomposition() -> None:
    X = np.random.default_rng(1).normal(size=(30, 50))
    U, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    found = pca(X)
    assert_allclose(np.abs(found.points), np.abs(U[:, :2] * s[:2]), atol=1e-9)
    assert found.fit == pytest.approx((s[:2] ** 2).sum() / (s**2).sum())


@pytest.mark.parametrize("mirror", [1, -1])
def test_a_turned_and_mirrored_plane_is_turned_back(mirror: int) -> None:
    turn = np.array([[np.cos(2.0), -np.sin(2.0)], [np.sin(2.0), np.cos(2.0)]]) @ np.diag([1, mirror])
    assert_allclose(aligned(planar() @ turn + [4, 5], planar()), planar(), atol=1e-9)
    assert_allclose(pdist(aligned(planar(seed=1), planar())), pdist(planar(seed=1)))  # never scaled


def test_alignment_takes_the_stimuli_that_both_have() -> None:
    points, reference = planar() @ np.array([[0, 1], [-1, 0]]), planar()
    points[3], reference[4] = np.nan, np.nan
    found = aligned(points, reference)
    both = np.delete(np.arange(40), [3, 4])
    assert_allclose(found[both], planar()[both], atol=1e-9)


# Pictures of stimuli


def test_pictures_are_those_that_the_run_recorded(runs: Mapping[str, Path]) -> None:
    run = Run.open(runs["backprop"])
    images = images_of(run, np.arange(len(run.stimuli)))
    X = load_dataset("digits").X
    assert images.shape == (len(run.stimuli), 8, 8, 1)
    assert_allclose(images[5].ravel(), X[int(run.stimuli.ids[5])])


def altered(run: Run, monkeypatch: pytest.MonkeyPatch, **data: Any) -> Run:
    config = {**run.config, "data": {**run.config["data"], **data}}
    if "name" in data:
        config["training"] = {**config["training"], "data": data["name"]}
    monkeypatch.setitem(run.info, "config", config)
    return run


def test_data_that_differ_from_the_recorded_give_no_pictures(
    runs: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(runs["backprop"])
    data = load_dataset("digits")
    monkeypatch.setattr(
        "analysis.report.thumbnails.load_dataset", lambda *_: replace(data, X=np.roll(data.X, 1, axis=0))
    )
    sprite, why_not = thumbnails(run, np.arange(3))
    assert sprite is None
    assert why_not == "No pictures of the stimuli: digits does not hold the recorded stimuli (its hash differs)."


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mnist", "a report downloads nothing"),
        ("/gone/mine.npz", "mine.npz"),
        ("nonsense", "Unknown data set"),
        ("xor", "has no examples with the ids of the stimuli|does not hold the recorded stimuli"),
    ],
)
def test_unavailable_data_give_no_pictures_and_the_reason(
    runs: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    sprite, why_not = thumbnails(altered(Run.open(runs["backprop"]), monkeypatch, name=name), np.arange(3))
    assert sprite is None
    assert re.search(reason, why_not)


def test_pictures_of_a_file_are_found_in_the_working_directory(
    known_view: Callable[..., View], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).random((6, 3, 4, 5)).astype(np.float32)
    ids, y = [f"s{index:03d}" for index in range(6)], np.repeat([0, 1], 3)
    config = {"source": {"model": "a:b"}, "data": {"name": "mine.npz", "classes": ["0", "1"]}}
    view = known_view("mine", images, y, [np.eye(5)], config=config)
    np.savez(tmp_path / "mine.npz", X=images, y=y, ids=ids, split=np.full(6, "test"))
    assert "mine.npz is not in the folder" in thumbnails(view.run, np.arange(6))[1]
    monkeypatch.chdir(tmp_path)
    assert_allclose(images_of(view.run, np.arange(6)), np.moveaxis(images, 1, -1))


def test_pictures_of_a_folder_are_found_whatever_the_split(
    known_view: Callable[..., View], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 4, 5, 3)).astype(np.uint8)
    ids, y = [f"{'ab'[k // 3]}/{k}.png" for k in range(6)], np.repeat([0, 1], 3)
    for name, image in zip(ids, pixels, strict=True):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(tmp_path / "photos" / name)
    config = {"source": {"model": "a:b"}, "data": {"name": "photos", "classes": ["a", "b"]}}
    inputs = np.moveaxis(pixels, -1, 1).astype(np.float32) / np.float32(255)
    view = known_view("mine", inputs, y, [np.eye(5)], config=config, ids=ids)
    monkeypatch.chdir(tmp_path)
    assert_allclose(images_of(view.run, np.array([4, 0])), pixels[[4, 0]] / 255, rtol=1e-6)
    PIL.Image.fromarray(pixels[0]).save(tmp_path / "photos" / ids[5])
    assert "photos does not hold the recorded stimuli" in thumbnails(view.run, np.arange(6))[1]
    monkeypatch.setattr("analysis.report.thumbnails._MOST_READ", 5)
    assert "there are more than 5 stimuli" in thumbnails(view.run, np.arange(6))[1]


def test_a_sprite_has_a_small_tile_for_each_image() -> None:
    images = np.zeros((20, 70, 64, 1))
    images[17, :35] = 2.0
    sprite = sprite_of(images)
    assert (sprite.width, sprite.height, sprite.columns) == (22, 24, 16)
    path = base64.b64decode(sprite.source.partition(",")[2])
    sheet = imread(BytesIO(path))[..., :3]
    assert sheet.shape[:2] == (48, 352)
    tile = sheet[24:, 22:44, 0]
    assert (tile[:11].min(), tile[13:].max(), sheet[:24].max()) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(("range_", "expected"), [((-np.inf, np.inf), None), ((-1, 0), None), ((-1, 1), [0, 1])])
def test_similarities_without_an_upper_bound_have_no_range_of_colours(
    monkeypatch: pytest.MonkeyPatch, range_: tuple[float, float], expected: list[float] | None
) -> None:
    monkeypatch.setitem(MEASURES, "gap", replace(Measure.from_function("gap", lambda X, Y: 0.0), range=range_))
    described = describe_measure("gap")
    assert described["range"] == expected
    json.dumps(described, allow_nan=False)
