"""Parameters and errors that the docstrings of all measures and statistics share."""

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_LABELS = "labels : array-like (n,)\n    The class of every stimulus: numbers or strings.\n"
_ERRORS_OF_LABELS = (
    "there is not one label per stimulus",
    "labels are missing or of mixed kinds",
    "there is only one class",
    "no class has two members",
)


def complete_docstring(condition: str = "") -> Callable[[F], F]:
    """Return a decorator that adds the parameters X, Y and labels to a docstring, and the errors that follow from them.

    ``condition`` is a sentence on X, which holds for Y as well. A parameter that the docstring describes is not added.
    """

    def complete(function: F) -> F:
        if function.__doc__:  # None with python -OO
            parameters = list(inspect.signature(function).parameters)
            function.__doc__ = _complete(inspect.cleandoc(function.__doc__), parameters, condition)
        return function

    return complete


def _complete(text: str, names: Sequence[str], condition: str) -> str:
    before, _, after = text.partition("\nReturns\n-------\n")
    body, _, own = before.partition("\nParameters\n----------\n")
    is_restricted = bool(condition) or "X : " in own
    added = {name: entry for name, entry in _parameters(names, condition).items() if f"{name} : " not in own}
    place = re.search(r"^(?:Warns|References)\n-", after, re.MULTILINE)
    assert place is not None  # every measure and statistic names its source
    errors = textwrap.indent(textwrap.fill(_errors(names, is_restricted=is_restricted), 100), "    ")
    return (
        f"{body}\nParameters\n----------\n{''.join(added.values())}{own}\nReturns\n-------\n{after[: place.start()]}"
        f"Raises\n------\nValueError\n{errors}\n\n{after[place.start() :]}"
    )


def _parameters(names: Sequence[str], condition: str) -> dict[str, str]:
    sentence = f"    {condition}\n" if condition else ""
    if "Y" in names:
        same = f"    The same stimuli in the same order{', with the same condition' if condition else ''}.\n"
        return {"X": f"X : array-like (n, d1)\n{sentence}", "Y": f"Y : array-like (n, d2)\n{same}"}
    return {"X": f"X : array-like (n, d)\n{sentence}"} | ({"labels": _LABELS} if "labels" in names else {})


def _errors(names: Sequence[str], *, is_restricted: bool) -> str:
    which = "X or Y" if "Y" in names else "X"
    errors = [f"{which} is not a finite real matrix"]
    errors += ["their numbers or ids of stimuli differ"] if "Y" in names else []
    errors += _ERRORS_OF_LABELS if "labels" in names else ()
    errors += [f"{which} does not meet its condition"] if is_restricted else []
    errors += ["an option is unknown or out of its range"] if set(names) - {"X", "Y", "labels"} else []
    return "If " + ", if ".join(errors[:-1]) + (", or if " if len(errors) > 1 else "") + errors[-1] + "."
