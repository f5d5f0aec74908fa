"""Independent random streams of one seed, so that draws do not depend on other draws before them."""

from __future__ import annotations

import zlib

import numpy as np
import torch

__all__ = ["stream"]


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
