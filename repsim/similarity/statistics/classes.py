"""Separation of classes of stimuli."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.conditions import Codes, averaged, comparable_classes
from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.precision import FloatArray, centred, rounding_of, rounding_of_directions, unit
from repsim.similarity.statistics.spread import n_zeros
from repsim.similarity.statistics.statistic import ROTATION, SIMILARITY, About, Statistic, undefined


@complete_docstring()
def class_separation(X: ArrayLike, labels: ArrayLike) -> float:
    r"""Compute how much smaller cosine distances are within classes than among all stimuli.

    .. math:: R^2 = 1 - \frac{\bar d_\text{within}}{\bar d_\text{total}}

    where :math:`\bar d_\text{within}` is the mean of :math:`1 - \cos(x_i, x_j)` over all pairs in a class, averaged
    over classes, and :math:`\bar d_\text{total}` is the same mean averaged over all pairs of classes, including a class
    with itself. All classes have the same weight. Pairs of a stimulus with itself are included, as in the paper, so
    that the value of unrelated classes is about one over the number of members of a class.

    Returns
    -------
    float
        Within [0, 1]; 1 if all patterns of a class point in one direction, 0 if the classes have the same mean
        direction. NaN, with a warning, if a pattern is all zeros, or if all patterns point in one direction.

    References
    ----------
    Kornblith, Chen, Lee & Norouzi (2021). Why do better loss functions lead to less transferable features? NeurIPS,
    section 4.

    Examples
    --------
    >>> round(class_separation([[1, 0], [0, 1], [-1, 0], [0, -1]], ["cat", "cat", "dog", "dog"]), 6)
    0.5
    """
    array = checks.representation(X)
    codes = comparable_classes(labels, len(array), "X")
    if zeros := n_zeros(array):
        return undefined("class separation", f"{zeros} of {len(array)} patterns are all zeros")
    # The mean of 1 - u.v over pairs of directions is their mean squared distance from their mean.
    within, means = _within_and_between(unit(array, axis=1), codes)
    spread, separation = float(np.vdot(within, within)), float(np.vdot(means, means))
    if spread + separation <= rounding_of_directions(array) ** 2:
        return undefined("class separation", "all patterns point in one direction")
    return separation / (separation + spread)


@complete_docstring()
def neural_collapse(X: ArrayLike, labels: ArrayLike) -> float:
    r"""Compute the variability within classes relative to that of the class means (NC1).

    .. math:: \frac{1}{C} \mathrm{tr}(\Sigma_W \Sigma_B^+), \quad
              \Sigma_W = \frac{1}{C} \sum_c \frac{1}{n_c} \sum_{i \in c} (x_i - \mu_c) (x_i - \mu_c)^T, \quad
              \Sigma_B = \frac{1}{C} \sum_c (\mu_c - \mu) (\mu_c - \mu)^T

    with the means :math:`\mu_c` of the C classes, their mean :math:`\mu`, and the pseudo-inverse. All classes have the
    same weight. Only directions in which class means differ by more than rounding error are considered; rounding error
    is that of single precision if all values are numbers of single precision.

    Returns
    -------
    float
        At least 0; lower is more collapsed, 0 if all stimuli of a class have the same pattern (along those directions).
        NaN, with a warning, if all class means are equal up to rounding.

    References
    ----------
    Papyan, Han & Donoho (2020). Prevalence of neural collapse during the terminal phase of deep learning training.
    PNAS 117, figure 6 (NC1).

    Examples
    --------
    >>> round(neural_collapse([[0], [2], [4], [6]], ["cat", "cat", "dog", "dog"]), 6)
    0.125
    """
    array = checks.representation(X)
    codes = comparable_classes(labels, len(array), "X")
    Z = centred(array, axis=0)
    largest = np.abs(Z).max() or 1.0
    within, means = _within_and_between(Z / largest, codes)
    _, s, Vt = np.linalg.svd(means, full_matrices=False)
    # Class means have the rounding errors of the patterns; a direction of rounding error would have full weight.
    rank = np.count_nonzero(s > rounding_of(array) / largest / math.sqrt(len(means)))
    if rank == 0:
        return undefined("neural collapse", "the means of all classes are equal, up to rounding")
    along = within @ Vt[:rank].T / s[:rank]
    return float(np.vdot(along, along)) / len(means)


def _within_and_between(Z: FloatArray, codes: Codes) -> tuple[FloatArray, FloatArray]:
    """Return weighted deviations from class means (n, d), and of class means from their mean (C, d)."""
    # Weighted so that their squares sum to means over the members of a class, and over classes.
    means = averaged(Z, codes)
    within = Z - means[codes]
    within /= np.sqrt(len(means) * np.bincount(codes)[codes])[:, None]
    return within, centred(means, axis=0) / math.sqrt(len(means))


FAMILY = (
    Statistic(
        name="class_separation",
        function=class_separation,
        range=(0.0, 1.0),
        needs_labels=True,
        invariances=ROTATION | {"isotropic scaling"},
        about=About(
            formula="1 − mean cosine distance within classes / mean cosine distance",
            cost="n d",
            use="distance of classes relative to their width",
            reference="Kornblith et al. (2021), section 4",
        ),
    ),
    Statistic(
        name="neural_collapse",
        function=neural_collapse,
        range=(0.0, math.inf),
        needs_labels=True,
        invariances=SIMILARITY,
        about=About(
            formula="tr(Σw Σb⁺) / C, covariances within classes and of the C class means",
            cost="n d c",
            use="to ask whether classes collapse to points late in training: lower is more collapsed",
            reference="Papyan, Han & Donoho (2020), NC1",
        ),
    ),
)
