"""The scripts of the page in an engine without a browser: decoding, CSV, PDF, names, curves, matrices."""

import base64
import csv
import io
import json
import re
import zlib
from typing import Any

import numpy as np
import pytest
from py_mini_racer import MiniRacer
from scipy import stats

from analysis.report.packing import Arrays
from analysis.report.page import template

PURE = ("data", "dom", "files", "pdf", "methods", "curves", "matrix")
# What these files need of a browser: an element keeps its text, and a Blob its bytes.
BROWSER = """
const matchMedia = () => ({ matches: false });
const EXPORT = { width: 840, height: 560, scale: 3 };
const utf8 = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (byte) => byte.charCodeAt(0));
class TextEncoder { encode(text) { return utf8(text); } }
class TextDecoder { decode(bytes) { return decodeURIComponent(escape(String.fromCharCode(...bytes))); } }
class Blob {
  constructor(parts) { this.bytes = parts.flatMap((part) => [...(typeof part === "string" ? utf8(part) : part)]); }
}
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
function atob(text) {
  let bits = "";
  for (const letter of text.replace(/=+$/, "")) bits += LETTERS.indexOf(letter).toString(2).padStart(6, "0");
  return (bits.match(/[01]{8}/g) ?? []).map((byte) => String.fromCharCode(parseInt(byte, 2))).join("");
}
const encoded = (value) => JSON.stringify(value, (_, v) =>
  ArrayBuffer.isView(v) ? [...v].map((x) => (Number.isFinite(x) ? x : null)) : Number.isNaN(v) ? null : v);
"""


@pytest.fixture(scope="module")
def engine() -> Any:
    context = MiniRacer()
    context.eval(BROWSER + "\n".join(template(f"report/{name}.js") for name in PURE))
    return context


@pytest.fixture
def js(engine: Any) -> Any:
    """Return the value of an expression, as JSON; NaN is null. Arguments are set as variables a, b, ..."""

    def value(expression: str, *arguments: Any) -> Any:
        names = ", ".join("abcd"[: len(arguments)])
        values = ", ".join(json.dumps(each) for each in arguments)
        return json.loads(engine.eval(f"encoded((({names}) => {expression})({values}))"))

    return value


# Data


def with_arrays(engine: Any, arrays: Arrays) -> None:
    """Give the script arrays; what a browser inflates is inflated here."""
    raw = {f"array-{key}": list(zlib.decompress(base64.b64decode(data))) for key, data in arrays.packed.items()}
    engine.eval(
        f"content = {json.dumps({'arrays': arrays.index})}; unpacked.clear(); globalThis.raw = {json.dumps(raw)}; "
        "inflated = async (id) => Uint8Array.from(raw[id]);"
    )


@pytest.mark.parametrize("n_bytes", [1, 2, 4])
def test_packed_arrays_are_decoded_to_the_numbers_that_were_packed(engine: Any, n_bytes: Any) -> None:
    values = np.array([-1.5, 0.0, 0.25, np.nan, 7.0])
    arrays = Arrays()
    arrays.add("x", values, n_bytes)
    with_arrays(engine, arrays)
    decoded = np.array(json.loads(engine.eval("numbers('x').then(encoded)").get()), dtype=float)
    step = 8.5 / (256**n_bytes - 2) if n_bytes < 4 else 0.0
    np.testing.assert_allclose(decoded, values, rtol=1e-7, atol=0.5001 * step)


def test_base64_is_decoded_to_its_bytes(js: Any) -> None:
    data = bytes(range(256))
    assert js("bytesOf(a)", base64.b64encode(data).decode()) == list(data)


def test_a_condensed_matrix_is_made_square_and_an_undefined_stimulus_has_no_distance_to_itself(js: Any) -> None:
    assert js("square(a, 3)", [1.0, 2.0, 3.0]) == [[0, 1, 2], [1, 0, 3], [2, 3, 0]]
    assert js("square([NaN, NaN, 3], 3)") == [[None, None, None], [None, 0, 3], [None, 3, 0]]


def test_tables_become_rows(js: Any) -> None:
    js("(content = a, 0)", {"tables": {"probes": {"view": ["a", "b"], "accuracy": [0.5, None]}}})
    assert js("rowsOf('probes')") == [{"view": "a", "accuracy": 0.5}, {"view": "b", "accuracy": None}]
    assert js("rowsOf('training')") == []


def test_a_range_leaves_out_what_is_missing_and_defaults_to_zero_and_one(js: Any) -> None:
    assert js("rangeOf([3, NaN, -2])") == [-2, 3]
    assert js("rangeOf([NaN])") == [0, 1]


@pytest.mark.parametrize(
    ("names", "short"),
    [(["hidden.1", "hidden.2"], ["1", "2"]), (["a.1", "b.1"], ["a.1", "b.1"]), (["x", "y"], ["x", "y"])],
)
def test_a_shared_prefix_of_layer_names_is_left_out(js: Any, names: list[str], short: list[str]) -> None:
    assert js("shortNames(a)", names) == short


# Files


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (None, ""),
        (True, "True"),
        (0.1, "0.1"),
        (-3, "-3"),
        ("plain", "plain"),
        ("=1+1", "'=1+1"),
        ("@cmd", "'@cmd"),
        ('a "b", c', '"a ""b"", c"'),
        ("two\nlines", '"two\nlines"'),
    ],
)
def test_a_field_of_csv_is_quoted_and_never_a_formula(js: Any, value: Any, field: str) -> None:
    assert js("field(a)", value) == field


def test_saved_csv_is_read_back(js: Any) -> None:
    table = {"columns": ["view", "accuracy"], "rows": [['a, "b"\n', 0.123456789012345], ["c", None]]}
    name, kind, text = js(
        "(() => { let kept; save = (...all) => { kept = all; }; saveCsv('my table', a); return kept; })()", table
    )
    assert (name, kind) == ("my-table.csv", "text/csv")
    assert list(csv.reader(io.StringIO(text))) == [["view", "accuracy"], ['a, "b"\n', "0.123456789012345"], ["c", ""]]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rdm-a, hidden.1", "rdm-a-hidden.1.png"),
        ("../../etc", "etc.png"),
        ("", "chart.png"),
        ("x" * 300, "x" * 100 + ".png"),
    ],
)
def test_file_names_are_safe_on_any_system(js: Any, text: str, name: str) -> None:
    assert js("fileName(a, 'png')", text) == name


def test_urls_of_both_kinds_are_decoded(js: Any) -> None:
    assert bytes(js("bytesOfUrl('data:image/png;base64,iVBORw==')")) == b"\x89PNG"
    assert bytes(js("bytesOfUrl('data:image/svg+xml,%3Csvg%3E')")) == b"<svg>"


def test_a_pdf_has_one_page_of_the_given_size_and_a_true_table_of_objects(js: Any) -> None:
    page = {"lines": ["0 0 m"], "pictures": [{"width": 2, "height": 1, "data": [1, 2, 3]}]}
    pdf = bytes(
        js("pdfOf({ ...a, opacities: new Map([['0.5 1', 'G0']]) }, b).bytes", page, {"width": 800, "height": 400})
    )
    assert pdf.startswith(b"%PDF-1.4\n")
    assert pdf.endswith(b"%%EOF\n")
    assert b"/MediaBox [0 0 600 300]" in pdf
    assert b"/G0 << /ca 0.5 /CA 1 >>" in pdf
    assert b"/Width 2 /Height 1" in pdf
    start = int(pdf.rsplit(b"startxref\n", 1)[1].split()[0])
    assert pdf[start:].startswith(b"xref\n0 8\n")
    places = re.findall(rb"(\d{10}) 00000 n", pdf)
    assert len(places) == 7
    for number, place in enumerate(places, start=1):
        assert pdf[int(place) :].startswith(b"%d 0 obj" % number)


@pytest.mark.parametrize(
    ("path", "operators"),
    [
        ("M1,2L3,4Z", "1 2 m\n3 4 l\nh"),
        ("m1 2 3 4h-1v.5", "1 2 m\n4 6 l\n3 6 l\n3 6.5 l"),  # relative, and a move that goes on as a line
        ("M0,0C1,1,2,1,3,0S5,-1,6,0", "0 0 m\n1 1 2 1 3 0 c\n4 -1 5 -1 6 0 c"),
        ("M0,0Q3,3,6,0", "0 0 m\n2 2 4 2 6 0 c"),
        ("M1e1,0", "10 0 m"),
    ],
)
def test_a_path_is_drawn_by_the_operators_of_a_pdf(js: Any, path: str, operators: str) -> None:
    assert js("pathOperations(a)", path) == operators


def test_an_arc_becomes_curves_on_its_circle(js: Any) -> None:
    curves = js("arcCurves(5, 0, 5, 5, 0, 1, 1, -5, 0)")  # half a circle
    assert len(curves) == 2
    np.testing.assert_allclose([curve[4:] for curve in curves], [[0, 5], [-5, 0]], atol=1e-9)
    start = np.array([5.0, 0.0])
    for curve in np.array(curves).reshape(-1, 3, 2):
        middle = (start + 3 * curve[0] + 3 * curve[1] + curve[2]) / 8
        assert np.hypot(*middle) == pytest.approx(5, abs=2e-3)
        start = curve[2]
    assert js("pathCommands('M7,0A7,7 0 11-7,0')[1]") == ["A", [7, 7, 0, 1, 1, -7, 0]]  # flags without a space


def test_text_of_a_pdf_escapes_the_letters_that_its_font_lacks(js: Any) -> None:
    assert bytes.fromhex(js("pdfText(a)", "R² (−1)")[1:-1]) == b"R\xb2 (\x961)"
    assert bytes.fromhex(js("pdfText(a)", "中")[1:-1]) == b"\\u4e2d"


# Curves


def test_names_are_literal_text_for_the_library_that_draws(js: Any) -> None:
    assert js("verbatim('<b>&amp;')") == "&lt;b&gt;&amp;amp;"


def test_a_band_is_interrupted_where_it_is_unknown(js: Any) -> None:
    points = [{"x": x, "low": None if x == 2 else x - 1, "high": x + 1} for x in (1, 2, 3, 4)]
    traces = js("bandTraces(a, '#0173b2')", {"points": points})
    assert [trace["x"] for trace in traces] == [[1, 1], [3, 4], [3, 4]]
    assert (traces[0]["y"], traces[0]["line"]["width"]) == ([0, 2], 2)  # the band of a point alone
    assert traces[2]["fill"] == "tonexty"
    assert traces[2]["fillcolor"] == "rgba(1,115,178,0.16)"


STYLE = {"colour": "#0070bd", "dash": "solid", "symbol": "circle"}


def with_views(engine: Any, *views: tuple[str, str, str, int]) -> list[str]:
    """Give the script views (label, network, method, step), and return their labels."""
    names = ("label", "network", "method", "step")
    named = [dict(zip(names, view, strict=True)) for view in views]
    styles = {name: {**STYLE, "colour": f"#00000{k}"} for k, view in enumerate(views) for name in (view[2], view[0])}
    engine.eval(f"content = {json.dumps({'views': named, 'styles': styles})}; networks.length = 0; collectNetworks();")
    return [label for label, *_ in views]


CURVES = "new MethodCurves(a.map(([view, x, y]) => ({ view, x, y })), ({ x, y }) => ({ x, y }))"


def test_networks_of_a_method_are_one_line_with_its_interval_and_shown_singly_on_request(engine: Any, js: Any) -> None:
    labels = with_views(engine, *[(f"sg{k}", f"sg{k}", "sg", 9) for k in range(3)], ("bp", "bp", "bp", 9))
    rows = [[label, x, k + x] for k, label in enumerate(labels) for x in (0, 1)]
    sg, bp = js(f"{CURVES}.curves()", rows)
    assert (sg["name"], [point["y"] for point in sg["points"]]) == ("sg (3 networks)", [1, 2])
    half = 4.303 / np.sqrt(3)  # Student's t with two degrees of freedom, and a standard deviation of 1
    np.testing.assert_allclose([sg["points"][0]["low"], sg["points"][0]["high"]], [1 - half, 1 + half], rtol=1e-9)
    assert bp["name"] == "bp"
    singly = js(f"(() => {{ const c = {CURVES}; c.areSeedsShown = true; return c.curves(); }})()", rows)
    assert [curve["name"] for curve in singly] == ["sg0", "sg1", "sg2", "sg (3 networks)", "bp"]
    assert [bool(curve.get("isFaint")) for curve in singly] == [True, True, True, False, False]


def test_a_mean_is_missing_where_one_network_has_no_value(engine: Any, js: Any) -> None:
    labels = with_views(engine, *[(f"sg{k}", f"sg{k}", "sg", 9) for k in range(3)])
    (curve,) = js(f"{CURVES}.curves()", [[label, 0, None if k == 1 else k] for k, label in enumerate(labels)])
    assert curve["points"][0]["y"] is None


def test_the_last_step_of_each_network_is_shown_first(engine: Any, js: Any) -> None:
    views = [(f"{name}, step {step}", name, name, step) for name in "ab" for step in (0, 5 if name == "a" else 7)]
    labels = with_views(engine, *views)
    rows = [[label, 0, k] for k, label in enumerate(labels)]
    assert [curve["points"][0]["y"] for curve in js(f"{CURVES}.curves()", rows)] == [1, 3]
    assert js(f"{CURVES}.stepTexts()", rows) == ["step 0", "step 5", "step 7", "last step of each"]
    first = js(f"(() => {{ const c = {CURVES}; c.step = 0; return c.curves(); }})()", rows)
    assert [curve["points"][0]["y"] for curve in first] == [0, 2]


def test_networks_with_one_step_each_have_no_step_to_choose(engine: Any, js: Any) -> None:
    labels = with_views(engine, ("a", "a", "a", 5), ("b", "b", "b", 7))
    rows = [[label, 0, k] for k, label in enumerate(labels)]
    assert js(f"{CURVES}.stepTexts()", rows) == [""]
    assert [curve["name"] for curve in js(f"{CURVES}.curves()", rows)] == ["a", "b"]


def test_every_step_of_a_single_network_is_a_curve_of_its_own_colour(engine: Any, js: Any) -> None:
    labels = with_views(engine, *[(f"step {k}", "net", "net", k) for k in range(3)])
    curves = js(f"{CURVES}.curves()", [[label, 0, k] for k, label in enumerate(labels)])
    assert [curve["name"] for curve in curves] == labels
    assert len({curve["colour"] for curve in curves}) == 3


@pytest.mark.parametrize("df", [1, 5, 20, 21, 60, 1000])
def test_quantiles_are_those_of_student(js: Any, df: int) -> None:
    assert js("studentQuantile(a)", df) == pytest.approx(stats.t.ppf(0.975, df), abs=2e-3)


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.9, 1.1), (0.0, -0.05, 0.05), (200.0, 180.0, 220.0)])
def test_a_constant_curve_lies_in_the_middle_of_a_sensible_axis(js: Any, value: float, low: float, high: float) -> None:
    curves = [{"points": [{"y": value}, {"y": value * (1 + 1e-9)}]}]
    np.testing.assert_allclose(js("roomyRange(a, false, [])", curves), [low, high], rtol=1e-6)


def test_a_saved_picture_is_as_high_as_its_legend(js: Any) -> None:
    assert js("exportSize(3, { width: 840, height: 560 }).height") == 560
    assert js("exportSize(100, { width: 840, height: 560 }).height") == 2090


def test_ticks_are_few_and_whole_or_logarithmic(js: Any) -> None:
    assert js("wholeTicks([1, 80])") == {"dtick": 10, "tick0": 0, "tickformat": "d"}
    assert js("wholeTicks([1, 9])") == {"dtick": 1, "tick0": 1, "tickformat": "d"}
    assert (
        js("logarithmicTicks(0.2, 3).tickvals")
        == [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50][: len(js("logarithmicTicks(0.2, 3).tickvals"))]
    )
    ticks = js("layerTicks(a, 1)", [f"hidden.{k}" for k in range(1, 201)])
    assert ticks["ticktext"] == ["1", *(str(k) for k in range(20, 201, 20))]
    assert js("layerTicks(a, 1).tickvals", [f"hidden.{k}" for k in range(1, 13)]) == [1, 3, 5, 7, 9, 11]
    assert js("layerTicks(a, 1)", ["hidden.1", "hidden.2"]) == {
        "title": "hidden layer",
        "tickvals": [1, 2],
        "ticktext": ["1", "2"],
    }


def test_the_range_of_curves_has_room_and_reaches_a_level(js: Any) -> None:
    curves = [{"points": [{"y": 0.2, "low": 0.1, "high": 0.3}, {"y": None}]}]
    low, high = js("roomyRange(a, false, [0])", curves)
    assert low < 0.0 < 0.3 < high


def test_long_names_keep_both_ends_and_stay_different(js: Any) -> None:
    assert js("shortened('encoder.layer.11.attention.output')") == "encoder.lay\u2026ion.output"
    names = [f"encoder.layer.{k}.attention.output" for k in (11, 12)]
    assert js("shortenedAll(a)", names) == ["encoder.lay\u2026ion.output (1)", "encoder.lay\u2026ion.output (2)"]


# Matrices


@pytest.mark.parametrize(
    ("keys", "is_upward", "place"),
    [
        (["ArrowDown"], False, [0, 0]),  # the first key shows the cursor where it is
        (["ArrowDown", "ArrowDown", "ArrowRight"], False, [1, 1]),
        (["ArrowUp", "ArrowUp"], True, [1, 0]),
        (["End", "End"], False, [0, 3]),
        (["ArrowLeft", "ArrowLeft"], False, [0, 0]),  # and it stays inside
    ],
)
def test_arrow_keys_move_the_cursor_within_the_matrix(
    js: Any, keys: list[str], is_upward: bool, place: list[int]
) -> None:
    walk = "(() => { const c = new Cursor(); a.forEach((key) => c.press(key, 3, 4, b)); return [c.row, c.column]; })()"
    assert js(walk, keys, is_upward) == place


def test_other_keys_are_left_to_the_browser(js: Any) -> None:
    assert js("new Cursor().press('Tab', 3, 3, false)") is False


def test_a_narrow_heat_map_has_its_colour_bar_above(js: Any) -> None:
    bar = js("heatmap([[1]], [0, 1], 'CKA', THEMES.light, MAGMA, true).colorbar")
    assert (bar["orientation"], bar["title"]) == ("h", {"text": "CKA", "side": "top"})
    assert js("isNarrow(459)") is True
    assert js("[matrixHeight(1000), matrixHeight(400)]") == [1000, 510]  # enough for a square as wide, and its axes
    assert len(js("crosshair(1, 2, 3, 4, '#e0007a')")) == 3
