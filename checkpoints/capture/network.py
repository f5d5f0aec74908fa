"""One forward pass of a network on some of the stimuli, with hooks, after which everything is put back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from checkpoints.arrays import as_array
from checkpoints.capture.found import Found
from checkpoints.capture.hooks import Given, Keep, Refused, Watch, hooked
from checkpoints.capture.memory import PeakMemory
from checkpoints.capture.modules import evaluating
from checkpoints.capture.selection import module_names
from checkpoints.generators import generator_states

__all__ = ["Batch", "Network", "Passed", "as_tensors", "n_rows", "rows_of", "sequence_lengths"]

Batch = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Passed:
    """Observations of one forward pass.

    Attributes
    ----------
    calls : Counter of str
        How often each watched module was called.
    random : bool
        Whether a random generator, global or of the network, was drawn from.
    peak : int
        Bytes that tensors made in the pass held at the same time; 0 if that was not measured.
    changed : list of (dict, str, value)
        Owner, name and earlier value of the attributes and buffers whose tensors the pass has changed.
    """

    calls: Counter[str]
    random: bool
    peak: int
    changed: list[tuple[Any, Any, Any]]


@dataclass
class Network:
    """A network, the function that runs it, and its watched modules.

    Attributes
    ----------
    model : nn.Module
    run : callable (model, batch) -> Any, optional
        ``model(batch)``, or ``model(**batch)`` if the batch is a dict, by default.
    watches : tuple of Watch
    widths : tuple of int
        See ``checkpoints.capture.leaves.leaves``.
    warn_of_lost : callable (list of str) -> None
        Called before a pass with the attributes that cannot be put back after it, if there are any; see ``Found``.
    prepare : list of callable (n) -> None
        Called with the number of stimuli before a pass, after everything was kept: their changes are put back too.
    """

    model: nn.Module
    run: Callable[[nn.Module, Any], Any] | None
    watches: tuple[Watch, ...]
    widths: tuple[int, ...]
    warn_of_lost: Callable[[list[str]], None]
    prepare: list[Callable[[int], None]] = field(default_factory=list)
    _found: Found | None = field(default=None, init=False)
    _modules: tuple[int, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        """Remember which modules there are."""
        self._modules = tuple(map(id, self.model.modules()))

    def pass_(
        self,
        batch: Batch,
        n: int,
        keep: Keep,
        *,
        measured: bool = False,
        compared: bool = False,
        seed: int | None = None,
    ) -> Passed:
        """Run the network on a batch of ``n`` stimuli and hand the watched tensors to ``keep``.

        Parameters
        ----------
        batch : Tensor or dict of str to Tensor
            Copied to the device of the model, as the network may write over it; floats take the type of its weights.
        n : int
        keep : callable
            See ``hooked``. It runs without autocasting.
        measured, compared : bool, default False
            Whether to measure memory, and to find changed attributes.
        seed : int, optional
            For the global generators and those of the network; they start as they are by default.
        """
        if measured:
            try:
                return self._pass(batch, n, keep, PeakMemory(), compared, seed)
            except Refused:
                raise
            except Exception:  # some operations cannot be observed; a fault of the network shows again below
                pass
        return self._pass(batch, n, keep, None, compared, seed)

    def _pass(
        self, batch: Batch, n: int, keep: Keep, memory: PeakMemory | None, compared: bool, seed: int | None
    ) -> Passed:
        def kept_apart(given: Given) -> None:
            with torch.autocast(given.tensor.device.type, enabled=False), memory.paused() if memory else nullcontext():
                keep(given)

        placed = _placed(batch, self.model)
        with evaluating(self.model, self._found, seed) as found:
            self._found = found
            if found.lost:
                self.warn_of_lost(found.lost)
            for prepare in self.prepare:
                prepare(n)
            if seed is not None:
                found.reseed(seed)
            before = generator_states()
            with hooked(self._watches_now(), kept_apart, self.widths) as calls, memory or nullcontext():
                self._call(placed)
            changed = list(found.changed_entries()) if compared else []
            random = before != generator_states() or found.has_drawn()
        return Passed(calls, random, memory.peak if memory else 0, changed)

    def look_again(self) -> None:
        """Notice what has changed since the last pass; to be called where other code may have run in between."""
        if self._found is not None and not self._found.is_current():
            self._found = None

    def _watches_now(self) -> tuple[Watch, ...]:
        """Return the watched modules of the evaluation mode: some networks replace modules when they enter it."""
        if self._modules == tuple(map(id, self.model.modules())):
            return self.watches
        modules = module_names(self.model)
        return tuple(replace(each, module=modules[each.name]) for each in self.watches if each.name in modules)

    def _call(self, batch: Batch) -> Any:
        if self.run is not None:
            return self.run(self.model, batch)
        return self.model(**batch) if isinstance(batch, dict) else self.model(batch)


def as_tensors(inputs: Any) -> Batch:
    """Return inputs as a tensor, or as a dict of tensors; see ``as_array`` for the types that are accepted."""
    if isinstance(inputs, Mapping):
        return {name: _tensor(part) for name, part in inputs.items()}
    return _tensor(inputs)


def n_rows(tensors: Batch) -> int:
    """Return the number of stimuli, which all parts have in common.

    Raises
    ------
    ValueError
        If there are none, or the parts differ in their number.
    """
    lengths = {len(part) if part.ndim else 0 for part in _parts(tensors)}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"The inputs have {sorted(lengths)} rows; expected one or more, as many in each.")
    return lengths.pop()


def rows_of(tensors: Batch, rows: slice | Sequence[int]) -> Batch:
    """Return some of the stimuli."""
    chosen = rows if isinstance(rows, slice) else torch.as_tensor(rows)
    return {name: part[chosen] for name, part in tensors.items()} if isinstance(tensors, dict) else tensors[chosen]


def sequence_lengths(tensors: Batch) -> tuple[int, ...]:
    """Return the lengths of the sequences of each part: the size of its second axis, if it has one."""
    return tuple(part.shape[1] for part in _parts(tensors) if part.ndim > 1)


def _parts(tensors: Batch) -> Iterator[Tensor]:
    yield from tensors.values() if isinstance(tensors, dict) else (tensors,)


def _tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values
    array = as_array(values, "Inputs")
    is_list = not isinstance(values, np.ndarray)  # its numbers are of double precision by default only
    dtype = np.dtype(np.float32) if is_list and array.dtype == np.float64 else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))  # torch refuses or warns of others


def _placed(batch: Batch, model: nn.Module) -> Batch:
    """Return a copy of the batch on the model's device, floats in its type; offloaded parameters are on none."""
    state = [*model.parameters(), *model.buffers()]
    device = next((each.device for each in state if not each.is_meta), None)
    floating = next((each.dtype for each in state if each.is_floating_point()), None)

    def place(part: Tensor) -> Tensor:
        return part.to(device, floating if part.is_floating_point() else None, copy=True)

    return {name: place(part) for name, part in batch.items()} if isinstance(batch, dict) else place(batch)
