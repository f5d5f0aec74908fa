"""Conclusion: whether implied losses are quadratic, are the true loss, and are losses at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.reproduction.claim import Results, Section, verdict_of
from analysis.reproduction.claims.implied_loss.correlation_trends import SMALLEST, correlation_trends
from analysis.reproduction.claims.implied_loss.deep_network import WHERE
from analysis.reproduction.claims.implied_loss.line import DATA, LINE_LOSSES, MODULES
from analysis.reproduction.claims.implied_loss.parts import (
    COMPONENTS,
    DEPTH,
    EPOCHS,
    HIDDEN_WIDTH,
    RATES,
    SHARE,
    WIDTH,
)
from analysis.reproduction.kit.numbers import formatted, listed, rows_of, seed_intervals, value_range, with_interval

__all__ = ["INTEGRABLE", "conclude"]

INTEGRABLE = 0.1  # weighted curl: 1 % of the squared Jacobian is antisymmetric
_QUADRATIC, _CURVED = 1e-8, 1e-3  # relative residuals of a quadratic fit, at most and at least
_RECOVERED = 0.01  # relative difference from the true loss


def conclude(results: Results) -> Section:
    """Return the verdict; a linear module whose implied loss is not quadratic refutes the claim."""
    line, (fields, beliefs, pairs) = results["line"], (_named(results[name]) for name in ("fields", "beliefs", "pairs"))
    difference = seed_intervals(line, ["loss", "data", "module"], "difference")
    last = fields[fields["epoch"] == fields["epoch"].max()]
    curls = seed_intervals(last, ["module", "boundary"], "curl_weighted")
    trends = correlation_trends(beliefs)
    residuals = pd.concat([line[["module", "residual"]], fields[["module", "residual"]]])
    return Section(
        setting=_setting(results),
        verdict=_verdict(residuals, difference, curls),
        findings=[
            _on_the_claim(line, residuals, difference, curls),
            *_on_the_line(line, difference),
            *_on_curls(fields, curls),
            _on_paths(last),
            *_on_beliefs(beliefs),
            *_on_trends(trends),
        ],
        tables={
            **{name: results[name] for name in ("line", "curves", "points", "paths", "surfaces")},
            "fields": fields,
            "beliefs": beliefs,
            "pairs": pairs,
            "trends": trends,
        },
        shown={
            "Points on a line: means over seeds": _line_table(line),
            "Inside a network: means over seeds": _network_table(fields, beliefs),
            "Trends of the correlation of implied with true loss": trends.round(3),
        },
    )


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of networks with the names of their modules."""
    names = {layers: name for name, layers in MODULES.items()}
    return table.assign(module=table["hidden_layers"].map(names))


def _verdict(residuals: pd.DataFrame, difference: pd.DataFrame, curls: pd.DataFrame) -> str:
    is_linear = residuals["module"] == "linear"
    linear = rows_of(difference, module="linear")
    if not (residuals.loc[is_linear, "residual"] <= _QUADRATIC).all():
        return "does not hold"
    return verdict_of(
        [
            (residuals.loc[~is_linear, "residual"] >= _CURVED).all(),
            (rows_of(linear, loss="mse")["mean"] <= _RECOVERED).all(),
            (rows_of(linear, loss="log_loss")["mean"] > _RECOVERED).all(),
            (curls["high"] <= INTEGRABLE).all(),
        ]
    )


def _on_the_claim(line: pd.DataFrame, residuals: pd.DataFrame, difference: pd.DataFrame, curls: pd.DataFrame) -> str:
    is_linear = residuals["module"] == "linear"
    linear, others = residuals.loc[is_linear, "residual"], residuals.loc[~is_linear, "residual"]
    exact = rows_of(line, module="linear", loss="mse")
    log_loss = rows_of(difference, module="linear", loss="log_loss")
    missed = " and ".join(f"{row.mean:.2g} at {row.data} points" for row in _rows(log_loss))
    curl = " and ".join(
        f"{value_range(rows['mean'])} ({module})" for module, rows in curls.groupby("module", sort=False)
    )
    return (
        f"The relative residual of a quadratic fitted to the implied loss of a linear SG is {linear.max():.0e} at most "
        f"in {len(linear)} surfaces (of MLPs: {others.min():.1e} at least). The implied loss of a linear SG differs "
        f"from the true squared error by {exact['difference'].max():.0e} at most, and from the log loss by {missed}. "
        "With one unit such a loss always exists. Inside a network the curl of the field, weighted by the covariance "
        f"of the activations, is {curl} over the boundaries at the end of training; a gradient has 0, a matrix of "
        f"independent entries about 1. It is {_integrable(curls)}."
    )


def _integrable(curls: pd.DataFrame) -> str:
    """Return at how many boundaries the interval of the weighted curl lies below or above the limit."""
    words = []
    for module, rows in curls.groupby("module", sort=False):
        below, above = int((rows["high"] <= INTEGRABLE).sum()), int((rows["low"] > INTEGRABLE).sum())
        words.append(
            f"{INTEGRABLE:g} or less at {below} of {len(rows)} boundaries, more at {above} and undecided at "
            f"{len(rows) - below - above} ({module})"
        )
    return "; ".join(words)


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    return table.itertuples(index=False)


def _by_module(table: pd.DataFrame) -> str:
    return ", ".join(f"{row.module} {with_interval(row, '.2g')}" for row in _rows(table))


def _on_the_line(line: pd.DataFrame, difference: pd.DataFrame) -> Iterator[str]:
    for data in DATA:
        rows = rows_of(difference, data=data, loss="log_loss")
        slope = rows_of(line, data=data, loss="log_loss")["w"].mean()
        yield f"Relative difference from the log loss at {data} points (mean slope w {slope:.1f}): {_by_module(rows)}."
    away = line[line["module"] != "linear"].groupby("loss", sort=False)[["difference", "difference_away"]].median()
    medians = [
        f"{LINE_LOSSES[str(loss)]} {row['difference']:.1e} at the points and {row['difference_away']:.2f} elsewhere"
        for loss, row in away.iterrows()
    ]
    yield f"Median relative difference of MLPs from the true loss: {'; '.join(medians)}."
    both = line.groupby(["loss", "module"], sort=False)["difference_away"].median()
    yield (
        f"Elsewhere the median difference of a linear SG is {both['mse', 'linear']:.0e} from the squared error and "
        f"{both['log_loss', 'linear']:.2f} from the log loss."
    )


def _on_curls(fields: pd.DataFrame, curls: pd.DataFrame) -> Iterator[str]:
    epochs = fields["epoch"].min(), fields["epoch"].max()
    for module, rows in fields.groupby("module", sort=False):
        first, last = (rows_of(rows, epoch=epoch).groupby("boundary").mean(numeric_only=True) for epoch in epochs)
        yield (
            f"Curl, {module}, range over boundaries after epoch {epochs[0]} and {epochs[1]}: over all units "
            f"{value_range(first['curl'])} and {value_range(last['curl'])}; in the subspace of {SHARE:.0%} of the "
            f"variance {value_range(first['curl_in_subspace'])} and {value_range(last['curl_in_subspace'])} "
            f"({last['n_dimensions'].min():.0f} to {last['n_dimensions'].max():.0f} of {WIDTH} dimensions at the end); "
            f"weighted by the covariance {value_range(first['curl_weighted'])} and "
            f"{value_range(last['curl_weighted'])}, where that of the best linear fit to the true gradient is "
            f"{value_range(first['curl_of_fit'])} and {value_range(last['curl_of_fit'])}."
        )
    for module, rows in curls.groupby("module", sort=False):
        yield f"Weighted curl at the end of training, {module}, by boundary: {_by_boundary(rows)}."


def _on_paths(last: pd.DataFrame) -> str:
    means = seed_intervals(last, ["module", "boundary"], "path_dependence")
    ranges = ", ".join(f"{module} {value_range(rows['mean'])}" for module, rows in means.groupby("module", sort=False))
    return (
        "The relative difference between integrals along a straight path and along the axes of the units, which leaves "
        f"the activations that occur, is {ranges} over the boundaries. The curl of the true gradient is at most "
        f"{last['curl_of_true'].max():.0e}."
    )


def _on_beliefs(beliefs: pd.DataFrame) -> Iterator[str]:
    at_end = beliefs[beliefs["epoch"] == beliefs["epoch"].max()]
    own = rows_of(at_end, where="own")
    for module, rows in own.groupby("module", sort=False):
        implied = seed_intervals(rows, ["boundary"], "correlation")
        fit = seed_intervals(rows, ["boundary"], "correlation_of_fit")["mean"]
        yield (
            f"Correlation of implied with true loss on held-out digits at the end of training, {module}, by boundary: "
            f"{_by_boundary(implied)}; of the best linear fit to the true gradient {value_range(fit)}."
        )
    for where in WHERE:
        if where != "own":
            means = seed_intervals(rows_of(at_end, where=where), ["module", "boundary"], "correlation")
            ranges = ", ".join(f"{module} {value_range(rows['mean'])}" for module, rows in means.groupby("module"))
            yield f"The same, range over boundaries, {WHERE[where]}: {ranges}."


def _by_boundary(rows: pd.DataFrame) -> str:
    return ", ".join(f"{row.boundary}: {with_interval(row, '.2f')}" for row in _rows(rows))


def _on_trends(trends: pd.DataFrame) -> Iterator[str]:
    for (module, trend), rows in trends.groupby(["module", "trend"], sort=False):
        what = "last boundary minus first, by epoch" if trend == "depth" else "end of training minus earlier epochs"
        words = []
        for verdict, group in rows.groupby("verdict", sort=False):
            signs = {"higher": (group["difference"] > 0).sum(), "lower": (group["difference"] < 0).sum()}
            shown = ", ".join(f"{n} {sign}" for sign, n in signs.items() if n) if verdict == "different" else len(group)
            words.append(f"{verdict}: {shown}")
        yield (
            f"Correlation, {module}, {what}: {value_range(rows['difference'])}; of {len(rows)} differences, "
            f"{'; '.join(words)} (bands over all trends at once; smallest difference of interest {SMALLEST:g})."
        )


def _setting(results: Results) -> str:
    return (
        f"After the paper; all sizes and rates are our choices. {_line_setting(results)} {_network_setting(results)} "
        f"Double precision; seeds {listed(results.plan.seeds)}. The claim holds if residuals are at most "
        f"{_QUADRATIC:g} (linear) and at least {_CURVED:g} (MLP), a linear SG is within {_RECOVERED:g} of the squared "
        f"error and not of the log loss, and the weighted curl is at most {INTEGRABLE:g} at every boundary (upper end "
        "of the 95 % interval over seeds)."
    )


def _line_setting(results: Results) -> str:
    n_points = len(results["points"]) // len(results["line"])
    return (
        f"One unit: {n_points} points x, uniform from -1 to 1, of class 1 where x > 0; or with the labels of half of "
        "the points, chosen at random, drawn again by a fair coin. The model is h = w x + b; its loss is the squared "
        "error to ±1, or the log loss of the logits -h/2 and h/2. The model learns only from the SG at h, which gets "
        f"the label: linear, or a relu MLP of {HIDDEN_WIDTH} units per layer. Adam on all points at once, learning "
        f"rates {RATES[0]:g} and {RATES[1]:g}, falling to zero along half a cosine. The implied loss is the integral "
        "of the SG from h = 0; relative differences are over the points, after subtracting the mean of each label."
    )


def _network_setting(results: Results) -> str:
    fields = results["fields"]
    at_end = _named(fields[fields["epoch"] == fields["epoch"].max()])
    accuracies = at_end.groupby("module", sort=False)["accuracy"].mean()
    accuracy = ", ".join(f"{value:.2f} with {module} SGs" for module, value in accuracies.items())
    n_modules = len(fields[["hidden_layers", "seed", "boundary"]].drop_duplicates())
    n_digits = len(results["pairs"]) // n_modules
    return (
        f"A network: {results.plan.digits}, {DEPTH} hidden relu layers of "
        f"{WIDTH} units with batch norm, a label-conditioned SG after each (linear, or one hidden layer of {WIDTH}), "
        f"log loss, Adam at 0.001, {EPOCHS[-1]} epochs. After epochs {listed(EPOCHS)} losses are compared at every "
        f"boundary in evaluation mode, at {n_digits} training digits and as many held-out ones (mean accuracy on these "
        f"at the end: {accuracy}), about their mean for each label; integrals start at the mean activation. The "
        f"curl is a median over digits: over all units; within the principal components that hold {SHARE:.0%} of the "
        "variance; and weighted by the covariance of training activations. The quadratic is fitted for label 0 in "
        f"{COMPONENTS} principal components."
    )


def _line_table(line: pd.DataFrame) -> pd.DataFrame:
    shown = ["final_loss", "w", "field_error", "residual", "difference", "difference_away"]
    means = line.groupby(["loss", "data", "module"], sort=False)[shown].mean().reset_index()
    return formatted(means.assign(loss=means["loss"].map(LINE_LOSSES)), ".2g", shown)


def _network_table(fields: pd.DataFrame, beliefs: pd.DataFrame) -> pd.DataFrame:
    place = ["module", "epoch", "boundary"]
    shown = ["cosine", "curl", "curl_in_subspace", "curl_weighted", "curl_of_fit", "path_dependence"]
    means = fields.groupby(place, sort=False)[shown].mean()
    own = (
        rows_of(beliefs, where="own").groupby(place, sort=False)[["correlation", "correlation_of_fit", "slope"]].mean()
    )
    table = means.join(own).reset_index()
    return formatted(table, ".2g", table.columns[3:])
