"""Callbacks that record a run from other people's training loops, one framework a module; none is imported here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

__all__ = ["check_steps", "is_due", "metrics_record"]


def is_due(steps: int | Collection[int], step: int) -> bool:
    """Tell whether a step is to be recorded: every ``steps``-th from step 0 on, or one of a collection of numbers.

    Examples
    --------
    >>> [step for step in range(10) if is_due(4, step)], [step for step in range(10) if is_due({1, 2, 5}, step)]
    ([0, 4, 8], [1, 2, 5])
    """
    return step % steps == 0 if isinstance(steps, int) else step in steps


def check_steps(steps: int | Collection[int]) -> int | frozenset[int]:
    """Return ``steps`` as it is kept.

    Raises
    ------
    ValueError
        If it names no step, or one below 0.
    """
    if isinstance(steps, int):
        if steps < 1:
            raise ValueError(f"steps is {steps}; expected 1 or more, or a collection of step numbers.")
        return steps
    chosen = frozenset(steps)
    if not chosen or min(chosen) < 0:
        raise ValueError(f"steps holds {sorted(chosen)}; expected one step number or more, each 0 or more.")
    return chosen


def metrics_record(step: int, metrics: Mapping[str, Any]) -> dict[str, int | float]:
    """Return a line for ``Run.log`` with those metrics that are single real numbers.

    Examples
    --------
    >>> metrics_record(3, {"loss": Tensor([0.5]), "histogram": Tensor([1.0, 2.0]), "note": "slow"})
    {'step': 3, 'loss': 0.5}
    """
    items = {name: value.item() if _is_one(value) else value for name, value in metrics.items()}
    return {"step": step} | {
        name: value for name, value in items.items() if isinstance(value, int | float) and name != "step"
    }


def _is_one(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1
