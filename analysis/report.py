"""One self-contained HTML page: summary, figures, tables, settings; it needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.drawing import Drawing, embedded
from analysis.findings import Findings
from analysis.page import as_html, render
from analysis.steps import is_trained_here

__all__ = ["write_report"]

_ABSENT = "\u2013"


def write_report(path: Path, title: str, findings: Findings, drawings: Sequence[Drawing], figures: Path) -> None:
    """Write the page.

    Parameters
    ----------
    path : Path
        The new HTML file.
    title : str
    findings : Findings
    drawings : sequence of Drawing
    figures : Path
        Folder with a PNG of each drawing, which is put into the page.
    """
    page = render(
        "report.html.j2",
        title=title,
        summary=findings.summary(),
        drawings=[embedded(drawing, figures) for drawing in drawings],
        probes=as_html(_accuracy_by_layer(findings)),
        first_layers=as_html(_first_layers(findings)),
        networks=as_html(_networks(findings)),
        failures=findings.probe_failures(),
        files=[f"{name}.csv" for name in findings.tables] + [findings.rdm_path.name],
    )
    path.write_text(page, encoding="utf-8")


def _accuracy_by_layer(findings: Findings) -> pd.DataFrame:
    table = findings.probes.pivot(index=["depth", "layer"], columns="view", values="accuracy")
    shown = table[[view.label for view in findings.views]].map(
        lambda value: _ABSENT if pd.isna(value) else f"{value:.3f}"
    )
    return shown.droplevel("depth").rename_axis(index=None, columns=None)


def _first_layers(findings: Findings) -> pd.DataFrame:
    """Return one row a network, one column a share of its last accuracy: the first layer that reaches it."""
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


def _networks(findings: Findings) -> pd.DataFrame:
    """Return one column a network: how it was trained, where it stands, on what machine."""
    columns = {
        view.label: _facts(view.run.config, view.run.status, view.run.info, view.step) for view in findings.views
    }
    return pd.DataFrame(columns).fillna(_ABSENT)


def _facts(config: dict[str, Any], status: dict[str, Any], info: dict[str, Any], step: int) -> dict[str, str]:
    environment = info.get("environment", {})
    facts = dict(config)
    if is_trained_here(config):
        training = config["training"]
        unused = ("boundaries", "estimator_learning_rate") if training.get("rule") == "backprop" else ()
        facts = {name.replace("_", " "): None if name.startswith(unused) else value for name, value in training.items()}
        facts |= {f"{rule}, boundaries": shortened(ks) for rule, ks in config.get("boundaries", {}).items()}
        facts |= {f"examples, {part}": config["data"][f"n_{part}"] for part in ("train", "validation", "test")}
    facts |= {"step shown": step, "state": status.get("state"), "test accuracy": status.get("test_accuracy")}
    facts |= {"torch": environment.get("packages", {}).get("torch")}
    return {name: _shown_value(value) for name, value in facts.items()}


def _shown_value(value: Any) -> str:
    if value is None:
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
