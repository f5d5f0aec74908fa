"""Figures of arms: what the methods changed, by layer and step."""

from __future__ import annotations

from functools import partial

from matplotlib.figure import Figure

from analysis.comparison.attribution.answer import (
    contrast_titles,
    quantity_label,
    unmatched_steps,
    without_controls_alone,
)
from analysis.comparison.figures.comparison_figure import ComparisonFigure
from analysis.comparison.figures.seed_curves import curve_styles
from analysis.comparison.tables.result_tables import Tables
from analysis.plots.attribution import plot_attribution, plot_effects_by_layer
from repsim.similarity import MEASURES

__all__ = ["ARM_FIGURES"]


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
    has_controls = (effects["control"].fillna("") != "").any()
    beyond = " (total), and between the method and each control (beyond)" if has_controls else ""
    return (
        f"Difference in {quantity_label(quantity)} between a method and the reference{beyond}, by layer and step."
        f"{of_measure} Dots: different; equals signs: equivalent; "
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
    smallest, among = float(rows["smallest"].iloc[0]), curve_styles(tables)
    return plot_effects_by_layer(rows, titles, label=_effect_label(quantity), smallest=smallest, among=among)


ARM_FIGURES: dict[str, ComparisonFigure] = {
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
}
