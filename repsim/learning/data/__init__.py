"""Data sets: real, artificial, and the user's own."""

from repsim.learning.data.artificial import ARTIFICIAL, artificial
from repsim.learning.data.dataset import Dataset
from repsim.learning.data.loading import DATASETS, load_dataset
from repsim.learning.data.splits import SPLITS, split_dataset
from repsim.learning.data.user_data import read_npz

__all__ = [
    "ARTIFICIAL",
    "DATASETS",
    "SPLITS",
    "Dataset",
    "artificial",
    "load_dataset",
    "read_npz",
    "split_dataset",
]
