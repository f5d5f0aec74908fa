"""Memory: how much there is, how much a learner takes, and how to keep what was freed."""

from __future__ import annotations

import copy
import ctypes
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from repsim.learning.learner import Learner

__all__ = ["Footprint", "available_memory", "keep_freed_memory", "measure_footprint"]

_GIB = 2**30


def available_memory(device: torch.device | str = "cpu") -> int | None:
    """Return the bytes that can still be taken on a device, or None where the system does not say."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines() if device.type == "cpu" else []
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory for this process, rather than to return it and fault it in again.

    Every training step frees and takes the same blocks; where these are large, giving them back costs a fifth of the
    time. The process then holds on to the most that it has used at once, up to a gibibyte more than it uses. It changes
    glibc only, for the whole process, and no numbers.

    Returns
    -------
    bool
        Whether there is a glibc that took the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(parameter, value) for parameter, value in _SETTINGS.items())


_SETTINGS = {  # of <malloc.h>
    -1: _GIB,  # M_TRIM_THRESHOLD: the heap shrinks only when so much is free at its top
    -2: 64 * 2**20,  # M_TOP_PAD: it grows by this much at a time
    -3: 32 * 2**20,  # M_MMAP_THRESHOLD: blocks below this size, the largest allowed, come from the heap
}


@dataclass(frozen=True)
class Footprint:
    """The memory that training one learner takes, in bytes.

    Attributes
    ----------
    weights : int
        Parameters and buffers.
    gradients : int
    moments : int
        What the optimizer remembers.
    batch : int
        One batch and what a step keeps of it for the way back.
    """

    weights: int
    gradients: int
    moments: int
    batch: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.moments + self.batch


def measure_footprint(
    learner: Learner, optimizer: torch.optim.Optimizer, X: Tensor, y: Tensor, batch_size: int
) -> Footprint:
    """Return what a learner takes, seen in one update of a copy on two examples; neither it nor the optimizer changes.

    Parameters
    ----------
    learner : Learner
    optimizer : torch.optim.Optimizer
        Over its parameters.
    X, y : Tensor
        Examples to take two from.
    batch_size : int
        Of the batches that it will be trained on.
    """
    learner, optimizer = copy.deepcopy((learner, optimizer))
    X, y = X[:2].clone(), y[:2].clone()  # what is saved of a view is the storage of all examples
    tensors = [*learner.parameters(), *learner.buffers()]
    seen = _Seen([*tensors, X, y])
    with torch.autograd.graph.saved_tensors_hooks(seen.note, lambda saved: saved):
        learner.train().compute_gradients(X, y)
    optimizer.step()
    return Footprint(
        _bytes(tensors),
        _bytes(p.grad for p in learner.parameters() if p.grad is not None),
        _bytes(v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)),
        (seen.bytes + _bytes([X, y])) * batch_size // len(y),
    )


class _Seen:
    """Counts the bytes of tensors that autograd saves, each storage once, without those of known tensors."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        self.bytes = 0
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}

    def note(self, saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._known.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return saved


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
