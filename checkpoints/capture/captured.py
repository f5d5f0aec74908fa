"""Blocks of stimuli: one forward pass each, and the layers that it gives, in the type in which they are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from checkpoints.capture.hooks import Given, Refused, spot_name
from checkpoints.capture.network import Batch, Network
from checkpoints.capture.reductions import Custom
from checkpoints.capture.rows import Rows, agreement
from checkpoints.capture.selection import Spot
from checkpoints.capture.trials import Plan, reduce
from checkpoints.storage.blocks import LayerValues

__all__ = ["Block"]

_NO_AXIS = "none of its axes indexes the stimuli"
_OTHER_ROWS = "its rows differ from those of the same stimuli in a shorter batch"
_NARROW = (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8)


@dataclass
class Block:
    """Consecutive stimuli, and the layers that one forward pass gives for them.

    Attributes
    ----------
    plan : Plan
    start, n : int
        The first stimulus and the number of stimuli.
    dtype : torch.dtype
        The type in which values are stored.
    memory : dict of Spot to Tensor
        Memory of the previous blocks, which is used again: allocating it costs more than the copy.
    kept : dict of Spot to LayerValues
        In the order in which the network reached them.
    left_out : dict of Spot to (shape, reason)
    calls : Counter of str
        How often each module was called.
    """

    plan: Plan
    start: int
    n: int
    dtype: torch.dtype
    memory: dict[Spot, Tensor]
    kept: dict[Spot, LayerValues] = field(default_factory=dict)
    left_out: dict[Spot, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def run(self, network: Network, batch: Batch) -> None:
        """Run the network on the block; random numbers differ from those of the other blocks."""
        seed = self.start if self.plan.random and self.start else None
        self.calls = network.pass_(batch, self.n, lambda given: self._keep(given, batch), seed=seed).calls

    def named(self) -> dict[str, LayerValues]:
        """Return the layers by name."""
        block = {spot.name(several_calls=self.calls[spot.module] > 1): layer for spot, layer in self.kept.items()}
        if len(block) != len(self.kept):
            raise ValueError(
                "Two layers have one name, because a module is named like another's call, such as 'relu#1'. Record "
                "them one after the other."
            )
        return block

    def mixed(self) -> list[str]:
        """Return the layers in which a stimulus' row depends on the other stimuli of the batch."""
        known = (self.plan.rows, self.plan.reduced)
        return [spot_name(spot) for spot in self.kept if any((rows := each.get(spot)) and rows.mixed for each in known)]

    def _keep(self, given: Given, batch: Batch) -> None:
        spot, source = given.spot, given.tensor
        if given.wrong:
            self._leave_out(spot, source, given.wrong)
            return
        custom = isinstance(given.reduction, Custom)
        wrong = self._what_is_wrong(self.plan.rows, spot, source)
        reduced = source if wrong and not custom else reduce(given, self.plan, batch)
        if custom:
            wrong = self._what_is_wrong(self.plan.reduced, spot, reduced)
            reduced = reduced if wrong else _rows_first(self.plan.reduced, spot, reduced)
        if not wrong and reduced.shape[:1] != (self.n,):
            wrong = _NO_AXIS
        if not wrong and not reduced.numel():
            wrong = "it has no values"
        if wrong:
            self._leave_out(spot, reduced, wrong)
        else:
            moved = _rows_first(self.plan.rows, spot, source)
            self.kept[spot] = self._values(spot, moved, reduced, str(self.plan.reductions[spot]))

    def _what_is_wrong(self, known: dict[Spot, Rows | None], spot: Spot, tensor: Tensor) -> str:
        """Return why the tensor has no row for each stimulus of the block; empty if it has one."""
        rows = known.get(spot)
        if rows is None or tensor.ndim != len(rows.sample.shape) or tensor.shape[rows.axis] != self.n:
            return _NO_AXIS
        if rows.mixed or spot in self.plan.random:
            return ""
        found = {self._agreement(stimuli, each, tensor) for stimuli, each in self._shown(known, spot, rows)}
        if "similar" in found:  # such as layers that are quantised by the range of the batch
            known[spot] = replace(rows, mixed=True)
        return _OTHER_ROWS if "other" in found else ""

    def _shown(self, known: object, spot: Spot, rows: Rows) -> Iterator[tuple[list[int], Rows]]:
        """Yield stimuli that were shown together in other passes, and the rows that they had."""
        yield self.plan.stimuli, rows
        for stimuli, samples in self.plan.checks if known is self.plan.rows else ():
            if spot in samples and len(samples[spot].shape) == len(rows.sample.shape):
                yield stimuli, replace(rows, sample=samples[spot])

    def _agreement(self, stimuli: list[int], rows: Rows, tensor: Tensor) -> str:
        here = {place: each - self.start for place, each in enumerate(stimuli) if 0 <= each - self.start < self.n}
        return agreement(rows, tensor, list(here.values()), list(here)) if here else "same"

    def _leave_out(self, spot: Spot, tensor: Tensor, wrong: str) -> None:
        if spot in self.memory:
            raise Refused(
                f"Layer '{spot_name(spot)}' was recorded for the stimuli before number {self.start}, and now {wrong}. "
                "Record without it, or with another batch_size."
            )
        self.left_out[spot] = ((*tensor.shape,) if not tensor.is_nested else (), wrong)

    def _values(self, spot: Spot, source: Tensor, reduced: Tensor, reduction: str) -> LayerValues:
        reduced = torch.view_as_real(reduced.resolve_conj()) if reduced.is_complex() else reduced
        if (copy := self.memory.get(spot)) is None or copy.shape != reduced.shape:
            with torch.inference_mode(False):
                copy = self.memory[spot] = torch.empty(reduced.shape, dtype=self.dtype)
        _store(reduced, copy, spot_name(spot))
        return LayerValues(
            values=copy.reshape(self.n, -1).numpy(),
            feature_shape=tuple(reduced.shape[1:]),
            source_dtype=str(source.dtype),
            source_shape=tuple(source.shape[1:]),
            reduction=reduction,
            module=spot.module,
            call_index=spot.call,
            side=spot.side,
            path=spot.path_text,
        )


def _rows_first(known: Mapping[Spot, Rows | None], spot: Spot, tensor: Tensor) -> Tensor:
    rows = known.get(spot)
    return tensor if rows is None or rows.axis >= tensor.ndim else tensor.movedim(rows.axis, 0)


def _store(values: Tensor, copy: Tensor, name: str) -> None:
    """Copy values to the CPU, converted to the type in which they are stored.

    Raises
    ------
    Refused
        If finite values would become infinite, or whole numbers would change.
    """
    if values.is_quantized:
        values = values.dequantize()
    if values.is_floating_point() and values.itemsize == 1:
        values = values.float()  # of eight bits torch can do little else
    copy.copy_(values)
    if values.dtype == copy.dtype or (values.dtype in _NARROW and copy.dtype != torch.float16):
        return
    if values.is_floating_point() and bool((copy.isinf() & values.cpu().isfinite()).any()):
        largest = values[values.isfinite()].abs().max().item()
        raise Refused(
            f"Layer '{name}' holds {largest:.6g}, more than {copy.dtype} can ({torch.finfo(copy.dtype).max:.6g}). "
            "Record it in a wider type."
        )
    if not values.is_floating_point() and not torch.equal(copy.to(values.dtype), values.cpu()):
        raise Refused(f"Layer '{name}' holds whole numbers too large for {copy.dtype}. Record it in a wider type.")
