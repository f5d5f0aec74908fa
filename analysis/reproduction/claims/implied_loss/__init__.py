"""Claim: a synthetic gradient implies a loss; a linear module implies a quadratic one."""

from analysis.reproduction.claim import Claim
from analysis.reproduction.claims.implied_loss import conclude, figures, parts

__all__ = ["CLAIM"]

CLAIM = Claim(
    name="implied-loss",
    title="The implied loss",
    statement='[M] A synthetic gradient module implies a loss: integrating it recovers what the module "believes" the '
    "loss to be. The loss that a linear module implies can only be quadratic.",
    parts=parts.parts,
    conclude=conclude.conclude,
    figures=figures.figures,
)
