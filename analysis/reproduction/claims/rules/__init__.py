"""Claim: all learning rules are one training step with another gradient at the boundaries."""

from analysis.reproduction.claim import Claim
from analysis.reproduction.claims.rules import conclude, figures, parts

__all__ = ["CLAIM"]

CLAIM = Claim(
    name="rules",
    title="All rules in one language",
    statement="[S] Synthetic gradients fit one unifying language with other techniques that approximate errors: noise, "
    "feedback alignment, direct feedback alignment, random backpropagation and the learning channel, Kickback, schemes "
    "like target propagation.",
    parts=parts.parts,
    conclude=conclude.conclude,
    figures=figures.figures,
)
