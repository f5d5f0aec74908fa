"""Checks of settings, whose errors name the setting, its value and what was expected."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import TypeGuard

__all__ = ["check_choice", "check_finite", "check_integer", "check_positive", "check_range"]


def check_integer(name: str, value: object, lowest: int) -> None:
    """Raise ValueError unless a setting is a whole number of ``lowest`` or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
        raise ValueError(f"{name} is {value!r}; expected a whole number of {lowest} or more.")


def check_finite(name: str, value: object) -> None:
    """Raise ValueError unless a setting is a finite number."""
    if not _is_number(value) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; expected a finite number.")


def check_positive(name: str, value: object) -> None:
    """Raise ValueError unless a setting is a finite number above 0."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}; expected a number above 0.")


def check_range(name: str, value: object, lowest: float, highest: float = math.inf) -> None:
    """Raise ValueError unless a setting is a finite number from ``lowest`` to ``highest``."""
    if not _is_number(value) or not lowest <= value <= highest or value == math.inf:
        expected = f"of {lowest:g} or more" if highest == math.inf else f"from {lowest:g} to {highest:g}"
        raise ValueError(f"{name} is {value!r}; expected a number {expected}.")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise ValueError unless a setting is one of the choices."""
    if value not in (choices := list(choices)):
        raise ValueError(f"Unknown {name} '{value}'. Choose one of: {', '.join(choices)}.")


def _is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is an int or float (infinity and NaN included) that fits in a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) <= sys.float_info.max
