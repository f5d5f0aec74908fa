"""Recorded steps of a run: selection by name or number; and whether this package trained the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["choose_recorded_steps", "is_trained_here"]


def is_trained_here(config: Mapping[str, Any]) -> bool:
    """Return whether ``train_run`` wrote the config of a run. Other runs may hold anything in their config."""
    return all(isinstance(config.get(part), dict) for part in ("training", "recording", "data"))


def choose_recorded_steps(text: str, recorded: Sequence[int]) -> tuple[int, ...]:
    """Return the recorded steps that a text selects: ``first``, ``last``, ``all``, or step numbers joined by commas.

    Examples
    --------
    >>> choose_recorded_steps("first,last", [0, 10, 20])
    (0, 20)
    """
    chosen: set[int] = set()
    for part in (each.strip() for each in text.split(",")):
        if part == "all":
            chosen.update(recorded)
        elif part in ("first", "last"):
            chosen.add(recorded[0 if part == "first" else -1])
        elif part.isdecimal() and int(part) in recorded:
            chosen.add(int(part))
        else:
            listed = ", ".join(map(str, recorded))
            raise ValueError(f"'{part}' is not a recorded step. Use first, last, all or any of: {listed}.")
    return tuple(sorted(chosen))
