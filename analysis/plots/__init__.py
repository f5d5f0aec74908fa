"""Plots: a table or a matrix in, matplotlib Axes out; nothing here computes or saves."""

from analysis.plots.curves import (
    angles_over,
    plot_alignment,
    plot_by_layer,
    plot_by_layer_and_step,
    plot_training,
    shown_steps,
)
from analysis.plots.lines import noted, plot_lines, write_note
from analysis.plots.rdms import plot_rdm, plot_rdm_grid
from analysis.plots.signals import plot_signals
from analysis.plots.similarity import plot_similarity, plot_similarity_by_step, plot_similarity_grid

__all__ = [
    "angles_over",
    "noted",
    "plot_alignment",
    "plot_by_layer",
    "plot_by_layer_and_step",
    "plot_lines",
    "plot_rdm",
    "plot_rdm_grid",
    "plot_signals",
    "plot_similarity",
    "plot_similarity_by_step",
    "plot_similarity_grid",
    "plot_training",
    "shown_steps",
    "write_note",
]
