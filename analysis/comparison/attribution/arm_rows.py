"""Rows of the table of arms."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.comparison.attribution.alignment import logged_accuracy
from analysis.comparison.attribution.arms import OpenArm, differing_settings
from analysis.comparison.attribution.design import Design
from analysis.config.roles import REFERENCE

__all__ = ["arm_rows", "describe_differences", "describe_setting"]


def arm_rows(design: Design) -> list[dict[str, Any]]:
    """Return one row per arm and aligned step."""
    reference = next(arm for arm in design.arms if arm.arm.role == REFERENCE)
    return [
        {
            "arm": arm.name,
            "role": arm.arm.role,
            "method": arm.arm.method,
            "n_seeds": len(arm.members),
            "seeds": " ".join(str(member.seed) for member in arm.members),
            "at": aligned.name,
            "step": aligned.steps[arm.name][0],
            "validation_accuracy": _mean(
                [logged_accuracy(run, step) for run, step in zip(arm.runs, aligned.steps[arm.name], strict=True)]
            ),
            "accuracy_gap": aligned.accuracy_gaps.get(arm.name),
            "test_accuracy": _mean([run.status.get("test_accuracy") for run in arm.runs]),
            "differs": describe_differences(reference, arm),
        }
        for arm in design.arms
        for aligned in design.aligned
    ]


def describe_differences(reference: OpenArm, arm: OpenArm) -> str:
    """Return the settings of training in which an arm differs from the reference, such as "epochs 130 (40)"."""
    found = differing_settings(reference.runs[0].config, arm.runs[0].config)
    return ", ".join(describe_setting(name, *values) for name, values in found.items())


def describe_setting(name: str, first: Any, second: Any) -> str:
    """Return a setting with the value that it has instead of that of the reference, in parentheses."""
    return f"{name} {second}" + ("" if first is None else f" ({first})")


def _mean(values: list[Any]) -> float | None:
    return float(np.mean(values)) if all(value is not None for value in values) else None
