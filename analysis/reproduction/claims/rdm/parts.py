"""Tasks: train the networks, and compare all pairs of them layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.comparison.view import View
from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, Results, claim_task
from analysis.reproduction.kit import deep_networks as deep
from analysis.reproduction.kit.layer_similarity import compare_layer
from analysis.reproduction.kit.recipe import Recipe

__all__ = ["MEASURES", "first_views", "method_in", "parts"]

MEASURES = {"cka": "unbiased linear CKA", "rsa": "correlation of RDMs"}


def parts(plan: Plan) -> list[Task]:
    """Return the tasks that train all networks, and one comparison per fraction of training."""
    trained = deep.network_tasks(plan)
    comparisons = [
        claim_task(
            f"rdm-similarity-at-{100 * fraction:g}-percent",
            _compare,
            cost=20.0,
            after=list(trained.values()),
            fraction=fraction,
            networks=list(trained),
        )
        for fraction in deep.FRACTIONS
    ]
    return [*trained.values(), *comparisons]


def _compare(folder: Path, *, fraction: float, networks: Sequence[Recipe]) -> Frames:
    """Return ``similarity`` and ``class_structure`` of all networks, layer by layer, at a fraction of training."""
    every = {_name(recipe): recipe for recipe in networks}
    views = {name: deep.view_of(folder, recipe, fraction) for name, recipe in every.items()}
    first = next(iter(views.values()))
    rows, labels = first.rows("test"), first.run.stimuli.labels[first.rows("test")]
    pairs: list[dict[str, Any]] = []
    structures: list[dict[str, Any]] = []
    for depth, layer in enumerate(first.activations, start=1):
        place = {"fraction": fraction, "layer": layer, "depth": depth}
        matrices, structure = compare_layer(
            {name: view.activations[layer][rows] for name, view in views.items()}, labels
        )
        for (i, a), (j, b) in combinations(enumerate(every), 2):
            measured = {measure: matrix[i, j] for measure, matrix in matrices.items()}
            pairs.append({**place, "network_a": a, "network_b": b, **measured})
        for name, recipe in every.items():
            row = {"method": deep.method_of(recipe), "seed": recipe.seed, "class_structure": structure[name]}
            structures.append({**place, **row})
    return {"similarity": pd.DataFrame(pairs), "class_structure": pd.DataFrame(structures)}


def _name(recipe: Recipe) -> str:
    return f"{deep.method_of(recipe)}/{recipe.seed}"


def method_in(name: str) -> str:
    """Return the method in the name of a network in the table ``similarity``."""
    return name.rpartition("/")[0]


def first_views(results: Results) -> list[View]:
    """Return the trained networks of the first seed, one per method."""
    seed = results.plan.seeds[0]
    return [deep.view_of(results.folder, deep.recipe_of(results.plan, name, seed)) for name in deep.METHODS]
