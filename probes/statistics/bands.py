"""Mean over seeds of each layer, with an interval for one layer and a band for all layers."""

import numpy as np
import pandas as pd

from probes.statistics.seed_summary import over_seeds
from probes.statistics.seed_values import by_group, check_draws, missing


def seed_bands(
    table: pd.DataFrame,
    *,
    value: str = "accuracy",
    group: str = "method",
    level: float = 0.95,
    n_samples: int = 20_000,
    rng_seed: int = 0,
) -> pd.DataFrame:
    r"""Return the mean of each layer over the seeds of a group, with an interval for one layer and a band for all.

    With :math:`\bar x_\ell` the mean over n seeds and :math:`e_\ell` its standard error,

    .. math:: \bar x_\ell \pm t_{n-1}\, e_\ell \qquad\text{and}\qquad \bar x_\ell \pm q\, e_\ell

    are the interval, which covers the expectation of one layer at the level, and the band, which covers those of all
    layers at once. Both assume that seeds are independent and their values normal. The q of the band is a quantile of

    .. math:: \max_\ell \frac{|z_\ell|}{\sqrt{W_{\ell\ell} / (n - 1)}}, \qquad z \sim N(0, R), \quad
        W \sim \text{Wishart}(R, n - 1),

    by Monte Carlo: the largest t statistic of n seeds whose layers are correlated by R. Two choices give correct
    coverage with few seeds:

    - every layer has its own variance, estimated on its own. The multivariate t distribution has one denominator for
      all layers, and is too narrow: with 3 seeds and 10 independent layers a 95% band from it covers about 74%;
    - R is the sample correlation shrunk towards the identity by :math:`1 / (n - 1)`, the variance of such a correlation
      between unrelated layers. Correlations over three seeds are near ±1 by chance, which would make the band too
      narrow.

    For two seeds R is the identity; for many seeds it is the sample correlation. q lies between the quantiles for one
    layer and for independent layers (Sidak). In simulations 95% bands cover about 95%, and up to 99% where layers are
    nearly equal.

    Parameters
    ----------
    table : DataFrame
        One row per network and layer, with columns "seed" and "layer".
    value : str, default "accuracy"
        The column that is averaged. NaN and infinite values count as missing.
    group : str, default "method"
        The column that names the group of a network.
    level : float, default 0.95
        Level of intervals and bands, within (0, 1).
    n_samples : int, >= 1, default 20000
        Number of draws of the largest t.
    rng_seed : int, default 0
        Seed of these draws, used anew for every group.

    Returns
    -------
    DataFrame
        One row per group and layer, both in the order of the table, with the columns

        - `group`, under its name in the table, `layer`, and `n_seeds`;
        - `mean` and `standard_error`, >= 0;
        - `low`, `high`, and `band_low`, `band_high`, which may lie outside the range of the values;
        - `status` and `message`: "ok"; "failed" if a network has no value for the layer (these numbers are then NaN);
          or "no spread" if there is one seed or all values are equal (there is then a mean but no interval).

        The band covers the layers that are "ok".

    Raises
    ------
    ValueError
        If a column is missing or has a wrong dtype, a network has several rows for a layer, or a number is out of
        range.

    References
    ----------
    Hothorn, Bretz and Westfall (2008). Simultaneous inference in general parametric models. Biom. J. 50, 346-363.
    Hasler and Hothorn (2008). Multiple contrast tests in the presence of heteroscedasticity. Biom. J. 50, 793-800.
    Sidak (1967). Rectangular confidence regions for the means of multivariate normal distributions. JASA 62, 626-633.

    Examples
    --------
    >>> accuracy = [0.70, 0.80, 0.72, 0.83, 0.71, 0.84]
    >>> table = pd.DataFrame(
    ...     {"method": "bp", "seed": [0, 0, 1, 1, 2, 2], "layer": ["fc1", "fc2"] * 3, "accuracy": accuracy}
    ... )
    >>> seed_bands(table)[["layer", "n_seeds", "mean", "standard_error", "low", "high"]].round(3)
      layer  n_seeds   mean  standard_error    low   high
    0   fc1        3  0.710           0.006  0.685  0.735
    1   fc2        3  0.823           0.012  0.772  0.875
    """
    check_draws(level, n_samples)
    frames = {}
    for name, values in by_group(table, value=value, group=group).items():
        rng = np.random.default_rng(rng_seed)
        frames[name] = over_seeds(values, missing(values), values.abs().max(), level, n_samples, rng)
    return pd.concat(frames, names=[group, "layer"]).reset_index()
