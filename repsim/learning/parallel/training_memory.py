"""Memory of training: the memory available, and the memory that a learner needs."""

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
from repsim.learning.line_search import LineSearch

__all__ = ["Footprint", "available_memory", "keep_freed_memory", "measure_footprint"]

_GIB = 2**30


def available_memory(device: torch.device | str = "cpu") -> int | None:
    """Return the bytes of memory available on a device, or None if the system does not report it."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines() if device.type == "cpu" else []
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for this process instead of returning it to the system.

    Every training step frees and allocates the same blocks; if they are large, returning them to the system takes a
    fifth of the time. With this setting the process keeps up to a gibibyte more than it uses. The setting affects glibc
    only, for the whole process, and changes no results.

    Returns
    -------
    bool
        Whether the C library is glibc and accepted the settings.
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
    """Bytes to train one learner; a ``batch`` includes all tensors that a step saves for the backward pass."""

    weights: int
    gradients: int
    moments: int
    batch: int

    @property
    def total(self) -> int:
        """Sum of all four."""
        return self.weights + self.gradients + self.moments + self.batch


def measure_footprint(
    learner: Learner, optimizer: torch.optim.Optimizer, X: Tensor, y: Tensor, batch_size: int
) -> Footprint:
    """Measure the memory of training a learner by one update of a copy on two examples.

    Neither the learner nor the optimizer changes.
    """
    learner, optimizer = copy.deepcopy((learner, optimizer))
    X, y = X[:2].clone(), y[:2].clone()  # a view would save the storage of all examples
    tensors = [*learner.parameters(), *learner.buffers()]
    saved = _SavedBytes([*tensors, X, y])
    with torch.autograd.graph.saved_tensors_hooks(saved.count, lambda tensor: tensor):
        learner.train().compute_gradients(X, y)
    if not isinstance(optimizer, LineSearch):  # which holds no moments
        optimizer.step()
    return Footprint(
        _bytes(tensors),
        _bytes(p.grad for p in learner.parameters() if p.grad is not None),
        _bytes(v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)),
        (saved.bytes + _bytes([X, y])) * batch_size // len(y),
    )


class _SavedBytes:
    """Counter of the bytes that autograd saves: each storage once, and those of known tensors not at all."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        self.bytes = 0
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}

    def count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._known.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
