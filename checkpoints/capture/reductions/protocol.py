"""The protocol of reductions, and the two that need no parameters: flattening, and a function of the user."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

__all__ = ["Custom", "Flatten", "Reduction", "check_whole", "wide_type"]


class Reduction(ABC):
    """Map activations (n, …) to smaller ones (n, …), which are flattened when they are stored.

    A subclass that is an entry of ``REDUCTIONS`` can be given by name. The file states ``str(reduction)``.

    Attributes
    ----------
    example : str
        How ``parse_reduction`` takes it, such as "token(0)"; shown in error messages.
    """

    example: ClassVar[str] = ""

    @abstractmethod
    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return the reduced activations.

        Parameters
        ----------
        values : Tensor, shape (n, …)
            On the network's device, without gradient; must not be changed in place.
        inputs : Tensor or dict of str to Tensor
            The batch of stimuli, possibly on another device than the network.
        """

    def resolved(self, module: nn.Module, shape: tuple[int, ...]) -> Reduction:
        """Return the reduction with all parameters that depend on the layer, so that ``str`` states them.

        Called once for each layer, before its activations are reduced. Warns about inferred parameters that are
        uncertain.

        Parameters
        ----------
        module : nn.Module
            The module whose output or input is reduced.
        shape : tuple of int
            Shape of these activations, (n, …).
        """
        return self


@dataclass(frozen=True)
class Flatten(Reduction):
    """All values, in row-major order."""

    example: ClassVar[str] = "flatten"

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return the values."""
        return values

    def __str__(self) -> str:
        """Return the name."""
        return "flatten"


@dataclass(frozen=True)
class Custom(Reduction):
    """A function of the activations (n, …) alone that returns (n, …)."""

    function: Callable[[Tensor], Tensor]

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return the result of the function."""
        return self.function(values.clone())  # the function may write to its argument, which the network still needs

    def __str__(self) -> str:
        """Return the function's name."""
        return f"custom({getattr(self.function, '__qualname__', type(self.function).__name__)})"


def check_whole(value: Any, name: str) -> None:
    """Raise TypeError unless a parameter is a whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a whole number.")


def wide_type(dtype: torch.dtype) -> torch.dtype:
    """Return a type in which values can be summed: sums of half floats overflow, and integers have no mean."""
    if dtype.is_complex:
        return torch.complex128 if dtype == torch.complex128 else torch.complex64
    return torch.float32 if dtype.is_floating_point and dtype != torch.float64 else torch.float64
