"""Inference on similarity: bootstrap, permutation tests, noise ceilings, groups of networks, many tests at once."""

from repsim.similarity.inference.bootstrap import evaluate_models
from repsim.similarity.inference.evaluation import ModelEvaluation
from repsim.similarity.inference.group_effects import GroupEffect, group_effect
from repsim.similarity.inference.groups import GroupTest, compare_groups
from repsim.similarity.inference.multiple import ADJUSTMENTS, adjust
from repsim.similarity.inference.permutation import MantelTest, mantel_test

__all__ = [
    "ADJUSTMENTS",
    "GroupEffect",
    "GroupTest",
    "MantelTest",
    "ModelEvaluation",
    "adjust",
    "compare_groups",
    "evaluate_models",
    "group_effect",
    "mantel_test",
]
