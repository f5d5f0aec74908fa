"""Eight replicas of a 20 x 64 batch-norm relu network on mnist5k, batch 128, Adam: as one stack against one by one.

Five passes over the training examples for each, the making of the stack and of its parts again included. The stack may
use two threads, which is what trains eight networks on two processors. `gpu.py` has the row of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from harness import Ratio, ratio
from torch import Tensor

from repsim.learning import (
    TrainingConfig,
    build_learner,
    build_optimizer,
    keep_freed_memory,
    load_dataset,
    split_dataset,
    train,
    train_replicas,
)

BATCH, EPOCHS, REPLICAS = 128, 5, 8


def run() -> list[Ratio]:
    keep_freed_memory()
    X, y = examples("cpu")
    sg = {"rule": "synthetic-gradient", "boundaries": "inner"}
    eight = range(REPLICAS)
    stack, one_by_one = together(X, y, eight, threads=2), singly(X, y, eight, threads=1)
    return [
        ratio("8 replicas as one, 2 threads", stack, "one by one, 1 thread", one_by_one, target="<= 0.45"),
        ratio("8 replicas as one, 2 threads", stack, "one by one, 2 threads", singly(X, y, eight, threads=2)),
        ratio("8 replicas as one, 1 thread", together(X, y, eight, threads=1), "one by one, 1 thread", one_by_one),
        ratio(
            "SG at 19 inner boundaries, as one, 2 threads",
            together(X, y, eight, threads=2, **sg),
            "one by one, 1 thread",
            singly(X, y, eight, threads=1, **sg),
        ),
        ratio(
            "width 128, as one, 2 threads",
            together(X, y, eight, threads=2, width=128),
            "one by one, 1 thread",
            singly(X, y, eight, threads=1, width=128),
            repeats=5,
        ),
    ]


def examples(device: str, data: str = "mnist5k") -> tuple[Tensor, Tensor]:
    """Return inputs and labels for training, on a device."""
    dataset = load_dataset(data)
    chosen = split_dataset(dataset, seed=0)["train"]
    return torch.from_numpy(dataset.X[chosen]).to(device), torch.from_numpy(dataset.y[chosen]).to(device)


def together(X: Tensor, y: Tensor, seeds: Sequence[int], *, threads: int = 1, **settings: object) -> Callable:
    """Return the training of replicas as one."""
    learners, optimizers, configs = _start(X, seeds, **settings)
    data = [(X, y)] * len(seeds)

    def training() -> None:
        torch.set_num_threads(threads)
        for _ in train_replicas(learners, optimizers, data, configs, how="stacked"):
            pass

    return _finished(training)


def singly(X: Tensor, y: Tensor, seeds: Sequence[int], *, threads: int = 1, **settings: object) -> Callable:
    """Return the training of one network after the other."""
    started = _start(X, seeds, **settings)

    def training() -> None:
        torch.set_num_threads(threads)
        for learner, optimizer, config in zip(*started, strict=True):
            for _ in train(learner, optimizer, X, y, config):
                pass

    return _finished(training)


def _start(X: Tensor, seeds: Sequence[int], **settings: object) -> tuple[list, list, list]:
    chosen = {
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "width": 64,
        "learning_rate": 1e-4,
        "estimator_learning_rate": 1e-4,
    } | settings
    configs = [TrainingConfig.from_dict(chosen | {"seed": seed}) for seed in seeds]
    learners = [build_learner(config, X.shape[1], 10).to(X.device) for config in configs]
    return learners, [build_optimizer(*pair) for pair in zip(learners, configs, strict=True)], configs


def _finished(training: Callable[[], None]) -> Callable[[], None]:
    """Return the work and, on a GPU, the wait for its end."""

    def work() -> None:
        training()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return work
