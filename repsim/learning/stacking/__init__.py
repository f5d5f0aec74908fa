"""Stacking: several modules of equal shape as one module, evaluated together."""

from repsim.learning.stacking.stacked_layers import BATCHED, Batched
from repsim.learning.stacking.stacks import stack, unstack

__all__ = ["BATCHED", "Batched", "stack", "unstack"]
