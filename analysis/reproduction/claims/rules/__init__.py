"""E7: every learning rule on one network, as one training step with another gradient at the boundaries."""

from analysis.reproduction.claims.rules.experiment import RULES

__all__ = ["RULES"]
