"""Measures of linear predictions from two representations: eigenspace overlap and GULP."""

import math
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.measures.cca import centred_svd, refuse_saturated
from repsim.similarity.measures.measure import ISOMETRY, About, Measure, evaluate
from repsim.similarity.pair_distances import PAIRS_AT_ONCE
from repsim.similarity.precision import FloatArray, rounding_of

# Below this fraction of the squared norms, a squared distance has lost digits and is computed entry by entry.
NEAR = 1e-6


@complete_docstring("The rank of X must be smaller than n.")
def eigenspace_overlap(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute the shared fraction of the column spaces of two representations.

    .. math:: \mathcal{E}(X, Y) = \frac{|U_X^T U_Y|_F^2}{\max(r_X, r_Y)}

    where the columns of :math:`U_X` (n, r_X) are the left singular vectors of X. It is the mean squared canonical
    correlation of representations that are not centred, divided by the larger rank, so that a subspace of a larger
    space is not equal to it. All directions have the same weight, so that noise counts as much as signal. For unrelated
    representations the value is min(r_X, r_Y) / n; it is not corrected for chance.

    The rank of X counts the singular values above max(n, d) times machine epsilon times the largest.

    Returns
    -------
    float
        Within [0, 1]; 1 if Y is X up to an invertible linear map. NaN, with a warning, if X or Y is constant.

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
    return evaluate(OVERLAP, X, Y)


@complete_docstring("Without penalty, the rank of X after centring must be smaller than n - 1.")
def gulp(X: ArrayLike, Y: ArrayLike, *, penalty: float = 1.0) -> float:
    r"""Compute the GULP distance: the difference of ridge regression predictions from two representations.

    .. math:: d^2(X, Y) = |H_X - H_Y|_F^2 = \mathrm{tr}(S_X^2) + \mathrm{tr}(S_Y^2)
              - 2 \, \mathrm{tr}\left((C_X + \lambda I)^{-1} C_{XY} (C_Y + \lambda I)^{-1} C_{XY}^T\right)

    with centred columns, scaled so that the mean squared norm of a row is 1, the covariances :math:`C_X = X^T X / n`
    and :math:`C_{XY} = X^T Y / n`, and :math:`S_X = (C_X + \lambda I)^{-1} C_X`. The matrix
    :math:`H_X = X (C_X + \lambda I)^{-1} X^T / n` maps a target to its prediction by ridge regression on X. The squared
    distance is therefore the mean squared difference of the two predictions, summed over n orthogonal targets of mean
    square one, and an upper bound of the difference for each of them. The predictions are for the stimuli that the
    regression is fitted to.

    Without penalty it is a Euclidean form of CCA, in which all directions above rounding error (max(n, d) times machine
    epsilon times the largest) have the same weight; with a large penalty, only the largest directions matter.

    Parameters
    ----------
    penalty : float, default 1.0
        :math:`\lambda \geq 0`, in units of the total variance, which is 1.

    Returns
    -------
    float
        At least 0, and 0 if Y is X up to rotation, isotropic scaling and translation; at most
        :math:`\sqrt 2 / (1 + \lambda)` if :math:`\lambda \geq 1`, and :math:`1 / \sqrt{2 \lambda}` if less. NaN,
        with a warning, if X or Y is constant.

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
    return evaluate(replace(GULP, prepare=partial(_prepare_gulp, penalty=penalty)), X, Y)


def _prepare_overlap(X: FloatArray, name: str) -> FloatArray | None:
    n, _ = X.shape
    if (X[0] == X).all():
        return None
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    rank = np.count_nonzero(s > rounding_of(X))
    if rank == n:
        raise ValueError(
            f"{name} has {n} stimuli and as many linearly independent features; eigenspace overlap needs more "
            "stimuli than that. Record more stimuli, or take gulp or cka."
        )
    return U[:, :rank] if rank else None


def _overlap(x: FloatArray, y: FloatArray) -> float:
    cross = (x.T @ y).ravel()
    return float(np.clip(cross @ cross / max(x.shape[1], y.shape[1]), 0.0, 1.0))


class _Predictor(NamedTuple):
    root: FloatArray  # (n, r); root @ root.T maps a target to its prediction
    squared_norm: float  # Frobenius norm of root @ root.T, squared


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
    return math.sqrt(_entry_by_entry(x.root, y.root) if squared < NEAR * scale else squared)


def _entry_by_entry(x: FloatArray, y: FloatArray) -> float:
    """Return the squared Frobenius norm of x x' - y y' from the differences of their entries."""
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
    prepare=_prepare_overlap,
    compare=_overlap,
    range=(0.0, 1.0),
    invariances=frozenset({"permutation", "orthogonal", "invertible linear", "isotropic scaling"}),
    about=About(
        formula="|UₓᵀUᵧ|² / max(rₓ, rᵧ), Frobenius norm, U left singular vectors, nothing centred",
        cost="n d²",
        use="to compare what regression without penalty could predict; needs n well above d",
        reference="May et al. (2019), section 3",
    ),
)

GULP = Measure(
    name="gulp",
    label="GULP distance",
    prepare=partial(_prepare_gulp, penalty=1.0),
    compare=_gulp,
    range=(0.0, math.sqrt(0.5)),
    direction="distance",
    is_metric=True,
    invariances=ISOMETRY,
    about=About(
        formula="|Hₓ − Hᵧ|, Frobenius norm, H = X (XᵀX/n + λI)⁻¹ Xᵀ/n, centred columns, total variance 1, λ = 1",
        cost="n d min(n, d)",
        use="a metric of what ridge regression would predict",
        reference="Boix-Adsera et al. (2022), section 2",
    ),
)

FAMILY = (OVERLAP, GULP)
