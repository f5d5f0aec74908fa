"""Labels of figures: literal, drawable, short, and different where names differ."""

import warnings

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from repsim.similarity.drawing import labels as module
from repsim.similarity.drawing.labels import cut_names, family_for, fit, printable, shorten, verbatim, width_of

HOSTILE = [
    *("cost$_$in", "$", "a$b$c$", "_hidden", "_", "a\\b", "\\$", "x^{2}", "{", "100 %", "a#b&c~d", "<script>&amp;"),
    *("", " ", "two\nlines", "tab\tbed", "bell\a", "\u202egnirts", "zero\u200bwidth", "\ud800", "\ue000"),
    *("\u4e2d\u6587\u5c42", "\U0001f680", "\u05e2\u05d1\u05e8\u05d9\u05ea", "\u0627\u0644", "e\u0301", "x" * 300),
]


def drawn(label: str, **font: object) -> Figure:
    """Draw a label as a title, a tick, a legend's entry and an axis label; warnings are errors."""
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot(title=label, xlabel=label)
    ax.plot([0, 1], label=label)
    ax.set_xticks([0], [label])
    ax.legend()
    for text in (ax.title, ax.xaxis.label, *ax.get_xticklabels(), *ax.get_legend().get_texts()):
        text.set(family=family_for([label]))
    figure.canvas.draw()
    return figure


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_is_drawn_literally_and_without_a_warning(name: str) -> None:
    label = verbatim(shorten([name])[0])
    ax = drawn(label).axes[0]
    assert len(ax.get_legend().get_texts()) == 1
    text, is_math = ax.title._preprocess_math(label)
    assert (text.strip(), is_math) == (shorten([name])[0].strip(), False)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("layer.1", "layer.1"),
        ("two\nlines", "two\\nlines"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("", "(no name)"),
        ("caf\u00e9", "caf\u00e9"),
        ("\u05e2\u05d1", "\u05e2\u05d1"),  # of which the default font has the characters
    ],
)
def test_invisible_characters_are_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_without_a_font_for_it_a_character_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_font_with", lambda character: None)
    assert printable("\u4e2d_1") == "\\u4e2d_1"
    assert family_for(["\u4e2d"]) == list(mpl.rcParams["font.family"])


def test_with_a_font_for_it_a_character_is_shown_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_font_with", lambda character: "Some CJK")
    assert printable("\u4e2d_1") == "\u4e2d_1"
    assert family_for(["x", "\u4e2d_1"]) == [*mpl.rcParams["font.family"], "Some CJK"]


def test_fonts_that_have_a_character_are_found_among_the_installed() -> None:
    with mpl.rc_context({"font.family": ["cmss10"]}):  # a font without Hebrew
        family = family_for(["\u05e2"])
        assert family[0] == "cmss10"
        assert "DejaVu" in family[1]
        drawn("\u05e2")
    assert module._font_with("\U0010fffe") is None


# Short


@pytest.mark.parametrize("most", [6, 12, 20, 28])
def test_long_names_keep_both_ends(most: int) -> None:
    (label,) = shorten(["encoder_0_" + "attention_" * 12 + "output"], most)
    assert len(label) <= most
    head, tail = label.split("\u2026")
    assert "encoder_0_attention".startswith(head)
    assert "attention_output".endswith(tail)
    assert abs(len(head) - len(tail)) <= 1


def test_names_that_differ_in_the_middle_show_where() -> None:
    labels = shorten([f"{'a' * 50}{k}{'b' * 50}" for k in range(12)], 20)
    assert len(set(labels)) == 12
    assert all(f"\u2026{k}b" in label for k, label in enumerate(labels))


def test_names_that_differ_in_length_alone_are_numbered() -> None:
    labels = shorten(["x" * n for n in (100, 101, 102)], 12)
    assert [label[-4:] for label in labels] == [" (1)", " (2)", " (3)"]


def test_equal_names_have_equal_labels() -> None:
    assert len(set(shorten(["y" * 100, "y" * 100, "z"], 10))) == 2


@given(st.lists(st.text(max_size=60), max_size=12), st.integers(6, 40))
def test_labels_differ_where_names_do(names: list[str], most: int) -> None:
    labels = shorten(names, most)
    assert len(labels) == len(names)
    assert len(set(labels)) == len(set(names))
    assert all(len(label) <= most + 9 for label in labels)  # "(no name)" and numbers


def test_labels_fit_where_there_is_room() -> None:
    names = ["W" * 80, "i" * 80, "short"]
    for points in (60.0, 120.0):
        labels = fit(names, points, 8.0)
        assert 8.0 * width_of(labels) <= points
        assert labels[2] == "short"
    assert len(fit(names, 60.0, 8.0)[0]) < len(fit(names, 120.0, 8.0)[0])


def test_a_name_that_fits_is_not_cut_for_the_sake_of_others() -> None:
    labels = fit(["W" * 80, "hidden layer 12"], 75.0, 9.0)
    assert labels[1] == "hidden layer 12"
    assert len(labels[0]) < 15


def test_a_label_is_not_that_of_a_name_that_fits() -> None:
    (cut, _), whole = fit(["W" * 80, "i"], 60.0, 8.0), "i"
    labels = fit(["W" * 80, cut, whole], 60.0, 8.0)
    assert len(set(labels)) == 3


def test_labels_do_not_get_shorter_than_six_characters() -> None:
    assert [len(label) for label in fit(["W" * 80], 1.0, 10.0)] == [6]


def test_the_key_has_only_names_that_were_cut() -> None:
    assert cut_names(["fc", "x" * 50], shorten(["fc", "x" * 50], 9)) == {"xxxx\u2026xxxx": "x" * 50}


def test_no_label_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in HOSTILE:
            width_of([verbatim(name)])
