"""The axis of a tensor that indexes the stimuli: established by trial passes, never guessed from matching sizes.

Three short passes decide. The second pass shows the stimuli of the first in another order, the third pass another
number of them. The axis of the stimuli is the axis whose size follows their number and whose rows follow their order.
Weights and position embeddings do neither; tokens that a router has chosen may have the size, but not the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = [
    "Sample",
    "StimulusAxis",
    "Trial",
    "compare_rows",
    "establish_axis",
    "is_equal",
    "refine_axis",
    "sample_tensor",
]

_ENTRIES = 2**14  # compared per stimulus
_FOLLOWING = 0.1  # fraction of the difference between rows in the wrong order
_NEAR = 0.3  # fraction of the difference to the nearest other stimulus


@dataclass(frozen=True)
class Sample:
    """A small sample of a tensor: axes longer than a bound are sampled at even intervals."""

    shape: tuple[int, ...]  # of the whole tensor
    values: Tensor  # on the CPU; float64, or complex128
    eps: float  # machine epsilon of the tensor's type; 0 for whole numbers


@dataclass(frozen=True)
class Trial:
    """Samples of one tensor from the trial passes; None if the tensor did not occur in a pass."""

    first: Sample | None  # of the stimuli in the order 0, 1, 2, ...
    reordered: Sample | None  # of the same stimuli in ``order``
    resized: Sample | None  # of another number of stimuli: the rows ``resized_order`` of the first pass
    order: Sequence[int]  # [0] if the network takes one stimulus at a time; the second pass then shows another one
    resized_order: Sequence[int]  # empty if there is no such pass: the network takes batches of one size only
    random: bool = False  # whether the network draws random numbers, so that values cannot be compared


@dataclass(frozen=True)
class StimulusAxis:
    """The axis along which a tensor has one row per stimulus."""

    axis: int
    mixed: bool  # whether the row of a stimulus depends on the other stimuli of the batch
    sample: Sample  # from the first trial pass, to compare other passes with


def sample_tensor(tensor: Tensor, n: int) -> Sample:
    """Return a sample of a tensor, with all entries along axes of size ``n``; equal shapes give equal places."""
    tensor = tensor.detach()
    eps = torch.finfo(tensor.dtype).eps if tensor.dtype.is_floating_point or tensor.dtype.is_complex else 0.0
    if tensor.is_quantized:
        tensor, eps = tensor.dequantize(), torch.finfo(torch.float32).eps
    if not tensor.ndim:
        return Sample((), _wide(tensor), eps)
    most = max(8, int(_ENTRIES ** (1 / max(tensor.ndim - 1, 1))))
    places = tuple(slice(None, None, 1 if size == n else max(1, -(-size // most))) for size in tensor.shape)
    return Sample(tuple(tensor.shape), _wide(tensor[places]), eps)


def establish_axis(trial: Trial) -> StimulusAxis | None:
    """Return the axis of the stimuli in a tensor, or None if no axis indexes them in every trial pass."""
    first, reordered, resized = trial.first, trial.reordered, trial.resized
    if first is None or reordered is None or (resized is None) is bool(trial.resized_order):
        return None
    if first.shape != reordered.shape or (resized is not None and len(resized.shape) != len(first.shape)):
        return None
    for axis, size in enumerate(first.shape):
        sizes = (size, size if resized is None else resized.shape[axis])
        if sizes == (len(trial.order), len(trial.resized_order or trial.order)) and _follows(trial, axis):
            result = StimulusAxis(axis, False, first)
            if trial.random or resized is None:
                return result
            return refine_axis(result, resized.values, trial.resized_order)
    return None


def is_equal(a: Sample | None, b: Sample | None) -> bool:
    """Return whether two samples have the same values, bit for bit."""
    return a is not None and b is not None and a.shape == b.shape and _difference(a.values, b.values) == 0


def compare_rows(axis: StimulusAxis, tensor: Tensor, places: Sequence[int], stimuli: Sequence[int]) -> str:
    """Compare rows of a tensor with those that the same stimuli had in the first trial pass.

    ``places`` are rows of the tensor, and ``stimuli`` those of the trial pass that they belong to. The result is "same"
    if they are equal up to rounding, or if other axes differ in size, so that nothing can be compared; "similar" if
    every row is far nearer to its own stimulus than to the others; else "other".
    """
    expected = axis.sample.shape
    if any(a != b for dim, (a, b) in enumerate(zip(expected, tensor.shape, strict=True)) if dim != axis.axis):
        return "same"
    index = torch.as_tensor(places, device=tensor.device)
    shown_sample = sample_tensor(_dense(tensor).index_select(axis.axis, index), expected[axis.axis])
    known = axis.sample.values.movedim(axis.axis, 0)
    shown = shown_sample.values.movedim(axis.axis, 0)
    wanted = known[torch.as_tensor(stimuli)]
    if _difference(shown, wanted) <= max(shown_sample.eps, axis.sample.eps) ** 0.5 * _scale(wanted):
        return "same"
    similar = all(_is_nearest(row, own, known) for row, own in zip(shown, wanted, strict=True))
    return "similar" if similar else "other"


def _is_nearest(row: Tensor, own: Tensor, known: Tensor) -> bool:
    """Return whether a row is far nearer to its own stimulus than to every other one."""
    others = [distance for each in known if (distance := _difference(own, each))]
    return bool(others) and _difference(row, own) <= _NEAR * min(others)


def _follows(trial: Trial, axis: int) -> bool:
    """Return whether rows along the axis follow the order of the stimuli."""
    if trial.random:
        return bool(trial.resized_order)
    assert trial.first is not None
    assert trial.reordered is not None
    values, reordered = trial.first.values, trial.reordered.values
    right = _difference(reordered, values.index_select(axis, torch.as_tensor(trial.order)))
    wrong = _difference(reordered, values)
    rounding = trial.first.eps ** (2 / 3) * _scale(values)
    if not trial.resized_order and wrong <= rounding:
        return False  # equal rows are no evidence
    if len(trial.order) == 1 and not trial.resized_order:
        return axis == 0  # the second pass showed another stimulus, and the values differ
    return right <= max(_FOLLOWING * wrong, rounding)


def refine_axis(axis: StimulusAxis, values: Tensor, stimuli: Sequence[int]) -> StimulusAxis | None:
    """Return the axis in the light of another pass.

    It is mixed if a stimulus had other values in that pass, and None if a stimulus had the values of another stimulus.

    ``values`` is a sample from that pass, and ``stimuli`` are the stimuli of the first pass that its rows belong to.
    """
    known, shown = axis.sample.values.movedim(axis.axis, 0), values.movedim(axis.axis, 0)
    if known.shape[1:] != shown.shape[1:]:
        return replace(axis, mixed=True)
    tolerance = axis.sample.eps**0.5 * _scale(known)
    own = [_difference(row, known[stimulus]) for row, stimulus in zip(shown, stimuli, strict=True)]
    if max(own) <= tolerance:
        return axis
    nearest = [min(_difference(row, each) for each in known) for row in shown]
    return None if max(nearest) <= tolerance else replace(axis, mixed=True)


def _difference(a: Tensor, b: Tensor) -> float:
    """Return the largest absolute difference; equal infinities and pairs of NaN count as 0, other NaN as infinity."""
    same = (a == b) | (a.isnan() & b.isnan())
    apart = torch.where(same, 0, a - b).abs().nan_to_num(nan=torch.inf)
    return float(apart.max()) if apart.numel() else 0.0


def _scale(values: Tensor) -> float:
    sizes = values.abs()
    sizes = sizes[sizes.isfinite()]
    return float(sizes.max()) if sizes.numel() else 0.0


def _dense(tensor: Tensor) -> Tensor:
    return tensor.dequantize() if tensor.is_quantized else tensor


def _wide(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        return tensor.to("cpu", torch.complex128, copy=True)
    if tensor.is_floating_point() and tensor.itemsize == 1:
        tensor = tensor.float()  # torch converts eight-bit floats to few types
    return tensor.to("cpu", torch.float64, copy=True)
