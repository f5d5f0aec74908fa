"""Networks at equal steps: the steps that they share, and how similar they are to the reference there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.view import View

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Twins", "equal_steps", "is_over_steps", "similarity_at_equal_steps", "twins_of", "views_at_last_step"]


@dataclass(frozen=True)
class Twins:
    """A fork and the run that it was forked from, one of which is the reference; and the step of the fork."""

    network: str
    fork: str
    source: str
    step: int


def equal_steps(views: Sequence[View]) -> list[int]:
    """Return the steps at which every network is shown, ascending; none if there is only one network."""
    steps: dict[Path, set[int]] = {}
    for view in views:
        steps.setdefault(view.run.path, set()).add(view.step)
    return sorted(set.intersection(*steps.values())) if len(steps) > 1 else []


def is_over_steps(views: Sequence[View]) -> bool:
    """Return whether networks are compared at several equal steps."""
    return len(equal_steps(views)) > 1


def views_at_last_step(views: Sequence[View]) -> list[View]:
    """Return the views at the last step at which every network is shown."""
    last = equal_steps(views)[-1]
    return [view for view in views if view.step == last]


def twins_of(views: Sequence[View]) -> dict[str, Twins]:
    """Return the networks that were forked from the reference, or that it was forked from, by name."""
    reference = views[0]
    found = {}
    for view in views:
        for fork, source in ((view, reference), (reference, view)):
            origin = fork.run.config.get("forked_from")
            if isinstance(origin, Mapping) and origin.get("uuid") == source.run.info["uuid"]:
                found[view.network] = Twins(view.network, fork.network, source.network, int(origin["step"]))
    return found


def similarity_at_equal_steps(tables: Tables) -> pd.DataFrame:
    """Return how similar each layer is to the same layer of the reference at the same step.

    The table has one row per network other than the reference, step and layer, with the columns ``network``, ``step``,
    ``layer``, ``depth``, ``value``, the first measure, and ``change``, by how far it is from that of the reference with
    itself: 0 if the layers are equal, and larger the less alike they are.
    """
    import pandas as pd

    from repsim.similarity import MEASURES  # slow to import

    measure = tables.config.measures[0]
    sign = 1 if MEASURES[measure].direction == "similarity" else -1
    table = tables["similarity"]
    table = table[table["layer_a"] == table["layer_b"]]
    values = dict(
        zip(zip(table["view_a"], table["view_b"], table["layer_a"], strict=True), table[measure], strict=True)
    )
    at = {view.step: view.label for view in tables.views if view.run.path == tables.views[0].run.path}
    rows = []
    for view in tables.views:
        if view.run.path == tables.views[0].run.path or view.step not in at:
            continue
        reference = at[view.step]
        for depth, layer in enumerate(view.listed, start=1):
            if (reference, view.label, layer) in values:
                value, itself = values[reference, view.label, layer], values[reference, reference, layer]
                rows.append((view.network, view.step, layer, depth, value, sign * (itself - value)))
    return pd.DataFrame(rows, columns=["network", "step", "layer", "depth", "value", "change"])
