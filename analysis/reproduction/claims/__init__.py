"""Registry of the claims, each a module that is imported when the claim is needed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.reproduction.claim import Claim

__all__ = ["CLAIMS", "load_claim", "load_claims"]

# Each module defines CLAIM; a Claim itself is accepted too.
CLAIMS: dict[str, str | Claim] = {
    "critical-points": "analysis.reproduction.claims.critical_points",
    "artificial": "analysis.reproduction.claims.artificial",
    "tracking": "analysis.reproduction.claims.tracking",
    "depth": "analysis.reproduction.claims.depth",
    "rdm": "analysis.reproduction.claims.rdm",
    "probes": "analysis.reproduction.claims.probes",
    "implied-loss": "analysis.reproduction.claims.implied_loss",
    "rules": "analysis.reproduction.claims.rules",
    "value-gradients": "analysis.reproduction.claims.value_gradients",
}


def load_claim(name: str) -> Claim:
    """Return a registered claim."""
    if name not in CLAIMS:
        raise ValueError(f"Unknown claim '{name}'. Choose one of: {', '.join((*CLAIMS, 'all'))}.")
    entry = CLAIMS[name]
    claim: Claim = import_module(entry).CLAIM if isinstance(entry, str) else entry
    return claim


def load_claims(names: Iterable[str | Claim]) -> list[Claim]:
    """Return the claims of the given names, in the order of ``CLAIMS``, then those given as objects.

    The name "all" stands for all registered claims.
    """
    given = list(names)
    chosen = [each for each in given if isinstance(each, str) and each != "all"]
    for name in chosen:
        load_claim(name)
    registered = [load_claim(name) for name in CLAIMS if name in chosen or "all" in given]
    return registered + [each for each in given if not isinstance(each, str) and each not in registered]
