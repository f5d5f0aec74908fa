"""Which stimuli a page shows, so that all matrices together stay small."""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_SHOWN", "RDM_BUDGET", "choose_shown", "most_shown", "pairs_of"]

MOST_SHOWN = 200
RDM_BUDGET = 6_000_000  # bytes, all matrices of a page


def most_shown(n_rdms: int, budget: int = RDM_BUDGET) -> int:
    """Return how many stimuli so many matrices can have at one byte a distance, at most 200, at least 2.

    Examples
    --------
    >>> most_shown(300), most_shown(800)
    (200, 122)
    """
    pairs = budget // max(n_rdms, 1)
    return min(MOST_SHOWN, max(2, (1 + isqrt(1 + 8 * pairs)) // 2))


def choose_shown(labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the places of at most so many stimuli, as many of each class as can be, spread over the class.

    Examples
    --------
    >>> choose_shown(np.array([0, 0, 0, 0, 1]), 3).tolist()
    [0, 3, 4]
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    turns = np.concatenate([np.arange(len(each)) for each in members])
    owners = np.repeat(np.arange(len(members)), [len(each) for each in members])
    quotas = np.bincount(owners[np.argsort(turns, kind="stable")[:most]], minlength=len(members))
    chosen = [
        each[np.linspace(0, len(each) - 1, quota).round().astype(np.int64)]
        for each, quota in zip(members, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def pairs_of(shown: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return where a condensed matrix of n stimuli holds the pairs of ascending ones, in condensed order.

    Examples
    --------
    >>> pairs_of(np.array([0, 2, 3]), 4).tolist()
    [1, 2, 5]
    """
    left, right = np.triu_indices(len(shown), k=1)
    i, j = shown[left], shown[right]
    return n * i - i * (i + 1) // 2 + j - i - 1
