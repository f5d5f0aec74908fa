"""Callbacks that record a run in the training loops of other frameworks, one module per framework.

No framework is imported here. All callbacks are built on ``StepRecorder``; to support another framework, call it from
the hooks of that framework, in a file here or outside the package.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from checkpoints.capture.capture import Capture
from checkpoints.capture.selection import Pattern
from checkpoints.run import Run

__all__ = ["StepRecorder"]


class StepRecorder:
    """Record chosen steps of a training in a run; the part that all callbacks have in common.

    A callback calls ``check`` when training starts, and ``record`` then and after each update. In distributed training
    only one process calls them; it must hold the complete model, as in data-parallel training.

    Parameters
    ----------
    run : Run
        Created or resumed, so that its stimuli have inputs.
    steps : int or collection of int
        Record every so many steps from 0 on, or at these steps. Step 0 is the network before its first update.
    layers : pattern or sequence of patterns, default "*"
        See ``Capture``.
    **capture_options
        Further arguments of ``Capture``, e.g. ``reduce={"**": Token(0)}``.

    Raises
    ------
    ValueError
        If ``steps`` is a number below 1, or a collection that is empty or holds a number below 0.
    """

    def __init__(
        self, run: Run, steps: int | Collection[int], layers: Pattern | Sequence[Pattern] = "*", **capture_options: Any
    ) -> None:
        self._run, self._steps = run, steps if isinstance(steps, int) else frozenset(steps)
        self._layers, self._options = layers, capture_options
        if isinstance(self._steps, int):
            if self._steps < 1:
                raise ValueError(f"steps is {steps}; expected 1 or more, or a collection of step numbers.")
        elif not self._steps or min(self._steps) < 0:
            raise ValueError(f"steps holds {sorted(self._steps)}; expected one step or more, each 0 or more.")

    def check(self, model: nn.Module) -> None:
        """Raise ValueError if a pattern matches no module of the model."""
        self._capture(model)

    def is_due(self, step: int) -> bool:
        """Return whether a step is to be recorded and is not in the run yet."""
        chosen = step % self._steps == 0 if isinstance(self._steps, int) else step in self._steps
        return chosen and step not in self._run.steps

    def record(self, step: int, model: nn.Module, optimizer: Optimizer | Sequence[Optimizer] | None) -> None:
        """Commit weights, optimizers and activations if the step is due."""
        if self.is_due(step):
            self._run.checkpoint(step, model, optimizer, capture=self._capture(model))

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log those metrics that are single real numbers."""
        plain = {name: value.item() if _is_scalar(value) else value for name, value in metrics.items()}
        numbers = {name: value for name, value in plain.items() if isinstance(value, int | float) and name != "step"}
        self._run.log({"step": step, **numbers})

    def _capture(self, model: nn.Module) -> Capture:
        return Capture(model, self._layers, **self._options)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1
