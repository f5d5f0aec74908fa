"""Recording 20 layers x 3,500 stimuli x 128 units against the bare forward pass and one plain file of the same bytes.

Both end with fsync. The recorded step also holds weights, optimizer state and checksums.
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

N, FEATURES = 3500, 784


def run() -> list[Ratio]:
    config = TrainingConfig()
    learner = build_learner(config, FEATURES, 10)
    optimizer = build_optimizer(learner, config)
    inputs = np.random.default_rng(0).random((N, FEATURES), dtype=np.float32)
    stimuli = Stimuli.of([f"{i:08d}" for i in range(N)], np.arange(N) % 10, ["test"] * N, inputs)
    with tempfile.TemporaryDirectory() as folder, Run.create(Path(folder, "run"), {}, stimuli) as recorder:
        steps, plain = count(), Path(folder, "plain")

        with Capture(learner.network, ["hidden.*"]) as capture:
            layers = capture.record(inputs)
        content = b"".join(layer.values.tobytes() for layer in layers.values())

        def record() -> None:
            with Capture(learner.network, ["hidden.*"]) as capture:
                recorder.checkpoint(next(steps), learner, optimizer, capture=capture)

        result = ratio(
            "a recorded checkpoint", record, "forward pass + plain file", lambda: _bare(learner, inputs, plain, content)
        )
    return [result]


@torch.no_grad()
def _bare(learner: torch.nn.Module, inputs: np.ndarray, path: Path, content: bytes) -> None:
    learner.eval()
    for rows in torch.from_numpy(inputs).split(512):
        learner(rows)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
