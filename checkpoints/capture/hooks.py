"""Hooks that pass on the tensors of watched modules during one forward pass."""

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
from checkpoints.capture.selection import Selector, Spot

__all__ = ["Given", "Keep", "Refused", "Watch", "hooked", "spot_name"]


class Refused(ValueError):
    """A tensor that was asked for cannot be recorded."""


@dataclass(frozen=True)
class Watch:
    """A module that is recorded, under one of its names."""

    name: str
    module: nn.Module
    selectors: tuple[Selector, ...]
    reductions: tuple[tuple[Selector, Reduction], ...]


@dataclass(frozen=True)
class Given:
    """A tensor that a watched module was given or has returned.

    Attributes
    ----------
    spot : Spot
    tensor : Tensor
        Without gradient.
    module : nn.Module
    reduction : Reduction
        As it was given; its axes may not be settled yet.
    wrong : str
        Why the tensor cannot be recorded; empty if it can.
    """

    spot: Spot
    tensor: Tensor
    module: nn.Module
    reduction: Reduction
    wrong: str = ""


Keep = Callable[[Given], None]


@contextmanager
def hooked(watches: Sequence[Watch], keep: Keep, widths: Sequence[int]) -> Iterator[Counter[str]]:
    """Pass every selected tensor of the watched modules to ``keep`` while the block runs.

    Parameters
    ----------
    watches : sequence of Watch
    keep : callable
        Must copy what it keeps: the network may write over the tensor.
    widths : sequence of int
        See ``leaves``.

    Yields
    ------
    Counter of str
        How often each module has been called.
    """
    calls: Counter[str] = Counter()
    with ExitStack() as stack:
        for watch in watches:
            listener = _Listener(watch, keep, widths, calls)
            before = watch.module.register_forward_pre_hook(listener.before, with_kwargs=True)
            stack.callback(before.remove)
            after = watch.module.register_forward_hook(
                listener.after, always_call=True
            )  # also if it raises and is caught
            stack.callback(after.remove)
        yield calls


class _Listener:
    """The hooks on one module."""

    def __init__(self, watch: Watch, keep: Keep, widths: Sequence[int], calls: Counter[str]) -> None:
        self._watch, self._keep, self._widths, self._calls = watch, keep, widths, calls
        self._open: list[int] = []  # calls that have not returned: a module may call itself
        self._seen: set[Spot] = set()

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self._calls[self._watch.name]
        self._calls[self._watch.name] += 1
        self._open.append(call)
        if any(selector.side != "output" for selector in self._watch.selectors):
            only = args[0] if len(args) == 1 and not any(True for _ in leaves(kwargs)) else None
            several: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
            self._hand_over(call, "input", only if isinstance(only, Tensor) else several)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        call = self._open.pop()
        if any(selector.side != "input" for selector in self._watch.selectors):
            self._hand_over(call, "output", output)

    def _hand_over(self, call: int, side: str, value: Any) -> None:
        try:
            for path, tensor in leaves(value, self._widths):
                self._take(Spot(self._watch.name, call, side, path), tensor)
        except Refused:
            raise
        except ValueError as error:
            raise Refused(f"Layer '{self._watch.name}' cannot be recorded: {error}") from error

    def _take(self, spot: Spot, tensor: Tensor) -> None:
        if not any(selector.takes(spot) for selector in self._watch.selectors):
            return
        if spot in self._seen:
            raise Refused(f"Layer '{spot_name(spot)}' gives two tensors of this name; keys must differ as text.")
        self._seen.add(spot)
        wrong = ""
        if tensor.is_nested:
            wrong = "it is a nested tensor, in which stimuli differ in shape"
        elif tensor.layout is not torch.strided:
            wrong = f"it is not dense but {tensor.layout}"
        elif hasattr(tensor, "full_tensor"):  # a sharded one
            tensor = tensor.full_tensor()
        reduction = next((each for selector, each in self._watch.reductions if selector.takes(spot)), Flatten())
        self._keep(Given(spot, tensor.detach(), self._watch.module, reduction, wrong))


def spot_name(spot: Spot) -> str:
    """Return the provisional name of a layer: it is not known yet whether its module will be called again."""
    return spot.name(several_calls=spot.call > 0)
