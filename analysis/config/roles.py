"""Roles of the arms of a comparison: reference, method, and controls by what each holds fixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["CONTROLS", "METHOD", "REFERENCE", "ROLES", "ArmRole", "Role", "check_roles", "check_roles_are_held"]

REFERENCE, METHOD = "reference", "method"
_SCHEDULE = ("optimizer", "learning_rate", "schedule", "warmup", "weight_decay", "clip_norm", "epochs", "batch_size")
_NETWORK = ("data", "model", "network", "width", "heads", "patch", "norm", "activation", "loss")


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


@dataclass(frozen=True)
class ArmRole:
    """An arm and its role; ``method`` is the one that a control is for, "" for all.

    ``training`` holds the settings that its networks were trained with; None if they were trained elsewhere.
    """

    name: str
    role: str
    method: str = ""
    training: Mapping[str, Any] | None = None


def check_roles(arms: Sequence[ArmRole]) -> None:
    """Raise ValueError unless there is one reference, a method, and every control is for one of the methods."""
    for arm in arms:
        if arm.role not in ROLES:
            raise ValueError(f"Arm '{arm.name}': unknown role '{arm.role}'. Choose one of: {', '.join(ROLES)}.")
    references, methods = ([arm.name for arm in arms if arm.role == role] for role in (REFERENCE, METHOD))
    if len(references) != 1:
        raise ValueError(f"There are {len(references)} arms with the role '{REFERENCE}'; expected one.")
    if not methods:
        raise ValueError(f"There is no arm with the role '{METHOD}'; expected one or more.")
    for arm in arms:
        if arm.method and arm.method not in methods:
            raise ValueError(
                f"Arm '{arm.name}' is a control for '{arm.method}', which is no method. "
                f"Choose one of: {', '.join(methods)}."
            )


def check_roles_are_held(arms: Sequence[ArmRole]) -> None:
    """Raise ValueError if a control does not hold fixed what its role says."""
    (reference,) = (arm for arm in arms if arm.role == REFERENCE)
    for arm in (arm for arm in arms if arm.role in CONTROLS):
        for method in (each for each in arms if each.role == METHOD and arm.method in ("", each.name)):
            for other, names in _held(arm.role, reference, method):
                _check_is_equal(arm, method, other, names)


def _check_is_equal(arm: ArmRole, method: ArmRole, other: ArmRole, names: Sequence[str]) -> None:
    if arm.training is None or other.training is None:
        return
    for name in names:
        if arm.training.get(name) != other.training.get(name):
            raise ValueError(
                f"Arm '{arm.name}' is {arm.role} for '{method.name}', but its {name} is {arm.training.get(name)}, and "
                f"that of '{other.name}' is {other.training.get(name)}. Train it with the same, or give the arm "
                "another role."
            )


def _held(role: str, reference: ArmRole, method: ArmRole) -> Iterator[tuple[ArmRole, tuple[str, ...]]]:
    """Yield the arms whose settings a control of a role has, and these settings."""
    if role == "schedule-matched":
        yield method, (*_SCHEDULE, *_NETWORK, "depth")
        yield reference, ("rule",)
    elif role in ("decoupled", "gradient-quality-matched"):
        yield method, (*_SCHEDULE, *_NETWORK, "depth")
    elif role == "truncated":
        yield reference, ("rule", *_NETWORK)
    elif role in ("reseeded", "accuracy-matched"):
        yield reference, ("rule", *_SCHEDULE, *_NETWORK, "depth")
