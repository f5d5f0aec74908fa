"""Table of learning rules and of the synthetic input, derived from their declarations."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from repsim.learning.estimators import ESTIMATORS, Estimator, Site, locks
from repsim.learning.inputs import SyntheticInput, locks_above
from repsim.learning.learner import site_of
from repsim.learning.networks import mlp
from repsim.learning.rules import Rule

__all__ = ["CatalogueEntry", "catalogue", "input_entry", "locks_of_boundary"]


@dataclass(frozen=True)
class CatalogueEntry:
    """One learning rule, as tables and commands show it.

    Attributes
    ----------
    name, formula, learns, places, reference : str
        Name of the rule, and the class attributes of its estimator.
    needs : tuple of str
        Signals that the rule reads, as field names of ``Signals``.
    locks : tuple of str
        Locks of the segments below the boundary, a subset of ("backward", "update"); of the synthetic input, the lock
        of the segments above, ("forward",) or nothing.
    options : dict of str to object
        Default values by option.
    meanings : dict of str to str
        Descriptions by option.
    """

    name: str
    formula: str
    learns: str
    needs: tuple[str, ...]
    locks: tuple[str, ...]
    options: dict[str, object]
    meanings: dict[str, str]
    places: str
    reference: str


def catalogue() -> list[CatalogueEntry]:
    """Return all rules in the order of ``ESTIMATORS``, each with its default options.

    Examples
    --------
    >>> [entry.name for entry in catalogue() if not entry.locks]
    ['truncated', 'noise', 'direct-random-target', 'synthetic-gradient', 'decoupled-greedy', 'forward-forward']
    """
    entries = []
    for name, rule in ESTIMATORS.items():
        estimator = Rule(name, {}).build(_site())
        entries.append(_entry(name, rule, estimator, tuple(sorted(locks(estimator)))))
    return entries


def input_entry() -> CatalogueEntry:
    """Return the synthetic input as an entry of the catalogue, with its default options.

    Examples
    --------
    >>> input_entry().needs, input_entry().locks
    (('stimulus',), ())
    """
    module = SyntheticInput(_site(), 2, generator=torch.Generator())
    return _entry(SyntheticInput.name, SyntheticInput, module, tuple(sorted(locks_above(module))))


def locks_of_boundary(entry: CatalogueEntry, *, synthetic_input: bool = False) -> tuple[str, ...]:
    """Return the locks on both sides of a boundary with a rule, with or without a synthetic input.

    Examples
    --------
    >>> (entry,) = (entry for entry in catalogue() if entry.name == "synthetic-gradient")
    >>> locks_of_boundary(entry), locks_of_boundary(entry, synthetic_input=True)
    (('forward',), ())
    """
    above = input_entry().locks if synthetic_input else tuple(locks_above(None))
    return tuple(sorted({*entry.locks, *above}))


def _site() -> Site:
    return site_of(mlp(2, 2, depth=2, width=2, generator=torch.Generator()), 1, n_outputs=2)


def _entry(
    name: str,
    kind: type[Estimator] | type[SyntheticInput],
    part: Estimator | SyntheticInput,
    locked: tuple[str, ...],
) -> CatalogueEntry:
    meanings = {option.name: option.help for option in kind.Options.settings()}
    needs, options = tuple(sorted(part.needs)), part.options.to_dict()
    return CatalogueEntry(
        name, kind.formula, kind.learns, needs, locked, options, meanings, kind.places, kind.reference
    )
