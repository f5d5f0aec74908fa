"""Result of an evaluation of models: values, intervals, tests and noise ceilings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from repsim.similarity.comparators import Comparator
from repsim.similarity.inference.multiple import ROUNDING, adjust, permutation_p
from repsim.similarity.precision import FloatArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


Draws = tuple[FloatArray, FloatArray]  # means over data RDMs of values (n_samples, p) and of ceilings (n_samples, 2)
Pick = Callable[[FloatArray, FloatArray], FloatArray]

# Draws from the joint distribution of all differences, for the correction by their maximum.
JOINT_DRAWS = 4000


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelEvaluation:
    """Agreement of model RDMs with data RDMs, with standard errors, tests and noise ceilings.

    Intervals and tests are those of Student's t with the standard errors of the resampling. Besides, a model is better
    than chance only if its value is larger than the values for randomly relabelled stimuli, and two models differ only
    if at least one of them is related to the data in that sense. These conditions are needed for few stimuli, for which
    resampling alone is not reliable.

    Attributes
    ----------
    models, data : tuple of str
        Names.
    comparator : Comparator
        The comparator of RDMs.
    over : str
        What was resampled: "stimuli", "networks", "both" or "none".
    values : array (n_models, n_data)
        Value of each model with each data RDM.
    ceilings : array (2, n_data)
        Value of the best possible model with each data RDM: the best for all other data RDMs (lower bound), and the
        best for all of them (upper bound).
    draws : dict of str to (array (n_samples, n_models), array (n_samples, 2))
        Means over data RDMs of values and ceilings in the samples, by what was resampled. The deviations of a jackknife
        are scaled so that their variance is that of the mean value; such values can exceed the range.
    null : array (n_permutations, n_models)
        Means over data RDMs with the stimuli of the data permuted.
    is_exact_null : bool
        Whether the null contains all permutations of the stimuli.
    n_stimuli : int
    n_left_out : int
        Number of samples without a value, such as those of fewer than three distinct stimuli. They are not among the
        draws.
    n_without_ceiling : int
        Number of draws in which the lower noise ceiling is undefined. They are left out of ``p_below_ceiling``.
    """

    models: tuple[str, ...]
    data: tuple[str, ...]
    comparator: Comparator
    over: str
    values: FloatArray
    ceilings: FloatArray
    draws: Mapping[str, Draws]
    null: FloatArray
    is_exact_null: bool
    n_stimuli: int
    n_left_out: int
    n_without_ceiling: int

    @property
    def method(self) -> str:
        """Name of the comparator."""
        return self.comparator.name

    @property
    def resampling(self) -> str:
        """How stimuli are resampled: "bootstrap", or "jackknife" for comparators without a weighted form."""
        return "jackknife" if self.comparator.weighted is None else "bootstrap"

    @property
    def means(self) -> FloatArray:
        """Mean over data RDMs of every model's values, (n_models,)."""
        return self.values.mean(axis=1)

    @property
    def chance(self) -> FloatArray:
        """Mean value of each model with unrelated data, (n_models,): 0 for correlations, else the mean of the null."""
        low, high = self.comparator.range
        if "offset" in self.comparator.ignores and low == -high:
            return np.zeros(len(self.models))
        return self.null.mean(axis=0) if len(self.null) else np.full(len(self.models), np.nan)

    @property
    def noise_ceiling(self) -> tuple[float, float]:
        """Lower and upper bound of the mean that the best possible model reaches; the lower is NaN for one data RDM."""
        lower, upper = self.ceilings.mean(axis=1)
        return float(lower), float(upper)

    @property
    def samples(self) -> FloatArray:
        """Means over data RDMs in every sample, (n_samples, n_models)."""
        return self.draws[self.over][0] if self.draws else np.empty((0, len(self.models)))

    @property
    def standard_errors(self) -> FloatArray:
        """Standard errors of the means, (n_models,)."""
        return self._errors(_values)

    def frame(self, level: float = 0.95, adjustment: str = "none") -> pd.DataFrame:
        """Return one row per model: its mean value with standard error, interval and p-values.

        Parameters
        ----------
        level : float, default 0.95
            Level of the intervals.
        adjustment : str, default "none"
            Adjustment of the p-values for their number; see `adjust`.

        Returns
        -------
        DataFrame
            ``model``, ``value``, ``standard_error``, ``low``, ``high``, ``chance``, ``p_above_chance`` (one-sided),
            ``p_above_zero`` (the same if chance is zero, otherwise NaN, as unrelated RDMs then have positive values),
            ``ceiling_low``, ``ceiling_high`` and ``p_below_ceiling`` (one-sided, against the lower bound).

        Raises
        ------
        ValueError
            If the level is not within (0, 1), or the adjustment is unknown.
        """
        import pandas as pd

        if not 0 < level < 1:
            raise ValueError(f"level is {level}; expected a number between 0 and 1, such as 0.95.")
        low, high = self._interval(level)
        lower, upper = self.noise_ceiling
        above_chance = adjust(self._p_above_chance(), adjustment)
        return pd.DataFrame(
            {
                "model": self.models,
                "value": self.means,
                "standard_error": self.standard_errors,
                "low": low,
                "high": high,
                "chance": self.chance,
                "p_above_chance": above_chance,
                "p_above_zero": np.where(self.chance == 0, above_chance, np.nan),
                "ceiling_low": lower,
                "ceiling_high": upper,
                "p_below_ceiling": adjust(self._p_positive(_below_ceiling), adjustment),
            }
        )

    def compare_models(self, adjustment: str = "holm") -> pd.DataFrame:
        """Return one row per pair of models: their difference with standard error and p-values.

        Models that the method cannot distinguish have a difference of 0 and a p-value of 1.

        Parameters
        ----------
        adjustment : str, default "holm"
            A key of `ADJUSTMENTS`, or, over stimuli, ``"max_t"``: each difference is compared with the distribution of
            the largest studentised difference, given their correlations. That bounds the probability of at least one
            false positive, and is less strict than "holm" if differences are correlated.

        Returns
        -------
        DataFrame
            ``model``, ``other``, ``difference``, ``standard_error``, ``p`` (two-sided) and ``p_adjusted``.

        Raises
        ------
        ValueError
            If there are fewer than two models, if nothing was resampled, or if the adjustment is unknown.

        References
        ----------
        Westfall & Young (1993). Resampling-based multiple testing. Wiley (max-T).
        """
        import pandas as pd

        if len(self.models) < 2 or not self.draws:
            raise ValueError(
                "Comparing models needs at least 2 models and resampling. Evaluate over stimuli or networks."
            )
        if adjustment == "max_t" and self.over != "stimuli":
            raise ValueError("max_t needs samples of stimuli; choose another adjustment, or evaluate over stimuli.")
        first, second = np.triu_indices(len(self.models), 1)

        def difference(values: FloatArray, ceilings: FloatArray) -> FloatArray:
            return _without_rounding(values[:, first] - values[:, second], values)

        one_sided = np.minimum(self._p_positive(difference), self._p_positive(_negative(difference)))
        related = self._p_related()
        unrelated = 2 * np.minimum(related[first], related[second])  # of two models, so for two tests
        p = np.clip(2 * one_sided, np.minimum(unrelated, 1.0), 1.0)
        if adjustment == "max_t":
            largest = _max_t(difference(*self.draws["stimuli"]), self._t(difference), self._degrees)
            all_unrelated = np.minimum(unrelated / 2 * len(self.models), 1.0)
            adjusted = np.maximum(np.maximum(p, all_unrelated), largest)
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
            Level of the intervals.
        ax : matplotlib Axes, optional
            Axes to draw on; those of a new figure by default.
        """
        from repsim.similarity.drawing.result_figures import intervals, new_axes

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
        """Return a table with one row per model, for notebooks."""
        from repsim.similarity.drawing.notebook import titled

        return titled(f"{self.method} of models with {len(self.data)} data RDMs; resampled: {self.over}", self.frame())

    def _observed(self, pick: Pick) -> FloatArray:
        return pick(self.means[None], np.array([self.noise_ceiling]))[0]

    def _errors(self, pick: Pick) -> FloatArray:
        """Return standard errors of a function of values and ceilings."""
        if not self.draws:
            return np.full(len(self.models), np.nan)
        variances = {name: _variance(pick(*each)) for name, each in self.draws.items()}
        if self.over != "stimuli":  # a bootstrap of k networks underestimates the variance by (k - 1) / k
            k = len(self.data)
            variances["networks"] = variances["networks"] * k / (k - 1)
        if self.over != "both":
            return np.sqrt(variances[self.over])
        # Resampling both factors counts the variance of a single measurement three times, resampling one of them once.
        either = np.maximum(variances["stimuli"], variances["networks"])
        corrected = 2 * (variances["stimuli"] + variances["networks"]) - variances["both"]
        return np.sqrt(np.clip(corrected, either, np.maximum(either, variances["both"])))

    def _t(self, pick: Pick) -> FloatArray:
        """Return a function of values and ceilings in units of its standard error; infinite if that is zero."""
        observed, errors = self._observed(pick), self._errors(pick)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where((errors == 0) & (observed == 0), -np.inf, observed / errors)

    def _p_positive(self, pick: Pick) -> FloatArray:
        """Return one-sided p-values of Student's t against zero or less; 1 for zero without any spread."""
        return student.sf(self._t(pick), self._degrees) if self.draws else np.full(len(self.models), np.nan)

    def _p_above_chance(self) -> FloatArray:
        if not self.draws:
            return np.full(len(self.models), np.nan)

        def above(values: FloatArray, ceilings: FloatArray) -> FloatArray:
            return values - self.chance

        p = permutation_p(self.null, self.means, exact=self.is_exact_null)
        return np.maximum(p, self._p_positive(above))

    def _p_related(self) -> FloatArray:
        """Return two-sided p-values of each model against unrelated data."""
        either = [permutation_p(sign * self.null, sign * self.means, exact=self.is_exact_null) for sign in (1, -1)]
        return np.minimum(1.0, 2 * np.minimum(*either))

    def _interval(self, level: float) -> FloatArray:
        if not self.draws:
            return np.full((2, len(self.models)), np.nan)
        reach = student.ppf(0.5 + level / 2, self._degrees) * self.standard_errors
        return np.clip(np.stack([self.means - reach, self.means + reach]), *self.comparator.range)

    @property
    def _degrees(self) -> int:
        n, k = self.n_stimuli, len(self.data)
        return {"stimuli": n, "networks": k, "both": min(n, k)}[self.over] - 1


def _values(values: FloatArray, ceilings: FloatArray) -> FloatArray:
    return values


def _below_ceiling(values: FloatArray, ceilings: FloatArray) -> FloatArray:
    return _without_rounding(ceilings[:, [0]] - values, values)


def _negative(pick: Pick) -> Pick:
    return lambda values, ceilings: -pick(values, ceilings)


def _without_rounding(differences: FloatArray, values: FloatArray) -> FloatArray:
    """Set differences to zero that are rounding errors of the values."""
    return np.where(np.abs(differences) <= ROUNDING * np.abs(values).max(initial=0.0), 0.0, differences)


def _variance(samples: FloatArray) -> FloatArray:
    """Return variances (k,) over the samples without NaN; NaN if there are fewer than two of these."""
    known = samples[~np.isnan(samples).any(axis=1)]
    return known.var(axis=0, ddof=1) if len(known) > 1 else np.full(samples.shape[1], np.nan)


def _max_t(samples: FloatArray, t: FloatArray, degrees: int) -> FloatArray:
    """Return p-values of t from the largest of jointly t-distributed variables with the correlations of samples."""
    deviations = samples - samples.mean(axis=0)
    lengths = np.linalg.norm(deviations, axis=0)
    units = deviations / np.where(lengths > 0, lengths, 1.0)
    generator = np.random.default_rng(0)
    joint = generator.normal(size=(JOINT_DRAWS, len(samples))) @ units
    joint /= np.sqrt(generator.chisquare(degrees, size=(JOINT_DRAWS, 1)) / degrees)
    largest: NDArray[np.float64] = np.abs(joint).max(axis=1, keepdims=True)
    return permutation_p(largest, np.where(np.isneginf(t), 0.0, np.abs(t)), exact=False)
