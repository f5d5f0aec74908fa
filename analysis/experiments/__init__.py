"""The published experiments, one file each: a claim, parts that put it to the test, and what follows from them."""

from analysis.experiments.artificial import ARTIFICIAL_DATA
from analysis.experiments.depth import DEPTH
from analysis.experiments.experiment import SCALES, VERDICTS, Experiment, Part, Plan, Results, Section
from analysis.experiments.probes import PROBES
from analysis.experiments.rdm import RDM

__all__ = ["EXPERIMENTS", "SCALES", "VERDICTS", "Experiment", "Part", "Plan", "Results", "Section"]

EXPERIMENTS: dict[str, Experiment] = {each.name: each for each in (ARTIFICIAL_DATA, DEPTH, RDM, PROBES)}
