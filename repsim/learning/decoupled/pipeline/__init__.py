"""Pipelines: stages in separate processes, which exchange activations and gradients."""

from repsim.learning.decoupled.pipeline.pipeline import PipelineResult, train_pipeline
from repsim.learning.decoupled.pipeline.stage_training import StageReport

__all__ = ["PipelineResult", "StageReport", "train_pipeline"]
