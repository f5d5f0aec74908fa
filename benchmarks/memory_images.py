"""Peak memory while recording 20,000 images of 3 x 64 x 64 that are never in memory together (983 MB as float32).

``--images N`` changes their number. Each image is made when it is asked for. Prints the peak memory of the whole
process, with torch; the target is 1 GB. Exits with 1 if it takes more.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from checkpoints import Capture, Run, Stimuli

SHAPE, CLASSES, TARGET = (3, 64, 64), 10, 1000


class Images(torch.utils.data.Dataset[Any]):
    """Noise of one seed per image; the mean of an image follows from its class."""

    def __init__(self, n: int) -> None:
        self.targets = np.arange(n) % CLASSES

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        label = int(self.targets[index])
        noise = np.random.default_rng(index).random(SHAPE, dtype=np.float32)
        return torch.from_numpy(noise + np.float32(label / CLASSES)), label


def peak_megabytes() -> float:
    """Return the largest resident memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # the other number includes that of the process from which this one was started
        line = next(each for each in status.read_text().splitlines() if each.startswith("VmHWM:"))
        return int(line.split()[1]) / 1000
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(784, 10),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--folder", default=None, help="where to write; the system's temporary folder by default")
    arguments = parser.parse_args()
    n, images, model = arguments.images, Images(arguments.images), network().eval()
    started = time.perf_counter()
    stimuli = Stimuli.of([f"{index:08d}" for index in range(n)], None, ["test"] * n, images)
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as folder,
        Run.create(Path(folder, "run"), {}, stimuli) as run,
    ):
        checkpoint = run.checkpoint(0, model, capture=Capture(model, ["2", "5"]))
        shown = [0, n // 3, n - 1]
        found = checkpoint["5"][:][shown]
        shape = checkpoint["5"].shape
        expected = torch.stack([images[int(stimuli.ids[row])][0] for row in shown])
    with torch.no_grad():
        assert np.allclose(found, model(expected).numpy(), atol=1e-5)
    assert shape == (n, CLASSES)
    peak = peak_megabytes()
    print(
        f"{n} images recorded in {time.perf_counter() - started:.1f} s, each read twice; peak memory of the process "
        f"{peak:.0f} MB (target {TARGET})"
    )
    raise SystemExit(peak > TARGET)


if __name__ == "__main__":
    main()
