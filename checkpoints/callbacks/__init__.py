"""Callbacks that record a run in the training loops of other frameworks, one module per framework.

No framework is imported here; the callbacks share ``StepRecorder``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from checkpoints.capture.capture import Capture
from checkpoints.capture.selection import Pattern
from checkpoints.run import Run

__all__ = ["StepRecorder", "check_steps", "is_due", "metrics_record"]


class StepRecorder:
    """Commits chosen steps of a training to a run; the part that callbacks have in common.

    ``steps`` are these steps, or every so many from 0 on; ``capture_options`` are further arguments of ``Capture``.
    """

    def __init__(
        self,
        run: Run,
        steps: int | Collection[int],
        layers: Pattern | Sequence[Pattern],
        capture_options: Mapping[str, Any],
    ) -> None:
        self.run, self._steps = run, check_steps(steps)
        self._layers, self._options = layers, capture_options

    def capture(self, model: nn.Module) -> Capture:
        """Return the capture of a model; raise ValueError if a pattern matches no module."""
        return Capture(model, self._layers, **self._options)

    def is_due(self, step: int) -> bool:
        """Return whether a step is to be recorded and is not in the run yet."""
        return is_due(self._steps, step) and step not in self.run.steps

    def record(self, step: int, model: nn.Module, optimizer: Optimizer | Sequence[Optimizer] | None) -> None:
        """Commit weights, optimizers and activations."""
        self.run.checkpoint(step, model, optimizer, capture=self.capture(model))


def is_due(steps: int | Collection[int], step: int) -> bool:
    """Return whether a step is to be recorded: every ``steps``-th step from 0 on, or a member of a collection.

    Examples
    --------
    >>> [step for step in range(10) if is_due(4, step)], [step for step in range(10) if is_due({1, 2, 5}, step)]
    ([0, 4, 8], [1, 2, 5])
    """
    return step % steps == 0 if isinstance(steps, int) else step in steps


def check_steps(steps: int | Collection[int]) -> int | frozenset[int]:
    """Return ``steps`` after validation, a collection as a frozenset."""
    if isinstance(steps, int):
        if steps < 1:
            raise ValueError(f"steps is {steps}; expected 1 or more, or a collection of step numbers.")
        return steps
    chosen = frozenset(steps)
    if not chosen or min(chosen) < 0:
        raise ValueError(f"steps holds {sorted(chosen)}; expected one step or more, each 0 or more.")
    return chosen


def metrics_record(step: int, metrics: Mapping[str, Any]) -> dict[str, int | float]:
    """Return a record for ``Run.log`` with those metrics that are single real numbers.

    Examples
    --------
    >>> metrics_record(3, {"loss": Tensor([0.5]), "histogram": Tensor([1.0, 2.0]), "note": "slow"})
    {'step': 3, 'loss': 0.5}
    """
    items = {name: value.item() if _is_scalar(value) else value for name, value in metrics.items()}
    return {"step": step} | {
        name: value for name, value in items.items() if isinstance(value, int | float) and name != "step"
    }


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1
