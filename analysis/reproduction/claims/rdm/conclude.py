"""Conclusion: number of layers that differ from backprop's more than those of backprop's networks among themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.reproduction.claim import Results, Section, verdict_of
from analysis.reproduction.claims.rdm.parts import MEASURES, first_views, method_in
from analysis.reproduction.kit import deep_networks as deep
from analysis.reproduction.kit.numbers import rows_of, seed_intervals
from repsim.similarity import GroupTest, compare_groups

__all__ = ["ALPHA", "conclude", "group_tests"]

ALPHA = 0.05
_READABLE = 0.9  # of the class structure of the last layer


def conclude(results: Results) -> Section:
    """Return the verdict: a third of the layers have to differ, by both measures and for both methods."""
    similarity, structure = results["similarity"], results["class_structure"]
    tests = pd.concat(
        [group_tests(similarity, measure, fraction) for measure in MEASURES for fraction in deep.FRACTIONS]
    )
    final = rows_of(tests, fraction=1.0)
    over_seeds = seed_intervals(structure, ["fraction", "method", "layer", "depth"], "class_structure")
    at_end = rows_of(structure, fraction=1.0)
    differences = deep.backprop_differences(at_end[at_end["method"] != deep.OTHERS], "class_structure")
    share = final.groupby(["measure", "method"], sort=False)["differs"].mean()
    return Section(
        setting=_setting(results),
        verdict=verdict_of(
            share[measure, deep.METHODS[name]] >= deep.SHARE for measure in MEASURES for name in deep.SYNTHETIC
        ),
        findings=[*_similarities(final), *_class_structures(over_seeds, differences)],
        tables={
            "networks": results["networks"],
            "similarity": similarity,
            "tests": tests,
            "class_structure": structure,
            "class_structure_over_seeds": over_seeds,
            "class_structure_differences": differences,
        },
        shown={
            "Layers whose similarity to backprop is below the ceiling, corrected p < .05": _share_table(final),
            "Networks": _network_table(results["networks"]),
        },
    )


def group_tests(similarity: pd.DataFrame, measure: str, fraction: float) -> pd.DataFrame:
    """Return, for each method and layer, whether it is less similar to backprop networks than those to each other."""
    rows = rows_of(similarity, fraction=fraction)
    tables = []
    for method in deep.METHODS.values():
        matrices, groups = _matrices(rows, measure, (method, deep.OTHERS))
        test = compare_groups(matrices, groups, reference=deep.OTHERS)
        tables.append(_test_table(test, rows, method).assign(measure=measure, fraction=fraction))
    return pd.concat(tables, ignore_index=True)


def _matrices(rows: pd.DataFrame, measure: str, methods: Sequence[str]) -> tuple[Any, list[str]]:
    """Return similarities (n_layers, n_networks, n_networks) of the networks of some methods, and their methods."""
    names = [
        name for name in pd.unique(rows[["network_a", "network_b"]].to_numpy().ravel()) if method_in(name) in methods
    ]
    place = {name: i for i, name in enumerate(names)}
    chosen = rows[rows["network_a"].isin(names) & rows["network_b"].isin(names)]
    depths = sorted(chosen["depth"].unique())
    matrices = np.ones((len(depths), len(names), len(names)))
    a, b = chosen["network_a"].map(place), chosen["network_b"].map(place)
    layer = np.searchsorted(depths, chosen["depth"])
    matrices[layer, a, b] = matrices[layer, b, a] = chosen[measure]
    return matrices, [method_in(name) for name in names]


def _test_table(test: GroupTest, rows: pd.DataFrame, method: str) -> pd.DataFrame:
    layers = rows.drop_duplicates("depth").sort_values("depth")
    names = {"method": method, "layer": layers["layer"].to_numpy(), "depth": layers["depth"].to_numpy()}
    table = test.frame(names).rename(columns={"within": "ceiling", "between": "similarity", "p_max": "p_corrected"})
    return table.assign(differs=table["p_corrected"] < ALPHA, p_least=test.p_least)


def _setting(results: Results) -> str:
    plan, networks = results.plan, results["networks"]
    n_test = len(first_views(results)[0].rows("test"))
    accuracies = networks.groupby("network", sort=False)["test_accuracy"].mean()
    reached = ", ".join(f"{deep.METHODS[str(name)]} {value:.3f}" for name, value in accuracies.items())
    return (
        f"{deep.networks_setting(plan)} Mean test accuracy: {reached}. RDMs hold correlation distances "
        f"between {n_test} held-out digits in the order of their labels. {len(plan.seeds)} seeds per method. Each "
        "method is compared, layer by layer, with as many more backprop networks of other seeds; the ceiling is the "
        "similarity among these. The test (compare_groups) permutes the networks between the two groups, and the "
        "largest standardised difference over layers corrects for testing 20 layers. Backprop itself, with the seeds "
        "of the plan, is the control of that test. For the claim to hold in full, a third of the layers have to "
        "differ, by both measures and for both methods."
    )


def _similarities(final: pd.DataFrame) -> Iterator[str]:
    sentences = []
    for method in (deep.METHODS[name] for name in deep.SYNTHETIC):
        counts = deep.count_layers(rows_of(final, method=method), "measure")
        by_measure = [f"{count} by {MEASURES[measure]}" for measure, count in counts.items()]
        sentences.append(f"with {method} in {' and '.join(by_measure)}")
    yield (
        f"Networks are less similar to backprop networks than those are to one another {'; '.join(sentences)} "
        f"(corrected p < {ALPHA})."
    )
    for method in (deep.METHODS[name] for name in deep.SYNTHETIC):
        rows = rows_of(final, method=method, measure="cka")
        least = rows.iloc[int((rows["similarity"] - rows["ceiling"]).argmin())]
        yield (
            f"{method} is furthest below the ceiling at {least['layer']}: CKA {least['similarity']:.2f}, "
            f"ceiling {least['ceiling']:.2f}."
        )
    control = rows_of(final, method=deep.METHODS[deep.BACKPROP])
    yield f"The control, backprop against backprop, differs in {control['differs'].sum()} of {len(control)} such tests."


def _class_structures(structure: pd.DataFrame, differences: pd.DataFrame) -> Iterator[str]:
    """Yield how class structures differ, and the layer at which each method reaches 90 % of its final value."""
    counts = [f"{count} with {method}" for method, count in deep.count_layers(differences, "method").items()]
    most = differences.iloc[int(differences["difference"].abs().argmax())]
    yield (
        f"The class structure of the RDMs differs from backprop's in {' and in '.join(counts)} (95 % bands over all "
        f"layers exclude zero), most with {most['method']} at {most['layer']}: {most['difference']:+.2f}."
    )
    reached = []
    for method, rows in rows_of(structure, fraction=1.0).groupby("method", sort=False):
        if method == deep.OTHERS:
            continue
        ordered = rows.sort_values("depth")
        last = ordered["mean"].iloc[-1]
        first = int(ordered.loc[ordered["mean"] >= _READABLE * last, "depth"].iloc[0])
        reached.append(f"layer {first} in {method} (final value {last:.2f})")
    yield f"Mean class structure reaches 90 % of its value in the last layer at {', '.join(reached)}."


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
    return columns.assign(network=columns["network"].map(deep.METHODS)).round(3)
