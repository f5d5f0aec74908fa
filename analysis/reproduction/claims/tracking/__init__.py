"""Claim: training converges where the synthetic gradient tracks the true one closely enough."""

from analysis.reproduction.claim import Claim
from analysis.reproduction.claims.tracking import conclude, figures, parts

__all__ = ["CLAIM"]

CLAIM = Claim(
    name="tracking",
    title="Tracking and convergence",
    statement="[M] After the paper: if the error of the synthetic gradient is at most ε, the Jacobian of the "
    "activations with respect to the parameters θ below is bounded by C, and at every iteration εC ≤ ‖∂L/∂θ‖ "
    "(1 − δ) / (1 + δ) for one fixed δ between 0 and 1, then training converges to a solution of the original problem. "
    "With r = εC / ‖∂L/∂θ‖ the condition is that r stays below 1, and away from it.",
    parts=parts.parts,
    conclude=conclude.conclude,
    figures=figures.figures,
)
