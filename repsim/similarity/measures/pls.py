"""Partial least squares (PLS): how well the directions of largest covariance agree."""

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity.measures.measure import Measure, evaluate
from repsim.similarity.measures.procrustes import in_row_space, unit_norm
from repsim.similarity.precision import FloatArray


def pls(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Mean correlation of the latent scores of PLS-SVD, weighted by their covariance.

    .. math:: \frac{\sum_i s_i r_i}{\sum_i s_i}, \qquad X^T Y = \sum_i s_i u_i v_i^T, \qquad
              r_i = \frac{s_i}{|X u_i| \, |Y v_i|}

    with X and Y centred, the singular value decomposition of their cross product, and the correlation :math:`r_i` of
    the scores :math:`X u_i` and :math:`Y v_i`. Where CCA takes the directions of largest correlation, however little of
    X and Y varies along them, these are the ones of largest covariance. The singular vectors of equal singular values
    are not unique, and the correlations depend on their choice. Not corrected for chance: of unrelated representations
    it grows with d / n.

    This is PLS-SVD (PLS-C), of which all pairs of scores come from one decomposition; not PLS regression, nor the
    canonical PLS that deflates X and Y in turn.

    Parameters
    ----------
    X : array-like (n, d1)
    Y : array-like (n, d2)
        The same stimuli in the same order.

    Returns
    -------
    float
        Within [0, 1]; 1 if Y is X up to rotation, isotropic scaling and translation, 0 if no feature of X covaries
        with any of Y. NaN if X or Y is constant.

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
    McIntosh, Bookstein, Haxby & Grady (1996). Spatial pattern analysis of functional brain images using partial least
    squares. NeuroImage 3.
    Wegelin (2000). A survey of partial least squares (PLS) methods, with emphasis on the two-block case. Technical
    report 371, University of Washington.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(pls(X, 2 * X[:, ::-1] + 1), 6)
    1.0
    """
    return evaluate(X, Y, _prepare, _compare, what="PLS correlation")


def _prepare(X: FloatArray, name: str) -> FloatArray | None:
    Z = unit_norm(X)
    return None if Z is None else in_row_space(Z)


def _compare(x: FloatArray, y: FloatArray) -> float:
    U, s, Vt = np.linalg.svd(x.T @ y, full_matrices=False)
    # x and y have norm 1: what is below this is the rounding of their product, and its directions are arbitrary.
    kept = s > max(x.shape + y.shape) * np.finfo(s.dtype).eps
    if not kept.any():
        return 0.0
    U, s, V = U[:, kept], s[kept], Vt[kept].T
    correlations = s / (np.linalg.norm(x @ U, axis=0) * np.linalg.norm(y @ V, axis=0))
    return float(np.clip(s @ correlations / s.sum(), 0.0, 1.0))


PLS = Measure(
    name="pls",
    label="PLS correlation",
    function=pls,
    prepare=_prepare,
    compare=_compare,
    formula="Σᵢ sᵢ rᵢ / Σᵢ sᵢ, rᵢ = corr(X uᵢ, Y vᵢ), XᵀY = Σᵢ sᵢ uᵢ vᵢᵀ, centred columns",
    range=(0.0, 1.0),
    direction="similarity",
    is_metric=False,
    invariances=frozenset({"permutation", "orthogonal", "isotropic scaling", "translation"}),
    cost="n d min(n, d) + min(n, d)³",
    use="between CCA and CKA: correlations, but along the directions of largest covariance",
    reference="McIntosh et al. (1996); Wegelin (2000)",
)

FAMILY = (PLS,)
