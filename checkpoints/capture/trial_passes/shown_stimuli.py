"""The stimuli of a recording: all inputs in memory, or a source of which the shown rows are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from checkpoints.capture.network import Batch, Inputs, Labelled, as_tensors, each_tensor
from checkpoints.stimulus_inputs.input_source import InputSource
from checkpoints.stimulus_inputs.opening import as_source

__all__ = ["ShownStimuli"]


class ShownStimuli:
    """Inputs, with one label per stimulus if a loss needs them, as tensors.

    Parameters
    ----------
    inputs : Tensor, array, sequence, data set, loader or InputSource, or mapping of str to such

    Attributes
    ----------
    labels : Tensor, shape (n, ...), or None
        What a loss is given besides the output.
    widths : tuple of int
        Size of the second axis of each input that has one: the length of its sequences.
    """

    def __init__(self, inputs: Any) -> None:
        source = as_source(inputs)
        self._inputs: Inputs | InputSource = as_tensors(inputs) if source is None else source
        self.labels: Tensor | None = None
        self._n = _n_rows(self._inputs)
        self.widths = tuple(part.shape[1] for part in _parts(self._rows([0])) if part.ndim > 1)

    def __len__(self) -> int:
        """Return the number of stimuli."""
        return self._n

    def take(self, rows: Sequence[int]) -> Batch:
        """Return some stimuli in the order of ``rows``."""
        return self._labelled(self._rows(rows), torch.as_tensor(rows))

    def blocks(self, size: int) -> Iterator[Batch]:
        """Yield all stimuli, ``size`` at a time."""
        slices = [slice(start, min(start + size, self._n)) for start in range(0, self._n, size)]
        if isinstance(self._inputs, InputSource):
            parts: Iterator[Inputs] = map(as_tensors, self._inputs.blocks(range(self._n), size))
        else:
            parts = (each_tensor(self._inputs, itemgetter(rows)) for rows in slices)
        for rows, inputs in zip(slices, parts, strict=True):
            yield self._labelled(inputs, rows)

    def _rows(self, rows: Sequence[int]) -> Inputs:
        if isinstance(self._inputs, InputSource):
            return as_tensors(self._inputs.take(rows))
        chosen = torch.as_tensor(rows)
        return each_tensor(self._inputs, lambda part: part[chosen])

    def _labelled(self, inputs: Inputs, rows: Tensor | slice) -> Batch:
        return inputs if self.labels is None else Labelled(inputs, self.labels[rows])


def _n_rows(inputs: Inputs | InputSource) -> int:
    """Return the number of stimuli, which is the same in all inputs."""
    lengths = {len(inputs)} if isinstance(inputs, InputSource) else {_length(part) for part in _parts(inputs)}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"The inputs have {sorted(lengths)} rows; expected one or more, and the same number in each.")
    return lengths.pop()


def _length(part: Tensor) -> int:
    return len(part) if part.ndim else 0


def _parts(inputs: Inputs) -> Iterator[Tensor]:
    yield from inputs.values() if isinstance(inputs, dict) else (inputs,)
