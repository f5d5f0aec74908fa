"""Which of a run's recorded steps are meant, and whether it was trained by this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["choose_recorded_steps", "is_trained_here"]


def is_trained_here(config: Mapping[str, Any]) -> bool:
    """Tell whether a run's config was written by ``train_run``; people may keep anything in the config of theirs."""
    return all(isinstance(config.get(part), dict) for part in ("training", "recording", "data"))


def choose_recorded_steps(text: str, recorded: Sequence[int]) -> tuple[int, ...]:
    """Return those of a run's recorded steps that ``first``, ``last``, ``all`` or numbers joined by commas name.

    Raises
    ------
    ValueError
        If a part is not understood or a step was not recorded.

    Examples
    --------
    >>> choose_recorded_steps("first,last", [0, 10, 20])
    (0, 20)
    """
    chosen: set[int] = set()
    for part in (piece.strip() for piece in text.split(",")):
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
