"""How far the comparison of models with data would change with other stimuli, or other networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.arrays import FloatArray
from repsim.similarity.comparators import COMPARATORS
from repsim.similarity.inference.multiple import adjust, p_value
from repsim.similarity.inference.weighted import Counts, Resampled, compare_with_ceilings, resampled_values
from repsim.similarity.rdm import condensed, n_stimuli

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """How well model RDMs agree with data RDMs, and how sure that is.

    Attributes
    ----------
    models, data : tuple of str
        Names.
    method : str
        The key of `COMPARATORS`.
    over : str
        What was resampled: "stimuli", "networks", "both" or "none".
    values : array (n_models, n_data)
        Each model with each data RDM.
    ceilings : array (2, n_data)
        What the best possible model reaches with each data RDM: found without it (lower bound), and with it (upper).
    samples : array (n_samples, n_models)
        Mean over data RDMs in every bootstrap sample; samples in which a value is not defined are left out.
    ceiling_samples : array (n_samples, 2)
    standard_errors : array (n_models,)
        Standard deviation of the samples; for "both" corrected, since resampling both counts the noise twice.
    """

    models: tuple[str, ...]
    data: tuple[str, ...]
    method: str
    over: str
    values: FloatArray
    ceilings: FloatArray
    samples: FloatArray
    ceiling_samples: FloatArray
    standard_errors: FloatArray

    @property
    def means(self) -> FloatArray:
        """Mean over data RDMs of every model's values, (n_models,)."""
        return self.values.mean(axis=1)

    @property
    def noise_ceiling(self) -> tuple[float, float]:
        """Lower and upper bound of the mean that the best possible model reaches; the lower is NaN for one data RDM."""
        lower, upper = self.ceilings.mean(axis=1)
        return float(lower), float(upper)

    def frame(self, level: float = 0.95, adjustment: str = "none") -> pd.DataFrame:
        """Return one row a model: its mean value and how sure it is.

        Parameters
        ----------
        level : float, default 0.95
            Of the percentile intervals.
        adjustment : str, default "none"
            Of the p-values for their number; see `adjust`.

        Returns
        -------
        DataFrame
            ``model``, ``value``, ``standard_error``, ``low``, ``high``, ``p_above_zero`` (one-sided), ``ceiling_low``,
            ``ceiling_high`` and ``p_below_ceiling`` (one-sided, against the lower bound).
        """
        import pandas as pd

        tail = 50 * (1 - level)
        low, high = np.percentile(self.samples, [tail, 100 - tail], axis=0) if len(self.samples) else self._unknown()
        below = self.samples - self.ceiling_samples[:, [0]]
        lower, upper = self.noise_ceiling
        return pd.DataFrame(
            {
                "model": self.models,
                "value": self.means,
                "standard_error": self.standard_errors,
                "low": low,
                "high": high,
                "p_above_zero": adjust(self._share(self.samples <= 0), adjustment),
                "ceiling_low": lower,
                "ceiling_high": upper,
                "p_below_ceiling": adjust(
                    self._share(below >= 0) if not np.isnan(lower) else self._unknown()[0], adjustment
                ),
            }
        )

    def compare_models(self, adjustment: str = "holm") -> pd.DataFrame:
        """Return one row a pair of models: by how much they differ, and whether that could be chance.

        Parameters
        ----------
        adjustment : str, default "holm"
            A key of `ADJUSTMENTS`, or ``"max_t"``: the largest studentised difference of each sample is the yardstick
            of all, which bounds the probability of one false finding or more and makes use of how they depend.

        Returns
        -------
        DataFrame
            ``model``, ``other``, ``difference``, ``standard_error``, ``p`` (two-sided) and ``p_adjusted``.

        Raises
        ------
        ValueError
            If there are fewer than two models, nothing was resampled, or there is no such adjustment.

        References
        ----------
        Westfall & Young (1993). Resampling-based multiple testing. Wiley (max-T).
        """
        import pandas as pd

        if len(self.models) < 2 or not len(self.samples):
            raise ValueError(
                "Comparing models needs at least 2 of them, and samples: evaluate over stimuli or networks."
            )
        first, second = np.triu_indices(len(self.models), 1)
        differences = self.means[first] - self.means[second]
        samples = self.samples[:, first] - self.samples[:, second]
        p = np.minimum(1.0, 2 * np.minimum(self._share(samples <= 0), self._share(samples >= 0)))
        errors = samples.std(axis=0, ddof=1)
        adjusted = _max_t(samples, differences, errors) if adjustment == "max_t" else adjust(p, adjustment)
        names = np.array(self.models, dtype=object)
        return pd.DataFrame(
            {
                "model": names[first],
                "other": names[second],
                "difference": differences,
                "standard_error": errors,
                "p": p,
                "p_adjusted": adjusted,
            }
        )

    def _share(self, hits: Any) -> FloatArray:
        return p_value(hits.sum(axis=0), len(hits)) if len(hits) else self._unknown()[0]

    def _unknown(self) -> FloatArray:
        return np.full((2, len(self.models)), np.nan)


def _max_t(samples: FloatArray, differences: FloatArray, errors: FloatArray) -> FloatArray:
    """Return adjusted p-values from the largest studentised deviation of each sample."""
    scale = np.where(errors > 0, errors, np.inf)
    largest = (np.abs(samples - samples.mean(axis=0)) / scale).max(axis=1)  # (n_samples,)
    return p_value((largest[:, None] >= np.abs(differences) / scale).sum(axis=0), len(samples))


def evaluate_models(
    models: Mapping[str, ArrayLike],
    data: Mapping[str, ArrayLike],
    *,
    method: str = "pearson",
    over: str = "stimuli",
    n_samples: int = 1000,
    seed: int = 0,
    memory: int = 256 * 2**20,
) -> Evaluation:
    """Compare model RDMs with data RDMs, and bootstrap how sure the comparison is.

    Resampled stimuli make the inference one about other stimuli of the same kind, resampled networks one about other
    networks. A stimulus makes no pair with its own copies. Nothing is resampled in fact, for pearson, cosine, spearman
    and rho-a: the values are weighted by how often a pair was drawn, exactly.

    Parameters
    ----------
    models, data : mapping from str to array-like (n * (n - 1) / 2,) or (n, n)
        RDMs of the same stimuli in the same order, without NaN. Data are, for example, one RDM a seed.
    method : str, default "pearson"
        A key of `COMPARATORS`.
    over : {"stimuli", "networks", "both", "none"}, default "stimuli"
        What is resampled. "networks" and "both" need several data RDMs. Percentiles and p-values of "both" are
        conservative; its standard errors are corrected.
    n_samples : int, default 1000
        Bootstrap samples.
    seed : int, default 0
    memory : int, default 256 MiB
        Bound in bytes on the weights that are held at a time.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If there are no models or data, an RDM is not one or holds NaN or is one for which the method is not defined, if
        the numbers of stimuli differ, or if a choice is unknown.

    References
    ----------
    Nili et al. (2014). A toolbox for representational similarity analysis. PLOS Computational Biology 10 (ceilings).
    Schutt, Kipnis, Diedrichsen & Kriegeskorte (2023). Statistical inference on representational geometries. eLife 12
    (bootstrap over both).

    Examples
    --------
    >>> from repsim import rdm
    >>> X = np.random.default_rng(0).normal(size=(20, 5))
    >>> result = evaluate_models({"itself": rdm(X)}, {"data": rdm(X)}, n_samples=100)
    >>> result.means.round(6), result.samples.shape
    (array([1.]), (100, 1))
    """
    comparator = checks.choice(method, COMPARATORS, "method")
    checks.choice(over, dict.fromkeys(("stimuli", "networks", "both", "none")), "resampling")
    if n_samples < 2:
        raise ValueError(f"n_samples is {n_samples}; expected at least 2.")
    stacked = {side: stacked_rdms(rdms, side, method) for side, rdms in (("models", models), ("data", data))}
    checks.same_stimuli({side: n_stimuli(rdms[0]) for side, rdms in stacked.items()})
    if over in ("networks", "both") and len(data) < 2:
        raise ValueError(f"Resampling networks needs at least 2 data RDMs; there is {len(data)}. Resample stimuli.")
    values, lower, upper = compare_with_ceilings(comparator, stacked["models"], stacked["data"])
    draws = _draw(stacked, method, over, n_samples, seed, memory)
    samples = (
        draws["both" if over == "both" else over] if over != "none" else (np.empty((0, len(models))), np.empty((0, 2)))
    )
    return Evaluation(
        models=tuple(models),
        data=tuple(data),
        method=method,
        over=over,
        values=values,
        ceilings=np.stack([lower, upper]),
        samples=samples[0],
        ceiling_samples=samples[1],
        standard_errors=_standard_errors({name: each[0] for name, each in draws.items()}, len(models)),
    )


Draws = dict[str, tuple[FloatArray, FloatArray]]


def _draw(stacked: Mapping[str, FloatArray], method: str, over: str, n_samples: int, seed: int, memory: int) -> Draws:
    """Return means over data of values (n_samples, p) and of ceilings (n_samples, 2), by what was resampled."""
    models, data = stacked["models"], stacked["data"]
    n, q, generator = n_stimuli(data[0]), len(data), np.random.default_rng(seed)
    stimuli = generator.multinomial(n, np.full(n, 1 / n), size=n_samples)
    networks = generator.multinomial(q, np.full(q, 1 / q), size=n_samples)
    draws: Draws = {}
    if over in ("stimuli", "both"):
        resampled = resampled_values(models, data, stimuli, method, memory=memory)
        draws["stimuli"] = _means(resampled, np.ones((n_samples, q)))
        if over == "both":
            draws["both"] = _means(resampled, networks)
    if over in ("networks", "both"):
        once = resampled_values(models, data, np.ones((1, n), dtype=np.int64), method, memory=memory)
        draws["networks"] = _means(once, networks)
    return draws


def _means(resampled: Resampled, counts: Counts | FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weighted means over data RDMs; samples in which one is not defined are left out."""
    weights = counts / counts.sum(axis=1, keepdims=True)
    n_samples = len(weights)
    values = np.broadcast_to(resampled.values, (n_samples, *resampled.values.shape[1:]))
    means = (values @ weights[:, :, None])[:, :, 0]
    ceilings = np.stack([(each * weights).sum(axis=1) for each in (resampled.lower, resampled.upper)], axis=1)
    known = ~np.isnan(means).any(axis=1)
    return means[known], ceilings[known]


def _standard_errors(samples: Mapping[str, FloatArray], n_models: int) -> FloatArray:
    if not samples:
        return np.full(n_models, np.nan)
    variances = {name: each.var(axis=0, ddof=1) for name, each in samples.items()}
    if "both" not in variances:
        return np.sqrt(next(iter(variances.values())))
    # Both factors resampled at once count the variance of a single measurement three times instead of once.
    single = variances["stimuli"], variances["networks"]
    corrected = 2 * (single[0] + single[1]) - variances["both"]
    return np.sqrt(np.clip(corrected, np.maximum(*single), np.maximum(variances["both"], np.maximum(*single))))


def stacked_rdms(rdms: Mapping[str, ArrayLike], side: str, method: str) -> FloatArray:
    """Return RDMs as one array (k, m), each checked.

    Raises
    ------
    TypeError, ValueError
        If they are no mapping, if one is no RDM or holds NaN, if the method is not defined for it, or if the numbers of
        stimuli differ.
    """
    if not isinstance(rdms, Mapping):
        raise TypeError(f"{side} is a {type(rdms).__name__}; expected a mapping from names to RDMs.")
    if not rdms:
        raise ValueError(f"There are no {side}; expected at least 1 RDM.")
    arrays = {name: condensed(rdm, f"{side}[{name!r}]") for name, rdm in rdms.items()}
    checks.same_stimuli({f"{side}[{name!r}]": n_stimuli(array) for name, array in arrays.items()})
    for name, array in arrays.items():
        if np.isnan(array).any():
            raise ValueError(
                f"{side}[{name!r}] has {np.isnan(array).sum()} pairs that are NaN. Leave those stimuli out of all RDMs."
            )
        if COMPARATORS[method].prepare(array) is None:
            raise ValueError(f"{side}[{name!r}] {COMPARATORS[method].undefined}; {method} is not defined for it.")
    return np.stack(list(arrays.values()))
