"""Checks of a network before it is recorded: its reductions, device, weights, and whether it runs on the stimuli."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from checkpoints import Capture, Reduction, Stimuli, parse_reduction
from checkpoints.capture.modules import unwrapped
from checkpoints.storage.tensors import NotStorable
from checkpoints.training_state.model_state import model_state

__all__ = ["check_forward", "check_storable", "naming_the_network", "on_device", "reductions_of"]

_FEW = 4  # stimuli that a network is tried on


@contextmanager
def naming_the_network(act: str = "run on the stimuli") -> Iterator[None]:
    """Raise any error of the network as a ValueError of one sentence."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"The network cannot be {act} ({_described(error)}).") from error


def reductions_of(texts: Sequence[str]) -> dict[Any, Reduction]:
    """Return the reductions by pattern; the first pattern that matches applies."""
    reductions: dict[Any, Reduction] = {}
    for pattern, reduction in map(_reduction, texts):
        if pattern in reductions:
            raise ValueError(f"Two reductions were given for '{pattern}'; give one for each pattern.")
        reductions[pattern] = reduction
    return reductions


def _reduction(text: str) -> tuple[str, Reduction]:
    pattern, equals, reduction = text.rpartition("=") if "(" not in text else text.partition("=")
    if not equals or not pattern:
        raise ValueError(
            f"Reduction '{text}' is not understood; expected PATTERN=REDUCTION, such as conv*=spatial_mean."
        )
    return pattern, parse_reduction(reduction)


def on_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network on a device; one that accelerate has offloaded is returned as it is."""
    if any(parameter.is_meta for parameter in network.parameters()):
        if device.type != "cpu":
            raise ValueError(f"The network is offloaded, so it cannot be moved to {device}. Leave --device out.")
        return network
    with naming_the_network(f"moved to {device}"):
        return network.to(device)


def check_storable(network: nn.Module) -> None:
    """Raise ValueError if the weights cannot be saved."""
    try:
        model_state(unwrapped(network))
    except NotStorable as error:
        raise ValueError(
            f"The weights of the network cannot be saved: {error}; give --no-weights to record activations alone."
        ) from error


def check_forward(capturing: Callable[..., Capture], stimuli: Stimuli, batch_size: int | None) -> None:
    """Run the network on a few stimuli, to find errors before anything is written.

    If that fails, run it on blocks of the sizes that a recording has, as some networks take one batch size only.
    """
    n = stimuli.n_inputs
    size = min(n, _FEW, batch_size or n)
    rest = n % batch_size if batch_size is not None and batch_size < n else 0
    shown = min(n, max(2, size + (rest == 1)))
    inputs = _spread_inputs(stimuli, shown)
    with naming_the_network(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are given when the network is recorded
        try:
            capturing(batch_size=size).record(inputs)
        except Exception:
            if batch_size is None or n <= _FEW:
                raise
            _check_blocks(capturing(batch_size=batch_size), stimuli, min(n, batch_size), rest)


def _check_blocks(capture: Capture, stimuli: Stimuli, size: int, rest: int) -> None:
    """Run the network on a whole block of stimuli, and on a block of the size of the last one."""
    try:
        capture.record(stimuli.first_inputs(size + rest))
    except Exception as error:
        if rest == 0:
            raise
        capture.record(stimuli.first_inputs(size))  # raises if the last block is not the cause
        cause = error.__cause__ or error
        raise ValueError(
            f"The network runs on {size} stimuli but not on the {rest} of the last block ({_described(cause)}). Give a "
            f"--batch-size that divides {stimuli.n_inputs}."
        ) from error


def _spread_inputs(stimuli: Stimuli, n: int) -> Any:
    """Return the inputs of ``n`` stimuli, evenly spaced, so that they are of several classes."""
    rows = np.linspace(0, stimuli.n_inputs - 1, n).round().astype(int)
    return stimuli.inputs_at(rows.tolist())


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
