"""Conclusion: whether final losses equal backprop's, and rates diverge where theory predicts it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.reproduction.claim import Plan, Results, Section, verdict_of
from analysis.reproduction.claims.artificial.parts import DEPTH, LOSSES, METHODS, MODELS, N_EXAMPLES, RATES, WIDTH
from analysis.reproduction.kit.numbers import formatted, rows_of, seed_intervals

__all__ = ["EQUAL", "conclude"]

EQUAL = 1e-6  # smaller relative differences count as none
_CLOSE = 1e-3
_CASE = ["model", "loss", "n_features", "data"]


def conclude(results: Results) -> Section:
    """Return the verdict: equal final losses of linear and of deep linear models under squared error."""
    rates, gaps = results["rates"], _gaps(results["endings"])
    squared = rows_of(gaps, loss="mse")
    linear, deep = (rows_of(squared, model=model)["gap"].abs() for model in MODELS)
    as_predicted = ((rates["spectral_radius"] > 1) == (rates["measured"] > 1)).all()
    held = [(linear <= EQUAL).all() and as_predicted, (deep <= _CLOSE).all()]  # not if one of a pair diverged
    return Section(
        setting=_setting(results.plan),
        verdict=verdict_of(held),
        findings=[*_on_squared_error(squared), _on_rates(rates), *_on_the_rest(gaps)],
        tables={"curves": results["curves"], "endings": results["endings"], "gaps": gaps, "rates": rates},
        shown={"Final training loss and gap, by case": _case_table(gaps), "Rates": rates.round(5)},
    )


def _gaps(endings: pd.DataFrame) -> pd.DataFrame:
    """Return final losses and the gap for each case and seed: SG's minus backprop's, relative to backprop's."""
    wide = endings.pivot(index=[*_CASE, "seed"], columns="method", values=["final", "steps"])
    backprop, synthetic = (wide["final"][method] for method in METHODS)
    table = pd.DataFrame({"backprop": backprop, "synthetic_gradient": synthetic, "gap": synthetic / backprop - 1})
    table["steps_backprop"], table["steps_synthetic_gradient"] = (wide["steps"][method] for method in METHODS)
    return table.reset_index()


def _setting(plan: Plan) -> str:
    linear, deep = RATES["linear"], RATES["deep linear"]
    return (
        f"Four sets of {N_EXAMPLES} normal examples in two classes (divided by a plane; the same with a tenth of "
        "the labels flipped; labels at random; XOR of two directions), in 2 and 100 dimensions. A linear model, with "
        f"the SG at its output, by gradient descent on all examples (learning rates {linear[0]:g} for the model and "
        f"{linear[1]:g} for the module); and {DEPTH} hidden linear layers of {WIDTH} units, the SG after "
        f"the {DEPTH // 2}th, by Adam ({deep[0]:g} and {deep[1]:g}, falling to zero along half a cosine). Squared "
        "error to targets of ±1, or log loss of two classes. The SG is linear in activation and label, and starts at "
        f"zero. Double precision; {len(plan.seeds)} seeds. The claim holds if final losses under squared error are "
        f"equal to {EQUAL:g} (linear) and {_CLOSE:g} (deep), and rates diverge where theory predicts it; log loss, "
        "whose optimum a linear module cannot express, is shown but does not count."
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


def _on_the_rest(gaps: pd.DataFrame) -> Iterator[str]:
    for model, loss in (("deep linear", "mse"), ("linear", "log_loss"), ("deep linear", "log_loss")):
        rows = rows_of(gaps, model=model, loss=loss)
        by_set = rows.groupby("data", sort=False)["gap"].median()
        medians = ", ".join(f"{name} {value:+.1e}" for name, value in by_set.dropna().items())
        words = f"{MODELS[model].capitalize()}, {LOSSES[loss]}"
        yield f"{words}: median relative gap of the final loss: {medians}{_lost(rows)}."


def _lost(rows: pd.DataFrame) -> str:
    """Return the number of pairs without a gap because a training diverged."""
    n_lost = int(rows["gap"].isna().sum())
    return f"; {n_lost} of {len(rows)} pairs diverged" if n_lost else ""


def _case_table(gaps: pd.DataFrame) -> pd.DataFrame:
    table = seed_intervals(gaps, _CASE, "gap")[[*_CASE, "mean", "low", "high", "n_seeds"]]
    finals = (
        gaps.dropna(subset="gap")
        .groupby(_CASE, sort=False)[["backprop", "synthetic_gradient", "steps_backprop", "steps_synthetic_gradient"]]
        .mean()
    )
    table = table.rename(columns={"mean": "gap", "low": "gap_low", "high": "gap_high"})
    shown = ["gap", "gap_low", "gap_high", "backprop", "synthetic_gradient"]
    return formatted(table.join(finals, on=_CASE), ".3g", shown)
