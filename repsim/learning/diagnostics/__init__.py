"""Diagnostics of training: a rule's gradients, updates, feedback weights and predictions beside the true ones."""

from repsim.learning.diagnostics.bias_variance import BiasVariance, bias_variances, gradient_bias_variance
from repsim.learning.diagnostics.diagnosis import Diagnosis, TrueStep, diagnose, diagnose_step, true_step

__all__ = [
    "BiasVariance",
    "Diagnosis",
    "TrueStep",
    "bias_variances",
    "diagnose",
    "diagnose_step",
    "gradient_bias_variance",
    "true_step",
]
