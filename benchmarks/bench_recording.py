"""Recording 20 layers x 5,000 stimuli x 256 units against the bare forward pass and one plain file of the same bytes.

Both end with fsync. The recorded step also holds weights, optimizer state, a checksum of each chunk and a SHA-256 of
the file. A checkpoint is always a new file, whose pages the system must find; so the plain file is new each time too.
The second row is harder: the plain file is written over itself, in pages that are there already.
"""

from __future__ import annotations

import os
import tempfile
from itertools import count
from pathlib import Path

import numpy as np
import torch
from harness import Ratio, ratio

from checkpoints import Capture, Run, Stimuli
from repsim.learning import TrainingConfig, build_learner, build_optimizer

N, FEATURES, WIDTH = 5000, 784, 256


def run() -> list[Ratio]:
    config = TrainingConfig(width=WIDTH)
    learner = build_learner(config, FEATURES, 10)
    optimizer = build_optimizer(learner, config)
    inputs = np.random.default_rng(0).random((N, FEATURES), dtype=np.float32)
    stimuli = Stimuli.of([f"{i:08d}" for i in range(N)], np.arange(N) % 10, ["test"] * N, inputs)
    capture = Capture(learner.network, ["hidden.*"])
    content = b"".join(layer.values.tobytes() for layer in capture.record(inputs).values())
    with tempfile.TemporaryDirectory() as folder, Run.create(Path(folder, "run"), {}, stimuli) as recorder:
        steps, files = count(), count()

        def record() -> None:
            recorder.checkpoint(next(steps), learner, optimizer, capture=capture)

        def into_new_file() -> None:
            _forward(learner, inputs)
            _write(Path(folder, f"plain-{next(files)}"), content)

        def into_old_file() -> None:
            _forward(learner, inputs)
            _write(Path(folder, "plain"), content)

        work = "a recorded checkpoint"
        return [
            ratio(work, record, "forward pass + new plain file", into_new_file, repeats=5, target="<= 1.5"),
            ratio(work, record, "forward pass + plain file written over", into_old_file, repeats=5),
        ]


@torch.no_grad()
def _forward(learner: torch.nn.Module, inputs: np.ndarray) -> None:
    learner.eval()
    for rows in torch.from_numpy(inputs).split(512):
        learner(rows)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
