"""Measures of what linear regression can predict from two representations: eigenspace overlap and GULP."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity.measures.cca import centred_svd, refuse_saturated
from repsim.similarity.measures.measure import Measure, evaluate
from repsim.similarity.precision import FloatArray, rounding_of

# A squared distance this small beside the squared norms it was subtracted from has lost digits, and is summed anew.
NEAR = 1e-6
# Products are then formed for this many pairs at a time (8 MiB), so that no n x n matrix is ever held.
PAIRS_AT_ONCE = 2**20


def eigenspace_overlap(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Share of the column spaces that two representations have in common.

    .. math:: \mathcal{E}(X, Y) = \frac{|U_X^T U_Y|_F^2}{\max(r_X, r_Y)}

    where the columns of :math:`U_X` (n, r_X) are the left singular vectors of X. It is the mean squared canonical
    correlation of representations that are not centred, with the larger rank for divisor: a subspace of a larger space
    is not equal to it. Singular values do not count, so that noise directions weigh as much as signal. Of unrelated
    representations it is min(r_X, r_Y) / n; it is not corrected for that.

    The rank of X counts the singular values above max(n, d) times machine epsilon times the largest.

    Parameters
    ----------
    X : array-like (n, d1)
        Its rank must be smaller than n.
    Y : array-like (n, d2)
        The same stimuli in the same order; of such rank too.

    Returns
    -------
    float
        Within [0, 1]; 1 if Y is X up to an invertible linear map. NaN if X or Y is constant,
        and so does not tell stimuli apart.

    Raises
    ------
    ValueError
        If X or Y is not a finite real matrix, if their numbers of rows differ, or if its rank is the number of rows.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    References
    ----------
    May, Zhang, Dao & Re (2019). On the downstream performance of compressed word embeddings. NeurIPS, section 3.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(eigenspace_overlap(X, X @ [[1, 2, 0], [0, 1, 0], [0, 0, 9]]), 6)
    1.0
    >>> round(eigenspace_overlap(X, X[:, :1]), 6)
    0.333333
    """
    return evaluate(X, Y, _prepare_overlap, _overlap, what="eigenspace overlap", undefined=UNDEFINED)


def gulp(X: ArrayLike, Y: ArrayLike, *, penalty: float = 1.0) -> float:
    r"""GULP distance: how differently ridge regression predicts from two representations.

    .. math:: d^2(X, Y) = |H_X - H_Y|_F^2 = \mathrm{tr}(S_X^2) + \mathrm{tr}(S_Y^2)
              - 2 \, \mathrm{tr}\left((C_X + \lambda I)^{-1} C_{XY} (C_Y + \lambda I)^{-1} C_{XY}^T\right)

    with centred columns, scaled so that the mean squared norm of a row is 1, the covariances :math:`C_X = X^T X / n`
    and :math:`C_{XY} = X^T Y / n`, and :math:`S_X = (C_X + \lambda I)^{-1} C_X`. The matrix
    :math:`H_X = X (C_X + \lambda I)^{-1} X^T / n` takes any target to what ridge regression on X predicts of it. So the
    squared distance is the mean squared difference of the two predictions, summed over n orthogonal targets of mean
    square one; of no single such target is the difference larger. These are predictions for the stimuli they are
    fitted to.

    Without penalty it is a Euclidean form of CCA, in which directions of X that are tiny, but no rounding (above
    max(n, d) times machine epsilon times the largest), count like any other; with a large one, only the largest count.

    Parameters
    ----------
    X : array-like (n, d1)
        Without penalty, its rank when centred must be smaller than n - 1.
    Y : array-like (n, d2)
        The same stimuli in the same order.
    penalty : float, default 1.0
        :math:`\lambda \geq 0`, in units of the total variance, which is 1.

    Returns
    -------
    float
        At least 0, and 0 if Y is X up to rotation, isotropic scaling and translation; at most
        :math:`\sqrt 2 / (1 + \lambda)` if :math:`\lambda \geq 1`, and :math:`1 / \sqrt{2 \lambda}` if less. NaN if X or
        Y is constant.

    Raises
    ------
    ValueError
        If X or Y is not a finite real matrix, if their numbers of rows differ, if the penalty is negative or not
        finite, or if it is 0 and there are too few rows.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    References
    ----------
    Boix-Adsera, Lawrence, Stepaniants & Rigollet (2022). GULP: a prediction-based metric between representations.
    NeurIPS, section 2.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(gulp(X, 2 * X[:, ::-1] + 1), 6), round(gulp(X, X[:, :1]), 2)
    (0.0, 0.35)
    """
    if not 0 <= penalty < math.inf:
        raise ValueError(f"penalty is {penalty}; expected a finite number of at least 0. The usual one is 1.")
    return evaluate(X, Y, partial(_prepare_gulp, penalty=penalty), _gulp, what="GULP distance")


UNDEFINED = "are constant"


def _prepare_overlap(X: FloatArray, name: str) -> FloatArray | None:
    n, _ = X.shape
    if (X[0] == X).all():
        return None
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    rank = np.count_nonzero(s > rounding_of(X))
    if rank == n:
        raise ValueError(
            f"{name} has {n} stimuli and as many linearly independent features, which span everything; eigenspace "
            "overlap needs more stimuli. Record more stimuli, or take gulp or cka."
        )
    return U[:, :rank] if rank else None


def _overlap(x: FloatArray, y: FloatArray) -> float:
    cross = (x.T @ y).ravel()
    return float(np.clip(cross @ cross / max(x.shape[1], y.shape[1]), 0.0, 1.0))


class _Predictor(NamedTuple):
    root: FloatArray  # (n, r); root @ root.T is what takes a target to its prediction
    squared_norm: float  # of that, Frobenius


def _prepare_gulp(X: FloatArray, name: str, *, penalty: float) -> _Predictor | None:
    U, s, _ = centred_svd(X)
    s = s / s[:1]  # so that no square overflows or vanishes
    if penalty == 0:
        refuse_saturated(X.shape, len(s), name, "GULP without penalty", "raise the penalty")
    if not len(s):
        return None
    variances = s**2 / (s @ s)
    kept = variances / (variances + penalty)
    return _Predictor(root=U * np.sqrt(kept), squared_norm=float(kept @ kept))


def _gulp(x: _Predictor, y: _Predictor) -> float:
    cross = (x.root.T @ y.root).ravel()
    scale = x.squared_norm + y.squared_norm
    squared = scale - 2 * float(cross @ cross)
    return math.sqrt(_summed_anew(x.root, y.root) if squared < NEAR * scale else squared)


def _summed_anew(x: FloatArray, y: FloatArray) -> float:
    """Squared Frobenius norm of x x' - y y', entry by entry."""
    rows, total = max(1, PAIRS_AT_ONCE // len(x)), 0.0
    for start in range(0, len(x), rows):
        block = slice(start, start + rows)
        difference = x[block] @ x.T
        difference -= y[block] @ y.T
        total += float(np.vdot(difference, difference))
    return total


OVERLAP = Measure(
    name="eigenspace_overlap",
    label="eigenspace overlap",
    function=eigenspace_overlap,
    prepare=_prepare_overlap,
    compare=_overlap,
    formula="|UₓᵀUᵧ|² / max(rₓ, rᵧ), Frobenius norm, U left singular vectors, nothing centred",
    range=(0.0, 1.0),
    direction="similarity",
    is_metric=False,
    invariances=frozenset({"permutation", "orthogonal", "invertible linear", "isotropic scaling"}),
    undefined=UNDEFINED,
    cost="n d²",
    use="what unpenalised regression could predict from both; needs n well above d",
    reference="May et al. (2019), section 3",
)

GULP = Measure(
    name="gulp",
    label="GULP distance",
    function=gulp,
    prepare=partial(_prepare_gulp, penalty=1.0),
    compare=_gulp,
    formula="|Hₓ − Hᵧ|, Frobenius norm, H = X (XᵀX/n + λI)⁻¹ Xᵀ/n, centred columns, total variance 1, λ = 1",
    range=(0.0, math.sqrt(0.5)),
    direction="distance",
    is_metric=True,
    invariances=frozenset({"permutation", "orthogonal", "isotropic scaling", "translation"}),
    cost="n d min(n, d)",
    use="a metric of what ridge regression would predict",
    reference="Boix-Adsera et al. (2022), section 2",
)

FAMILY = (OVERLAP, GULP)
