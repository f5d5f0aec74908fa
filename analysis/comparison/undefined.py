"""Results that are not defined for a layer: computing what may fail, and the reason if it does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from checkpoints import Damaged

__all__ = ["Attempt", "Undefined", "attempt"]

_Value = TypeVar("_Value")


class Undefined(NamedTuple):
    """A result that one layer of a piece does not have.

    Attributes
    ----------
    source : int
        Position of the layer's source among those of the piece.
    layer : str
    result : str
        ``rdm``, ``class_structure``, ``rdm_similarity``, ``probes`` or the name of a measure.
    reason : str
        A sentence.
    """

    source: int
    layer: str
    result: str
    reason: str


@dataclass(frozen=True)
class Attempt(Generic[_Value]):
    """What a computation returned, or why it failed.

    Attributes
    ----------
    value : object or None
        None if it failed.
    warnings : list of str
        Messages of the warnings that it raised, each once.
    error : str
        The message of the error; empty if there was none.
    """

    value: _Value | None
    warnings: list[str]
    error: str

    @property
    def reason(self) -> str:
        """Why there is no defined value, as far as it is known."""
        return self.error or " ".join(self.warnings) or "The value is NaN."


def attempt(compute: Callable[[], _Value]) -> Attempt[_Value]:
    """Compute something that the activations of one layer may not allow.

    Errors that belong to the numbers (``ValueError`` and ``ArithmeticError``) become the reason. All others, such as
    damaged files and a lack of memory, are raised: another attempt may succeed.
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
    messages = [str(each.message) for each in caught if issubclass(each.category, RuntimeWarning | UserWarning)]
    return Attempt(value, list(dict.fromkeys(messages)), error)
