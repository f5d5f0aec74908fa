"""Conclusion: whether accuracy, speed and weights with a synthetic gradient in the middle equal those of backprop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.comparison.attribution.effect_bands import simultaneous_bands
from analysis.reproduction.claim import Plan, Results, Section, verdict_of
from analysis.reproduction.claims.depth.parts import (
    BACKPROP,
    DEPTHS,
    METHODS,
    SYNTHETIC,
    TRAINED,
    grid_of,
)
from analysis.reproduction.kit.numbers import formatted, listed, rows_of, seed_intervals, with_interval
from analysis.reproduction.kit.rule_tuning import choose_rates

__all__ = ["CLOSE", "conclude", "pairs_of"]

CLOSE, _DEEP = 0.02, 10
_EPOCH = 1.0  # smallest difference of interest in speed: accuracy is measured once per epoch
_CASE = ["activation", "depth"]
_ONE_SIDED = 0.95


def conclude(results: Results) -> Section:
    """Return the verdict: of the deep cases, those in which the SG is certainly not worse than backprop."""
    networks, tuning = results["networks"], results["tuning"]
    networks = networks.assign(method=networks["rule"].map({rule: name for name, rule in METHODS.items()}))
    accuracy, train = (
        seed_intervals(networks, [*_CASE, "method"], value) for value in ("test_accuracy", "train_accuracy")
    )
    gaps = _effects(pairs_of(networks, "test_accuracy"), CLOSE)
    speed = _effects(pairs_of(networks, "epochs_to_trained"), _EPOCH)
    deep = _judged(gaps, networks)
    return Section(
        setting=_setting(results.plan, networks, tuning),
        verdict=verdict_of(deep["held"]),
        findings=[
            *_findings(deep, networks),
            *_on_speed(speed, networks),
            *_on_weights(results["weights"]),
            *_on_tuning(tuning),
            *_untrained(networks),
        ],
        tables={
            "networks": networks,
            "accuracy": accuracy,
            "train_accuracy": train,
            "gaps": gaps,
            "speed": speed,
            "weights": results["weights"],
            "tuning": tuning,
        },
        shown={
            "Test accuracy": _accuracy_table(accuracy),
            "Test accuracy with a synthetic gradient minus backprop's": gaps.round(4),
            "Rates tried: validation accuracy": _tuning_table(tuning),
        },
    )


def _setting(plan: Plan, networks: pd.DataFrame, tuning: pd.DataFrame) -> str:
    grid = grid_of(plan)
    return (
        f"Networks of {listed(DEPTHS)} hidden layers of 128 units with batch norm, relu or tanh, on {plan.digits}; "
        "Adam with a cosine schedule, 40 epochs, batches of 128. In relu networks the shifts of the batch norms start "
        "at 1, because otherwise gradients grow initially by a factor of 1.2 per layer on the way back (Yang et al. "
        "2019). The SG is linear and conditioned on the label. The learning rates of each activation and method are "
        f"those with the highest accuracy on the {int(tuning['n_validation'].iloc[0])} validation digits in trainings "
        f"of {max(DEPTHS)} layers over {grid.epochs} epochs, with other seeds than those that are compared: "
        f"{listed(f'{rate:g}' for rate in grid.learning_rates)} for the network, and "
        f"{listed(f'{rate:g}' for rate in grid.estimator_learning_rates)} for the SG; backprop gets as many trainings, "
        "with two seeds. Test digits had no part in this choice. "
        f"A network counts as trained from an accuracy of {TRAINED:g}. {networks['seed'].nunique()} seeds, which are "
        "the unit. Limits are one-sided at 95 % and hold for all cases together (moderated variances over the cases): "
        f"a case is equivalent if both lie within ±{CLOSE:g} of test accuracy, different if one lies beyond, and "
        f"undecided otherwise. The verdict counts cases of {_DEEP} layers or more in which the lower limit is above "
        f"−{CLOSE:g} and the networks train; where this cannot be shown a case does not count, also if it is undecided."
    )


def pairs_of(networks: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return, for each pair of equal seeds, the value with a synthetic gradient minus that of backprop."""
    by_method = networks.pivot(index=[*_CASE, "seed"], columns="method", values=value)
    return (by_method[SYNTHETIC] - by_method[BACKPROP]).rename("difference").reset_index()


def _effects(pairs: pd.DataFrame, smallest: float) -> pd.DataFrame:
    """Return the mean difference of every case, one-sided ``lower`` and ``upper`` limits, and a ``verdict``.

    The limits hold for all cases together. They are missing, and the verdict is "undecided", where a pair is missing.
    """
    effects = seed_intervals(pairs, _CASE, "difference")
    wide = pairs.pivot(index="seed", columns=_CASE, values="difference")
    wide = wide[[*effects[_CASE].itertuples(index=False, name=None)]]  # in the order of the effects
    n, is_complete = len(wide), wide.notna().all().to_numpy()
    half = np.full(len(effects), np.nan)
    if is_complete.any() and n > 1:
        values = wide.to_numpy()[:, is_complete]
        influences = (values - values.mean(axis=0)) / np.sqrt(n * (n - 1))
        kinds = ["difference"] * values.shape[1]
        level = 2 * _ONE_SIDED - 1
        half[is_complete] = simultaneous_bands(influences, [n - 1] * len(kinds), kinds, level=level).half_bands
    lower, upper = effects["mean"] - half, effects["mean"] + half
    conditions = [(lower > smallest) | (upper < -smallest), (lower > -smallest) & (upper < smallest)]
    verdict = np.select(conditions, ["different", "equivalent"], "undecided")
    return effects.assign(lower=lower, upper=upper, smallest=smallest, verdict=verdict)


def _judged(gaps: pd.DataFrame, networks: pd.DataFrame) -> pd.DataFrame:
    """Return the deep cases, whether all networks with a synthetic gradient train, and whether as well as backprop."""
    synthetic = rows_of(networks, method=SYNTHETIC)
    accuracy = synthetic.groupby(_CASE)["test_accuracy"].mean().rename("synthetic")
    deep = gaps[gaps["depth"] >= _DEEP].join(accuracy, on=_CASE)
    return deep.assign(held=(deep["lower"] > -CLOSE) & (deep["synthetic"] >= TRAINED))


def _findings(gaps: pd.DataFrame, networks: pd.DataFrame) -> Iterator[str]:
    worst, counts = gaps.sort_values("lower").iloc[0], gaps["verdict"].value_counts()
    named = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in ("equivalent", "different", "undecided"))
    yield (
        f"In {gaps['held'].sum()} of {len(gaps)} cases of {_DEEP} layers or more, networks with a synthetic gradient "
        f"in the middle train, and the lower limit of the difference of their test accuracy from backprop's is above "
        f"−{CLOSE}; against ±{CLOSE} the cases are: {named}. The lowest limit is {worst['lower']:+.3f} "
        f"({worst['activation']}, {worst['depth']} layers)."
    )
    if diverged := int(networks["test_accuracy"].isna().sum()):
        yield f"{diverged} of {len(networks)} networks diverged; their cases count as not trained."
    for row in gaps.itertuples():
        yield (
            f"Difference with {row.activation} and {row.depth} hidden layers: {row.mean:+.3f} (one-sided limits "
            f"{row.lower:+.3f} and {row.upper:+.3f}): {row.verdict}."
        )


def _on_speed(speed: pd.DataFrame, networks: pd.DataFrame) -> Iterator[str]:
    """Yield how many epochs networks need to count as trained."""
    words = []
    for row in speed.to_dict("records"):
        of_case = rows_of(networks, activation=row["activation"], depth=row["depth"])
        ends = " and ".join(_epochs(rows_of(of_case, method=name)["epochs_to_trained"], name) for name in METHODS)
        limits = f" ({row['lower']:+.1f} to {row['upper']:+.1f})" if np.isfinite(row["lower"]) else ""
        words.append(f"{row['activation']}, {row['depth']} layers: {ends}; {row['verdict']}{limits}")
    yield (
        f"Epochs until validation accuracy reaches {TRAINED:g}, means over seeds, and whether they differ by "
        f"{_EPOCH:g} epoch or more: " + ". ".join(words) + "."
    )


def _epochs(values: pd.Series, name: str) -> str:
    missing = int(values.isna().sum())
    never = f" ({missing} of {len(values)} never)" if missing else ""
    words = "backprop" if name == BACKPROP else "an SG"
    return (f"{values.mean():.1f}" if missing < len(values) else "–") + f" with {words}{never}"


def _on_weights(weights: pd.DataFrame) -> Iterator[str]:
    """Yield the norms of the weights below and above the middle, and their slope over depth, at the greatest depth."""
    deepest = rows_of(weights, depth=weights["depth"].max())
    for activation, rows in deepest.groupby("activation", sort=False):
        halves = rows.groupby([*_CASE, "below", "method", "seed"])["end"].mean().reset_index()
        sides = []
        for side, words in ((True, "below the middle"), (False, "above it")):
            half = rows_of(halves, below=side)
            means = half.groupby("method")["end"].mean()
            (difference,) = seed_intervals(pairs_of(half, "end"), _CASE, "difference").itertuples()
            sides.append(
                f"{words} {means[BACKPROP]:.2f} with backprop and {means[SYNTHETIC]:.2f} with an SG, a difference of "
                f"{with_interval(difference, '+.2f')}"
            )
        slopes = [f"{_slope(rows_of(rows, method=method)):+.3f}" for method in METHODS]
        yield (
            f"Norms of the weights of a layer after training, {activation}, {deepest['depth'].iloc[0]} hidden layers "
            f"({rows['start'].mean():.2f} before): {'; '.join(sides)}. From the second layer on they change "
            f"by {slopes[0]} per layer with backprop and {slopes[1]} with an SG (by a reader's notes on the paper, "
            "backprop's rise slowly over depth, and those with an SG start high and fall). "
            "Weights also grow less at a lower learning rate of the "
            "network, and the methods are tuned to different ones."
        )


def _slope(weights: pd.DataFrame) -> float:
    """Return the slope of the norms over layers, the mean over seeds, without the first layer (of other fan-in)."""
    rows = weights[weights["layer"] > 1]
    slopes = [np.polyfit(each["layer"], each["end"], 1)[0] for _, each in rows.groupby("seed")]
    return float(np.mean(slopes))


def _on_tuning(tuning: pd.DataFrame) -> Iterator[str]:
    """Yield the rates that were chosen, and which of them lie on the edge of the grid."""
    words = []
    for network, rows in tuning.groupby("network", sort=False):
        rates = choose_rates(rows)
        if rates is None:
            words.append(f"{network}: none, as all diverged")
            continue
        tried = rows["learning_rate"]
        edge = " (the edge of the grid)" if rates.learning_rate in (tried.min(), tried.max()) else ""
        module = "" if np.isnan(rates.estimator_learning_rate) else f" and {rates.estimator_learning_rate:g} (SG)"
        words.append(f"{network}: {rates.learning_rate:g}{edge}{module}")
    yield f"Learning rates chosen on the validation digits: {'; '.join(words)}."


def _untrained(networks: pd.DataFrame) -> Iterator[str]:
    """Yield the cases in which backprop itself does not reach the accuracy of a trained network."""
    means = networks.groupby([*_CASE, "method"])["test_accuracy"].mean()
    for activation, depth in networks[_CASE].drop_duplicates().itertuples(index=False):
        backprop, synthetic = (means[activation, depth, method] for method in METHODS)
        if backprop < TRAINED:
            yield (
                f"With {activation} and {depth} hidden layers backprop reaches only {backprop:.3f} in this many steps, "
                f"and {synthetic:.3f} with a synthetic gradient in the middle: these networks are not trained to the "
                "end."
            )


def _accuracy_table(accuracy: pd.DataFrame) -> pd.DataFrame:
    return accuracy.round(3).rename(columns={"mean": "test accuracy"})[
        ["activation", "depth", "method", "test accuracy", "low", "high", "least", "most", "n_seeds"]
    ]


def _tuning_table(tuning: pd.DataFrame) -> pd.DataFrame:
    columns: Sequence[str] = ("network", "learning_rate", "estimator_learning_rate")
    means = tuning.groupby(list(columns), sort=False, dropna=False)["validation_accuracy"].agg(["mean", "count"])
    shown = means.reset_index().rename(columns={"mean": "validation accuracy", "count": "trainings"})
    return formatted(shown, "g", columns[1:]).round(3)
