"""Forward hooks: hand over the selected tensors of watched modules during one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints.capture.leaves import leaves
from checkpoints.capture.reductions import Flatten, Reduction
from checkpoints.capture.selection import LayerKey, Selector

__all__ = ["LayerTensor", "NotRecordable", "Receive", "WatchedModule", "hooked", "layer_name"]


class NotRecordable(ValueError):
    """A selected tensor cannot be recorded."""


@dataclass(frozen=True)
class WatchedModule:
    """A module that is recorded, under one of its names."""

    name: str
    module: nn.Module
    selectors: tuple[Selector, ...]
    reductions: tuple[tuple[Selector, Reduction], ...]


@dataclass(frozen=True)
class LayerTensor:
    """An input or output tensor of a watched module."""

    key: LayerKey
    tensor: Tensor
    module: nn.Module
    reduction: Reduction  # as the user gave it; ``Reduction.resolved`` has not been called yet
    problem: str | None = None  # the reason why the tensor cannot be recorded


Receive = Callable[[LayerTensor], None]


@contextmanager
def hooked(watches: Sequence[WatchedModule], receive: Receive, widths: Sequence[int]) -> Iterator[Counter[str]]:
    """Pass every selected tensor of the watched modules to ``receive`` while the block runs; yield counts of calls.

    ``receive`` must copy the values that it needs later, because the network may overwrite the tensor. ``widths`` as
    for ``leaves``.
    """
    calls: Counter[str] = Counter()
    with ExitStack() as stack:
        for watch in watches:
            listener = _Listener(watch, receive, widths, calls)
            before = watch.module.register_forward_pre_hook(listener.before, with_kwargs=True)
            stack.callback(before.remove)
            # always_call: also if the module raises and the network catches the error
            after = watch.module.register_forward_hook(listener.after, always_call=True)
            stack.callback(after.remove)
        yield calls


class _Listener:
    """The hooks on one module."""

    def __init__(self, watch: WatchedModule, receive: Receive, widths: Sequence[int], calls: Counter[str]) -> None:
        self._watch, self._receive, self._widths, self._calls = watch, receive, widths, calls
        self._open: list[int] = []  # numbers of calls that have not returned; a module may call itself
        self._seen: set[LayerKey] = set()

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self._calls[self._watch.name]
        self._calls[self._watch.name] += 1
        self._open.append(call)
        if any(selector.side in ("input", "both") for selector in self._watch.selectors):
            only = args[0] if len(args) == 1 and not any(True for _ in leaves(kwargs)) else None
            several: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
            self._hand_over(call, "input", only if isinstance(only, Tensor) else several)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        call = self._open.pop()
        sides = {selector.side for selector in self._watch.selectors} - {"input"}
        if sides:
            self._hand_over(call, "gradient" if "gradient" in sides else "output", output)

    def _hand_over(self, call: int, side: str, value: Any) -> None:
        try:
            for path, tensor in leaves(value, self._widths):
                self._take(LayerKey(self._watch.name, call, side, path), tensor)
        except NotRecordable:
            raise
        except ValueError as error:
            raise NotRecordable(f"Layer '{self._watch.name}' cannot be recorded: {error}") from error

    def _take(self, key: LayerKey, tensor: Tensor) -> None:
        if not any(selector.takes(key) for selector in self._watch.selectors):
            return
        if key in self._seen:
            raise NotRecordable(f"Layer '{layer_name(key)}' gives two tensors of this name; keys must differ as text.")
        self._seen.add(key)
        problem = _layout_problem(tensor)
        if problem is None and hasattr(tensor, "full_tensor"):  # a sharded tensor
            tensor = tensor.full_tensor()
        reduction = next((each for selector, each in self._watch.reductions if selector.takes(key)), Flatten())
        self._receive(LayerTensor(key, tensor, self._watch.module, reduction, problem))


def _layout_problem(tensor: Tensor) -> str | None:
    if tensor.is_nested:
        return "stimuli in a nested tensor differ in shape"
    return None if tensor.layout is torch.strided else f"the layout is {tensor.layout} and not dense"


def layer_name(key: LayerKey) -> str:
    """Return the provisional name of a layer, while it is unknown whether its module will be called again."""
    return key.name(several_calls=key.call > 0)
