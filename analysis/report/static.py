"""The tables that the page shows as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.comparison.result import Findings
from analysis.comparison.steps import is_trained_here
from analysis.comparison.view import View
from analysis.report.networks import by_network

__all__ = ["accuracy_by_layer", "differences", "first_layers", "runs", "settings", "shortened"]

_ABSENT = "\u2013"


def runs(findings: Findings) -> pd.DataFrame:
    """Return one row a network: how it learned, on what, how long and how well."""
    rows = {
        name: _headline(views[-1].run.config, views[-1].run.status)
        | {"steps shown": ", ".join(str(view.step) for view in views)}
        for name, views in by_network(findings.views).items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").map(_shown_value)


def _headline(config: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    training = config["training"] if is_trained_here(config) else {}
    source, data = config.get("source"), config.get("data")
    model = source.get("model") if isinstance(source, dict) else None
    return {
        "rule": training.get("rule"),
        "network": training.get("network", model),
        "depth": training.get("depth"),
        "data": data.get("name") if isinstance(data, dict) else data,
        "seed": training.get("seed"),
        "state": status.get("state"),
        "test accuracy": status.get("test_accuracy"),
    }


def accuracy_by_layer(findings: Findings) -> pd.DataFrame:
    """Return one row a layer, one column a view: the probe's accuracy on test."""
    table = findings.probes.pivot(index=["depth", "layer"], columns="view", values="accuracy")
    shown = table[[view.label for view in findings.views]].map(
        lambda value: _ABSENT if pd.isna(value) else f"{value:.3f}"
    )
    return shown.droplevel("depth").rename_axis(index=None, columns=None)


def first_layers(findings: Findings) -> pd.DataFrame:
    """Return one row a view, one column a share of its last accuracy: the first layer that reaches it."""
    table = findings.first_layers
    shown = table.assign(share=[f"{100 * fraction:g} %" for fraction in table["fraction"]]).assign(
        where=[
            f"{layer} ({depth:.0f} of {n})" if status == "ok" else status
            for layer, depth, n, status in zip(
                table["layer"], table["depth"], table["n_layers"], table["status"], strict=True
            )
        ]
    )
    columns = list(dict.fromkeys(shown["share"]))
    pivoted = shown.pivot(index="view", columns="share", values="where")
    return pivoted.loc[[view.label for view in findings.views], columns].rename_axis(index=None, columns=None)


def differences(findings: Findings) -> pd.DataFrame:
    """Return one row a method and layer: the difference to the first method, its band and p-values."""
    table = findings.probe_differences
    if table.empty:
        return pd.DataFrame()
    band = [f"{low:+.3f} to {high:+.3f}" for low, high in zip(table["band_low"], table["band_high"], strict=True)]
    shown = table[["method", "layer", "n_seeds"]].rename(columns={"n_seeds": "seeds"})
    shown["difference"] = [_ABSENT if pd.isna(value) else f"{value:+.3f}" for value in table["difference"]]
    shown["95 % band, all layers"] = [_ABSENT if "nan" in text else text for text in band]
    for column, name in _P_VALUES.items():
        shown[name] = table[column].map(_shown_value)
    return shown


_P_VALUES = {"p_value": "p, this layer alone", "p_adjusted": "p, all layers", "p_least": "smallest p possible"}


def settings(findings: Findings) -> pd.DataFrame:
    """Return one column a network: how it was trained, where it stands, on what machine."""
    columns = {name: _facts(views) for name, views in by_network(findings.views).items()}
    return pd.DataFrame(columns).fillna(_ABSENT)


def _facts(views: Sequence[View]) -> dict[str, str]:
    run = views[-1].run
    config, status, environment = run.config, run.status, run.info.get("environment", {})
    facts = dict(config)
    if is_trained_here(config):
        training = config["training"]
        unused = ("boundaries", "estimator_learning_rate") if training.get("rule") == "backprop" else ()
        facts = {name.replace("_", " "): None if name.startswith(unused) else value for name, value in training.items()}
        facts |= {f"{rule}, boundaries": shortened(ks) for rule, ks in config.get("boundaries", {}).items()}
        facts |= {f"examples, {part}": config["data"][f"n_{part}"] for part in ("train", "validation", "test")}
    steps = ", ".join(str(view.step) for view in views)
    facts |= {"step shown": steps, "state": status.get("state"), "test accuracy": status.get("test_accuracy")}
    facts |= {"torch": environment.get("packages", {}).get("torch")}
    return {name: _shown_value(value) for name, value in facts.items()}


def _shown_value(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return _ABSENT
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def shortened(numbers: Sequence[int]) -> str:
    """Return ascending whole numbers with their ranges.

    Examples
    --------
    >>> shortened([1, 2, 3, 7])
    '1-3, 7'
    """
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)
