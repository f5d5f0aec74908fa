"""Charts of the report that draw a column of a table by layer, each in a section of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.comparison.tables.result_tables import Tables
from analysis.own_parts.registries import KINDS
from repsim.registration import add_installed

__all__ = ["CHARTS", "LayerChart", "possible_charts"]


@dataclass(frozen=True, kw_only=True)
class LayerChart:
    """A chart with one curve per view over its layers.

    Attributes
    ----------
    heading : str
        Heading of the section and of saved pictures.
    link : str
        The words of the link to the section.
    table : str
        A table with columns ``view``, ``layer``, ``depth`` and ``value``; without rows there is no chart.
    value : str
        The column that is drawn.
    ylabel : str
        Label of the y-axis, with the unit.
    words : callable (tables) -> str
        Describes the values above the chart.
    """

    heading: str
    link: str
    table: str
    value: str
    ylabel: str
    words: Callable[[Tables], str]


CHARTS: dict[str, LayerChart] = {
    "structure": LayerChart(
        heading="Class structure by layer",
        link="Class structure",
        table="class_structure",
        value="class_structure",
        ylabel="between minus within class distance",
        words=lambda tables: (
            f"Mean {tables.config.distance} distance between stimuli of different classes minus the mean within a "
            f"class, over all pairs of {tables.n_test} held-out stimuli."
        ),
    ),
}

add_installed(KINDS["charts"])


def possible_charts(tables: Tables) -> dict[str, LayerChart]:
    """Return the charts whose tables have rows, by the names of their sections."""
    return {name: chart for name, chart in CHARTS.items() if len(tables[chart.table])}
