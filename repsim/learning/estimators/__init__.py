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
from repsim.learning.estimators.mixtures.control_variate import ControlVariate
from repsim.learning.estimators.mixtures.least_error_mixture import LeastErrorMixture
from repsim.learning.estimators.noise import Noise
from repsim.learning.estimators.observed import Observed
from repsim.learning.estimators.passes.equilibrium_propagation import EquilibriumPropagation
from repsim.learning.estimators.passes.forward_forward import ForwardForward
from repsim.learning.estimators.passes.pepita import Pepita
from repsim.learning.estimators.passes.predictive_coding import PredictiveCoding
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
    "ControlVariate",
    "DecoupledGreedy",
    "DirectFeedbackAlignment",
    "DirectRandomTarget",
    "DisturbedGradient",
    "EquilibriumPropagation",
    "Estimator",
    "FeedbackAlignment",
    "ForwardForward",
    "Kickback",
    "LeastErrorMixture",
    "Noise",
    "Observed",
    "Pepita",
    "PredictiveCoding",
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
    "control-variate": ControlVariate,
    "least-error-mixture": LeastErrorMixture,
    "decoupled-greedy": DecoupledGreedy,
    "target-propagation": TargetPropagation,
    "predictive-coding": PredictiveCoding,
    "forward-forward": ForwardForward,
    "pepita": Pepita,
    "equilibrium-propagation": EquilibriumPropagation,
}

add_installed(KINDS["rules"])
