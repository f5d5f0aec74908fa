"""Claim: synthetic gradients preserve the critical points that their module can express."""

from analysis.reproduction.claim import Claim
from analysis.reproduction.claims.critical_points import conclude, figures, parts

__all__ = ["CLAIM"]

CLAIM = Claim(
    name="critical-points",
    title="Critical points",
    statement="[S] Using synthetic gradients does not affect the representational strength of the learning system: [M] "
    "the critical points of the original problem, where the SG module can express the true gradient, persist.",
    parts=parts.parts,
    conclude=conclude.conclude,
    figures=figures.figures,
)
