"""The published experiments, a file or a folder each: a claim, parts that test it, and what follows from them."""

from analysis.reproduction.claim import SCALES, VERDICTS, Experiment, Part, Plan, Results, Section
from analysis.reproduction.claims.artificial import ARTIFICIAL_DATA
from analysis.reproduction.claims.critical_points import CRITICAL_POINTS
from analysis.reproduction.claims.depth import DEPTH
from analysis.reproduction.claims.implied_loss import IMPLIED_LOSS
from analysis.reproduction.claims.probes import PROBES
from analysis.reproduction.claims.rdm import RDM
from analysis.reproduction.claims.rules import RULES
from analysis.reproduction.claims.tracking import TRACKING
from analysis.reproduction.claims.value_gradients import VALUE_GRADIENTS

__all__ = ["EXPERIMENTS", "SCALES", "VERDICTS", "Experiment", "Part", "Plan", "Results", "Section"]

EXPERIMENTS: dict[str, Experiment] = {
    each.name: each
    for each in (CRITICAL_POINTS, ARTIFICIAL_DATA, TRACKING, DEPTH, RDM, PROBES, IMPLIED_LOSS, RULES, VALUE_GRADIENTS)
}
