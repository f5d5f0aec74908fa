"""Claim 2: training converges where the synthetic gradient tracks the true one; where it does, and where not."""

from analysis.reproduction.claims.tracking.experiment import TRACKING

__all__ = ["TRACKING"]
