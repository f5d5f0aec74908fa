"""The door: two RDMs compared by any comparator."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.comparators.common_pairs import Nan, in_common
from repsim.similarity.comparators.comparator import Comparator
from repsim.similarity.comparators.registry import COMPARATORS


def compare_rdms(A: ArrayLike, B: ArrayLike, method: str = "pearson", *, nan: Nan = "raise") -> float:
    r"""Likeness of two RDMs over their pairs of stimuli.

    By default the correlation

    .. math:: r(a, b) = \frac{(a - \bar a)^T (b - \bar b)}{|a - \bar a| \, |b - \bar b|}

    where a and b are the upper triangles (pearson) or, for spearman, their ranks; tied distances share their mean rank.
    Distances that differ only by rounding error at their own magnitude are tied. Pairs of stimuli are not independent
    of one another, so no p-value follows from this correlation. `COMPARATORS` lists all methods with their formula,
    range and use.

    Parameters
    ----------
    A, B : array-like (n * (n - 1) / 2,) or (n, n)
        Condensed or square RDMs of the same stimuli in the same order. A pair that is NaN in both is left out.
    method : str, default "pearson"
        A key of `COMPARATORS`. Pearson takes distances to be linearly related, spearman monotonically.
    nan : {"raise", "pairwise"}, default "raise"
        What to do about pairs that are NaN in one RDM only: refuse them, or leave them out too.

    Returns
    -------
    float
        Within the range of the method, [-1, 1] for pearson; larger for RDMs that are more alike. NaN if one RDM is
        constant, or, for methods that do not ignore an offset, if it is zero.

    Raises
    ------
    ValueError
        If A or B is not an RDM (not real numbers, not square, not symmetric, with infinite distances or a diagonal that
        is not zero), if they have different numbers of stimuli or NaN at different pairs, or if there is no such
        method. Methods that go by the whole matrix (the whitened ones, bures, riemannian) refuse NaN unless all pairs
        of a stimulus are NaN.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008). Representational similarity analysis - connecting the branches of systems
    neuroscience. Frontiers in Systems Neuroscience 2:4.

    Examples
    --------
    >>> compare_rdms([1, 2, 9], [1, 4, 81], method="tau-a")
    1.0
    """
    chosen = checks.choice(method, COMPARATORS, "method")
    prepared = prepare_all({"A": A, "B": B}, chosen, nan=nan, stacklevel=3)
    if any(each is None for each in prepared.values()):
        return math.nan
    return chosen.compare(prepared["A"], prepared["B"])


def prepare_all(
    rdms: Mapping[str, ArrayLike], chosen: Comparator, *, nan: Nan = "raise", stacklevel: int
) -> dict[str, Any]:
    """Check RDMs of the same stimuli, and prepare each for a comparator.

    Parameters
    ----------
    rdms : mapping from str to array-like (n * (n - 1) / 2,) or (n, n)
        From what the messages call an RDM to the RDM.
    chosen : Comparator
    nan : {"raise", "pairwise"}
        As in `compare_rdms`.
    stacklevel : int
        As in `warnings.warn`.

    Returns
    -------
    dict
        None for RDMs for which the comparator is not defined.

    Raises
    ------
    ValueError
        As `compare_rdms`.

    Warns
    -----
    RuntimeWarning
        Once, with the names of those that are None.

    Examples
    --------
    >>> prepare_all({"A": [3, 4, 0]}, COMPARATORS["cosine"], stacklevel=2)
    {'A': array([0.6, 0.8, 0. ])}
    """
    vectors = in_common(rdms, nan=nan, whole=chosen.name if chosen.needs_all_pairs else None)
    m = len(next(iter(vectors.values())))
    prepared = {name: chosen.prepare(vector) if m else None for name, vector in vectors.items()}
    undefined = [name for name, each in prepared.items() if each is None]
    if undefined:
        warnings.warn(
            f"{'Each of ' if len(undefined) > 1 else ''}{' and '.join(undefined)} {chosen.undefined}, over "
            f"{m} pair{'' if m == 1 else 's'}; the comparison is NaN.",
            RuntimeWarning,
            stacklevel=stacklevel,
        )
    return prepared
