"""Figures of matrices: dissimilarities of stimuli, and similarities of layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial.distance import squareform

from analysis.comparison.equal_steps import (
    is_over_steps,
    similarity_at_equal_steps,
    twins_of,
    views_at_last_step,
)
from analysis.comparison.figures.comparison_figure import ComparisonFigure
from analysis.comparison.figures.seed_curves import is_of_steps, n_seeds, over_seeds
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.view import View
from analysis.plots import plot_rdm_grid, plot_similarity_by_step, plot_similarity_grid
from analysis.plots.axes import fitting
from analysis.plots.similarity import MOST_PAIRED
from repsim.similarity import MEASURES
from repsim.similarity.drawing.labels import shorten

__all__ = ["MATRIX_FIGURES"]

_MOST_RDM_COLUMNS = 10
_MOST_NETWORKS = 8
_RDM_WIDTH, _PAIR_WIDTH = 1.05, 1.35  # inches of a matrix in the style for papers


def _chosen(tables: Tables, most: int, *, seeds: bool) -> list[View]:
    """Return the views of a grid: those of the last step, the first seed of each method, evenly chosen if too many.

    With ``seeds``, and if all networks are of one method, every network counts.
    """
    views = views_at_last_step(tables.views) if is_over_steps(tables.views) else list(tables.views)
    methods = tables.methods
    if not seeds and len(n_seeds(tables)) > 1:
        views = list({methods[view.label]: view for view in reversed(views)}.values())[::-1]
        order = [view.label for view in tables.views]
        views.sort(key=lambda view: order.index(view.label))
    return [views[k] for k in _evenly(len(views), most)]


def _evenly(count: int, most: int) -> list[int]:
    """Choose numbers below a count at even distances, with the first and the last."""
    return [int(k) for k in np.linspace(0, count - 1, min(count, most)).round()]


def _left_out(tables: Tables, views: Sequence[View], n_layers: int = 0, *, seeds: bool) -> str:
    """Return the sentence of a caption that says which networks, steps and layers are not shown; none if all are."""
    parts = []
    every = {view.run.path for view in tables.views}
    if is_of_steps(tables) and len(views) < len(tables.views):
        parts.append(f"{len(views)} of {len(tables.views)} steps (evenly chosen)")
    if len(views) < len(every):
        first = not seeds and len(n_seeds(tables)) > 1 and max(n_seeds(tables).values()) > 1
        rule = "the first seed of each method" if first and len(views) == len(n_seeds(tables)) else "evenly chosen"
        parts.append(f"{len(views)} of {len(every)} networks ({rule})")
    deepest = max(len(view.listed) for view in views)
    if 0 < n_layers < deepest:
        parts.append(f"{n_layers} of {deepest} layers (at even distances, with the first and the last)")
    return f" Shown: {' and '.join(parts)}; the tables and the file of RDMs hold all." if parts else ""


def _rdm_views(tables: Tables, *, seeds: bool) -> list[View]:
    return _chosen(tables, _MOST_NETWORKS, seeds=seeds)


def _rdm_columns() -> int:
    return fitting(_MOST_RDM_COLUMNS, _RDM_WIDTH)


def _rdm_caption(tables: Tables, *, seeds: bool) -> str:
    return (
        f"{tables.config.distance.capitalize()} distance between the activations of {tables.n_test} held-out stimuli "
        f"ordered by class{_at(tables)}, on one colour scale; darker is more alike. Blocks on the diagonal are classes."
        f"{_left_out(tables, _rdm_views(tables, seeds=seeds), _rdm_columns(), seeds=seeds)}"
    )


def _draw_rdms(tables: Tables, *, seeds: bool) -> Figure:
    first = tables.views[0]
    places = {view.label: index for index, view in enumerate(tables.views)}
    rdms = {}
    for view in _rdm_views(tables, seeds=seeds):
        layers = list(view.listed)
        shown = [layers[k] for k in _evenly(len(layers), _rdm_columns())]
        rdms[view.label] = {layer: tables.rdm(places[view.label], layer) for layer in shown}
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


def _first_measure(tables: Tables) -> str:
    return tables.config.measures[0]


def _measure_label(tables: Tables) -> str:
    label = MEASURES[_first_measure(tables)].label
    return f"{label[:1].upper()}{label[1:]}"


def _pair_views(tables: Tables, *, seeds: bool) -> list[View]:
    return _chosen(tables, fitting(_MOST_NETWORKS, _PAIR_WIDTH), seeds=seeds)


def _similarity_caption(tables: Tables, *, seeds: bool) -> str:
    unbiased = " The estimator is unbiased: independent representations give 0 on average, equal ones 1."
    views = _pair_views(tables, seeds=seeds)
    return (
        f"{_measure_label(tables)} between every layer {_one_and_another(tables)}{_at(tables)}, "
        f"{tables.n_test} held-out stimuli.{unbiased if _first_measure(tables) == 'cka' else ''}"
        f"{_first_rows(tables) if len(views) > MOST_PAIRED else ''}"
        f"{_left_out(tables, views, seeds=seeds)}"
    )


def _one_and_another(tables: Tables) -> str:
    return (
        "at one step (rows) and at another (columns)"
        if is_of_steps(tables)
        else ("of one network (rows) and of another (columns)")
    )


def _first_rows(tables: Tables) -> str:
    return f" Rows are the layers {'at the first step' if is_of_steps(tables) else 'of the first network'}."


def _at(tables: Tables) -> str:
    return f" at step {views_at_last_step(tables.views)[0].step}" if is_over_steps(tables.views) else ""


def _draw_similarity(tables: Tables, *, seeds: bool) -> Figure:
    table, shown = tables["similarity"], [view.label for view in _pair_views(tables, seeds=seeds)]
    table = table[table["view_a"].isin(shown) & table["view_b"].isin(shown)]
    return plot_similarity_grid(table, _first_measure(tables), name=_measure_label(tables))


def _networks_by_step(tables: Tables, *, seeds: bool) -> list[str]:
    """Return the networks other than the reference that have a panel: by default the first seed of each method."""
    methods = tables.methods
    others = [view for view in tables.views if view.run.path != tables.views[0].run.path]
    networks = {view.network: methods[view.label] for view in others}
    if not seeds and len(set(networks.values())) > 1:
        networks = {network: method for method, network in {m: n for n, m in reversed(networks.items())}.items()}
        networks = dict(sorted(networks.items(), key=lambda item: [view.network for view in others].index(item[0])))
    names = list(networks)
    return [names[k] for k in _evenly(len(names), _MOST_NETWORKS)]


def _by_step_caption(tables: Tables, *, seeds: bool) -> str:
    n_shown, n_all = len(_networks_by_step(tables, seeds=seeds)), len({view.run.path for view in tables.views}) - 1
    rule = " (the first seed of each method)" if not seeds and len(n_seeds(tables)) > 1 else " (evenly chosen)"
    shown = f" Shown: {n_shown} of {n_all} networks{rule}; the table holds all." if n_shown < n_all else ""
    fork = " A dashed line marks the step of the fork." if twins_of(tables.views) else ""
    return (
        f"{_measure_label(tables)} between each layer and the same layer of {tables.views[0].network} at the same "
        f"step, {tables.n_test} held-out stimuli. The colour scale begins at the value of equal layers.{fork}"
        f"{shown}"
    )


def _draw_by_step(tables: Tables, *, seeds: bool) -> Figure:
    is_similarity = MEASURES[_first_measure(tables)].direction == "similarity"
    table = similarity_at_equal_steps(tables)
    return plot_similarity_by_step(
        table[table["network"].isin(_networks_by_step(tables, seeds=seeds))],
        name=f"{_measure_label(tables)} with {shorten([tables.views[0].network])[0]}",
        most_alike=1.0 if is_similarity else 0.0,
        forked={name: twins.step for name, twins in twins_of(tables.views).items()},
    )


def _rdm_figure(seeds: bool) -> ComparisonFigure:
    return ComparisonFigure(
        heading="Representational dissimilarity",
        table="rdm",
        caption=partial(_rdm_caption, seeds=seeds),
        draw=partial(_draw_rdms, seeds=seeds),
    )


def _by_step_figure(seeds: bool) -> ComparisonFigure:
    return ComparisonFigure(
        heading="Similarity to the reference at the same step",
        table="similarity",
        caption=partial(_by_step_caption, seeds=seeds),
        draw=partial(_draw_by_step, seeds=seeds),
        is_possible=lambda tables: is_over_steps(tables.views),
        leads=True,
    )


def _similarity_figure(seeds: bool) -> ComparisonFigure:
    return ComparisonFigure(
        heading="Similarity between layers",
        table="similarity",
        caption=partial(_similarity_caption, seeds=seeds),
        draw=partial(_draw_similarity, seeds=seeds),
        file_name=_first_measure,
    )


MATRIX_FIGURES: dict[str, ComparisonFigure] = {
    "rdm_grid": over_seeds(_rdm_figure),
    "similarity_by_step": over_seeds(_by_step_figure),
    "similarity": over_seeds(_similarity_figure),
}
