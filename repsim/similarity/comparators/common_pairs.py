"""Pairs of stimuli that RDMs have in common."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import squareform

from repsim.similarity import checks
from repsim.similarity.precision import FloatArray
from repsim.similarity.rdm import condensed, n_stimuli

Nan = Literal["raise", "pairwise"]


def in_common(rdms: Mapping[str, ArrayLike], *, nan: Nan = "raise", whole: str | None = None) -> dict[str, FloatArray]:
    """Check RDMs of the same stimuli, by their names in messages, and return them condensed without pairs that are NaN.

    Either all RDMs must be NaN at the same pairs, or pairs that are NaN in one are left out of all. ``whole`` is the
    name of the method if it needs all pairs of the remaining stimuli.
    """
    checks.choice(nan, {"raise": 0, "pairwise": 1}, "treatment of NaN")
    checks.same_ids(rdms)
    vectors = {name: condensed(rdm, name) for name, rdm in rdms.items()}
    checks.same_stimuli({name: n_stimuli(vector) for name, vector in vectors.items()})
    masks = {name: np.isnan(vector) for name, vector in vectors.items()}
    if nan == "raise":
        _check_same_pairs(masks)
    missing = np.logical_or.reduce(list(masks.values()))
    if not missing.any():
        return vectors
    if whole is not None:
        _check_whole_stimuli(missing, " and ".join(rdms), whole)
    return {name: vector[~missing] for name, vector in vectors.items()}


def _check_same_pairs(masks: Mapping[str, NDArray[np.bool_]]) -> None:
    (first, missing), *others = masks.items()
    for other, missing_there in others:
        if (missing != missing_there).any():
            raise ValueError(
                f"{(missing & ~missing_there).sum()} pairs are NaN only in {first} and "
                f"{(missing_there & ~missing).sum()} only in {other}; both must be NaN at the same pairs. "
                "Leave the same stimuli out of both."
            )


def _check_whole_stimuli(missing: NDArray[np.bool_], names: str, whole: str) -> None:
    kept = ~squareform(missing) & ~np.eye(n_stimuli(missing), dtype=bool)
    some = kept.any(axis=0)
    n_single = int(missing.sum()) - (len(missing) - some.sum() * (some.sum() - 1) // 2)
    if n_single:
        raise ValueError(
            f"{n_single} pairs of {names} are NaN between stimuli that have other distances; {whole} needs all "
            "pairs. Leave those stimuli out, or choose a comparator that needs no whole matrix, such as pearson."
        )
