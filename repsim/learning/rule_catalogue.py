"""Table of learning rules, derived from the declarations of the estimators."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from repsim.learning.estimators import ESTIMATORS, locks
from repsim.learning.learner import site_of
from repsim.learning.networks import mlp
from repsim.learning.rules import Rule

__all__ = ["CatalogueEntry", "catalogue"]


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
        A subset of ("backward", "update").
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
    ['truncated', 'noise', 'direct-random-target', 'synthetic-gradient', 'decoupled-greedy']
    """
    network = mlp(2, 2, depth=2, width=2, generator=torch.Generator())
    site = site_of(network, 1, n_outputs=2)
    entries = []
    for name, rule in ESTIMATORS.items():
        estimator = Rule(name, {}).build(site)
        options = estimator.options.to_dict()
        meanings = {option.name: option.help for option in rule.Options.settings()}
        needs, locked = tuple(sorted(estimator.needs)), tuple(sorted(locks(estimator)))
        entries.append(
            CatalogueEntry(
                name, rule.formula, rule.learns, needs, locked, options, meanings, rule.places, rule.reference
            )
        )
    return entries
