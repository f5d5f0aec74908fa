"""Conclusion: whether implied losses are quadratic, are the true loss, and are losses at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.reproduction.claim import Results, Section, verdict_of
from analysis.reproduction.claims.implied_loss.deep_network import WHERE
from analysis.reproduction.claims.implied_loss.line import DATA, LINE_LOSSES, MODULES
from analysis.reproduction.claims.implied_loss.parts import (
    BOUNDARY,
    COMPONENTS,
    DEPTH,
    EPOCHS,
    HIDDEN_WIDTH,
    RATES,
    WIDTH,
)
from analysis.reproduction.kit.numbers import formatted, listed, rows_of, seed_intervals, with_interval

__all__ = ["conclude"]

_QUADRATIC, _CURVED = 1e-8, 1e-3  # relative residuals of a quadratic fit, at most and at least
_RECOVERED = 0.01  # relative difference from the true loss
_INTEGRABLE = 0.1  # median curl


def conclude(results: Results) -> Section:
    """Return the verdict; a linear module whose implied loss is not quadratic refutes the claim."""
    line, (fields, beliefs, pairs) = results["line"], (_named(results[name]) for name in ("fields", "beliefs", "pairs"))
    difference = seed_intervals(line, ["loss", "data", "module"], "difference")
    last = fields[fields["epoch"] == fields["epoch"].max()]
    curls = seed_intervals(last, ["module"], "curl")
    residuals = pd.concat([line[["module", "residual"]], fields[["module", "residual"]]])
    return Section(
        setting=_setting(results),
        verdict=_verdict(residuals, difference, curls),
        findings=[
            _on_the_claim(line, residuals, difference, curls),
            *_on_the_line(line, difference),
            _on_paths(last),
            *_on_networks(beliefs),
        ],
        tables={
            **{name: results[name] for name in ("line", "curves", "points", "paths", "surfaces")},
            "fields": fields,
            "beliefs": beliefs,
            "pairs": pairs,
        },
        shown={
            "Points on a line: means over seeds": _line_table(line),
            "Inside a network: means over seeds": _network_table(fields, beliefs),
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
            (curls["mean"] <= _INTEGRABLE).all(),
        ]
    )


def _on_the_claim(line: pd.DataFrame, residuals: pd.DataFrame, difference: pd.DataFrame, curls: pd.DataFrame) -> str:
    is_linear = residuals["module"] == "linear"
    linear, others = residuals.loc[is_linear, "residual"], residuals.loc[~is_linear, "residual"]
    exact = rows_of(line, module="linear", loss="mse")
    log_loss = rows_of(difference, module="linear", loss="log_loss")
    missed = " and ".join(f"{row.mean:.2g} at {row.data} points" for row in _rows(log_loss))
    curl = ", ".join(f"{row.module} {row.mean:.2f}" for row in _rows(curls))
    return (
        f"The relative residual of a quadratic fitted to the implied loss of a linear SG is {linear.max():.0e} at most "
        f"in {len(linear)} surfaces (of MLPs: {others.min():.1e} at least). The implied loss of a linear SG differs "
        f"from the true squared error by {exact['difference'].max():.0e} at most, and from the log loss by {missed}. "
        "With one unit such a loss always exists; inside a network the curl of the field is "
        f"{curl}, where a gradient has 0."
    )


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


def _on_paths(last: pd.DataFrame) -> str:
    return (
        "Inside a network, the relative difference between integrals along two paths to the same activation is "
        f"{_by_module(seed_intervals(last, ['module'], 'path_dependence'))}. The curl of the true gradient is at most "
        f"{last['curl_of_true'].max():.0e}; that of a matrix of independent entries is near 1."
    )


def _on_networks(beliefs: pd.DataFrame) -> Iterator[str]:
    at_end = beliefs[beliefs["epoch"] == beliefs["epoch"].max()]
    for where, words in WHERE.items():
        rows = rows_of(at_end, where=where)
        slopes = rows.groupby("module", sort=False)["slope"].mean()
        means = seed_intervals(rows, ["module"], "correlation")
        correlations = ", ".join(
            f"{row.module} {with_interval(row, '.2g')}, slope {slopes[row.module]:.2g}" for row in _rows(means)
        )
        yield f"Correlation of implied with true loss, {words}: {correlations}."


def _setting(results: Results) -> str:
    return (
        f"After the paper; all sizes and rates are our choices. {_line_setting(results)} {_network_setting(results)} "
        f"Double precision; seeds {listed(results.plan.seeds)}. The claim holds if residuals are at most "
        f"{_QUADRATIC:g} (linear) and at least {_CURVED:g} (MLP), a linear SG is within {_RECOVERED:g} of the squared "
        f"error and not of the log loss, and the median curl is at most {_INTEGRABLE:g}."
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
    accuracy = fields.loc[fields["epoch"] == fields["epoch"].max(), "accuracy"].mean()
    n_networks = len(fields[["hidden_layers", "seed"]].drop_duplicates())
    n_digits = len(results["pairs"]) // (len(WHERE) * n_networks)
    return (
        f"A network: {results.plan.digits}, {DEPTH} hidden relu layers of "
        f"{WIDTH} units with batch norm, one label-conditioned SG after layer {BOUNDARY} (linear, or one hidden "
        f"layer of {WIDTH}), log loss, Adam at 0.001, {EPOCHS[-1]} epochs. Losses are compared in evaluation mode, at "
        f"{n_digits} training digits and as many held-out ones (mean accuracy on these {accuracy:.3f}), and integrals "
        f"start at the mean activation. The quadratic is fitted for label 0 in {COMPONENTS} principal components."
    )


def _line_table(line: pd.DataFrame) -> pd.DataFrame:
    shown = ["final_loss", "w", "field_error", "residual", "difference", "difference_away"]
    means = line.groupby(["loss", "data", "module"], sort=False)[shown].mean().reset_index()
    return formatted(means.assign(loss=means["loss"].map(LINE_LOSSES)), ".2g", shown)


def _network_table(fields: pd.DataFrame, beliefs: pd.DataFrame) -> pd.DataFrame:
    shown = ["accuracy", "cosine", "curl", "path_dependence", "residual"]
    means = fields.groupby(["module", "epoch"], sort=False)[shown].mean()
    wide = beliefs.pivot_table(index=["module", "epoch"], columns="where", values="correlation")
    table = means.join(wide[list(WHERE)].add_prefix("correlation_")).reset_index()
    return formatted(table, ".2g", table.columns[2:])
