"""Simultaneous bands for many effects of the same few networks, with moderated variances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, polygamma
from scipy.stats import t as student

__all__ = ["Bands", "band_quantiles", "moderate_variances", "simultaneous_bands"]

Array = NDArray[np.float64]

_CHUNK = 2_000_000  # numbers that are drawn together
_FEWEST_OF_TREND = 10  # effects from which a trend is estimated
_SMALLEST = 1e-12  # of the largest variance of a kind; below it there is no spread but rounding


@dataclass(frozen=True, eq=False)
class Bands:
    """Errors of many effects.

    Attributes
    ----------
    standard_errors : array (n_effects,)
        Moderated; 0 where all networks agree.
    degrees_of_freedom : array (n_effects,)
        Of the moderated variances.
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
    trend: ArrayLike | None = None,
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

    has :math:`d_0 + d` degrees of freedom. As the variances of correlated effects are alike by chance, :math:`d_0` is
    no more than the degrees of freedom of their mean. With a trend, the logarithm of :math:`s_0^2` is a linear function
    of it within each kind [2]_: the nearer a similarity is to 1, for instance, the less it varies.

    The bands follow from the distribution of the smallest p-value of all effects, drawn with the correlations of the
    influences: each band is as wide as the t interval at the quantile of this distribution, so that effects whose
    variance is known well have narrower bands (with equal degrees of freedom this is the quantile of the largest
    :math:`|t|`) [3]_. As correlations over few networks are large by chance, they are shrunk towards zero by
    :math:`1 / d`.

    Parameters
    ----------
    influences : array-like (n_units, n_effects)
        Contribution of each network to the error of each effect, as of ``repsim.similarity.group_effect``.
    degrees_of_freedom : array-like (n_effects,)
        Number of networks less one, 1 or more.
    kinds : sequence of str (n_effects,)
        Effects of equal kind share information about their variance.
    trend : array-like (n_effects,), optional
        A quantity on which the variance depends. Kinds of fewer than ten effects have no trend.
    level : float, default 0.95
        Within (0, 1).
    n_samples : int, default 5000
        Number of draws of the largest t.
    rng_seed : int, default 0

    References
    ----------
    .. [1] Smyth (2004). Linear models and empirical Bayes methods for assessing differential expression. Stat. Appl.
       Genet. Mol. Biol. 3:3, section 6.2.
    .. [2] Law, Chen, Shi and Smyth (2014). voom: precision weights unlock linear model analysis tools for RNA-seq read
       counts. Genome Biology 15:R29 (the trend of limma).
    .. [3] Westfall and Young (1993). Resampling-based multiple testing. Wiley, section 2.5.

    Examples
    --------
    >>> bands = simultaneous_bands([[0.01, 0.02], [-0.01, 0.01], [0.0, -0.03]], [2, 2], ["cka", "cka"])
    >>> bool((bands.half_bands > bands.half_intervals).all())
    True
    """
    U, d = np.asarray(influences, dtype=np.float64), np.asarray(degrees_of_freedom, dtype=np.float64)
    along = None if trend is None else np.asarray(trend, dtype=np.float64)
    variances, prior = moderate_variances(U, d, kinds, along)
    errors, total = np.sqrt(variances), d + prior
    q = band_quantiles(U, d, prior, level=level, n_samples=n_samples, rng_seed=rng_seed)
    return Bands(errors, total, errors * student.ppf(0.5 + level / 2, total), errors * q)


def moderate_variances(U: Array, d: Array, kinds: Sequence[str], trend: Array | None = None) -> tuple[Array, Array]:
    """Return moderated variances of effects with influences U, and the degrees of freedom that they gain."""
    variances, prior, names = np.square(U).sum(axis=0), np.zeros(len(d)), np.asarray(kinds)
    moderated = variances.copy()
    along = np.zeros(len(d)) if trend is None else trend
    for kind in dict.fromkeys(kinds):
        members = np.flatnonzero(names == kind)
        is_varied = variances[members] > _SMALLEST * variances[members].max()
        if is_varied.any():
            varied = members[is_varied]
            design = _trend_design(along[members], is_varied)
            overlap = _overlap(U[:, varied], d[varied])
            gained, coefficients = _prior(variances[varied], d[varied], design[is_varied], overlap)
            prior[members] = gained
            centres = np.exp(design @ coefficients)
            moderated[members] = (gained * centres + d[members] * variances[members]) / (gained + d[members])
    return moderated, prior


def band_quantiles(
    U: Array, d: Array, prior: Array, *, level: float, n_samples: int = 5000, rng_seed: int = 0
) -> Array:
    """Return half the width of each band in standard errors, for effects with influences U, (n_units, n_effects)."""
    if not len(d):
        return np.zeros(0)
    smallest = _smallest_p(U, d, prior, n_samples, np.random.default_rng(rng_seed))
    independent = 1 - level ** (1 / len(d))  # the quantile if the effects were independent
    return np.asarray(student.isf(max(float(np.quantile(smallest, 1 - level)), independent) / 2, d + prior))


def _trend_design(trend: Array, is_varied: NDArray[np.bool_]) -> Array:
    """Return the regressors of the logarithm of the variance, (n_effects, 1 or 2)."""
    spread = float(trend[is_varied].std())
    constant = np.ones((len(trend), 1))
    if is_varied.sum() < _FEWEST_OF_TREND or not spread > _SMALLEST * np.abs(trend).max():
        return constant
    return np.column_stack([constant, (trend - trend[is_varied].mean()) / spread])


def _overlap(U: Array, d: Array) -> float:
    """Return the mean squared correlation of effects, from which what chance adds is subtracted; 0 to 1.

    It is also the correlation between their estimated variances, if errors are normal.
    """
    m, chance = U.shape[1], float((1 / d).mean())
    if m < 2 or chance >= 1:
        return 1.0
    Z = U / np.sqrt(np.square(U).sum(axis=0))
    squared = (float(np.square(Z @ Z.T).sum()) - m) / (m * (m - 1))
    return min(max((squared - chance) / (1 - chance), 0.0), 1.0)


def _prior(variances: Array, d: Array, design: Array, overlap: float) -> tuple[float, Array]:
    """Return the degrees of freedom of the distribution of the true variances, and coefficients of its logarithm.

    Variances of correlated effects are alike by chance. Therefore the spread that is expected of them is smaller, and
    the centre has no more degrees of freedom than their mean has.
    """
    m, n_coefficients = design.shape
    logs = np.log(variances) - digamma(d / 2) + np.log(d / 2)
    if m <= n_coefficients:
        return 0.0, np.zeros(n_coefficients)
    coefficients, *_ = np.linalg.lstsq(design, logs, rcond=None)
    residuals = logs - design @ coefficients
    expected = float(polygamma(1, d / 2).mean()) * (1 - overlap)
    excess = float(residuals @ residuals) / (m - n_coefficients) - expected
    most = float(d.mean()) * max(m / (1 + (m - 1) * overlap) - (n_coefficients - 1), 1.0)
    prior = min(2 * _inverse_trigamma(excess), most) if excess > 0 else most
    coefficients[0] += digamma(prior / 2) - np.log(prior / 2)
    return prior, coefficients


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


def _smallest_p(U: Array, d: Array, prior: Array, n_samples: int, rng: np.random.Generator) -> Array:
    """Draw the smallest two-sided p-value of all effects, (n_samples,)."""
    scale = np.sqrt(np.square(U).sum(axis=0))
    Z = U / np.where(scale > 0, scale, 1.0)
    shared, own = np.sqrt(1 - 1 / d), np.sqrt(1 / d)
    known = prior > 0
    chunk = max(1, _CHUNK // U.shape[1])
    freedom, group = np.unique(d + prior, return_inverse=True)
    alike = [np.flatnonzero(group == k) for k in range(len(freedom))]  # effects of equal degrees of freedom

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
        ratios = np.abs(t / np.sqrt(variance))
        largest = np.stack([ratios[:, members].max(axis=1) for members in alike], axis=1)
        return np.asarray(2 * student.sf(largest, freedom).min(axis=1))

    sizes = [min(chunk, n_samples - start) for start in range(0, n_samples, chunk)]
    return np.concatenate([draw(size) for size in sizes])
