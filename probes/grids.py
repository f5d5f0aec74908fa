"""Grids of penalties: which value is chosen, and whether a wider grid may do better."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# Asks for the default grid, which is extended where the best value lies at its edge.
AUTO = "auto"
# Decades by which a default grid is extended at most, on either side.
MOST_DECADES = 6
# Losses that differ by less, relative to the least, differ by rounding.
ROUNDING = 1e-9


def chosen(losses: Sequence[float], equal: float) -> int:
    """Return the position of the value that is chosen from a grid.

    It is that of the least loss, the most regularised one among ties. Where it would be the least regularised value of
    the grid, it is the most regularised one whose loss is equal within a tolerance: on a curve that flattens out, less
    regularisation gains nothing.

    Parameters
    ----------
    losses : sequence of float
        One loss for each value of the grid, the most regularised first. NaN is never chosen.
    equal : float, >= 0
        Losses that differ by no more than this are equal.

    Examples
    --------
    >>> [chosen(losses, equal=0.1) for losses in ([0.9, 0.52, 0.51, 0.6], [0.9, 0.52, 0.51])]
    [2, 1]
    """
    least = np.nanmin(losses)
    best = _first(losses, least + ROUNDING * abs(least))
    return best if best < len(losses) - 1 else _first(losses, least + equal)


def wider(losses: Sequence[float], equal: float, null: Callable[[], float] | None = None) -> int:
    """Return on which side of the grid a better value may lie: -1 (more regularised), 1 (less), or 0 (neither).

    It may lie where the loss still falls at the edge. A curve that is flat at its least regularised end has nothing
    further to gain there. Nor has one that is flat at its other end, if its loss there is that of a probe without any
    features; otherwise it must change further on.

    Parameters
    ----------
    losses, equal
        As for `chosen`.
    null : callable, optional
        Returns the loss of the probe without features, for the second rule, which is left out by default.

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
    """Return a value times a power of ten, to 12 digits, so that decades have their usual names.

    Examples
    --------
    >>> next_decade(1e-5, -1)
    1e-06
    """
    return float(f"{value * 10.0**power:.12g}")
