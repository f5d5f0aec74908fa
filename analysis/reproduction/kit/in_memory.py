"""Training in memory, without a run directory, from a TrainingConfig."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from repsim.learning import (
    Dataset,
    Learner,
    Step,
    TrainingConfig,
    build_learner,
    build_optimizer,
    keep_freed_memory,
    load_dataset,
    split_dataset,
    train,
)

__all__ = ["InMemoryTraining", "rate_groups"]


@dataclass(frozen=True)
class InMemoryTraining:
    """A learner, all examples on its device, and the rows of the training, validation and test examples."""

    config: TrainingConfig
    learner: Learner
    dataset: Dataset
    X: Tensor
    y: Tensor
    split: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, config: TrainingConfig, data_dir: str | None, dtype: torch.dtype = torch.float32) -> InMemoryTraining:
        """Load the data and build the learner of a config, on its device."""
        keep_freed_memory()
        dataset = load_dataset(config.data, data_dir)
        X, y = torch.from_numpy(dataset.X).to(config.device, dtype), torch.from_numpy(dataset.y).to(config.device)
        learner = build_learner(config, dataset.shape, len(dataset.classes)).to(X)
        return cls(config, learner, dataset, X, y, split_dataset(dataset, config.split_seed))

    def restarted(self, config: TrainingConfig) -> InMemoryTraining:
        """Return a training of another config on the same examples, from the beginning."""
        learner = build_learner(config, self.dataset.shape, len(self.dataset.classes)).to(self.X)
        return replace(self, config=config, learner=learner)

    def examples(self, rows: str | NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Return examples and classes of rows, or of a part of the split."""
        chosen = self.split[rows] if isinstance(rows, str) else rows
        return self.X[chosen], self.y[chosen]

    def steps(self, epochs: int | None = None) -> Iterator[Step]:
        """Train, and yield a record per update."""
        config = self.config if epochs is None else replace(self.config, epochs=epochs)
        return train(self.learner, build_optimizer(self.learner, config), *self.examples("train"), config)


def rate_groups(learner: Learner, rates: Sequence[float]) -> list[dict[str, Any]]:
    """Return groups of parameters for an optimizer: those of the network and of its modules, each with its rate."""
    modules = zip((learner.network, learner.estimators), rates, strict=True)
    groups = [{"params": list(module.parameters()), "lr": rate} for module, rate in modules]
    return [group for group in groups if group["params"]]
