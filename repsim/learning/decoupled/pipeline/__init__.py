"""A pipeline: groups of segments in processes of their own, which exchange activations and gradients."""

from repsim.learning.decoupled.pipeline.pipeline import PipelineResult, train_pipeline
from repsim.learning.decoupled.pipeline.worker import StageReport

__all__ = ["PipelineResult", "StageReport", "train_pipeline"]
