"""How far the comparison of models with data would change with other stimuli, or other networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from repsim.similarity import checks
from repsim.similarity.arrays import FloatArray
from repsim.similarity.comparators import COMPARATORS
from repsim.similarity.inference.multiple import adjust, p_value
from repsim.similarity.inference.weighted import Counts, Resampled, compare_with_ceilings, resampled_values
from repsim.similarity.rdm import condensed, n_stimuli

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


Draws = tuple[FloatArray, FloatArray]  # means over data RDMs of values (n_samples, p) and of ceilings (n_samples, 2)
Pick = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """How well model RDMs agree with data RDMs, and how sure that is.

    Over stimuli, intervals and p-values are percentiles of the bootstrap samples. Over networks, of which there are few
    as a rule, and over both, they are Student's t with the bootstrap's standard errors.

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
    draws : dict of str to (array (n_samples, n_models), array (n_samples, 2))
        Means over data RDMs of values and ceilings in bootstrap samples, by what was resampled. Samples in which a
        value is not defined are left out.
    n_stimuli : int
    """

    models: tuple[str, ...]
    data: tuple[str, ...]
    method: str
    over: str
    values: FloatArray
    ceilings: FloatArray
    draws: Mapping[str, Draws]
    n_stimuli: int

    @property
    def means(self) -> FloatArray:
        """Mean over data RDMs of every model's values, (n_models,)."""
        return self.values.mean(axis=1)

    @property
    def noise_ceiling(self) -> tuple[float, float]:
        """Lower and upper bound of the mean that the best possible model reaches; the lower is NaN for one data RDM."""
        lower, upper = self.ceilings.mean(axis=1)
        return float(lower), float(upper)

    @property
    def samples(self) -> FloatArray:
        """Means over data RDMs in every bootstrap sample, (n_samples, n_models)."""
        return self.draws[self.over][0] if self.draws else np.empty((0, len(self.models)))

    @property
    def standard_errors(self) -> FloatArray:
        """Of the means, (n_models,)."""
        return self._errors(_values)

    def frame(self, level: float = 0.95, adjustment: str = "none") -> pd.DataFrame:
        """Return one row a model: its mean value and how sure it is.

        Parameters
        ----------
        level : float, default 0.95
            Of the intervals.
        adjustment : str, default "none"
            Of the p-values for their number; see `adjust`.

        Returns
        -------
        DataFrame
            ``model``, ``value``, ``standard_error``, ``low``, ``high``, ``p_above_zero`` (one-sided), ``ceiling_low``,
            ``ceiling_high`` and ``p_below_ceiling`` (one-sided, against the lower bound).

        Raises
        ------
        ValueError
            If the level is not within (0, 1), or there is no such adjustment.
        """
        import pandas as pd

        if not 0 < level < 1:
            raise ValueError(f"level is {level}; expected a number between 0 and 1, such as 0.95.")
        low, high = self._interval(level)
        lower, upper = self.noise_ceiling
        return pd.DataFrame(
            {
                "model": self.models,
                "value": self.means,
                "standard_error": self.standard_errors,
                "low": low,
                "high": high,
                "p_above_zero": adjust(self._p_positive(_values), adjustment),
                "ceiling_low": lower,
                "ceiling_high": upper,
                "p_below_ceiling": adjust(self._p_positive(_below_ceiling), adjustment),
            }
        )

    def compare_models(self, adjustment: str = "holm") -> pd.DataFrame:
        """Return one row a pair of models: by how much they differ, and whether that could be chance.

        Parameters
        ----------
        adjustment : str, default "holm"
            A key of `ADJUSTMENTS`, or, over stimuli, ``"max_t"``: the largest studentised difference of each sample is
            the yardstick of all, which bounds the probability of one false finding or more and makes use of how they
            depend. It is another test than that of ``p``, which goes by percentiles, and can be a little below it.

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

        if len(self.models) < 2 or not self.draws:
            raise ValueError(
                "Comparing models needs at least 2 of them, and samples: evaluate over stimuli or networks."
            )
        if adjustment == "max_t" and self.over != "stimuli":
            raise ValueError("max_t goes by samples of stimuli; choose another adjustment, or evaluate over stimuli.")
        first, second = np.triu_indices(len(self.models), 1)

        def difference(values: FloatArray, ceilings: FloatArray) -> FloatArray:
            return values[:, first] - values[:, second]

        p = np.minimum(1.0, 2 * np.minimum(self._p_positive(difference), self._p_positive(_negative(difference))))
        if adjustment == "max_t":
            adjusted = _max_t(difference(*self.draws["stimuli"]), self._observed(difference))
        else:
            adjusted = adjust(p, adjustment)
        names = np.array(self.models, dtype=object)
        return pd.DataFrame(
            {
                "model": names[first],
                "other": names[second],
                "difference": self._observed(difference),
                "standard_error": self._errors(difference),
                "p": p,
                "p_adjusted": adjusted,
            }
        )

    def plot(self, level: float = 0.95, ax: Axes | None = None) -> Axes:
        """Draw each model's mean value with its interval, and the noise ceiling as a band.

        Parameters
        ----------
        level : float, default 0.95
            Of the intervals.
        ax : matplotlib Axes, optional
            Of a new figure by default.
        """
        from repsim.similarity.drawing import intervals, new_axes

        ax = new_axes() if ax is None else ax
        table, (lower, upper) = self.frame(level), self.noise_ceiling
        intervals(ax, self.models, table["value"], table["low"], table["high"], label=f"mean, {100 * level:g} %")
        if lower < upper:
            ax.axvspan(lower, upper, color="0.85", zorder=0, label="noise ceiling")
        ax.axvline(0.0, color="0.4", linestyle=":", linewidth=1)
        ax.set_xlabel(self.method)
        ax.legend()
        return ax

    def _repr_html_(self) -> str:
        """Show one row a model in a notebook."""
        from repsim.similarity.html import titled

        return titled(f"{self.method} of models with {len(self.data)} data RDMs; resampled: {self.over}", self.frame())

    def _observed(self, pick: Pick) -> FloatArray:
        return pick(self.means[None], np.array([self.noise_ceiling]))[0]

    def _errors(self, pick: Pick) -> FloatArray:
        """Return standard errors of what is picked from values and ceilings."""
        if not self.draws:
            return np.full(len(self.models), np.nan)
        variances = {name: pick(*each).var(axis=0, ddof=1) for name, each in self.draws.items()}
        if self.over != "stimuli":  # k networks, resampled, vary by (k - 1) / k too little
            k = len(self.data)
            variances["networks"] = variances["networks"] * k / (k - 1)
        if self.over != "both":
            return np.sqrt(variances[self.over])
        # Resampling both factors counts the variance of a single measurement three times, resampling either once.
        either = np.maximum(variances["stimuli"], variances["networks"])
        corrected = 2 * (variances["stimuli"] + variances["networks"]) - variances["both"]
        return np.sqrt(np.clip(corrected, either, np.maximum(either, variances["both"])))

    def _p_positive(self, pick: Pick) -> FloatArray:
        """Return one-sided p-values against zero or less."""
        if not self.draws:
            return np.full(len(self.models), np.nan)
        observed = self._observed(pick)
        if self.over == "stimuli":
            p = p_value((pick(*self.draws["stimuli"]) <= 0).sum(axis=0), len(self.samples))
            return np.where(np.isnan(observed), np.nan, p)
        with np.errstate(divide="ignore", invalid="ignore"):
            return student.sf(observed / self._errors(pick), self._degrees)

    def _interval(self, level: float) -> FloatArray:
        if not self.draws:
            return np.full((2, len(self.models)), np.nan)
        if self.over == "stimuli":
            return np.percentile(self.samples, [50 - 50 * level, 50 + 50 * level], axis=0)
        reach = student.ppf(0.5 + level / 2, self._degrees) * self.standard_errors
        return np.stack([self.means - reach, self.means + reach])

    @property
    def _degrees(self) -> int:
        return (len(self.data) if self.over == "networks" else min(len(self.data), self.n_stimuli)) - 1


def _values(values: FloatArray, ceilings: FloatArray) -> FloatArray:
    return values


def _below_ceiling(values: FloatArray, ceilings: FloatArray) -> FloatArray:
    return ceilings[:, [0]] - values


def _negative(pick: Pick) -> Pick:
    return lambda values, ceilings: -pick(values, ceilings)


def _max_t(samples: FloatArray, differences: FloatArray) -> FloatArray:
    """Return adjusted p-values from the largest studentised deviation of each sample."""
    errors = samples.std(axis=0, ddof=1)
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
        What is resampled. "networks" and "both" need several data RDMs, and are sure of little with fewer than five.
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
    checks.whole_number(n_samples, "n_samples", 2)
    stacked = {side: stacked_rdms(rdms, side, method) for side, rdms in (("models", models), ("data", data))}
    checks.same_stimuli({side: n_stimuli(rdms[0]) for side, rdms in stacked.items()})
    if over in ("networks", "both") and len(data) < 2:
        raise ValueError(f"Resampling networks needs at least 2 data RDMs; there is {len(data)}. Resample stimuli.")
    values, lower, upper = compare_with_ceilings(comparator, stacked["models"], stacked["data"])
    return Evaluation(
        models=tuple(models),
        data=tuple(data),
        method=method,
        over=over,
        values=values,
        ceilings=np.stack([lower, upper]),
        draws=_draw(stacked, method, over, n_samples, seed, memory),
        n_stimuli=n_stimuli(stacked["data"][0]),
    )


def _draw(
    stacked: Mapping[str, FloatArray], method: str, over: str, n_samples: int, seed: int, memory: int
) -> dict[str, Draws]:
    """Return means over data of values and ceilings in bootstrap samples, by what was resampled."""
    models, data = stacked["models"], stacked["data"]
    n, q, generator = n_stimuli(data[0]), len(data), np.random.default_rng(seed)
    stimuli = generator.multinomial(n, np.full(n, 1 / n), size=n_samples)
    networks = generator.multinomial(q, np.full(q, 1 / q), size=n_samples)
    draws: dict[str, Draws] = {}
    if over in ("stimuli", "both"):
        resampled = resampled_values(models, data, stimuli, method, memory=memory)
        draws["stimuli"] = _means(resampled, np.ones((n_samples, q)))
        if over == "both":
            draws["both"] = _means(resampled, networks)
    if over in ("networks", "both"):
        once = resampled_values(models, data, np.ones((1, n), dtype=np.int64), method, memory=memory)
        draws["networks"] = _means(once, networks)
    lost = max((n_samples - len(each) for each, _ in draws.values()), default=0)
    if lost > n_samples - 2:
        raise ValueError(f"No bootstrap sample of {n} stimuli has a value; there are too few of them to resample.")
    if lost > n_samples // 20:
        warnings.warn(
            f"{lost} of {n_samples} bootstrap samples of {n} stimuli have no value, and are left out: too few "
            "different stimuli were drawn. Standard errors are not to be relied on.",
            RuntimeWarning,
            stacklevel=3,
        )
    return draws


def _means(resampled: Resampled, counts: Counts | FloatArray) -> Draws:
    """Return weighted means over data RDMs; samples in which one is not defined are left out."""
    weights = counts / counts.sum(axis=1, keepdims=True)
    n_samples = len(weights)
    values = np.broadcast_to(resampled.values, (n_samples, *resampled.values.shape[1:]))
    means = (values @ weights[:, :, None])[:, :, 0]
    ceilings = np.stack([(each * weights).sum(axis=1) for each in (resampled.lower, resampled.upper)], axis=1)
    known = ~np.isnan(means).any(axis=1)
    return means[known], ceilings[known]


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
