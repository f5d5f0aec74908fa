"""Learning-rate schedules by name: functions from progress (0 to 1) to a factor of the base learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from repsim.registration import add_installed
from repsim.registry_kinds import KINDS

__all__ = ["SCHEDULES"]

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: (1.0 + math.cos(math.pi * progress)) / 2.0,  # Loshchilov and Hutter (2017), equation 5
}

add_installed(KINDS["schedules"])
