"""All that the page's script reads: views, stimuli, tables, and where each array is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from analysis.comparison.result import Findings
from analysis.report.layers import add_layers, add_similarity
from analysis.report.networks import network_names
from analysis.report.packing import Arrays
from analysis.report.shown import choose_shown, most_shown
from analysis.report.thumbnails import thumbnails
from analysis.report.words import measures_in_words

__all__ = ["content_of"]

_MOST_CELLS = 500_000  # of a table in the page


def content_of(findings: Findings) -> tuple[dict[str, Any], Arrays]:
    """Return what is unpacked at once, ready for JSON, and the arrays that are unpacked when they are shown."""
    views, arrays = findings.views, Arrays()
    test = views[0].rows("test")
    n_rdms = sum(len(view.activations) for view in views)
    shown = choose_shown(views[0].run.stimuli.labels[test], most_shown(n_rdms))
    with threadpool_limits(1):  # matrices are small
        fits = add_layers(arrays, findings, shown)
    add_similarity(arrays, findings)
    content = {
        "distance": findings.distance,
        "views": [
            {"label": view.label, "network": name, "step": view.step, "layers": list(view.activations), "fits": fit}
            for view, name, fit in zip(views, network_names(views), fits, strict=True)
        ],
        "stimuli": _stimuli(findings, test[shown], len(test)),
        "measures": measures_in_words(findings),
        "chance": _number(findings.probes["chance"].iloc[0]) if len(findings.probes) else None,
        "has_log_loss": _has_log_loss(findings),
        "tables": {name: _columns(table) for name, table in _embedded(findings).items()},
        "arrays": arrays.index,
    }
    return content, arrays


def _stimuli(findings: Findings, rows: Any, n_test: int) -> dict[str, Any]:
    view = findings.views[0]
    kept, classes = view.run.stimuli, view.classes
    sprite, why_not = thumbnails(view.run, rows)
    labels = kept.labels[rows].tolist()
    return {
        "n_test": n_test,
        "ids": [str(each) for each in kept.ids[rows]],
        "labels": labels,
        "classes": {label: classes[label] for label in sorted(set(labels))},
        "sprite": None if sprite is None else sprite._asdict(),
        "why_not": why_not,
    }


def _has_log_loss(findings: Findings) -> bool:
    configs = [view.run.config.get("training") for view in findings.views]
    return all(isinstance(config, dict) and config.get("loss") == "log_loss" for config in configs)


def _embedded(findings: Findings) -> dict[str, pd.DataFrame]:
    """Return the tables that are small enough; similarities are arrays."""
    tables = {name: table for name, table in findings.tables.items() if name != "similarity"}
    return {name: table for name, table in tables.items() if table.size <= _MOST_CELLS}


def _columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    return {str(name): [_plain(value) for value in table[name].tolist()] for name in table}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return _number(value)
    return value if isinstance(value, bool | int | str | None) else str(value)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
