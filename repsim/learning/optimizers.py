"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from repsim.registration import add_installed
from repsim.registry_kinds import KINDS

__all__ = ["OPTIMIZERS"]

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {  # from parameter groups
    "adam": partial(torch.optim.Adam, fused=True),
    "sgd": partial(torch.optim.SGD, fused=True),
    "momentum": partial(torch.optim.SGD, momentum=0.9, fused=True),
}

add_installed(KINDS["optimizers"])
