"""Independent random streams from one seed, so that no draw depends on which draws came before it."""

from __future__ import annotations

import zlib

import numpy as np
import torch

__all__ = ["stream"]


def stream(seed: int, name: str, *index: int) -> torch.Generator:
    """Return the generator of one named stream of a seed.

    Streams are functions of ``(seed, name, *index)`` alone. A resumed run therefore needs no saved generator: it
    asks for the stream of the epoch it continues in.

    Parameters
    ----------
    seed : int
        The run's seed, 0 or greater.
    name : str
        What the stream is for, e.g. ``"weights"`` or ``"order"``.
    *index : int
        Which one of a family of streams, e.g. the epoch; 0 if none is given.

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
