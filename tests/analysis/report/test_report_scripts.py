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

from analysis.report.packing import Arrays
from analysis.report.page import template

PURE = ("data", "dom", "files", "curves", "matrix")
# What these files need of a browser: an element keeps its text, and a Blob its bytes.
BROWSER = """
const matchMedia = () => ({ matches: false });
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
    jpeg = [0xFF, 0xD8, 1, 2, 3, 0xFF, 0xD9]
    pdf = bytes(
        js("pdfOf(Uint8Array.from(a), b, c).bytes", jpeg, {"width": 30, "height": 20}, {"width": 800, "height": 400})
    )
    assert pdf.startswith(b"%PDF-1.4\n")
    assert pdf.endswith(b"%%EOF\n")
    assert b"/MediaBox [0 0 600 300]" in pdf
    assert b"/Width 30 /Height 20" in pdf
    assert b"/Length 7 >>\nstream\n" + bytes(jpeg) + b"\nendstream" in pdf
    start = int(pdf.rsplit(b"startxref\n", 1)[1].split()[0])
    assert pdf[start:].startswith(b"xref\n0 6\n")
    places = re.findall(rb"(\d{10}) 00000 n", pdf)
    assert len(places) == 5
    for number, place in enumerate(places, start=1):
        assert pdf[int(place) :].startswith(b"%d 0 obj" % number)


# Curves


def test_names_are_literal_text_for_the_library_that_draws(js: Any) -> None:
    assert js("verbatim('<b>&amp;')") == "&lt;b&gt;&amp;amp;"


def test_a_band_is_interrupted_where_it_is_unknown(js: Any) -> None:
    points = [{"x": x, "low": None if x == 2 else x - 1, "high": x + 1} for x in (1, 2, 3, 4)]
    traces = js("bandTraces(a, '#0173b2')", {"points": points})
    assert [trace["x"] for trace in traces] == [[1], [1], [3, 4], [3, 4]]
    assert traces[1]["fill"] == "tonexty"
    assert traces[1]["fillcolor"] == "rgba(1,115,178,0.16)"


def test_networks_differ_in_colour_and_their_steps_in_dashes(js: Any) -> None:
    views = [{"network": name, "label": str(k)} for k, name in enumerate("aab")]
    js("(content = a, 0)", {"views": views})
    styles = js("viewStyles()")
    assert [style["colour"] for style in styles] == [0, 0, 1]
    assert [style["dash"] for style in styles] == [1, 0, 0]  # the last step of each network is solid


def test_ticks_are_few_and_whole_or_logarithmic(js: Any) -> None:
    assert js("wholeTicks([1, 80])") == {"dtick": 10, "tick0": 1, "tickformat": "d"}
    assert (
        js("logarithmicTicks(0.2, 3).tickvals")
        == [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50][: len(js("logarithmicTicks(0.2, 3).tickvals"))]
    )
    assert len(js("layerTicks(a, 1).tickvals", [f"hidden.{k}" for k in range(1, 101)])) == 10
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
    assert js("matrixHeight(1000)") == 500
    assert len(js("crosshair(1, 2, 3, 4, '#e0007a')")) == 3
