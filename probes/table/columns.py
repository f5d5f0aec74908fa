"""Columns of the table of probes: dtype, meaning and computation of each, in COLUMNS.

What a computation needs is imported when it runs, so that the schema can be compared without torch and pandas.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from probes.table.probed_layer import LayerTarget, ProbedLayer
    from probes.targets import Kind

_BOTH: tuple[Kind, ...] = ("categorical", "continuous")


@dataclass(frozen=True, kw_only=True)
class ProbeColumn:
    """One column of the table of probes.

    Attributes
    ----------
    dtype : str
        The dtype of pandas: "str", "bool", "int64", "float64", or "Int64" for integers that may be missing.
    meaning : str
        What a cell holds, with its unit and range, for the documentation.
    compute : callable or None
        Returns the value of a cell. None for `status` and `message`, which say how the computation went.
    stage : {"place", "probe", "control", "outcome"}
        "place" columns are known before any fit and are computed from a `LayerTarget`, also for a layer that fails. All
        others are computed from a `ProbedLayer`, in the order of COLUMNS; `ProbedLayer.row` holds the columns before.
        If a "control" column fails, its cell is empty and the message says why; if a "probe" column fails, the layer
        has failed.
    option : str
        The setting of `ProbeConfig` or the argument of `probe_layers` without which the column is empty; "" if there is
        none.
    kinds : tuple of {"categorical", "continuous"}, default ("categorical",)
        The kinds of targets that a "probe" or "control" column is computed for; it is empty for others.
    failed : object
        The value for a layer that failed.
    version : int
        Raised when the computation changes, so that cached rows are computed again.
    """

    dtype: str
    meaning: str
    compute: Callable[[Any], Any] | None = None
    stage: Literal["place", "probe", "control", "outcome"] = "probe"
    option: str = ""
    kinds: tuple[Kind, ...] = ("categorical",)
    failed: Any = None
    version: int = 1


def _place(dtype: str, meaning: str, compute: Callable[[LayerTarget], Any]) -> ProbeColumn:
    return ProbeColumn(dtype=dtype, meaning=meaning, compute=compute, stage="place")


def _probe(dtype: str, meaning: str, compute: Callable[[ProbedLayer], Any], failed: Any = None) -> ProbeColumn:
    """Return a column for probes of both kinds of targets."""
    return ProbeColumn(dtype=dtype, meaning=meaning, compute=compute, failed=failed, kinds=_BOTH)


def _of_classes(meaning: str, compute: Callable[[ProbedLayer], Any]) -> ProbeColumn:
    return ProbeColumn(dtype="float64", meaning=meaning, compute=compute)


def _of_values(meaning: str, compute: Callable[[ProbedLayer], Any]) -> ProbeColumn:
    """Return a column for probes of continuous targets."""
    return ProbeColumn(dtype="float64", meaning=meaning, compute=compute, kinds=("continuous",))


def _control(
    option: str, meaning: str, compute: Callable[[ProbedLayer], Any], *, kind: Kind = "categorical"
) -> ProbeColumn:
    return ProbeColumn(dtype="float64", meaning=meaning, compute=compute, stage="control", option=option, kinds=(kind,))


def _n_rows(part: str, adjective: str) -> ProbeColumn:
    return _place("int64", f"number of {adjective} rows", lambda place: len(place.target.rows[part]))


def _chance(place: LayerTarget) -> float:
    from probes.controls import majority_rate
    from probes.scores import r2_score

    if place.target.kind == "continuous":
        test = place.target.labels_of("test")
        return r2_score(np.full(len(test), place.target.labels_of("train").mean()), test)
    return majority_rate(place.target.labels_of("train"), place.target.labels_of("test"))


def _n_constant(probed: ProbedLayer) -> int:
    return int(np.count_nonzero(~np.any(probed.features["train"], axis=0)))


def _C_extended(probed: ProbedLayer) -> int | None:
    return probed.path.n_extended if probed.settings.config.most_decades else None


def _balanced_accuracy(probed: ProbedLayer) -> float:
    from probes.scores import balanced_accuracy

    return balanced_accuracy(probed.logits("test"), probed.labels("test"))


def _v_information(probed: ProbedLayer) -> float:
    from probes.codelength import v_information

    return float(v_information(probed.row["log_loss"], probed.labels("train"), probed.labels("test")))


def _codelength(probed: ProbedLayer) -> float | None:
    from probes.codelength import online_codelength
    from probes.estimators.logistic import LogisticProbe

    if not probed.settings.config.codelength:
        return None
    probe = LogisticProbe(probed.C, **probed.settings.config.solving)
    code = online_codelength(probed.features["train"], probed.labels("train"), probes=[probe], seed=0)
    if not code.converged:
        probed.notes.append("fits of the online code stopped early, so the code may be longer than necessary")
    return code.codelength


def _random_label_accuracy(probed: ProbedLayer) -> float | None:
    labelings = list(probed.settings.random[probed.target_name])
    if not labelings:
        return None
    fits = probed.fit_others(labelings, "random labels")
    return float(np.mean([probed.accuracy("train", fit, y) for fit, y in zip(fits, labelings, strict=True)]))


def _random_label_r2(probed: ProbedLayer) -> float | None:
    values = probed.settings.random[probed.target_name]
    return float(np.mean(probed.r2_of_others(values))) if len(values) else None


def _control_accuracy(probed: ProbedLayer) -> float | None:
    y = probed.settings.control.get(probed.target_name)
    if y is None:
        return None
    (fit,) = probed.fit_others([y[probed.target.rows["train"]]], "the control task")
    return probed.accuracy("test", fit, y[probed.target.rows["test"]])


def _selectivity(probed: ProbedLayer) -> float | None:
    from probes.controls import selectivity

    control = probed.row["control_accuracy"]
    return None if control is None else float(selectivity(probed.row["accuracy"], control))


COLUMNS: dict[str, ProbeColumn] = {
    "network": _place("str", "name of the network, as given", lambda place: place.network.network),
    "seed": _place("Int64", "seed of the network, as given", lambda place: place.network.seed),
    "checkpoint": _place("Int64", "step of the network, as given", lambda place: place.network.checkpoint),
    "target": _place("str", 'name of the target; "label" if it has no name', lambda place: place.target_name),
    "kind": _place(
        "str",
        '"categorical" if the target has classes, "continuous" if it is a quantity',
        lambda place: place.target.kind,
    ),
    "layer": _place("str", "name of the layer", lambda place: place.layer),
    "layer_index": _place("int64", "position of the layer in its network, from 0", lambda place: place.layer_index),
    "d": _place("int64", "number of features", lambda place: place.d),
    "n_constant": _probe(
        "Int64", "number of features that are constant on the training rows; their coefficients are 0", _n_constant
    ),
    "n_train": _n_rows("train", "training"),
    "n_validation": _n_rows("validation", "validation"),
    "n_test": _n_rows("test", "test"),
    "C": _probe("float64", "the C that was chosen", lambda probed: probed.C),
    "C_at_edge": _probe(
        "bool",
        "whether the validation loss is least at the smallest or largest C that was tried, so that a wider grid may do "
        "better",
        lambda probed: probed.path.side != 0,
        failed=False,
    ),
    "C_extended": _probe(
        "Int64", 'number of decades by which the grid was extended; empty unless Cs="auto"', _C_extended
    ),
    "accuracy": _of_classes("accuracy on the test rows, in [0, 1]", lambda probed: probed.accuracy("test")),
    "balanced_accuracy": _of_classes(
        "mean recall on the test rows of the classes present, in [0, 1]", _balanced_accuracy
    ),
    "log_loss": _of_classes("log loss on the test rows, in nats, >= 0", lambda probed: probed.log_loss("test")),
    "train_accuracy": _of_classes("accuracy on the training rows, in [0, 1]", lambda probed: probed.accuracy("train")),
    "validation_log_loss": _of_classes(
        "log loss on the validation rows, in nats, >= 0", lambda probed: probed.log_loss("validation")
    ),
    "r2": _of_values(
        "R² on the test rows, at most 1: 1 minus the mean squared error over the variance of the test values",
        lambda probed: probed.r2("test"),
    ),
    "mse": _of_values(
        "mean squared error on the test rows, in squared units of the target, >= 0",
        lambda probed: probed.squared_error("test"),
    ),
    "train_r2": _of_values("R² on the training rows, at most 1", lambda probed: probed.r2("train")),
    "validation_mse": _of_values(
        "mean squared error on the validation rows, >= 0", lambda probed: probed.squared_error("validation")
    ),
    "chance": _place(
        "float64",
        "test accuracy of always answering the commonest training class, in [0, 1]; of a continuous target, R² on the "
        "test rows of always answering the mean of the training rows, at most 0",
        _chance,
    ),
    "v_information": _of_classes("V-information of the probe on the test rows, in bits", _v_information),
    "codelength": _control("codelength", "length of the online code of the training labels, in bits", _codelength),
    "random_label_accuracy": _control(
        "controls", "mean accuracy on the training rows of fits to random labels, in [0, 1]", _random_label_accuracy
    ),
    "random_label_r2": _control(
        "controls",
        "mean R² on the training rows of fits to their values in random order, at most 1",
        _random_label_r2,
        kind="continuous",
    ),
    "control_accuracy": _control("types", "test accuracy on the control task, in [0, 1]", _control_accuracy),
    "selectivity": _control("types", "accuracy minus control accuracy, in [-1, 1]", _selectivity),
    "relative_gap": _of_classes(
        "duality gap of the chosen probe over its objective, >= 0", lambda probed: probed.fit.relative_gap
    ),
    "n_iter": _probe(
        "int64",
        "iterations of all fits along the grid; 0 for a continuous target, which needs none",
        lambda probed: probed.path.n_iter,
        failed=0,
    ),
    "converged": _probe(
        "bool", "whether the chosen probe converged", lambda probed: probed.fit.converged, failed=False
    ),
    "status": ProbeColumn(dtype="str", meaning='"ok" or "failed"', stage="outcome"),
    "message": ProbeColumn(
        dtype="str", meaning="why the layer failed, or which fits of the grid did not converge", stage="outcome"
    ),
}


def schema_version() -> str:
    """Return a digest of the names, dtypes and versions of all columns; cached rows of another version are stale."""
    columns = [[name, column.dtype, column.version] for name, column in COLUMNS.items()]
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()
