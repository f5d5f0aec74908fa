"""Columns of the table of probes: dtype, meaning and computation of each, in COLUMNS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from probes.codelength import online_codelength, v_information
from probes.controls import majority_rate, selectivity
from probes.estimators.logistic import LogisticProbe
from probes.scores import accuracy, balanced_accuracy, log_loss
from probes.table.probed_layer import LayerTarget, ProbedLayer


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
    failed: Any = None
    version: int = 1


def _place(dtype: str, meaning: str, compute: Callable[[LayerTarget], Any]) -> ProbeColumn:
    return ProbeColumn(dtype=dtype, meaning=meaning, compute=compute, stage="place")


def _probe(dtype: str, meaning: str, compute: Callable[[ProbedLayer], Any], failed: Any = None) -> ProbeColumn:
    return ProbeColumn(dtype=dtype, meaning=meaning, compute=compute, failed=failed)


def _control(option: str, meaning: str, compute: Callable[[ProbedLayer], Any]) -> ProbeColumn:
    return ProbeColumn(dtype="float64", meaning=meaning, compute=compute, stage="control", option=option)


def _n_rows(part: str, adjective: str) -> ProbeColumn:
    return _place("int64", f"number of {adjective} rows", lambda place: len(place.target.rows[part]))


def _chance(place: LayerTarget) -> float:
    return majority_rate(place.target.labels_of("train"), place.target.labels_of("test"))


def _n_constant(probed: ProbedLayer) -> int:
    return int(np.count_nonzero(~np.any(probed.features["train"], axis=0)))


def _C_extended(probed: ProbedLayer) -> int | None:
    return probed.path.n_extended if probed.settings.config.most_decades else None


def _train_accuracy(probed: ProbedLayer) -> float:
    return accuracy(probed.fit.logits(probed.features["train"]), probed.labels("train"))


def _validation_log_loss(probed: ProbedLayer) -> float:
    return log_loss(probed.fit.logits(probed.features["validation"]), probed.labels("validation"))


def _v_information(probed: ProbedLayer) -> float:
    return float(v_information(probed.row["log_loss"], probed.labels("train"), probed.labels("test")))


def _codelength(probed: ProbedLayer) -> float | None:
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
    X, fits = probed.features["train"], probed.fit_others(labelings, "random labels")
    return float(np.mean([accuracy(fit.logits(X), y) for fit, y in zip(fits, labelings, strict=True)]))


def _control_accuracy(probed: ProbedLayer) -> float | None:
    y = probed.settings.control.get(probed.target_name)
    if y is None:
        return None
    (fit,) = probed.fit_others([y[probed.target.rows["train"]]], "the control task")
    return accuracy(fit.logits(probed.features["test"]), y[probed.target.rows["test"]])


def _selectivity(probed: ProbedLayer) -> float | None:
    control = probed.row["control_accuracy"]
    return None if control is None else float(selectivity(probed.row["accuracy"], control))


COLUMNS: dict[str, ProbeColumn] = {
    "network": _place("str", "name of the network, as given", lambda place: place.network.network),
    "seed": _place("Int64", "seed of the network, as given", lambda place: place.network.seed),
    "checkpoint": _place("Int64", "step of the network, as given", lambda place: place.network.checkpoint),
    "target": _place("str", 'name of the target; "label" if it has no name', lambda place: place.target_name),
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
    "accuracy": _probe(
        "float64",
        "accuracy on the test rows, in [0, 1]",
        lambda probed: accuracy(probed.test_logits, probed.labels("test")),
    ),
    "balanced_accuracy": _probe(
        "float64",
        "mean recall on the test rows of the classes present, in [0, 1]",
        lambda probed: balanced_accuracy(probed.test_logits, probed.labels("test")),
    ),
    "log_loss": _probe(
        "float64",
        "log loss on the test rows, in nats, >= 0",
        lambda probed: log_loss(probed.test_logits, probed.labels("test")),
    ),
    "train_accuracy": _probe("float64", "accuracy on the training rows, in [0, 1]", _train_accuracy),
    "validation_log_loss": _probe("float64", "log loss on the validation rows, in nats, >= 0", _validation_log_loss),
    "chance": _place("float64", "test accuracy of always answering the commonest training class, in [0, 1]", _chance),
    "v_information": _probe("float64", "V-information of the probe on the test rows, in bits", _v_information),
    "codelength": _control("codelength", "length of the online code of the training labels, in bits", _codelength),
    "random_label_accuracy": _control(
        "controls", "mean accuracy on the training rows of fits to random labels, in [0, 1]", _random_label_accuracy
    ),
    "control_accuracy": _control("types", "test accuracy on the control task, in [0, 1]", _control_accuracy),
    "selectivity": _control("types", "accuracy minus control accuracy, in [-1, 1]", _selectivity),
    "relative_gap": _probe(
        "float64", "duality gap of the chosen probe over its objective, >= 0", lambda probed: probed.fit.relative_gap
    ),
    "n_iter": _probe("int64", "iterations of all fits along the grid", lambda probed: probed.path.n_iter, failed=0),
    "converged": _probe(
        "bool", "whether the chosen probe converged", lambda probed: probed.fit.converged, failed=False
    ),
    "status": ProbeColumn(dtype="str", meaning='"ok" or "failed"', stage="outcome"),
    "message": ProbeColumn(
        dtype="str", meaning="why the layer failed, or which fits of the grid did not converge", stage="outcome"
    ),
}
