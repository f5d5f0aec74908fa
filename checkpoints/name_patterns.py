"""Patterns of dotted names: ``*`` matches within a part, ``**`` across parts, ``?`` one character."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

__all__ = ["choose_names", "name_expression", "no_match"]


def choose_names(names: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the names of recorded layers that match any of the patterns, in their order.

    A pattern matches a whole name, or the name without its ``#call``, ``:input`` and ``[path]``.

    Examples
    --------
    >>> choose_names(["hidden.1", "hidden.2", "lstm[0]"], ["*.2", "lstm"])
    ('hidden.2', 'lstm[0]')
    """
    chosen: set[str] = set()
    for pattern in patterns:
        expression = name_expression(pattern)
        matching = {name for name in names if pattern == name or any(map(expression.fullmatch, (name, _module(name))))}
        if not matching:
            raise ValueError(no_match(pattern, names))
        chosen |= matching
    return tuple(name for name in names if name in chosen)


def name_expression(pattern: str) -> re.Pattern[str]:
    """Return a pattern as a regular expression."""
    parts = []
    for part in re.split(r"(\*\*\.|\*\*|\*|\?)", pattern):
        parts.append({"**.": r"(?:.*\.)?", "**": r".*", "*": r"[^.]*", "?": r"[^.]"}.get(part, re.escape(part)))
    return re.compile("".join(parts), re.DOTALL)


def no_match(pattern: str, names: Sequence[str]) -> str:
    """Return the error message for a pattern without a match; it lists the most similar names."""
    close = difflib.get_close_matches(pattern, names, n=5, cutoff=0.3)
    near = [*close, *(name for name in names if name not in close)][:5]
    return f"No layer matches '{pattern}'. Similar names: {', '.join(near) or 'none'}."


def _module(name: str) -> str:
    return re.split(r"[#:\[]", name, maxsplit=1)[0]
