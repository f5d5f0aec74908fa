"""Wrote the run directory run-v1 beside this file, once: python make_v1.py OUTPUT.

The directory is never written again. Every later version must read it, whatever this script would write then. Its
weights and inputs are multiples of 1/8, so that what a layer computes is the same everywhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from checkpoints import Capture, Run, SpatialMean, Stimuli

N = 6


class Network(nn.Module):
    """A convolution, a module that is called twice, a tuple and a half-precision output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2)
        self.relu = nn.ReLU(inplace=True)
        self.split = Split()
        self.head = nn.Linear(18, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(((torch.arange(parameter.numel()) % 5 - 2) / 8).reshape(parameter.shape))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.conv(images)).flatten(1)
        return self.relu(self.head(self.split(maps)[0]))


class Split(nn.Module):
    """Returns its input, and a dict with it in half precision."""

    def forward(self, maps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return maps, {"half": maps.to(torch.bfloat16)}


def images() -> np.ndarray:
    return (np.arange(N * 16).reshape(N, 1, 4, 4) % 7 - 3).astype(np.float32)


def main() -> None:
    network = Network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.5)
    stimuli = Stimuli.of(
        [f"image {i}" for i in range(N)], [0, 1] * 3, ["train"] * 2 + ["validation"] * 2 + ["test"] * 2, images()
    )
    capture = Capture(network, "**", reduce={"conv": SpatialMean()}, batch_size=4)
    neutral = {
        "python": "3.11",
        "platform": "Linux",
        "processor": "x86_64",
        "threads": 1,
        "device": "cpu",
        "packages": {},
    }
    with (
        mock.patch("checkpoints.metadata.environment", return_value=neutral),
        mock.patch("checkpoints.storage.lock.platform.node", return_value="host"),
        Run.create(sys.argv[1], {"name": "golden", "rate": 0.5}, stimuli) as run,
    ):
        run.checkpoint(0, network, capture=capture)
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        run.log({"step": 1, "loss": 0.125})
        run.checkpoint(1, network, optimizer, capture=capture, compress=True, extra={"epoch": 1})
        run.set_status("finished", step=1)
    print(sum(path.stat().st_size for path in Path(sys.argv[1]).rglob("*")), "bytes")


if __name__ == "__main__":
    main()
