"""Streaming CKA over recorded activations: 160,000 stimuli x 512 units x 16 layers (5.2 GB).

Records a run, then compares all its layers over the first 10,000, 20,000, ... stimuli, in a process each. Prints the
growth of peak memory over what it was with the packages imported (target: 512 MB) and the exponent of time against the
number of stimuli (target: 1.1). ``--stimuli N`` scales it down for small disks.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from checkpoints import Capture, Run, Stimuli
from repsim.similarity import pairwise, streamed_pairwise

WIDTH, LAYERS, FEATURES = 512, 16, 64
MEMORY, EXPONENT = 512, 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stimuli", type=int, default=160_000)
    parser.add_argument("--folder", default=None, help="where to write; the system's temporary folder by default")
    parser.add_argument("--compare", nargs=2, metavar=("RUN", "N"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compare:
        print(json.dumps(_compare(Path(arguments.compare[0]), int(arguments.compare[1]))))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder, "run")
        size = _record(path, arguments.stimuli)
        sizes = [arguments.stimuli // 2**k for k in range(4, -1, -1)]
        results = []
        for n in sizes:
            command = [sys.executable, __file__, "--compare", str(path), str(n)]
            results.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
            print(
                f"{n} stimuli: {results[-1]['seconds']:.1f} s, peak memory grew by {results[-1]['grew']:.0f} MB",
                flush=True,
            )
    exponent = np.polyfit(np.log(sizes), np.log([result["seconds"] for result in results]), 1)[0]
    grew = max(result["grew"] for result in results)
    print(
        f"{size / 1e9:.2f} GB: peak memory grew by {grew:.0f} MB (target {MEMORY}), time by n to the power of "
        f"{exponent:.2f} (target {EXPONENT}); largest difference from the values in memory, over {sizes[0]} stimuli: "
        f"{_difference(results[0])}"
    )
    raise SystemExit(int(grew > MEMORY or exponent > EXPONENT))


def _record(path: Path, n: int) -> int:
    torch.manual_seed(0)
    network = _Parallel(nn.ModuleList([nn.Linear(FEATURES, WIDTH) for _ in range(LAYERS)]))
    inputs = np.random.default_rng(0).random((n, FEATURES), dtype=np.float32)
    stimuli = Stimuli.of([f"{i:08d}" for i in range(n)], np.arange(n) % 10, ["test"] * n, inputs)
    with Run.create(path, {}, stimuli) as run:
        checkpoint = run.checkpoint(0, network, capture=Capture(network, ["layers.*"]))
        return (checkpoint.path / "activations.h5").stat().st_size


def _compare(path: Path, n: int) -> dict[str, Any]:
    layers = {name: _First(layer, n) for name, layer in Run.open(path).last().activations.items()}
    torch.ones(64, 64) @ torch.ones(64, 64)  # BLAS takes its buffers
    before, started = _peak(), time.perf_counter()
    values = streamed_pairwise(layers, measure="cka").values
    result: dict[str, Any] = {"seconds": time.perf_counter() - started, "grew": _peak() - before}
    if n <= 10_000:
        in_memory = pairwise({name: layer[:] for name, layer in layers.items()}).values
        result["difference"] = float(np.abs(values - in_memory).max())
    return result


def _difference(result: dict[str, Any]) -> str:
    return f"{result['difference']:.1e}" if "difference" in result else "not computed"


class _First:
    """The first stimuli of a recorded layer."""

    def __init__(self, layer: Any, n: int) -> None:
        self._layer, self._n = layer, n
        self.shape, self.dtype = (n, layer.shape[1]), layer.dtype

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self._n)
        return self._layer[start:stop]


class _Parallel(nn.Module):
    """Layers that all see the stimuli."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.tanh(layer(X))[:, 0] for layer in self.layers])


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
