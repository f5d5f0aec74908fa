"""Independent random streams of one seed, so that draws do not depend on other draws before them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["Drawn", "drawing_again", "drawing_from", "drawn_so_far", "stream"]

Drawn = tuple[torch.Tensor, torch.Tensor | None]  # states of the global generators of the CPU and of a GPU


def stream(seed: int, name: str, *index: int) -> torch.Generator:
    """Return the generator of one named stream of a seed.

    A stream is a function of ``(seed, name, *index)`` alone. A resumed run therefore needs no saved generator: it
    uses the stream of the epoch in which it continues.

    Parameters
    ----------
    seed : int
        Seed of the run, 0 or more.
    name : str
        Purpose of the stream, such as ``"weights"`` or ``"order"``.
    *index : int
        Index of the stream among those of equal name, such as the epoch; 0 by default.

    Returns
    -------
    torch.Generator
        A CPU generator.

    Examples
    --------
    >>> import torch
    >>> first, again = (torch.randperm(9, generator=stream(0, "order", 1)) for _ in range(2))
    >>> torch.equal(first, again)
    True
    """
    entropy = np.random.SeedSequence([seed, zlib.crc32(name.encode()), *(index or (0,))]).generate_state(2)
    return torch.Generator().manual_seed(int(entropy[0]) << 32 | int(entropy[1]))


@contextmanager
def drawing_from(seed: int, name: str, *index: int, device: torch.device | None = None) -> Iterator[None]:
    """Let torch's global generators draw from a stream inside the block, and restore them afterwards.

    Dropout draws from them, so that it then depends on the seed and the update alone.
    """
    on_gpu = device is not None and device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu and device is not None else []):
        state = stream(seed, name, *index).initial_seed()
        torch.default_generator.manual_seed(state)
        if on_gpu and device is not None:
            torch.cuda.default_generators[device.index or 0].manual_seed(state)
        yield


def drawn_so_far(device: torch.device) -> Drawn:
    """Return the states of torch's global generators, for ``drawing_again``."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def drawing_again(drawn: Drawn, device: torch.device) -> Iterator[None]:
    """Let torch's global generators draw inside the block what they drew after ``drawn_so_far``; restore them then.

    A second forward pass has the same dropout as the first so.
    """
    on_cpu, on_gpu = drawn
    with torch.random.fork_rng([device] if on_gpu is not None else []):
        torch.set_rng_state(on_cpu)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)
        yield
