"""Colours, dashes and markers by which methods are told apart in every figure and in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["MARKERS", "STYLES", "LineStyle", "colours", "method_styles", "step_styles"]

_DASHES: dict[str, Any] = {"solid": "-", "dash": (0, (5, 2)), "dot": (0, (1, 1.5))}  # as matplotlib writes them

# Chosen by a search for the largest smallest difference (in OKLab) between any two colours, as seen with normal vision
# and with each of three kinds of colour blindness; each has a contrast of at least 3 on white and on the dark page.
_COLOURS = ("#0070bd", "#d57c09", "#2fa67d", "#a53cff", "#db0000", "#8b5b59", "#c7009e", "#9b89d2")
# Of the steps of one network, from the first to the last; each has a contrast of at least 3 on both pages.
_OF_STEPS = ("#7a6ad0", "#3b78d8", "#0f8b8d", "#3c9150", "#8f8400", "#c8701a", "#d0456b")
_MARKERS = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "*": "star",
}  # of matplotlib, and the symbols of plotly that look like them


@dataclass(frozen=True)
class LineStyle:
    """Look of the curve of a method.

    Attributes
    ----------
    colour : str
        ``"#rrggbb"``.
    dash : str
        ``"solid"``, ``"dash"`` or ``"dot"``.
    marker, symbol : str
        Marker of matplotlib, and the symbol of plotly that looks like it.
    """

    colour: str
    dash: str
    marker: str
    symbol: str

    @property
    def look(self) -> dict[str, Any]:
        """Options of ``Axes.plot`` that draw this style."""
        return {"color": self.colour, "linestyle": _DASHES[self.dash], "marker": self.marker}


def _styles() -> tuple[LineStyle, ...]:
    """Return every colour with every dash; the marker of a colour is another one with each dash."""
    markers = list(_MARKERS.items())
    return tuple(
        LineStyle(colour, dash, *markers[(place + 3 * turn) % len(markers)])
        for turn, dash in enumerate(_DASHES)
        for place, colour in enumerate(_COLOURS)
    )


STYLES = _styles()
MARKERS = tuple(_MARKERS)


def method_styles(names: Sequence[str] | Mapping[str, LineStyle]) -> dict[str, LineStyle]:
    """Return the style of each method, in the order of the names; beyond 24 names the styles repeat.

    Parameters
    ----------
    names : sequence of str, or dict of str to LineStyle
        Methods in the order in which they first appear in the tables. A name that occurs again keeps its style. Styles
        that were chosen before are returned as they are.

    Returns
    -------
    dict of str to LineStyle

    Examples
    --------
    >>> method_styles(["bp", "sg", "bp"])["sg"]
    LineStyle(colour='#d57c09', dash='solid', marker='s', symbol='square')
    """
    if isinstance(names, Mapping):
        return dict(names)
    return {name: STYLES[place % len(STYLES)] for place, name in enumerate(dict.fromkeys(map(str, names)))}


def step_styles(names: Sequence[str]) -> dict[str, LineStyle]:
    """Return the style of each step of one network: colours follow the steps, and markers differ.

    Parameters
    ----------
    names : sequence of str
        Steps from the first to the last.

    Returns
    -------
    dict of str to LineStyle

    Examples
    --------
    >>> step_styles(["untrained", "step 10"])["step 10"]
    LineStyle(colour='#d0456b', dash='solid', marker='s', symbol='square')
    """
    markers, last = list(_MARKERS.items()), len(_OF_STEPS) - 1
    places = [round(place * last / max(len(names) - 1, 1)) for place in range(len(names))]
    return {
        name: LineStyle(_OF_STEPS[place], "solid", *markers[k % len(markers)])
        for k, (name, place) in enumerate(zip(names, places, strict=True))
    }


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return the colour of each name, for points, bars and curves that dashes do not tell apart; 8 differ."""
    return {name: style.colour for name, style in method_styles(names).items()}
