"""Claim: synthetic gradients preserve the critical points that their module can express."""

from analysis.execution import Task
from analysis.reproduction.claim import Claim, Plan
from analysis.reproduction.claims.critical_points import conclude, figures, parts, starts

__all__ = ["CLAIM"]


def _parts(plan: Plan) -> list[Task]:
    """Return the tasks of one start per seed, and of many."""
    return [*parts.parts(plan), *starts.start_tasks(plan)]


CLAIM = Claim(
    name="critical-points",
    title="Critical points",
    statement="[S] Using synthetic gradients does not affect the representational strength of the learning system: [M] "
    "the critical points of the original problem, where the SG module can express the true gradient, persist.",
    parts=_parts,
    conclude=conclude.conclude,
    figures=figures.figures,
)
