r"""Whitened cosine and correlation, which account for the correlated errors of distances that share a stimulus.

For squared distances between estimated patterns whose errors are independent and of equal size, the covariance of the
distances is proportional to

.. math:: V = 2 I + B B^T

where B (m, n) is one if a stimulus belongs to a pair, so that V is 4 for a pair with itself, 1 for pairs with a
stimulus in common and 0 otherwise. The whitened cosine is that of :math:`V^{-1/2} a` and :math:`V^{-1/2} b`. V has only
three distinct eigenvalues and is never formed:

- 2n for constant vectors (so that the mean whitened by V is the ordinary mean, as V 1 = 2n 1),
- n for vectors :math:`t_i + t_j` with :math:`\sum t = 0`,
- 2 for all other vectors.

Since :math:`a^T V^{-1} b = \mathrm{tr}(G_a G_b)` with the Gram matrices :math:`G = - H D H / 2`, the whitened cosine of
squared Euclidean RDMs is their biased linear CKA.

References
----------
Diedrichsen, Berlot, Mur, Schütt, Shahbazi & Kriegeskorte (2020). Comparing representational geometries using whitened
unbiased-distance-matrix similarity. arXiv:2007.02789.
"""

import numpy as np
from scipy.spatial.distance import squareform

from repsim.similarity.comparators.comparator import About
from repsim.similarity.comparators.correlations import cosine_comparator, deviations
from repsim.similarity.precision import FloatArray


def whiten(distances: FloatArray) -> FloatArray:
    r"""Multiply a condensed RDM by :math:`V^{-1/2}`."""
    D = squareform(distances, checks=False)
    n, mean = len(D), distances.mean()
    effects = D.sum(axis=0) - (n - 1) * mean  # B'd without its mean
    effects /= max(n - 2, 1)  # with two stimuli they are zero
    D *= np.sqrt(1 / 2)
    effects *= np.sqrt(1 / n) - np.sqrt(1 / 2)
    D += effects[:, None]
    D += effects
    D += mean * (np.sqrt(1 / (2 * n)) - np.sqrt(1 / 2))
    return squareform(D, checks=False)


def _whiten_deviations(distances: FloatArray) -> FloatArray:
    return whiten(deviations(distances))


COSINE_WHITENED = cosine_comparator(
    "cosine_whitened",
    whiten,
    ignores_offset=False,
    needs_all_pairs=True,
    about=About(
        formula="aᵀV⁻¹b / √(aᵀV⁻¹a · bᵀV⁻¹b), V = 2 I + BBᵀ",
        cost="m; m",
        use="squared distances whose zero has a meaning; biased linear CKA if they are Euclidean",
        reference="Diedrichsen et al. (2020)",
    ),
)

PEARSON_WHITENED = cosine_comparator(
    "pearson_whitened",
    _whiten_deviations,
    ignores_offset=True,
    needs_all_pairs=True,
    about=About(
        formula="cosine_whitened of a - ā and b - b̄",
        cost="m; m",
        use="squared distances that are all biased by noise by the same amount",
        reference="Diedrichsen et al. (2020)",
    ),
)

FAMILY = (COSINE_WHITENED, PEARSON_WHITENED)
