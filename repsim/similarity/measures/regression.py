"""Linear regression of one representation on another."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.measures.cca import centred_svd, refuse_saturated
from repsim.similarity.measures.measure import ISOMETRY, About, Measure, evaluate
from repsim.similarity.precision import FloatArray


@complete_docstring()
def linear_regression(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute the fraction of the variance of Y that a linear function of X explains.

    .. math:: R^2(X, Y) = 1 - \frac{\min_{B, b} |Y - X B - 1 b^T|_F^2}{|Y - 1 \bar y^T|_F^2}
              = \frac{|U_X^T Y|_F^2}{|Y|_F^2}

    where in the last expression Y is centred and the columns of :math:`U_X` are an orthonormal basis of the centred
    columns of X. All features of Y share one denominator, so that those of large variance have more weight. The value
    is not symmetric: X is the predictor and Y the target. It is neither cross-validated nor adjusted: for unrelated X
    it is about the rank of X over n - 1.

    Parameters
    ----------
    X : array-like (n, d1)
        The predictors. The rank of X after centring must be smaller than n - 1.
    Y : array-like (n, d2)
        The targets, for the same stimuli in the same order; any number of features.

    Returns
    -------
    float
        Within [0, 1]; 1 if Y is a linear function of X, up to translation. NaN, with a warning, if X or Y is constant.

    References
    ----------
    Kornblith, Norouzi, Lee & Hinton (2019). Similarity of neural network representations revisited. ICML, table 1; its
    X and Y stand the other way round.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(linear_regression(X, X[:, :2] + 1), 6)
    1.0
    >>> linear_regression(X[:, :2], X) < 0.9
    True
    """
    return evaluate(REGRESSION, X, Y)


class _Prepared(NamedTuple):
    basis: FloatArray  # (n, r)
    scores: FloatArray  # (n, r), rotated to its principal components, of norm 1
    shape: tuple[int, ...]
    name: str


def _prepare(X: FloatArray, name: str) -> _Prepared | None:
    U, s, _ = centred_svd(X)
    if not s.size:
        return None
    s = s / s[0]  # no square overflows or vanishes
    return _Prepared(U, U * (s / np.linalg.norm(s)), X.shape, name)


def _compare(x: _Prepared, y: _Prepared) -> float:
    # Checked here because only X, the predictor, needs more stimuli than features; with itself the value is 1 anyway.
    if x is not y:
        refuse_saturated(x.shape, x.basis.shape[1], x.name, "linear regression", "take cka")
    explained = np.linalg.norm(x.basis.T @ y.scores) ** 2
    return float(np.clip(explained, 0.0, 1.0))


REGRESSION = Measure(
    name="linear_regression",
    label="R² of linear regression",
    prepare=_prepare,
    compare=_compare,
    range=(0.0, 1.0),
    is_symmetric=False,
    invariances=ISOMETRY | {"invertible linear"},
    about=About(
        formula="|UₓᵀY|² / |Y|², Frobenius norms, Uₓ an orthonormal basis of X, centred columns",
        cost="n d²",
        use="how much of Y can be predicted from X, which is not symmetric; needs n well above d",
        reference="Kornblith et al. (2019), table 1",
    ),
)

FAMILY = (REGRESSION,)
