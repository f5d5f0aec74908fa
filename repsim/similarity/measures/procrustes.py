"""Procrustes distances: distances of two representations after the best rotation, or reordering, of one of them."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.measures.cca import centred_svd, refuse_saturated
from repsim.similarity.measures.measure import ISOMETRY, SHAPE, About, Measure, Streamed, evaluate
from repsim.similarity.measures.streamed import values_of_pairs
from repsim.similarity.precision import FloatArray, centred, unit

# Above this sum s of singular values, 2 - 2 s has lost digits and the distance is computed from the residual.
NEAR = 1 - 1e-4


@complete_docstring()
def procrustes(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute the orthogonal Procrustes distance of two representations, centred and scaled to norm 1.

    .. math:: d(X, Y) = \min_{Q^T Q = I} |X - Y Q|_F = \sqrt{2 - 2 |X^T Y|_*}

    with the nuclear norm :math:`|\cdot|_*`, the sum of the singular values. The narrower representation is padded with
    columns of zeros. This is not `scipy.spatial.procrustes`, which also scales Y to fit: that disparity is
    :math:`1 - |X^T Y|_*^2`.

    Returns
    -------
    float
        Within [0, sqrt(2)], a metric; 0 if Y is X up to rotation, reflection, isotropic scaling and translation. NaN,
        with a warning, if X or Y is constant.

    References
    ----------
    Schoenemann (1966). A generalized solution of the orthogonal Procrustes problem. Psychometrika 31.
    Williams, Kunz, Kornblith & Linderman (2021). Generalized shape metrics on neural representations. NeurIPS.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(procrustes(X, 2 * X[:, ::-1] + 1), 6)
    0.0
    """
    return evaluate(CHORD, X, Y)


@complete_docstring()
def angular_procrustes(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute the angle between two representations after the best rotation of one onto the other.

    .. math:: \theta(X, Y) = \arccos |X^T Y|_*

    with X and Y centred and of Frobenius norm 1, and the nuclear norm :math:`|\cdot|_*`. It is the length of the arc on
    the unit sphere whose chord is `procrustes`. Its cosine is the normalised Bures similarity of the Gram matrices.

    Returns
    -------
    float
        In radians, within [0, pi / 2], a metric; 0 if Y is X up to rotation, reflection, isotropic scaling and
        translation. NaN, with a warning, if X or Y is constant.

    References
    ----------
    Williams, Kunz, Kornblith & Linderman (2021). Generalized shape metrics on neural representations. NeurIPS.

    Examples
    --------
    >>> round(angular_procrustes([[1], [-1], [0]], [[1], [1], [-2]]) / np.pi, 6)
    0.5
    """
    return evaluate(ANGLE, X, Y)


@complete_docstring("With alpha 0, the rank of X after centring must be smaller than n - 1.")
def shape_distance(X: ArrayLike, Y: ArrayLike, *, alpha: float = 0.5) -> float:
    r"""Compute the generalised shape metric: angular Procrustes distance of partially whitened representations.

    .. math:: \theta(X, Y) = \arccos \frac{|Z_X^T Z_Y|_*}{|Z_X|_F \, |Z_Y|_F},
              \qquad Z_X = X \left( \alpha I + (1 - \alpha) (X^T X)^{-1/2} \right)

    with X centred and scaled to the Frobenius norm of the whitened X, the square root of its rank, so that alpha has
    the same meaning in any unit and for any number of features (the paper leaves the scale of X to the user). With
    alpha 1 this is `angular_procrustes`; with alpha 0 it is the arc cosine of `mean_cca`, for equal ranks.

    Parameters
    ----------
    alpha : float in [0, 1], default 0.5
        Weight of the representation without whitening.

    Returns
    -------
    float
        In radians, within [0, pi / 2], a metric; 0 if Y is X up to rotation, reflection, isotropic scaling and
        translation. NaN, with a warning, if X or Y is constant.

    References
    ----------
    Williams, Kunz, Kornblith & Linderman (2021). Generalized shape metrics on neural representations. NeurIPS.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> [round(shape_distance(X, X * [1, 2, 3], alpha=alpha), 3) for alpha in (0, 0.5, 1)]
    [0.0, 0.214, 0.425]
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; expected a number from 0 (CCA) to 1 (Procrustes).")
    return evaluate(replace(GENERALISED, prepare=partial(_prepare_whitened, alpha=alpha)), X, Y)


@complete_docstring()
def permutation_procrustes(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute the distance of two representations of norm 1 after the best matching of their features.

    .. math:: d(X, Y) = \min_P |X - Y P|_F = \sqrt{2 - 2 \max_M \sum_{(i, j) \in M} x_i^T y_j}

    over the permutations P of the features after both are padded with features of zeros; that is, over the matchings M
    of some features of X with as many features of Y. A feature remains unmatched if its match would have a negative
    covariance. Where all features are matched, this is the usual distance over permutation matrices. It is a metric for
    any numbers of features; padding only the narrower representation would not give one.

    Returns
    -------
    float
        Within [0, sqrt(2)], a metric; 0 if Y is X up to the order of the features, isotropic scaling and translation.
        NaN, with a warning, if X or Y is constant.

    References
    ----------
    Williams, Kunz, Kornblith & Linderman (2021). Generalized shape metrics on neural representations. NeurIPS.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> permutation_procrustes(X, 2 * X[:, ::-1]) < 1e-12 < permutation_procrustes(X, -X)
    True
    """
    return evaluate(MATCHED, X, Y)


def unit_norm(X: FloatArray) -> FloatArray | None:
    """Centre the columns and scale the matrix to Frobenius norm 1; return None if X is constant."""
    Z = centred(X, axis=0)
    return unit(Z) if Z.any() else None


def in_row_space(X: FloatArray) -> FloatArray:
    """Rotate a wide representation into the space of its rows, which has at most n features.

    All inner products of stimuli are unchanged.
    """
    n, d = X.shape
    return np.asarray(np.linalg.qr(X.T, mode="r")).T if n < d else X


def polar(M: FloatArray) -> FloatArray:
    """Return the orthogonal polar factor: the orthogonal matrix with the largest inner product with M."""
    U, _, Vt = np.linalg.svd(M)
    return U @ Vt


def with_width(X: FloatArray, width: int) -> FloatArray:
    """Append columns of zeros."""
    return np.pad(X, [(0, 0), (0, width - X.shape[1])])


def _prepare_scaled(X: FloatArray, name: str) -> FloatArray | None:
    return unit_norm(X)


def prepare_rotated(X: FloatArray, name: str) -> FloatArray | None:
    """Centre a representation, scale it to norm 1 and rotate it into the space of its rows; None if it is constant."""
    Z = unit_norm(X)
    return None if Z is None else in_row_space(Z)


def _prepare_whitened(X: FloatArray, name: str, *, alpha: float) -> FloatArray | None:
    U, s, _ = centred_svd(X)
    if alpha == 0:
        refuse_saturated(X.shape, len(s), name, "full whitening", "raise alpha")
    if not s.size:
        return None
    s = s / s[0]  # no square overflows or vanishes
    weights = alpha * s * np.sqrt(len(s)) / np.linalg.norm(s) + (1 - alpha)
    # Without the last factor of Z = U diag(weights) V', a rotation.
    return U * (weights / np.linalg.norm(weights))


def _chord(x: FloatArray, y: FloatArray) -> float:
    s = np.linalg.svdvals(x.T @ y).sum()
    return _residual(x, y) if s > NEAR else math.sqrt(2 - 2 * s)


def _angle(x: FloatArray, y: FloatArray) -> float:
    return min(2 * math.asin(_chord(x, y) / 2), math.pi / 2)


def _residual(x: FloatArray, y: FloatArray) -> float:
    """Return the distance of the rotated representations, which is exact to rounding even if it is small."""
    d = max(x.shape[1], y.shape[1])
    x, y = with_width(x, d), with_width(y, d)
    return float(np.linalg.norm(x - y @ polar(y.T @ x)))


def _matched(x: FloatArray, y: FloatArray) -> float:
    products = x.T @ y
    i, j = linear_sum_assignment(np.maximum(products, 0), maximize=True)
    kept = products[i, j] > 0
    i, j = i[kept], j[kept]
    # From the residual, since 2 - 2 s would lose the digits of a small distance.
    alone = np.linalg.norm(np.delete(x, i, axis=1)), np.linalg.norm(np.delete(y, j, axis=1))
    return min(math.hypot(np.linalg.norm(x[:, i] - y[:, j]), *alone), math.sqrt(2))


def _length(own: FloatArray, n: int, name: str) -> float | None:
    return float(np.sqrt(np.trace(own))) or None


def _cosine_of_streams(x: float, y: float, cross: FloatArray) -> float:
    """Return the cosine of the angular distance: the nuclear norm of the products of both, scaled to norm 1."""
    return float(np.clip(np.linalg.svd(cross / (x * y), compute_uv=False).sum(), 0.0, 1.0))


def _chord_of_streams(x: float, y: float, cross: FloatArray) -> float:
    return float(np.sqrt(2 - 2 * _cosine_of_streams(x, y, cross)))


def _angle_of_streams(x: float, y: float, cross: FloatArray) -> float:
    return float(np.arccos(_cosine_of_streams(x, y, cross)))


CHORD = Measure(
    name="procrustes",
    label="Procrustes distance",
    prepare=prepare_rotated,
    compare=_chord,
    streamed=Streamed(from_sums=partial(values_of_pairs, prepare=_length, compare=_chord_of_streams)),
    range=(0.0, math.sqrt(2)),
    direction="distance",
    is_metric=True,
    invariances=ISOMETRY,
    about=About(
        formula="√(2 − 2 |XᵀY|₊), nuclear norm, centred columns, |X| = |Y| = 1",
        cost="n d min(n, d) + min(n, d)³",
        use="the distance that remains after the best rotation; a metric",
        reference="Schoenemann (1966); Williams et al. (2021)",
    ),
)

ANGLE = Measure(
    name="angular_procrustes",
    label="angular Procrustes distance",
    prepare=prepare_rotated,
    compare=_angle,
    streamed=Streamed(from_sums=partial(values_of_pairs, prepare=_length, compare=_angle_of_streams)),
    range=(0.0, math.pi / 2),
    direction="distance",
    is_metric=True,
    invariances=ISOMETRY,
    about=About(
        formula="arccos |XᵀY|₊, nuclear norm, centred columns, |X| = |Y| = 1",
        cost="n d min(n, d) + min(n, d)³",
        use="Procrustes as an angle, to embed or cluster layers by distance",
        reference="Williams et al. (2021)",
    ),
)

GENERALISED = Measure(
    name="shape",
    label="shape distance",
    prepare=partial(_prepare_whitened, alpha=0.5),
    compare=_angle,
    range=(0.0, math.pi / 2),
    direction="distance",
    is_metric=True,
    invariances=ISOMETRY,
    about=About(
        formula="angular Procrustes distance of X (½ I + ½ (XᵀX)^(−½)), centred columns, |X|² = rank of X",
        cost="n d min(n, d)",
        use="between CCA and Procrustes: large directions have more weight, small ones some",
        reference="Williams et al. (2021)",
    ),
)

MATCHED = Measure(
    name="permutation_procrustes",
    label="permutation Procrustes distance",
    prepare=_prepare_scaled,
    compare=_matched,
    range=(0.0, math.sqrt(2)),
    direction="distance",
    is_metric=True,
    invariances=SHAPE,
    about=About(
        formula="√(2 − 2 max Σ xᵢᵀyⱼ) over matchings of features i to j, centred columns, |X| = |Y| = 1",
        cost="n d² + d³",
        use="to ask whether single units correspond, and not only the spaces they span",
        reference="Williams et al. (2021)",
    ),
)

FAMILY = (CHORD, ANGLE, GENERALISED, MATCHED)
