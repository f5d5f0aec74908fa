"""Number of seeds that a design needs, from the spread between the seeds of a pilot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2, nct, norm

from analysis.comparison.attribution.contrasts import LEAST_SEEDS, USUAL_SEEDS
from analysis.comparison.attribution.effect_bands import band_quantiles, moderate_variances
from analysis.comparison.attribution.effects import EffectFamily

__all__ = ["check_question", "power_table"]

Array = NDArray[np.float64]

_LEAST_SHARE = 0.2  # of the pilot's variance, that another size of the effect may leave
_DRAWS = 400  # of the standard error, in the chance of equivalence


def power_table(
    family: EffectFamily,
    *,
    n_seeds: Sequence[int] = USUAL_SEEDS,
    effect: float = 2.0,
    level: float = 0.95,
    rng_seed: int = 0,
) -> pd.DataFrame:
    r"""Return the chance of each verdict for several numbers of seeds.

    The effects of the pilot say how much seeds vary: with a standard error of :math:`e` from m seeds, n seeds give
    :math:`e \sqrt{m / n}`. The bands are those of ``simultaneous_bands`` with n - 1 degrees of freedom and the pilot's
    correlations. So the answer assumes the spread of the pilot, and is as uncertain as that.

    Parameters
    ----------
    family : EffectFamily
        Effects of the pilot, with three or more seeds per arm.
    n_seeds : sequence of int
        Numbers of seeds per arm, 3 or more.
    effect : float, default 2.0
        Size of the true effect, in units of the smallest difference of interest; above 1.
    level : float, default 0.95
        Level of the bands.
    rng_seed : int, default 0

    Returns
    -------
    DataFrame
        One row per contrast, quantity and number of seeds: ``different``, the mean chance over steps and layers that an
        effect of the given size is called different, and ``equivalent``, the mean chance that an effect of zero is
        called equivalent.

    Raises
    ------
    ValueError
        If a number of seeds is below 3, or the effect is not above 1.
    """
    check_question(n_seeds, effect)
    chosen = family.is_new
    rows, influences = family.rows[chosen].reset_index(drop=True), family.influences[:, chosen]
    d = rows["degrees_of_freedom"].to_numpy(dtype=np.float64)
    kinds = [kind for kind, is_chosen in zip(family.kinds, chosen, strict=True) if is_chosen]
    variances, prior = moderate_variances(influences, d, kinds, family.trend[chosen])
    smallest = rows["smallest"].to_numpy()
    present, absent = (_variances_at(size, rows, variances, kinds) for size in (effect * smallest, 0 * smallest))
    tables = []
    for n in n_seeds:
        scale = rows["n_seeds"].to_numpy() / n
        freedom = np.full(len(rows), n - 1.0)
        q = band_quantiles(influences, freedom, prior, level=level, rng_seed=rng_seed)
        chances = {
            "different": _chance_different((effect - 1) * smallest, np.sqrt(present * scale), freedom + prior, q),
            "equivalent": _chance_equivalent(smallest, np.sqrt(absent * scale), freedom + prior, q),
        }
        by = ["method", "contrast", "control", "quantity"]
        means = rows[by].assign(n_seeds=n, **chances).groupby([*by, "n_seeds"], sort=False)
        tables.append(means[["different", "equivalent"]].mean().reset_index())
    return pd.concat(tables, ignore_index=True)


def check_question(n_seeds: Sequence[int], effect: float) -> None:
    """Raise ValueError if a number of seeds is below 3, or the effect is not above 1."""
    if any(n < LEAST_SEEDS for n in n_seeds):
        raise ValueError(f"n_seeds has {min(n_seeds)}; expected {LEAST_SEEDS} or more seeds per arm.")
    if not 1 < effect < np.inf:
        raise ValueError(f"effect is {effect}; expected more than 1 times the smallest difference of interest.")


def _variances_at(effects: Array, rows: pd.DataFrame, variances: Array, kinds: Sequence[str]) -> Array:
    """Return the variances that effects of another size would have.

    That of a loss of similarity grows in proportion to the effect: with the noise along the difference of the means.
    """
    changed, names, found = variances.copy(), np.asarray(kinds), rows["difference"].to_numpy()
    for kind in dict.fromkeys(kinds):
        chosen = names == kind
        if rows.loc[chosen, "between"].notna().all() and chosen.sum() > 2 and np.ptp(found[chosen]) > 0:
            slope = max(float(np.polyfit(found[chosen], variances[chosen], 1)[0]), 0.0)
            changed[chosen] += slope * (effects[chosen] - found[chosen])
    return np.maximum(changed, _LEAST_SHARE * variances)


def _chance_different(margin: Array, errors: Array, freedom: Array, q: Array) -> Array:
    """Return the probability that the band of an effect lies beyond the smallest size, which it exceeds by a margin."""
    noncentrality = margin / np.where(errors > 0, errors, 1.0)
    return np.where(errors > 0, nct.sf(q, np.minimum(freedom, 1e6), noncentrality), 1.0)


def _chance_equivalent(smallest: Array, errors: Array, freedom: Array, q: Array) -> Array:
    """Return the probability that the band of an effect of zero lies within the smallest size."""
    u = (np.arange(_DRAWS) + 0.5) / _DRAWS
    chances = np.ones(len(smallest))
    for k, (size, error, d, width) in enumerate(zip(smallest, errors, np.minimum(freedom, 1e6), q, strict=True)):
        if error > 0:
            estimated = error * np.sqrt(chi2.ppf(u, d) / d)
            room = np.maximum(size - width * estimated, 0.0)
            chances[k] = np.mean(2 * norm.cdf(room / error) - 1)
    return chances
