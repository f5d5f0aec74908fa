"""The published experiments, a file or a folder each: a claim, parts that test it, and what follows from them."""

from analysis.experiments.artificial import ARTIFICIAL_DATA
from analysis.experiments.critical_points import CRITICAL_POINTS
from analysis.experiments.depth import DEPTH
from analysis.experiments.experiment import SCALES, VERDICTS, Experiment, Part, Plan, Results, Section
from analysis.experiments.implied_loss import IMPLIED_LOSS
from analysis.experiments.probes import PROBES
from analysis.experiments.rdm import RDM
from analysis.experiments.rules import RULES
from analysis.experiments.tracking import TRACKING
from analysis.experiments.value_gradients import VALUE_GRADIENTS

__all__ = ["EXPERIMENTS", "SCALES", "VERDICTS", "Experiment", "Part", "Plan", "Results", "Section"]

EXPERIMENTS: dict[str, Experiment] = {
    each.name: each
    for each in (CRITICAL_POINTS, ARTIFICIAL_DATA, TRACKING, DEPTH, RDM, PROBES, IMPLIED_LOSS, RULES, VALUE_GRADIENTS)
}
