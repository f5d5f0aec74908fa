r"""Matching measures: whether single features of one representation recur in another.

Features are compared by their correlation over stimuli, with its sign. A constant feature has none and is left out, as
if it had not been recorded.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from repsim.similarity.measures.measure import Measure, evaluate
from repsim.similarity.precision import FloatArray, centred


def hard_matching(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Mean correlation of features matched one to one.

    .. math:: \frac{1}{\min(d_1, d_2)} \max_\pi \sum_i r(X_i, Y_{\pi(i)})

    over all assignments :math:`\pi` that give every feature of the smaller representation a feature of its own in the
    larger; the others of the larger do not count. Every feature is matched, with a negative correlation if nothing
    better is left. The best of many assignments is picked: for unrelated representations the value is well above zero,
    and grows with the number of features and falls with that of stimuli.

    Parameters
    ----------
    X : array-like (n, d1)
        n >= 3.
    Y : array-like (n, d2)
        The same stimuli in the same order.

    Returns
    -------
    float
        Within [-1, 1]; 1 if each feature of the smaller is one of the larger, up to a positive factor and an offset.
        NaN if all features of X or of Y are constant.

    Raises
    ------
    ValueError
        If X or Y is not a finite real matrix, if their numbers of rows differ, or if there are fewer than 3 rows.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

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
    return evaluate(X, Y, _prepare, _hard, what="mean matched correlation", undefined=UNDEFINED)


def soft_matching(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Mean correlation of each feature of X with the feature of Y that is most like it.

    .. math:: \frac{1}{d_1} \sum_i \max_j r(X_i, Y_j)

    Several features of X may choose the same one of Y, and some of Y may be chosen by none, so that X and Y may not
    change places. It is at least `hard_matching` where X has no more features than Y. This is the semi-matching of
    Li et al., not the soft matching distance by optimal transport of Khosla & Williams (2024).

    Parameters
    ----------
    X : array-like (n, d1)
        n >= 3.
    Y : array-like (n, d2)
        The same stimuli in the same order.

    Returns
    -------
    float
        Within [-1, 1]; 1 if each feature of X is one of Y, up to a positive factor and an offset. NaN if all features
        of X or of Y are constant.

    Raises
    ------
    ValueError
        If X or Y is not a finite real matrix, if their numbers of rows differ, or if there are fewer than 3 rows.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

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
    return evaluate(X, Y, _prepare, _soft, what="mean largest correlation", undefined=UNDEFINED)


UNDEFINED = "are constant in every feature"


def _prepare(X: FloatArray, name: str) -> FloatArray | None:
    """Features that vary, centred and scaled to unit length."""
    if len(X) < 3:
        raise ValueError(
            f"{name} has {len(X)} stimuli; a correlation between features needs at least 3 (of 2 it is 1 or -1). "
            "Record more stimuli."
        )
    Z = centred(X, axis=0)
    spread = np.abs(Z).max(axis=0)
    varies = spread > 0
    if not varies.any():
        return None
    Z = Z[:, varies]
    Z /= spread[varies]  # so that no square overflows or vanishes
    Z /= np.linalg.norm(Z, axis=0)
    return Z


def _hard(x: FloatArray, y: FloatArray) -> float:
    correlations = x.T @ y  # (d1, d2)
    matched = correlations[linear_sum_assignment(correlations, maximize=True)]
    return float(np.clip(matched.mean(), -1.0, 1.0))


def _soft(x: FloatArray, y: FloatArray) -> float:
    return float(np.clip((x.T @ y).max(axis=1).mean(), -1.0, 1.0))


INVARIANCES = frozenset({"permutation", "isotropic scaling", "translation"})

HARD = Measure(
    name="hard_matching",
    label="one-to-one matching",
    function=hard_matching,
    prepare=_prepare,
    compare=_hard,
    formula="max over one-to-one π of the mean of r(Xᵢ, Yπ(ᵢ))",
    range=(-1.0, 1.0),
    direction="similarity",
    is_metric=False,
    invariances=INVARIANCES,
    undefined=UNDEFINED,
    cost="n d² + d³",
    use="whether the same features were learned, each once",
    reference="Li et al. (2015), section 3",
)

SOFT = Measure(
    name="soft_matching",
    label="one-to-many matching",
    function=soft_matching,
    prepare=_prepare,
    compare=_soft,
    formula="mean over i of max over j of r(Xᵢ, Yⱼ)",
    range=(-1.0, 1.0),
    direction="similarity",
    is_metric=False,
    is_symmetric=False,
    invariances=INVARIANCES,
    undefined=UNDEFINED,
    cost="n d²",
    use="whether each feature of X is found among those of Y",
    reference="Li et al. (2015), section 3",
)

FAMILY = (HARD, SOFT)
