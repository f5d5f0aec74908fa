"""E2: whether linear and deep linear models on artificial data end with synthetic gradients where backprop does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import pandas as pd

from analysis.reproduction.claim import Experiment, Part, Plan, Results, Section
from analysis.reproduction.claims.artificial.figures import EQUAL, draw
from analysis.reproduction.claims.artificial.runs import (
    DEPTH,
    DIMENSIONS,
    FACTORS,
    LOSSES,
    METHODS,
    MODELS,
    N_EXAMPLES,
    WIDTH,
    Case,
    measure_rates,
    train_sets,
)
from analysis.reproduction.summary import listed, seed_intervals
from repsim.learning import ARTIFICIAL

__all__ = ["ARTIFICIAL_DATA"]

_STEPS = {("linear", 2): 6000, ("linear", 100): 1500, ("deep linear", 2): 1500, ("deep linear", 100): 1500}
_RATES = {"linear": (0.1, 0.2), "deep linear": (3e-3, 1e-2)}  # of the model, of the module
_CLOSE = 1e-3


def _parts(plan: Plan) -> list[Part]:
    seeds = list(plan.seeds)
    trainings = [
        Part(
            name=f"{model.replace(' ', '-')}-{loss}-{n_features}-{method.replace(' ', '-')}",
            work=train_sets,
            settings={
                "case": asdict(Case(model=model, loss=loss, n_features=n_features, method=method)),
                "seeds": seeds,
                "n_steps": _STEPS[model, n_features],
                "rates": list(_RATES[model]),
            },
            cost=14.0 if model == "linear" else 45.0,
            group="artificial",
        )
        for model in MODELS
        for loss in LOSSES
        for n_features in DIMENSIONS
        for method in METHODS
    ]
    rates = [
        Part(
            name=f"rates-{name}-{n_features}",
            work=measure_rates,
            settings={
                "case": asdict(Case(model="linear", loss="mse", n_features=n_features, method=METHODS[1])),
                "name": name,
                "seed": seeds[0],
                "factors": list(FACTORS),
            },
            cost=4.0,
            group="artificial",
        )
        for name in ARTIFICIAL
        for n_features in DIMENSIONS
    ]
    return [*trainings, *rates]


def _conclude(results: Results) -> Section:
    plan, rates = results.plan, results["rates"]
    gaps = _gaps(results["endings"])
    exact = gaps[(gaps["model"] == "linear") & (gaps["loss"] == "mse")]
    deep = gaps[gaps["model"] == "deep linear"]
    converged = bool((exact["gap"].abs() <= EQUAL).all())  # never of a pair of which one diverged
    deep_converged = bool((deep.loc[deep["loss"] == "mse", "gap"].abs() <= _CLOSE).all())
    as_predicted = bool(((rates["spectral_radius"] > 1) == (rates["measured"] > 1)).all())
    held = [converged and as_predicted, deep_converged]
    note = f"Seeds {listed(plan.seeds)}, which decide data and initial weights; n = {N_EXAMPLES} training examples."
    return Section(
        setting=_setting(plan),
        verdict="holds" if all(held) else "holds in part" if any(held) else "does not hold",
        findings=[*_on_exactness(gaps, rates), *_on_the_rest(gaps)],
        drawings=list(draw(results["curves"], gaps, rates, note)),
        tables={"curves": results["curves"], "endings": results["endings"], "gaps": gaps, "rates": rates},
        shown={"Final training loss and gap, by case": _case_table(gaps), "Rates": rates.round(5)},
    )


def _gaps(endings: pd.DataFrame) -> pd.DataFrame:
    """Return for each case and seed the final losses and the gap: SG's less backprop's, relative to backprop's."""
    keys = ["model", "loss", "n_features", "data", "seed"]
    wide = endings.pivot(index=keys, columns="method", values=["final", "steps"])
    backprop, synthetic = (wide["final"][method] for method in METHODS)
    table = pd.DataFrame({"backprop": backprop, "synthetic_gradient": synthetic, "gap": synthetic / backprop - 1})
    table["steps_backprop"], table["steps_synthetic_gradient"] = (wide["steps"][method] for method in METHODS)
    return table.reset_index()


def _setting(plan: Plan) -> str:
    return (
        f"Four sets of {N_EXAMPLES} normal examples in two classes (a plane divides them; the same with a tenth of "
        "the labels flipped; labels at random; XOR of two directions), in 2 and 100 dimensions. A linear model, with "
        f"the SG at its output, by gradient descent on all examples (rates {_RATES['linear'][0]:g} for the model and "
        f"{_RATES['linear'][1]:g} for the module); and {DEPTH} hidden linear layers of {WIDTH} units, the SG after "
        f"the {DEPTH // 2}th, by Adam (rates {_RATES['deep linear'][0]:g} and {_RATES['deep linear'][1]:g}, falling to "
        "zero along half a cosine). "
        "Squared error to targets of ±1, or log loss of two classes. The SG is linear in activation and label, from "
        f"zero. Double precision; {len(plan.seeds)} seeds. What holds are equal ends under squared error, to "
        f"{EQUAL:g} (linear) and {_CLOSE:g} (deep), and rates that diverge where theory says; log loss, whose optimum "
        "a linear module cannot express, is shown and decides nothing."
    )


def _on_exactness(gaps: pd.DataFrame, rates: pd.DataFrame) -> Iterator[str]:
    exact, deep = (gaps[(gaps["model"] == model) & (gaps["loss"] == "mse")] for model in MODELS)
    yield (
        f"Squared error: final losses with and without SG differ by {exact['gap'].abs().max():.1e} relative at most in "
        f"{len(exact)} pairs of linear models (4 sets, 2 and 100 dimensions){_lost(exact)}, and by "
        f"{deep['gap'].abs().max():.1e} in {len(deep)} of deep linear ones{_lost(deep)}."
    )
    off = (rates["measured"] / rates["spectral_radius"] - 1).abs()
    beyond = rates[rates["spectral_radius"] > 1]
    yield (
        f"The measured factor of a step near the solution is the spectral radius of the iteration matrix to "
        f"{off.max():.1e} relative at most ({off.median():.1e} in the median), over {len(rates)} pairs of rates. Of "
        f"{len(beyond)} rates beyond the limits {int((beyond['measured'] > 1).sum())} diverge; of the "
        f"{len(rates) - len(beyond)} below, {int((rates.loc[rates['spectral_radius'] < 1, 'measured'] > 1).sum())}."
    )


def _on_the_rest(gaps: pd.DataFrame) -> Iterator[str]:
    for model, loss in (("deep linear", "mse"), ("linear", "log_loss"), ("deep linear", "log_loss")):
        rows = gaps[(gaps["model"] == model) & (gaps["loss"] == loss)]
        by_set = rows.groupby("data", sort=False)["gap"].median()
        parts = ", ".join(f"{name} {value:+.1e}" for name, value in by_set.dropna().items())
        words = f"{MODELS[model].capitalize()}, {LOSSES[loss]}"
        yield f"{words}: median relative gap of the final loss: {parts}{_lost(rows)}."


def _lost(rows: pd.DataFrame) -> str:
    """Return how many pairs have no gap, as a training diverged."""
    n_lost = int(rows["gap"].isna().sum())
    return f"; {n_lost} of {len(rows)} pairs diverged" if n_lost else ""


def _case_table(gaps: pd.DataFrame) -> pd.DataFrame:
    keys = ["model", "loss", "n_features", "data"]
    table = seed_intervals(gaps, keys, "gap")[[*keys, "mean", "low", "high", "n_seeds"]]
    finals = (
        gaps.dropna(subset="gap")
        .groupby(keys, sort=False)[["backprop", "synthetic_gradient", "steps_backprop", "steps_synthetic_gradient"]]
        .mean()
    )
    table = table.rename(columns={"mean": "gap", "low": "gap_low", "high": "gap_high"})
    joined = table.join(finals, on=keys)
    shown = ["gap", "gap_low", "gap_high", "backprop", "synthetic_gradient"]
    return joined.assign(**{name: joined[name].map("{:.3g}".format) for name in shown})


ARTIFICIAL_DATA = Experiment(
    name="artificial",
    title="Artificial data",
    claim="[S] The learning system with synthetic gradients converges for linear and deep linear models; on four basic "
    "data sets in 2 and 100 dimensions, for a linear model and one with 10 hidden linear layers, with squared error "
    "and log loss, it is asked whether it numerically converges to the same solution as backprop.",
    parts=_parts,
    conclude=_conclude,
)
