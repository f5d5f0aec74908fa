"""Tensors inside the arguments and results of modules: tuples, lists, dicts, dataclasses and packed sequences."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

__all__ = ["leaves"]

_MOST_PARTS = 100_000
_DEEPEST = 32


def leaves(value: Any, widths: Sequence[int] = ()) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Yield each tensor in a nested value together with its path.

    A container that contains itself is entered once. A packed sequence becomes two tensors: its values, padded with
    zeros to shape (n_sequences, length, ...) in the order of the batch, and its lengths under the key ``lengths``. A
    path has keys and positions, outermost first. Packed sequences are padded to the smallest of ``widths`` that fits,
    otherwise to the length of the longest sequence.
    """
    seen = itertools.count(1)

    def walk(value: Any, path: tuple[str, ...], above: frozenset[int]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        if next(seen) > _MOST_PARTS:
            raise ValueError(f"It holds more than {_MOST_PARTS:,} parts; choose one of them by its path.")
        if isinstance(value, Tensor):
            yield path, value
        elif isinstance(value, PackedSequence):
            padded, lengths = _padded(value, widths)
            yield path, padded
            yield (*path, "lengths"), lengths
        elif id(value) not in above and len(path) < _DEEPEST:
            for key, part in _parts(value):
                yield from walk(part, (*path, str(key)), above | {id(value)})

    yield from walk(value, (), frozenset())


def _padded(packed: PackedSequence, widths: Sequence[int]) -> tuple[Tensor, Tensor]:
    longest = len(packed.batch_sizes)
    width = min((each for each in widths if each >= longest), default=longest)
    return pad_packed_sequence(packed, batch_first=True, total_length=width)


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)
    elif isinstance(value, tuple | list):
        yield from enumerate(value)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from ((each.name, getattr(value, each.name)) for each in fields(value))
