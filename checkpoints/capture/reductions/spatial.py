"""Reductions over space: the mean of each channel, or means over a grid of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from checkpoints.capture.reductions.by_axis import AxisReduction
from checkpoints.capture.reductions.protocol import check_whole, wide_type

__all__ = ["SpatialMean", "SpatialPool"]


@dataclass(frozen=True)
class SpatialMean(AxisReduction):
    """The mean over space: one number per channel.

    Parameters
    ----------
    channels : str, default "auto"
        ``"first"`` for activations (n, channels, *space), ``"last"`` for (n, *space, channels). ``"auto"`` infers it
        from the type of the module, for example "first" for a convolution and "last" for a linear layer, and warns
        if that is uncertain. Without a module (if the reduction is called directly) it is "first".

    Raises
    ------
    ValueError
        If ``channels`` is unknown or the values have no spatial axes.
    """

    example: ClassVar[str] = "spatial_mean or spatial_mean(channels=last)"
    default_axis: ClassVar[str] = "first"

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, channels)."""
        maps = _maps(values, self.channels)
        return maps.mean(tuple(range(2, maps.ndim)), dtype=wide_type(maps.dtype))

    def __str__(self) -> str:
        """Return the name and the axis."""
        return self._text("spatial_mean")


@dataclass(frozen=True)
class SpatialPool(AxisReduction):
    """Means over a grid of ``size`` cells along each of one to three spatial axes.

    Parameters
    ----------
    size : int
        Cells along each axis, 1 or more.
    channels : str, default "auto"
        As for ``SpatialMean``.

    Raises
    ------
    ValueError
        If ``size`` is below 1, ``channels`` is unknown, or the values have no, or more than three, spatial axes.
    """

    example: ClassVar[str] = "spatial_pool(4)"

    size: int

    default_axis: ClassVar[str] = "first"

    def __post_init__(self) -> None:
        """Check the size."""
        super().__post_init__()
        check_whole(self.size, "size")
        if self.size < 1:
            raise ValueError(f"The grid has {self.size} cells along an axis; expected 1 or more.")

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, channels, size, …), always with the channels first."""
        maps = _maps(values, self.channels)
        maps, axes = maps.to(wide_type(maps.dtype)), maps.ndim - 2
        if axes > 3:
            raise ValueError(f"Activations of shape {tuple(values.shape)} have more than three spatial axes.")
        pool = getattr(functional, f"adaptive_avg_pool{axes}d")
        size = (self.size,) * axes
        return torch.complex(pool(maps.real, size), pool(maps.imag, size)) if maps.is_complex() else pool(maps, size)

    def __str__(self) -> str:
        """Return the name, the size and the axis."""
        return self._text("spatial_pool", str(self.size))


def _maps(values: Tensor, channels: str) -> Tensor:
    """Return (n, channels, *space)."""
    if values.ndim < 3:
        raise ValueError(f"Activations of shape {tuple(values.shape)} have no spatial axes.")
    return values.movedim(-1, 1) if channels == "last" else values
