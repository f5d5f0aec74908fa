"""The registry ``FIGURES``, and the drawing of those figures that the tables of a comparison allow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

from analysis.comparison.figures.arm_figures import ARM_FIGURES
from analysis.comparison.figures.comparison_figure import ComparisonFigure
from analysis.comparison.figures.curve_figures import CURVE_FIGURES
from analysis.comparison.figures.matrix_figures import MATRIX_FIGURES
from analysis.comparison.figures.probe_figures import PROBE_FIGURES
from analysis.comparison.tables.result_tables import Tables
from analysis.config.figure_style import FigureConfig
from analysis.own_parts.registries import KINDS
from analysis.plots.drawing import Drawing, keep_layout
from repsim.registration import add_installed
from repsim.similarity.drawing.paper import paper_style

__all__ = ["FIGURES", "draw_figures", "possible_figures"]

_USUAL = FigureConfig()

FIGURES: dict[str, ComparisonFigure] = {**ARM_FIGURES, **PROBE_FIGURES, **MATRIX_FIGURES, **CURVE_FIGURES}


def draw_figures(tables: Tables, name: str | None = None, *, config: FigureConfig = _USUAL) -> Iterator[Drawing]:
    """Yield the figures that the tables allow, in the order of ``FIGURES``, or only the one of a file name."""
    for file_name, figure in possible_figures(tables).items():
        if name in (None, file_name):
            yield _drawn(tables, file_name, figure, config)


def _drawn(tables: Tables, name: str, figure: ComparisonFigure, config: FigureConfig) -> Drawing:
    shown = figure.singly if config.seeds and figure.singly is not None else figure
    with paper_style(config.width) if config.style == "paper" else nullcontext():
        drawn, caption = shown.draw(tables), shown.caption(tables)
        if config.style == "paper":
            keep_layout(drawn)  # with the fonts of the style
    return Drawing(name, shown.heading, caption, drawn, shown.table, shown.leads)


def possible_figures(tables: Tables) -> dict[str, ComparisonFigure]:
    """Return the figures that the tables allow, by file name."""
    possible = {key: figure for key, figure in FIGURES.items() if figure.is_possible(tables)}
    return {figure.file_name(tables) if figure.file_name else key: figure for key, figure in possible.items()}


add_installed(KINDS["figures"])
