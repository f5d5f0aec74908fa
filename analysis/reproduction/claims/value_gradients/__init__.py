"""E8: value gradients, where the gradient of a learned critic is the synthetic gradient of a policy."""

from analysis.reproduction.claims.value_gradients.experiment import VALUE_GRADIENTS

__all__ = ["VALUE_GRADIENTS"]
