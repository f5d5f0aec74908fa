"""Findings on the arms of the claims on RDMs and probes: verdicts, sentences and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparison.attribution.answer import contrast_titles, unmatched_steps, without_controls_alone
from analysis.config.roles import METHOD, REFERENCE, ROLES
from analysis.plots import noted, write_note
from analysis.plots.attribution import plot_attribution
from analysis.plots.axes import axes_grid
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Results
from analysis.reproduction.kit.deep_networks import ARMS, AT_ACCURACY, EVERYWHERE, network_seeds, recipe_of
from analysis.reproduction.kit.numbers import listed, rows_of, seed_intervals, with_interval
from analysis.reproduction.kit.panels import label, plot_means

__all__ = [
    "attribution_drawing",
    "contrasts_at_end",
    "describe_contrasts",
    "describe_first_layers",
    "describe_layers",
    "describe_networks",
    "describe_verdicts",
    "first_layer_contrasts",
    "first_layers",
    "is_different",
    "layer_panels",
]

SHARE = 1 / 3  # of the layers that have to differ for a claim to hold
_READABLE = 0.9  # of the value in the last layer


def describe_networks(results: Results) -> str:
    """Return sentences on the networks, their arms and how they are compared."""
    plan, arms = results.plan, results["arms"].drop_duplicates("arm")
    backprop, everywhere = (recipe_of(plan, name, plan.seeds[0]).training for name in ("backprop", EVERYWHERE))
    described = arms.fillna({"method": ""})[["arm", "role", "method", "test_accuracy"]].itertuples(index=False)
    roles = "; ".join(
        f"{arm} ({role}{f' for {method!s}' if method else ''}) {accuracy:.3f}"
        for arm, role, method, accuracy in described
    )
    splits = network_seeds(plan)
    attribution = results["attribution"]
    sizes = attribution.drop_duplicates("quantity")
    smallest = ", ".join(f"{name} {size:g}" for name, size in zip(sizes["quantity"], sizes["smallest"], strict=True))
    return (
        f"Networks of {backprop.depth} hidden layers of {backprop.width} units with batch norm and relu, trained on "
        f"{plan.digits} with Adam: {backprop.epochs} epochs at {backprop.learning_rate:g} with a cosine schedule, or, "
        f"for SGs at all {backprop.n_hidden - 1} boundaries between hidden layers and their controls, "
        f"{everywhere.epochs} epochs at {everywhere.learning_rate:g}, because stacked SGs can only follow a network "
        "that moves slowly. "
        f"{len(splits)} networks per arm, in {_n_splits(splits)} of the data; the unit of replication "
        f"is the seed within a split. Arms, their roles and mean test accuracies: {roles}. Smallest differences of "
        f"interest, chosen beforehand: {smallest}. Bands cover all {(attribution['status'] == 'ok').sum()} differences "
        "at once (layers, steps, quantities and pairs of arms) with 95 % confidence. A layer is different if its band "
        "lies beyond the smallest difference, equivalent if it lies within, undecided otherwise."
    )


def contrasts_at_end(attribution: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Return one row per method and contrast: counts of layers by verdict at the end, and the largest difference."""
    effects = attribution.fillna({"control": ""})
    rows = effects[(effects["quantity"] == quantity) & (effects["contrast"] != "alone") & (effects["status"] == "ok")]
    table = []
    for (method, control), every in rows.groupby(["method", "control"], sort=False):
        last = rows_of(every, at=every["at"].iloc[-1])
        most = last.iloc[int(last["difference"].abs().to_numpy().argmax())]
        counts = {verdict: int((last["verdict"] == verdict).sum()) for verdict in ("different", "equivalent")}
        table.append(
            {
                "method": method,
                "beyond": _beyond(str(control)) if control else "(total)",
                "layers": len(last),
                **counts,
                "undecided": len(last) - sum(counts.values()),
                "largest": f"{most['difference']:+.3f} [{most['band_low']:+.3f}, {most['band_high']:+.3f}]",
                "at": most["layer"],
            }
        )
    return pd.DataFrame(table)


def _beyond(control: str) -> str:
    role = "accuracy-matched" if control == AT_ACCURACY else ARMS[control].role
    return f"{ROLES[role].beyond} ({control})"


def is_different(counts: pd.DataFrame) -> list[bool | None]:
    """Return for each method whether a third of the layers are different, in total and beyond each control.

    It is False if this is not so in one row of ``contrasts_at_end``, and None if that could not be decided.
    """
    least = counts["layers"] * SHARE
    surely, perhaps = counts["different"] >= least, counts["different"] + counts["undecided"] >= least
    found: list[bool | None] = []
    for _, rows in counts.groupby("method", sort=False):
        held = surely[rows.index].all()
        found.append(True if held else None if perhaps[rows.index].all() else False)
    return found


def describe_verdicts(counts: Mapping[str, pd.DataFrame]) -> str:
    """Return a sentence on ``is_different`` of several quantities, by their names."""
    words = {True: "yes", False: "no", None: "undecided"}
    methods = list(dict.fromkeys(next(iter(counts.values()))["method"]))
    said = [
        f"{method} by {what} {words[held]}"
        for what, table in counts.items()
        for method, held in zip(methods, is_different(table), strict=True)
    ]
    return f"A third of the layers are different at the end, in total and beyond each control: {', '.join(said)}."


def describe_layers(counts: pd.DataFrame, what: str) -> Iterator[str]:
    """Yield one sentence per method on what ``contrasts_at_end`` counts."""
    for method, rows in counts.groupby("method", sort=False):
        parts = [
            f"{'in total' if row.beyond == '(total)' else f'beyond {row.beyond}'} {row.different} different, "
            f"{row.equivalent} equivalent, {row.undecided} undecided of {row.layers} layers, largest {row.largest} at "
            f"{row.at}"
            for row in rows.itertuples()
        ]
        yield f"{what} of {method} at the end of training: {'; '.join(parts)}."


def first_layers(layers: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Return for each network the first layer at which a quantity has 90 % of its value in the last layer, at the end.

    The column is ``depth``.
    """
    last = layers[layers["at"] == layers["at"].iloc[-1]].sort_values("depth")
    rows = []
    for (arm, seed, split), each in last.groupby(["arm", "seed", "split"], sort=False):
        reached = each[quantity] >= _READABLE * each[quantity].iloc[-1]
        rows.append({"arm": arm, "seed": seed, "split": split, "depth": int(each.loc[reached, "depth"].iloc[0])})
    order = {name: k for k, name in enumerate(dict.fromkeys(layers["arm"]))}
    return pd.DataFrame(rows).sort_values(
        ["arm", "seed"], key=lambda column: column.map(order) if column.name == "arm" else column
    )


def first_layer_contrasts(first: pd.DataFrame, attribution: pd.DataFrame) -> pd.DataFrame:
    """Return by how many layers the first layer of each method is above that of the reference and of each control.

    There is one row per method and ``base``, with the interval of ``seed_intervals`` over pairs of equal seeds.
    """
    wide = first.pivot(index="seed", columns="arm", values="depth")
    pairs = attribution.loc[attribution["contrast"] != "alone", ["arm", "base"]].drop_duplicates()
    differences = pd.concat(
        [
            pd.DataFrame({"method": arm, "base": base, "difference": wide[arm] - wide[base]})
            for arm, base in pairs.itertuples(index=False)
        ]
    )
    return seed_intervals(differences, ["method", "base"], "difference")


def describe_contrasts(table: pd.DataFrame, what: str) -> str:
    """Return a sentence on ``first_layer_contrasts``."""
    parts = [f"{row.method} less {row.base} {with_interval(row, '+.1f')}" for row in table.itertuples()]
    return f"Difference of this layer, of {what}, in pairs of equal seeds: {'; '.join(parts)}."


def describe_first_layers(table: pd.DataFrame, what: str) -> str:
    """Return a sentence on a table of ``seed_intervals`` over ``first_layers``."""
    parts = [f"{row.arm} {with_interval(row, '.1f')}" for row in table.itertuples()]
    return f"First layer at which {what} reaches 90 % of its value in the last: {'; '.join(parts)}."


# Figures


def attribution_drawing(results: Results, quantity: str, words: str, difference: str) -> Drawing:
    """Return the figure of the differences in a quantity by layer and step, in total and beyond each control."""
    rows = without_controls_alone(results["attribution"])
    titles = contrast_titles({name: results[name] for name in ("attribution", "arms")})
    figure = plot_attribution(
        rows[rows["quantity"] == quantity],
        titles,
        label=f"{words}: difference",
        unmatched=unmatched_steps(results["arms"]),
    )
    write_note(figure, _note(results))
    return Drawing(
        f"attribution_{quantity}",
        f"What the methods changed: {words}",
        f"Difference in {words} ({difference}) of each method from backprop (total) and from each control (beyond), by "
        "layer and share of training. Dots: different; equals signs: equivalent; hatched: undecided. Steps with "
        "≠: the two arms differ in accuracy, which should be equal.",
        figure,
    )


def layer_panels(results: Results, quantity: str, ylabel: str) -> Figure:
    """Draw means of a quantity over layers with 95 % intervals: a row per method with its controls, a column per step.

    The intervals are those of single layers.
    """
    means = seed_intervals(results["layers"], ["at", "arm", "depth"], quantity)
    methods, steps = [name for name, arm in ARMS.items() if arm.role == METHOD], list(dict.fromkeys(means["at"]))
    grid = axes_grid(len(methods), len(steps), 2.0 + 3.6 * len(steps), 3.4 * len(methods), share_y=True)
    for row, method in enumerate(methods):
        names = [name for name, arm in ARMS.items() if name == method or arm.role == REFERENCE or arm.method == method]
        for column, (ax, step) in enumerate(zip(grid[row], steps, strict=True)):
            rows = rows_of(means, at=step)
            has_legend = column == len(steps) - 1
            plot_means(ax, rows[rows["arm"].isin(names)], "depth", curve="arm", among=list(ARMS), legend=has_legend)
            label(ax, title=f"{method}, {step}", xlabel="hidden layer", ylabel="" if column else ylabel)
            _number_layers(ax)
    return noted(grid[0][0], _note(results))


def _number_layers(ax: Axes) -> None:
    """Put ticks at every fifth hidden layer."""
    ax.set_xticks([1, 5, 10, 15, 20])


def _note(results: Results) -> str:
    splits = network_seeds(results.plan)
    return f"Seeds {listed(splits)}, in {_n_splits(splits)}; n = {len(splits)} networks per arm."


def _n_splits(splits: Mapping[int, int]) -> str:
    n = len(set(splits.values()))
    return "1 split" if n == 1 else f"{n} splits"
