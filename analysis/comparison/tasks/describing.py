"""Function of the task that describes the layers of one network by their weights and their dimension."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from analysis.comparison.tasks.source import Source
from analysis.comparison.undefined import attempt, finite
from analysis.execution.cache import TaskResult
from checkpoints import Run
from checkpoints.storage.regular_files import check_unchanged
from repsim.similarity import participation_ratio

__all__ = ["describe_layers"]

_OURS = "network."  # prefix of the parameters of a network that this package trained


def describe_layers(folder: Path, *, sources: Sequence[Source], weights: Mapping[str, tuple[int, str]]) -> TaskResult:
    """Return ``weight_norm``, ``weight_growth`` and ``participation_ratio``, one number or None per layer.

    ``weights`` has the step and the hash of the weights at this step (``now``) and at step 0 (``first``).
    """
    (source,) = sources
    layers, stimuli = source.read()
    rows = np.flatnonzero(stimuli.split == "test")
    dimension = [finite(attempt(partial(_dimension, layer, rows)).value) for layer in layers.values()]
    now, first = (_norms(source.run, *weights[name]) if name in weights else {} for name in ("now", "first"))
    norm = [_norm_of(layer, now) for layer in layers]
    growth = [
        None if a is None or not b else a / b
        for a, b in zip(norm, (_norm_of(name, first) for name in layers), strict=True)
    ]
    return TaskResult(values={"weight_norm": norm, "weight_growth": growth, "participation_ratio": dimension})


def _dimension(layer: Any, rows: Any) -> float:
    return float(participation_ratio(layer[rows]))


def _norms(run: str, step: int, sha256: str) -> dict[str, float]:
    """Return the squared norm of each weight matrix of a step, by the name of its parameter."""
    checkpoint = Run.open(run)[step]
    check_unchanged(checkpoint.path / "weights.safetensors", sha256)
    return {
        name: float(value.double().square().sum())
        for name, value in checkpoint.weights().items()
        if getattr(value, "ndim", 0) >= 2 and value.is_floating_point() and name.rpartition(".")[2].startswith("weight")
    }


def _norm_of(layer: str, squares: Mapping[str, float]) -> float | None:
    """Return the norm of all weight matrices of the module of a layer; None if it has none."""
    module = re.split(r"[:#@]", layer)[0]
    found = [square for name, square in squares.items() if name.startswith((f"{module}.", f"{_OURS}{module}."))]
    return math.sqrt(sum(found)) if found else None
