"""Peak memory while recording 100,000 stimuli x 4,096 units x 4 layers (6.5 GB).

``--stimuli N`` scales it down for small disks. Prints the growth of the process' peak memory over what it was with the
network and the stimuli in memory; the target is 200 MB.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from checkpoints import Capture, Run, Stimuli

WIDTH, LAYERS, FEATURES, TARGET = 4096, 4, 64, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stimuli", type=int, default=100_000)
    parser.add_argument("--folder", default=None, help="where to write; the system's temporary folder by default")
    arguments = parser.parse_args()
    n = arguments.stimuli
    torch.manual_seed(0)
    # Repeats of a narrow layer: what counts is what is recorded, not how long the network computes.
    model = nn.ModuleList([nn.Linear(FEATURES, WIDTH) for _ in range(LAYERS)])
    network = _Parallel(model)
    inputs = np.random.default_rng(0).random((n, FEATURES), dtype=np.float32)
    stimuli = Stimuli.of([f"{i:08d}" for i in range(n)], np.arange(n) % 10, ["test"] * n, inputs)
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as folder,
        Run.create(Path(folder, "run"), {}, stimuli) as run,
    ):
        network(torch.from_numpy(inputs[:512]))
        before, started = _peak(), time.perf_counter()
        checkpoint = run.checkpoint(0, network, capture=Capture(network, ["layers.*"]))
        after, seconds = _peak(), time.perf_counter() - started
        size = (checkpoint.path / "activations.h5").stat().st_size
        rows = checkpoint["layers.3"][n - 5 :]
        expected = network.layers[3](torch.from_numpy(stimuli.inputs[n - 5 :])).detach().numpy()
        assert np.allclose(rows, expected, atol=1e-5)
    print(
        f"{n} stimuli: {size / 1e9:.2f} GB written in {seconds:.1f} s; peak memory grew by {after - before:.0f} MB "
        f"(target {TARGET}), from {before:.0f} MB"
    )
    raise SystemExit(after - before > TARGET)


class _Parallel(nn.Module):
    """Layers that all see the stimuli."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return torch.stack([layer(X)[:, 0] for layer in self.layers])


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
