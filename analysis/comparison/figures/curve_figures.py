"""Figures of curves: class structure, weights and dimension, training, alignment and teaching signals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.comparison.attribution.answer import quantity_label
from analysis.comparison.equal_steps import equal_steps, is_over_steps
from analysis.comparison.figures.comparison_figure import ComparisonFigure
from analysis.comparison.figures.seed_curves import curve_styles, curves_of, over_seeds, seeds_caption
from analysis.comparison.tables.result_tables import Tables
from analysis.plots import (
    angles_over,
    plot_alignment,
    plot_by_layer,
    plot_by_layer_and_step,
    plot_signals,
    plot_training,
    shown_steps,
)
from analysis.plots.axes import axes_grid, figure_of, fitting
from repsim.similarity.drawing.figure_axes import place_legend

__all__ = ["CURVE_FIGURES", "panels_caption"]

_VISIBLE_ANGLE = 0.1
_PANEL_WIDTH = 1.9  # inches of a panel in the style for papers


def panels_caption(tables: Tables) -> str:
    """Return the sentence of a caption that says what panels are, if networks are compared over steps."""
    if not is_over_steps(tables.views):
        return ""
    steps = equal_steps(tables.views)
    shown = shown_steps(steps)
    few = f" ({len(shown)} of {len(steps)} steps, evenly chosen)" if len(shown) < len(steps) else ""
    return f" One panel per step{few}."


def _draw_by_depth(tables: Tables, table: pd.DataFrame, labels: Mapping[str, str], *, seeds: bool) -> Figure:
    """Draw columns of a table of layers against depth: a panel per step and value, or one per value."""
    if is_over_steps(tables.views):
        table = table[table["step"].isin(equal_steps(tables.views))]
        curves = curves_of(tables, table, list(labels), ["step", "layer", "depth"], seeds=seeds)
        return plot_by_layer_and_step(curves.table, labels, curve="curve", bands=curves.bands, among=curves.styles)
    curves = curves_of(tables, table, list(labels), ["layer", "depth"], seeds=seeds)
    axes = _panels(len(labels))
    for ax, (name, label) in zip(axes, labels.items(), strict=True):
        band, among = curves.bands.get(name), curves.styles
        plot_by_layer(curves.table, name, ylabel=label, curve="curve", band=band, among=among, legend=False, ax=ax)
    place_legend(axes[0], list(curves.styles))
    return figure_of(axes[0])


def _panels(n: int) -> list[Axes]:
    """Return so many axes of a new figure, beside one another as far as they fit."""
    n_columns = fitting(max(n, 1), _PANEL_WIDTH)
    n_rows = -(-max(n, 1) // n_columns)
    width = 6.4 if n == 1 else 3.6 * n_columns
    axes = list(axes_grid(n_rows, n_columns, width, (3.6 if n == 1 else 3.2 if n_rows == 1 else 2.4) * n_rows).flat)
    for ax in axes[n:]:
        ax.set_visible(False)
    return axes[:n]


def _draw_class_structure(tables: Tables, *, seeds: bool) -> Figure:
    label = "between minus within class distance"
    return _draw_by_depth(tables, tables["class_structure"], {"class_structure": label}, seeds=seeds)


def _draw_quantities(tables: Tables, *, seeds: bool) -> Figure:
    return _draw_by_depth(tables, tables["layer_quantities"], _quantities(tables), seeds=seeds)


def _quantities(tables: Tables) -> dict[str, str]:
    """Return the label of each quantity of layers that has a value, or of the first one."""
    table = tables["layer_quantities"]
    labels = {
        "weight_norm": "weight norm",
        "participation_ratio": "effective dimension",
        "similarity_to_last": f"{quantity_label(tables.config.measures[0])} with the last layer",
    }
    shown = {name: label for name, label in labels.items() if table[name].notna().any()}
    return shown or {"weight_norm": "weight norm"}


def _draw_training(tables: Tables, *, seeds: bool) -> Figure:
    """Draw loss (first row) and accuracy, on training batches (left) and on the validation part."""
    panels = axes_grid(2, 2, 7.6, 5.2, share_y=True)
    for row, value, label in zip(panels, ("loss", "accuracy"), (_loss_label(tables), "accuracy"), strict=True):
        names = [value, f"validation_{value}"]
        curves = curves_of(tables, tables["training"], names, ["epoch"], seeds=seeds)
        for ax, name in zip(row, names, strict=True):
            plot_training(
                curves.table,
                name,
                ylabel=label if ax is row[0] else "",
                curve="curve",
                band=curves.bands.get(name),
                among=curves.styles,
                legend=False,
                ax=ax,
            )
    for ax, title in zip(panels[0], ("training", "validation"), strict=True):
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("")
        _show_losses(ax)
    place_legend(panels[0][0], list(curve_styles(tables)))
    return figure_of(panels[0][0])


def _show_losses(ax: Axes) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # 2, not 2 × 10⁰
    ax.yaxis.set_minor_formatter(NullFormatter())


def _loss_label(tables: Tables) -> str:
    losses = {view.run.config.get("training", {}).get("loss", "log_loss") for view in tables.views}
    return "cross-entropy (nats)" if losses == {"log_loss"} else "loss"


def _draw_alignment(tables: Tables, *, seeds: bool) -> Figure:
    axes = _panels(2)
    for ax, over in zip(axes, ("boundary", "step"), strict=True):
        curves = curves_of(tables, angles_over(tables["gradients"], over), ["angle"], [over], seeds=seeds)
        band = curves.bands.get("angle")
        plot_alignment(curves.table, over, curve="curve", band=band, among=curves.styles, legend=False, ax=ax)
    place_legend(max(axes, key=lambda ax: len(ax.lines)), list(curve_styles(tables)))
    return figure_of(axes[0])


def _signals_caption(tables: Tables) -> str:
    known = {name for name in _SIGNALS if tables["signals"][name].notna().any()}
    said = [
        f"{place}: {'; '.join(parts)}."
        for place, words in _SIGNALS_IN_WORDS.items()
        if (parts := [text for names, text in words.items() if known.intersection(names)])
    ]
    at = ", at the last step shown" if len(tables.views) > len({view.run.path for view in tables.views}) else ""
    head = f"Gradients that the rules choose, and those that result below them, by boundary{at}."
    return " ".join([head, *said, *(["Dotted: no relation."] if known & set(_UNRELATED) else [])])


def _draw_signals(tables: Tables, *, seeds: bool) -> Figure:
    table = tables["signals"]
    shown = {name: label for name, label in _SIGNALS.items() if table[name].notna().any()}
    last = table.groupby("run")["step"].transform("max")
    curves = curves_of(tables, table[table["step"] == last], list(shown), ["boundary"], seeds=seeds)
    return plot_signals(curves.table, shown, _UNRELATED, curve="curve", bands=curves.bands, among=curves.styles)


_SIGNALS = {
    "angle": "angle to true gradient (°)",
    "squared_bias": "squared bias (relative)",
    "variance": "variance (relative)",
    "implied_correlation": "correlation of implied loss",
    "cka": "CKA with true gradient",
    "change_cosine": "cosine with the change",
}
_SIGNALS_IN_WORDS: dict[str, dict[tuple[str, ...], str]] = {
    "Over training batches": {
        ("angle",): "angle to the true gradient",
        ("squared_bias", "variance"): "squared bias and variance of the gradient of the weights, relative to the mean "
        "squared norm of a batch's true gradient",
    },
    "Over held-out stimuli": {
        ("implied_correlation",): "correlation of the loss that a module implies with the true loss",
        ("cka",): "similarity (CKA) to the true gradient",
        ("change_cosine",): "cosine of the negative gradient with the change in activations until the next recorded "
        "step",
    },
}
_UNRELATED = {"angle": 90.0, "implied_correlation": 0.0, "cka": 0.0, "change_cosine": 0.0}


def _with_seeds(
    caption: Callable[[Tables], str],
    draw: Callable[..., Figure],
    heading: str,
    table: str,
    is_possible: Callable[[Tables], bool] = lambda tables: True,
) -> ComparisonFigure:
    """Return a figure whose curves are means over seeds, and whose caption says so."""

    def build(seeds: bool) -> ComparisonFigure:
        def captioned(tables: Tables) -> str:
            return f"{caption(tables)}{seeds_caption(tables, seeds=seeds)}"

        return ComparisonFigure(
            heading=heading,
            table=table,
            caption=captioned,
            draw=partial(draw, seeds=seeds),
            is_possible=is_possible,
        )

    return over_seeds(build)


def _quantities_caption(tables: Tables) -> str:
    words = {
        "weight_norm": "Frobenius norm of the weights",
        "participation_ratio": "effective dimension of the activations (participation ratio)",
        "similarity_to_last": f"{quantity_label(tables.config.measures[0])} with the last layer of the same network",
    }
    *rest, last = [words[name] for name in _quantities(tables)]
    text = f"{', '.join(rest)} and {last}" if rest else last
    return f"{text[:1].upper()}{text[1:]}, by layer.{panels_caption(tables)}"


def _structure_caption(tables: Tables) -> str:
    words = "Mean distance between stimuli of different classes minus mean distance within a class."
    return words + panels_caption(tables)


def _training_caption(_: Tables) -> str:
    return (
        "Loss (above) and accuracy (below) over epochs: means over the epoch's training batches (left), and on the "
        "validation part at its end (right)."
    )


def _alignment_caption(_: Tables) -> str:
    return (
        "Angle between the gradient that the rule chose and the true one, over a batch: by boundary, at the last "
        "diagnosed step, and over training, the mean of the boundaries where it acts. Backprop's is 0; at 90 degrees "
        "(dotted) a small step along it leaves the loss as it is."
    )


CURVE_FIGURES: dict[str, ComparisonFigure] = {
    "class_structure": _with_seeds(
        _structure_caption, _draw_class_structure, "Class structure by layer", "class_structure"
    ),
    "layer_quantities": _with_seeds(
        _quantities_caption, _draw_quantities, "Weights and dimension by layer", "layer_quantities"
    ),
    "training": _with_seeds(
        _training_caption,
        _draw_training,
        "Training",
        "training",
        is_possible=lambda tables: {"validation_loss", "validation_accuracy"} <= set(tables["training"]),
    ),
    "alignment": _with_seeds(
        _alignment_caption,
        _draw_alignment,
        "Alignment with the true gradient",
        "gradients",
        is_possible=lambda tables: bool(tables["gradients"]["angle"].max() > _VISIBLE_ANGLE),
    ),
    "signals": _with_seeds(
        _signals_caption,
        _draw_signals,
        "Teaching signals",
        "signals",
        is_possible=lambda tables: bool(tables["signals"][list(_SIGNALS)].notna().any(axis=None)),
    ),
}
