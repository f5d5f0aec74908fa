"""Synthetic inputs: modules that predict the activation at a boundary before the segments below have run."""

from repsim.learning.inputs.synthetic_input import (
    SyntheticInput,
    SyntheticInputOptions,
    locks_above,
    predict_inputs,
)

__all__ = ["SyntheticInput", "SyntheticInputOptions", "locks_above", "predict_inputs"]
