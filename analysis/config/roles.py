"""Roles of the arms of a comparison: reference, method, and controls by what each holds fixed."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONTROLS", "METHOD", "REFERENCE", "ROLES", "Role"]

REFERENCE, METHOD = "reference", "method"


@dataclass(frozen=True)
class Role:
    """Role of an arm.

    Attributes
    ----------
    meaning : str
        What the networks of the arm are.
    beyond : str
        What a difference between the method and this control is beyond; empty if the arm is no control.
    """

    meaning: str
    beyond: str = ""


ROLES = {
    REFERENCE: Role("the networks that all others are compared with"),
    METHOD: Role("the networks whose difference from the reference is to be explained"),
    "schedule-matched": Role(
        "networks of the reference's rule, trained with the method's rate, schedule and epochs", "schedule"
    ),
    "accuracy-matched": Role("the reference at the steps at which it has the method's validation accuracy", "accuracy"),
    "decoupled": Role(
        "networks of decoupled greedy learning at the method's boundaries, with its rate, schedule and epochs",
        "decoupling",
    ),
    "truncated": Role("networks of the reference's rule that end at the method's lowest boundary", "truncation"),
    "gradient-quality-matched": Role(
        "networks that learn from the true gradient, disturbed to the angle and norm that the method's had",
        "gradient quality",
    ),
    "reseeded": Role("networks of the reference's rule and settings with other seeds", "seeds"),
}

CONTROLS = tuple(name for name, role in ROLES.items() if role.beyond)
