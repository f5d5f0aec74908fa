"""Separation of classes in a dissimilarity matrix."""

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity.conditions import comparable_classes
from repsim.similarity.rdm import condensed, n_stimuli


def class_structure(D: ArrayLike, labels: ArrayLike) -> float:
    r"""Compute the mean distance between classes minus the mean distance within classes.

    .. math:: \mathrm{mean}_{c_i \neq c_j} D_{ij} - \mathrm{mean}_{c_i = c_j} D_{ij}

    in the unit of D. Pairs whose distance is NaN are left out. The value is not divided by the spread of D: layers can
    be compared only for distances that do not depend on their scale (correlation, cosine).

    Parameters
    ----------
    D : array-like (n * (n - 1) / 2,) or (n, n)
        A condensed or square RDM.
    labels : array-like (n,)
        The class of every stimulus: numbers or strings.

    Returns
    -------
    float
        Zero without class structure, positive if classes form clusters; within [-max D, max D]. NaN if all distances
        within classes, or all distances between them, are NaN.

    Raises
    ------
    ValueError
        If D is not an RDM, if there is not one label per stimulus, if labels are missing or of mixed kinds, if there is
        only one class, or if no class has two members.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    Examples
    --------
    >>> class_structure([1, 4, 4, 4, 4, 3], labels=["cat", "cat", "dog", "dog"])
    2.0
    """
    distances = condensed(D)
    same = _same_class(labels, n_stimuli(distances))
    defined = ~np.isnan(distances)
    within, between = distances[same & defined], distances[~same & defined]
    if not (within.size and between.size):
        warnings.warn(
            f"All distances {'between' if within.size else 'within'} classes are NaN; the class structure is NaN.",
            RuntimeWarning,
            stacklevel=2,
        )
        return math.nan
    return float(between.mean() - within.mean())


def _same_class(labels: ArrayLike, n: int) -> NDArray[np.bool_]:
    """Return for each pair of a condensed RDM whether both stimuli are of the same class."""
    codes = comparable_classes(labels, n, "D")
    return np.concatenate([codes[i + 1 :] == code for i, code in enumerate(codes)])
