"""Seconds that work takes by its kind: what was expected, corrected by what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = ["MeasuredPace"]

START_SECONDS = 1.5  # that the first piece of work of a process takes longer
_FIRST_SECONDS = 0.75  # a first piece of a kind that takes this long counts half, as it may include imports
_SHORT_SECONDS = 0.5  # work of this length counts half in the pace that kinds have in common
_PRIOR_WEIGHT = 0.5  # pieces of work that an expectation counts for
_MOST_APART = math.log(6.0)  # logarithm of the factor by which the pace of such kinds is corrected at most
_MOST_WEIGHT = 5.0  # that one kind has in the pace of kinds that were not measured yet


class MeasuredPace:
    """Ratio of measured to expected seconds for each kind of work.

    The first pieces of a kind, one in each process, take longer because packages are imported and caches are cold.
    They count less, the more so the shorter they are and the more others have ended. A kind of which nothing has ended
    gets the ratio that the measured kinds have in common, the speed of this machine.

    Parameters
    ----------
    n_first : int, default 1
        Number of pieces of each kind that may be the first of their process.
    in_seconds : bool, default True
        Whether expectations are in seconds; otherwise only their ratios mean something.
    slowness : float, default 1.0
        How many times longer work is expected to take on this machine, before anything is measured.
    """

    def __init__(self, n_first: int = 1, *, in_seconds: bool = True, slowness: float = 1.0) -> None:
        self.n_first = n_first
        self._log_slowness = math.log(slowness)
        self._common_weight = _PRIOR_WEIGHT if in_seconds else 0.0
        self._kinds: dict[str, _Measured] = {}

    def add(self, kind: str, expected: float, seconds: float, *, is_start: bool = False) -> None:
        """Note that a piece of work of a kind, which was expected to take some seconds, has taken others.

        ``is_start`` says whether it was the first piece of any kind in its process.
        """
        if is_start:
            seconds = max(seconds - START_SECONDS * math.exp(self._log_slowness), seconds / 4)
        measured = self._kinds.setdefault(kind, _Measured())
        measured.add(max(expected, 1e-9), max(seconds, 1e-9), is_first=measured.n < self.n_first)

    def seconds(self, kind: str, expected: float, so_far: float = 0.0) -> float:
        """Return how many seconds a piece of work takes.

        Parameters
        ----------
        kind : str
        expected : float
            Seconds that it was expected to take before anything was measured.
        so_far : float, default 0.0
            Seconds for which a piece like it has been running, if it has not ended: it takes that long at least.
        """
        measured, common = self._kinds.get(kind, _Measured()), self._common()
        ratio = measured.log_ratio(common, _PRIOR_WEIGHT)
        if so_far > 0:
            unfinished = replace(measured)
            unfinished.add(max(expected, 1e-9), so_far, is_first=measured.n < self.n_first)
            ratio = max(ratio, unfinished.log_ratio(common, _PRIOR_WEIGHT))
        return expected * math.exp(ratio)

    def _common(self) -> float:
        """Return the logarithm of the ratio that the measured kinds have in common."""
        if not self._kinds:
            return self._log_slowness
        weighted = [(each.weight_in_common, each.log_ratio()) for each in self._kinds.values()]
        total = self._common_weight * self._log_slowness + sum(weight * ratio for weight, ratio in weighted)
        common = total / (self._common_weight + sum(weight for weight, _ in weighted))
        if not self._common_weight:
            return common
        return min(max(common, self._log_slowness - _MOST_APART), self._log_slowness + _MOST_APART)


@dataclass
class _Measured:
    """Sums over the pieces of one kind that have ended."""

    n: int = 0
    expected: float = 0.0
    first_weight: float = 0.0
    first_ratio: float = 0.0  # sum of weighted logarithms
    n_later: float = 0.0
    later_seconds: float = 0.0
    later_expected: float = 0.0

    def add(self, expected: float, seconds: float, *, is_first: bool) -> None:
        self.n += 1
        self.expected += expected
        if is_first:
            weight = seconds / (seconds + _FIRST_SECONDS)
            self.first_weight += weight
            self.first_ratio += weight * math.log(seconds / expected)
        else:
            self.n_later += 1
            self.later_seconds += seconds
            self.later_expected += expected

    @property
    def weight_in_common(self) -> float:
        """Short work says little about the speed of a machine, as it consists of other things than arithmetic."""
        mean = self.expected / self.n
        return min(self.weight, _MOST_WEIGHT) * mean / (mean + _SHORT_SECONDS)

    @property
    def weight(self) -> float:
        return self.n_later + self.first_weight / (1 + self.n_later)

    def log_ratio(self, common: float = 0.0, common_weight: float = 0.0) -> float:
        """Return the logarithm of the ratio of measured to expected seconds, drawn towards that of all kinds."""
        fading = 1 / (1 + self.n_later)
        later = self.n_later * math.log(self.later_seconds / self.later_expected) if self.n_later else 0.0
        return (common_weight * common + fading * self.first_ratio + later) / (common_weight + self.weight)
