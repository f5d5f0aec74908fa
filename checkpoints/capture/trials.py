"""Trial passes before a recording: they establish the rows of each tensor, and how many stimuli fit into a batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from checkpoints.capture.carried import carried_states, possible_sizes
from checkpoints.capture.hooks import Given, Refused, spot_name
from checkpoints.capture.network import Batch, Network, Passed, rows_of
from checkpoints.capture.reductions import Custom, Reduction
from checkpoints.capture.rows import Rows, Sample, Trial, equal, established, resolved, sampled
from checkpoints.capture.selection import Spot

__all__ = ["Plan", "add_checks", "planned", "reduce"]

_ORDER = (1, 2, 0, 3)  # commutes with no reversal, shift or exchange that a network may make itself
_LARGEST_BATCH = 512
_LARGEST_CHECK = 32
_SEEDS = (1, 2, 3)  # dropout may keep the same few units under two of them
_PASS_BYTES = 2**26  # that tensors of a forward pass hold at the same time, on the CPU
_GPU_PART = 8  # of its free memory


@dataclass
class Plan:
    """Results of the trial passes.

    Attributes
    ----------
    rows : dict of Spot to Rows or None
        For each tensor before its reduction; None where no axis indexes the stimuli.
    reduced : dict of Spot to Rows or None
        For what the user's own reductions return.
    reductions : dict of Spot to Reduction
        With their axes settled.
    stimuli : list of int
        Those of the first trial pass, to check other passes against.
    row_bytes : dict of Spot to int
        Bytes that a stimulus takes in float32, after reduction; only of layers that are stored.
    random : set of Spot
        Tensors that differ between two passes on the same stimuli with other random numbers.
    checks : list of (list of int, dict of Spot to Sample)
        Further stimuli that were shown together, and samples of each tensor.
    largest_batch : int
        How many stimuli fit by the memory that a pass takes.
    only_batch : int
        The number of stimuli that the network takes, if it is the only one; else 0.
    """

    stimuli: list[int]
    rows: dict[Spot, Rows | None] = field(default_factory=dict)
    reduced: dict[Spot, Rows | None] = field(default_factory=dict)
    reductions: dict[Spot, Reduction] = field(default_factory=dict)
    row_bytes: dict[Spot, int] = field(default_factory=dict)
    random: set[Spot] = field(default_factory=set)
    checks: list[tuple[list[int], dict[Spot, Sample]]] = field(default_factory=list)
    largest_batch: int = _LARGEST_BATCH
    only_batch: int = 0


@dataclass(frozen=True)
class _Orders:
    """The stimuli of the trial passes."""

    stimuli: list[int]
    reordered: list[int]
    order: Sequence[int]
    resized_order: Sequence[int]


def planned(network: Network, inputs: Batch, n: int, batch_size: int | None) -> Plan:
    """Run trial passes and return what they show.

    Parameters
    ----------
    network : Network
        State that it carries from batch to batch and that no other batch can be run on is made to start from zero.
    inputs : Tensor or dict of str to Tensor
    n : int
        Number of stimuli.
    batch_size : int, optional
        If it is below 4, the trial passes show at most 3 stimuli. If the network takes only batches of this size, they
        show as many.

    Raises
    ------
    Refused
        If a tensor cannot be recorded.
    Exception
        Whatever the network raises, if it can be run on no trial batch.
    """
    orders = _orders(n, batch_size)
    try:
        return _tried(network, inputs, orders)
    except Refused:
        raise
    except Exception as error:  # whatever somebody's network raises
        plan = _tried_from_zero(network, inputs, orders, n) or _tried_with_one_size(network, inputs, n, batch_size)
        if plan is None:
            raise error
        return plan


def _orders(n: int, batch_size: int | None) -> _Orders:
    if batch_size is None or batch_size >= len(_ORDER):
        stimuli = np.linspace(0, n - 1, len(_ORDER)).round().astype(int).tolist()
        return _Orders(stimuli, [stimuli[place] for place in _ORDER], _ORDER, (3, 0))
    stimuli = [0, n - 1]
    return _Orders(stimuli, stimuli[::-1], (1, 0), (1, 0, 1))


def _one_size_orders(n: int, size: int) -> _Orders:
    stimuli = list(range(size))
    if size == 1:
        return _Orders(stimuli, [n - 1], (0,), ())
    order = [1, 0] if size == 2 else np.random.default_rng(0).permutation(size).tolist()
    return _Orders(stimuli, order, order, ())


def _tried(network: Network, inputs: Batch, orders: _Orders) -> Plan:
    plan = Plan(orders.stimuli)
    first, passed = _sample(network, inputs, plan, orders.stimuli, measured=True)
    reordered, _ = _sample(network, inputs, plan, orders.reordered)
    resized: dict[Spot, Sample] = {}
    if orders.resized_order:
        shown = [orders.stimuli[place] for place in orders.resized_order]
        resized, other = _sample(network, inputs, plan, shown, measured=True)
        plan.largest_batch = _largest_batch(network, (passed, other), (len(orders.stimuli), len(shown)))
    if passed.random:
        for seed in _SEEDS:
            again, _ = _sample(network, inputs, plan, orders.stimuli, seed=seed)
            plan.random |= {spot for spot, sample in first.items() if not equal(sample, again.get(spot))}
    for spot in dict.fromkeys((*first, *reordered, *resized)):
        samples = (first.get(spot), reordered.get(spot), resized.get(spot))
        plan.rows[spot] = established(Trial(*samples, orders.order, orders.resized_order, spot in plan.random))
    _try_reductions(network, inputs, plan, orders)
    _try_alone(network, inputs, plan, len(orders.resized_order) or len(orders.stimuli))
    return plan


def _try_reductions(network: Network, inputs: Batch, plan: Plan, orders: _Orders) -> None:
    """Establish where the user's own reductions have their rows."""
    if not any(isinstance(reduction, Custom) for watch in network.watches for _, reduction in watch.reductions):
        return
    shown = [orders.stimuli, orders.reordered, [orders.stimuli[place] for place in orders.resized_order]]
    samples = [_sample(network, inputs, plan, stimuli, reducing=True)[0] if stimuli else {} for stimuli in shown]
    for spot in dict.fromkeys(spot for sample in samples for spot in sample):
        first, reordered, resized = (sample.get(spot) for sample in samples)
        trial = Trial(first, reordered, resized, orders.order, orders.resized_order, spot in plan.random)
        plan.reduced[spot] = established(trial)


def _try_alone(network: Network, inputs: Batch, plan: Plan, n: int) -> None:
    """Show one stimulus ``n`` times: see whether its rows depend on the other stimuli, and how much would be stored."""
    stimulus = plan.stimuli[0]
    batch = rows_of(inputs, [stimulus] * n)

    def keep(given: Given) -> None:
        if given.wrong:
            return
        _compare(plan, plan.rows, given.spot, given.tensor)
        if isinstance(given.reduction, Custom) or plan.rows.get(given.spot) is not None:
            reduced = reduce(given, plan, batch)
            _compare(plan, plan.reduced, given.spot, reduced)
            plan.row_bytes[given.spot] = reduced.numel() * (2 if reduced.is_complex() else 1) * 4 // n

    try:
        network.pass_(batch, n, keep)
    except Refused:
        raise
    except Exception:  # some networks take no batch of equal stimuli
        return


def _compare(plan: Plan, known: dict[Spot, Rows | None], spot: Spot, tensor: torch.Tensor) -> None:
    """Notice if a stimulus has other rows among equal ones than it has among others."""
    rows = known.get(spot)
    if rows is None or rows.mixed or spot in plan.random or tensor.ndim != len(rows.sample.shape):
        return
    sample = sampled(tensor, len(plan.stimuli))
    known[spot] = resolved(rows, sample.values, [0] * tensor.shape[rows.axis])


def add_checks(network: Network, inputs: Batch, plan: Plan, n: int, size: int) -> None:
    """Show stimuli of every block among those of others, to compare the rows of the blocks with.

    Parameters
    ----------
    network : Network
    inputs : Tensor or dict of str to Tensor
    plan : Plan
        Gets the samples.
    n, size : int
        Number of stimuli, and how many are in a block.
    """
    starts = range(0, n, size)
    if len(starts) < 3:  # the stimuli of the first trial pass are among the first and the last
        return
    chosen = sorted(
        {place for start in starts for place in (start + min(size, n - start) // 2, min(start + size, n) - 1)}
    )
    together = plan.only_batch or max(2, min(size, _LARGEST_CHECK))
    for first in range(0, len(chosen), together):
        stimuli = chosen[first : first + together]
        stimuli += stimuli[:1] * ((plan.only_batch or 2) - len(stimuli))
        plan.checks.append((stimuli, _sample(network, inputs, plan, stimuli)[0]))


def _sample(
    network: Network,
    inputs: Batch,
    plan: Plan,
    stimuli: list[int],
    *,
    measured: bool = False,
    reducing: bool = False,
    seed: int | None = None,
) -> tuple[dict[Spot, Sample], Passed]:
    """Run one trial pass and return a sample of each tensor, or of what the user's own reductions return."""
    samples: dict[Spot, Sample] = {}
    batch = rows_of(inputs, stimuli)

    def keep(given: Given) -> None:
        if given.wrong:
            return
        if not reducing:
            samples[given.spot] = sampled(given.tensor, len(stimuli))
        elif isinstance(given.reduction, Custom):
            samples[given.spot] = sampled(reduce(given, plan, batch), len(stimuli))

    passed = network.pass_(batch, len(stimuli), keep, measured=measured, seed=seed)
    return samples, passed


def reduce(given: Given, plan: Plan, batch: Batch) -> torch.Tensor:
    """Return the reduced tensor, with the axis of the stimuli first as far as it is known.

    Raises
    ------
    Refused
        If the reduction raises or returns no tensor.
    """
    rows = plan.rows.get(given.spot)
    source = given.tensor if rows is None else given.tensor.movedim(rows.axis, 0)
    name = spot_name(given.spot)
    try:
        if (reduction := plan.reductions.get(given.spot)) is None:
            reduction = plan.reductions[given.spot] = _settled(given, source, name)
        reduced = reduction(source, batch)
    except Exception as error:  # whatever somebody's function raises
        raise Refused(f"Layer '{name}' cannot be reduced by {given.reduction}: {error}") from error
    if not isinstance(reduced, torch.Tensor):
        raise Refused(f"{reduction} made a {type(reduced).__name__} of layer '{name}'; expected a tensor.")
    return reduced


def _settled(given: Given, source: torch.Tensor, name: str) -> Reduction:
    """Return the reduction with its axes settled; a warning of it names the layer."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reduction = given.reduction.resolved(given.module, tuple(source.shape))
    for each in caught:
        warnings.warn(f"Layer '{name}': {each.message}", stacklevel=2)
    return reduction


def _tried_from_zero(network: Network, inputs: Batch, orders: _Orders, n: int) -> Plan | None:
    """Find state of an earlier batch that stands in the way, and try again with zeros in its place."""
    for size in possible_sizes(network.model):
        stimuli = [place % n for place in range(size)]
        try:
            passed = network.pass_(rows_of(inputs, stimuli), size, lambda _: None, compared=True)
        except Exception:  # this was not the size
            continue
        for which in range(3):
            states = carried_states(passed.changed, size, which)
            network.prepare = [state.start_from_zero for state in states]
            try:
                plan = _tried(network, inputs, orders) if states else None
            except Refused:
                raise
            except Exception:  # another axis, or another size
                plan = None
            if plan is not None:
                _warn_of_states(network, [str(state.key) for state in states], size)
                return plan
        network.prepare = []
    return None


def _warn_of_states(network: Network, names: list[str], size: int) -> None:
    warnings.warn(
        f"{type(network.model).__name__} keeps a state of its last {size} examples in {', '.join(names)}. Recorded "
        "passes start it from zeros instead; it is put back afterwards.",
        stacklevel=2,
    )


def _tried_with_one_size(network: Network, inputs: Batch, n: int, batch_size: int | None) -> Plan | None:
    """Try a network that takes batches of one size only."""
    size = min(n, batch_size or _LARGEST_BATCH)
    try:
        plan = _tried(network, inputs, _one_size_orders(n, size))
    except Refused:
        raise
    except Exception:  # the caller raises what the first trial raised
        return None
    plan.only_batch = size
    return plan


def _largest_batch(network: Network, passes: tuple[Passed, Passed], sizes: tuple[int, int]) -> int:
    """Return how many stimuli fit, as a power of two: memory grows by the same amount with each of them."""
    each = (passes[0].peak - passes[1].peak) / (sizes[0] - sizes[1])
    if each <= 0:
        each = max(passed.peak / size for passed, size in zip(passes, sizes, strict=True))
    fixed = max(0.0, passes[0].peak - sizes[0] * each)
    fitting = int((_budget(network) - fixed) // max(each, 1))
    return min(_LARGEST_BATCH, 1 << (max(1, fitting).bit_length() - 1))


def _budget(network: Network) -> int:
    device = next((each.device for each in network.model.parameters() if each.is_cuda), None)
    if device is None:
        return _PASS_BYTES
    return max(_PASS_BYTES, torch.cuda.mem_get_info(device)[0] // _GPU_PART)
