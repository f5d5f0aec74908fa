"""Figures of a comparison: the registry ``FIGURES``, with the heading, caption and drawing of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from scipy.spatial.distance import squareform

from analysis.comparison.attribution.answer import (
    contrast_titles,
    quantity_label,
    unmatched_steps,
    without_controls_alone,
)
from analysis.comparison.equal_steps import (
    equal_steps,
    is_over_steps,
    similarity_at_equal_steps,
    twins_of,
    views_at_last_step,
)
from analysis.comparison.tables.probe_tables import LABEL, score_columns
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.tables.schema import TABLES
from analysis.own_parts.registries import KINDS
from analysis.plots import (
    plot_alignment,
    plot_by_layer,
    plot_by_layer_and_step,
    plot_rdm_grid,
    plot_signals,
    plot_similarity_by_step,
    plot_similarity_grid,
    plot_training,
)
from analysis.plots.attribution import plot_attribution, plot_effects_by_layer
from analysis.plots.axes import axes_grid, figure_of, verbatim
from analysis.plots.drawing import Drawing
from repsim.registration import add_installed
from repsim.similarity import MEASURES
from repsim.similarity.drawing.labels import shorten

__all__ = ["FIGURES", "ComparisonFigure", "draw_figures", "own_figure", "possible_figures"]

_MOST_RDM_COLUMNS = 10
_SMALLEST_SPAN = 0.1
_VISIBLE_ANGLE = 0.1
_MOST_STEPS = 6  # panels in a row


@dataclass(frozen=True, kw_only=True)
class ComparisonFigure:
    """A figure that is drawn from the tables of a comparison.

    Attributes
    ----------
    heading : str
    table : str
        Table that the figure shows, which the report offers as CSV: a key of ``TABLES`` or ``"rdm"``.
    caption : callable (tables) -> str
    draw : callable (tables) -> Figure
    is_possible : callable (tables) -> bool
        Whether the tables hold what the figure needs. By default they always do.
    leads : bool, default False
        Whether the report shows the figure in its overview.
    file_name : callable (tables) -> str, optional
        Name of the file without its ending; the key in ``FIGURES`` by default.
    """

    heading: str
    table: str
    caption: Callable[[Tables], str]
    draw: Callable[[Tables], Figure]
    is_possible: Callable[[Tables], bool] = lambda tables: True
    leads: bool = False
    file_name: Callable[[Tables], str] | None = None


def draw_figures(tables: Tables, name: str | None = None) -> Iterator[Drawing]:
    """Yield the figures that the tables allow, in the order of ``FIGURES``, or only the one of a file name."""
    for file_name, figure in possible_figures(tables).items():
        if name in (None, file_name):
            drawn = figure.draw(tables)
            yield Drawing(file_name, figure.heading, figure.caption(tables), drawn, figure.table, figure.leads)


def possible_figures(tables: Tables) -> dict[str, ComparisonFigure]:
    """Return the figures that the tables allow, by file name."""
    possible = {key: figure for key, figure in FIGURES.items() if figure.is_possible(tables)}
    return {figure.file_name(tables) if figure.file_name else key: figure for key, figure in possible.items()}


def own_figure(name: str, given: Any, **declared: Any) -> ComparisonFigure:
    """Return the figure that a user registers: a ``ComparisonFigure``, or a function of the tables that draws one.

    With a function the other fields are declared; ``heading`` is the name and ``table`` is ``"similarity"`` by default,
    and ``caption`` may be a text, by default the first line of the function's docstring.
    """
    if isinstance(given, ComparisonFigure):
        figure = replace(given, **declared)
    elif not callable(given):
        raise TypeError(f"The figure '{name}' is {given!r}; expected a ComparisonFigure, or a function of the tables.")
    else:
        caption = declared.pop("caption", (inspect.getdoc(given) or "").partition("\n")[0])
        shown: Callable[[Tables], str] = partial(_text, caption) if isinstance(caption, str) else caption
        usual: dict[str, Any] = {"heading": name, "table": "similarity"}
        figure = ComparisonFigure(**{**usual, **declared}, draw=given, caption=shown)
    if figure.table not in (*TABLES, "rdm"):
        raise ValueError(
            f"The figure '{name}' shows the table '{figure.table}', which does not exist. Choose one of: "
            f"{', '.join((*TABLES, 'rdm'))}."
        )
    return figure


def _text(text: str, tables: Tables) -> str:
    return text


# Probes


def _of_label(tables: Tables, name: str) -> pd.DataFrame:
    """Return the rows of a table of probes whose target is the label."""
    table = tables[name]
    return table[table["target"] == LABEL]


def _probe_caption(tables: Tables) -> str:
    return (
        f"Test accuracy of a linear classifier fitted to each layer's activations; {tables.n_test} held-out stimuli. "
        f"{_bands_caption(tables)} Chance, always answering the most frequent class, is {_chance(tables):.3f} "
        f"(dotted where it is in view).{_panels(tables)}"
    )


def _bands_caption(tables: Tables) -> str:
    seeds = _of_label(tables, "probe_bands").groupby("method", sort=False)["n_seeds"].max()
    if seeds.max() < 2:
        grouped = any(view.run.stimuli.groups is not None for view in tables.views) or tables.config.groups is not None
        alike = " Stimuli of one group resemble one another, so that these bands are too narrow." if grouped else ""
        return f"Bands are one standard error from the number of stimuli.{alike}"
    counts = ", ".join(f"{name} {count}" for name, count in seeds.items())
    return (
        f"Means over networks of several seeds ({counts}). Bands cover all layers of a method at once with 95 % "
        "confidence, from the spread over seeds (the fewer, the wider); one seed has none."
    )


def _banded(tables: Tables, target: str) -> tuple[pd.DataFrame, str, str]:
    """Return the scores of the probes of a target, with ends of bands; their column, and the column of curves.

    Scores are means over seeds, if there are several. One network has bands where the score is an accuracy.
    """
    probes, bands = (table[table["target"] == target] for table in (tables["probes"], tables["probe_bands"]))
    score = score_columns(tables["probes"])[target]
    if bands["n_seeds"].max() > 1:
        lowest = 0.0 if score == "accuracy" else -np.inf
        ends = bands[["band_low", "band_high"]].clip(lowest, 1.0)
        return bands.assign(low=ends["band_low"], high=ends["band_high"]), "mean", "method"
    value = probes[score]
    error = np.sqrt(value * (1 - value) / probes["n_test"]) if score == "accuracy" else np.nan
    return probes.assign(low=value - error, high=value + error), score, "view"


def _draw_probes(tables: Tables) -> Figure:
    ylabel = "probe accuracy on test"
    table, value, curve = _banded(tables, LABEL)
    if is_over_steps(tables.views):
        figure = _draw_over_steps(tables, table, {value: ylabel}, curve=curve, band=("low", "high"))
    else:
        figure = figure_of(plot_by_layer(table, value, ylabel=ylabel, curve=curve, band=("low", "high")))
    low, high = figure.axes[0].get_ylim()
    for ax in figure.axes:
        _dotted_line(ax, _chance(tables))
        ax.set_ylim(min(low, high - _SMALLEST_SPAN), high)  # chance may be out of view; noise must not fill the figure
    return figure


def _other_targets(tables: Tables) -> list[str]:
    return [target for target in score_columns(tables["probes"]) if target != LABEL]


def _targets_caption(tables: Tables) -> str:
    of_views = " One panel per target and step." if is_over_steps(tables.views) else " One panel per target."
    return (
        "Probes of the targets other than the label, on test: accuracy of a linear classifier for classes, R² of ridge "
        f"regression for quantities. {_bands_caption(tables)} R² has bands over seeds only. Dotted, where it is in "
        f"view: always answering the most frequent class, or the mean of the training stimuli.{of_views}"
    )


def _draw_targets(tables: Tables) -> Figure:
    targets, probes = _other_targets(tables), tables["probes"]
    steps = equal_steps(tables.views) if is_over_steps(tables.views) else [None]
    steps = [steps[k] for k in np.unique(np.linspace(0, len(steps) - 1, _MOST_STEPS).round().astype(int))]
    grid = axes_grid(len(targets), len(steps), max(2.4 * len(steps) + 1.2, 6.4), 2.8 * len(targets), share_y=True)
    for place, (row, target) in enumerate(zip(grid, targets, strict=True)):
        table, value, curve = _banded(tables, target)
        score = "R²" if score_columns(probes)[target] == "r2" else "accuracy"
        chance = float(probes.loc[probes["target"] == target, "chance"].iloc[0])
        for ax, step in zip(row, steps, strict=True):
            rows, names = _at_step(tables, table, curve, step)
            last = ax is grid[0][-1]
            plot_by_layer(
                rows, value, ylabel="", curve="network", band=("low", "high"), among=names, legend=last, ax=ax
            )
            ax.set_title("" if step is None or place else f"step {step}", fontsize=9)
            limits = ax.get_ylim()
            _dotted_line(ax, chance)
            ax.set_ylim(*limits)
        row[0].set_ylabel(verbatim(f"{shorten([target])[0]}: {score}"))
    return figure_of(grid[0][0])


def _at_step(tables: Tables, table: pd.DataFrame, curve: str, step: int | None) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows at a step, or all without one, with the names of their networks; and all these names."""
    if step is None:
        return table.assign(network=table[curve]), list(map(str, table[curve].unique()))
    named = _with_steps(tables, table, curve)
    return named[named["step"] == step], list(map(str, named["network"].unique()))


def _with_steps(tables: Tables, table: pd.DataFrame, curve: str) -> pd.DataFrame:
    """Return a table with the step of each row, and its network: the name of its view or method without the step."""
    step = table[curve].map(dict(zip(tables["probes"][curve], tables["probes"]["step"], strict=True)))
    network = [str(name).removesuffix(f", step {at}") for name, at in zip(table[curve], step, strict=True)]
    return table.assign(step=step, network=network)


def _draw_over_steps(
    tables: Tables,
    table: pd.DataFrame,
    values: Mapping[str, str],
    *,
    curve: str = "view",
    band: tuple[str, str] | None = None,
) -> Figure:
    """Draw columns of a table against depth, one panel per step, one curve per network or method.

    ``values`` maps the columns to labels of their axes. Without its step, a view or method has the name of its network.
    """
    named = _with_steps(tables, table, curve)
    shared = named[named["step"].isin(equal_steps(tables.views))]
    return plot_by_layer_and_step(shared, values, curve="network", band=band)


def _panels(tables: Tables) -> str:
    return " One panel per step." if is_over_steps(tables.views) else ""


def _chance(tables: Tables) -> float:
    return float(tables["probes"]["chance"].iloc[0])


def _first_method(tables: Tables) -> str:
    return str(tables["probes"]["method"].iloc[0])


def _differences_caption(tables: Tables) -> str:
    return (
        f"Test accuracy of probes less that of {_first_method(tables)}, mean of pairs of networks of equal seed, with "
        "bands that cover all layers of a method at once with 95 % confidence."
    )


def _draw_differences(tables: Tables) -> Figure:
    ax = plot_by_layer(
        _of_label(tables, "probe_differences"),
        "difference",
        ylabel=verbatim(f"probe accuracy less {shorten([_first_method(tables)])[0]}'s"),
        curve="method",
        band=("band_low", "band_high"),
        among=list(tables["probes"]["method"].unique()),
    )
    _dotted_line(ax, 0.0)
    return figure_of(ax)


def _dotted_line(ax: Axes, level: float) -> None:
    ax.axhline(level, color="0.4", linestyle=":", linewidth=1)


# Matrices


def _rdm_caption(tables: Tables) -> str:
    return (
        f"{tables.config.distance.capitalize()} distance between the activations of {tables.n_test} held-out stimuli "
        "ordered by class, on one colour scale; darker is more alike. Blocks on the diagonal are classes."
    )


def _draw_rdms(tables: Tables) -> Figure:
    first = tables.views[0]
    rdms = {
        view.label: {layer: tables.rdm(index, layer) for layer in _evenly(list(view.listed))}
        for index, view in enumerate(tables.views)
    }
    labels: NDArray[Any] = first.stimuli.labels[first.rows("test")]
    order = np.argsort(labels, kind="stable")
    if (order != np.arange(len(order))).any():  # labels of tokens
        rdms = {
            view: {layer: _reordered(rdm, order) for layer, rdm in matrices.items()} for view, matrices in rdms.items()
        }
    return plot_rdm_grid(rdms, labels[order], first.classes, distance=f"{tables.config.distance} distance")


def _reordered(rdm: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
    """Return a condensed matrix with the stimuli in another order."""
    return np.asarray(squareform(squareform(rdm, checks=False)[np.ix_(order, order)], checks=False))


def _evenly(layers: list[str]) -> list[str]:
    """Choose layers at even distances, including the first and the last."""
    count = min(len(layers), _MOST_RDM_COLUMNS)
    return [layers[i] for i in np.linspace(0, len(layers) - 1, count).round().astype(int)]


def _first_measure(tables: Tables) -> str:
    return tables.config.measures[0]


def _measure_label(tables: Tables) -> str:
    label = MEASURES[_first_measure(tables)].label
    return f"{label[:1].upper()}{label[1:]}"


def _similarity_caption(tables: Tables) -> str:
    unbiased = " The estimator is unbiased: independent representations give 0 on average, equal ones 1."
    return (
        f"{_measure_label(tables)} between every layer of one network (rows) and of another (columns){_at(tables)}, "
        f"{tables.n_test} held-out stimuli.{unbiased if _first_measure(tables) == 'cka' else ''}"
    )


def _at(tables: Tables) -> str:
    return f" at step {views_at_last_step(tables.views)[0].step}" if is_over_steps(tables.views) else ""


def _draw_similarity(tables: Tables) -> Figure:
    table = tables["similarity"]
    if is_over_steps(tables.views):
        last = [view.label for view in views_at_last_step(tables.views)]
        table = table[table["view_a"].isin(last) & table["view_b"].isin(last)]
    return plot_similarity_grid(table, _first_measure(tables), name=_measure_label(tables))


def _by_step_caption(tables: Tables) -> str:
    fork = " A dashed line marks the step of the fork." if twins_of(tables.views) else ""
    return (
        f"{_measure_label(tables)} between each layer and the same layer of {tables.views[0].network} at the same "
        f"step, {tables.n_test} held-out stimuli. The colour scale begins at the value of equal layers.{fork}"
    )


def _draw_by_step(tables: Tables) -> Figure:
    is_similarity = MEASURES[_first_measure(tables)].direction == "similarity"
    return plot_similarity_by_step(
        similarity_at_equal_steps(tables),
        name=f"{_measure_label(tables)} with {shorten([tables.views[0].network])[0]}",
        most_alike=1.0 if is_similarity else 0.0,
        forked={name: twins.step for name, twins in twins_of(tables.views).items()},
    )


# Curves


def _draw_class_structure(tables: Tables) -> Figure:
    label = "between minus within class distance"
    if is_over_steps(tables.views):
        return _draw_over_steps(tables, tables["class_structure"], {"class_structure": label})
    return figure_of(plot_by_layer(tables["class_structure"], "class_structure", ylabel=label))


def _draw_quantities(tables: Tables) -> Figure:
    table = tables["layer_quantities"]
    labels = {
        "weight_norm": "weight norm",
        "participation_ratio": "effective dimension",
        "similarity_to_last": f"{quantity_label(_first_measure(tables))} with the last layer",
    }
    shown = {name: label for name, label in labels.items() if table[name].notna().any()}
    if shown and is_over_steps(tables.views):
        return _draw_over_steps(tables, table, shown)
    axes = axes_grid(1, max(1, len(shown)), 4.6 * max(1, len(shown)), 3.8)[0]
    for ax, (name, label) in zip(axes, shown.items(), strict=True):
        plot_by_layer(table, name, ylabel=label, ax=ax)
        if ax is not axes[-1] and (legend := ax.get_legend()) is not None:
            legend.remove()
    return figure_of(axes[0])


def _draw_training(tables: Tables) -> Figure:
    left, right = axes_grid(1, 2, 10.0, 3.8)[0]
    plot_training(tables["training"], "loss", ylabel=_loss_label(tables), ax=left)
    plot_training(tables["training"], "accuracy", ylabel="accuracy", legend=False, ax=right)
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # 2, not 2 × 10⁰
    left.yaxis.set_minor_formatter(NullFormatter())
    return figure_of(left)


def _loss_label(tables: Tables) -> str:
    losses = {view.run.config.get("training", {}).get("loss", "log_loss") for view in tables.views}
    return "cross-entropy (nats)" if losses == {"log_loss"} else "loss"


def _draw_alignment(tables: Tables) -> Figure:
    left, right = axes_grid(1, 2, 10.0, 3.8)[0]
    plot_alignment(tables["gradients"], "boundary", ax=left)
    plot_alignment(tables["gradients"], "step", legend=False, ax=right)
    return figure_of(left)


def _signals_caption(_: Tables) -> str:
    return (
        "Gradients that the rules choose, and those that result below them, by boundary. Over training batches: angle "
        "to the true gradient, and squared bias and variance of the gradient of the weights, relative to the mean "
        "squared norm of a batch's true gradient. Over held-out stimuli: correlation of the loss that a module implies "
        "with the true loss, similarity (CKA) to the true gradient, and cosine of the negative gradient with the "
        "change in activations until the next recorded step. Dotted: no relation."
    )


def _draw_signals(tables: Tables) -> Figure:
    return plot_signals(tables["signals"], _SIGNALS, _UNRELATED)


_SIGNALS = {
    "angle": "angle to the true gradient (degrees)",
    "squared_bias": "squared bias (relative)",
    "variance": "variance over batches (relative)",
    "implied_correlation": "correlation of implied loss",
    "cka": "CKA with the true gradient",
    "change_cosine": "cosine with the change",
}
_UNRELATED = {"angle": 90.0, "implied_correlation": 0.0, "cka": 0.0, "change_cosine": 0.0}


# Arms


def _has_arms(tables: Tables) -> bool:
    return len(tables["attribution"]) > 0


def _first_quantity(tables: Tables) -> str:
    return str(tables["attribution"]["quantity"].iloc[0])


def _effect_label(quantity: str) -> str:
    if quantity not in MEASURES:
        return f"{quantity_label(quantity)}: difference"
    changed = "lost" if MEASURES[quantity].direction == "similarity" else "gained"
    return f"{quantity_label(quantity)} {changed} between arms"


def _attribution_caption(tables: Tables, quantity: str) -> str:
    effects = tables["attribution"]
    of_measure = (
        " It is how much less alike networks of different arms are than networks of the same arm."
        if quantity in MEASURES
        else ""
    )
    return (
        f"Difference in {quantity_label(quantity)} between a method and the reference (total), and between the method "
        f"and each control (beyond), by layer and step.{of_measure} Dots: different; equals signs: equivalent; "
        f"hatched: undecided, by bands that cover all {(effects['status'] == 'ok').sum()} differences at once with "
        "95 % confidence. Smallest difference of interest: "
        f"{effects.loc[effects['quantity'] == quantity, 'smallest'].iloc[0]:g}."
        f"{_UNMATCHED if unmatched_steps(tables['arms']) else ''}"
    )


_UNMATCHED = " Steps with ≠: the two arms differ in accuracy, which should be equal."


def _draw_attribution(tables: Tables, quantity: str) -> Figure:
    rows = without_controls_alone(tables["attribution"])
    return plot_attribution(
        rows[rows["quantity"] == quantity],
        contrast_titles(tables),
        label=_effect_label(quantity),
        unmatched=unmatched_steps(tables["arms"]),
    )


def _attribution_figure(quantity: str) -> ComparisonFigure:
    """Return the figure of a quantity that is no measure; that of the first quantity is ``"attribution"``."""
    return ComparisonFigure(
        heading=f"What the methods changed: {quantity_label(quantity)}",
        table="attribution",
        caption=partial(_attribution_caption, quantity=quantity),
        draw=partial(_draw_attribution, quantity=quantity),
        is_possible=lambda tables: quantity in set(tables["attribution"]["quantity"]) - {_first(tables)},
        leads=True,
    )


def _first(tables: Tables) -> str:
    return _first_quantity(tables) if _has_arms(tables) else ""


def _effects_caption(tables: Tables) -> str:
    return (
        f"The same differences at {tables['attribution']['at'].iloc[-1]}, with their bands; the grey range is smaller "
        "than the smallest difference of interest."
    )


def _draw_effects(tables: Tables) -> Figure:
    rows, quantity = without_controls_alone(tables["attribution"]), _first_quantity(tables)
    rows = rows[(rows["quantity"] == quantity) & (rows["at"] == rows["at"].iloc[-1])]
    titles = contrast_titles(tables, at=rows["at"].iloc[-1])
    return plot_effects_by_layer(rows, titles, label=_effect_label(quantity), smallest=float(rows["smallest"].iloc[0]))


FIGURES: dict[str, ComparisonFigure] = {
    "attribution": ComparisonFigure(
        heading="What the methods changed",
        table="attribution",
        caption=lambda tables: _attribution_caption(tables, _first_quantity(tables)),
        draw=lambda tables: _draw_attribution(tables, _first_quantity(tables)),
        is_possible=_has_arms,
        leads=True,
    ),
    **{
        f"attribution_{quantity}": _attribution_figure(quantity)
        for quantity in ("class_structure", "accuracy", "log_dimension")
    },
    "attribution_by_layer": ComparisonFigure(
        heading="What the methods changed, with bands",
        table="attribution",
        caption=_effects_caption,
        draw=_draw_effects,
        is_possible=_has_arms,
    ),
    "probe_accuracy": ComparisonFigure(
        heading="Linear probes by layer", table="probes", caption=_probe_caption, draw=_draw_probes
    ),
    "probe_differences": ComparisonFigure(
        heading="Difference between probes",
        table="probe_differences",
        caption=_differences_caption,
        draw=_draw_differences,
        is_possible=lambda tables: len(_of_label(tables, "probe_differences")) > 0,
    ),
    "probe_targets": ComparisonFigure(
        heading="Linear probes of other targets by layer",
        table="probes",
        caption=_targets_caption,
        draw=_draw_targets,
        is_possible=lambda tables: bool(_other_targets(tables)),
    ),
    "rdm_grid": ComparisonFigure(
        heading="Representational dissimilarity", table="rdm", caption=_rdm_caption, draw=_draw_rdms
    ),
    "similarity_by_step": ComparisonFigure(
        heading="Similarity to the reference at the same step",
        table="similarity",
        caption=_by_step_caption,
        draw=_draw_by_step,
        is_possible=lambda tables: is_over_steps(tables.views),
        leads=True,
    ),
    "similarity": ComparisonFigure(
        heading="Similarity between layers",
        table="similarity",
        caption=_similarity_caption,
        draw=_draw_similarity,
        file_name=_first_measure,
    ),
    "class_structure": ComparisonFigure(
        heading="Class structure by layer",
        table="class_structure",
        caption=lambda tables: (
            "Mean distance between stimuli of different classes minus mean distance within a class." + _panels(tables)
        ),
        draw=_draw_class_structure,
    ),
    "layer_quantities": ComparisonFigure(
        heading="Weights and dimension by layer",
        table="layer_quantities",
        caption=lambda tables: (
            "Frobenius norm of each layer's weights, effective dimension of its activations (participation ratio), and "
            f"its {quantity_label(_first_measure(tables))} with the last layer of the same network.{_panels(tables)}"
        ),
        draw=_draw_quantities,
    ),
    "training": ComparisonFigure(
        heading="Training",
        table="training",
        caption=lambda _: (
            "Loss (left) and accuracy (right) over epochs: means over the epoch's batches (solid) and on the "
            "validation part at its end (dashed)."
        ),
        draw=_draw_training,
        is_possible=lambda tables: {"validation_loss", "validation_accuracy"} <= set(tables["training"]),
    ),
    "alignment": ComparisonFigure(
        heading="Alignment with the true gradient",
        table="gradients",
        caption=lambda _: (
            "Angle between the gradient that the rule chose and the true one, over a batch: by boundary, at the last "
            "diagnosed step (left), and over training, the mean of the boundaries where it acts (right). Backprop's is "
            "0; at 90 degrees (dotted) a small step along it leaves the loss as it is."
        ),
        draw=_draw_alignment,
        is_possible=lambda tables: bool(tables["gradients"]["angle"].max() > _VISIBLE_ANGLE),
    ),
    "signals": ComparisonFigure(
        heading="Teaching signals",
        table="signals",
        caption=_signals_caption,
        draw=_draw_signals,
        is_possible=lambda tables: bool(tables["signals"][list(_SIGNALS)].notna().any(axis=None)),
    ),
}

add_installed(KINDS["figures"])
