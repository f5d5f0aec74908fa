"""One epoch of a 20 x 128 batch-norm relu network on mnist5k, batch 128: this trainer against a plain PyTorch loop.

Both log loss each step; the plain loop has the same layers, initial weights and optimizer (Adam, fused). Of an LSTM
with 128 units that predicts characters in windows of 5 of 50 time steps, batch 64: SG against truncation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from harness import Ratio, ratio
from torch import nn

from repsim.learning import TrainingConfig, build_learner, build_optimizer, load_dataset, split_dataset, train

BATCH = 128


def run() -> list[Ratio]:
    torch.set_num_threads(TrainingConfig().threads)
    dataset = load_dataset("mnist5k")
    chosen = split_dataset(dataset, seed=0)["train"]
    X, y = torch.from_numpy(dataset.X[chosen]), torch.from_numpy(dataset.y[chosen])
    plain = _plain_epoch(X, y, fused=True)
    against = "plain PyTorch loop"
    sg = {"rule": "synthetic-gradient"}
    backprop, everywhere = _epoch(X, y), _epoch(X, y, boundaries="inner", **sg)
    middle, unlocked = _epoch(X, y, **sg), _epoch(X, y, rule="synthetic-gradient + synthetic-input")
    return [
        ratio("backprop", backprop, against, plain, repeats=9, target="<= 1.10"),
        ratio("one SG in the middle", middle, against, plain, repeats=9, target="<= 1.3"),
        ratio("SG and synthetic input in the middle", unlocked, "SG alone", middle, repeats=9, target="<= 1.3"),
        ratio("SG at 19 inner boundaries", everywhere, "backprop", backprop, repeats=9, target="<= 1.6"),
        ratio("SG at 19 inner boundaries", everywhere, against, plain, repeats=9),
        ratio(
            "truncated BPTT + SG, LSTM, window 5",
            _epoch_in_windows("synthetic-gradient"),
            "truncated BPTT",
            _epoch_in_windows("truncated"),
            repeats=9,
            target="<= 1.3",
        ),
        ratio("plain loop, Adam not fused", _plain_epoch(X, y, fused=False), against, plain, repeats=5),
    ]


def _epoch(X: torch.Tensor, y: torch.Tensor, **settings: str):
    config = TrainingConfig(epochs=1, batch_size=BATCH, learning_rate=1e-4, **settings)
    learner = build_learner(config, X.shape[1], 10)
    optimizer = build_optimizer(learner, config)

    def epoch() -> None:
        for _ in train(learner, optimizer, X, y, config):
            pass

    return epoch


def _epoch_in_windows(rule: str):
    dataset = load_dataset("characters")
    X, y = torch.from_numpy(dataset.X), torch.from_numpy(dataset.learned)
    config = TrainingConfig(network="lstm", width=128, window=5, rule=rule, epochs=1, batch_size=64)
    learner = build_learner(config, dataset.shape, dataset.n_outputs, scored=dataset.scored)
    optimizer = build_optimizer(learner, config)

    def epoch() -> None:
        for _ in train(learner, optimizer, X, y, config):
            pass

    return epoch


def _plain_epoch(X: torch.Tensor, y: torch.Tensor, *, fused: bool):
    learner = build_learner(TrainingConfig(), X.shape[1], 10)
    layers = [part for segment in learner.network.hidden.values() for part in segment.children()]
    network = nn.Sequential(*layers, learner.network.output)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=fused)

    def epoch() -> None:
        order = torch.randperm(len(y))
        for start in range(0, len(y) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(network(X[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch
