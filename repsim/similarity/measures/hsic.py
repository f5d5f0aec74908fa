r"""Hilbert-Schmidt independence criterion (HSIC) with linear kernels.

With centred columns and Gram matrices :math:`K = X X^T`, :math:`L = Y Y^T` the biased estimator is :math:`\sum_{ij}
K_{ij} L_{ij} / (n - 1)^2`. The unbiased estimator leaves out the diagonal, where every stimulus is compared with
itself: :math:`\sum_{i \neq j} \tilde K_{ij} \tilde L_{ij} / (n (n - 3))`, with U-centred Gram matrices, whose rows sum
to zero without their diagonal.

Both follow exactly from the Gram matrices (n, n) or from the cross product of the features (d1, d2). All functions of
this module take representations after `normalised`.

References
----------
Gretton, Bousquet, Smola & Schoelkopf (2005). Measuring statistical dependence with Hilbert-Schmidt norms. ALT, eq. 9.
Song, Smola, Gretton, Bedo & Borgwardt (2012). Feature selection via dependence maximization. JMLR 13, eq. 5.
Szekely & Rizzo (2014). Partial distance correlation with methods for dissimilarities. Annals of Statistics 42,
definitions 2 and 3: the same number by U-centring.
"""

from typing import Any

import numpy as np
import torch

from repsim.similarity.precision import FloatArray, centred

EVERYTHING = slice(None)


def normalised(X: FloatArray) -> FloatArray:
    """Centre the columns and scale the mean squared norm of a row to one; return zeros if X is constant.

    CKA depends on neither. HSIC then has no unit, and the off-diagonal entries of each row of the Gram matrix sum to
    minus the diagonal, which both estimators use.
    """
    Z = centred(X, axis=0)
    largest = max(Z.max(), -Z.min()) or 1.0
    if not 1e-100 < largest < 1e100:
        Z /= largest  # so that no square overflows or vanishes
    Z /= np.sqrt(np.vdot(Z, Z) / len(Z)) or 1.0
    return Z


def hsic(X: FloatArray, Y: FloatArray, *, unbiased: bool) -> float:
    """Compute the HSIC of two normalised representations by the route with fewer multiplications.

    This route needs no more memory than X and Y together.
    """
    (n, d1), d2 = X.shape, Y.shape[1]
    route = hsic_from_features if d1 * d2 <= n * (d1 + d2) else hsic_from_grams
    return route(X, Y, unbiased=unbiased)


def hsic_from_features(X: Any, Y: Any, *, unbiased: bool) -> float:
    r"""Compute HSIC from the cross product of the features.

    Over all pairs of stimuli :math:`\sum_{ij} K_{ij} L_{ij} = |X^T Y|_F^2`. The unbiased estimator subtracts the
    diagonal :math:`a = \sum_i |x_i|^2 |y_i|^2` and the effect of U-centring, which for centred columns is

    .. math:: \frac{2 a}{n - 2} - \frac{\sum_i |x_i|^2 \sum_i |y_i|^2}{(n - 1)(n - 2)}
    """
    n = len(X)
    cross = (X.T @ Y).ravel()  # (d1 * d2,)
    total = cross @ cross
    if unbiased:
        x, y = squared_norms(X), squared_norms(Y)
        total += x.sum() * y.sum() / ((n - 1) * (n - 2)) - x @ y * n / (n - 2)
    return float(total) / degrees(n, unbiased=unbiased)


def hsic_from_grams(X: FloatArray, Y: FloatArray, *, unbiased: bool) -> float:
    """Compute HSIC from the two Gram matrices."""
    total = np.vdot(gram(X, unbiased=unbiased), gram(Y, unbiased=unbiased))
    return float(total) / degrees(len(X), unbiased=unbiased)


def gram(X: Any, rows: slice = EVERYTHING, columns: slice = EVERYTHING, *, unbiased: bool, out: Any = None) -> Any:
    """Compute the Gram matrix of a normalised representation, or a tile of it.

    A tile is on the diagonal (equal slices) or off it (slices that do not overlap). ``unbiased`` U-centres it, for the
    unbiased estimator.
    """
    library = torch if isinstance(X, torch.Tensor) else np
    K = library.matmul(X[rows], X[columns].T, out=out)
    return u_centred(K, rows, columns, -squared_norms(X)) if unbiased else K


def u_centred(K: Any, rows: slice, columns: slice, sums: Any) -> Any:
    r"""U-centre a tile of a Gram matrix in place.

    .. math:: \tilde K_{ij} = K_{ij} - \frac{s_i + s_j}{n - 2} + \frac{\sum_k s_k}{(n - 1)(n - 2)},
              \quad \tilde K_{ii} = 0

    ``sums`` holds the sum s of each row of the whole matrix without its diagonal entry.

    References
    ----------
    Szekely & Rizzo (2014). Partial distance correlation with methods for dissimilarities. Annals of Statistics 42,
    definition 2.
    """
    n = len(sums)
    effects = (sums - sums.sum() / (2 * (n - 1))) / (n - 2)
    K -= effects[rows, None]
    K -= effects[columns]
    if rows == columns:
        diagonal = range(len(K))
        K[diagonal, diagonal] = 0.0
    return K


def squared_norms(X: Any) -> Any:
    """Return the squared length of each row of an array or tensor."""
    return torch.linalg.vecdot(X, X) if isinstance(X, torch.Tensor) else np.vecdot(X, X)


def degrees(n: int, *, unbiased: bool) -> int:
    """Return the divisor of the estimator for n stimuli."""
    return n * (n - 3) if unbiased else (n - 1) ** 2
