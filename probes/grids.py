"""Grids of penalties: the choice of a value, and extension where a better one may lie beyond an edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# The default grid, which is extended where the best value lies at its edge.
AUTO = "auto"
# Decades by which a default grid is extended at most, on either side.
MOST_DECADES = 6
# Losses that differ by less, relative to the least, differ by rounding.
ROUNDING = 1e-9
# A search along a grid ends once the loss has risen this many times in a row, or once clearly: by this many standard
# errors of the mean difference, over this many examples or more, and by this share of the least loss.
RISES = 2
CLEAR_ERRORS, CLEAR_EXAMPLES, CLEAR_SHARE = 2.0, 50, 0.01


class PenaltyGrid:
    """A grid of penalties with the loss of each value that was tried.

    Parameters
    ----------
    values : iterable of float
        The grid; a grid of a single value is never extended.
    sign : {1, -1}
        1 if larger values regularise less (C), -1 if they regularise more (alpha).
    equal : float, >= 0
        Losses that differ by no more than this are equal at the edge of a grid that may be extended.
    most_decades : int, >= 0
        Decades by which the grid may be extended.
    null : callable
        Returns the loss of the probe without features.
    """

    def __init__(
        self, values: Iterable[float], *, sign: int, equal: float, most_decades: int, null: Callable[[], float]
    ) -> None:
        self._sign, self._null_of = sign, null
        self._values = self._ordered(set(values))
        self._most = most_decades if len(self._values) > 1 else 0
        self._equal = equal if self._most else 0.0
        self.losses: dict[float, float] = {}
        self._examples: dict[float, NDArray[np.float64]] = {}

    def add(self, value: float, losses: float | NDArray[np.float64]) -> None:
        """Record the losses of a value on each of n examples, shape (n,), or their mean."""
        self._examples[value] = np.atleast_1d(losses)
        self.losses[value] = float(np.mean(losses))

    def next_value(self) -> float | None:
        """Return the value to try next, of the grid or of its extension; None at the end of the search.

        Values are tried from the most regularised one on. The rest of the grid is left out once the loss has risen
        twice in a row, or once clearly (see `is_clear_rise`).
        """
        rest = [value for value in self._values if value not in self.losses]
        if rest and not self._has_risen:
            return rest[0]
        if self.n_extended == self._most or not (side := self.side):
            return None
        return next_decade(self.tried[0 if side < 0 else -1], side * self._sign)

    @property
    def tried(self) -> list[float]:
        """The values that were tried, the most regularised first."""
        return self._ordered(self.losses)

    @property
    def best(self) -> float:
        """The value that is chosen of those that were tried; see `chosen`."""
        return self.tried[chosen(self._along, self._equal)]

    @property
    def side(self) -> int:
        """Where a better value may lie beyond the values tried; see `wider`."""
        return wider(self._along, self._equal, (lambda: self._null) if self._most else None)

    @property
    def n_extended(self) -> int:
        """Number of values, a decade apart, by which the grid was extended."""
        return len(self.losses.keys() - set(self._values))

    @property
    def _along(self) -> list[float]:
        return [self.losses[value] for value in self.tried]

    @cached_property
    def _null(self) -> float:
        return self._null_of()

    @property
    def _has_risen(self) -> bool:
        last = self.tried[-RISES - 1 :]
        rises = [self.losses[before] < self.losses[after] for before, after in pairwise(last)]
        if not rises or not rises[-1]:
            return False
        before, after = (self._examples[value] for value in last[-2:])
        return rises == [True] * RISES or is_clear_rise(before, after, CLEAR_SHARE * min(self._along))

    def _ordered(self, values: Iterable[float]) -> list[float]:
        return sorted(values, reverse=self._sign < 0)


def chosen(losses: Sequence[float], equal: float) -> int:
    """Return the position of the value that is chosen from a grid.

    The value with the least loss is chosen, the most regularised one among ties. If that is the least regularised value
    of the grid, the most regularised value whose loss is equal within a tolerance is chosen instead: where the curve
    flattens out, less regularisation gains nothing.

    `losses` has one loss for each value of the grid, the most regularised first; NaN is never chosen. Losses that
    differ by no more than `equal` are equal.

    Examples
    --------
    >>> [chosen(losses, equal=0.1) for losses in ([0.9, 0.52, 0.51, 0.6], [0.9, 0.52, 0.51])]
    [2, 1]
    """
    least = np.nanmin(losses)
    best = _first(losses, least + ROUNDING * abs(least))
    return best if best < len(losses) - 1 else _first(losses, least + equal)


def is_clear_rise(before: NDArray[np.float64], after: NDArray[np.float64], least: float) -> bool:
    """Return whether a loss rises clearly from one value of a grid to the next.

    The mean difference of the losses of the same examples, both (n,), must exceed two of its standard errors, and
    ``least``. With fewer than 50 examples no rise is clear.

    Examples
    --------
    >>> before = np.linspace(0.1, 1.0, 50)
    >>> [is_clear_rise(before, after, least=0.01) for after in (before + 0.2, before + 0.001, before[::-1])]
    [True, False, False]
    """
    rise = after - before
    if len(rise) < CLEAR_EXAMPLES:
        return False
    return bool(rise.mean() > max(least, CLEAR_ERRORS * rise.std(ddof=1) / np.sqrt(len(rise))))


def wider(losses: Sequence[float], equal: float, null: Callable[[], float] | None = None) -> int:
    """Return on which side of the grid a better value may lie: -1 (more regularised), 1 (less), or 0 (neither).

    A better value may lie beyond an edge where the loss still falls towards it. A curve that is flat at its least
    regularised end gains nothing further there. A curve that is flat at its most regularised end gains nothing if its
    loss there is that of a probe without features; otherwise the loss must change further on.

    Arguments are those of `chosen`; `null` returns the loss of the probe without features.

    Examples
    --------
    >>> [wider(losses, equal=0.1) for losses in ([0.9, 0.6, 0.3], [0.3, 0.6, 0.9], [0.9, 0.3, 0.9], [0.3, 0.3, 0.9])]
    [1, -1, 0, 0]
    >>> [wider([0.3, 0.3, 0.9], equal=0.1, null=lambda: loss) for loss in (0.31, 2.3)]
    [0, -1]
    """
    best = chosen(losses, equal)
    if len(losses) < 2:
        return 0
    if best:
        return 1 if best == len(losses) - 1 else 0
    is_left = losses[1] > losses[0] + equal or (null is not None and abs(null() - losses[0]) > equal)
    return -1 if is_left else 0


def _first(losses: Sequence[float], most: float) -> int:
    return next(i for i, loss in enumerate(losses) if loss <= most)


def next_decade(value: float, power: int) -> float:
    """Return a value times a power of ten, rounded to 12 digits so that decades are exact literals.

    Examples
    --------
    >>> next_decade(1e-5, -1)
    1e-06
    """
    return float(f"{value * 10.0**power:.12g}")
