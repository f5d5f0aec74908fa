"""Linear classifier probes: what a linear reader can get out of each layer, with a certificate of every fit."""

from probes.controls import BASELINES, control_task, majority_rate, random_labels, random_projection, selectivity
from probes.description_length import OnlineCode, online_codelength, v_information
from probes.layers import probe_layers
from probes.logistic import LogisticProbe
from probes.neighbours import NeighbourProbe
from probes.recording import FitKey, Recording, baselines
from probes.ridge import RegressionProbe, RidgeProbe
from probes.solvers import SOLVERS, Fit
from probes.statistics import example_interval, first_layer_reaching, seed_bands, seed_differences

__all__ = [
    "BASELINES",
    "SOLVERS",
    "Fit",
    "FitKey",
    "LogisticProbe",
    "NeighbourProbe",
    "OnlineCode",
    "Recording",
    "RegressionProbe",
    "RidgeProbe",
    "baselines",
    "control_task",
    "example_interval",
    "first_layer_reaching",
    "majority_rate",
    "online_codelength",
    "probe_layers",
    "random_labels",
    "random_projection",
    "seed_bands",
    "seed_differences",
    "selectivity",
    "v_information",
]
