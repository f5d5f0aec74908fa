"""Memory of a forward pass, measured while it runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["PeakMemory"]


class PeakMemory(TorchDispatchMode):
    """Measures the largest number of bytes that tensors made inside the ``with`` block hold at the same time.

    ``peak`` does not count tensors that existed before, workspaces inside an operation, and tensors made in ``paused``
    blocks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._held = 0
        self._storages: dict[int, weakref.ref[Any]] = {}
        self._paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out tensors that are made inside the block."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count the storages that it made."""
        result = func(*args, **(kwargs or {}))
        if not self._paused:
            given = {id(each.untyped_storage()) for each in tree_leaves((args, kwargs)) if _is_counted(each)}
            for tensor in tree_leaves(result):
                if _is_counted(tensor) and id(tensor.untyped_storage()) not in given:
                    self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._storages:
            return
        size = storage.nbytes()

        def forget(_: Any) -> None:
            if self._storages.pop(key, None) is not None:
                self._held -= size

        self._storages[key] = weakref.ref(storage, forget)
        self._held += size
        self.peak = max(self.peak, self._held)


def _is_counted(value: Any) -> bool:
    return type(value) in (Tensor, nn.Parameter) and value.layout is torch.strided and not value.is_meta
