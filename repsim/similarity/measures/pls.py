"""Partial least squares (PLS): correlations along the directions of largest covariance."""

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.measures.measure import ISOMETRY, About, Measure, Streamed, evaluate
from repsim.similarity.measures.procrustes import prepare_rotated
from repsim.similarity.measures.streamed import RANK, values_of_pairs
from repsim.similarity.precision import FloatArray


@complete_docstring()
def pls(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute the mean correlation of the latent scores of PLS-SVD, weighted by their covariance.

    .. math:: \frac{\sum_i s_i r_i}{\sum_i s_i}, \qquad X^T Y = \sum_i s_i u_i v_i^T, \qquad
              r_i = \frac{s_i}{|X u_i| \, |Y v_i|}

    with X and Y centred, the singular value decomposition of their cross product, and the correlation :math:`r_i` of
    the scores :math:`X u_i` and :math:`Y v_i`. CCA uses the directions of largest correlation, however little of X and
    Y varies along them; these are the directions of largest covariance. The singular vectors of equal singular values
    are not unique, and the correlations depend on their choice. The value is not corrected for chance: for unrelated
    representations it grows with d / n.

    This is PLS-SVD (PLS-C), in which all pairs of scores come from one decomposition. It is neither PLS regression nor
    the canonical PLS that deflates X and Y in turn.

    Returns
    -------
    float
        Within [0, 1]; 1 if Y is X up to rotation, isotropic scaling and translation, 0 if no feature of X covaries
        with any of Y. NaN, with a warning, if X or Y is constant.

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
    return evaluate(PLS, X, Y)


def _compare(x: FloatArray, y: FloatArray) -> float:
    U, s, Vt = np.linalg.svd(x.T @ y, full_matrices=False)
    # x and y have norm 1: smaller values are rounding errors of their product, with arbitrary directions.
    kept = s > max(x.shape + y.shape) * np.finfo(s.dtype).eps
    if not kept.any():
        return 0.0
    U, s, V = U[:, kept], s[kept], Vt[kept].T
    correlations = s / (np.linalg.norm(x @ U, axis=0) * np.linalg.norm(y @ V, axis=0))
    return float(np.clip(s @ correlations / s.sum(), 0.0, 1.0))


def _covariance(own: FloatArray, n: int, name: str) -> FloatArray | None:
    return own if own.any() else None


def _compare_streams(x: FloatArray, y: FloatArray, cross: FloatArray) -> float:
    U, s, V = np.linalg.svd(cross, full_matrices=False)
    lengths = np.sqrt(np.vecdot(U.T, U.T @ x) * np.vecdot(V, V @ y))
    shared = s > RANK * s[0]
    return float(np.clip((s[shared] ** 2 / lengths[shared]).sum() / s[shared].sum(), 0.0, 1.0))


PLS = Measure(
    name="pls",
    label="PLS correlation",
    prepare=prepare_rotated,
    compare=_compare,
    streamed=Streamed(from_sums=partial(values_of_pairs, prepare=_covariance, compare=_compare_streams)),
    range=(0.0, 1.0),
    invariances=ISOMETRY,
    about=About(
        formula="Σᵢ sᵢ rᵢ / Σᵢ sᵢ, rᵢ = corr(X uᵢ, Y vᵢ), XᵀY = Σᵢ sᵢ uᵢ vᵢᵀ, centred columns",
        cost="n d min(n, d) + min(n, d)³",
        use="between CCA and CKA: correlations along the directions of largest covariance",
        reference="McIntosh et al. (1996); Wegelin (2000)",
    ),
)

FAMILY = (PLS,)
