"""Linear classifier probes: what a linear reader can get out of each layer, with a certificate of every fit."""

from probes.layers import probe_layers
from probes.logistic import LogisticProbe
from probes.solvers import SOLVERS

__all__ = ["SOLVERS", "LogisticProbe", "probe_layers"]
