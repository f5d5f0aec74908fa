"""Trial passes before a recording: they establish the axis of the stimuli in each tensor, and the batch size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from checkpoints.capture.batch_state import batch_states, possible_sizes
from checkpoints.capture.hooks import LayerTensor, NotRecordable
from checkpoints.capture.network import Network, PassReport
from checkpoints.capture.reductions import Custom
from checkpoints.capture.selection import LayerKey
from checkpoints.capture.trial_passes.batch_size import largest_batch
from checkpoints.capture.trial_passes.recording_plan import LARGEST_BATCH, Axes, RecordingPlan, reduce_tensor
from checkpoints.capture.trial_passes.shown_stimuli import ShownStimuli
from checkpoints.capture.trial_passes.stimulus_axis import (
    Sample,
    Trial,
    establish_axis,
    is_equal,
    refine_axis,
    sample_tensor,
)
from checkpoints.errors import UnreadableInputs

__all__ = ["add_check_samples", "run_trials"]

_ORDER = (1, 2, 0, 3)  # commutes with no reversal, shift or exchange that a network may apply itself
_LARGEST_CHECK = 32
_FINAL = (NotRecordable, UnreadableInputs)  # another trial would not mend them
_SEEDS = (1, 2, 3)  # dropout may zero the same few units under two of them


@dataclass(frozen=True)
class _TrialStimuli:
    """Stimuli of the trial passes, and the places of the first pass that the second and third show."""

    stimuli: list[int]
    reordered: list[int]
    order: Sequence[int]
    resized_order: Sequence[int]

    @property
    def resized(self) -> list[int]:
        return [self.stimuli[place] for place in self.resized_order]


def run_trials(network: Network, source: ShownStimuli, batch_size: int | None) -> RecordingPlan:
    """Run trial passes and return a plan of the recording.

    If the network carries a state from batch to batch on which no other batch can run, the state is set to start from
    zeros. With a ``batch_size`` below 4 the passes show at most 3 stimuli; if the network takes only batches of this
    size, they show as many. Raise ``NotRecordable`` if a tensor cannot be recorded, and the error of the network if it
    fails on every trial batch.
    """
    shown = _trial_stimuli(len(source), batch_size)
    try:
        return _try(network, source, shown)
    except _FINAL:
        raise
    except Exception as error:  # a network may raise anything
        plan = _try_from_zero(network, source, shown) or _try_one_size(network, source, batch_size)
        if plan is None:
            raise error
        return plan


def add_check_samples(network: Network, source: ShownStimuli, plan: RecordingPlan, size: int) -> None:
    """Show stimuli of every block among stimuli of other blocks, and add the samples to the plan.

    The recorded rows are compared with them. ``size`` is the number of stimuli per block.
    """
    n = len(source)
    starts = range(0, n, size)
    if len(starts) < 3:  # the first trial pass shows stimuli of the first and the last block
        return
    chosen = sorted(
        {place for start in starts for place in (start + min(size, n - start) // 2, min(start + size, n) - 1)}
    )
    together = plan.only_batch or max(2, min(size, _LARGEST_CHECK))
    for first in range(0, len(chosen), together):
        stimuli = chosen[first : first + together]
        stimuli += stimuli[:1] * ((plan.only_batch or 2) - len(stimuli))
        plan.checks.append((stimuli, _sample_pass(network, source, plan, stimuli)[0]))


def _trial_stimuli(n: int, batch_size: int | None) -> _TrialStimuli:
    if batch_size is None or batch_size >= len(_ORDER):
        stimuli = np.linspace(0, n - 1, len(_ORDER)).round().astype(int).tolist()
        return _TrialStimuli(stimuli, [stimuli[place] for place in _ORDER], _ORDER, (3, 0))
    stimuli = [0, n - 1]
    return _TrialStimuli(stimuli, stimuli[::-1], (1, 0), (1, 0, 1))


def _one_size_stimuli(n: int, size: int) -> _TrialStimuli:
    stimuli = list(range(size))
    if size == 1:
        return _TrialStimuli(stimuli, [n - 1], (0,), ())
    order = [1, 0] if size == 2 else np.random.default_rng(0).permutation(size).tolist()
    return _TrialStimuli(stimuli, order, order, ())


def _try(network: Network, source: ShownStimuli, shown: _TrialStimuli) -> RecordingPlan:
    plan = RecordingPlan(shown.stimuli)
    first, report = _sample_pass(network, source, plan, shown.stimuli, measured=True)
    reordered, _ = _sample_pass(network, source, plan, shown.reordered)
    resized: dict[LayerKey, Sample] = {}
    if shown.resized_order:
        resized, other = _sample_pass(network, source, plan, shown.resized, measured=True)
        plan.largest_batch = largest_batch(network, (report, other), (len(shown.stimuli), len(shown.resized_order)))
    if report.random:
        for seed in _SEEDS:
            again, _ = _sample_pass(network, source, plan, shown.stimuli, seed=seed)
            plan.random |= {key for key, sample in first.items() if not is_equal(sample, again.get(key))}
    _establish(plan, plan.axes, (first, reordered, resized), shown)
    _try_reductions(network, source, plan, shown)
    _try_repeated(network, source, plan, len(shown.resized_order) or len(shown.stimuli))
    return plan


def _try_or_none(network: Network, source: ShownStimuli, shown: _TrialStimuli) -> RecordingPlan | None:
    """Return the plan, or None if the network fails: the caller raises the error of the first trial."""
    try:
        return _try(network, source, shown)
    except _FINAL:
        raise
    except Exception:
        return None


def _establish(plan: RecordingPlan, axes: Axes, passes: Sequence[dict[LayerKey, Sample]], shown: _TrialStimuli) -> None:
    """Establish the axis of the stimuli in every tensor that occurred in a pass."""
    for key in dict.fromkeys(key for samples in passes for key in samples):
        first, reordered, resized = (samples.get(key) for samples in passes)
        trial = Trial(first, reordered, resized, shown.order, shown.resized_order, key in plan.random)
        axes[key] = establish_axis(trial)


def _try_reductions(network: Network, source: ShownStimuli, plan: RecordingPlan, shown: _TrialStimuli) -> None:
    """Establish the axis of the stimuli in the results of the user's own reductions."""
    if not any(isinstance(reduction, Custom) for watch in network.watches for _, reduction in watch.reductions):
        return
    passes = [
        _sample_pass(network, source, plan, stimuli, reducing=True)[0] if stimuli else {}
        for stimuli in (shown.stimuli, shown.reordered, shown.resized)
    ]
    _establish(plan, plan.reduced_axes, passes, shown)


def _try_repeated(network: Network, source: ShownStimuli, plan: RecordingPlan, n: int) -> None:
    """Show one stimulus ``n`` times: its rows then reveal mixing, and their size the memory to be stored."""
    batch = source.take([plan.stimuli[0]] * n)

    def receive(given: LayerTensor) -> None:
        if given.problem:
            return
        _refine(plan, plan.axes, given.key, given.tensor)
        if isinstance(given.reduction, Custom) or plan.axes.get(given.key) is not None:
            reduced = reduce_tensor(given, plan, batch)
            _refine(plan, plan.reduced_axes, given.key, reduced)
            plan.row_bytes[given.key] = reduced.numel() * (2 if reduced.is_complex() else 1) * 4 // n

    try:
        network.run_pass(batch, n, receive)
    except _FINAL:
        raise
    except Exception:  # some networks take no batch of equal stimuli
        return


def _refine(plan: RecordingPlan, axes: Axes, key: LayerKey, tensor: Tensor) -> None:
    """Mark the axis as mixed if the stimulus has other values among copies of itself than among other stimuli."""
    axis = axes.get(key)
    if axis is None or axis.mixed or key in plan.random or tensor.ndim != len(axis.sample.shape):
        return
    sample = sample_tensor(tensor, len(plan.stimuli))
    axes[key] = refine_axis(axis, sample.values, [0] * tensor.shape[axis.axis])


def _sample_pass(
    network: Network,
    source: ShownStimuli,
    plan: RecordingPlan,
    stimuli: list[int],
    *,
    measured: bool = False,
    reducing: bool = False,
    seed: int | None = None,
) -> tuple[dict[LayerKey, Sample], PassReport]:
    """Run one trial pass and return a sample of each tensor, or of each result of the user's own reductions."""
    samples: dict[LayerKey, Sample] = {}
    batch = source.take(stimuli)

    def receive(given: LayerTensor) -> None:
        if given.problem:
            return
        if not reducing:
            samples[given.key] = sample_tensor(given.tensor, len(stimuli))
        elif isinstance(given.reduction, Custom):
            samples[given.key] = sample_tensor(reduce_tensor(given, plan, batch), len(stimuli))

    report = network.run_pass(batch, len(stimuli), receive, measured=measured, seed=seed)
    return samples, report


def _try_from_zero(network: Network, source: ShownStimuli, shown: _TrialStimuli) -> RecordingPlan | None:
    """Find a state of an earlier batch that makes the network fail, and try again with zeros in its place."""
    for size in possible_sizes(network.model):
        stimuli = [place % len(source) for place in range(size)]
        batch = source.take(stimuli)
        try:
            report = network.run_pass(batch, size, lambda _: None, compared=True)
        except Exception:  # the state comes from a batch of another size
            continue
        for which in range(3):
            states = batch_states(report.changed, size, which)
            network.prepare = [state.start_from_zero for state in states]
            plan = _try_or_none(network, source, shown) if states else None
            if plan is not None:  # otherwise the examples are along another axis, or the size is another
                _warn_of_states(network, [str(state.key) for state in states], size)
                return plan
        network.prepare = []
    return None


def _warn_of_states(network: Network, names: list[str], size: int) -> None:
    warnings.warn(
        f"{type(network.model).__name__} carries a state of its last {size} examples in {', '.join(names)}. Recorded "
        "passes start it from zeros instead; it is restored afterwards.",
        stacklevel=2,
    )


def _try_one_size(network: Network, source: ShownStimuli, batch_size: int | None) -> RecordingPlan | None:
    """Try a network that takes batches of one size only."""
    size = min(len(source), batch_size or LARGEST_BATCH)
    plan = _try_or_none(network, source, _one_size_stimuli(len(source), size))
    if plan is not None:
        plan.only_batch = size
    return plan
