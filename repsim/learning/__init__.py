"""Learning: networks as chains of segments, and what gradient each layer gets."""

from repsim.learning.config import TrainingConfig, choose_boundaries
from repsim.learning.data import DATASETS, SPLITS, Dataset, load_dataset, read_npz, split_dataset
from repsim.learning.estimators import ESTIMATORS, Backprop, Estimator, Signals, SyntheticGradient, locks
from repsim.learning.learner import Learner, build_learner, build_optimizer
from repsim.learning.networks import Chain, Segment, mlp
from repsim.learning.seeds import stream
from repsim.learning.step import Outcome, compute_gradients
from repsim.learning.training import Diverged, Evaluation, Step, count_steps, evaluate, train

__all__ = [
    "DATASETS",
    "ESTIMATORS",
    "SPLITS",
    "Backprop",
    "Chain",
    "Dataset",
    "Diverged",
    "Estimator",
    "Evaluation",
    "Learner",
    "Outcome",
    "Segment",
    "Signals",
    "Step",
    "SyntheticGradient",
    "TrainingConfig",
    "build_learner",
    "build_optimizer",
    "choose_boundaries",
    "compute_gradients",
    "count_steps",
    "evaluate",
    "load_dataset",
    "locks",
    "mlp",
    "read_npz",
    "split_dataset",
    "stream",
    "train",
]
