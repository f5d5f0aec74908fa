"""E6: the loss that a synthetic gradient implies, beside the true one, for one unit and inside a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.reproduction.claim import Experiment, Part, Plan, Results, Section
from analysis.reproduction.claims.implied_loss.figures import draw_beliefs
from analysis.reproduction.claims.implied_loss.line import DATA, LINE_LOSSES, MODULES, believe_on_a_line
from analysis.reproduction.claims.implied_loss.networks import WHERE, believe_in_a_network
from analysis.reproduction.summary import listed, seed_intervals
from repsim.learning import TrainingConfig

__all__ = ["IMPLIED_LOSS"]

_QUADRATIC, _CURVED = 1e-8, 1e-3  # relative residuals of a quadratic, at most and at least
_RECOVERED = 0.01  # relative difference from the true loss
_INTEGRABLE = 0.1  # median curl
_RANGES: dict[str, dict[str, Any]] = {
    "mse": {"h_limit": 4.0, "w_limits": [-2.0, 4.0], "b_limit": 2.0},
    "log_loss": {"h_limit": 10.0, "w_limits": [-4.0, 12.0], "b_limit": 6.0},
}
_RATES = (0.02, 0.03)  # of the model and the module, for points on a line
_HIDDEN_WIDTH = 32  # of the module there
_DEPTH, _WIDTH, _BOUNDARY = 4, 128, 2
_COMPONENTS = 3
_EPOCHS = (1, 5, 20)


def _parts(plan: Plan) -> list[Part]:
    lines = [_line_part(plan, loss, module) for loss in LINE_LOSSES for module in MODULES]
    return [*lines, *(_network_part(plan, hidden_layers, seed) for hidden_layers in (0, 1) for seed in plan.seeds)]


def _line_part(plan: Plan, loss: str, module: str) -> Part:
    return Part(
        name=f"line-{loss.replace('_', '-')}-{MODULES[module]}-hidden",
        work=believe_on_a_line,
        settings={
            "loss": loss,
            "module": module,
            "seeds": list(plan.seeds),
            "n_points": 256 if plan.is_full else 64,
            "n_steps": 8000 if plan.is_full else 2000,
            "rates": list(_RATES),
            "hidden_width": _HIDDEN_WIDTH,
            "n_grid": 81,
            "n_side": 37,
            "tolerance": 1e-5,
            **_RANGES[loss],
        },
        cost=60.0 if plan.is_full else 8.0,
        group="implied-loss",
    )


def _network_part(plan: Plan, hidden_layers: int, seed: int) -> Part:
    training = TrainingConfig(
        data="mnist" if plan.is_full else "mnist5k",
        seed=seed,
        depth=_DEPTH,
        width=_WIDTH,
        rule=f"synthetic-gradient:hidden_layers={hidden_layers}@{_BOUNDARY}",
        epochs=_EPOCHS[-1],
    )
    return Part(
        name=f"network-{hidden_layers}-hidden-seed-{seed}",
        work=believe_in_a_network,
        settings={
            "training": training.to_dict(),
            "boundary": _BOUNDARY,
            "at_epochs": list(_EPOCHS),
            "n_points": 500 if plan.is_full else 200,
            "n_curls": 128 if plan.is_full else 32,
            "n_paths": 64 if plan.is_full else 16,
            "n_components": _COMPONENTS,
            "tolerance": 1e-4,
            "data_dir": plan.data_dir,
        },
        cost=120.0 if plan.is_full else 14.0,
        group="implied-loss",
    )


def _conclude(results: Results) -> Section:
    line = results["line"]
    fields, beliefs, pairs = (_named(results[name]) for name in ("fields", "beliefs", "pairs"))
    difference = seed_intervals(line, ["loss", "data", "module"], "difference")
    last = fields[fields["epoch"] == fields["epoch"].max()]
    curls = seed_intervals(last, ["module"], "curl")
    return Section(
        setting=_setting(results),
        verdict=_verdict(line, fields, difference, curls),
        findings=[
            _on_the_claim(line, fields, difference, curls),
            *_on_the_line(line, difference),
            *_on_networks(last, beliefs),
        ],
        drawings=list(draw_beliefs(results, fields, beliefs, pairs)),
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


def _verdict(line: pd.DataFrame, fields: pd.DataFrame, difference: pd.DataFrame, curls: pd.DataFrame) -> str:
    """Judge: is a linear module's loss a quadratic, and others' none; is it the true one where it can be; is it a loss.

    A linear module that implies more than a quadratic would refute the claim whatever the rest says.
    """
    residuals = pd.concat([line[["module", "residual"]], fields[["module", "residual"]]])
    is_linear = residuals["module"] == "linear"
    linear = difference[difference["module"] == "linear"]
    if not (residuals.loc[is_linear, "residual"] <= _QUADRATIC).all():
        return "does not hold"
    held = [
        (residuals.loc[~is_linear, "residual"] >= _CURVED).all(),
        (linear.loc[linear["loss"] == "mse", "mean"] <= _RECOVERED).all(),
        (linear.loc[linear["loss"] == "log_loss", "mean"] > _RECOVERED).all(),
        (curls["mean"] <= _INTEGRABLE).all(),
    ]
    return "holds" if all(held) else "holds in part" if any(held) else "does not hold"


def _on_the_claim(line: pd.DataFrame, fields: pd.DataFrame, difference: pd.DataFrame, curls: pd.DataFrame) -> str:
    residuals = pd.concat([line[["module", "residual"]], fields[["module", "residual"]]])
    linear = residuals.loc[residuals["module"] == "linear", "residual"]
    others = residuals.loc[residuals["module"] != "linear", "residual"]
    exact = line[(line["module"] == "linear") & (line["loss"] == "mse")]
    log_loss = difference[(difference["module"] == "linear") & (difference["loss"] == "log_loss")]
    missed = " and ".join(f"{row.mean:.2g} at {row.data} points" for row in _rows(log_loss))
    curl = ", ".join(f"{row.module} {row.mean:.2f}" for row in _rows(curls))
    return (
        f"The residual of a quadratic fitted to a linear SG's implied loss is {linear.max():.0e} at most, relative, in "
        f"{len(linear)} surfaces (of MLPs', {others.min():.1e} at least). A linear SG's loss is off the true squared "
        f"error by {exact['difference'].max():.0e} at most, and off the log loss by {missed}. One unit always has such "
        f"a loss; inside a network the curl of the field is {curl}, where 0 would be a gradient."
    )


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    """Return rows as tuples with names, of which ``mean`` is one."""
    return table.itertuples(index=False)


def _interval(row: Any) -> str:
    return f"{row.mean:.2g} (95 % interval {row.low:.2g} to {row.high:.2g})"


def _on_the_line(line: pd.DataFrame, difference: pd.DataFrame) -> Iterator[str]:
    for data in DATA:
        rows = difference[(difference["data"] == data) & (difference["loss"] == "log_loss")]
        listing = ", ".join(f"{row.module} {_interval(row)}" for row in _rows(rows))
        reach = line.loc[(line["data"] == data) & (line["loss"] == "log_loss"), "w"].mean()
        yield f"Relative difference from the log loss at {data} points (mean slope w {reach:.1f}): {listing}."
    away = line[line["module"] != "linear"].groupby("loss", sort=False)[["difference", "difference_away"]].median()
    parts = [
        f"{LINE_LOSSES[str(loss)]} {row['difference']:.1e} at the points and {row['difference_away']:.2f} elsewhere"
        for loss, row in away.iterrows()
    ]
    yield f"Median relative difference of MLPs from the true loss: {'; '.join(parts)}."
    both = line.groupby(["loss", "module"], sort=False)["difference_away"].median()
    yield (
        f"Elsewhere a linear SG is off by {both['mse', 'linear']:.0e} from the squared error and "
        f"{both['log_loss', 'linear']:.2f} from the log loss in the median."
    )


def _on_networks(last: pd.DataFrame, beliefs: pd.DataFrame) -> Iterator[str]:
    paths = seed_intervals(last, ["module"], "path_dependence")
    listing = ", ".join(f"{row.module} {_interval(row)}" for row in _rows(paths))
    yield (
        f"Inside a network, integrals along two paths to the same activation differ, relative to their size, by: "
        f"{listing}. (The curl of the true gradient is at most {last['curl_of_true'].max():.0e}; that of a matrix of "
        "independent entries is near 1.)"
    )
    at_end = beliefs[beliefs["epoch"] == beliefs["epoch"].max()]
    for where, words in WHERE.items():
        rows = at_end[at_end["where"] == where]
        slopes = rows.groupby("module", sort=False)["slope"].mean()
        means = seed_intervals(rows, ["module"], "correlation")
        listing = ", ".join(f"{row.module} {_interval(row)}, slope {slopes[row.module]:.2g}" for row in _rows(means))
        yield f"Correlation of implied with true loss, {words}: {listing}."


def _setting(results: Results) -> str:
    return (
        f"After the paper; all sizes and rates are our choices. {_line_setting(results)} {_network_setting(results)} "
        f"Double precision; seeds {listed(results.plan.seeds)}. What holds must have residuals of at most "
        f"{_QUADRATIC:g} (linear) and at least {_CURVED:g} (MLP), a linear SG within {_RECOVERED:g} of the squared "
        f"error and not of the log loss, and a median curl of at most {_INTEGRABLE:g}."
    )


def _line_setting(results: Results) -> str:
    n_points = len(results["points"]) // len(results["line"])
    return (
        f"One unit: {n_points} points x, uniform from -1 to 1, of class 1 where x > 0; or with the labels of half of "
        "them, chosen at random, drawn anew by a fair coin. The model is h = w x + b; its loss is the squared error to "
        "±1, or the log loss of the logits -h/2 and h/2. All it learns comes from the SG at h, which sees the label: "
        f"linear, or a relu MLP of {_HIDDEN_WIDTH} units a layer. Adam on all points at once, rates {_RATES[0]:g} and "
        f"{_RATES[1]:g} falling to zero along half a cosine. The implied loss is the integral of the SG from h = 0; "
        "relative differences are over the points, once the mean of each label is taken off."
    )


def _network_setting(results: Results) -> str:
    fields = results["fields"]
    accuracy = fields.loc[fields["epoch"] == fields["epoch"].max(), "accuracy"].mean()
    n_networks = len(fields[["hidden_layers", "seed"]].drop_duplicates())
    n_digits = len(results["pairs"]) // (len(WHERE) * n_networks)
    return (
        f"A network: {'MNIST' if results.plan.is_full else '3,500 MNIST digits'}, {_DEPTH} hidden relu layers of "
        f"{_WIDTH} units with batch norm, one label-conditioned SG after layer {_BOUNDARY} (linear, or one hidden "
        f"layer of {_WIDTH}), log loss, Adam at 0.001, {_EPOCHS[-1]} epochs; asked, in evaluation mode, at {n_digits} "
        f"training digits and as many held-out ones (mean accuracy on these {accuracy:.3f}), from the mean activation. "
        f"Its quadratic is fitted for label 0 in {_COMPONENTS} principal components."
    )


def _line_table(line: pd.DataFrame) -> pd.DataFrame:
    shown = ["final_loss", "w", "field_error", "residual", "difference", "difference_away"]
    means = line.groupby(["loss", "data", "module"], sort=False)[shown].mean().reset_index()
    return means.assign(
        loss=means["loss"].map(LINE_LOSSES), **{name: means[name].map("{:.2g}".format) for name in shown}
    )


def _network_table(fields: pd.DataFrame, beliefs: pd.DataFrame) -> pd.DataFrame:
    shown = ["accuracy", "cosine", "curl", "path_dependence", "residual"]
    means = fields.groupby(["module", "epoch"], sort=False)[shown].mean()
    wide = beliefs.pivot_table(index=["module", "epoch"], columns="where", values="correlation")
    table = means.join(wide[list(WHERE)].add_prefix("correlation_")).reset_index()
    return table.assign(**{name: table[name].map("{:.2g}".format) for name in table.columns[2:]})


IMPLIED_LOSS = Experiment(
    name="implied-loss",
    title="The implied loss",
    claim="[M] A synthetic gradient module implies a loss: integrating it recovers what the module believes the loss "
    "to be. A linear module can only believe in a quadratic.",
    parts=_parts,
    conclude=_conclude,
)
