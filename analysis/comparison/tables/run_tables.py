"""Tables of runs: training curves, and gradients beside the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.comparison.tables.comparison_table import Column, ComparisonTable
from analysis.comparison.view import View
from analysis.config.recorded_steps import is_trained_here

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GRADIENTS", "TRAINING", "gradient_table", "training_table"]

_NETWORK = Column("name of the network", is_text=True)


def training_table(views: Sequence[View]) -> pd.DataFrame:
    """Return the table ``training``. Runs that did not log epoch, loss and accuracy have no rows."""
    import pandas as pd

    frames = []
    for name, view in _runs(views):
        records = pd.DataFrame(view.run.metrics())
        if {"epoch", "loss", "accuracy"} <= set(records):
            of_accuracy = {key: "float64" for key in records if str(key).endswith("accuracy")}  # missing in regression
            numbers = records.astype(of_accuracy).select_dtypes("number")
            frames.append(numbers.groupby("epoch", as_index=False).mean().drop(columns="step").assign(view=name))
    return (
        pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["epoch", "loss", "accuracy", "view"])
    )


TRAINING = ComparisonTable(
    row="a run and epoch",
    columns={
        "epoch": Column("epoch, from 1"),
        "loss": Column("mean training loss over the batches of the epoch (nats)"),
        "accuracy": Column("mean training accuracy over the batches of the epoch"),
        "validation_loss": Column("loss on the validation part at the end of the epoch (nats)"),
        "validation_accuracy": Column("accuracy on the validation part at the end of the epoch"),
        "view": _NETWORK,
    },
    rest="of runs that were trained elsewhere, every number that they logged per epoch",
    build=lambda tasks, _: training_table(tasks.views),
)


def gradient_table(views: Sequence[View]) -> pd.DataFrame:
    """Return the table ``gradients``. Runs that were trained elsewhere have no rows."""
    import pandas as pd

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
    return pd.DataFrame(rows, columns=list(GRADIENTS.columns))


GRADIENTS = ComparisonTable(
    row="a run, diagnosed step and boundary; of a rule that only observes, the gradient that it would have chosen",
    columns={
        "view": _NETWORK,
        "step": Column("diagnosed step"),
        "boundary": Column("boundary of the network"),
        "rule": Column("rule that acts at the boundary; empty if the run does not record it", is_text=True),
        "norm": Column("norm of the chosen gradient g, root mean square over examples"),
        "true_norm": Column("norm of the true gradient t, root mean square over examples"),
        "relative_error": Column("‖g − t‖ / ‖t‖"),
        "cosine": Column("cosine between g and t"),
        "angle": Column("angle between g and t (degrees); empty if one of them is zero"),
        "update_cosine": Column(
            "cosine between the gradients of the parameters of the segment below by the rule and by backprop: of "
            "plain gradient descent, the alignment of the update with backprop's"
        ),
        "weight_angle": Column(
            "angle between the feedback weights and the weights of the segment above that they replace (degrees); "
            "empty if the rule has none"
        ),
        "input_error": Column("relative error of the synthetic input, ‖ĥ − h‖ / ‖h‖; empty without one"),
        "squared_bias": Column(
            "squared bias over batches of the gradient of the parameters of the segment below, relative to the mean "
            "squared norm of a batch's true gradient; below 0 by chance where it is 0; empty unless it was measured"
        ),
        "variance": Column("variance of that gradient over batches, in the same unit"),
        "true_variance": Column("variance of the true gradient over batches, in the same unit"),
        "estimator_loss": Column("loss that the estimator minimises; empty if the rule learns nothing"),
    },
    build=lambda tasks, _: gradient_table(tasks.views),
)


def _rule_at(view: View) -> dict[int, str] | None:
    boundaries = view.run.config.get("boundaries")
    return None if boundaries is None else {k: rule for rule, ks in boundaries.items() for k in ks}


def _runs(views: Sequence[View]) -> list[tuple[str, View]]:
    """Return one view of each run, with the name of the network."""
    runs = {view.run.path: view for view in views}
    return [(view.network if len(runs) > 1 else view.run_name, view) for view in runs.values()]
