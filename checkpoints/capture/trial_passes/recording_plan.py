"""Plan of a recording: for each tensor the axis of the stimuli and the reduction, and the batch size."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from torch import Tensor

from checkpoints.capture.hooks import LayerTensor, NotRecordable, layer_name
from checkpoints.capture.network import Batch, inputs_of
from checkpoints.capture.reductions import Reduction
from checkpoints.capture.selection import LayerKey
from checkpoints.capture.trial_passes.stimulus_axis import Sample, StimulusAxis

__all__ = ["LARGEST_BATCH", "NO_TOKENS", "Axes", "RecordingPlan", "TokenAxes", "move_stimuli_first", "reduce_tensor"]

LARGEST_BATCH = 512
NO_TOKENS = "no axis indexes the tokens"

Axes = dict[LayerKey, StimulusAxis | None]


@dataclass
class TokenAxes:
    """The axis of the tokens in each tensor, where the stimuli come first; or why there is none."""

    length: int  # number of positions of a sequence
    axes: dict[LayerKey, int] = field(default_factory=dict)
    problems: dict[LayerKey, str] = field(default_factory=dict)
    by_size: list[LayerKey] = field(default_factory=list)  # whose axis could not be established and has the right size

    def problem(self, key: LayerKey) -> str:
        """Return why a tensor has no row per token."""
        return self.problems.get(key, NO_TOKENS)


@dataclass
class RecordingPlan:
    """Results of the trial passes."""

    stimuli: list[int]  # of the first trial pass, to compare other passes with
    axes: Axes = field(default_factory=dict)  # before the reduction; None if no axis indexes the stimuli
    reduced_axes: Axes = field(default_factory=dict)  # the same for the results of the user's own reductions
    reductions: dict[LayerKey, Reduction] = field(default_factory=dict)  # with their feature axes resolved
    row_bytes: dict[LayerKey, int] = field(default_factory=dict)  # of one stimulus in float32, after the reduction
    random: set[LayerKey] = field(default_factory=set)  # tensors that differ between two passes over the same stimuli
    checks: list[tuple[list[int], dict[LayerKey, Sample]]] = field(default_factory=list)  # stimuli of further passes
    largest_batch: int = LARGEST_BATCH  # number of stimuli that fit into the memory of a pass
    tokens: TokenAxes | None = None  # if rows are tokens
    only_batch: int = 0  # the only batch size that the network takes; 0 if it takes several


def move_stimuli_first(axes: Axes, key: LayerKey, tensor: Tensor) -> Tensor:
    """Return the tensor with the axis of the stimuli first, if that axis is known."""
    axis = axes.get(key)
    return tensor if axis is None or axis.axis >= tensor.ndim else tensor.movedim(axis.axis, 0)


def reduce_tensor(given: LayerTensor, plan: RecordingPlan, batch: Batch) -> Tensor:
    """Return the reduced tensor; its reduction sees the axis of the stimuli first, if that axis is known.

    Raise ``NotRecordable`` if the reduction raises, or returns something other than a tensor.
    """
    axis = plan.axes.get(given.key)
    source = given.tensor if axis is None else given.tensor.movedim(axis.axis, 0)
    name = layer_name(given.key)
    try:
        if (reduction := plan.reductions.get(given.key)) is None:
            reduction = plan.reductions[given.key] = _resolved(given, source, name)
        reduced = reduction(source, inputs_of(batch))
    except Exception as error:  # a function of the user may raise anything
        raise NotRecordable(f"Layer '{name}' cannot be reduced by {given.reduction}: {error}") from error
    if not isinstance(reduced, Tensor):
        raise NotRecordable(f"{reduction} made a {type(reduced).__name__} of layer '{name}'; expected a tensor.")
    return reduced


def _resolved(given: LayerTensor, source: Tensor, name: str) -> Reduction:
    """Return the reduction with its feature axis resolved; its warnings name the layer."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reduction = given.reduction.resolved(given.module, tuple(source.shape))
    for each in caught:
        warnings.warn(f"Layer '{name}': {each.message}", stacklevel=2)
    return reduction
