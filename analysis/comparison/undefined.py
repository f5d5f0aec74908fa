"""Computations that may be undefined for a layer, and the reason if they are."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from analysis.execution.task import messages_of
from checkpoints import Damaged

__all__ = ["Attempt", "attempt", "finite"]

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Attempt(Generic[_Value]):
    """The value of a computation, or None and the message of its error; and its warnings, each once."""

    value: _Value | None
    warnings: list[str]
    error: str

    @property
    def reason(self) -> str:
        """The error or the warnings that explain why there is no defined value."""
        return self.error or " ".join(self.warnings) or "The value is not a finite number."


def attempt(compute: Callable[[], _Value]) -> Attempt[_Value]:
    """Return the value of a computation that may be undefined for some activations.

    ``ValueError`` and ``ArithmeticError`` depend on the numbers alone and become the reason. All other errors, such as
    those of damaged files and missing memory, are raised, because another attempt may succeed.
    """
    value, error = None, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = compute()
        except Damaged:
            raise
        except (ValueError, ArithmeticError) as failure:
            error = str(failure) or type(failure).__name__
    return Attempt(value, messages_of(caught), error)


def finite(value: Any) -> float | None:
    """Return a number as JSON takes it; None if there is none or it is not finite."""
    return float(value) if value is not None and math.isfinite(value) else None
