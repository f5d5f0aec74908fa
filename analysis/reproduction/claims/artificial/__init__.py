"""Claim: linear and deep linear models converge with synthetic gradients, to the solution of backprop."""

from analysis.reproduction.claim import Claim
from analysis.reproduction.claims.artificial import conclude, figures, line_searches, parts

__all__ = ["CLAIM"]

CLAIM = Claim(
    name="artificial",
    title="Artificial data",
    statement="[S] The learning system with synthetic gradients converges for linear and deep linear models; on four "
    "basic data sets in 2 and 100 dimensions, for a linear model and one with 10 hidden linear layers, with squared "
    "error and log loss, the question is whether it converges numerically to the same solution as backprop.",
    parts=lambda plan: [*parts.parts(plan), *line_searches.line_search_parts(plan)],
    conclude=conclude.conclude,
    figures=figures.figures,
)
