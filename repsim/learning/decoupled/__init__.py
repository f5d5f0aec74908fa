"""Decoupled training: stages that learn before the stages above them have run."""

from repsim.learning.decoupled.local import LocalLearner
from repsim.learning.decoupled.pipeline import PipelineResult, StageReport, train_pipeline

__all__ = ["LocalLearner", "PipelineResult", "StageReport", "train_pipeline"]
