"""Learning: networks as chains of segments, and what gradient each layer gets."""

from repsim.learning.catalogue import CatalogueEntry, catalogue
from repsim.learning.config import TrainingConfig
from repsim.learning.data.artificial import ARTIFICIAL, artificial
from repsim.learning.data.dataset import Dataset
from repsim.learning.data.loading import DATASETS, SPLITS, load_dataset, read_npz, split_dataset
from repsim.learning.decoupled.local import LocalLearner
from repsim.learning.decoupled.pipeline import PipelineResult, StageReport, train_pipeline
from repsim.learning.diagnostics import Diagnosis, diagnose, true_gradients
from repsim.learning.estimators import (
    ESTIMATORS,
    AdaptiveRandomBackprop,
    AdaptiveSkippedBackprop,
    Backprop,
    BPLambda,
    DecoupledGreedy,
    DirectFeedbackAlignment,
    DirectRandomTarget,
    Estimator,
    FeedbackAlignment,
    Kickback,
    Noise,
    Observed,
    Signals,
    SignSymmetric,
    Site,
    SyntheticGradient,
    SyntheticGradientProp,
    TargetPropagation,
    locks,
)
from repsim.learning.learner import Learner, build_learner, build_optimizer, site_of
from repsim.learning.losses import LOSSES
from repsim.learning.networks import NETWORKS, Chain, Readout, ResidualBlock, Segment, conv_net, mlp, residual_net
from repsim.learning.parallel.memory import keep_freed_memory
from repsim.learning.parallel.replicas import Choice, Replicas, ReplicaTraining, train_replicas
from repsim.learning.rules import Rule, choose_boundaries, option_types, parse_rules
from repsim.learning.seeds import stream
from repsim.learning.stacking import stack, unstack
from repsim.learning.step import Outcome, compute_gradients
from repsim.learning.training import Diverged, Evaluation, Step, count_steps, evaluate, train

__all__ = [
    "ARTIFICIAL",
    "DATASETS",
    "ESTIMATORS",
    "LOSSES",
    "NETWORKS",
    "SPLITS",
    "AdaptiveRandomBackprop",
    "AdaptiveSkippedBackprop",
    "BPLambda",
    "Backprop",
    "CatalogueEntry",
    "Chain",
    "Choice",
    "Dataset",
    "DecoupledGreedy",
    "Diagnosis",
    "DirectFeedbackAlignment",
    "DirectRandomTarget",
    "Diverged",
    "Estimator",
    "Evaluation",
    "FeedbackAlignment",
    "Kickback",
    "Learner",
    "LocalLearner",
    "Noise",
    "Observed",
    "Outcome",
    "PipelineResult",
    "Readout",
    "ReplicaTraining",
    "Replicas",
    "ResidualBlock",
    "Rule",
    "Segment",
    "SignSymmetric",
    "Signals",
    "Site",
    "StageReport",
    "Step",
    "SyntheticGradient",
    "SyntheticGradientProp",
    "TargetPropagation",
    "TrainingConfig",
    "artificial",
    "build_learner",
    "build_optimizer",
    "catalogue",
    "choose_boundaries",
    "compute_gradients",
    "conv_net",
    "count_steps",
    "diagnose",
    "evaluate",
    "keep_freed_memory",
    "load_dataset",
    "locks",
    "mlp",
    "option_types",
    "parse_rules",
    "read_npz",
    "residual_net",
    "site_of",
    "split_dataset",
    "stack",
    "stream",
    "train",
    "train_pipeline",
    "train_replicas",
    "true_gradients",
    "unstack",
]
