"""Simultaneous bands for many effects of the same few networks, with moderated variances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, polygamma
from scipy.stats import t as student

__all__ = ["Bands", "band_quantile", "moderate_variances", "simultaneous_bands"]

Array = NDArray[np.float64]

_CHUNK = 2_000_000  # numbers that are drawn together
_SMALLEST = 1e-12  # of the largest variance of a kind; below it there is no spread but rounding


@dataclass(frozen=True, eq=False)
class Bands:
    """Errors of many effects.

    Attributes
    ----------
    standard_errors : array (n_effects,)
        Moderated; 0 where all networks agree.
    degrees_of_freedom : array (n_effects,)
        Of the moderated variances; infinite if all variances of a kind are equal up to chance.
    half_intervals, half_bands : array (n_effects,)
        Half the width of an interval for one effect, and of a band that covers all effects at once.
    """

    standard_errors: Array
    degrees_of_freedom: Array
    half_intervals: Array
    half_bands: Array


def simultaneous_bands(
    influences: ArrayLike,
    degrees_of_freedom: ArrayLike,
    kinds: Sequence[str],
    *,
    level: float = 0.95,
    n_samples: int = 5000,
    rng_seed: int = 0,
) -> Bands:
    r"""Return intervals and simultaneous bands of effects that are estimated from the same few networks.

    The variance of an effect is the sum of its squared influences :math:`s^2`, on d degrees of freedom. With five
    networks such a variance is so uncertain that a band over hundreds of effects would be very wide. Effects of one
    kind (one quantity and one contrast, at all layers and steps) therefore share information: their true variances are
    taken to be draws from a scaled inverse :math:`\chi^2` with :math:`d_0` degrees of freedom around :math:`s_0^2`,
    estimated from all of them [1]_, and

    .. math:: \tilde s^2 = \frac{d_0 s_0^2 + d s^2}{d_0 + d}

    has :math:`d_0 + d` degrees of freedom. The band is a quantile of the largest :math:`|t|` of all effects, drawn with
    the correlations of the influences. As correlations over few networks are large by chance, they are shrunk towards
    zero by :math:`1 / d`.

    Parameters
    ----------
    influences : array-like (n_units, n_effects)
        Contribution of each network to the error of each effect, as of ``repsim.similarity.group_effect``.
    degrees_of_freedom : array-like (n_effects,)
        Number of networks less one, 1 or more.
    kinds : sequence of str (n_effects,)
        Effects of equal kind share information about their variance.
    level : float, default 0.95
        Within (0, 1).
    n_samples : int, default 5000
        Number of draws of the largest t.
    rng_seed : int, default 0

    References
    ----------
    .. [1] Smyth (2004). Linear models and empirical Bayes methods for assessing differential expression. Stat. Appl.
       Genet. Mol. Biol. 3:3, section 6.2.

    Examples
    --------
    >>> bands = simultaneous_bands([[0.01, 0.02], [-0.01, 0.01], [0.0, -0.03]], [2, 2], ["cka", "cka"])
    >>> bool((bands.half_bands > bands.half_intervals).all())
    True
    """
    U, d = np.asarray(influences, dtype=np.float64), np.asarray(degrees_of_freedom, dtype=np.float64)
    variances, prior = moderate_variances(np.square(U).sum(axis=0), d, kinds)
    errors, total = np.sqrt(variances), d + prior
    q = band_quantile(U, d, prior, level=level, n_samples=n_samples, rng_seed=rng_seed)
    return Bands(errors, total, errors * student.ppf(0.5 + level / 2, total), errors * q)


def moderate_variances(variances: Array, d: Array, kinds: Sequence[str]) -> tuple[Array, Array]:
    """Return moderated variances of effects on d degrees of freedom, and the degrees of freedom that they gain."""
    moderated, prior, names = variances.copy(), np.zeros(len(d)), np.asarray(kinds)
    for kind in dict.fromkeys(kinds):
        members = np.flatnonzero(names == kind)
        varied = members[variances[members] > _SMALLEST * variances[members].max()]
        if len(varied):
            prior[members], centre = _prior(variances[varied], d[varied])
            moderated[members] = _moderate(variances[members], d[members], prior[members], centre)
    return moderated, prior


def band_quantile(U: Array, d: Array, prior: Array, *, level: float, n_samples: int = 5000, rng_seed: int = 0) -> float:
    """Return the quantile of the largest |t| of effects with influences U, (n_units, n_effects)."""
    if not len(d):
        return 0.0
    largest = _largest_t(U, d, prior, n_samples, np.random.default_rng(rng_seed))
    widest = student.ppf(0.5 + level ** (1 / len(d)) / 2, d + prior).max()  # if the effects were independent
    return float(min(np.quantile(largest, level), widest))


def _prior(variances: Array, d: Array) -> tuple[float, float]:
    """Return the degrees of freedom and the centre of the distribution of the true variances."""
    if len(variances) < 2:
        return 0.0, 1.0
    logs = np.log(variances) - digamma(d / 2) + np.log(d / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, d / 2).mean())
    if excess <= 0:
        return np.inf, float(np.exp(logs.mean()))
    prior = 2 * _inverse_trigamma(excess)
    return prior, float(np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2)))


def _inverse_trigamma(value: float) -> float:
    """Return y with trigamma(y) = value, by Newton's method on 1 / trigamma, which is convex."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, y))
        y += step
        if -step < 1e-12 * y:
            break
    return y


def _moderate(variances: Array, d: Array, prior: Array, centre: float) -> Array:
    known = np.isfinite(prior)
    weight = np.where(known, prior, 0.0)
    return np.where(known, (weight * centre + d * variances) / (weight + d), centre)


def _largest_t(U: Array, d: Array, prior: Array, n_samples: int, rng: np.random.Generator) -> Array:
    """Draw the largest |t| of all effects, (n_samples,)."""
    scale = np.sqrt(np.square(U).sum(axis=0))
    Z = U / np.where(scale > 0, scale, 1.0)
    shared, own = np.sqrt(1 - 1 / d), np.sqrt(1 / d)
    known = np.isfinite(prior) & (prior > 0)
    chunk = max(1, _CHUNK // U.shape[1])

    def normal(size: int) -> Array:
        return shared * (rng.standard_normal((size, len(U))) @ Z) + own * rng.standard_normal((size, len(d)))

    def draw(size: int) -> Array:
        t = normal(size)
        squares = np.zeros((size, len(d)))
        for k in range(int(d.max())):
            squares += np.where(k < d, normal(size) ** 2, 0.0)
        variance = squares / d
        if known.any():
            d0 = prior[known]
            true = d0 / rng.chisquare(d0, size=(size, len(d0)))
            t[:, known] *= np.sqrt(true)
            variance[:, known] = (d0 + true * squares[:, known]) / (d0 + d[known])
        variance[:, np.isinf(prior)] = 1.0
        return np.abs(t / np.sqrt(variance)).max(axis=1)

    sizes = [min(chunk, n_samples - start) for start in range(0, n_samples, chunk)]
    return np.concatenate([draw(size) for size in sizes])
