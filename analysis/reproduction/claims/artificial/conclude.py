"""Conclusion: whether final losses equal backprop's, and rates diverge where theory predicts it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.reproduction.claim import Plan, Results, Section, verdict_of
from analysis.reproduction.claims.artificial.line_searches import PLAIN, SEARCHES
from analysis.reproduction.claims.artificial.parts import (
    BACKPROP,
    DEPTH,
    DIMENSIONS,
    FITTING,
    METHODS,
    MODELS,
    N_EXAMPLES,
    RATES,
    SEPARABLE,
    WIDTH,
)
from analysis.reproduction.kit.numbers import formatted, rows_of, seed_intervals

__all__ = ["EQUAL", "conclude"]

EQUAL = 1e-6  # smaller relative differences count as none
_CLOSE = 1e-3  # smallest relative difference of interest where descent has not ended
_CASE = ["model", "loss", "module", "n_features", "data"]


def conclude(results: Results) -> Section:
    """Return the verdict: equal final losses, under log loss with the modules that fit it."""
    rates, gaps, searches = results["rates"], _gaps(results["endings"]), results["searches"]
    cases = _cases(gaps)
    squared = rows_of(gaps, loss="mse")
    linear, deep = (rows_of(squared, model=model)["gap"].abs() for model in MODELS)
    as_predicted = ((rates["spectral_radius"] > 1) == (rates["measured"] > 1)).all()
    log_loss = rows_of(cases, loss="log_loss")
    fitting = log_loss[log_loss["module"].isin([METHODS[method] for method in FITTING])]
    held = [
        (linear <= EQUAL).all() and as_predicted,  # not if one of a pair diverged
        (deep <= _CLOSE).all(),
        (searches[searches["method"].isin(SEARCHES)]["excess"].abs() <= _CLOSE).all(),  # not if one diverged
        *(rows_of(fitting, model=model)["outcome"].isin(["equal", "no minimum"]).all() for model in MODELS),
    ]
    return Section(
        setting=_setting(results.plan),
        verdict=verdict_of(held),
        findings=[*_on_squared_error(squared), _on_rates(rates), _on_searches(searches), *_on_log_loss(cases)],
        tables={
            "curves": results["curves"],
            "endings": results["endings"],
            "gaps": gaps,
            "rates": rates,
            "searches": searches,
        },
        shown={"Final training loss and gap, by case": _case_table(gaps, cases), "Rates": rates.round(5)},
    )


def _gaps(endings: pd.DataFrame) -> pd.DataFrame:
    """Return final losses and the gap for each case and seed: SG's minus backprop's, relative to backprop's."""
    keys = ["model", "loss", "n_features", "data", "seed"]
    with_module = endings[endings["method"] != BACKPROP]
    pairs = with_module.merge(rows_of(endings, method=BACKPROP), on=keys, suffixes=("", "_backprop"))
    return pairs[keys].assign(
        module=pairs["method"].map(METHODS),
        backprop=pairs["final_backprop"],
        synthetic_gradient=pairs["final"],
        gap=pairs["final"] / pairs["final_backprop"] - 1,
        steps_backprop=pairs["steps_backprop"],
        steps_synthetic_gradient=pairs["steps"],
    )


def _cases(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return intervals of the gap over seeds and the ``outcome`` of each case.

    ``outcome`` is "diverged" if a seed diverged, "no minimum" for the log loss of separable classes, "equal" or
    "different" if the interval lies within or beyond the smallest difference of interest, and "undecided" otherwise.
    """
    cases = seed_intervals(gaps, _CASE, "gap")
    groups = gaps.groupby(_CASE, sort=False)
    cases["n_diverged"] = groups["gap"].apply(lambda gap: int(gap.isna().sum())).to_numpy()
    for column in ("gap", "backprop", "synthetic_gradient"):
        cases[f"median_{column}"] = groups[column].median().to_numpy()
    conditions = [
        cases["n_diverged"] > 0,
        (cases["data"] == SEPARABLE) & (cases["loss"] == "log_loss"),
        (cases["low"] > -_CLOSE) & (cases["high"] < _CLOSE),
        (cases["low"] > _CLOSE) | (cases["high"] < -_CLOSE),
    ]
    return cases.assign(outcome=np.select(conditions, ["diverged", "no minimum", "equal", "different"], "undecided"))


def _setting(plan: Plan) -> str:
    linear, deep, deep_log = (
        f"{model:g} and {module:g}"
        for model, module in (RATES["linear", "mse"], RATES["deep linear", "mse"], RATES["deep linear", "log_loss"])
    )
    return (
        f"Four sets of {N_EXAMPLES} normal examples in two classes (divided by a plane; the same with a tenth of "
        "the labels flipped; labels at random; XOR of two directions), in 2 and 100 dimensions. A linear model, with "
        f"the SG at its output, by gradient descent on all examples (learning rates of model and module {linear}); and "
        f"{DEPTH} hidden linear layers of {WIDTH} units, the SG after the {DEPTH // 2}th, by Adam ({deep}; under log "
        f"loss {deep_log}; all falling to zero along half a cosine). Squared error to targets of ±1, or log loss of "
        "two classes. The SG is linear in activation and label; under log loss also of the form S = D φ(A h) + V y + "
        "c with φ a sigmoid or softmax, which can express the gradient. D, V, c and the linear SG start at zero. "
        f"Double precision; {len(plan.seeds)} seeds. The claim holds if final losses under squared error are equal to "
        f"{EQUAL:g} (linear model) and {_CLOSE:g} (deep), if rates diverge where theory predicts it, if line searches "
        f"that begin with rates beyond the limits end within {_CLOSE:g} of the smallest loss, and if under log "
        "loss with the sigmoid and the softmax SG nothing diverges and the 95 % interval of the relative difference "
        f"lies within {_CLOSE:g} wherever the loss has a minimum. The linear SG, which cannot express the gradient of "
        "the log loss, is shown but does not count there."
    )


def _on_squared_error(squared: pd.DataFrame) -> Iterator[str]:
    linear, deep = (rows_of(squared, model=model) for model in MODELS)
    yield (
        "Squared error: final losses with and without SG differ by a relative "
        f"{linear['gap'].abs().max():.1e} at most in "
        f"{len(linear)} pairs of linear models (4 sets, 2 and 100 dimensions){_lost(linear)}, and by "
        f"{deep['gap'].abs().max():.1e} in {len(deep)} pairs of deep linear models{_lost(deep)}."
    )


def _on_rates(rates: pd.DataFrame) -> str:
    off = (rates["measured"] / rates["spectral_radius"] - 1).abs()
    beyond, below = (rates[is_in] for is_in in (rates["spectral_radius"] > 1, rates["spectral_radius"] < 1))
    return (
        "The measured factor per step near the solution equals the spectral radius of the iteration matrix to a "
        f"relative {off.max():.1e} at most ({off.median():.1e} in the median), over {len(rates)} pairs of rates. Of "
        f"{len(beyond)} rates beyond the limits {int((beyond['measured'] > 1).sum())} diverge; of the "
        f"{len(rates) - len(beyond)} below, {int((below['measured'] > 1).sum())}."
    )


def _on_searches(searches: pd.DataFrame) -> str:
    plain = rows_of(searches, method=PLAIN)
    ends = []
    for method in SEARCHES:
        rows = rows_of(searches, method=method)
        lost = int(rows["excess"].isna().sum())
        ends.append(
            f"with a {method} {lost or 'none'} diverge and the largest excess over the smallest loss is "
            f"{rows['excess'].abs().max():.1e} (the network waits at {rows['waited'].sum() / rows['steps'].sum():.0%} "
            "of the steps)"
        )
    return (
        "Rates of 1.1 and 10 times the limits, at the latter from starts ten times as large, and rates of 0.1 and 1 in "
        f"deep linear models: of {len(plain)} descents {int(plain['excess'].isna().sum())} diverge with plain steps; "
        f"{'; '.join(ends)}."
    )


def _on_log_loss(cases: pd.DataFrame) -> Iterator[str]:
    log_loss = rows_of(cases, loss="log_loss")
    for (model, module), rows in log_loss.groupby(["model", "module"], sort=False):
        yield (
            f"Log loss, {MODELS[str(model)]}, {module} SG, final loss against backprop's where it has a minimum: "
            f"{_outcomes(rows[rows['data'] != SEPARABLE])}."
        )
    for n_features in DIMENSIONS:
        rows = rows_of(log_loss, data=SEPARABLE, n_features=n_features)
        ends = "; ".join(f"{MODELS[row.model]}, {row.module} SG {_separable(row)}" for row in _rows(rows))
        yield (
            f"Log loss of separable classes, which has no minimum, {n_features} dimensions, medians over seeds after "
            f"all steps: {ends}."
        )


def _outcomes(rows: pd.DataFrame) -> str:
    """Return the cases of each outcome with the mean relative gap, and the number of seeds that diverged."""
    words = []
    for outcome, group in rows.groupby("outcome", sort=False):
        cases = ", ".join(f"{row.data} in {row.n_features} dimensions ({_gap(row)})" for row in _rows(group))
        words.append(f"{outcome} on {cases}")
    return "; ".join(words)


def _gap(row: Any) -> str:
    gap = [f"{row.mean:+.1e}"] if row.n_seeds else []
    if not row.n_diverged:
        return gap[0]
    return ", the others ".join([f"{row.n_diverged} of {row.n_diverged + row.n_seeds}", *gap])


def _separable(row: Any) -> str:
    if not row.n_seeds:
        return f"diverged with all {row.n_diverged} seeds"
    lost = f" ({row.n_diverged} of {row.n_diverged + row.n_seeds} diverged)" if row.n_diverged else ""
    ends = f"{row.median_synthetic_gradient:.3g}, backprop {row.median_backprop:.3g}"
    return f"{ends}, relative difference {row.median_gap:+.2g}{lost}"


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    return table.itertuples(index=False)


def _lost(rows: pd.DataFrame) -> str:
    """Return the number of pairs without a gap because a training diverged."""
    n_lost = int(rows["gap"].isna().sum())
    return f"; {n_lost} of {len(rows)} pairs diverged" if n_lost else ""


def _case_table(gaps: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    table = cases[[*_CASE, "outcome", "mean", "low", "high", "n_seeds"]]
    finals = (
        gaps.dropna(subset="gap")
        .groupby(_CASE, sort=False)[["backprop", "synthetic_gradient", "steps_backprop", "steps_synthetic_gradient"]]
        .mean()
    )
    table = table.rename(columns={"mean": "gap", "low": "gap_low", "high": "gap_high"})
    shown = ["gap", "gap_low", "gap_high", "backprop", "synthetic_gradient"]
    return formatted(table.join(finals, on=_CASE), ".3g", shown)
