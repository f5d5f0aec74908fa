"""Gradient estimators, one family per file; a learning rule uses one at each boundary."""

from repsim.learning.estimators.backprop import Backprop
from repsim.learning.estimators.direct_feedback import (
    AdaptiveSkippedBackprop,
    DirectFeedbackAlignment,
    DirectRandomTarget,
)
from repsim.learning.estimators.disturbed_gradient import DisturbedGradient
from repsim.learning.estimators.estimator import Estimator, RuleOptions, Signals, Site, locks
from repsim.learning.estimators.feedback_alignment import AdaptiveRandomBackprop, FeedbackAlignment, SignSymmetric
from repsim.learning.estimators.greedy import DecoupledGreedy
from repsim.learning.estimators.kickback import Kickback
from repsim.learning.estimators.noise import Noise
from repsim.learning.estimators.observed import Observed
from repsim.learning.estimators.synthetic_gradient import BPLambda, SyntheticGradient, SyntheticGradientProp
from repsim.learning.estimators.target_propagation import TargetPropagation
from repsim.learning.estimators.truncated import Truncated
from repsim.registration import add_installed
from repsim.registry_kinds import KINDS

__all__ = [
    "ESTIMATORS",
    "AdaptiveRandomBackprop",
    "AdaptiveSkippedBackprop",
    "BPLambda",
    "Backprop",
    "DecoupledGreedy",
    "DirectFeedbackAlignment",
    "DirectRandomTarget",
    "DisturbedGradient",
    "Estimator",
    "FeedbackAlignment",
    "Kickback",
    "Noise",
    "Observed",
    "RuleOptions",
    "SignSymmetric",
    "Signals",
    "Site",
    "SyntheticGradient",
    "SyntheticGradientProp",
    "TargetPropagation",
    "Truncated",
    "locks",
]

ESTIMATORS: dict[str, type[Estimator]] = {  # a new rule is a file in this folder and a line here
    "backprop": Backprop,
    "truncated": Truncated,
    "noise": Noise,
    "disturbed-gradient": DisturbedGradient,
    "feedback-alignment": FeedbackAlignment,
    "sign-symmetric": SignSymmetric,
    "adaptive-random-backprop": AdaptiveRandomBackprop,
    "direct-feedback-alignment": DirectFeedbackAlignment,
    "adaptive-skipped-backprop": AdaptiveSkippedBackprop,
    "direct-random-target": DirectRandomTarget,
    "kickback": Kickback,
    "synthetic-gradient": SyntheticGradient,
    "synthetic-gradient-prop": SyntheticGradientProp,
    "bp-lambda": BPLambda,
    "decoupled-greedy": DecoupledGreedy,
    "target-propagation": TargetPropagation,
}

add_installed(KINDS["rules"])
