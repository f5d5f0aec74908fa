"""Comparison of two RDMs by any comparator."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import ArrayLike

from repsim.similarity.comparators.common_pairs import Nan, in_common
from repsim.similarity.comparators.comparator import Comparator
from repsim.similarity.comparators.registry import COMPARATORS
from repsim.similarity.entries import choose
from repsim.similarity.precision import FloatArray


def compare_rdms(
    A: ArrayLike,
    B: ArrayLike,
    method: str | Comparator | Callable[[FloatArray, FloatArray], float] = "pearson",
    *,
    nan: Nan = "raise",
) -> float:
    r"""Compare two RDMs over their pairs of stimuli.

    By default the correlation

    .. math:: r(a, b) = \frac{(a - \bar a)^T (b - \bar b)}{|a - \bar a| \, |b - \bar b|}

    where a and b are the upper triangles (pearson) or, for spearman, their ranks; tied distances have the same mean
    rank. Distances that differ only by rounding error at their own magnitude are tied. As pairs of stimuli are not
    independent, no p-value follows from this correlation. `COMPARATORS` lists all methods with their formula, range and
    use.

    Parameters
    ----------
    A, B : array-like (n * (n - 1) / 2,) or (n, n)
        Condensed or square RDMs of the same stimuli in the same order. A pair that is NaN in both is left out.
    method : str, Comparator or callable, default "pearson"
        A key of `COMPARATORS`, a comparator of your own, or a symmetric function of two condensed RDMs (m,) without
        NaN. Pearson assumes that distances are linearly related, spearman that they are monotonically related.
    nan : {"raise", "pairwise"}, default "raise"
        For pairs that are NaN in one RDM only: raise an error, or leave them out too.

    Returns
    -------
    float
        Within the range of the method, [-1, 1] for pearson; larger for RDMs that are more alike. NaN, with a warning,
        if an RDM is constant or, for methods that do not ignore an offset, zero.

    Raises
    ------
    ValueError
        If A or B is not an RDM (not real numbers, not square, not symmetric, with infinite distances or a nonzero
        diagonal), if they have different numbers of stimuli or NaN at different pairs, or if the method is unknown. For
        methods that need the whole matrix (the whitened ones, bures, riemannian), also if single pairs are NaN.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008). Representational similarity analysis - connecting the branches of systems
    neuroscience. Frontiers in Systems Neuroscience 2:4.

    Examples
    --------
    >>> compare_rdms([1, 2, 9], [1, 4, 81], method="tau-a")
    1.0
    """
    chosen = choose(method, COMPARATORS, Comparator, "method")
    prepared = prepare_all({"A": A, "B": B}, chosen, nan=nan, stacklevel=3)
    if any(each is None for each in prepared.values()):
        return math.nan
    return chosen.compare(prepared["A"], prepared["B"])


def prepare_all(
    rdms: Mapping[str, ArrayLike], chosen: Comparator, *, nan: Nan = "raise", stacklevel: int
) -> dict[str, Any]:
    """Check RDMs of the same stimuli, and prepare each for a comparator; None where the comparator is not defined.

    Warn once with the names of the latter.
    """
    vectors = in_common(rdms, nan=nan, whole=chosen.name if chosen.needs_all_pairs else None)
    m = len(next(iter(vectors.values())))
    # A vector may be a copy, which is not held any longer than it takes to prepare it.
    prepared = {name: chosen.prepare(vectors.pop(name)) if m else None for name in rdms}
    undefined = [name for name, each in prepared.items() if each is None]
    if undefined:
        warnings.warn(
            f"{'Each of ' if len(undefined) > 1 else ''}{' and '.join(undefined)} {chosen.undefined}, over "
            f"{m} pair{'' if m == 1 else 's'}; the comparison is NaN.",
            RuntimeWarning,
            stacklevel=stacklevel,
        )
    return prepared
