"""Networks of arms, and the contrasts of arms that a design compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.config.roles import METHOD, REFERENCE

__all__ = ["LEAST_SEEDS", "USUAL_SEEDS", "Contrast", "Member", "contrasts_of"]

LEAST_SEEDS = 3  # of an arm: with one left out, there must be a pair
USUAL_SEEDS = (3, 4, 5, 6, 8, 10, 12, 15, 20, 30)  # per arm, whose power is computed by default


@dataclass(frozen=True)
class Member:
    """One network of an arm: the arm, the seed that it started from, and the split of the data that it saw."""

    arm: str
    seed: int
    split: int = 0


@dataclass(frozen=True)
class Contrast:
    """Comparison of two arms that says something about a method.

    Attributes
    ----------
    method : str
    kind : {"total", "beyond", "alone"}
        The method against the reference, the method against a control, or a control against the reference.
    control : str
        Name of the control; empty for ``"total"``.
    arm, base : str
        The two arms; differences are those of ``arm`` from ``base``.
    """

    method: str
    kind: str
    control: str
    arm: str
    base: str


def contrasts_of(roles: Mapping[str, str], controls_for: Mapping[str, str]) -> list[Contrast]:
    """Return the contrasts of a design: for each method its total, then each of its controls.

    ``roles`` maps arms to roles; ``controls_for`` maps controls to the method that they are for, or to "" for all.
    """
    (reference,) = (name for name, role in roles.items() if role == REFERENCE)
    found = []
    for method in (name for name, role in roles.items() if role == METHOD):
        found.append(Contrast(method, "total", "", method, reference))
        for control, role in roles.items():
            if role not in (REFERENCE, METHOD) and controls_for.get(control, "") in ("", method):
                found += [
                    Contrast(method, "beyond", control, method, control),
                    Contrast(method, "alone", control, control, reference),
                ]
    return found
