"""What the benchmarks share: paired timings and the table that they fill."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Ratio", "ratio"]


@dataclass(frozen=True)
class Ratio:
    """One line of the results.

    Attributes
    ----------
    work, against : str
        What was timed, and against what.
    values : list of float
        Time of the work over time of the other, pair by pair.
    target : str
        What was promised, or "-".
    """

    work: str
    against: str
    values: list[float]
    target: str = "-"

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.values)


def ratio(
    work: str,
    function: Callable[[], object],
    against: str,
    other: Callable[[], object],
    *,
    repeats: int = 7,
    target: str = "-",
    warm_up: bool = True,
) -> Ratio:
    """Time two functions in turn, A B B A A B …, after one run of each that does not count (if there is a warm-up)."""
    if warm_up:
        function(), other()
    values = []
    for repeat in range(repeats):
        pair = (function, other) if repeat % 2 == 0 else (other, function)
        seconds = {timed: _seconds(timed) for timed in pair}
        values.append(seconds[function] / seconds[other])
    return Ratio(work, against, values, target)


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
