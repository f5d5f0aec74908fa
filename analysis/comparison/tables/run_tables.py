"""Tables of runs: training curves, and gradients beside the true ones."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.comparison.steps import is_trained_here
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.view import View

__all__ = ["gradient_table", "training_table"]


def training_table(views: Sequence[View]) -> pd.DataFrame:
    """Return the table ``training``. Runs that did not log epoch, loss and accuracy have no rows."""
    frames = []
    for name, view in _runs(views):
        records = pd.DataFrame(view.run.metrics())
        if {"epoch", "loss", "accuracy"} <= set(records):
            numbers = records.select_dtypes("number")
            frames.append(numbers.groupby("epoch", as_index=False).mean().drop(columns="step").assign(view=name))
    return (
        pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["epoch", "loss", "accuracy", "view"])
    )


def gradient_table(views: Sequence[View]) -> pd.DataFrame:
    """Return the table ``gradients``. Runs that were trained elsewhere have no rows."""
    rows = [
        {
            "view": name,
            "step": record["step"],
            "boundary": int(boundary),
            "rule": rules.get(int(boundary), "backprop") if rules is not None else None,
            **values,
            "estimator_loss": record.get("estimator_losses", {}).get(boundary),
        }
        for name, view in _runs(views)
        if is_trained_here(view.run.config)
        for rules in [_rule_at(view)]
        for record in view.run.metrics()
        for boundary, values in record.get("gradients", {}).items()
    ]
    return pd.DataFrame(rows, columns=list(TABLES["gradients"].columns))


def _rule_at(view: View) -> dict[int, str] | None:
    boundaries = view.run.config.get("boundaries")
    return None if boundaries is None else {k: rule for rule, ks in boundaries.items() for k in ks}


def _runs(views: Sequence[View]) -> list[tuple[str, View]]:
    """Return one view of each run, with the name of the network."""
    runs = {view.run.path: view for view in views}
    return [(view.network if len(runs) > 1 else view.run_name, view) for view in runs.values()]
