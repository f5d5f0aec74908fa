"""Several seeds: their list, written as text such as 0-9 or 0,3,5, and how networks of several are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repsim.settings import Settings, setting

__all__ = ["SeedsConfig", "parse_seeds"]

_MOST_SEEDS = 10_000


@dataclass(frozen=True, kw_only=True)
class SeedsConfig(Settings):
    """Training of one network per seed, as ``train_seeds`` takes it; each field is described by its help text."""

    seeds: str | None = setting(
        None,
        help="Train one run for each seed, e.g. 0-9 or 0,3,5, in RUN/seed-0 and so on; together if that is faster.",
    )
    how: str | None = setting(None, help="With --seeds: auto, stacked (together) or loop.", shown="auto")


def parse_seeds(text: str | Sequence[int]) -> tuple[int, ...]:
    """Return the seeds that a text such as ``"0-9"`` or ``"0,3,5-7"`` names, in ascending order.

    Examples
    --------
    >>> parse_seeds("0,3,5-7")
    (0, 3, 5, 6, 7)
    """
    if not isinstance(text, str):
        text = ",".join(map(str, text))
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(
                f"seeds '{text}' are not understood at '{part}'. Use whole numbers and ranges: 0-9 or 0,3,5."
            )
        if dash and int(last) < int(first):
            raise ValueError(f"seeds '{text}' are not understood at '{part}': write the smaller number first.")
        if dash and int(last) - int(first) >= _MOST_SEEDS:
            raise ValueError(f"seeds '{text}' are too many; expected at most {_MOST_SEEDS}.")
        seeds += range(int(first), int(last if dash else first) + 1)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds '{text}' name a seed twice.")
    return tuple(sorted(seeds))
