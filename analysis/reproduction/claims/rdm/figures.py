"""Figures: RDMs, differences by layer and step in total and beyond each control, class structure, pairs of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from analysis.comparison.tables.layer_tables import similarity_table
from analysis.comparison.view import View
from analysis.plots import plot_rdm_grid, plot_similarity_grid, write_note
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Results, Section
from analysis.reproduction.claims.rdm.conclude import STRUCTURE
from analysis.reproduction.kit import deep_findings as findings
from analysis.reproduction.kit import deep_networks as deep
from repsim.similarity import pairwise, rdm

__all__ = ["figures"]

_SHOWN_LAYERS = (1, 3, 5, 8, 10, 12, 14, 16, 18, 20)
_SHOWN_ARMS = ("backprop", "sg-middle", "sg-every-boundary")


def figures(results: Results, section: Section) -> Iterator[Drawing]:
    """Yield the figures; those of single networks are drawn from the activations of the first seed."""
    views = _first_views(results)
    n_test, seed = len(views[0].rows("test")), results.plan.seeds[0]
    of_first = f"seed {seed}; n = {n_test} held-out digits"
    yield Drawing(
        "rdm_grid",
        "Dissimilarity by layer",
        f"Correlation distance between the activations of held-out digits ordered by label, networks of seed {seed}; "
        "blocks on the diagonal are classes. One colour scale; darker is more similar.",
        _rdm_grid(views, of_first),
    )
    for name, words in deep.MEASURES.items():
        yield findings.attribution_drawing(results, name, words, "mean within the two arms less that between them")
    yield findings.attribution_drawing(results, STRUCTURE, "class structure", "mean of the first arm less the second's")
    yield Drawing(
        "class_structure",
        "Class structure by layer",
        "Mean distance between digits of different classes minus mean distance within a class, at shares of "
        "each arm's training; means over networks with 95 % intervals, layer by layer.",
        findings.layer_panels(results, STRUCTURE, "between minus within class\ncorrelation distance"),
    )
    yield Drawing(
        "layers_by_layers",
        "Every layer with every layer",
        f"Unbiased linear CKA between all layers, networks of seed {seed}.",
        _layer_figure(views, of_first),
    )


def _first_views(results: Results) -> list[View]:
    """Return the trained networks of the first seed, of the reference and the methods."""
    seed = results.plan.seeds[0]
    return [deep.view_of(results.folder, deep.recipe_of(results.plan, name, seed)) for name in _SHOWN_ARMS]


def _rdm_grid(views: Sequence[View], note: str) -> Figure:
    rows = views[0].rows("test")
    labels = views[0].run.stimuli.labels[rows]
    rdms: Mapping[str, Mapping[str, Any]] = {
        view.label: {
            layer: rdm(values[rows], method="correlation")
            for depth, (layer, values) in enumerate(view.activations.items(), start=1)
            if depth in _SHOWN_LAYERS
        }
        for view in views
    }
    figure = plot_rdm_grid(rdms, labels, views[0].classes)
    write_note(figure, note)
    return figure


def _layer_figure(views: Sequence[View], note: str) -> Figure:
    layers = {
        f"{view.label}: {name}": layer[view.rows("test")] for view in views for name, layer in view.activations.items()
    }
    figure = plot_similarity_grid(similarity_table(views, {"cka": pairwise(layers).values}))
    write_note(figure, note)
    return figure
