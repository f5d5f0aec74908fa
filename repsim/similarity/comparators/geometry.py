r"""Comparators of the Gram matrices of RDMs of squared distances.

.. math:: G = - \tfrac{1}{2} H D H, \qquad H = I - 1 1^T / n

which is :math:`X X^T` of centred patterns X if D are their squared Euclidean distances. If D are not the squared
Euclidean distances of any patterns, G has negative eigenvalues; these are set to zero, which gives the nearest Gram
matrix of patterns.

References
----------
Shahbazi, Shirali, Aghajan & Nili (2021). Using distance on the Riemannian manifold to compare representations in brain
and in models. NeuroImage 239:118271.
Williams, Kunz, Kornblith & Linderman (2021). Generalized shape metrics on neural representations. NeurIPS.
Alvarez-Esteban, del Barrio, Cuesta-Albertos & Matran (2016). A fixed-point approach to barycenters in Wasserstein
space. Journal of Mathematical Analysis and Applications 441.
Arsigny, Fillard, Pennec & Ayache (2007). Geometric means in a novel vector space structure on symmetric
positive-definite matrices. SIAM Journal on Matrix Analysis and Applications 29.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert
from scipy.spatial.distance import squareform

from repsim.similarity.comparators.comparator import About, Comparator
from repsim.similarity.precision import FloatArray

T = TypeVar("T")

# Eigenvalues below this fraction of the largest are rounding error.
NOTHING = 1e-12
# Ridge that is added to every eigenvalue, relative to their mean, so that all logarithms are finite.
RIDGE = 0.01
# The fixed-point iteration of the pool ends when a step increases the mean similarity by less than this.
GAIN = 1e-12
STEPS = 500


def gram(distances: FloatArray) -> FloatArray:
    r"""Return the Gram matrix of an RDM in n - 1 coordinates, with the largest distance as unit.

    It is :math:`- C D C^T / 2`, where the rows of C are orthonormal and sum to zero.
    """
    D = squareform(distances / np.abs(distances).max(), checks=False)
    contrasts = helmert(len(D))
    return contrasts @ D @ contrasts.T / -2


def root(distances: FloatArray) -> FloatArray | None:
    """Return patterns (n - 1, r) of total variance one whose squared distances are the RDM up to scale, or None."""
    if not distances.any():
        return None
    values, vectors = np.linalg.eigh(gram(distances))
    positive = _is_positive(values)
    if not positive.any():
        return None
    values = values[positive]
    return vectors[:, positive] * np.sqrt(values / values.sum())


def nuclear_norm(x: FloatArray, y: FloatArray) -> float:
    """Return the Bures similarity of two roots, within [0, 1]: the sum of the singular values of their product."""
    return float(np.clip(np.linalg.svd(x.T @ y, compute_uv=False).sum(), 0.0, 1.0))


def barycentre(rdms: FloatArray) -> FloatArray:
    """Return the RDM of the largest mean Bures similarity: the Wasserstein barycentre of Gram matrices of trace one.

    Fixed-point iteration: the patterns of every RDM are rotated onto the current mean and averaged. The mean similarity
    is concave, so that a fixed point is its maximum. Iterations end when a step increases it by less than 1e-12.

    References
    ----------
    Alvarez-Esteban et al. (2016), theorem 4.2.
    """
    roots = _defined([root(rdm) for rdm in rdms])
    mean = _symmetric_root(np.sum([x @ x.T for x in roots], axis=0))
    before = -np.inf
    for _ in range(STEPS):
        mean, value = _aligned_mean(roots, mean)
        if value - before < GAIN:
            break
        before = value
    return _distances(mean @ mean.T)


def second_moments(distances: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Return the Gram matrix with ridge, scaled to determinant one, and its inverse square root, or None."""
    spectrum = _log_spectrum(distances)
    if spectrum is None:
        return None
    logarithms, vectors = spectrum
    return (vectors * np.exp(logarithms)) @ vectors.T, (vectors * np.exp(-logarithms / 2)) @ vectors.T


def negative_distance(x: tuple[FloatArray, FloatArray], y: tuple[FloatArray, FloatArray]) -> float:
    r"""Return the negative affine-invariant Riemannian distance :math:`- |\log(A^{-1/2} B A^{-1/2})|_F`."""
    whitening = x[1]
    values = np.linalg.eigvalsh(whitening @ y[0] @ whitening)
    return -float(np.linalg.norm(np.log(values))) + 0.0


def log_euclidean_mean(rdms: FloatArray) -> FloatArray:
    """Return the RDM of the mean logarithm of the Gram matrices, which approximately minimises the Riemannian distance.

    It minimises the mean squared distance if the matrices commute. It is not the geometric median, which minimises the
    mean distance.

    References
    ----------
    Arsigny et al. (2007).
    """
    spectra = _defined([_log_spectrum(rdm) for rdm in rdms])
    mean = np.mean([(vectors * logarithms) @ vectors.T for logarithms, vectors in spectra], axis=0)
    logarithms, vectors = np.linalg.eigh(mean)
    values = np.exp(logarithms)
    # `second_moments` of this RDM adds the ridge again; subtracted here as far as no eigenvalue becomes negative.
    values -= min(values.mean() * RIDGE / (1 + RIDGE), values.min())
    return _distances((vectors * values) @ vectors.T)


def _log_spectrum(distances: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Return the logarithms of the eigenvalues of the Gram matrix with ridge, of mean zero, and the eigenvectors."""
    if not distances.any():
        return None
    values, vectors = np.linalg.eigh(gram(distances))
    if not _is_positive(values).any():
        return None
    values = np.maximum(values, 0.0)
    logarithms = np.log(values + RIDGE * values.mean())
    return logarithms - logarithms.mean(), vectors


def _is_positive(values: FloatArray) -> NDArray[np.bool_]:
    return values > NOTHING * np.abs(values).max()


def _defined(prepared: Sequence[T | None]) -> list[T]:
    return [each for each in prepared if each is not None]


def _symmetric_root(G: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(G)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _aligned_mean(roots: Sequence[FloatArray], mean: FloatArray) -> tuple[FloatArray, float]:
    """Return the mean of the roots after rotation onto the current mean, and their mean similarity with that mean."""
    mean = mean / np.linalg.norm(mean)
    total, value = np.zeros_like(mean), 0.0
    for x in roots:
        left, singular, right = np.linalg.svd(x.T @ mean, full_matrices=False)
        total += x @ (left @ right)
        value += singular.sum()
    return total / len(roots), value / len(roots)


def _distances(G: FloatArray) -> FloatArray:
    """Return the squared distances of a Gram matrix in the coordinates of `gram`."""
    contrasts = helmert(len(G) + 1)
    full = contrasts.T @ G @ contrasts
    norms = np.diagonal(full)
    return squareform(np.maximum(norms[:, None] + norms - 2 * full, 0.0), checks=False)


BURES = Comparator(
    name="bures",
    prepare=root,
    compare=nuclear_norm,
    pool=barycentre,
    is_exact_pool=True,
    range=(0.0, 1.0),
    ignores=frozenset({"scale"}),
    undefined="has no patterns that differ",
    needs_all_pairs=True,
    about=About(
        formula="tr √(√A B √A) / √(tr A tr B), A and B = -HDH/2",
        cost="n³; n³",
        use="squared distances; the cosine of the angular Procrustes distance if they are Euclidean",
        reference="Williams et al. (2021)",
    ),
)

RIEMANNIAN = Comparator(
    name="riemannian",
    prepare=second_moments,
    compare=negative_distance,
    pool=log_euclidean_mean,
    range=(-np.inf, 0.0),
    ignores=frozenset({"scale"}),
    undefined="has no patterns that differ",
    needs_all_pairs=True,
    about=About(
        formula="-|log(A^-½ B A^-½)|, A and B = -HDH/2 + ridge, scaled to determinant 1",
        cost="n³; n³",
        use="squared distances, with equal weight for directions of small and large variance; needs d ≥ n - 1",
        reference="Shahbazi et al. (2021)",
    ),
)

FAMILY = (BURES, RIEMANNIAN)
