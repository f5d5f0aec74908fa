"""Checked stacks of RDMs, and groups of RDMs that a comparator cannot distinguish."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity import checks
from repsim.similarity.comparators import Comparator
from repsim.similarity.comparators.ties import levels
from repsim.similarity.precision import FloatArray, epsilon_of
from repsim.similarity.rdm import condensed, n_stimuli

# Two RDMs are equal if they differ by no more than this many units in the last place of their largest distances.
UNITS = 16


def stacked_rdms(rdms: Mapping[str, ArrayLike], side: str, comparator: Comparator) -> FloatArray:
    """Check RDMs of the same stimuli and return them as one array (k, n * (n - 1) / 2)."""
    named = checks.mapping(rdms, side, "RDMs", "Pass {name: RDM}.")
    checks.same_ids(named)
    arrays = {name: condensed(rdm, name) for name, rdm in named.items()}
    checks.same_stimuli({name: n_stimuli(array) for name, array in arrays.items()})
    for name, array in arrays.items():
        if np.isnan(array).any():
            raise ValueError(
                f"{name} has {np.isnan(array).sum()} pairs that are NaN. Leave those stimuli out of all RDMs."
            )
        if comparator.prepare(array) is None:
            raise ValueError(f"{name} {comparator.undefined}; {comparator.name} is not defined for it. Leave it out.")
    return np.stack(list(arrays.values()))


def first_equal(rdms: FloatArray, comparator: Comparator) -> NDArray[np.intp]:
    """Return for each RDM the index of the first RDM that the comparator cannot distinguish from it.

    Two RDMs are indistinguishable if a transformation that the comparator ignores makes them equal up to rounding.
    """
    if "monotone maps" in comparator.ignores:
        _, first, place = np.unique([levels(rdm) for rdm in rdms], axis=0, return_index=True, return_inverse=True)
        return first[place.ravel()]
    first = np.arange(len(rdms))
    for k in range(len(rdms)):
        alike = (j for j in range(k) if first[j] == j and _are_equal(rdms[j], rdms[k], comparator.ignores))
        first[k] = next(alike, k)
    return first


def _are_equal(a: FloatArray, b: FloatArray, ignores: frozenset[str]) -> bool:
    # In units of the largest distance, so that no square overflows or vanishes.
    unit_a, unit_b = np.abs(a).max(), np.abs(b).max()
    if "scale" not in ignores:
        unit_b = unit_a
    error_a, error_b = epsilon_of(a), epsilon_of(b) * np.abs(b).max() / unit_b
    a, b = a / unit_a, b / unit_b
    if "offset" in ignores:
        error_b *= np.ptp(a) / np.ptp(b)
        a, b = a - a.mean(), b - b.mean()
    if "scale" in ignores:
        slope = (a @ b) / (b @ b)
        if slope <= 0:
            return False
        b = b * slope
    return bool(np.abs(a - b).max() <= UNITS * (error_a + error_b))
