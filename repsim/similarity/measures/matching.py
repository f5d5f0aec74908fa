r"""Matching measures: correlations of single features of one representation with single features of another.

Features are compared by their signed correlation over stimuli. Constant features are ignored.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.measures.measure import SHAPE, About, Measure, evaluate
from repsim.similarity.precision import FloatArray, centred, unit


@complete_docstring("n >= 3.")
def hard_matching(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute the mean correlation of features matched one to one.

    .. math:: \frac{1}{\min(d_1, d_2)} \max_\pi \sum_i r(X_i, Y_{\pi(i)})

    over all assignments :math:`\pi` that match every feature of the smaller representation with a different feature of
    the larger; the remaining features of the larger one are ignored. Every feature is matched, with a negative
    correlation if there is no better match. As the best of many assignments is chosen, the value is well above zero for
    unrelated representations; it grows with the number of features and falls with the number of stimuli.

    Returns
    -------
    float
        Within [-1, 1]; 1 if each feature of the smaller one is a feature of the larger, up to a positive factor and an
        offset. NaN, with a warning, if all features of X or of Y are constant.

    References
    ----------
    Li, Yosinski, Clune, Lipson & Hopcroft (2015). Convergent learning: do different neural networks learn the same
    representations? ICLR 2016, section 3 (bipartite matching).

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(hard_matching(X, 2 * X[:, ::-1] + 1), 6), round(hard_matching(X, -X), 2)
    (1.0, -0.08)
    """
    return evaluate(HARD, X, Y)


@complete_docstring("n >= 3.")
def soft_matching(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute the mean correlation of each feature of X with the most similar feature of Y.

    .. math:: \frac{1}{d_1} \sum_i \max_j r(X_i, Y_j)

    Several features of X may be matched with the same feature of Y, so that the value is not symmetric. It is at least
    `hard_matching` if X has no more features than Y. This is the semi-matching of Li et al., not the soft matching
    distance by optimal transport of Khosla & Williams (2024).

    Returns
    -------
    float
        Within [-1, 1]; 1 if each feature of X is a feature of Y, up to a positive factor and an offset. NaN, with a
        warning, if all features of X or of Y are constant.

    References
    ----------
    Li, Yosinski, Clune, Lipson & Hopcroft (2015). Convergent learning: do different neural networks learn the same
    representations? ICLR 2016, section 3 (bipartite semi-matching).

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(soft_matching(X[:, :1], X), 6), round(soft_matching(X, X[:, :1]), 2)
    (1.0, 0.43)
    """
    return evaluate(SOFT, X, Y)


def _prepare(X: FloatArray, name: str) -> FloatArray | None:
    """Return the features that vary, centred and scaled to unit length."""
    if len(X) < 3:
        raise ValueError(
            f"{name} has {len(X)} stimuli; a correlation between features needs at least 3 (of 2 it is 1 or -1). "
            "Record more stimuli."
        )
    Z = centred(X, axis=0)
    varies = Z.any(axis=0)
    return unit(Z[:, varies], axis=0) if varies.any() else None


def _hard(x: FloatArray, y: FloatArray) -> float:
    correlations = x.T @ y  # (d1, d2)
    matched = correlations[linear_sum_assignment(correlations, maximize=True)]
    return float(np.clip(matched.mean(), -1.0, 1.0))


def _soft(x: FloatArray, y: FloatArray) -> float:
    return float(np.clip((x.T @ y).max(axis=1).mean(), -1.0, 1.0))


HARD = Measure(
    name="hard_matching",
    label="one-to-one matching",
    prepare=_prepare,
    compare=_hard,
    range=(-1.0, 1.0),
    invariances=SHAPE,
    undefined="are constant in every feature",
    about=About(
        formula="max over one-to-one π of the mean of r(Xᵢ, Yπ(ᵢ))",
        cost="n d² + d³",
        use="to ask whether the same features were learned, one to one",
        reference="Li et al. (2015), section 3",
    ),
)

SOFT = Measure(
    name="soft_matching",
    label="one-to-many matching",
    prepare=_prepare,
    compare=_soft,
    range=(-1.0, 1.0),
    is_symmetric=False,
    invariances=SHAPE,
    undefined="are constant in every feature",
    about=About(
        formula="mean over i of max over j of r(Xᵢ, Yⱼ)",
        cost="n d²",
        use="to ask whether each feature of X is also a feature of Y",
        reference="Li et al. (2015), section 3",
    ),
)

FAMILY = (HARD, SOFT)
