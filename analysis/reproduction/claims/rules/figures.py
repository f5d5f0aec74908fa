"""The figures of E7: accuracy, alignment with the true gradient, layers, and a map of all networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.plots import noted, plot_lines
from analysis.plots.axes import MARKERS, axes_grid, colours, new_axes
from analysis.plots.drawing import Drawing
from analysis.reproduction.claims.rules.networks import BACKPROP, ENTRIES, FAMILIES, OUTPUT_ALONE
from analysis.reproduction.summary import listed

__all__ = ["draw"]

_HEAT = {
    "probe": ("probe accuracy", "viridis"),
    "class_structure": ("class structure of the RDM", "viridis"),
    "cka": ("CKA to backprop", "magma"),
    "rsa": ("RDM correlation to backprop", "magma"),
}
_FAMILY_OF = {entry.name: entry.family for entry in ENTRIES}
_COLOURS = colours(FAMILIES)
_MARKERS = dict(zip(FAMILIES, MARKERS, strict=False))
_ANGLE = "angle to the true gradient (degrees)"


def draw(tables: dict[str, pd.DataFrame], batch_size: int) -> Iterator[Drawing]:
    """Yield the figures, from the tables of ``summarise``; gradients were compared over so many digits."""
    seeds = f"Seeds {listed(sorted(tables['networks']['seed'].unique()))} of each rule"
    n_test, n_stimuli = int(tables["networks"]["n_test"].max()), int(tables["probes"]["n_test"].max())
    yield Drawing(
        "accuracy",
        "Test accuracy by rule",
        "A small marker a seed, means with 95 % intervals, the best on top; the dotted line is the output layer alone.",
        _accuracy_figure(tables, f"{seeds}; n = {n_test} test digits."),
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
        "Means over seeds: accuracy of a linear probe; mean correlation distance between classes less that within; "
        "unbiased linear CKA and correlation of RDMs to the networks of backprop that have other seeds (in its own row "
        "the ceiling).",
        _layer_figure(tables, f"{seeds}; n = {n_stimuli} held-out digits."),
    )
    yield Drawing(
        "relations",
        "Alignment, accuracy and likeness to backprop",
        "A marker a rule: means over seeds, and over boundaries or layers, at the end of training; the error on a "
        "logarithmic scale.",
        _relation_figure(tables, f"{seeds}; n = {n_test} test digits for accuracy, {n_stimuli} for CKA."),
    )
    yield Drawing(
        "map",
        "A map of all networks",
        "Classical scaling of the distances between networks: the mean over layers of the angle between centred Gram "
        "matrices (the arc cosine of biased linear CKA, a metric). A marker a network; each rule's name leads to its "
        "network of the first seed.",
        _map_figure(tables, f"{seeds}; n = {n_stimuli} held-out digits. Shares of the positive eigenvalues."),
    )


def _accuracy_figure(tables: dict[str, pd.DataFrame], note: str) -> Figure:
    accuracy, networks = tables["accuracy"], tables["networks"]
    rows = accuracy[accuracy["part"] == "test"].sort_values("mean", na_position="first").set_index("method")
    ax = new_axes(8.0, 0.29 * len(rows) + 1.4)
    for y, (name, mean, low, high) in enumerate(rows[["mean", "low", "high"]].itertuples(name=None)):
        colour = _COLOURS[_FAMILY_OF[name]]
        each = networks.loc[networks["method"] == name, "test_accuracy"]
        ax.plot(each, np.full(len(each), y), ".", color=colour, alpha=0.6)
        ax.plot([low, high], [y, y], color=colour, linewidth=1.2)
        _mark(ax, name, mean, y)
    ax.axvline(rows["mean"][OUTPUT_ALONE], color="0.4", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(rows)), labels=list(rows.index))
    ax.set_xlabel("test accuracy")
    ax.set_ylabel("rule")
    _family_legend(ax, rows.index)
    return noted(ax, note)


def _mark(ax: Axes, name: str, x: float, y: float) -> None:
    family = _FAMILY_OF[name]
    ax.plot(x, y, _MARKERS[family], color=_COLOURS[family], markersize=6.5, alpha=0.85)


def _family_legend(ax: Axes, methods: Iterable[Any], **where: Any) -> None:
    present = {_FAMILY_OF[str(name)] for name in methods}
    for family in FAMILIES:
        if family in present:
            ax.plot([], [], _MARKERS[family], color=_COLOURS[family], label=family)
    ax.legend(**{"frameon": True, "fontsize": "small", **where})


def _alignment_figure(tables: dict[str, pd.DataFrame], note: str) -> Figure:
    profiles, alignment = tables["profiles"], tables["alignment"]
    last = profiles[profiles["measure"] == "angle"].dropna(subset=["mean"])
    over = alignment[alignment["boundary"].isna()].dropna(subset=["mean"])
    families = [each for each in FAMILIES if each != BACKPROP and each in set(last["method"].map(_FAMILY_OF))]
    grid = axes_grid(2, len(families), 3.1 * len(families), 7.4)
    for column, family in enumerate(families):
        _plot_angles(last, "depth", "boundary", family, grid[0][column])
        _plot_angles(over, "step", "training step", family, grid[1][column])
        grid[0][column].set_title(family, fontsize=10)
        grid[0][column].set_xticks(sorted(last["depth"].unique()))
        grid[1][column].legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        for row in (0, 1):
            grid[row][column].set_ylabel(_ANGLE if column == 0 else "")
    return noted(grid[0][0], note)


def _plot_angles(table: pd.DataFrame, x: str, xlabel: str, family: str, ax: Axes) -> None:
    rows = table[table["method"].map(_FAMILY_OF) == family]
    names, band = [entry.name for entry in ENTRIES if entry.family == family], ("low", "high")
    plot_lines(
        rows, x, "mean", curve="method", xlabel=xlabel, ylabel=_ANGLE, band=band, among=names, legend=False, ax=ax
    )
    ax.axhline(90.0, color="0.4", linestyle=":", linewidth=1)
    ax.set_ylim(-3, max(103.0, 1.03 * float(rows["high"].max())))


def _layer_figure(tables: dict[str, pd.DataFrame], note: str) -> Figure:
    methods = list(tables["rules"]["method"])
    grid = axes_grid(1, len(_HEAT), 11.0, 0.3 * len(methods) + 1.3)
    for place, (ax, (measure, (title, cmap))) in enumerate(zip(grid[0], _HEAT.items(), strict=True)):
        rows = tables["profiles"][tables["profiles"]["measure"] == measure]
        values = rows.pivot(index="method", columns="depth", values="mean").reindex(methods)
        _heat_map(ax, values, cmap)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("hidden layer")
        ax.set_yticks(range(len(methods)), labels=methods if place == 0 else [])
    grid[0][0].set_ylabel("rule")
    return noted(grid[0][0], note)


def _heat_map(ax: Axes, values: pd.DataFrame, cmap: str) -> None:
    """Draw a table as coloured cells with their numbers in them."""
    image = ax.imshow(values.to_numpy(), cmap=cmap, aspect="auto", interpolation="nearest")
    brightness = np.asarray(image.norm(values.to_numpy()))
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        if np.isfinite(value):
            colour = "black" if brightness[row, column] > 0.6 else "white"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=colour)
    ax.set_xticks(range(values.shape[1]), labels=[str(depth) for depth in values.columns])
    ax.grid(visible=False)


def _relation_figure(tables: dict[str, pd.DataFrame], note: str) -> Figure:
    relations = tables["relations"][tables["relations"]["x"] == "angle_mean"]
    rules = tables["rules"].dropna(subset=["angle_mean", "test_accuracy_mean", "cka_mean"])
    rules = rules.assign(test_error=1 - rules["test_accuracy_mean"])
    grid = axes_grid(1, len(_REACHED), 12.0, 5.0)
    for ax, (y, (column, ylabel)) in zip(grid[0], _REACHED.items(), strict=True):
        for i, (name, point) in enumerate(zip(rules["method"], _points(rules, "angle_mean", column), strict=True), 1):
            _mark(ax, name, *point)
            ax.annotate(str(i), point, (4, 3), textcoords="offset points", fontsize=8, zorder=5)
        found = relations[relations["y"] == y].set_index("among")["spearman"]
        ax.set_title(f"{_WORDS[y]}: {found.iloc[0]:+.2f}, {found.index[-1]} {found.iloc[-1]:+.2f}", fontsize=10)
        ax.set_xlabel(_ANGLE)
        ax.set_ylabel(ylabel)
    grid[0][0].set_yscale("log")
    grid[0][0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    grid[0][0].yaxis.set_major_formatter("{x:g}")
    grid[0][0].yaxis.set_minor_formatter(NullFormatter())
    _number_legend(grid[0][-1], rules["method"])
    return noted(grid[0][0], note)


_REACHED = {
    "test_accuracy_mean": ("test_error", "test error (1 - accuracy)"),
    "cka_mean": ("cka_mean", "CKA to backprop of other seeds"),
}
_WORDS = {"test_accuracy_mean": "rank correlation with accuracy", "cka_mean": "rank correlation with CKA"}


def _number_legend(ax: Axes, names: Iterable[str]) -> None:
    """Write beside the axes which number is which rule."""
    handles = [
        Line2D([], [], color=_COLOURS[_FAMILY_OF[name]], marker=_MARKERS[_FAMILY_OF[name]], linestyle="", label=label)
        for name, label in ((name, f"{i}  {name}") for i, name in enumerate(names, start=1))
    ]
    ax.legend(handles=handles, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _points(table: pd.DataFrame, x: str, y: str) -> list[tuple[float, float]]:
    return list(zip(table[x].astype(float), table[y].astype(float), strict=True))


def _label(ax: Axes, name: str, point: tuple[float, float], place: tuple[float, float], side: str) -> None:
    """Write a name at a place, in fractions of the axes, with a line to its point."""
    colour = _COLOURS[_FAMILY_OF[name]]
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


def _map_figure(tables: dict[str, pd.DataFrame], note: str) -> Figure:
    embedding, shares = tables["embedding"], tables["embedding_axes"].set_index("axis")["share"]
    ax = new_axes(10.0, 6.5)
    for name, point in zip(embedding["method"], _points(embedding, "x", "y"), strict=True):
        _mark(ax, name, *point)
    low, high = float(embedding["x"].min()), float(embedding["x"].max())
    ax.set_xlim(low - 0.5 * (high - low), high + 0.5 * (high - low))  # names stand on both sides
    labelled = embedding.drop_duplicates("method").sort_values("y", ascending=False)
    is_right = labelled["x"] > labelled["x"].median()
    for chosen, x, side in ((labelled[~is_right], 0.01, "left"), (labelled[is_right], 0.99, "right")):
        places = [(x, height) for height in np.linspace(0.96, 0.04, len(chosen))]
        for name, point, place in zip(chosen["method"], _points(chosen, "x", "y"), places, strict=True):
            _label(ax, name, point, place, side)
    ax.set_xlabel(f"first axis ({100 * shares['x']:.0f} % of the variance)")
    ax.set_ylabel(f"second axis ({100 * shares['y']:.0f} % of the variance)")
    _family_legend(ax, embedding["method"], loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=6)
    return noted(ax, note)
