"""Figures: accuracy, its differences, speed, and norms of the weights by depth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.plots import noted
from analysis.plots.axes import axes_grid
from analysis.plots.drawing import Drawing
from analysis.plots.styles import colours
from analysis.reproduction.claim import Results, Section
from analysis.reproduction.claims.depth.conclude import CLOSE, pairs_of
from analysis.reproduction.claims.depth.parts import BACKPROP, DEPTHS, METHODS, SHIFTS, SYNTHETIC, TRAINED
from analysis.reproduction.kit.numbers import listed, rows_of, seed_intervals
from analysis.reproduction.kit.panels import RANGE, dotted, error_bars, label, legend, plot_means

__all__ = ["figures"]


def figures(results: Results, section: Section) -> Iterator[Drawing]:
    """Yield the figures."""
    networks, gaps = section.tables["networks"], section.tables["gaps"]
    note = f"Seeds {listed(sorted(networks['seed'].unique()))}; n = {int(networks['n_test'].max())} test digits."
    yield Drawing(
        "depth",
        "Accuracy by depth",
        "Accuracy on held-out digits (top) and over the batches of the last epoch (bottom) of networks of 3 "
        "to 50 hidden layers, with relu and with tanh; means over seeds with 95 % intervals.",
        _accuracy_figure(section.tables["accuracy"], section.tables["train_accuracy"], note),
    )
    yield Drawing(
        "gaps",
        "Test accuracy with a synthetic gradient minus backprop's",
        "Test accuracy with a synthetic gradient in the middle minus that of backprop, in pairs of equal seeds: "
        f"means with one-sided 95 % limits that hold for all cases together, and every pair. Grey: within {CLOSE} of "
        "backprop. A case is equivalent if its limits lie within it.",
        _gap_figure(gaps, pairs_of(networks, "test_accuracy"), note),
    )
    yield Drawing(
        "speed",
        "Epochs until a network is trained",
        f"First epoch after which validation accuracy is {TRAINED:g} or more, one mark per network; networks that "
        "never reach it are left out.",
        _speed_figure(networks, note),
    )
    yield Drawing(
        "weights",
        "Norms of the weights by layer",
        f"Frobenius norm of the weights of every hidden layer of networks of {DEPTHS[-2]} and {DEPTHS[-1]} layers, "
        "before training (dotted) and at its end, the mean over seeds with the range; the vertical line is the "
        "boundary with the synthetic gradient.",
        _weight_figure(section.tables["weights"], note),
    )


def _accuracy_figure(accuracy: pd.DataFrame, train: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(2, len(SHIFTS), 9.0, 6.0, share_y=True)
    for row, (words, table) in enumerate((("test", accuracy), ("training", train))):
        for column, activation in enumerate(SHIFTS):
            ax = grid[row][column]
            plot_means(
                ax,
                rows_of(table, activation=activation),
                "depth",
                among=list(METHODS),
                legend=row == 0 and column == 0,
            )
            label(
                ax,
                title=activation if row == 0 else "",
                xlabel="hidden layers" if row == 1 else "",
                ylabel=f"{words} accuracy" if column == 0 else "",
            )
            ax.set_xticks(DEPTHS)
    return noted(grid[0][0], note)


def _gap_figure(gaps: pd.DataFrame, pairs: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, len(SHIFTS), 9.0, 3.6, share_y=True)
    for ax, activation in zip(grid[0], SHIFTS, strict=True):
        each, rows = (rows_of(table, activation=activation) for table in (pairs, gaps))
        x = np.arange(len(rows))
        ax.axhspan(-CLOSE, CLOSE, color="0.9", zorder=0)
        limits = rows.assign(low=rows["lower"], high=rows["upper"])
        error_bars(ax, x, limits, fmt="D", color="C1", markersize=5, capsize=3, label="mean, limits")
        places = each["depth"].map(dict(zip(rows["depth"], x, strict=True)))
        ax.plot(places + 0.12, each["difference"], "o", color="C0", markersize=3, alpha=0.8, label="a pair of seeds")
        ax.set_xticks(x, labels=[str(depth) for depth in rows["depth"]])
        label(ax, title=activation, xlabel="hidden layers")
    label(grid[0][0], ylabel="test accuracy minus backprop's")
    legend(grid[0][0])
    return noted(grid[0][0], note)


def _speed_figure(networks: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, len(SHIFTS), 9.0, 3.6, share_y=True)
    palette = colours(list(METHODS))
    for ax, activation in zip(grid[0], SHIFTS, strict=True):
        for shift, method in ((-0.12, BACKPROP), (0.12, SYNTHETIC)):
            rows = rows_of(networks, activation=activation, method=method)
            x = rows["depth"].map(DEPTHS.index) + shift
            ax.plot(x, rows["epochs_to_trained"], "o", color=palette[method], alpha=0.7, markersize=5, label=method)
        ax.set_xticks(range(len(DEPTHS)), labels=[str(depth) for depth in DEPTHS])
        ax.set_ylim(0, 1.1 * networks["epochs_to_trained"].fillna(1).max())
        label(ax, title=activation, xlabel="hidden layers")
    label(grid[0][0], ylabel="epochs")
    legend(grid[0][0])
    return noted(grid[0][0], note)


def _weight_figure(weights: pd.DataFrame, note: str) -> Figure:
    depths = DEPTHS[-2:]
    grid = axes_grid(len(depths), len(SHIFTS), 9.0, 6.0)
    for row, depth in enumerate(depths):
        for column, activation in enumerate(SHIFTS):
            ax, rows = grid[row][column], rows_of(weights, activation=activation, depth=depth)
            ends = seed_intervals(rows, ["layer", "method"], "end")
            is_first = row == 0 and column == 0
            plot_means(ax, ends, "layer", columns=RANGE, among=list(METHODS), legend=is_first)
            starts = rows.groupby("layer")["start"].mean()
            ax.plot(starts.index, starts, ":", color="0.3", linewidth=1.2)
            ax.set_xticks([1, *range(depth // 5, depth + 1, depth // 5)])
            dotted(ax, x=rows.loc[rows["below"], "layer"].max() + 0.5)
            label(
                ax,
                title=f"{activation}, {depth} layers",
                xlabel="hidden layer" if row == len(depths) - 1 else "",
                ylabel="norm of the weights" if column == 0 else "",
            )
    return noted(grid[0][0], note)
