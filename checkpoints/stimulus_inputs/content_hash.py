"""The hash of the content of stimuli: inputs in the stored order, and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.stimulus_inputs.input_source import Arrays, by_name

__all__ = ["hash_arrays", "hash_blocks"]

_SPOOLED_BYTES = 2**26  # of one input that are kept in memory while another is hashed
_COPIED_BYTES = 2**20


def hash_arrays(inputs: Arrays, labels: NDArray[np.int64]) -> str:
    """Return the hash of inputs in memory."""
    parts = sorted(by_name(inputs).items())
    return _hash(((name, part.dtype, part.shape, (part.data,)) for name, part in parts), labels)


def hash_blocks(blocks: Iterable[Mapping[str, NDArray[Any]]], labels: NDArray[np.int64]) -> str:
    """Return the hash that ``hash_arrays`` returns for all blocks together, reading each once.

    The hash covers one input after the other, so all but the first are kept in a temporary file until it is finished.
    """
    remaining = iter(blocks)
    block = next(remaining)
    first, *others = sorted(block)
    with ExitStack() as stack:
        kept = {name: stack.enter_context(SpooledTemporaryFile(_SPOOLED_BYTES)) for name in others}

        def buffers_of_first() -> Iterator[Any]:
            for part in chain([block], remaining):
                for name, file in kept.items():
                    file.write(part[name].data)
                yield part[first].data

        buffers = {first: buffers_of_first(), **{name: _content(file) for name, file in kept.items()}}
        n = len(labels)
        parts = ((name, block[name].dtype, (n, *block[name].shape[1:]), buffers[name]) for name in (first, *others))
        return _hash(parts, labels)


def _hash(parts: Iterable[tuple[str, np.dtype[Any], tuple[int, ...], Iterable[Any]]], labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256()
    for name, dtype, shape, buffers in parts:
        digest.update(f"{name and name + ' '}{dtype.str} {shape}".encode())
        for buffer in buffers:
            digest.update(buffer)
    digest.update(labels.tobytes())
    return digest.hexdigest()


def _content(file: Any) -> Iterator[bytes]:
    file.seek(0)
    while content := file.read(_COPIED_BYTES):
        yield content
