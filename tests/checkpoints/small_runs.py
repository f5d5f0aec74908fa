"""A small network, its stimuli and its training, for the tests of runs."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from checkpoints import Stimuli

CONFIG = {"lr": 0.1, "layers": [1, 2], "note": "é"}


def build() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


def build_stimuli() -> Stimuli:
    inputs = np.random.default_rng(0).normal(size=(6, 3))
    return Stimuli.of([f"s{index}" for index in range(6)], [1, 0] * 3, ["train", "validation", "test"] * 2, inputs)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Batches and dropout are drawn from torch's global generator."""
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(16, 3)).square().mean().backward()
        optimizer.step()


def flip_bits(path: Path, n: int) -> Iterator[None]:
    """Change one bit of a file, and after each step of the loop another one instead."""
    content = path.read_bytes()
    for position in random.Random(0).sample(range(len(content) * 8), n):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        yield


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(tensors: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == others[name].dtype
        assert torch.equal(tensor, others[name]), name
