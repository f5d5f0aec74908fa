"""Figures of a comparison, by name in the registry ``FIGURES``: one module for each family."""

from analysis.comparison.figures.comparison_figure import ComparisonFigure, own_figure
from analysis.comparison.figures.figure_registry import FIGURES, draw_figures, possible_figures

__all__ = ["FIGURES", "ComparisonFigure", "draw_figures", "own_figure", "possible_figures"]
