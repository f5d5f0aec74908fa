"""Distance correlation: linear and nonlinear dependence of two representations."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity.distances import DISTANCES
from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.measures.measure import ISOMETRY, About, Measure, evaluate
from repsim.similarity.precision import FloatArray
from repsim.similarity.rdm import compute_rdm

# Centred distances below this fraction of the distances are rounding error.
NOTHING = 1e-12


@complete_docstring()
def distance_correlation(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute the distance correlation of two representations.

    .. math:: \mathrm{dCor}(X, Y) = \sqrt{\frac{\mathrm{dCov}^2(X, Y)}
              {\sqrt{\mathrm{dCov}^2(X, X) \, \mathrm{dCov}^2(Y, Y)}}}, \quad
              \mathrm{dCov}^2(X, Y) = \frac{1}{n^2} \sum_{ij} A_{ij} B_{ij}

    where A and B are the Euclidean distances between the stimuli in X and in Y, centred over rows and columns. It is
    the square root of biased CKA with negative distances as kernels. It is a V-statistic, a biased estimator that is
    far above zero for unrelated representations of many features; `distance_correlation_unbiased` is near zero there.

    Returns
    -------
    float
        Within [0, 1]; 1 if Y is X up to rotation, isotropic scaling and translation. NaN, with a warning, if X or Y is
        constant.

    References
    ----------
    Szekely, Rizzo & Bakirov (2007). Measuring and testing dependence by correlation of distances. Annals of Statistics
    35, definitions 4 and 5.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> round(distance_correlation(x, 1 - 2 * x), 6), round(distance_correlation(x, x**2), 2)
    (1.0, 0.49)
    """
    return evaluate(BIASED, X, Y)


@complete_docstring("n >= 4.")
def distance_correlation_unbiased(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute the bias-corrected squared distance correlation of two representations.

    .. math:: R^*(X, Y) = \frac{\langle \tilde A, \tilde B \rangle}{|\tilde A| \, |\tilde B|}, \quad
              \langle \tilde A, \tilde B \rangle = \frac{1}{n (n - 3)} \sum_{i \neq j} \tilde A_{ij} \tilde B_{ij}

    where A and B are the Euclidean distances between the stimuli in X and in Y, U-centred. It estimates the square of
    the distance correlation; no root is taken because it may be negative. (Each inner product is unbiased; their ratio
    is not exactly.)

    Returns
    -------
    float
        Within [-1, 1], about 0 for independent representations; 1 if Y is X up to rotation, isotropic scaling and
        translation. NaN, with a warning, if X or Y is constant or has all its stimuli equally far apart.

    References
    ----------
    Szekely & Rizzo (2014). Partial distance correlation with methods for dissimilarities. Annals of Statistics 42,
    definitions 2 and 3.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> round(distance_correlation_unbiased(x, 1 - 2 * x), 6), round(distance_correlation_unbiased(x, x**2), 2)
    (1.0, 0.19)
    """
    return evaluate(UNBIASED, X, Y)


def _prepare(X: FloatArray, name: str, *, unbiased: bool) -> FloatArray | None:
    """Return centred distances, scaled so that the product of two of them is the correlation."""
    if unbiased and len(X) < 4:
        raise ValueError(
            f"{name} has {len(X)} stimuli; unbiased distance correlation needs at least 4. Record more stimuli, or "
            "take distance_correlation."
        )
    D, _ = compute_rdm(X, DISTANCES["euclidean"], name)
    size = D.max()
    if size == 0:
        return None
    D /= size
    size = np.linalg.norm(D)
    diagonal = _centre(D, len(X), unbiased=unbiased)
    # The matrix is symmetric: the upper triangle times the root of 2, and after it the diagonal, take half the memory.
    D *= np.sqrt(2)
    centred = D if unbiased else np.concatenate([D, diagonal])
    left = np.linalg.norm(centred)
    if left <= NOTHING * size:
        return None
    centred /= left
    return centred


def _centre(D: FloatArray, n: int, *, unbiased: bool) -> FloatArray:
    """Centre condensed distances over rows and columns in place, and return the diagonal that this gives."""
    sums = np.zeros(n)
    for i, row in _rows(n):
        sums[i] += D[row].sum()
        sums[i + 1 :] += D[row]
    rows, everything = (n - 2, n - 1) if unbiased else (n, n)
    effects = (sums - sums.sum() / (2 * everything)) / rows
    for i, row in _rows(n):
        D[row] -= effects[i]
        D[row] -= effects[i + 1 :]
    return -2 * effects


def _rows(n: int) -> Iterator[tuple[int, slice]]:
    """Yield the slice of a condensed RDM with the distances of stimulus i to all later ones."""
    end = 0
    for i in range(n - 1):
        begin, end = end, end + n - 1 - i
        yield i, slice(begin, end)


def _compare(x: FloatArray, y: FloatArray, *, unbiased: bool) -> float:
    product = float(x @ y)
    return float(np.clip(product, -1.0, 1.0) if unbiased else np.sqrt(np.clip(product, 0.0, 1.0)))


BIASED = Measure(
    name="distance_correlation",
    label="distance correlation",
    prepare=partial(_prepare, unbiased=False),
    compare=partial(_compare, unbiased=False),
    range=(0.0, 1.0),
    invariances=ISOMETRY,
    about=About(
        formula="√(dCov²(X, Y) / √(dCov²(X, X) dCov²(Y, Y))), centred Euclidean distances",
        cost="n² d and n²/2 stored numbers for each representation; n² for each pair",
        use="to compare with published values; far above 0 for unrelated wide representations",
        reference="Szekely, Rizzo & Bakirov (2007), definition 5",
    ),
)

UNBIASED = Measure(
    name="distance_correlation_unbiased",
    label="bias-corrected distance correlation",
    prepare=partial(_prepare, unbiased=True),
    compare=partial(_compare, unbiased=True),
    range=(-1.0, 1.0),
    invariances=ISOMETRY,
    undefined="are constant, or have all their stimuli equally far apart",
    about=About(
        formula="⟨A, B⟩ / (|A| |B|), U-centred Euclidean distances",
        cost="n² d and n²/2 stored numbers for each representation; n² for each pair",
        use="linear or nonlinear dependence; unrelated representations are near 0 for any n and d",
        reference="Szekely & Rizzo (2014), definitions 2 and 3",
    ),
)

FAMILY = (BIASED, UNBIASED)
