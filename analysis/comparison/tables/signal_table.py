"""Table of teaching signals: the gradients that a rule chooses beside the true ones, and beside the change after."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analysis.comparison.tables.comparison_table import VIEW, Column, ComparisonTable
from analysis.comparison.tasks.analysis_tasks import AnalysisTasks
from analysis.comparison.tasks.source import Source
from analysis.comparison.view import View
from analysis.config.recorded_steps import is_trained_here
from analysis.execution.shipping import own_digests
from analysis.execution.task import FunctionByName, Task
from checkpoints.lineage import recorded_by

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SIGNALS"]

_QUALITY = FunctionByName("analysis.comparison.tasks.gradient_quality:measure_quality")
_GEOMETRY = FunctionByName("analysis.comparison.tasks.signal_geometry:compare_signals")
_OBSERVED = " (observed)"  # after the name of a rule that a run only observes
_LARGEST_WEIGHTS = 2**26  # bytes, with which a batch takes about a second


def _plan(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per view whose weights, and one per view whose gradients are recorded."""
    for index, view in enumerate(tasks.views):
        boundaries, manifest = list(_rules(view)), view.run[view.step].manifest
        inputs = {"sources": (tasks.source(index, *view.listed),), "boundaries": boundaries}
        if boundaries and not _why_no_quality(view):
            hashes = {"weights": manifest["weights.safetensors"]["sha256"], "config": view.run.info.get("config_hash")}
            if own := own_digests(json.dumps(_parts(view))):
                hashes["parts"] = own
            cost = 0.5 + 0.1 * len(boundaries)
            yield tasks.make("gradient_quality", _QUALITY, {**inputs, "hashes": hashes}, cost=cost)
        if boundaries and "gradients.h5" in manifest:
            later, _ = _later(view)
            files = {"gradients_sha256": manifest["gradients.h5"]["sha256"], "later": later}
            yield tasks.make("signal_geometry", _GEOMETRY, {**inputs, **files}, cost=0.1 * len(boundaries))


def _rules(view: View) -> dict[int, str]:
    """Return the rule at each boundary whose gradient is not the true one by construction, ascending."""
    names = _placed(view)
    if "window" in view.run.config.get("training", {}):
        return names  # of a recurrent network, which has boundaries between windows only
    lowest = range(1, max((k for k, name in names.items() if not name.endswith(_OBSERVED)), default=0) + 1)
    return {k: names.get(k, "backprop") for k in sorted({*lowest, *names})}


def _placed(view: View) -> dict[int, str]:
    """Return the rule that acted, or was only observed, at each boundary until the step of a view."""
    config = view.run.config
    if not is_trained_here(config) or (config["training"].get("rule") == "backprop" and "forked_from" not in config):
        return {}
    placed = config.get("boundaries")
    if "forked_from" not in config and isinstance(placed, dict):  # without torch, which reading settings imports
        return {int(k): name for name, ks in placed.items() for k in ks}
    from analysis.training.transplant import configuration_at

    try:
        rules = configuration_at(view.run, view.step)[0].rules
    except (ValueError, TypeError, KeyError):  # of another version, or with a rule of the user's that is not here
        return {}
    return {k: f"{rule.name}{_OBSERVED}" if rule.observe else rule.name for k, rule in rules.items()}


def _parts(view: View) -> list[str]:
    """Return the names of the parts that the training of a view used, of which some may be the user's own."""
    training = view.run.config["training"]
    names = [str(training.get(name)) for name in ("network", "norm", "activation", "loss", "data")]
    return [*names, *(name.removesuffix(_OBSERVED) for name in _placed(view).values())]


def _why_no_quality(view: View) -> str:
    """Return why gradients cannot be computed from the weights of a view; nothing if they can."""
    checkpoint = view.run[view.step]
    if not checkpoint.has_weights:
        return "Recorded without weights."
    if checkpoint.manifest["weights.safetensors"]["size"] > _LARGEST_WEIGHTS:
        return "The weights exceed 64 MiB; gradients over batches are not computed."
    return ""


def _why_no_geometry(view: View) -> str:
    """Return why recorded gradients, or the change that follows, are missing; nothing if they are there."""
    if "gradients.h5" not in view.run[view.step].manifest:
        return "Recorded without gradients; train with --record-signals."
    return _later(view)[1]


def _later(view: View) -> tuple[Source | None, str]:
    """Return the next recorded step as a source, or why there is none that this step led to."""
    run = view.run
    step = next((step for step in run.recorded_steps if step > view.step), None)
    if step is None:
        return None, "No later step is recorded, so no change in activations is known."
    if recorded_by(run.path, run.info, step) != recorded_by(run.path, run.info, view.step):
        return None, "The run was forked at this step, so that the change until the next one is another run's."
    return Source.of(replace(view, step=step)), ""


def _build(tasks: AnalysisTasks, _: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    found = {(task.name, tasks.places(task.inputs["sources"][0])[0][0]): task for task in tasks.by_table["signals"]}
    rows = []
    for index, view in enumerate(tasks.views):
        rules, parts, reasons = _rules(view), [], []
        for name, why_not in (("gradient_quality", _why_no_quality), ("signal_geometry", _why_no_geometry)):
            task = found.get((name, index))
            cells, reason = ([], why_not(view)) if task is None or not rules else _cells(task, view)
            parts.append(cells or [{}] * len(rules))
            reasons.append(reason)
        for (boundary, rule), *of_row in zip(rules.items(), *parts, strict=True):
            message = " ".join(filter(None, [*reasons, *(cells.get("message") for cells in of_row)]))
            place = {"view": view.label, "run": view.location, "step": view.step, "boundary": boundary, "rule": rule}
            rows.append({**of_row[0], **of_row[1], **place, "message": message})
    return pd.DataFrame(rows, columns=list(SIGNALS.columns)).astype(dict.fromkeys(_NUMBERS, "float64"))


def _cells(task: Task, view: View) -> tuple[list[dict[str, Any]], str]:
    """Return the cells that a task found for each boundary, or why it found none."""
    if task.is_done():
        return task.result().values["rows"], _why_no_geometry(view) if task.name == "signal_geometry" else ""
    from analysis.comparison.tasks.gradient_quality import attempt_to_rebuild

    return [], attempt_to_rebuild(view.run, view.step).error


def _change(of: str, *, of_true: bool = False) -> Column:
    gradient = "t" if of_true else "g"
    return Column(f"{of} of {gradient} with the change in activations from this step to the next recorded one")


_NUMBERS = {
    "angle": Column("angle between g and t (degrees), mean over batches; empty if one of them is zero"),
    "relative_error": Column("‖g − t‖ / ‖t‖, mean over batches"),
    "squared_bias": Column(
        "squared bias over batches of the gradient of the segment's weights, divided by the mean squared norm of a "
        "batch's true gradient; this and the next two as `gradient_bias_variance` defines them; an unbiased estimate, "
        "below 0 by chance where there is no bias; empty if the rule is only observed"
    ),
    "variance": Column("variance over batches of the same gradient, divided by the same"),
    "true_variance": Column("variance over batches of the true gradient of the same weights, divided by the same"),
    "implied_correlation": Column(
        "correlation over held-out stimuli of the loss that the module S implies with the true loss, about the mean of "
        "each label; empty if the rule has no S that depends on activation and label"
    ),
    "implied_slope": Column("least squares slope of the implied over the true loss; 1 if they are equal"),
    "cka": Column("unbiased linear CKA of g and t, over held-out stimuli"),
    "rdm_correlation": Column("Pearson correlation of the RDMs (correlation distance) of g and t"),
    "change_cka": _change("unbiased linear CKA"),
    "true_change_cka": _change("unbiased linear CKA", of_true=True),
    "change_rdm_correlation": _change("correlation of RDMs"),
    "true_change_rdm_correlation": _change("correlation of RDMs", of_true=True),
    "change_cosine": Column("mean over stimuli of the cosine between −g and that change; above 0: the change descends"),
    "true_change_cosine": Column("mean over stimuli of the cosine between −t and that change"),
}

SIGNALS = ComparisonTable(
    row="a view and a boundary where the gradient g is not the true gradient t by construction: at the boundaries of "
    "rules other than backprop, and below them; no rows of networks that were trained elsewhere",
    columns={
        **VIEW,
        "boundary": Column("boundary of the network; boundary k lies after layer hidden.k"),
        "rule": Column(
            "rule at the boundary; of a rule that is only observed, g is what it would choose", is_text=True
        ),
        **_NUMBERS,
        "message": Column("why cells are empty that could be filled; otherwise empty", is_text=True),
    },
    plan=_plan,
    build=_build,
)
