"""Data and settings with which replicas are trained."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from repsim.learning.config import TrainingConfig
from repsim.learning.learner import Learner
from repsim.learning.training import Batch, Step, batches, count_steps, diagnosis_rows, train

__all__ = ["Learners", "Optimizers", "ReplicaSetup", "gather"]

Learners = Sequence[Learner]
Optimizers = Sequence[torch.optim.Optimizer]


@dataclass(frozen=True)
class ReplicaSetup:
    """Data and settings of replicas; see ``train_replicas``."""

    data: list[tuple[Tensor, Tensor]]
    configs: list[TrainingConfig]
    start: int
    diagnosed: Container[int]
    diagnosis_batches: int = 0

    @property
    def n_steps(self) -> int:
        """Number of updates of each replica."""
        return count_steps(len(self.data[0][1]), self.configs[0])

    @property
    def batch_size(self) -> int:
        """Number of examples of each replica per update."""
        return self.configs[0].batch_size

    def batches(self) -> Iterator[tuple[Batch, ...]]:
        """Yield, for each update, the batch of each replica."""
        n_examples = len(self.data[0][1])
        return zip(*(batches(n_examples, config, self.start) for config in self.configs), strict=True)

    def train(self, learner: Learner, optimizer: torch.optim.Optimizer, i: int) -> Iterator[Step]:
        """Train replica i by itself."""
        return train(
            learner,
            optimizer,
            *self.data[i],
            self.configs[i],
            start=self.start,
            diagnosed=self.diagnosed,
            diagnosis_batches=self.diagnosis_batches,
        )

    def diagnosis(self, step: int, replicas: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches over which bias and variance of these replicas are measured at a step."""
        n_examples = len(self.data[0][1])
        chosen = [self.configs[i] for i in replicas]
        for rows in zip(
            *(diagnosis_rows(n_examples, each, step, self.diagnosis_batches) for each in chosen), strict=True
        ):
            yield gather([self.data[i] for i in replicas], rows)


def gather(data: Sequence[tuple[Tensor, Tensor]], rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the chosen rows of each data set as one batch, X (R, N, n_features) and y (R, N)."""
    X, y = data[0]
    batch = X.new_empty(len(rows), len(rows[0]), *X.shape[1:]), y.new_empty(len(rows), len(rows[0]), *y.shape[1:])
    for i, chosen in enumerate(rows):
        for values, into in zip(data[i], batch, strict=True):
            torch.index_select(values, 0, chosen.to(values.device), out=into[i])
    return batch
