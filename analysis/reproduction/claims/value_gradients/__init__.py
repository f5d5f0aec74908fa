"""Claim: value gradients are synthetic gradients, of a policy from a learned critic."""

from analysis.reproduction.claim import Claim
from analysis.reproduction.claims.value_gradients import conclude, figures, parts

__all__ = ["CLAIM"]

CLAIM = Claim(
    name="value-gradients",
    title="Value gradients",
    statement="[S] Synthetic gradients fit one unifying language with value-gradient learning (Fairbank) and "
    "stochastic value gradients (Heess): the gradient ∂V/∂x of a learned critic is a synthetic gradient, used in place "
    "of the gradient that would be sent back through the whole future.",
    parts=parts.parts,
    conclude=conclude.conclude,
    figures=figures.figures,
)
