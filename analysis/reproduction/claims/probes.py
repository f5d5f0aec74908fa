"""E5: what a linear reader gets out of each layer, with synthetic gradients and without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.plots import noted, plot_lines
from analysis.plots.axes import axes_grid
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Experiment, Part, Plan, Results, Section, Tables
from analysis.reproduction.networks import Recipe
from analysis.reproduction.representations import (
    BACKPROP,
    FRACTIONS,
    METHODS,
    SYNTHETIC,
    network_parts,
    networks_setting,
    recipe_of,
    view_of,
)
from analysis.reproduction.summary import listed, seed_intervals
from probes import NetworkLayers, first_layer_reaching, probe_layers, seed_bands, seed_differences

__all__ = ["PROBES"]

_SHARE = 1 / 3  # of the layers that have to differ for the claim to hold
_READABLE = 0.9


def _parts(plan: Plan) -> list[Part]:
    probes = [
        Part(
            name=f"{name}-seed-{seed}",
            work=_probe,
            settings=recipe_of(plan, name, seed).to_dict(),
            cost=12.0,
            group="probes",
            stage=1,
        )
        for name in METHODS
        for seed in plan.seeds
    ]
    return [*network_parts(plan), *probes]


def _probe(folder: Path, **settings: Any) -> Tables:
    """Probe all layers of a network at all its recorded steps."""
    recipe = Recipe.from_dict(settings)
    views = {fraction: view_of(folder, recipe, fraction) for fraction in FRACTIONS}
    stimuli = views[1.0].run.stimuli
    recordings = [
        NetworkLayers(layers=view.activations, network=METHODS[recipe.name], seed=recipe.seed, checkpoint=view.step)
        for view in views.values()
    ]
    table = probe_layers(recordings, stimuli.labels, stimuli.split, ids=stimuli.ids)
    fractions = {view.step: fraction for fraction, view in views.items()}
    table = table.assign(fraction=table["checkpoint"].map(fractions), depth=table["layer_index"] + 1)
    return {"probes": table.rename(columns={"network": "method"})}


def _conclude(results: Results) -> Section:
    plan, every = results.plan, results["probes"]
    final = every[every["fraction"] == 1.0]
    depths = final.drop_duplicates("layer").set_index("layer")["depth"]
    bands = seed_bands(final)
    bands["depth"] = bands["layer"].map(depths)
    differences = seed_differences(final, reference=METHODS[BACKPROP])
    differences["depth"] = differences["layer"].map(depths)
    differences["differs"] = (differences["band_low"] > 0) | (differences["band_high"] < 0)
    first = first_layer_reaching(final, _READABLE)
    held = [_rows(differences, name)["differs"].mean() >= _SHARE for name in SYNTHETIC]
    n_test, chance = int(final["n_test"].iloc[0]), float(final["chance"].iloc[0])
    note = f"Seeds {listed(plan.seeds)}; n = {n_test} held-out digits; chance {chance:.2f}."
    return Section(
        setting=f"{networks_setting(plan)} Seeds {listed(plan.seeds)}. A logistic regression with L2 "
        f"penalty reads the class from each layer: fitted on {int(final['n_train'].iloc[0])} digits, its penalty "
        f"chosen on validation digits, scored on {n_test} held-out ones. Differences are within pairs of equal "
        "seeds; their bands cover all 20 layers at once with 95 % confidence, from the spread over seeds. "
        "For the claim to hold in full a third of the layers have to differ, for both methods.",
        verdict="holds" if all(held) else "holds in part" if any(held) else "does not hold",
        findings=[*_differing(differences), *_first_layers(first)],
        drawings=list(_drawings(every, bands, differences, note)),
        tables={"probes": every, "bands": bands, "differences": differences, "first_layers": first},
        shown={"First layer whose probe reaches nine tenths of the last layer's accuracy": _first_table(first)},
    )


def _rows(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table[table["method"] == METHODS[name]]


def _differing(differences: pd.DataFrame) -> Iterator[str]:
    for name in SYNTHETIC:
        rows = _rows(differences, name)
        most = rows.iloc[int(rows["difference"].abs().argmax())]
        yield (
            f"Probes of {METHODS[name]} differ from backprop's in {rows['differs'].sum()} of {len(rows)} layers (95 % "
            f"bands over all layers without zero), most at {most['layer']}: {most['difference']:+.3f} "
            f"({most['band_low']:+.3f} to {most['band_high']:+.3f})."
        )


def _first_layers(first: pd.DataFrame) -> Iterator[str]:
    means = first.groupby("method", sort=False)["depth"].mean()
    parts = ", ".join(f"layer {depth:.1f} in {method}" for method, depth in means.items())
    yield f"Nine tenths of the last layer's accuracy are first read at {parts} (means over seeds)."


def _first_table(first: pd.DataFrame) -> pd.DataFrame:
    wide = first.pivot(index="method", columns="seed", values="depth").loc[list(METHODS.values())]
    return wide.rename(columns=lambda seed: f"seed {seed}").reset_index().rename_axis(columns=None)


def _drawings(every: pd.DataFrame, bands: pd.DataFrame, differences: pd.DataFrame, note: str) -> Iterator[Drawing]:
    yield Drawing(
        "probe_accuracy",
        "Probe accuracy by layer",
        "Test accuracy of a linear classifier of each layer's activations at the end of training; means over seeds, "
        "with bands that cover all layers of a method at once with 95 % confidence.",
        _accuracy_figure(bands, differences, note),
    )
    yield Drawing(
        "probe_accuracy_over_training",
        "Probe accuracy over training",
        "The same at fractions of each method's training; means over seeds with 95 % intervals.",
        _training_figure(every, note),
    )


def _accuracy_figure(bands: pd.DataFrame, differences: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, 2, 10.0, 4.0)
    methods = list(METHODS.values())
    clipped = bands.assign(low=bands["band_low"].clip(0, 1), high=bands["band_high"].clip(0, 1))
    _plot(clipped, "mean", "probe accuracy on test", ("low", "high"), methods, grid[0][0])
    words = "probe accuracy less backprop's"
    _plot(differences, "difference", words, ("band_low", "band_high"), methods, grid[0][1])
    grid[0][1].axhline(0.0, color="0.4", linestyle=":", linewidth=1)
    return noted(grid[0][0], note)


def _training_figure(every: pd.DataFrame, note: str) -> Figure:
    table = seed_intervals(every, ["fraction", "method", "depth"], "accuracy")
    n_rows = -(-len(FRACTIONS) // 3)
    grid = axes_grid(n_rows, 3, 11.0, 3.2 * n_rows)
    for place, (ax, fraction) in enumerate(zip(grid.ravel(), FRACTIONS, strict=False)):
        rows = table[table["fraction"] == fraction]
        words = "probe accuracy on test" if place % 3 == 0 else ""
        _plot(rows, "mean", words, ("low", "high"), list(METHODS.values()), ax, legend=place == 0)
        ax.set_title("before training" if fraction == 0 else f"{100 * fraction:g} % of training", fontsize=10)
        ax.set_ylim(0, 1.02)
    return noted(grid[0][0], note)


def _plot(
    table: pd.DataFrame,
    value: str,
    ylabel: str,
    band: tuple[str, str],
    among: Sequence[str],
    ax: Any,
    legend: bool = True,
) -> None:
    plot_lines(
        table,
        "depth",
        value,
        curve="method",
        xlabel="hidden layer",
        ylabel=ylabel,
        band=band,
        among=among,
        legend=legend,
        ax=ax,
    )
    ax.set_xticks([1, 5, 10, 15, 20])


PROBES = Experiment(
    name="probes",
    title="Linear probes by layer",
    claim="[S] The drastically different layer-wise representations are seen in linear classifier probes (Alain and "
    "Bengio 2016) over the layers of the same networks.",
    parts=_parts,
    conclude=_conclude,
)
