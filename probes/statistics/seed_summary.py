"""Summary over seeds, one row per layer: mean, standard error, an interval for one layer and a band for all."""

import numpy as np
import pandas as pd
from scipy.stats import t as student

from probes.statistics.largest_t import largest_t_quantile
from probes.statistics.seed_values import ROUNDING


def over_seeds(
    values: pd.DataFrame, messages: pd.Series, scale: pd.Series, level: float, n_samples: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Return one row per layer: mean, standard error, interval and band over seeds, with status and message."""
    X, n = values.to_numpy(), len(values)  # (n_seeds, n_layers)
    mean = X.mean(axis=0)
    known, varied = np.isfinite(mean), np.ptp(X, axis=0) > ROUNDING * scale.to_numpy()
    usable = known & varied
    error = np.where(known & ~varied, 0.0, X.std(axis=0, ddof=1)) / np.sqrt(n) if n > 1 else np.full(len(mean), np.nan)
    interval = np.where(usable, error * student.ppf(0.5 + level / 2, n - 1), np.nan)
    band = np.full(len(mean), np.nan)
    if usable.any():
        band[usable] = error[usable] * largest_t_quantile(X[:, usable], level, n_samples, rng)
    flat = "1 seed has no spread" if n == 1 else f"{n} seeds are equal"
    return pd.DataFrame(
        {
            "n_seeds": n,
            "mean": mean,
            "standard_error": error,
            "low": mean - interval,
            "high": mean + interval,
            "band_low": mean - band,
            "band_high": mean + band,
            "status": np.select([usable, known], ["ok", "no spread"], "failed"),
            "message": messages.where(~known | usable, flat),
        },
        index=values.columns,
    )
