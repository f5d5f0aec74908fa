"""States of random generators of torch, numpy and Python: preserved, saved and restored, without drawing."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "GENERATORS",
    "generator_states",
    "preserve_generators",
    "rng_state",
    "set_rng_state",
    "set_seed",
    "set_state",
    "state_of",
]

_NUMPY_KEYS = 624

GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


@contextmanager
def preserve_generators(seed: int | None = None, *, devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """Restore the global generators after the block.

    Inside it they start from ``seed``, if one is given. Generators of the GPUs in ``devices`` are restored as well.
    """
    of_numpy, of_python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(sorted(devices, key=str)):
        try:
            if seed is not None:
                torch.default_generator.manual_seed(seed)  # torch.manual_seed reseeds every GPU too
                for device in devices:
                    torch.cuda.default_generators[device.index or 0].manual_seed(seed)
                np.random.seed(seed % 2**32)
                random.seed(seed)
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)


def generator_states() -> tuple[Any, ...]:
    """Return the state of every global generator in comparable form: equal if no number was drawn in between."""
    of_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states = [state.numpy().tobytes() for state in (torch.get_rng_state(), *of_gpus)]
    return (*states, name, _words(keys), position, has_gauss, cached, random.getstate())


def rng_state() -> dict[str, Any]:
    """Return the state of every global generator as a JSON-ready dict, its words as hexadecimal text."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": _hex(torch.get_rng_state()),
        "cuda": [_hex(state) for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_initialized() else [],
        "numpy": [name, _words(keys), position, has_gauss, cached],
        "python": [version, _words(internal), gauss],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore a state that ``rng_state`` returned; states of GPUs that do not exist here are ignored."""
    torch.set_rng_state(_bytes(state["torch"]))
    for device, text in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(_bytes(text), device)
    name, keys, position, has_gauss, cached = state["numpy"]
    if (
        type(position) is not int or not 0 <= position <= _NUMPY_KEYS
    ):  # numpy does not check it, and would read foreign memory
        raise ValueError(f"numpy's generator is at {position!r} of {_NUMPY_KEYS}")
    np.random.set_state((name, _from_words(keys), position, has_gauss, cached))
    version, internal, gauss = state["python"]
    if not isinstance(gauss, float | None):  # Python would not fail before the next draw
        raise TypeError(f"Python's next normal draw is {gauss!r}")
    random.setstate((version, tuple(_from_words(internal).tolist()), gauss))


def state_of(generator: Any) -> Any:
    """Return the state of one of ``GENERATORS``."""
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def set_state(generator: Any, state: Any) -> None:
    """Restore a state that ``state_of`` returned."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def set_seed(generator: Any, seed: int) -> None:
    """Seed one of ``GENERATORS``."""
    if isinstance(generator, np.random.Generator):
        kind: Any = type(generator.bit_generator)
        generator.bit_generator.state = kind(seed).state
    elif isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    else:
        generator.seed(seed)


def _words(values: Any) -> str:
    return np.asarray(values, "<u4").tobytes().hex()


def _from_words(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(bytes.fromhex(text), "<u4")


def _hex(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
