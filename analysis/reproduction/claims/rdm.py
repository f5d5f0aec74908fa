"""E4: dissimilarity matrices of the layers of deep networks, with synthetic gradients and without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.comparison.layer_tables import similarity_table
from analysis.comparison.view import View
from analysis.plots import noted, plot_lines, plot_rdm_grid, plot_similarity_grid, write_note
from analysis.plots.axes import axes_grid, colours
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Experiment, Part, Plan, Results, Section, Tables
from analysis.reproduction.networks import Recipe
from analysis.reproduction.representations import (
    BACKPROP,
    FRACTIONS,
    METHODS,
    OTHERS,
    SYNTHETIC,
    method_of,
    network_parts,
    networks_setting,
    recipe_of,
    recipes,
    view_of,
)
from analysis.reproduction.summary import listed, seed_intervals
from probes import seed_differences
from repsim.similarity import GroupTest, class_structure, compare_groups, compare_rdm_pairs, pairwise, rdm

__all__ = ["RDM"]

MEASURES = {"cka": "unbiased linear CKA", "rsa": "correlation of RDMs"}
ALPHA = 0.05
_SHARE = 1 / 3  # of the layers that have to differ for the claim to hold
_SHOWN_LAYERS = (1, 3, 5, 8, 10, 12, 14, 16, 18, 20)


def _parts(plan: Plan) -> list[Part]:
    comparisons = [
        Part(
            name=f"similarity-at-{100 * fraction:g}-percent",
            work=_compare,
            settings={"fraction": fraction, "networks": [recipe.to_dict() for recipe in recipes(plan)]},
            cost=20.0,
            group="rdm",
            stage=1,
        )
        for fraction in FRACTIONS
    ]
    return [*network_parts(plan), *comparisons]


def _compare(folder: Path, *, fraction: float, networks: Sequence[Mapping[str, Any]]) -> Tables:
    """Compare all networks, layer by layer, at a fraction of their training."""
    every = [Recipe.from_dict(each) for each in networks]
    views = {_name(recipe): view_of(folder, recipe, fraction) for recipe in every}
    first = next(iter(views.values()))
    rows, labels = first.rows("test"), first.run.stimuli.labels[first.rows("test")]
    pairs: list[dict[str, Any]] = []
    structures: list[dict[str, Any]] = []
    for depth, layer in enumerate(first.activations, start=1):
        place = {"fraction": fraction, "layer": layer, "depth": depth}
        values = {name: view.activations[layer][rows] for name, view in views.items()}
        rdms = {name: rdm(each, method="correlation") for name, each in values.items()}
        tables = {"cka": pairwise(values), "rsa": compare_rdm_pairs(rdms)}
        names = list(values)
        for i, j in zip(*np.triu_indices(len(names), 1), strict=True):
            measured = {measure: table.values[i, j] for measure, table in tables.items()}
            pairs.append({**place, "network_a": names[i], "network_b": names[j], **measured})
        for recipe, each in zip(every, rdms.values(), strict=True):
            structure = class_structure(each, labels)
            found = {"method": method_of(recipe), "seed": recipe.seed, "class_structure": structure}
            structures.append({**place, **found})
    return {"similarity": pd.DataFrame(pairs), "class_structure": pd.DataFrame(structures)}


def _name(recipe: Recipe) -> str:
    return f"{method_of(recipe)}/{recipe.seed}"


def _conclude(results: Results) -> Section:
    plan, similarity = results.plan, results["similarity"]
    tests = pd.concat([_tests(similarity, measure, fraction) for measure in MEASURES for fraction in FRACTIONS])
    final = tests[tests["fraction"] == 1.0]
    structure = seed_intervals(results["class_structure"], ["fraction", "method", "layer", "depth"], "class_structure")
    differences = _structure_differences(results["class_structure"])
    share = final.groupby(["measure", "method"], sort=False)["differs"].mean()
    of_synthetic = [share[measure, METHODS[name]] for measure in MEASURES for name in SYNTHETIC]
    held = [each >= _SHARE for each in of_synthetic]
    n_test = len(_first_views(results)[0].rows("test"))
    note = (
        f"Seeds {listed(plan.seeds)} of each method, and as many other networks trained by backprop; n = {n_test} "
        "held-out digits."
    )
    return Section(
        setting=_setting(results, n_test),
        verdict="holds" if all(held) else "holds in part" if any(held) else "does not hold",
        findings=[*_shares(final), *_blocks(structure, differences)],
        drawings=list(_drawings(results, tests, structure, note)),
        tables={
            "networks": results["networks"],
            "similarity": similarity,
            "tests": tests,
            "class_structure": results["class_structure"],
            "class_structure_over_seeds": structure,
            "class_structure_differences": differences,
        },
        shown={
            "Layers whose similarity to backprop is below the ceiling, corrected p < .05": _share_table(final),
            "Networks": _network_table(results["networks"]),
        },
    )


def _tests(similarity: pd.DataFrame, measure: str, fraction: float) -> pd.DataFrame:
    """Return for each method and layer whether it is further from backprop's other networks than these are apart."""
    rows = similarity[similarity["fraction"] == fraction]
    tables = []
    for method in METHODS.values():
        matrices, groups = _matrices(rows, measure, (method, OTHERS))
        test = compare_groups(matrices, groups, reference=OTHERS)
        tables.append(_test_table(test, rows, method).assign(measure=measure, fraction=fraction))
    return pd.concat(tables, ignore_index=True)


def _matrices(rows: pd.DataFrame, measure: str, methods: Sequence[str]) -> tuple[Any, list[str]]:
    """Return similarities (n_layers, n_networks, n_networks) of the networks of some methods, and their methods."""
    names = [
        name for name in pd.unique(rows[["network_a", "network_b"]].to_numpy().ravel()) if _method(name) in methods
    ]
    place = {name: i for i, name in enumerate(names)}
    kept = rows[rows["network_a"].isin(names) & rows["network_b"].isin(names)]
    depths = sorted(kept["depth"].unique())
    matrices = np.ones((len(depths), len(names), len(names)))
    a, b = kept["network_a"].map(place), kept["network_b"].map(place)
    layer = np.searchsorted(depths, kept["depth"])
    matrices[layer, a, b] = matrices[layer, b, a] = kept[measure]
    return matrices, [_method(name) for name in names]


def _method(key: str) -> str:
    return key.rpartition("/")[0]


def _test_table(test: GroupTest, rows: pd.DataFrame, method: str) -> pd.DataFrame:
    layers = rows.drop_duplicates("depth").sort_values("depth")
    names = {"method": method, "layer": layers["layer"].to_numpy(), "depth": layers["depth"].to_numpy()}
    table = test.frame(names).rename(columns={"within": "ceiling", "between": "similarity", "p_max": "p_corrected"})
    return table.assign(differs=table["p_corrected"] < ALPHA, p_least=test.p_least)


def _structure_differences(structure: pd.DataFrame) -> pd.DataFrame:
    """Return each method's class structure less backprop's at the end, in pairs of equal seeds, with bands."""
    final = structure[(structure["fraction"] == 1.0) & (structure["method"] != OTHERS)]
    table = seed_differences(final, reference=METHODS[BACKPROP], value="class_structure")
    return table.assign(differs=(table["band_low"] > 0) | (table["band_high"] < 0))


def _first_views(results: Results) -> list[View]:
    seed = results.plan.seeds[0]
    return [view_of(results.folder, recipe_of(results.plan, name, seed)) for name in METHODS]


def _setting(results: Results, n_test: int) -> str:
    plan, networks = results.plan, results["networks"]
    accuracies = networks.groupby("network", sort=False)["test_accuracy"].mean()
    reached = ", ".join(f"{METHODS[str(name)]} {value:.3f}" for name, value in accuracies.items())
    return (
        f"{networks_setting(plan)} Mean test accuracy: {reached}. RDMs hold correlation distances "
        f"between {n_test} held-out digits in the order of their labels. {len(plan.seeds)} seeds a method; the ceiling "
        "is the similarity among as many more backprop networks of other seeds, with which each method is "
        "compared layer by layer: all ways to call the networks one or the other are counted, and the largest "
        "standardised difference over layers corrects for looking at 20 (compare_groups). Backprop itself, with the "
        "plan's seeds, is the control of that test. For the claim to hold in full a third of the layers have to "
        "differ, by both measures and for both methods."
    )


def _shares(final: pd.DataFrame) -> Iterator[str]:
    parts = []
    for name in SYNTHETIC:
        rows = final[final["method"] == METHODS[name]]
        counts = rows.groupby("measure", sort=False)["differs"].agg(["sum", "size"])
        of_measures = [f"{each['sum']} of {each['size']} layers by {MEASURES[str(m)]}" for m, each in counts.iterrows()]
        parts.append(f"with {METHODS[name]} in {' and '.join(of_measures)}")
    yield (
        f"Networks are less similar to backprop's than those are to one another {'; '.join(parts)} (corrected p < "
        f"{ALPHA})."
    )
    for name in SYNTHETIC:
        rows = final[(final["method"] == METHODS[name]) & (final["measure"] == "cka")]
        least = rows.iloc[int((rows["similarity"] - rows["ceiling"]).argmin())]
        yield (
            f"{METHODS[name]} is furthest below the ceiling at {least['layer']}: CKA {least['similarity']:.2f}, "
            f"ceiling {least['ceiling']:.2f}."
        )
    control = final[final["method"] == METHODS[BACKPROP]]
    yield f"The control, backprop against backprop, differs in {control['differs'].sum()} of {len(control)} such tests."


def _blocks(structure: pd.DataFrame, differences: pd.DataFrame) -> Iterator[str]:
    """Say how the blocks of classes differ, and where they first are nine tenths as strong as in the last layer."""
    counts = differences.groupby("method", sort=False)["differs"].agg(["sum", "size"])
    parts = [f"{each['sum']} of {each['size']} layers with {method}" for method, each in counts.iterrows()]
    most = differences.iloc[int(differences["difference"].abs().argmax())]
    yield (
        f"The class structure of the RDMs differs from backprop's in {' and in '.join(parts)} (95 % bands over all "
        f"layers without zero), most with {most['method']} at {most['layer']}: {most['difference']:+.2f}."
    )
    parts = []
    for method, rows in structure[structure["fraction"] == 1.0].groupby("method", sort=False):
        if method == OTHERS:
            continue
        ordered = rows.sort_values("depth")
        first = int(ordered.loc[ordered["mean"] >= 0.9 * ordered["mean"].iloc[-1], "depth"].iloc[0])
        parts.append(f"layer {first} in {method} (to {ordered['mean'].iloc[-1]:.2f})")
    yield f"Mean class structure reaches nine tenths of its last layer's at {', '.join(parts)}."


def _share_table(final: pd.DataFrame) -> pd.DataFrame:
    counted = final.groupby(["method", "measure"], sort=False)
    table = counted.agg(
        layers=("differs", "sum"), of=("differs", "size"), smallest_p=("p_corrected", "min"), least_p=("p_least", "min")
    ).reset_index()
    return table.assign(measure=table["measure"].map(MEASURES)).round(4)


def _network_table(networks: pd.DataFrame) -> pd.DataFrame:
    table = networks.groupby("network", sort=False)
    columns = table.agg(
        networks=("seed", "size"), training=("train_accuracy", "mean"), test=("test_accuracy", "mean")
    ).reset_index()
    return columns.assign(network=columns["network"].map(METHODS)).round(3)


def _drawings(results: Results, tests: pd.DataFrame, structure: pd.DataFrame, note: str) -> Iterator[Drawing]:
    views = _first_views(results)
    yield Drawing(
        "rdm_grid",
        "Dissimilarity by layer",
        f"Correlation distance between the activations of held-out digits ordered by label, networks of seed "
        f"{results.plan.seeds[0]}; blocks on the diagonal are classes. One colour scale, darker is more alike.",
        _rdm_grid(views, f"seed {results.plan.seeds[0]}; n = {len(views[0].rows('test'))} held-out digits"),
    )
    yield Drawing(
        "similarity_to_backprop",
        "Similarity to backprop, layer by layer",
        "Mean similarity of the networks of each method to backprop networks of other seeds, at the end of training; "
        "the dotted line is the ceiling, the mean similarity of these to one another. Large markers: below the ceiling "
        f"with a corrected p below {ALPHA}.",
        _similarity_figure(tests, note),
    )
    yield Drawing(
        "class_structure",
        "Class structure by layer",
        "Mean distance between digits of different classes minus mean distance within a class; means over seeds with "
        "95 % intervals, layer by layer.",
        _structure_figure(structure, note),
    )
    yield Drawing(
        "over_training",
        "Similarity to backprop over training",
        "Unbiased linear CKA to backprop networks of other seeds at equal fractions of training (of each method's own "
        "length), and the ceiling (dotted) at that fraction. Large markers as above.",
        _training_figure(tests, note),
    )
    yield Drawing(
        "layers_by_layers",
        "Every layer with every layer",
        f"Unbiased linear CKA between all layers, networks of seed {results.plan.seeds[0]}.",
        _layer_figure(views, f"seed {results.plan.seeds[0]}; n = {len(views[0].rows('test'))} held-out digits"),
    )


def _rdm_grid(views: Sequence[View], note: str) -> Figure:
    rows = views[0].rows("test")
    labels = views[0].run.stimuli.labels[rows]
    rdms: Mapping[str, Mapping[str, Any]] = {
        "\n".join(wrap(view.label.partition(",")[0], 13)): {
            layer: rdm(values[rows], method="correlation")
            for depth, (layer, values) in enumerate(view.activations.items(), start=1)
            if depth in _SHOWN_LAYERS
        }
        for view in views
    }
    figure = plot_rdm_grid(rdms, labels, views[0].classes)
    write_note(figure, note)
    return figure


def _similarity_figure(tests: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, len(MEASURES), 10.0, 4.0)
    for ax, (measure, words) in zip(grid[0], MEASURES.items(), strict=True):
        rows = tests[(tests["measure"] == measure) & (tests["fraction"] == 1.0)]
        _plot_against_ceiling(rows, words, ax)
    return noted(grid[0][0], note)


def _plot_against_ceiling(rows: pd.DataFrame, ylabel: str, ax: Any, legend: bool = True) -> None:
    plot_lines(rows, "depth", "similarity", curve="method", xlabel="hidden layer", ylabel=ylabel, legend=False, ax=ax)
    palette = colours(list(METHODS.values()))
    for method, each in rows[rows["differs"]].groupby("method"):
        ax.plot(each["depth"], each["similarity"], "o", color=palette[str(method)], markersize=8, alpha=0.6)
    ceiling = rows.drop_duplicates("depth")
    ax.plot(ceiling["depth"], ceiling["ceiling"], color="0.2", linestyle=":", label="ceiling: backprop to itself")
    ax.set_xticks([1, 5, 10, 15, 20])
    if legend:
        ax.legend(frameon=True, fontsize="small")


def _structure_figure(structure: pd.DataFrame, note: str) -> Figure:
    rows = structure[(structure["fraction"] == 1.0) & (structure["method"] != OTHERS)]
    ax = plot_lines(
        rows,
        "depth",
        "mean",
        curve="method",
        xlabel="hidden layer",
        ylabel="between minus within class\ncorrelation distance",
        band=("low", "high"),
    )
    ax.set_xticks([1, 5, 10, 15, 20])
    return noted(ax, note)


def _training_figure(tests: pd.DataFrame, note: str) -> Figure:
    n_rows = -(-len(FRACTIONS) // 3)
    grid = axes_grid(n_rows, 3, 11.0, 3.2 * n_rows)
    for place, (ax, fraction) in enumerate(zip(grid.ravel(), FRACTIONS, strict=False)):
        rows = tests[(tests["measure"] == "cka") & (tests["fraction"] == fraction)]
        _plot_against_ceiling(rows, MEASURES["cka"] if place % 3 == 0 else "", ax, legend=place == 0)
        ax.set_title("before training" if fraction == 0 else f"{100 * fraction:g} % of training", fontsize=10)
        ax.set_ylim(-0.05, 1.05)
        ax.set_xlabel("hidden layer" if place > 2 else "")
    return noted(grid[0][0], note)


def _layer_figure(views: Sequence[View], note: str) -> Figure:
    named = [View(view.label.partition(",")[0], view.run, view.step) for view in views]
    figure = plot_similarity_grid(similarity_table(named, {"cka": _cka_of(named)}))
    write_note(figure, note)
    return figure


def _cka_of(views: Sequence[View]) -> NDArray[Any]:
    layers = {
        f"{view.label}: {name}": layer[view.rows("test")] for view in views for name, layer in view.activations.items()
    }
    return pairwise(layers).values


RDM = Experiment(
    name="rdm",
    title="Representations by layer",
    claim="[S] On practical problems synthetic gradients lead to drastically different layer-wise representations, "
    "seen in representational dissimilarity matrices over the layers of deep networks on a label-ordered sample of "
    "MNIST; [M] of networks with 20 hidden layers trained by backprop, with one SG in the middle, and with an SG at "
    "every boundary.",
    parts=_parts,
    conclude=_conclude,
)
