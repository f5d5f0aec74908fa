r"""Correlations of RDMs, which are inner products of two vectors that depend on one RDM each.

============  =================================================================================================
pearson       the deviations of the distances from their mean, scaled to length one
cosine        the distances, scaled to length one: a distance of zero has a meaning
spearman      the deviations of the ranks from their mean, scaled to length one; ties have the same mean rank
rho-a         the same ranks, divided by the length of ranks without ties
============  =================================================================================================

Rho-a is the expected value of spearman if ties are broken at random. Unlike rho-a, spearman and tau-b favour models
with ties that the data do not have.

References
----------
Kriegeskorte, Mur & Bandettini (2008). Representational similarity analysis - connecting the branches of systems
neuroscience. Frontiers in Systems Neuroscience 2:4.
Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023). Statistical inference on representational geometries. eLife 12.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from repsim.similarity.comparators.comparator import TRANSFORMATIONS, About, Comparator
from repsim.similarity.comparators.resampled import weighted_cosines, weighted_rank_correlations
from repsim.similarity.comparators.ties import is_constant, ranks
from repsim.similarity.precision import FloatArray, unit

Linear = Callable[[FloatArray], FloatArray]


def deviations(distances: FloatArray) -> FloatArray:
    """Return the differences from the mean."""
    return distances - distances.mean()


def inner(x: FloatArray, y: FloatArray) -> float:
    """Return the inner product of two vectors of length one at most, within [-1, 1]."""
    return float(np.clip(x @ y, -1.0, 1.0))


def inner_together(x: Sequence[FloatArray], y: Sequence[FloatArray]) -> FloatArray:
    """Return the inner products (p, q) of p with q vectors of length one at most, within [-1, 1]."""
    return np.clip(np.stack(x) @ np.stack(y).T, -1.0, 1.0)


def weighted_mean(rdms: FloatArray, linear: Linear) -> FloatArray:
    r"""Return the mean of RDMs weighted by one over their length after a linear map L.

    It has the largest mean cosine with them after that map: for :math:`x = L r`,
    :math:`\sum_i L d_i \cdot x / (|L d_i| |x|)` is largest if x is parallel to :math:`\sum_i L d_i / |L d_i|`.
    """
    largest = np.abs(rdms).max(axis=1, keepdims=True)
    scaled = rdms / largest  # so that no square overflows or vanishes
    weights = np.array([1 / np.linalg.norm(linear(rdm)) for rdm in scaled])
    return weights @ scaled / (weights @ (1 / largest[:, 0]))


def mean_rank(rdms: FloatArray) -> FloatArray:
    """Return the mean over RDMs of the ranks of their distances."""
    return np.mean([ranks(rdm) for rdm in rdms], axis=0)


def cosine_after(linear: Linear, distances: FloatArray) -> FloatArray | None:
    """Scale an RDM to length one after a linear map; return None for an RDM of zeros."""
    largest = np.abs(distances).max()
    return unit(linear(distances / largest)) if largest else None


def correlation_after(linear: Linear, distances: FloatArray) -> FloatArray | None:
    """Scale an RDM to length one after a linear map of constants to zero; return None for a constant RDM."""
    return None if is_constant(distances) else cosine_after(linear, distances)


def _itself(distances: FloatArray) -> FloatArray:
    return distances


def _rank_deviations(distances: FloatArray) -> FloatArray | None:
    if is_constant(distances):
        return None
    deviating = ranks(distances)
    deviating -= (len(deviating) + 1) / 2
    return deviating


def _spearman(distances: FloatArray) -> FloatArray | None:
    deviating = _rank_deviations(distances)
    if deviating is not None:
        deviating /= np.sqrt(deviating @ deviating)
    return deviating


def _rho_a(distances: FloatArray) -> FloatArray | None:
    deviating, m = _rank_deviations(distances), float(len(distances))
    if deviating is not None:
        deviating *= np.sqrt(12 / (m**3 - m))
    return deviating


def cosine_comparator(name: str, linear: Linear, *, ignores_offset: bool, **fields: Any) -> Comparator:
    """Return the cosine of two RDMs after a linear map, which takes constants to zero if an offset is ignored."""
    return Comparator(
        name=name,
        prepare=partial(correlation_after if ignores_offset else cosine_after, linear),
        compare=inner,
        pool=partial(weighted_mean, linear=linear),
        is_exact_pool=True,
        range=(-1.0, 1.0),
        ignores=frozenset({"scale", "offset"} if ignores_offset else {"scale"}),
        together=inner_together,
        linear=linear,
        **fields if ignores_offset else {"undefined": "is zero everywhere", **fields},
    )


PEARSON = cosine_comparator(
    "pearson",
    deviations,
    ignores_offset=True,
    weighted=partial(weighted_cosines, centre=True),
    about=About(
        formula="Σ (a - ā)(b - b̄) / (|a - ā| |b - b̄|)",
        cost="m; m",
        use="the default: distances are linearly related",
        reference="Kriegeskorte et al. (2008)",
    ),
)

COSINE = cosine_comparator(
    "cosine",
    _itself,
    ignores_offset=False,
    weighted=partial(weighted_cosines, centre=False),
    about=About(
        formula="Σ a b / (|a| |b|)",
        cost="m; m",
        use="a distance of zero has a meaning, as in cross-validated distances",
        reference="Diedrichsen et al. (2020)",
    ),
)

SPEARMAN = Comparator(
    name="spearman",
    prepare=_spearman,
    compare=inner,
    pool=mean_rank,  # the best among RDMs without ties; one that ties a few pairs can be a little better
    range=(-1.0, 1.0),
    ignores=TRANSFORMATIONS,
    together=inner_together,
    weighted=partial(weighted_rank_correlations, exact=True),
    about=About(
        formula="pearson of the ranks",
        cost="m log m; m",
        use="distances are monotonically related, and no model has ties",
        reference="Kriegeskorte et al. (2008)",
    ),
)

RHO_A = Comparator(
    name="rho-a",
    prepare=_rho_a,
    compare=inner,
    pool=mean_rank,  # exact: ranks with ties are means of ranks without, and the value is linear in them
    is_exact_pool=True,
    range=(-1.0, 1.0),
    ignores=TRANSFORMATIONS,
    together=inner_together,
    weighted=partial(weighted_rank_correlations, exact=False),
    about=About(
        formula="12 Σ (rank a - mean)(rank b - mean) / (m³ - m)",
        cost="m log m; m",
        use="distances are monotonically related, and a model has ties",
        reference="Schütt et al. (2023)",
    ),
)

FAMILY = (PEARSON, COSINE, SPEARMAN, RHO_A)
