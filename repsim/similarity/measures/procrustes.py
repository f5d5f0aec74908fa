"""Procrustes distances: how far apart two representations stay when one is rotated, or reordered, onto the other."""

import math
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from repsim.similarity.measures.cca import centred_svd, refuse_saturated
from repsim.similarity.measures.measure import Measure, evaluate
from repsim.similarity.precision import FloatArray, centred

# Above this sum of singular values 2 - 2 s has lost digits, and the distance is taken from the residual.
NEAR = 1 - 1e-4


def procrustes(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Orthogonal Procrustes distance of two representations, centred and scaled to norm 1.

    .. math:: d(X, Y) = \min_{Q^T Q = I} |X - Y Q|_F = \sqrt{2 - 2 |X^T Y|_*}

    with the nuclear norm :math:`|\cdot|_*`, the sum of the singular values. The narrower one is padded with columns of
    zeros. Not `scipy.spatial.procrustes`, which also scales Y to fit: that disparity is :math:`1 - |X^T Y|_*^2`.

    Parameters
    ----------
    X : array-like (n, d1)
    Y : array-like (n, d2)
        The same stimuli in the same order.

    Returns
    -------
    float
        Within [0, sqrt(2)], a metric; 0 if Y is X up to rotation, reflection, isotropic scaling and translation. NaN
        if X or Y is constant.

    Raises
    ------
    ValueError
        If X or Y is not a finite real matrix, or if their numbers of rows differ.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

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
    return evaluate(X, Y, _prepare_rotated, _chord, what="Procrustes distance")


def angular_procrustes(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Angle between two representations after the best rotation of one onto the other.

    .. math:: \theta(X, Y) = \arccos |X^T Y|_*

    with X and Y centred and of Frobenius norm 1, and the nuclear norm :math:`|\cdot|_*`. The length of the arc on the
    unit sphere whose chord is `procrustes`. Its cosine is also the normalised Bures similarity of the Gram matrices.

    Parameters
    ----------
    X : array-like (n, d1)
    Y : array-like (n, d2)
        The same stimuli in the same order.

    Returns
    -------
    float
        In radians, within [0, pi / 2], a metric; 0 if Y is X up to rotation, reflection, isotropic scaling and
        translation. NaN if X or Y is constant.

    Raises
    ------
    ValueError
        If X or Y is not a finite real matrix, or if their numbers of rows differ.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    References
    ----------
    Williams, Kunz, Kornblith & Linderman (2021). Generalized shape metrics on neural representations. NeurIPS.

    Examples
    --------
    >>> round(angular_procrustes([[1], [-1], [0]], [[1], [1], [-2]]) / np.pi, 6)
    0.5
    """
    return evaluate(X, Y, _prepare_rotated, _angle, what="angular Procrustes distance")


def shape_distance(X: ArrayLike, Y: ArrayLike, *, alpha: float = 0.5) -> float:
    r"""Generalised shape metric: angular Procrustes distance of partially whitened representations.

    .. math:: \theta(X, Y) = \arccos \frac{|Z_X^T Z_Y|_*}{|Z_X|_F \, |Z_Y|_F},
              \qquad Z_X = X \left( \alpha I + (1 - \alpha) (X^T X)^{-1/2} \right)

    with X centred and scaled to the Frobenius norm of its whitened self, the square root of its rank, so that alpha
    means the same in any unit and for any number of features (the paper leaves the scale of X to the user). At alpha 1
    this is `angular_procrustes`; at alpha 0 the arc cosine of `mean_cca`, for equal ranks; between them, both at once.

    Parameters
    ----------
    X : array-like (n, d1)
        At alpha 0 its rank, centred, must be smaller than n - 1.
    Y : array-like (n, d2)
        The same stimuli in the same order.
    alpha : float in [0, 1], default 0.5
        How much of the representation is left as it is.

    Returns
    -------
    float
        In radians, within [0, pi / 2], a metric; 0 if Y is X up to rotation, reflection, isotropic scaling and
        translation. NaN if X or Y is constant.

    Raises
    ------
    ValueError
        If X or Y is not a finite real matrix, if their numbers of rows differ, if alpha is 0 and there are too few
        rows, or if alpha is outside [0, 1].

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

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
    return evaluate(X, Y, partial(_prepare_whitened, alpha=alpha), _angle, what="shape distance")


def permutation_procrustes(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Distance of two representations, centred and scaled to norm 1, after the best matching of their features.

    .. math:: d(X, Y) = \min_P |X - Y P|_F = \sqrt{2 - 2 \max_M \sum_{(i, j) \in M} x_i^T y_j}

    over the permutations P of the features, with as many features of zeros added to both as there may be use for; that
    is, over the matchings M of some features of X to as many of Y. A feature whose match would be negatively
    correlated is better left alone, and is. Where all features are matched, this is the usual distance over
    permutation matrices. It is a metric between any numbers of features, which padding only the narrower is not.

    Parameters
    ----------
    X : array-like (n, d1)
    Y : array-like (n, d2)
        The same stimuli in the same order.

    Returns
    -------
    float
        Within [0, sqrt(2)], a metric; 0 if Y is X up to the order of the features, isotropic scaling and translation.
        NaN if X or Y is constant.

    Raises
    ------
    ValueError
        If X or Y is not a finite real matrix, or if their numbers of rows differ.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    References
    ----------
    Williams, Kunz, Kornblith & Linderman (2021). Generalized shape metrics on neural representations. NeurIPS.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> permutation_procrustes(X, 2 * X[:, ::-1]) < 1e-12 < permutation_procrustes(X, -X)
    True
    """
    return evaluate(X, Y, _prepare_scaled, _matched, what="permutation Procrustes distance")


def unit_norm(X: FloatArray) -> FloatArray | None:
    """Centre the columns and scale all of them together to Frobenius norm 1.

    Parameters
    ----------
    X : array (n, d)

    Returns
    -------
    array (n, d) or None
        None if X is constant.

    Examples
    --------
    >>> unit_norm(np.array([[1.0, 5.0], [3.0, 5.0]])).round(3)
    array([[-0.707,  0.   ],
           [ 0.707,  0.   ]])
    """
    Z = centred(X, axis=0)
    largest = np.abs(Z).max()
    if largest == 0:
        return None
    Z /= largest  # no square overflows or vanishes
    Z /= np.linalg.norm(Z)
    return Z


def in_row_space(X: FloatArray) -> FloatArray:
    """Rotate a wide representation into the space of its rows, so that no more than n features are left.

    For what does not change with a rotation: all inner products of stimuli stay as they are.

    Parameters
    ----------
    X : array (n, d)

    Returns
    -------
    array (n, min(n, d))
        X itself if it is not wide.

    Examples
    --------
    >>> in_row_space(np.array([[3.0, 4.0]])).round(12)
    array([[-5.]])
    """
    n, d = X.shape
    return np.asarray(np.linalg.qr(X.T, mode="r")).T if n < d else X


def polar(M: FloatArray) -> FloatArray:
    """Orthogonal polar factor: of all orthogonal Q the one whose inner product with M is largest.

    Parameters
    ----------
    M : array (..., d, d)

    Returns
    -------
    array (..., d, d)

    Examples
    --------
    >>> polar(np.diag([2.0, -3.0])) + 0.0
    array([[ 1.,  0.],
           [ 0., -1.]])
    """
    U, _, Vt = np.linalg.svd(M)
    return U @ Vt


def with_width(X: FloatArray, width: int) -> FloatArray:
    """Add columns of zeros.

    Parameters
    ----------
    X : array (n, d)
    width : int
        At least d.

    Returns
    -------
    array (n, width)

    Examples
    --------
    >>> with_width(np.ones((1, 1)), 3)
    array([[1., 0., 0.]])
    """
    return np.pad(X, [(0, 0), (0, width - X.shape[1])])


def _prepare_scaled(X: FloatArray, name: str) -> FloatArray | None:
    return unit_norm(X)


def _prepare_rotated(X: FloatArray, name: str) -> FloatArray | None:
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
    """Distance by carrying the rotation out: exact to rounding also where it is small."""
    d = max(x.shape[1], y.shape[1])
    x, y = with_width(x, d), with_width(y, d)
    return float(np.linalg.norm(x - y @ polar(y.T @ x)))


def _matched(x: FloatArray, y: FloatArray) -> float:
    products = x.T @ y
    i, j = linear_sum_assignment(np.maximum(products, 0), maximize=True)
    kept = products[i, j] > 0
    i, j = i[kept], j[kept]
    # By the residual: 2 - 2 s would lose the digits of a small distance.
    alone = np.linalg.norm(np.delete(x, i, axis=1)), np.linalg.norm(np.delete(y, j, axis=1))
    return min(math.hypot(np.linalg.norm(x[:, i] - y[:, j]), *alone), math.sqrt(2))


ROTATIONS = frozenset({"permutation", "orthogonal", "isotropic scaling", "translation"})

CHORD = Measure(
    name="procrustes",
    label="Procrustes distance",
    function=procrustes,
    prepare=_prepare_rotated,
    compare=_chord,
    formula="√(2 − 2 |XᵀY|₊), nuclear norm, centred columns, |X| = |Y| = 1",
    range=(0.0, math.sqrt(2)),
    direction="distance",
    is_metric=True,
    invariances=ROTATIONS,
    cost="n d min(n, d) + min(n, d)³",
    use="what stays apart after the best rotation; a metric",
    reference="Schoenemann (1966); Williams et al. (2021)",
)

ANGLE = Measure(
    name="angular_procrustes",
    label="angular Procrustes distance",
    function=angular_procrustes,
    prepare=_prepare_rotated,
    compare=_angle,
    formula="arccos |XᵀY|₊, nuclear norm, centred columns, |X| = |Y| = 1",
    range=(0.0, math.pi / 2),
    direction="distance",
    is_metric=True,
    invariances=ROTATIONS,
    cost="n d min(n, d) + min(n, d)³",
    use="Procrustes as an angle, to embed or cluster layers by distance",
    reference="Williams et al. (2021)",
)

SHAPE = Measure(
    name="shape",
    label="shape distance",
    function=shape_distance,
    prepare=partial(_prepare_whitened, alpha=0.5),
    compare=_angle,
    formula="angular Procrustes distance of X (½ I + ½ (XᵀX)^(−½)), centred columns, |X|² = rank of X",
    range=(0.0, math.pi / 2),
    direction="distance",
    is_metric=True,
    invariances=ROTATIONS,
    cost="n d min(n, d)",
    use="half way between CCA and Procrustes: large directions count more, small ones too",
    reference="Williams et al. (2021)",
)

MATCHED = Measure(
    name="permutation_procrustes",
    label="permutation Procrustes distance",
    function=permutation_procrustes,
    prepare=_prepare_scaled,
    compare=_matched,
    formula="√(2 − 2 max Σ xᵢᵀyⱼ) over matchings of features i to j, centred columns, |X| = |Y| = 1",
    range=(0.0, math.sqrt(2)),
    direction="distance",
    is_metric=True,
    invariances=frozenset({"permutation", "isotropic scaling", "translation"}),
    cost="n d² + d³",
    use="to ask whether single units correspond, not only the spaces they span",
    reference="Williams et al. (2021)",
)

FAMILY = (CHORD, ANGLE, SHAPE, MATCHED)
