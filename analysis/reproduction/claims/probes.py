"""Claim: synthetic gradients change what linear classifiers read from the layers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.execution import Task
from analysis.plots import noted
from analysis.plots.axes import axes_grid
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Claim, Frames, Plan, Results, Section, claim_task, verdict_of
from analysis.reproduction.kit import deep_networks as deep
from analysis.reproduction.kit.numbers import listed, rows_of, seed_intervals
from analysis.reproduction.kit.panels import INTERVAL, dotted, label, plot_means
from analysis.reproduction.kit.recipe import Recipe
from probes import NetworkLayers, first_layer_reaching, probe_layers, seed_bands

__all__ = ["CLAIM"]

_READABLE = 0.9  # of the accuracy of the last layer


def _parts(plan: Plan) -> list[Task]:
    trained = deep.network_tasks(plan)
    probes = [
        claim_task(f"probes-{recipe.name}-seed-{recipe.seed}", _probe, cost=12.0, after=[task], recipe=recipe)
        for recipe, task in trained.items()
        if deep.method_of(recipe) != deep.OTHERS
    ]
    return [*trained.values(), *probes]


def _probe(folder: Path, *, recipe: Recipe) -> Frames:
    """Return ``probes``: the accuracy of probes of all layers of a network at all its recorded steps."""
    views = {fraction: deep.view_of(folder, recipe, fraction) for fraction in deep.FRACTIONS}
    stimuli = views[1.0].run.stimuli
    recordings = [
        NetworkLayers(
            layers=view.activations, network=deep.METHODS[recipe.name], seed=recipe.seed, checkpoint=view.step
        )
        for view in views.values()
    ]
    table = probe_layers(recordings, stimuli)
    fractions = {view.step: fraction for fraction, view in views.items()}
    table = table.assign(fraction=table["checkpoint"].map(fractions), depth=table["layer_index"] + 1)
    return {"probes": table.rename(columns={"network": "method"})}


def _conclude(results: Results) -> Section:
    every = results["probes"]
    final = rows_of(every, fraction=1.0)
    depths = final.drop_duplicates("layer").set_index("layer")["depth"]
    bands = seed_bands(final)
    bands["depth"] = bands["layer"].map(depths)
    differences = deep.backprop_differences(final, "accuracy")
    differences.insert(len(differences.columns) - 1, "depth", differences["layer"].map(depths))
    first = first_layer_reaching(final, _READABLE)
    return Section(
        setting=_setting(results.plan, final),
        verdict=verdict_of(
            rows_of(differences, method=deep.METHODS[name])["differs"].mean() >= deep.SHARE for name in deep.SYNTHETIC
        ),
        findings=[*_findings(differences), _first_layers(first)],
        tables={"probes": every, "bands": bands, "differences": differences, "first_layers": first},
        shown={"First layer whose probe reaches 90 % of the last layer's accuracy": _first_table(first)},
    )


def _setting(plan: Plan, final: pd.DataFrame) -> str:
    n_train, n_test = int(final["n_train"].iloc[0]), int(final["n_test"].iloc[0])
    return (
        f"{deep.networks_setting(plan)} Seeds {listed(plan.seeds)}. Each probe is a logistic regression with an L2 "
        f"penalty, fitted on {n_train} digits; the penalty is chosen on validation digits, and accuracy is measured on "
        f"{n_test} held-out digits. Differences are taken within pairs of equal seeds; their bands are estimated "
        "from the spread over seeds and cover all 20 layers at once with 95 % confidence. For the claim to hold in "
        "full, a third of the layers have to differ, for both methods."
    )


def _findings(differences: pd.DataFrame) -> Iterator[str]:
    counts = deep.count_layers(differences, "method")
    for method in (deep.METHODS[name] for name in deep.SYNTHETIC):
        rows = rows_of(differences, method=method)
        most = rows.iloc[int(rows["difference"].abs().argmax())]
        yield (
            f"Probes of {method} differ from backprop's in {counts[method]} (95 % bands over all layers exclude "
            f"zero), most at {most['layer']}: {most['difference']:+.3f} ({most['band_low']:+.3f} to "
            f"{most['band_high']:+.3f})."
        )


def _first_layers(first: pd.DataFrame) -> str:
    means = first.groupby("method", sort=False)["depth"].mean()
    layers = ", ".join(f"layer {depth:.1f} in {method}" for method, depth in means.items())
    return f"Probes first reach 90 % of the accuracy of the last layer at {layers} (means over seeds)."


def _first_table(first: pd.DataFrame) -> pd.DataFrame:
    wide = first.pivot(index="method", columns="seed", values="depth").loc[list(deep.METHODS.values())]
    return wide.rename(columns=lambda seed: f"seed {seed}").reset_index().rename_axis(columns=None)


def _figures(results: Results, section: Section) -> Iterator[Drawing]:
    every = section.tables["probes"]
    final = rows_of(every, fraction=1.0)
    n_test, chance = int(final["n_test"].iloc[0]), float(final["chance"].iloc[0])
    note = f"Seeds {listed(results.plan.seeds)}; n = {n_test} held-out digits; chance {chance:.2f}."
    yield Drawing(
        "probe_accuracy",
        "Probe accuracy by layer",
        "Test accuracy of a linear classifier of each layer's activations at the end of training; means over seeds, "
        "with bands that cover all layers of a method at once with 95 % confidence.",
        _accuracy_figure(section.tables["bands"], section.tables["differences"], note),
    )
    yield Drawing(
        "probe_accuracy_over_training",
        "Probe accuracy over training",
        "The same at fractions of each method's training; means over seeds with 95 % intervals.",
        _training_figure(every, note),
    )


def _accuracy_figure(bands: pd.DataFrame, differences: pd.DataFrame, note: str) -> Figure:
    left, right = axes_grid(1, 2, 10.0, 4.0)[0]
    clipped = bands.assign(low=bands["band_low"].clip(0, 1), high=bands["band_high"].clip(0, 1))
    _plot(left, clipped, "probe accuracy on test")
    columns = ("difference", "band_low", "band_high")
    _plot(right, differences, "probe accuracy minus backprop's", columns=columns)
    dotted(right, y=0.0)
    return noted(left, note)


def _training_figure(every: pd.DataFrame, note: str) -> Figure:
    table = seed_intervals(every, ["fraction", "method", "depth"], "accuracy")
    panels = deep.fraction_panels()
    for place, (ax, fraction) in enumerate(panels):
        ylabel = "probe accuracy on test" if place % 3 == 0 else ""
        _plot(ax, rows_of(table, fraction=fraction), ylabel, legend=place == 0)
        ax.set_ylim(0, 1.02)
    return noted(panels[0][0], note)


def _plot(
    ax: Axes, table: pd.DataFrame, ylabel: str, *, columns: tuple[str, str, str] = INTERVAL, legend: bool = True
) -> None:
    plot_means(ax, table, "depth", columns=columns, among=list(deep.METHODS.values()), legend=legend)
    label(ax, xlabel="hidden layer", ylabel=ylabel)
    deep.number_layers(ax)


CLAIM = Claim(
    name="probes",
    title="Linear probes by layer",
    statement="[S] The drastically different layer-wise representations are seen in linear classifier probes (Alain "
    "and Bengio 2016) over the layers of the same networks.",
    parts=_parts,
    conclude=_conclude,
    figures=_figures,
)
