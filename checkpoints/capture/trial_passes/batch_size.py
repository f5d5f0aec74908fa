"""Batch size of a recording: as many stimuli as the memory of a forward pass and of a block of activations allow."""

from __future__ import annotations

import torch

from checkpoints.capture.network import Network, PassReport
from checkpoints.capture.trial_passes.recording_plan import LARGEST_BATCH, RecordingPlan

__all__ = ["fitting_batch", "largest_batch"]

_BLOCK_BYTES = 2**24  # of stored activations
_PASS_BYTES = 2**26  # that tensors of a forward pass hold at the same time, on the CPU
_GPU_FRACTION = 8  # an eighth of its free memory


def largest_batch(network: Network, passes: tuple[PassReport, PassReport], sizes: tuple[int, int]) -> int:
    """Return the number of stimuli that fit into the memory of a pass, a power of two, extrapolated from two passes."""
    per_stimulus = (passes[0].peak - passes[1].peak) / (sizes[0] - sizes[1])
    if per_stimulus <= 0:
        per_stimulus = max(report.peak / size for report, size in zip(passes, sizes, strict=True))
    fixed = max(0.0, passes[0].peak - sizes[0] * per_stimulus)
    fitting = int((_pass_bytes(network) - fixed) // max(per_stimulus, 1))
    return min(LARGEST_BATCH, 1 << (max(1, fitting).bit_length() - 1))


def fitting_batch(plan: RecordingPlan, n: int, itemsize: int) -> int:
    """Return the number of ``n`` stimuli to run at once, for stored values of ``itemsize`` bytes."""
    if plan.only_batch:
        return plan.only_batch
    row = sum(plan.row_bytes.values()) * itemsize // 4
    fitting = max(1, _BLOCK_BYTES // max(row, 1))
    size = min(plan.largest_batch, 1 << (fitting.bit_length() - 1))
    while size > 2 and n % size == 1:  # many networks fail on a batch of one stimulus, or drop an axis
        size -= max(1, size // 32)
    return size


def _pass_bytes(network: Network) -> int:
    device = next((each.device for each in network.model.parameters() if each.is_cuda), None)
    if device is None:
        return _PASS_BYTES
    return max(_PASS_BYTES, torch.cuda.mem_get_info(device)[0] // _GPU_FRACTION)
