"""Blocks of stimuli: one forward pass each, and the layers that it gives in the type in which they are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from checkpoints.capture.hooks import LayerTensor, NotRecordable, layer_name
from checkpoints.capture.network import Batch, Network
from checkpoints.capture.reductions import Custom
from checkpoints.capture.selection import LayerKey
from checkpoints.capture.trial_passes.recording_plan import Axes, RecordingPlan, move_stimuli_first, reduce_tensor
from checkpoints.capture.trial_passes.stimulus_axis import StimulusAxis, compare_rows
from checkpoints.storage.hdf5_files.activation_file import LayerValues

__all__ = ["RecordedBlock"]

_NO_AXIS = "no axis indexes the stimuli"
_OTHER_ROWS = "the rows differ from those of the same stimuli in a shorter batch"
_NO_VALUES = "there are no values"
_NARROW = (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8)


@dataclass
class RecordedBlock:
    """Consecutive stimuli, and the layers that one forward pass gives for them."""

    plan: RecordingPlan
    start: int  # the first stimulus
    n: int  # number of stimuli
    dtype: torch.dtype  # in which values are stored
    mask: Tensor | None  # of the tokens that are rows, (n, n_positions); None if stimuli are rows
    memory: dict[LayerKey, Tensor]  # of the previous block, reused because allocating takes longer than copying
    layers: dict[LayerKey, LayerValues] = field(default_factory=dict)  # in the order in which they are reached
    left_out: dict[LayerKey, tuple[tuple[int, ...], str]] = field(default_factory=dict)  # with their shapes
    calls: Counter[str] = field(default_factory=Counter)  # of each module

    def run(self, network: Network, batch: Batch) -> None:
        """Run the network on the block; its random numbers differ from those of other blocks."""
        seed = self.start if self.plan.random and self.start else None
        self.calls = network.run_pass(batch, self.n, lambda given: self._receive(given, batch), seed=seed).calls

    def named(self) -> dict[str, LayerValues]:
        """Return the layers by name."""
        block = {key.name(several_calls=self.calls[key.module] > 1): layer for key, layer in self.layers.items()}
        if len(block) != len(self.layers):
            raise ValueError(
                "Two layers have the same name, because a module is named like another module's call, such as "
                "'relu#1'. Record them in two recordings."
            )
        return block

    def mixed(self) -> list[str]:
        """Return the names of layers in which the row of a stimulus depends on the other stimuli of the batch."""
        known = (self.plan.axes, self.plan.reduced_axes)
        return [layer_name(key) for key in self.layers if any((axis := axes.get(key)) and axis.mixed for axes in known)]

    def _receive(self, given: LayerTensor, batch: Batch) -> None:
        key, source = given.key, given.tensor
        if given.problem:
            self._leave_out(key, source, given.problem)
            return
        custom = isinstance(given.reduction, Custom)
        problem = self._axis_problem(self.plan.axes, key, source)
        reduced = source if problem and not custom else reduce_tensor(given, self.plan, batch)
        if custom:
            problem = self._axis_problem(self.plan.reduced_axes, key, reduced)
            reduced = reduced if problem else move_stimuli_first(self.plan.reduced_axes, key, reduced)
        if not problem and reduced.shape[:1] != (self.n,):
            problem = _NO_AXIS
        if not problem and not reduced.numel():
            problem = _NO_VALUES
        if not problem and self.mask is not None:
            reduced, problem = self._token_rows(key, reduced, self.mask)
        if problem:
            self._leave_out(key, reduced, problem)
        else:
            source = reduced if self.mask is not None else move_stimuli_first(self.plan.axes, key, source)
            self.layers[key] = self._values(key, source, reduced, str(self.plan.reductions[key]))

    def _token_rows(self, key: LayerKey, tensor: Tensor, mask: Tensor) -> tuple[Tensor, str | None]:
        """Return the rows of the tokens; or the tensor, and the reason why it has none."""
        assert self.plan.tokens is not None
        axis = self.plan.tokens.axes.get(key)
        if axis is None:
            return tensor, self.plan.tokens.problem(key)
        tokens = tensor.movedim(axis, 1)
        if tokens.shape[:2] != mask.shape:
            return tensor, f"there are {tokens.shape[1]} tokens and not {mask.shape[1]}"
        return tokens[mask.to(tokens.device)], None

    def _axis_problem(self, axes: Axes, key: LayerKey, tensor: Tensor) -> str | None:
        """Return the reason why the tensor does not have one row per stimulus of the block."""
        axis = axes.get(key)
        if axis is None or tensor.ndim != len(axis.sample.shape) or tensor.shape[axis.axis] != self.n:
            return _NO_AXIS
        if axis.mixed or key in self.plan.random:
            return None
        agreements = {self._agreement(stimuli, each, tensor) for stimuli, each in self._other_passes(axes, key, axis)}
        if "similar" in agreements:  # for example layers that are quantized by the range of the batch
            axes[key] = replace(axis, mixed=True)
        return _OTHER_ROWS if "other" in agreements else None

    def _other_passes(self, axes: Axes, key: LayerKey, axis: StimulusAxis) -> Iterator[tuple[list[int], StimulusAxis]]:
        """Yield the stimuli of other passes, and the axis with a sample from that pass."""
        yield self.plan.stimuli, axis
        for stimuli, samples in self.plan.checks if axes is self.plan.axes else ():
            if key in samples and len(samples[key].shape) == len(axis.sample.shape):
                yield stimuli, replace(axis, sample=samples[key])

    def _agreement(self, stimuli: list[int], axis: StimulusAxis, tensor: Tensor) -> str:
        here = {place: each - self.start for place, each in enumerate(stimuli) if 0 <= each - self.start < self.n}
        return compare_rows(axis, tensor, list(here.values()), list(here)) if here else "same"

    def _leave_out(self, key: LayerKey, tensor: Tensor, problem: str) -> None:
        if key in self.memory:
            raise NotRecordable(
                f"Layer '{layer_name(key)}' was recorded for the stimuli before number {self.start}, and now "
                f"{problem}. Record without it, or with another batch_size."
            )
        self.left_out[key] = ((*tensor.shape,) if not tensor.is_nested else (), problem)

    def _values(self, key: LayerKey, source: Tensor, reduced: Tensor, reduction: str) -> LayerValues:
        reduced = torch.view_as_real(reduced.resolve_conj()) if reduced.is_complex() else reduced
        if (copy := self.memory.get(key)) is None or copy.shape != reduced.shape:
            with torch.inference_mode(False):
                copy = self.memory[key] = torch.empty(reduced.shape, dtype=self.dtype)
        _store(reduced, copy, layer_name(key))
        return LayerValues(
            values=copy.reshape(len(copy), -1).numpy(),
            feature_shape=tuple(reduced.shape[1:]),
            source_dtype=str(source.dtype),
            source_shape=tuple(source.shape[1:]),
            reduction=reduction,
            module=key.module,
            call_index=key.call,
            side=key.side,
            path=key.path_text,
        )


def _store(values: Tensor, copy: Tensor, name: str) -> None:
    """Copy values to the CPU in the stored type; raise NotRecordable if finite or whole numbers would change."""
    if values.is_quantized:
        values = values.dequantize()
    if values.is_floating_point() and values.itemsize == 1:
        values = values.float()  # torch supports few operations on 8-bit floats
    copy.copy_(values)
    if values.dtype == copy.dtype or (values.dtype in _NARROW and copy.dtype != torch.float16):
        return
    if values.is_floating_point() and bool((copy.isinf() & values.cpu().isfinite()).any()):
        largest = values[values.isfinite()].abs().max().item()
        raise NotRecordable(
            f"Layer '{name}' holds {largest:.6g}, which exceeds the largest {copy.dtype} number "
            f"({torch.finfo(copy.dtype).max:.6g}). Record it in a wider type."
        )
    if not values.is_floating_point() and not torch.equal(copy.to(values.dtype), values.cpu()):
        raise NotRecordable(
            f"Layer '{name}' holds whole numbers too large for {copy.dtype}. Record it in a wider type."
        )
