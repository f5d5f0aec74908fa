"""Table of numbers that describe one layer of one network: weights, dimension, similarity to the last layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from analysis.comparison.tables.comparison_table import LAYER, VIEW, Column, ComparisonTable
from analysis.comparison.tables.layer_tables import layer_table
from analysis.comparison.tasks.analysis_tasks import AnalysisTasks
from analysis.execution.task import FunctionByName, Task
from checkpoints import Checkpoint

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LAYER_QUANTITIES"]

_LARGEST_WEIGHTS = 2**30  # bytes


def _plan(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per view, whose values are lists with one number per layer."""
    for index, view in enumerate(tasks.views):
        weights = {
            name: (step, view.run[step].manifest["weights.safetensors"]["sha256"])
            for name, step in (("now", view.step), ("first", 0))
            if step in view.run.steps and _has_small_weights(view.run[step])
        }
        inputs = {"sources": (tasks.source(index, *view.listed),), "weights": weights}
        yield tasks.make(
            "layers",
            FunctionByName("analysis.comparison.tasks.describing:describe_layers"),
            inputs,
            cost=0.03 + 0.002 * len(view.listed),
        )


def _has_small_weights(checkpoint: Checkpoint) -> bool:
    """Return whether a step has weights that are read in a moment."""
    return checkpoint.has_weights and checkpoint.manifest["weights.safetensors"]["size"] <= _LARGEST_WEIGHTS


def _build(tasks: AnalysisTasks, frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    table = layer_table(LAYER_QUANTITIES, tasks, tasks.columns("layer_quantities"))
    similar = _to_last(frames["similarity"], tasks.config.measures[0])
    table["similarity_to_last"] = [
        similar.get((view, layer)) for view, layer in zip(table["view"], table["layer"], strict=True)
    ]
    return table.astype(dict.fromkeys(_NUMBERS, "float64"))


def _to_last(similarity: pd.DataFrame, measure: str) -> dict[tuple[str, str], float]:
    """Return the similarity of each layer with the last layer of its own network, by view and layer."""
    own = similarity[similarity["view_a"] == similarity["view_b"]]
    last = own[own["depth_b"] == own.groupby("view_b")["depth_b"].transform("max")]
    return {
        (view, layer): value for view, layer, value in zip(last["view_a"], last["layer_a"], last[measure], strict=True)
    }


_NUMBERS = ("weight_norm", "weight_growth", "participation_ratio", "similarity_to_last")

LAYER_QUANTITIES = ComparisonTable(
    row="a view and layer",
    columns={
        **VIEW,
        **LAYER,
        "weight_norm": Column(
            "Frobenius norm of the layer's weight matrices; empty if it has none, or if no weights, or more than 1 GiB "
            "of weights, are recorded"
        ),
        "weight_growth": Column("the same divided by that at step 0; empty if step 0 has no weights"),
        "participation_ratio": Column("effective dimension of the held-out activations, 1 or more"),
        "similarity_to_last": Column("first measure between this layer and the last layer of the same network"),
    },
    plan=_plan,
    build=_build,
)
