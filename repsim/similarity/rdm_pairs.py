"""Comparison of all pairs of RDMs, each of which is prepared once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.comparators import COMPARATORS, Comparator
from repsim.similarity.comparators.two_rdms import prepare_all
from repsim.similarity.entries import choose
from repsim.similarity.pairwise import Pairwise
from repsim.similarity.precision import FloatArray


def compare_rdm_pairs(
    A: Mapping[str, ArrayLike],
    B: Mapping[str, ArrayLike] | None = None,
    method: str | Comparator | Callable[[FloatArray, FloatArray], float] = "pearson",
) -> Pairwise:
    """Compare every RDM of A with every RDM of B; each is checked, ranked, whitened or decomposed once.

    The values are those of `compare_rdms`, up to rounding.

    Parameters
    ----------
    A : mapping from str to array-like (n * (n - 1) / 2,) or (n, n)
        RDMs of the same stimuli in the same order, NaN at the same pairs.
    B : mapping from str to array-like, optional
        A itself by default.
    method : str, Comparator or callable, default "pearson"
        As in `compare_rdms`.

    Returns
    -------
    Pairwise
        Values (len(A), len(B)) in the range of the method; NaN where the method is not defined.

    Raises
    ------
    TypeError
        If A or B is not a mapping.
    ValueError
        If A or B is empty; otherwise as `compare_rdms`.

    Warns
    -----
    RuntimeWarning
        Once, with their names, if the method is not defined for some RDMs.

    Examples
    --------
    >>> compare_rdm_pairs({"first": [1, 2, 3], "last": [3, 1, 2]}, {"model": [0, 0, 1]}, "cosine").values.round(2)
    array([[0.8 ],
           [0.53]])
    """
    chosen = choose(method, COMPARATORS, Comparator, "method")
    sides = {"A": A} if B is None else {"A": A, "B": B}
    rdms: dict[str, ArrayLike] = {}
    for side, given in sides.items():
        rdms |= checks.mapping(given, side, "RDMs", "Pass {name: RDM}, or compare two RDMs with compare_rdms(A, B).")
    prepared = list(prepare_all(rdms, chosen, stacklevel=3).values())
    values = compare_prepared(chosen, prepared[: len(A)], None if B is None else prepared[len(A) :])
    columns = tuple(A if B is None else B)
    return Pairwise(values=values, rows=tuple(A), columns=columns, measure=chosen.name, direction="similarity")


def compare_prepared(chosen: Comparator, rows: Sequence[Any], columns: Sequence[Any] | None) -> FloatArray:
    """Compare prepared RDMs, every row with every column or all rows with one another; NaN where one is None."""
    others = rows if columns is None else columns
    values = np.full((len(rows), len(others)), np.nan)
    i, j = ([k for k, each in enumerate(side) if each is not None] for side in (rows, others))
    if chosen.together is not None and i and j:
        values[np.ix_(i, j)] = chosen.together([rows[k] for k in i], [others[k] for k in j])
        return values
    for a in i:
        for b in j:
            if columns is None and b < a:
                values[a, b] = values[b, a]
            else:
                values[a, b] = chosen.compare(rows[a], others[b])
    return values
