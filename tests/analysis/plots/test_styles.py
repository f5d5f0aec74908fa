"""The palette: every pair of styles can be told apart, also by people with colour blindness and on both pages."""

import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

import analysis.report
from analysis.plots.styles import MARKERS, STYLES, colours, method_styles, step_styles

# Linear RGB as seen by people without one kind of cone: Machado, Oliveira and Fernandes, "A physiologically-based model
# for simulation of color vision deficiency", IEEE TVCG 15 (2009), severity 1.
SEEN = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# OKLab, where equal distances look equally different: Ottosson, "A perceptual color space for image processing", 2020
CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
OPPONENT = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]
TOLD_APART = 0.08  # about four times the smallest difference that is seen
COLOURS = list(dict.fromkeys(style.colour for style in STYLES))


def linear(colour: str) -> np.ndarray:
    encoded = np.array(to_rgb(colour))
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def oklab(colour: str, seen: Sequence[Sequence[float]]) -> np.ndarray:
    return OPPONENT @ np.cbrt(CONES @ np.clip(seen @ linear(colour), 0.0, 1.0))


def contrast(colour: str, other: str) -> float:
    """Contrast ratio of WCAG 2.1."""
    low, high = sorted(float(linear(each) @ [0.2126, 0.7152, 0.0722]) for each in (colour, other))
    return (high + 0.05) / (low + 0.05)


def dark_page() -> str:
    css = Path(analysis.report.__file__).parent / "templates" / "report" / "report.css"
    return re.search(r'data-scheme="dark"\].*?--page: (#\w{6})', css.read_text(), re.DOTALL)[1]


@pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN)
def test_every_two_colours_are_told_apart(seen: Sequence[Sequence[float]]) -> None:
    assert len(COLOURS) == 8
    apart = {(a, b): np.linalg.norm(oklab(a, seen) - oklab(b, seen)) for a, b in combinations(COLOURS, 2)}
    assert min(apart.values()) > TOLD_APART, min(apart, key=apart.get)


def test_the_simulation_finds_colours_that_people_confuse() -> None:
    red, green = ([oklab(colour, SEEN[kind]) for kind in SEEN] for colour in ("#b04040", "#607a20"))
    normal, _, deuteranopia, _ = (np.linalg.norm(a - b) for a, b in zip(red, green, strict=True))
    assert deuteranopia < TOLD_APART < normal


@pytest.mark.parametrize("colour", [*COLOURS, *(style.colour for style in step_styles("abcdefg").values())])
def test_every_colour_has_contrast_on_both_pages(colour: str) -> None:
    assert contrast(colour, "#ffffff") >= 3.0
    assert contrast(colour, dark_page()) >= 3.0


def test_there_are_24_styles_that_differ_in_colour_or_in_dash_and_marker() -> None:
    assert len(set(STYLES)) == len(STYLES) == 24
    for a, b in combinations(STYLES, 2):
        assert a.colour != b.colour or (a.dash != b.dash and a.marker != b.marker and a.symbol != b.symbol)


def test_matplotlib_draws_every_style() -> None:
    drawn = [Line2D([0, 1], [0, 1], **style.look) for style in STYLES]
    assert [(line.get_color(), line.get_marker()) for line in drawn] == [(each.colour, each.marker) for each in STYLES]
    assert len({str(line._unscaled_dash_pattern) for line in drawn}) == 3


def test_styles_follow_the_order_of_methods_and_repeat_beyond_24() -> None:
    names = [f"method {k}" for k in range(30)]
    styles = method_styles(["a", "b", "a", "c"])
    assert list(styles.values()) == list(STYLES[:3])
    assert list(method_styles(names).values()) == [*STYLES, *STYLES[:6]]


def test_colours_and_markers_are_those_of_the_styles() -> None:
    assert colours(["a", "b"]) == {"a": STYLES[0].colour, "b": STYLES[1].colour}
    assert list(MARKERS) == [style.marker for style in STYLES[:8]]


def test_styles_of_steps_run_from_one_colour_to_another_with_markers_in_turn() -> None:
    few, many = step_styles(["a", "b", "c"]), list(step_styles([f"step {k}" for k in range(20)]).values())
    assert [few[name].colour for name in "ac"] == [many[0].colour, many[-1].colour]
    assert len({style.colour for style in many}) == 7
    assert [style.marker for style in many[:8]] == list(MARKERS)
    assert method_styles(few) == few
