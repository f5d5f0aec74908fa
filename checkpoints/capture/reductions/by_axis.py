"""Reductions along an axis of the activations: they must know whether features come first or last."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import nn

from checkpoints.capture.feature_axis import feature_axis
from checkpoints.capture.reductions.protocol import Reduction

__all__ = ["AxisReduction"]

_CHANNELS = ("auto", "first", "last")


@dataclass(frozen=True)
class AxisReduction(Reduction):
    """A reduction that depends on the axis of the features.

    Parameters
    ----------
    channels : str, default "auto"
        ``"first"``: axis 1 holds the features (channels). ``"last"``: the last axis does. ``"auto"``: inferred from
        the module when it is recorded, with a warning if that is uncertain; see ``checkpoints.capture.feature_axis``.
    """

    channels: str = field(default="auto", kw_only=True)

    default_axis: ClassVar[str]  # if nothing indicates an axis

    def __post_init__(self) -> None:
        """Check the axis."""
        if self.channels not in _CHANNELS:
            raise ValueError(f"Unknown channels {self.channels!r}. Choose one of: {', '.join(_CHANNELS)}.")

    def resolved(self, module: nn.Module, shape: tuple[int, ...]) -> Reduction:
        """Return the reduction with ``channels`` "first" or "last"; warn if that is uncertain."""
        if self.channels != "auto" or len(shape) < 3:
            return self
        axis, certain = feature_axis(module, shape, self.default_axis)
        if not certain:
            text = f"(n, {', '.join(map(str, shape[1:]))})"  # n is the size of a trial pass
            warnings.warn(
                f"{self} takes the {'second' if axis == 'first' else 'last'} axis of the activations of "
                f"{type(module).__name__}, shape {text}, as the features (channels), which could not be verified. "
                "Give channels='first' or channels='last' to say which it is.",
                stacklevel=2,
            )
        return replace(self, channels=axis)

    def _text(self, name: str, *arguments: str) -> str:
        stated = [*arguments, *([] if self.channels == "auto" else [f"channels={self.channels}"])]
        return f"{name}({', '.join(stated)})" if stated else name
