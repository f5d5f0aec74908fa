"""What the options of commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = ["PENALTIES", "Penalties", "given", "numbers"]


PENALTIES = "0.001,0.01,0.1,1,10"
Penalties = Annotated[
    str, typer.Option("--Cs", help="Values of C, with commas, that probes choose from; small ones penalise more.")
]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that the user gave; those left out keep the defaults of the function behind the command."""
    return {name: value for name, value in options.items() if value is not None}


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Return the numbers in a text with commas.

    Raises
    ------
    ValueError
        If something else is among them.

    Examples
    --------
    >>> numbers("0.1,1", "--Cs")
    (0.1, 1.0)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} is {text!r}; expected numbers with commas, such as 0.01,0.1,1.") from None
