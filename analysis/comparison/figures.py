"""The figures of an analysis: which plots, of which tables, with which captions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.comparison.tables import read_rdm
from analysis.plots import plot_alignment, plot_by_layer, plot_rdm_grid, plot_similarity_grid, plot_training
from analysis.plots.axes import axes_grid, figure_of, verbatim
from analysis.plots.drawing import Drawing
from repsim.similarity.drawing.labels import shorten

if TYPE_CHECKING:
    from analysis.comparison.result import Findings

__all__ = ["draw"]

_MOST_RDM_COLUMNS = 10
_SMALLEST_SPAN = 0.1
_VISIBLE_ANGLE = 0.1


def draw(findings: Findings) -> Iterator[Drawing]:
    """Yield the figures that the tables allow, the main ones first."""
    yield from _probe_drawings(findings)
    n_test = len(findings.views[0].rows("test"))
    yield Drawing(
        "rdm_grid",
        "Representational dissimilarity",
        f"{findings.distance.capitalize()} distance between the activations of {n_test} held-out stimuli ordered by "
        "class, on one colour scale; darker is more alike. Blocks on the diagonal are classes.",
        _rdm_grid(findings),
    )
    yield Drawing(
        findings.measures[0],
        "Similarity between layers",
        f"{_measure_in_words(findings)} between every layer of one network (rows) and of another (columns), {n_test} "
        f"held-out stimuli.{_RANGE_OF_CKA if findings.measures[0] == 'cka' else ''}",
        plot_similarity_grid(findings.similarity, findings.measures[0], name=_measure_in_words(findings)),
    )
    yield Drawing(
        "class_structure",
        "Class structure by layer",
        "Mean distance between stimuli of different classes minus mean distance within a class.",
        figure_of(
            plot_by_layer(findings.class_structure, "class_structure", ylabel="between minus within class distance")
        ),
    )
    if {"validation_loss", "validation_accuracy"} <= set(findings.training):
        yield Drawing(
            "training",
            "Training",
            "Loss (left) and accuracy (right) over epochs: means over the epoch's batches (solid) and on the "
            "validation part at its end (dashed).",
            _training_figure(findings),
        )
    if findings.gradients["angle"].max() > _VISIBLE_ANGLE:
        yield Drawing(
            "alignment",
            "Alignment with the true gradient",
            "Angle between the gradient that the rule chose and the true one, over a batch: by boundary, at the last "
            "diagnosed step (left), and over training, the mean of the boundaries where it acts (right). Backprop's is "
            "0; at 90 degrees (dotted) a small step along it leaves the loss as it is.",
            _alignment_figure(findings),
        )


_RANGE_OF_CKA = " Independent representations give 0 on average, equal ones 1."


def _measure_in_words(findings: Findings) -> str:
    name = findings.measures[0]
    return "Unbiased linear CKA" if name == "cka" else name.replace("_", " ").capitalize()


def _probe_drawings(findings: Findings) -> Iterator[Drawing]:
    n_test = len(findings.views[0].rows("test"))
    yield Drawing(
        "probe_accuracy",
        "Linear probes by layer",
        f"Test accuracy of a linear classifier fitted to each layer's activations; {n_test} held-out stimuli. "
        f"{_bands_in_words(findings)} Chance, always answering the most frequent class, is {_chance(findings):.3f} "
        "(dotted where it is in view).",
        figure_of(_plot_probes(findings)),
    )
    if len(findings.probe_differences):
        yield Drawing(
            "probe_differences",
            "Difference between probes",
            f"Test accuracy of probes less that of {findings.probes['method'].iloc[0]}, mean of pairs of networks of "
            "equal seed, with bands that cover all layers of a method at once with 95 % confidence.",
            figure_of(_plot_differences(findings)),
        )


def _plot_probes(findings: Findings) -> Axes:
    ylabel, most = "probe accuracy on test", findings.probe_bands["n_seeds"].max()
    if most > 1:
        ends = findings.probe_bands[["band_low", "band_high"]].clip(0.0, 1.0)
        table = findings.probe_bands.assign(low=ends["band_low"], high=ends["band_high"])
        ax = plot_by_layer(table, "mean", ylabel=ylabel, curve="method", band=("low", "high"))
    else:
        accuracy, n_test = findings.probes["accuracy"], findings.probes["n_test"]
        error = np.sqrt(accuracy * (1 - accuracy) / n_test)
        table = findings.probes.assign(low=accuracy - error, high=accuracy + error)
        ax = plot_by_layer(table, "accuracy", ylabel=ylabel, band=("low", "high"))
    low, high = ax.get_ylim()
    ax.axhline(_chance(findings), color="0.4", linestyle=":", linewidth=1)
    ax.set_ylim(min(low, high - _SMALLEST_SPAN), high)  # chance may be out of view; noise must not fill the figure
    return ax


def _bands_in_words(findings: Findings) -> str:
    seeds = findings.probe_bands.groupby("method", sort=False)["n_seeds"].max()
    if seeds.max() < 2:
        return "Bands are one standard error from the number of stimuli."
    counts = ", ".join(f"{name} {count}" for name, count in seeds.items())
    return (
        f"Means over networks of several seeds ({counts}). Bands cover all layers of a method at once with 95 % "
        "confidence, from the spread over seeds (the fewer, the wider); one seed has none."
    )


def _plot_differences(findings: Findings) -> Axes:
    ax = plot_by_layer(
        findings.probe_differences,
        "difference",
        ylabel=verbatim(f"probe accuracy less {shorten([str(findings.probes['method'].iloc[0])])[0]}'s"),
        curve="method",
        band=("band_low", "band_high"),
        among=list(findings.probes["method"].unique()),
    )
    ax.axhline(0.0, color="0.4", linestyle=":", linewidth=1)
    return ax


def _chance(findings: Findings) -> float:
    return float(findings.probes["chance"].iloc[0])


def _rdm_grid(findings: Findings) -> Figure:
    first = findings.views[0]
    rows = first.rows("test")
    rdms = {
        view.label: {layer: read_rdm(findings.rdm_path, index, layer) for layer in _spread(list(view.listed))}
        for index, view in enumerate(findings.views)
    }
    labels: NDArray[Any] = first.run.stimuli.labels[rows]
    return plot_rdm_grid(rdms, labels, first.classes, distance=f"{findings.distance} distance")


def _spread(layers: list[str]) -> list[str]:
    """Choose layers evenly, the first and the last among them."""
    count = min(len(layers), _MOST_RDM_COLUMNS)
    return [layers[i] for i in np.linspace(0, len(layers) - 1, count).round().astype(int)]


def _training_figure(findings: Findings) -> Figure:
    left, right = axes_grid(1, 2, 10.0, 3.8)[0]
    plot_training(findings.training, "loss", ylabel=_loss_label(findings), ax=left)
    plot_training(findings.training, "accuracy", ylabel="accuracy", legend=False, ax=right)
    left.set_yscale("log")
    return figure_of(left)


def _loss_label(findings: Findings) -> str:
    losses = {view.run.config.get("training", {}).get("loss", "log_loss") for view in findings.views}
    return "cross-entropy (nats)" if losses == {"log_loss"} else "loss"


def _alignment_figure(findings: Findings) -> Figure:
    left, right = axes_grid(1, 2, 10.0, 3.8)[0]
    plot_alignment(findings.gradients, "boundary", ax=left)
    plot_alignment(findings.gradients, "step", legend=False, ax=right)
    return figure_of(left)
