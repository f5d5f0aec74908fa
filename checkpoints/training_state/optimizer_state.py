"""The state of optimizers: saving and exact restoring."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checkpoints.errors import Damaged
from checkpoints.storage.tensors import sharded_like

__all__ = ["Optimizers", "check_optimizers", "load_optimizers", "optimizer_states"]

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None


def optimizer_states(optimizer: Optimizers) -> Any:
    """Return the ``state_dict`` of an optimizer, a list for several optimizers, or None."""
    optimizers = _as_list(optimizer)
    for each in optimizers:
        if not isinstance(each, torch.optim.Optimizer):
            raise TypeError(
                f"{type(each).__name__} is not an optimizer; expected one or several torch.optim.Optimizer."
            )
    states = [each.state_dict() for each in optimizers]
    return states if isinstance(optimizer, Sequence) else states[0] if states else None


def check_optimizers(path: Path, optimizer: Optimizers, states: list[Any]) -> None:
    """Check that the saved states belong to the given optimizers, before anything is changed."""
    optimizers = _as_list(optimizer)
    if optimizers and len(optimizers) != len(states):
        if not states:
            raise ValueError(f"{path} was saved without an optimizer; restore it without one.")
        raise ValueError(f"{path} was saved with {len(states)} optimizers; {len(optimizers)} were given.")
    for each, state in zip(optimizers, states, strict=False):
        try:
            saved = [len(group["params"]) for group in state["param_groups"]]
        except (KeyError, TypeError) as error:
            raise Damaged(f"{path} does not hold the state of an optimizer.") from error
        if saved != (given := [len(group["params"]) for group in each.param_groups]):
            raise ValueError(f"{path} has an optimizer with {saved} parameters per group; the given one has {given}.")


def load_optimizers(path: Path, optimizer: Optimizers, states: list[Any]) -> None:
    """Restore the states of optimizers, including the types of all entries."""
    for each, state in zip(_as_list(optimizer), states, strict=False):
        try:
            _load(each, state)
        except Exception as error:  # torch does not validate the state
            raise Damaged(f"{path} does not hold a state of this optimizer ({error}).") from error


def _load(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state, then replace the entries that torch has converted to another type."""
    saved = chain.from_iterable(group["params"] for group in state["param_groups"])
    given = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    parameters = dict(zip(saved, given, strict=True))
    entries_by_key = {
        key: entries for key, entries in state["state"].items() if key in parameters and isinstance(entries, dict)
    }
    plain = {key: {name: _plain(value) for name, value in entries.items()} for key, entries in entries_by_key.items()}
    optimizer.load_state_dict({**state, "state": {**state["state"], **plain}})
    for key, entries in entries_by_key.items():
        loaded = optimizer.state[parameters[key]]
        for name, value in entries.items():
            loaded[name] = _exact(value, loaded.get(name), parameters[key])


def _plain(value: Any) -> Any:
    """Return a value that torch can convert without loss or error, otherwise None."""
    convertible = not value.is_complex() if isinstance(value, Tensor) else isinstance(value, float | int)
    return value if convertible else None


def _exact(value: Any, loaded: Any, parameter: Tensor) -> Any:
    """Return an entry with its saved type and value, on the device on which torch has placed it."""
    if isinstance(value, Tensor) and isinstance(loaded, Tensor):
        same = loaded if loaded.dtype == value.dtype else value.to(loaded.device)
        return sharded_like(same, parameter)
    return loaded if isinstance(value, float | int) else _moved(value, parameter.device)


def _moved(value: Any, device: torch.device) -> Any:
    """Return nested state with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return type(value)((key, _moved(item, device)) for key, item in value.items())
    if isinstance(value, deque):
        return deque((_moved(item, device) for item in value), maxlen=value.maxlen)
    return type(value)(_moved(item, device) for item in value) if isinstance(value, list | tuple) else value


def _as_list(optimizer: Optimizers) -> list[torch.optim.Optimizer]:
    return list(optimizer) if isinstance(optimizer, Sequence) else [] if optimizer is None else [optimizer]
