"""Conclusion: which rules learn, how they differ, and a table of all measurements with one row per rule."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.reproduction.claim import Frames, Results, Section
from analysis.reproduction.claims.rules.rule_comparison import comparison_of
from analysis.reproduction.claims.rules.rule_entries import (
    BACKPROP,
    CONTROLS,
    FAMILIES,
    FAMILY_OF,
    OUTPUT_ALONE,
    SYNTHETIC,
    UNTRAINED,
)
from analysis.reproduction.claims.rules.rule_pairs import SMALLEST, VERDICTS, differences_from
from analysis.reproduction.claims.rules.rule_tables import summarise
from analysis.reproduction.kit.numbers import listed, rows_of
from analysis.reproduction.kit.rule_tuning import TunedRates, choose_rates

__all__ = ["PROFILES", "conclude"]

PROFILES = {
    "angle": "angle to the true gradient (degrees)",
    "probe": "probe accuracy",
    "class_structure": "class structure",
    "cka": "CKA to backprop",
    "rsa": "RDM correlation to backprop",
}
_MANY = 0.5  # share of the rules that have to learn for the claim to hold in part


def conclude(results: Results) -> Section:
    """Return "holds" if all rules other than the controls learn, and "holds in part" if half of them do."""
    tables = summarise(results.tables)
    gains = tables["gains"]
    learns = gains[gains["family"] != CONTROLS]["learns"]
    return Section(
        setting=_setting(results),
        verdict="holds" if learns.all() else "holds in part" if learns.mean() >= _MANY else "does not hold",
        findings=[
            *_learning(tables),
            *_tuning(tables["tuning"]),
            *_pairs(tables["pairs"]),
            *_locking(tables),
            *_noise(gains),
            *_grading(tables["relations"]),
            *_layers(tables["rules"]),
        ],
        tables={**tables, "timings": results["timings"]},
        shown={
            "All rules, one row each; numbers by layer, from the first hidden one": _shown(
                tables["rules"], results["timings"]
            ),
            "Validation accuracy after tuning trainings, by learning rate; in brackets the best rate for estimators": (
                _shown_tuning(tables["tuning"])
            ),
        },
    )


def _setting(results: Results) -> str:
    comparison = comparison_of(results.plan)
    training, grid, networks = comparison.training, comparison.grid, results["networks"]
    n_validation = int(results["tuning"]["n_validation"].max())
    tuning_epochs, seeds = int(results["tuning"]["epochs"].max()), sorted(networks["seed"].unique())
    return (
        f"A network of {training.depth} hidden layers of {training.width} units with batch norm and relu, trained on "
        f"{results.plan.digits} for {training.epochs} epochs with Adam and a cosine "
        f"schedule, once with each of {networks['network'].nunique()} rules for each of the seeds {listed(seeds)}. "
        "Every rule is used at all boundaries, including the one below the output layer; "
        "equal seeds have equal initial weights. All rules are estimators of one protocol: the training step gets g_k "
        "from the estimator at boundary k in place of the gradient N · ∂L/∂h_k, and is otherwise the same. Width, "
        "depth and epochs are our choices, and so is Kickback's scalar error, that of the true class, as the rule was "
        f"stated for one output. Learning rates are tuned for every rule alike, with {grid.n_trainings} trainings of "
        f"{tuning_epochs} epochs each: the learning rates {listed(f'{rate:g}' for rate in grid.learning_rates)}, for "
        "rules with parameters of their own at each of the rates "
        f"{listed(f'{rate:g}' for rate in grid.estimator_learning_rates)} for these, and for the others with "
        f"{len(grid.estimator_learning_rates)} seeds. The highest accuracy on {n_validation} validation digits decides "
        "(tuning.csv has all of them); the test digits and the seeds above have no part in it. A best rate of shorter "
        "trainings need not be the best of longer ones. The smallest difference of test accuracies of interest is "
        f"{SMALLEST:g}, chosen beforehand: two rules are different if the 95 % band of their difference lies beyond "
        "it, equivalent if it lies within, and otherwise undecided. Seeds are the unit of replication, and bands hold "
        "for all pairs of rules at once. For correlations over rules the unit is the family of rules: "
        f"{'; '.join(f'{name} ({meaning})' for name, meaning in FAMILIES.items())}. Locks follow from what an "
        "estimator needs. Similarity to backprop is measured against backprop networks of other seeds; the row of "
        "backprop itself is the ceiling. Three rules are controls: noise of the size of the first gradient; the "
        "true gradient, turned by 45 degrees towards noise; and no gradient at all, so that only the output layer "
        "learns. Time is that of an update divided by backprop's in the "
        "same round, the median over rounds on one processor core; it varies from run to run, while all other numbers "
        "are reproducible."
    )


def _learning(tables: Frames) -> Iterator[str]:
    """Yield which rules learn, the reason for the verdict."""
    networks, gains = tables["networks"], tables["gains"]
    rules = gains[gains["family"] != CONTROLS]
    alone = tables["accuracy"].set_index(["part", "method"])["mean"]["test", OUTPUT_ALONE]
    learning, others = rules[rules["learns"]], rules[~rules["learns"]]
    gained = f", by {learning['mean'].min():.3f} to {learning['mean'].max():.3f}" if len(learning) else ""
    failed = f"; exceptions: {'; '.join(_gain(row) for row in others.itertuples())}" if len(others) else ""
    yield (
        f"{networks['state'].eq('finished').sum()} of {len(networks)} networks of {networks['method'].nunique()} rules "
        f"were trained to the end in one step that differs only in g_k, and {len(learning)} of {len(rules)} rules "
        f"other than the controls have a test accuracy that is higher than that of the output layer alone "
        f"({alone:.3f}) by more than {SMALLEST:g}{gained}{failed}."
    )


def _gain(row: Any) -> str:
    """Return a row of ``gains`` (of ``itertuples``) in words."""
    if not row.verdict:
        return f"{row.method} (training diverged)"
    return f"{row.method} {row.mean:+.3f} (95 % band {row.band_low:+.3f} to {row.band_high:+.3f}, {row.verdict})"


def _tuning(tuning: pd.DataFrame) -> Iterator[str]:
    """Yield which rules were tuned to an end of the grid, and where trainings diverged."""
    rates, chosen = tuning["learning_rate"], rows_of(tuning, chosen=True).drop_duplicates("method")
    n_rules, lost = tuning["method"].nunique(), set(tuning["method"]) - set(chosen["method"])
    for end, rate in (("lowest", rates.min()), ("highest", rates.max())):
        names = list(rows_of(chosen, learning_rate=rate)["method"])
        if names:
            yield (
                f"Tuned to the {end} learning rate of the grid, so that a wider grid might give more: {len(names)} of "
                f"{n_rules} rules ({'; '.join(names)})."
            )
    all_of = f", and all those of {'; '.join(sorted(lost))}" if lost else ""
    yield f"{tuning['state'].eq('diverged').sum()} of {len(tuning)} tuning trainings diverged{all_of}."


def _pairs(pairs: pd.DataFrame) -> Iterator[str]:
    """Yield the verdicts on pairs of rules, and on the synthetic gradient against each other rule."""
    is_rule = pairs[["method_a", "method_b"]].apply(lambda names: names.map(FAMILY_OF) != CONTROLS).all(axis=1)
    rules = pairs[is_rule]
    counts = rules["verdict"].value_counts()
    decided = [f"{counts.get(verdict, 0)} are {verdict}" for verdict in VERDICTS]
    yield (
        f"Test accuracies in {len(rules)} pairs of rules other than controls, against a smallest difference of "
        f"{SMALLEST:g}: {', '.join(decided)}."
    )
    against = differences_from(rules, SYNTHETIC)
    if (against["verdict"] != "").any():
        yield f"Test accuracy beside that of the {SYNTHETIC}: {_verdict_words(against)}."


def _verdict_words(differences: pd.DataFrame) -> str:
    """Return the rules by their verdict against one rule, with the difference of each."""
    higher = differences["mean"] > 0
    different = differences["verdict"] == "different"
    groups = {
        "higher": different & higher,
        "equivalent": differences["verdict"] == "equivalent",
        "lower": different & ~higher,
        "undecided": differences["verdict"] == "undecided",
    }
    rows = {word: differences[chosen].itertuples() for word, chosen in groups.items() if chosen.any()}
    said = [f"{word}: {listed(f'{row.method} ({row.mean:+.3f})' for row in each)}" for word, each in rows.items()]
    return "; ".join(said)


def _locking(tables: Frames) -> Iterator[str]:
    """Yield for each set of locks which rules have the highest test accuracy, as far as that is decided."""
    rules, pairs = tables["rules"], tables["pairs"]
    reached = rules[(rules["family"] != CONTROLS) & rules["test_accuracy_band_low"].notna()]
    for locked, rows in reached.groupby("locks", sort=False):
        words = "no lock" if locked == "-" else f"{str(locked).replace(', ', ' and ')} lock"
        first = rows.sort_values("test_accuracy_mean", ascending=False, kind="stable").iloc[0]
        others = differences_from(pairs, first["method"])
        others = others[others["method"].isin(rows["method"])]
        told = f"; beside it, {_verdict_words(others)}" if len(others) else ", the only one"
        yield (
            f"Rules under {words}: the highest mean test accuracy is {first['test_accuracy_mean']:.3f} (95 % band "
            f"{first['test_accuracy_band_low']:.3f} to {first['test_accuracy_band_high']:.3f}), of "
            f"{first['method']}{told}."
        )


def _noise(gains: pd.DataFrame) -> Iterator[str]:
    """Yield what the controls with a gradient add to the output layer alone."""
    for row in gains[gains["family"] == CONTROLS].itertuples():
        yield f"Gain of a control with a gradient over the output layer alone: {_gain(row)}."


def _grading(relations: pd.DataFrame) -> Iterator[str]:
    """Yield rank correlations of alignment with accuracy and with similarity to backprop."""
    words = {"test_accuracy_mean": "Test accuracy", "cka_mean": "The layers' CKA to backprop"}
    times = {"angle_mean": "at the last step", "angle_over_training": "averaged over training"}
    for y, quantity in words.items():
        for among, rows in rows_of(relations, y=y).groupby("among", sort=False):
            said = [f"{times[str(row.x)]} {_relation(row)}" for row in rows.itertuples()]
            first = rows.iloc[0]
            yield (
                f"{quantity} over the angle to the true gradient, rank correlation over {first['n_rules']} {among} in "
                f"{first['n_families']} families: {'; '.join(said)}."
            )


def _relation(row: Any) -> str:
    """Return a row of ``relations`` (of ``itertuples``) in words."""
    if not math.isfinite(row.spearman):
        return "not defined"
    if not np.isfinite([row.low, row.high, row.least, row.most]).all():
        return f"{row.spearman:+.2f} (undecided: too few families, or equal values without one of them)"
    found = "undecided" if row.direction == "undecided" else f"it {row.direction}"
    return (
        f"{row.spearman:+.2f} (95 % interval by families {row.low:+.2f} to {row.high:+.2f}; with one family left out "
        f"{row.least:+.2f} to {row.most:+.2f}): {found}"
    )


def _layers(rules: pd.DataFrame) -> Iterator[str]:
    """Yield similarities of layers to backprop, and the class structure of synthetic gradients and backprop."""
    by = rules.set_index("method")
    for measure, words in (("cka", "unbiased CKA"), ("rsa", "RDM correlation")):
        mean = by[f"{measure}_mean"].dropna()
        others = mean.drop([BACKPROP, UNTRAINED])
        yield (
            f"Mean {words} over layers and seeds to backprop networks of other seeds: {others.min():.2f} to "
            f"{others.max():.2f} by rule; ceiling {mean[BACKPROP]:.2f}, untrained {mean[UNTRAINED]:.2f}."
        )
    structure = dict(zip(rules["method"], _by_layer(rules, "class_structure"), strict=True))
    yield f"Class structure by layer: {structure[SYNTHETIC]} ({SYNTHETIC}) and {structure[BACKPROP]} ({BACKPROP})."


def _shown(rules: pd.DataFrame, timings: pd.DataFrame) -> pd.DataFrame:
    """Return the table of the report: one row per rule, with the numbers of all layers in one cell."""
    relative = rules["method"].map(timings.set_index("method")["relative"])
    table = {
        "rule": rules["method"],
        "family": rules["family"],
        "g_k": rules["g"].where(rules["options"] == "-", rules["g"] + "; " + rules["options"]),
        "what else learns": rules["learns"],
        "needs": rules["needs"],
        "locks": rules["locks"],
        "learning rates": _rates(rules),
        "test accuracy": _with_band(rules, "test_accuracy"),
        "training accuracy": _with_band(rules, "train_accuracy"),
        **{words: _by_layer(rules, measure) for measure, words in PROFILES.items()},
        "time per step, relative to backprop": [_number(value, 2) for value in relative],
    }
    return pd.DataFrame(table).fillna("-")


def _rates(rules: pd.DataFrame) -> list[str]:
    pairs = rules[list(TunedRates._fields)].itertuples(index=False, name=None)
    return [listed(f"{rate:g}" for rate in pair if math.isfinite(rate)) or "-" for pair in pairs]


def _shown_tuning(tuning: pd.DataFrame) -> pd.DataFrame:
    """Return one row per rule and one column per learning rate, with the best validation accuracy at this rate."""
    rows = []
    for method, of_rule in tuning.groupby("method", sort=False):
        row: dict[str, Any] = {"rule": method, "trainings": len(of_rule)}
        for rate, at_rate in of_rule.groupby("learning_rate"):
            row[f"{float(str(rate)):g}"] = _best_at(at_rate)
        rows.append(row)
    return pd.DataFrame(rows)


def _best_at(tuning: pd.DataFrame) -> str:
    """Return the best validation accuracy of one rule at one learning rate, marked if the rate was chosen."""
    if (rates := choose_rates(tuning)) is None:
        return "diverged"
    own = rates.estimator_learning_rate
    same = tuning if math.isnan(own) else rows_of(tuning, estimator_learning_rate=own)
    at = "" if math.isnan(own) else f" ({own:g})"
    return f"{same['validation_accuracy'].mean():.3f}{at}{' chosen' if same['chosen'].any() else ''}"


def _with_band(rules: pd.DataFrame, name: str) -> list[str]:
    means, highs = rules[f"{name}_mean"], rules[f"{name}_band_high"]
    return [
        f"{mean:.3f} ± {high - mean:.3f}" if np.isfinite(high) else _number(mean, 3)
        for mean, high in zip(means, highs, strict=True)
    ]


def _by_layer(rules: pd.DataFrame, measure: str) -> list[str]:
    columns = [name for name in rules if re.fullmatch(rf"{measure}_\d+", str(name))]
    digits = 0 if measure == "angle" else 2
    return [", ".join(_number(value, digits) for value in row) for row in rules[columns].itertuples(index=False)]


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"
