"""Labels of figures from names: all characters shown or escaped, long names cut, all labels distinct."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.textpath import text_to_path

__all__ = ["cut_names", "family_for", "fit", "printable", "shorten", "verbatim", "width_of"]

_CUT = "\u2026"
_FEWEST = 6  # characters of a cut name
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # categories of characters that have no shape of their own
_MOST_FONTS = 1000  # that are searched for a character
_LIKELY = ("Noto Sans CJK", "Noto Sans", "Noto", "WenQuanYi", "Droid Sans Fallback", "Unifont", "IPA", "Source Han")
_UNSUITABLE = ("Last Resort", "STIX", "cmb", "cme", "cmm", "cmr", "cms", "cmt")
_REGULAR = ("normal", 400, "normal")  # style, weight and stretch
_REFERENCE = 10.0  # points at which widths are measured


def verbatim(name: str) -> str:
    r"""Return a name escaped so that matplotlib shows it literally, without mathematics or hidden legend entries.

    Line breaks, invisible characters and characters without an installed font are shown as escapes.
    """
    shown = printable(name).replace("$", r"\$")
    return " " + shown if shown.startswith("_") else shown


def printable(name: str) -> str:
    """Return a name with escapes for all characters that cannot be drawn, and "(no name)" for an empty name."""
    if not name:
        return "(no name)"
    if name.isascii() and name.isprintable():
        return name
    return "".join(each if _is_drawable(each) else each.encode("unicode_escape").decode("ascii") for each in name)


def shorten(names: Sequence[str], most: int = 28) -> list[str]:
    """Return printable labels of at most about ``most`` characters that differ for different names.

    Long names are cut between their ends. If several names have the same ends, their labels also contain the part in
    which the names first differ, and, if that is not enough, a number. Equal names have equal labels.
    """
    full = {name: printable(name) for name in dict.fromkeys(names)}
    short = {name: _cut(text, max(most, _FEWEST)) for name, text in full.items()}
    for group in _alike(short):
        start = _first_difference([full[name] for name in group])
        short |= {name: _cut(full[name], max(most, _FEWEST), also=start) for name in group}
    for group in _alike(short):
        short |= {name: f"{short[name]} ({number})" for number, name in enumerate(group, start=1)}
    return [short[name] for name in names]


def _alike(short: dict[str, str]) -> list[list[str]]:
    """Return groups of names that have the same label."""
    repeated = [label for label, count in Counter(short.values()).items() if count > 1]
    return [[name for name, label in short.items() if label == each] for each in repeated]


def _first_difference(texts: Sequence[str]) -> int:
    columns = enumerate(zip(*texts, strict=False))
    return next((k for k, column in columns if len(set(column)) > 1), min(map(len, texts)))


def _cut(text: str, most: int, also: int | None = None) -> str:
    """Return both ends of a text, and the part from a position, with an ellipsis for each omitted part."""
    if len(text) <= most:
        return text
    parts = 2 if also is None else 3
    size = (most - parts + 1) // parts
    spare = most - parts + 1 - parts * size
    kept = {*range(size + spare), *range(len(text) - size, len(text))}
    if also is not None:
        kept |= set(range(also, min(also + size, len(text))))
    gaps = [_CUT if k and k - 1 not in kept else "" for k in sorted(kept)]
    return "".join(gap + text[k] for gap, k in zip(gaps, sorted(kept), strict=True))


def fit(names: Sequence[str], points: float, size: float, most: int = 28) -> list[str]:
    """Return labels as `shorten` does, cut to a width in points at a font size, but to no less than six characters."""
    short = dict(zip(names, shorten(names, most), strict=True))
    wide = [name for name, label in short.items() if width_of([label]) * size > points]
    while most > _FEWEST and (widest := width_of(short[name] for name in wide) * size) > points:
        most = max(_FEWEST, min(most - 2, int(most * points / widest) + 1))
        short |= dict(zip(wide, shorten(wide, most), strict=True))
    if len(set(short.values())) < len(short):  # a cut label is the same as a whole one
        return shorten(names, most)
    return [short[name] for name in names]


def cut_names(names: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Return the whole name for each label that differs from its name."""
    return {label: name for name, label in zip(names, labels, strict=True) if label != printable(name)}


def width_of(labels: Iterable[str]) -> float:
    """Return the width of the widest label in units of the font size, 0 if there is none."""
    return max((_width(label) for label in dict.fromkeys(labels)), default=0.0)


def family_for(labels: Iterable[str]) -> list[str]:
    """Return font families that contain all characters of the labels: those of rcParams, and others if needed."""
    given = list(mpl.rcParams["font.family"])
    unusual = dict.fromkeys(each for each in "".join(labels) if not each.isascii() and not _is_usual(each))
    more = [_font_with(each) for each in unusual]
    return list(dict.fromkeys([*given, *(name for name in more if name)]))


@lru_cache(maxsize=4096)
def _width(label: str) -> float:
    font = FontProperties(family=family_for([label]), size=_REFERENCE)
    width, _, _ = text_to_path.get_text_width_height_descent(label, font, ismath=False)
    return float(width) / _REFERENCE


def _is_drawable(character: str) -> bool:
    if character.isascii():
        return character.isprintable()
    if unicodedata.category(character) in _UNSEEN:
        return False
    return _is_usual(character) or _font_with(character) is not None


def _is_usual(character: str) -> bool:
    """Return whether the fonts of rcParams have a character."""
    return _is_in(tuple(mpl.rcParams["font.family"]), character)


@lru_cache(maxsize=65536)
def _is_in(families: tuple[str, ...], character: str) -> bool:
    paths = [fontManager.findfont(FontProperties(family=[family])) for family in families]
    return any(_covers(path, character) for path in paths)


@lru_cache(maxsize=4096)
def _font_with(character: str) -> str | None:
    """Return the family of an installed font that has a character."""
    return next((family for family, path in _regular_fonts().items() if _covers(path, character)), None)


@lru_cache(maxsize=1)
def _regular_fonts() -> dict[str, str]:
    """Return the file of the regular font of each family, starting with families likely to have many scripts."""
    regular = [each for each in fontManager.ttflist if (each.style, each.weight, each.stretch) == _REGULAR]
    paths = {each.name: each.fname for each in regular if not each.name.startswith(_UNSUITABLE)}
    order = {name: next((k for k, known in enumerate(_LIKELY) if known in name), len(_LIKELY)) for name in paths}
    return {name: paths[name] for name in sorted(paths, key=lambda name: (order[name], name))[:_MOST_FONTS]}


def _covers(path: str, character: str) -> bool:
    try:
        return bool(get_font(path).get_char_index(ord(character)))
    except (OSError, RuntimeError):  # a font that cannot be opened has no characters
        return False
