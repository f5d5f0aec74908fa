"""Data sets: real, artificial, and the user's own."""

from repsim.learning.data.artificial import ARTIFICIAL, artificial
from repsim.learning.data.dataset import Dataset
from repsim.learning.data.loading import DATASETS, load_dataset
from repsim.learning.data.sequence_tasks import SEQUENCES, sequence_task
from repsim.learning.data.splits import SPLITS, split_dataset
from repsim.learning.data.user_data import read_npz

__all__ = [
    "ARTIFICIAL",
    "DATASETS",
    "SEQUENCES",
    "SPLITS",
    "Dataset",
    "artificial",
    "load_dataset",
    "read_npz",
    "sequence_task",
    "split_dataset",
]
