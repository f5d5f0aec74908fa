"""Figures: tuning, accuracy and its differences, alignment with the true gradient, layers, a map of all networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.plots import noted
from analysis.plots.axes import axes_grid, new_axes
from analysis.plots.drawing import Drawing
from analysis.plots.styles import MARKERS, colours
from analysis.reproduction.claim import Frames, Results, Section
from analysis.reproduction.claims.rules.rule_comparison import comparison_of
from analysis.reproduction.claims.rules.rule_entries import (
    BACKPROP,
    ENTRIES,
    FAMILIES,
    FAMILY_OF,
    OUTPUT_ALONE,
)
from analysis.reproduction.claims.rules.rule_pairs import SMALLEST, differences_from
from analysis.reproduction.kit.numbers import listed, rows_of
from analysis.reproduction.kit.panels import dotted, label, legend, plot_means
from analysis.reproduction.kit.rule_tuning import TunedRates

__all__ = ["figures"]

_HEAT = {
    "probe": ("probe accuracy", "viridis"),
    "class_structure": ("class structure of the RDM", "viridis"),
    "cka": ("CKA to backprop", "magma"),
    "rsa": ("RDM correlation to backprop", "magma"),
}
_COLOURS = colours(list(FAMILIES))
_MARKERS = dict(zip(FAMILIES, MARKERS, strict=False))
_ANGLE = "angle to the true gradient (degrees)"
_REACHED = {
    "test_accuracy_mean": ("test_error", "test error (1 - accuracy)"),
    "cka_mean": ("cka_mean", "CKA to backprop of other seeds"),
}
_HIGHER, _LOWER, _EQUIVALENT = "#9ecae1", "#fdbe85", "#d9d9d9"
_VERDICT_COLOURS = {
    "different: higher": _HIGHER,
    "different: lower": _LOWER,
    "equivalent": _EQUIVALENT,
    "undecided": "white",
}
_WORDS = {"test_accuracy_mean": "rank correlation with accuracy", "cka_mean": "rank correlation with CKA"}


def figures(results: Results, section: Section) -> Iterator[Drawing]:
    """Yield the figures."""
    tables, batch_size = section.tables, comparison_of(results.plan).training.batch_size
    seeds = f"Seeds {listed(sorted(tables['networks']['seed'].unique()))} of each rule"
    n_test, n_stimuli = int(tables["networks"]["n_test"].max()), int(tables["probes"]["n_test"].max())
    yield Drawing(
        "accuracy",
        "Test accuracy by rule",
        "Small markers are seeds, large ones means; lines are 95 % bands over all rules at once, so a rule whose band "
        "overlaps another's is not ranked by its place. The dotted line is the output layer alone.",
        _accuracy_figure(tables, f"{seeds}; n = {n_test} test digits."),
    )
    yield Drawing(
        "pairs",
        "Differences of test accuracy between rules",
        "Mean over seeds of the test accuracy of the rule of the row minus that of the column, in percent. Coloured: "
        f"different, by more than {100 * SMALLEST:g} %; grey: equivalent, within {100 * SMALLEST:g} %; white: "
        "undecided (95 % bands over all pairs at once). Without number: training diverged.",
        _pair_figure(tables, f"{seeds}; n = {n_test} test digits."),
    )
    yield Drawing(
        "tuning",
        "Tuning of the learning rates",
        f"Validation accuracy after {int(tables['tuning']['epochs'].max())} epochs by learning rate; for rules with "
        "parameters of their own at the better of the rates for these, for others the mean over seeds. Rings are the "
        "rates that were chosen. Rates without a marker diverged.",
        _tuning_figure(tables["tuning"]),
    )
    yield Drawing(
        "alignment",
        "Alignment with the true gradient",
        "Angle between the gradient that each rule chooses and the true one of the same batch; above by boundary at "
        "the last step, below the mean over boundaries during training; dotted: a right angle. Means over seeds with "
        "95 % intervals. Backprop's angle is 0, and the output layer alone has none.",
        _alignment_figure(tables, f"{seeds}; n = {batch_size} training digits, the batch of the step."),
    )
    yield Drawing(
        "layers",
        "Layers by rule",
        "Means over seeds: accuracy of a linear probe; mean correlation distance between classes minus that within; "
        "unbiased linear CKA and correlation of RDMs to backprop networks of other seeds (in the row of backprop, the "
        "ceiling).",
        _layer_figure(tables, f"{seeds}; n = {n_stimuli} held-out digits."),
    )
    yield Drawing(
        "relations",
        "Alignment, accuracy and similarity to backprop",
        "One marker per rule: means over seeds, and over boundaries or layers, at the end of training; the error is on "
        "a logarithmic scale. Rank correlations without controls; the intervals draw families of rules, not rules.",
        _relation_figure(tables, f"{seeds}; n = {n_test} test digits for accuracy, {n_stimuli} for CKA."),
    )
    yield Drawing(
        "map",
        "A map of all networks",
        "Classical scaling of the distances between networks: the mean over layers of the angle between centred Gram "
        "matrices (the arc cosine of biased linear CKA, a metric). One marker per network; a line joins the name of "
        "each rule to its network of the first seed.",
        _map_figure(tables, f"{seeds}; n = {n_stimuli} held-out digits. Shares of the positive eigenvalues."),
    )


def _accuracy_figure(tables: Frames, note: str) -> Figure:
    accuracy, networks = tables["accuracy"], tables["networks"]
    rows = rows_of(accuracy, part="test").sort_values("mean", na_position="first").set_index("method")
    ax = new_axes(8.0, 0.29 * len(rows) + 1.4)
    for y, (name, mean, low, high) in enumerate(rows[["mean", "band_low", "band_high"]].itertuples(name=None)):
        colour = _COLOURS[FAMILY_OF[name]]
        each = rows_of(networks, method=name)["test_accuracy"]
        ax.plot(each, np.full(len(each), y), ".", color=colour, alpha=0.6)
        ax.plot([low, high], [y, y], color=colour, linewidth=1.2)
        _mark(ax, name, mean, y)
    dotted(ax, x=rows["mean"][OUTPUT_ALONE])
    ax.set_yticks(range(len(rows)), labels=list(rows.index))
    label(ax, xlabel="test accuracy", ylabel="rule")
    _family_legend(ax, rows.index)
    return noted(ax, note)


def _mark(ax: Axes, name: str, x: float, y: float) -> None:
    family = FAMILY_OF[name]
    ax.plot(x, y, _MARKERS[family], color=_COLOURS[family], markersize=6.5, alpha=0.85)


def _family_legend(ax: Axes, methods: Iterable[Any], **where: Any) -> None:
    present = {FAMILY_OF[str(name)] for name in methods}
    for family in FAMILIES:
        if family in present:
            ax.plot([], [], _MARKERS[family], color=_COLOURS[family], label=family)
    legend(ax, **where)


def _pair_figure(tables: Frames, note: str) -> Figure:
    """Draw the differences of all pairs of rules as a matrix, rules in the order of their means."""
    means = rows_of(tables["accuracy"], part="test").sort_values("mean", ascending=False)
    names = list(means["method"])
    place = {name: i for i, name in enumerate(names)}
    ax = new_axes(0.42 * len(names) + 3.0, 0.36 * len(names) + 2.4)
    for name in names:
        for other, difference, verdict in _differences(tables["pairs"], name):
            colour = _EQUIVALENT if verdict == "equivalent" else "white"
            if verdict == "different":
                colour = _HIGHER if difference > 0 else _LOWER
            x, y = place[name], place[other]
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="0.8", linewidth=0.5))
            ax.text(x, y, f"{100 * difference:+.1f}", ha="center", va="center", fontsize=6.5)
    ax.set_xticks(range(len(names)), labels=names, rotation=90)
    ax.set_yticks(range(len(names)), labels=names)
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False)
    meanings = {
        "different: higher": _HIGHER,
        "different: lower": _LOWER,
        "equivalent": _EQUIVALENT,
        "undecided": "white",
    }
    patches = [Patch(facecolor=colour, edgecolor="0.6", label=word) for word, colour in meanings.items()]
    legend(ax, handles=patches, loc="lower left", bbox_to_anchor=(0.0, 1.01), ncols=4)
    label(ax, xlabel="minus the rule", ylabel="rule")
    return noted(ax, note)


def _differences(pairs: pd.DataFrame, base: str) -> list[tuple[str, float, str]]:
    """Return each other rule, its difference from one rule, and the verdict."""
    rows = differences_from(pairs, base).dropna(subset=["mean"])
    return list(zip(rows["method"].astype(str), rows["mean"].astype(float), rows["verdict"].astype(str), strict=True))


def _tuning_figure(tuning: pd.DataFrame) -> Figure:
    groups = _panels(tuning["method"].unique())
    grid = axes_grid(1, len(groups), 3.1 * len(groups), 4.6, share_y=True)
    for ax, (title, names) in zip(grid[0], groups.items(), strict=True):
        for colour, (name, marker) in zip(colours(names).values(), zip(names, MARKERS, strict=False), strict=False):
            rows = rows_of(tuning, method=name)
            by_rate = rows.groupby(list(TunedRates._fields), dropna=False)["validation_accuracy"].mean()
            best = by_rate.groupby(level=0).max()
            ax.plot(best.index, best, marker=marker, markersize=5, linewidth=1.2, color=colour, label=name)
            if rows["chosen"].any():
                rate = rows_of(rows, chosen=True)["learning_rate"].iloc[0]
                ax.plot(rate, best[rate], "o", markersize=11, markerfacecolor="none", color=colour)
        ax.set_xscale("log")
        label(ax, title=title, xlabel="learning rate", ylabel="validation accuracy" if ax is grid[0][0] else "")
        ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    seeds = listed(f"{seed:,}" for seed in sorted(tuning["seed"].unique()))
    return noted(grid[0][0], f"Seeds {seeds}, not those of the tests; n = {tuning['n_validation'].max()} digits.")


def _panels(methods: Iterable[Any]) -> dict[str, list[str]]:
    """Return the rules of each panel: a family, or all families of one rule together."""
    present = [entry.name for entry in ENTRIES if entry.name in set(methods)]
    families = {family: [name for name in present if FAMILY_OF[name] == family] for family in FAMILIES}
    panels = {family: names for family, names in families.items() if len(names) > 1}
    alone = [name for names in families.values() for name in names if len(names) == 1]
    return panels | ({"one rule in a family": alone} if alone else {})


def _alignment_figure(tables: Frames, note: str) -> Figure:
    profiles, alignment = tables["profiles"], tables["alignment"]
    last = rows_of(profiles, measure="angle").dropna(subset=["mean"])
    over = alignment[alignment["boundary"].isna()].dropna(subset=["mean"])
    groups = _panels(set(last["method"]) - {BACKPROP})
    grid = axes_grid(2, len(groups), 3.1 * len(groups), 7.6)
    for column, (title, names) in enumerate(groups.items()):
        _plot_angles(last, "depth", "boundary", names, grid[0][column])
        _plot_angles(over, "step", "training step", names, grid[1][column])
        label(grid[0][column], title=title)
        grid[0][column].set_xticks(sorted(last["depth"].unique()))
        grid[1][column].legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        for row in (0, 1):
            grid[row][column].set_ylabel(_ANGLE if column == 0 else "")
    return noted(grid[0][0], note)


def _plot_angles(table: pd.DataFrame, x: str, xlabel: str, names: Sequence[str], ax: Axes) -> None:
    rows = table[table["method"].isin(names)]
    plot_means(ax, rows, x, among=names, legend=False)
    label(ax, xlabel=xlabel)
    dotted(ax, y=90.0)
    ax.set_ylim(-3, max(103.0, 1.03 * float(rows["high"].max())))


def _layer_figure(tables: Frames, note: str) -> Figure:
    methods = list(tables["rules"]["method"])
    grid = axes_grid(1, len(_HEAT), 11.0, 0.3 * len(methods) + 1.3)
    for place, (ax, (measure, (title, cmap))) in enumerate(zip(grid[0], _HEAT.items(), strict=True)):
        rows = rows_of(tables["profiles"], measure=measure)
        values = rows.pivot(index="method", columns="depth", values="mean").reindex(methods)
        _heat_map(ax, values, cmap)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("hidden layer")
        ax.set_yticks(range(len(methods)), labels=methods if place == 0 else [])
    grid[0][0].set_ylabel("rule")
    return noted(grid[0][0], note)


def _heat_map(ax: Axes, values: pd.DataFrame, cmap: str) -> None:
    """Draw a table as coloured cells with numbers."""
    image = ax.imshow(values.to_numpy(), cmap=cmap, aspect="auto", interpolation="nearest")
    brightness = np.asarray(image.norm(values.to_numpy()))
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        if np.isfinite(value):
            colour = "black" if brightness[row, column] > 0.6 else "white"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=colour)
    ax.set_xticks(range(values.shape[1]), labels=[str(depth) for depth in values.columns])
    ax.grid(visible=False)


def _relation_figure(tables: Frames, note: str) -> Figure:
    relations = rows_of(tables["relations"], x="angle_mean")
    rules = tables["rules"].dropna(subset=["angle_mean", "test_accuracy_mean", "cka_mean"])
    rules = rules.assign(test_error=1 - rules["test_accuracy_mean"])
    grid = axes_grid(1, len(_REACHED), 12.0, 5.0)
    for ax, (y, (column, ylabel)) in zip(grid[0], _REACHED.items(), strict=True):
        for i, (name, point) in enumerate(zip(rules["method"], _points(rules, "angle_mean", column), strict=True), 1):
            _mark(ax, name, *point)
            ax.annotate(str(i), point, (4, 3), textcoords="offset points", fontsize=8, zorder=5)
        label(ax, title=_correlation(rows_of(relations, y=y, among="without controls")), xlabel=_ANGLE, ylabel=ylabel)
    grid[0][0].set_yscale("log")
    grid[0][0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    grid[0][0].yaxis.set_major_formatter("{x:g}")
    grid[0][0].yaxis.set_minor_formatter(NullFormatter())
    _number_legend(grid[0][-1], rules["method"])
    return noted(grid[0][0], note)


def _correlation(rows: pd.DataFrame) -> str:
    """Return a row of ``relations`` for the title of a panel."""
    found = rows.iloc[0]
    words = f"{_WORDS[found['y']]}: {found['spearman']:+.2f}"
    return f"{words} ({found['low']:+.2f} to {found['high']:+.2f})" if np.isfinite(found["low"]) else words


def _number_legend(ax: Axes, names: Iterable[str]) -> None:
    """Write the numbers and names of the rules beside the axes."""
    handles = [
        Line2D([], [], color=_COLOURS[FAMILY_OF[name]], marker=_MARKERS[FAMILY_OF[name]], linestyle="", label=words)
        for name, words in ((name, f"{i}  {name}") for i, name in enumerate(names, start=1))
    ]
    ax.legend(handles=handles, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _points(table: pd.DataFrame, x: str, y: str) -> list[tuple[float, float]]:
    return list(zip(table[x].astype(float), table[y].astype(float), strict=True))


def _annotate(ax: Axes, name: str, point: tuple[float, float], place: tuple[float, float], side: str) -> None:
    """Write a name at a place, in fractions of the axes, with a line to its point."""
    colour = _COLOURS[FAMILY_OF[name]]
    ax.annotate(
        name,
        xy=point,
        xytext=place,
        textcoords="axes fraction",
        ha=side,
        va="center",
        fontsize=8,
        color=colour,
        arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkB": 3},
    )


def _map_figure(tables: Frames, note: str) -> Figure:
    embedding, shares = tables["embedding"], tables["embedding_axes"].set_index("axis")["share"]
    ax = new_axes(10.0, 6.5)
    for name, point in zip(embedding["method"], _points(embedding, "x", "y"), strict=True):
        _mark(ax, name, *point)
    low, high = float(embedding["x"].min()), float(embedding["x"].max())
    ax.set_xlim(low - 0.5 * (high - low), high + 0.5 * (high - low))  # room for names on both sides
    labelled = embedding.drop_duplicates("method").sort_values("y", ascending=False)
    is_right = labelled["x"] > labelled["x"].median()
    for chosen, x, side in ((labelled[~is_right], 0.01, "left"), (labelled[is_right], 0.99, "right")):
        places = [(x, height) for height in np.linspace(0.96, 0.04, len(chosen))]
        for name, point, place in zip(chosen["method"], _points(chosen, "x", "y"), places, strict=True):
            _annotate(ax, name, point, place, side)
    first, second = (f"({100 * shares[axis]:.0f} % of the variance)" for axis in ("x", "y"))
    label(ax, xlabel=f"first axis {first}", ylabel=f"second axis {second}")
    _family_legend(ax, embedding["method"], loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=6)
    return noted(ax, note)
