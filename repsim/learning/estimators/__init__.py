"""Gradient estimators, one family per file; a learning rule is a choice of one at each boundary."""

from repsim.learning.estimators.backprop import Backprop
from repsim.learning.estimators.estimator import Estimator, Signals, locks
from repsim.learning.estimators.synthetic_gradient import SyntheticGradient

__all__ = ["ESTIMATORS", "Backprop", "Estimator", "Signals", "SyntheticGradient", "locks"]

ESTIMATORS: dict[str, type[Estimator]] = {
    "backprop": Backprop,
    "synthetic-gradient": SyntheticGradient,
}
