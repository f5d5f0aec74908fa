"""Entries of the registries of this room: measures, distances, comparators and statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from repsim.similarity import checks

# Transformations of a representation that a measure or a statistic may be invariant to.
INVARIANCES = frozenset({"permutation", "orthogonal", "invertible linear", "isotropic scaling", "translation"})


@dataclass(frozen=True, kw_only=True)
class About:
    """Documentation of an entry, as the tables of ``docs/measures.md`` show it.

    Parameters
    ----------
    formula : str
        In plain characters.
    cost : str
        Number of operations, in stimuli n, features d, pairs of stimuli m and classes c.
    use : str
        When to choose it.
    reference : str
        The paper, with its equation or section.
    """

    formula: str = "-"
    cost: str = "-"
    use: str = "-"
    reference: str = "-"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Declaration that measures, distances, comparators and statistics share.

    Parameters
    ----------
    name : str
        Its key in the registry.
    range : (float, float), default (-inf, inf)
        Smallest and largest value.
    about : About
        Its documentation.
    """

    name: str
    range: tuple[float, float] = (-math.inf, math.inf)
    about: About = About()

    # What a plain function takes that is given in place of an entry, for error messages.
    takes: ClassVar[str]

    def __post_init__(self) -> None:
        """Check the range."""
        if self.range[0] >= self.range[1]:
            raise ValueError(f"The range {self.range} is empty; expected (smallest, largest).")

    @classmethod
    def from_function(cls, name: str, function: Callable[..., Any]) -> Self:
        """Return an entry that computes with a plain function."""
        raise NotImplementedError


E = TypeVar("E", bound=Entry)


def choose(given: object, registry: Mapping[str, E], entry_type: type[E], kind: str) -> E:
    """Return the entry that a name, an entry or a plain function stands for.

    ``kind`` is what messages call the choice.

    Examples
    --------
    >>> choose("gap", {"gap": Entry(name="gap")}, Entry, "measure").name
    'gap'
    """
    if isinstance(given, str):
        return checks.choice(given, registry, kind)
    if isinstance(given, entry_type):
        return given
    if isinstance(given, Entry) or not callable(given):
        raise TypeError(
            f"{kind} is {given!r}; expected a name, a {entry_type.__name__}, or a function of {entry_type.takes}."
        )
    return entry_type.from_function(getattr(given, "__name__", f"own {kind}"), given)


def check_invariances(invariances: frozenset[str]) -> None:
    """Check that all invariances of a declaration are known."""
    if unknown := invariances - INVARIANCES:
        raise ValueError(f"Unknown invariances {sorted(unknown)}. Choose among: {', '.join(sorted(INVARIANCES))}.")
