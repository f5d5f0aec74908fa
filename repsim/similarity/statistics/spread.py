"""Location of patterns, and spread of their directions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from repsim.similarity import checks
from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.pair_distances import squared_distances
from repsim.similarity.precision import FloatArray, unit
from repsim.similarity.statistics.statistic import NOTHING, ROTATION, About, Statistic, undefined


@complete_docstring()
def magnitude(X: ArrayLike) -> float:
    r"""Compute the length of the mean pattern.

    .. math:: |\bar x|, \quad \bar x = \frac{1}{n} \sum_i x_i

    in the unit of X. It is not the mean length of the patterns, which may be large if their mean is zero.

    Returns
    -------
    float
        At least 0.

    References
    ----------
    Klabunde, Schumacher, Strohmaier & Lemmerich (2023). Similarity of neural network models: a survey of functional and
    representational measures. arXiv:2305.06329, section 3.

    Examples
    --------
    >>> magnitude([[3, 0], [3, 8]])
    5.0
    """
    array = checks.representation(X)
    largest = np.abs(array).max() or 1.0  # so that no square overflows or vanishes
    return float(largest * np.linalg.norm((array / largest).mean(axis=0)))


@complete_docstring()
def concentricity(X: ArrayLike) -> float:
    r"""Compute the mean cosine of the patterns with the mean pattern.

    .. math:: \frac{1}{n} \sum_i \frac{x_i^T \bar x}{|x_i| \, |\bar x|}

    Returns
    -------
    float
        Within [-1, 1]; 1 if all patterns point in one direction, near 0 if they point in all directions. NaN, with a
        warning, if a pattern, or the mean pattern, is all zeros.

    References
    ----------
    Klabunde, Schumacher, Strohmaier & Lemmerich (2023). Similarity of neural network models: a survey of functional and
    representational measures. arXiv:2305.06329, section 3.

    Examples
    --------
    >>> round(concentricity([[1, 0], [0, 1]]), 4)
    0.7071
    """
    array = checks.representation(X)
    if zeros := n_zeros(array):
        return undefined("concentricity", f"{zeros} of {len(array)} patterns are all zeros")
    mean = (array / np.abs(array).max()).mean(axis=0)
    length = np.linalg.norm(mean)
    if length <= NOTHING:
        return undefined("concentricity", "the mean pattern is all zeros, up to rounding")
    return float(np.clip(unit(array, axis=1).mean(axis=0) @ mean / length, -1.0, 1.0))


@complete_docstring()
def uniformity(X: ArrayLike, *, t: float = 2.0) -> float:
    r"""Compute the uniformity loss of the directions of the patterns on the sphere.

    .. math:: \log \frac{2}{n (n - 1)} \sum_{i < j} e^{-t |u_i - u_j|^2}, \quad u_i = x_i / |x_i|

    over pairs of different stimuli. The value is lower, not higher, for more uniform directions.

    Parameters
    ----------
    t : float, default 2.0
        Positive inverse width of the kernel: only directions nearer than about its inverse square root contribute.

    Returns
    -------
    float
        Within [-4 t, 0]; 0 if all patterns point in one direction. About -2 t for uniform directions in many
        dimensions. NaN, with a warning, if a pattern is all zeros.

    References
    ----------
    Wang & Isola (2020). Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere. ICML, section 4.

    Examples
    --------
    >>> round(uniformity([[1, 0], [0, 1]]), 4)
    -4.0
    """
    if not 0 < t < math.inf:
        raise ValueError(f"t is {t}; expected a finite number above 0. The usual one is 2.")
    array = checks.representation(X)
    n = len(array)
    if zeros := n_zeros(array):
        return undefined("uniformity", f"{zeros} of {n} patterns are all zeros")
    total = logsumexp([logsumexp(-t * distances) for _, distances in squared_distances(unit(array, axis=1))])
    return float(np.clip(total - math.log(n * (n - 1)), -4.0 * t, 0.0))


def n_zeros(X: FloatArray) -> int:
    """Count the patterns that are all zeros and so have no direction."""
    return len(X) - int(np.count_nonzero(X.any(axis=1)))


FAMILY = (
    Statistic(
        name="magnitude",
        function=magnitude,
        range=(0.0, math.inf),
        invariances=ROTATION,
        about=About(
            formula="|mean pattern|",
            cost="n d",
            use="distance of the patterns from the origin, in the unit of X",
            reference="Klabunde et al. (2023), section 3",
        ),
    ),
    Statistic(
        name="concentricity",
        function=concentricity,
        range=(-1.0, 1.0),
        invariances=ROTATION | {"isotropic scaling"},
        about=About(
            formula="mean of cos(pattern, mean pattern)",
            cost="n d",
            use="to ask whether all patterns point in one direction",
            reference="Klabunde et al. (2023), section 3",
        ),
    ),
    Statistic(
        name="uniformity",
        function=uniformity,
        range=(-8.0, 0.0),
        invariances=ROTATION | {"isotropic scaling"},
        about=About(
            formula="log mean of exp(−2 |u − v|²), u and v two patterns scaled to unit length",
            cost="n² d",
            use="uniformity of directions on the sphere: lower is more uniform",
            reference="Wang & Isola (2020), section 4",
        ),
    ),
)
