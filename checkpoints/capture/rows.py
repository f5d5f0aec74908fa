"""The axis of a tensor that indexes the stimuli: established by trial passes, never guessed from sizes that match.

Three short passes decide. The second shows the stimuli of the first in another order, the third another number of
them. The axis of the stimuli is the one whose size follows their number and whose rows follow their order. Weights
and position embeddings do neither; tokens that a router has picked may have the size, but not the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Rows", "Sample", "Trial", "agreement", "equal", "established", "resolved", "sampled"]

_ENTRIES = 2**14  # of one stimulus that are compared
_FOLLOWING = 0.1  # of the difference between rows in the wrong order
_NEAR = 0.3  # of the difference to the nearest other stimulus


@dataclass(frozen=True)
class Sample:
    """A part of a tensor that is small enough to keep: every axis longer than a bound is thinned evenly.

    Attributes
    ----------
    shape : tuple of int
        Of the whole tensor.
    values : Tensor
        On the CPU; float64, or complex128.
    eps : float
        Machine epsilon of the type in which the tensor was computed; 0 for whole numbers.
    """

    shape: tuple[int, ...]
    values: Tensor
    eps: float


@dataclass(frozen=True)
class Trial:
    """Samples of one tensor from the trial passes; None where a pass did not give it.

    Attributes
    ----------
    first, reordered : Sample or None
        From passes over the same stimuli, in the order 0, 1, 2, ... and in ``order``.
    resized : Sample or None
        From a pass over another number of stimuli: the rows ``resized_order`` of the first pass.
    order : sequence of int
        ``[0]`` if the network takes one stimulus at a time; the second pass then showed another one.
    resized_order : sequence of int
        Empty if there was no such pass, because the network takes batches of one size only.
    random : bool
        Whether the network draws random numbers, so that its values say nothing.
    """

    first: Sample | None
    reordered: Sample | None
    resized: Sample | None
    order: Sequence[int]
    resized_order: Sequence[int]
    random: bool = False


@dataclass(frozen=True)
class Rows:
    """The axis along which a tensor has one row per stimulus.

    Attributes
    ----------
    axis : int
    mixed : bool
        Whether the row of a stimulus depends on the other stimuli of the batch.
    sample : Sample
        From the first trial pass; other passes are compared with it.
    """

    axis: int
    mixed: bool
    sample: Sample


def sampled(tensor: Tensor, n: int) -> Sample:
    """Return a sample of a tensor, with every axis of size ``n`` whole; equal shapes are sampled at equal places."""
    tensor = tensor.detach()
    eps = torch.finfo(tensor.dtype).eps if tensor.dtype.is_floating_point or tensor.dtype.is_complex else 0.0
    if tensor.is_quantized:
        tensor, eps = tensor.dequantize(), torch.finfo(torch.float32).eps
    if not tensor.ndim:
        return Sample((), _wide(tensor), eps)
    most = max(8, int(_ENTRIES ** (1 / max(tensor.ndim - 1, 1))))
    places = tuple(slice(None, None, 1 if size == n else max(1, -(-size // most))) for size in tensor.shape)
    return Sample(tuple(tensor.shape), _wide(tensor[places]), eps)


def established(trial: Trial) -> Rows | None:
    """Return the rows of a tensor, or None if no axis indexes the stimuli in every trial pass."""
    first, reordered, resized = trial.first, trial.reordered, trial.resized
    if first is None or reordered is None or (resized is None) is bool(trial.resized_order):
        return None
    if first.shape != reordered.shape or (resized is not None and len(resized.shape) != len(first.shape)):
        return None
    for axis, size in enumerate(first.shape):
        sizes = (size, size if resized is None else resized.shape[axis])
        if sizes == (len(trial.order), len(trial.resized_order or trial.order)) and _follows(trial, axis):
            rows = Rows(axis, False, first)
            return rows if trial.random or resized is None else resolved(rows, resized.values, trial.resized_order)
    return None


def equal(a: Sample | None, b: Sample | None) -> bool:
    """Tell whether two passes gave the same values, bit for bit."""
    return a is not None and b is not None and a.shape == b.shape and _difference(a.values, b.values) == 0


def agreement(rows: Rows, tensor: Tensor, places: Sequence[int], stimuli: Sequence[int]) -> str:
    """Compare rows of a tensor with those that the same stimuli had in the first trial pass.

    Parameters
    ----------
    rows : Rows
    tensor : Tensor
        Of another pass.
    places, stimuli : sequence of int
        Rows of the tensor, and which stimuli of the trial pass they belong to.

    Returns
    -------
    str
        ``"same"`` up to rounding, also if the other axes have other sizes, as nothing can then be compared;
        ``"similar"`` if every row is far nearer to its own stimulus than to the others; or ``"other"``.
    """
    expected = rows.sample.shape
    if any(a != b for axis, (a, b) in enumerate(zip(expected, tensor.shape, strict=True)) if axis != rows.axis):
        return "same"
    index = torch.as_tensor(places, device=tensor.device)
    found = sampled(_dense(tensor).index_select(rows.axis, index), expected[rows.axis])
    known = rows.sample.values.movedim(rows.axis, 0)
    shown = found.values.movedim(rows.axis, 0)
    wanted = known[torch.as_tensor(stimuli)]
    if _difference(shown, wanted) <= max(found.eps, rows.sample.eps) ** 0.5 * _scale(wanted):
        return "same"
    similar = all(_is_nearest(row, own, known) for row, own in zip(shown, wanted, strict=True))
    return "similar" if similar else "other"


def _is_nearest(row: Tensor, own: Tensor, known: Tensor) -> bool:
    """Tell whether a row is far nearer to its own stimulus than to every other one."""
    others = [distance for each in known if (distance := _difference(own, each))]
    return bool(others) and _difference(row, own) <= _NEAR * min(others)


def _follows(trial: Trial, axis: int) -> bool:
    """Tell whether rows along the axis follow the order of the stimuli."""
    if trial.random:
        return bool(trial.resized_order)
    assert trial.first is not None
    assert trial.reordered is not None
    values, reordered = trial.first.values, trial.reordered.values
    right = _difference(reordered, values.index_select(axis, torch.as_tensor(trial.order)))
    wrong = _difference(reordered, values)
    rounding = trial.first.eps ** (2 / 3) * _scale(values)
    if not trial.resized_order and wrong <= rounding:
        return False  # equal rows, and no other evidence
    if len(trial.order) == 1 and not trial.resized_order:
        return axis == 0  # the second pass showed another stimulus, and the values are others
    return right <= max(_FOLLOWING * wrong, rounding)


def resolved(rows: Rows, values: Tensor, stimuli: Sequence[int]) -> Rows | None:
    """Return the rows after another pass: mixed if it gave a stimulus other values, None if those of another stimulus.

    Parameters
    ----------
    rows : Rows
    values : Tensor
        Sample of the other pass.
    stimuli : sequence of int
        Which stimulus of the first pass each row of the other pass belongs to.
    """
    known, shown = rows.sample.values.movedim(rows.axis, 0), values.movedim(rows.axis, 0)
    if known.shape[1:] != shown.shape[1:]:
        return replace(rows, mixed=True)
    tolerance = rows.sample.eps**0.5 * _scale(known)
    own = [_difference(row, known[stimulus]) for row, stimulus in zip(shown, stimuli, strict=True)]
    if max(own) <= tolerance:
        return rows
    nearest = [min(_difference(row, each) for each in known) for row in shown]
    return None if max(nearest) <= tolerance else replace(rows, mixed=True)


def _difference(a: Tensor, b: Tensor) -> float:
    """Return the largest absolute difference; 0 where both are NaN or the same infinity, else infinity there."""
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
