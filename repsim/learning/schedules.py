"""Learning-rate schedules by name, and warm-up: factors of the base learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from repsim.learning.config import TrainingConfig
from repsim.registration import add_installed
from repsim.registry_kinds import KINDS

__all__ = ["SCHEDULES", "rate_factor", "warmup_steps"]

SCHEDULES: dict[str, Callable[[float], float]] = {  # from progress, 0 to 1
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: (1.0 + math.cos(math.pi * progress)) / 2.0,  # Loshchilov and Hutter (2017), equation 5
}

add_installed(KINDS["schedules"])


def rate_factor(config: TrainingConfig, step: int, n_steps: int) -> float:
    """Return the factor of the learning rate after ``step`` of ``n_steps`` updates: schedule times warm-up.

    During warm-up, of W updates, the update with number t = 1 … W has the factor t / W.
    """
    n_warm = warmup_steps(config, n_steps)
    warm = min(1.0, (step + 1) / n_warm) if n_warm else 1.0
    return SCHEDULES[config.schedule](step / n_steps) * warm


def warmup_steps(config: TrainingConfig, n_steps: int) -> int:
    """Return the number of updates of the warm-up.

    Raises
    ------
    ValueError
        If it exceeds the number of updates of the training.
    """
    n_warm = round(config.warmup * n_steps if config.warmup < 1 else config.warmup)
    if n_warm > n_steps > 0:
        raise ValueError(
            f"warmup is {n_warm} updates, but the training has {n_steps}; use fewer, or a share such as warmup=0.1."
        )
    return n_warm
