"""Parallel training: replicas of several seeds, trained together, and the memory that they need."""

from repsim.learning.parallel.replica_choice import Choice
from repsim.learning.parallel.replica_stack import Replicas
from repsim.learning.parallel.replicas import ReplicaTraining, train_replicas
from repsim.learning.parallel.training_memory import available_memory, keep_freed_memory

__all__ = [
    "Choice",
    "ReplicaTraining",
    "Replicas",
    "available_memory",
    "keep_freed_memory",
    "train_replicas",
]
