"""A run so small that it can be harmed hundreds of times in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from checkpoints import Capture, Checkpoint, Run, Stimuli

__all__ = ["EARLIER", "LATER", "contents", "create_run", "leftovers", "make_stimuli", "save"]

EARLIER, LATER = 1, 2  # the step that stands already, and the one whose commit is disturbed


def make_stimuli() -> Stimuli:
    inputs = np.random.default_rng(0).normal(size=(6, 3))
    return Stimuli.of([f"s{index}" for index in range(6)], [0, 1] * 3, ["train"] * 6, inputs)


def create_run(path: Path) -> Run:
    """Make a run with one step and one line in its log."""
    run = Run.create(path, {"lr": 0.1}, make_stimuli())
    run.log({"step": EARLIER, "loss": 0.5})
    save(run, EARLIER)
    return run


def save(run: Run, step: int = LATER) -> Checkpoint:
    """Commit weights, optimizer and activations, which are the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step)
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        torch.manual_seed(step)
        return run.checkpoint(step, model, optimizer, capture=Capture(model))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leftovers(folder: Path) -> list[Path]:
    """Return what was staged and not removed, beside a run or in it."""
    return sorted(folder.rglob(".tmp-*"))
