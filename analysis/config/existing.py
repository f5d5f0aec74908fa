"""Choices about a run or comparison that exists already where a new one is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from repsim.settings import Settings, setting

__all__ = ["EXISTS", "ContinuedConfig", "ExistingConfig", "advice", "describe_differences"]

EXISTS = ("error", "resume", "replace")
_MOST_NAMED = 3  # settings that differ
_LONGEST = 60  # characters of a value in a message


@dataclass(frozen=True, kw_only=True)
class ExistingConfig(Settings):
    """What is done about what exists already; the functions of the package take it as ``exists``."""

    exists: str = setting(
        "error",
        help="If there is one already: error, resume (continue or keep one of the same settings), or replace (remove "
        "it first; files that are not ours are never removed).",
        choices=EXISTS,
    )


@dataclass(frozen=True, kw_only=True)
class ContinuedConfig(Settings):
    """As ``ExistingConfig``, for what the same command continues by default."""

    exists: str = setting(
        "resume",
        help="If there is such a run already: resume (record the steps that it lacks, if all else is the same), error, "
        "or replace (remove it first; files that are not ours are never removed).",
        choices=EXISTS,
    )


def advice(another: str, *choices: str) -> str:
    """Return the sentence that ends an error about something that exists: another place, or what ``exists`` does.

    Examples
    --------
    >>> advice("another name", "replace")
    "Choose another name, or give --exists replace to remove it first (in Python exists='replace')."
    """
    options = " or ".join(f"--exists {each} to {_ACTS[each]}" for each in choices)
    in_python = " or ".join(f"exists='{each}'" for each in choices)
    return f"Choose {another}, or give {options} (in Python {in_python})."


_ACTS = {"resume": "continue it", "replace": "remove it first"}


def describe_differences(asked: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """Return a phrase with the first settings in which what was made differs from what is asked for, or nothing.

    Settings of a nested mapping that ``made`` does not state, because an older version made it, are not compared.

    Examples
    --------
    >>> describe_differences({"training": {"depth": 3, "new": 1}}, {"training": {"depth": 2}})
    'training.depth 2 there, 3 here'
    """
    found = list(_differences(json.loads(json.dumps(dict(asked))), made))
    return "; ".join(found[:_MOST_NAMED]) + ("; ..." if len(found) > _MOST_NAMED else "")


def _differences(asked: Mapping[str, Any], made: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in asked.items():
        there = made.get(name)
        if isinstance(value, dict) and isinstance(there, dict):
            yield from _differences(value, there, f"{prefix}{name}.")
        elif (name in made or not prefix) and there != value:
            yield f"{prefix}{name} {_short(there)} there, {_short(value)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
