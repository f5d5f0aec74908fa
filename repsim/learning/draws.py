"""Random numbers drawn during training, as a function of the seed and of the number of earlier draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from repsim.learning.streams import stream

__all__ = ["Draws"]


class Draws(nn.Module):
    """A stream of normal random numbers whose position is saved with the network.

    A resumed run therefore draws the same numbers as an uninterrupted one. ``index`` is that of the stream among those
    of the seed, such as the boundary.
    """

    count: Tensor

    def __init__(self, seed: int, *index: int) -> None:
        super().__init__()
        self._keys: list[tuple[int, ...]] = [(seed, *index)]
        self._lead: tuple[int, ...] = ()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @classmethod
    def stacked(cls, several: Sequence[Draws]) -> Draws:
        """Return one module that draws, along a new first axis, the numbers that each stream would draw by itself."""
        draws = cls(0)
        draws._keys = [key for one in several for key in one._keys]
        draws._lead = (len(several), *several[0]._lead)
        draws.count = torch.stack([one.count for one in several])
        return draws

    def normal_like(self, like: Tensor) -> Tensor:
        """Return the next draws from N(0, I), with the shape, type and device of a tensor (*lead, ...)."""
        count, shape = int(self.count.flatten()[0]), like.shape[len(self._lead) :]
        self.count += 1
        drawn = [
            torch.randn(shape, generator=stream(seed, "draws", *index, count), dtype=like.dtype)
            for seed, *index in self._keys
        ]
        return torch.stack(drawn).view(like.shape).to(like.device) if self._lead else drawn[0].to(like.device)
