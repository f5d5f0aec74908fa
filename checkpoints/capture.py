"""Capture the activations of chosen modules of any network while it looks at a fixed stimulus set."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from checkpoints.blocks import LayerValues, check_alike
from checkpoints.hooks import Given, Refused, Watch, spot_name
from checkpoints.modules import check_initialized, is_scripted, unwrapped
from checkpoints.network import Batch, Network, as_tensors, n_rows, rows_of
from checkpoints.reductions import Custom, Reduction, as_reduction
from checkpoints.rows import agrees
from checkpoints.selection import Pattern, Selector, Spot, as_selectors, chosen_modules, module_names
from checkpoints.trials import Plan, planned, reduce

__all__ = ["Capture"]

SIDES = ("output", "input", "both")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "float64": torch.float64}

Reducing = Reduction | Callable[[Tensor], Tensor]

_BLOCK_BYTES = 2**24  # of activations
_MOST_NAMED = 10  # layers in a warning


class Capture:
    """Records chosen modules' outputs or inputs, each reduced and stored in its own way.

    The layers are looked up each time the network is recorded, so that a layer which has been replaced or wrapped
    since is recorded as it is then. While it is recorded, the network runs uncompiled, without torch's fused
    transformer layers, in evaluation mode and without gradients. Afterwards, also if its forward pass raises,
    everything is as it was: its parameters, buffers, attributes, modes and hooks, and the global random generators.
    Each forward pass starts from that state. Values are copied the moment a module returns them, so operations in
    place do not change what was recorded.

    Which axis of a tensor indexes the stimuli is established by three short passes over two to four stimuli: the rows
    must follow the stimuli when their order and their number change. That axis is moved to the front. Tensors that
    have no such axis, such as weights and position embeddings, are left out with a warning.

    Parameters
    ----------
    model : nn.Module
        Also one that ``torch.compile`` or a data-parallel wrapper returned.
    layers : pattern or sequence of patterns, default "*"
        Module names, or patterns in which ``*`` matches within one part of a dotted name and ``**`` any number of
        parts: ``"hidden.*"``, ``"encoder.layer.*.output"``, ``"**.norm"``. ``""`` is the network's own output,
        recorded as ``"(network)"``. A name may end in ``#1`` (the second call of the module in a forward pass),
        ``:input``, and a path into what the module returns: ``"lstm[0]"``, ``"block[hidden]"``, ``"encoder[*][0]"``.
        Or a compiled regular expression that matches whole module names, or a function ``(name, module) -> bool``.
    side : str, default "output"
        What to record where a pattern does not say ``:input``: "output", "input" or "both".
    reduce : mapping of pattern to reduction, or a reduction for all, optional
        Makes activations smaller, e.g. ``{"conv*": SpatialMean()}``: a reduction, or a function of a tensor (n, ...).
        The first pattern that matches counts; other layers are flattened.
    dtype : str, default "float32"
        A key of ``DTYPES``: how values are stored.
    batch_size : int, optional
        Stimuli in a forward pass. By default at most 512, fewer where their stored activations would exceed 16 MiB, or
        where the tensors that a pass holds at the same time would exceed 64 MiB (on a GPU: an eighth of its free
        memory).
    forward : callable (model, batch) -> Any, optional
        How the network is run; ``model(batch)``, or ``model(**batch)`` if the stimuli are a dict of arrays, by default.

    Raises
    ------
    ValueError
        If a pattern matches no module (the message lists near names) or a reduction no recorded one, or an option is
        unknown.

    Warns
    -----
    UserWarning
        When recording: if layers are left out; if the rows of a layer depend on the other stimuli of the batch; if the
        network draws random numbers in evaluation mode, keeps a state of earlier batches, or cannot be left as found.

    Notes
    -----
    Layers are named by their module. One that a forward pass calls several times gives a layer for each call,
    ``relu#0``, ``relu#1``; tuples, lists, dicts and dataclasses give one for each tensor in them, ``lstm[1][0]``. A
    packed sequence gives its values, padded with zeros, and its lengths, ``lstm[0][lengths]``. Complex values are
    stored as real and imaginary part along a last axis. A module that is registered under several names is recorded
    once by a pattern.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> layers = Capture(model, layers=["*"]).record(torch.zeros(5, 4))
    >>> {name: layer.values.shape for name, layer in layers.items()}
    {'0': (5, 3), '1': (5, 3)}
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Pattern | Sequence[Pattern] = "*",
        *,
        side: str = "output",
        reduce: Mapping[Pattern, Reducing] | Reducing | None = None,
        dtype: str = "float32",
        batch_size: int | None = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
    ) -> None:
        _check_choice("side", side, SIDES)
        _check_choice("dtype", dtype, tuple(DTYPES))
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected a whole number of 1 or more.")
        self.model = unwrapped(model)
        self._layers, self._side = layers, side
        by_pattern = reduce if isinstance(reduce, Mapping) else {} if reduce is None else {"**": reduce}
        self._reductions = {pattern: as_reduction(reduction) for pattern, reduction in by_pattern.items()}
        self._said: set[str] = set()  # warnings that were given
        self._dtype = DTYPES[dtype]
        self._batch_size = batch_size
        self._run = forward
        self._watches()  # a wrong pattern fails here

    def __enter__(self) -> Capture:
        """Return the capture; a ``with`` block is not needed, as nothing stays on the network."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        """Return the model's class and the number of modules that are recorded."""
        return f"Capture({type(self.model).__name__}, {len(self.names)} modules)"

    @property
    def names(self) -> tuple[str, ...]:
        """The modules that match now, in the model's order."""
        return tuple(watch.name for watch in self._watches()[1])

    def record(self, inputs: Any) -> dict[str, LayerValues]:
        """Return each layer's activations for the inputs, in memory.

        Parameters
        ----------
        inputs : Tensor or array, shape (n, ...), or mapping of str to such

        Returns
        -------
        dict of str to LayerValues
            In the order in which the layers are first reached; activations are flattened to (n, d).

        Raises
        ------
        ValueError
            As for ``blocks``, or if layers or shapes differ between blocks of stimuli.
        """
        parts: dict[str, list[LayerValues]] = {}
        for block in self.blocks(inputs):
            check_alike({name: first for name, (first, *_) in parts.items()} or block, block)
            for name, layer in block.items():
                parts.setdefault(name, []).append(replace(layer, values=layer.values.copy()))
        return {
            name: replace(layers[0], values=np.concatenate([layer.values for layer in layers]))
            for name, layers in parts.items()
        }

    def blocks(self, inputs: Any) -> Iterator[dict[str, LayerValues]]:
        """Yield each layer's activations for consecutive blocks of the inputs, one forward pass at a time.

        Parameters
        ----------
        inputs : Tensor or array, shape (n, ...), or mapping of str to such
            Moved to the device of the model's first parameter or buffer, a block at a time; floats take the type of the
            first that is of floats.

        Yields
        ------
        dict of str to LayerValues
            In the order in which the layers are first reached. The next block is written over the values of this one:
            copy what is to stay.

        Raises
        ------
        ValueError
            If there are no inputs; if a pattern records nothing, or a named layer is not reached or gives a tensor of
            which no axis indexes the stimuli; if a reduction fails; if values do not fit the type to be stored in; or
            if the network has lazy modules without weights.
        """
        tensors = as_tensors(inputs)
        n = n_rows(tensors)
        check_initialized(self.model)
        selectors, watches = self._watches()
        network = Network(self.model, self._run, watches, _widths(tensors))
        self._warn_of_lost(network)
        plan = planned(network, tensors, n, self._batch_size)
        if plan.random:
            self._warn("The network draws random numbers in evaluation mode; recorded activations are one draw.")
        size = self._batch_size or self._fitting_batch(network, plan, tensors, n)
        memory: dict[Spot, Tensor] = {}
        for start in range(0, n, size):
            block = _Block(plan, start, min(size, n - start), self._dtype, memory)
            with _naming_the_last(n, size, start):
                block.run(network, rows_of(tensors, slice(start, start + size)))
            self._warn_of_block(block)
            _check_reached(selectors, watches, block.kept)
            yield block.named()

    def _watches(self) -> tuple[tuple[Selector, ...], tuple[Watch, ...]]:
        """Return what is recorded of the network as it is now."""
        modules = module_names(self.model)
        selectors = as_selectors(self._layers, modules, self._side)
        chosen = chosen_modules(selectors, modules)
        for name, (module, takers) in chosen.items():
            if is_scripted(module) and any(selector.exact for selector in takers):
                raise ValueError(
                    f"Layer '{name}' is scripted by torch.jit, which gives no access to its output. Record the input "
                    "of the layer that follows it."
                )
        scripted = [name for name, (module, _) in chosen.items() if is_scripted(module)]
        if scripted:
            self._warn(f"Not recorded, because torch.jit gives no access to scripted modules: {_listed(scripted)}.")
        watched = {name: each for name, each in chosen.items() if name not in scripted}
        named = {name: module for name, (module, _) in watched.items()}
        reductions = [(as_selectors(pattern, named, "both")[0], each) for pattern, each in self._reductions.items()]
        return selectors, tuple(
            Watch(name, module, takers, tuple(pair for pair in reductions if pair[0].accepts(name, module)))
            for name, (module, takers) in watched.items()
        )

    def _fitting_batch(self, network: Network, plan: Plan, tensors: Batch, n: int) -> int:
        """Return how many stimuli to run at once: what two of them give is measured."""
        some = min(n, 2, plan.largest_batch)
        block = _Block(plan, 0, some, self._dtype, {}, checked=False)
        block.run(network, rows_of(tensors, slice(0, some)))
        row = sum(layer.values.nbytes for layer in block.kept.values()) / some
        fitting = max(1, int(_BLOCK_BYTES // max(row, 1)))
        size = min(plan.largest_batch, 1 << (fitting.bit_length() - 1))
        while size > 2 and n % size == 1:  # a block of one stimulus fails or misleads in many networks
            size -= max(1, size // 32)
        return size

    def _warn_of_lost(self, network: Network) -> None:
        if lost := network.lost():
            self._warn(
                f"These attributes of the network cannot be put back if its forward pass changes them: {_listed(lost)}."
            )

    def _warn_of_block(self, block: _Block) -> None:
        new = {name: shape for name, shape in block.left_out.items() if name not in self._said}
        self._said |= set(new)
        if new:
            listed = _listed([f"{name} {shape}" for name, shape in new.items()])
            self._warn(f"Not recorded, because none of their axes indexes the stimuli: {listed}.")
        if mixed := [spot_name(spot) for spot in block.kept if _is_mixed(block.plan, spot)]:
            self._warn(
                "The activations of a stimulus depend on the other stimuli of its batch, and so on batch_size, in: "
                f"{_listed(mixed)}."
            )

    def _warn(self, message: str) -> None:
        """Warn once."""
        if message not in self._said:
            self._said.add(message)
            warnings.warn(message, stacklevel=4)


@dataclass
class _Block:
    """Consecutive stimuli, and what one forward pass gives for them."""

    plan: Plan
    start: int
    n: int
    dtype: torch.dtype
    memory: dict[Spot, Tensor]  # of the passes before, to be used again: new memory costs more than the copy
    checked: bool = True
    kept: dict[Spot, LayerValues] = field(default_factory=dict)
    left_out: dict[str, tuple[int, ...]] = field(default_factory=dict)  # shapes
    calls: Counter[str] = field(default_factory=Counter)

    def run(self, network: Network, batch: Batch) -> None:
        """Run the network on the block."""
        self.calls = network.pass_(batch, self.n, lambda given: self._keep(given, batch)).calls

    def named(self) -> dict[str, LayerValues]:
        """Return the layers by name."""
        block = {spot.name(several_calls=self.calls[spot.module] > 1): layer for spot, layer in self.kept.items()}
        if len(block) != len(self.kept):
            raise ValueError("Two layers have one name, as a module is named like another's call. Record fewer.")
        return block

    def _keep(self, given: Given, batch: Batch) -> None:
        spot, source = given.spot, given.tensor
        custom = isinstance(given.reduction, Custom)
        has_rows = self._has_rows(self.plan.rows, spot, source)
        reduced = reduce(given, self.plan, batch) if has_rows or custom else source
        if custom:
            has_rows = self._has_rows(self.plan.reduced, spot, reduced)
            reduced = _rows_first(self.plan.reduced, spot, reduced) if has_rows else reduced
        if not has_rows or reduced.shape[:1] != (self.n,):
            self._leave_out(given, reduced)
            return
        moved = _rows_first(self.plan.rows, spot, source)
        self.kept[spot] = self._values(spot, moved, reduced, str(self.plan.reductions[spot]))

    def _has_rows(self, known: Mapping[Spot, Any], spot: Spot, tensor: Tensor) -> bool:
        """Tell whether the tensor has a row for each stimulus of the block, and the rows of the trial passes."""
        rows = known.get(spot)
        if rows is None or tensor.ndim != len(rows.sample.shape) or tensor.shape[rows.axis] != self.n:
            return False
        if not self.checked or rows.mixed or self.plan.random:
            return True
        here = {
            place: each - self.start for place, each in enumerate(self.plan.stimuli) if 0 <= each - self.start < self.n
        }
        return not here or agrees(rows, tensor, list(here.values()), list(here))

    def _leave_out(self, given: Given, tensor: Tensor) -> None:
        name, shape = spot_name(given.spot), tuple(tensor.shape)
        if given.exact:
            raise Refused(
                f"Layer '{name}' gives shape {shape} for {self.n} stimuli, and none of its axes indexes the stimuli. "
                "Choose another tensor, or give a reduction that returns one row per stimulus."
            )
        self.left_out[name] = shape

    def _values(self, spot: Spot, source: Tensor, reduced: Tensor, reduction: str) -> LayerValues:
        if reduced.numel() == 0:
            raise Refused(f"Layer '{spot_name(spot)}' gives no values: its shape is {tuple(reduced.shape)}.")
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


def _rows_first(known: Mapping[Spot, Any], spot: Spot, tensor: Tensor) -> Tensor:
    rows = known.get(spot)
    return tensor if rows is None or rows.axis >= tensor.ndim else tensor.movedim(rows.axis, 0)


def _is_mixed(plan: Plan, spot: Spot) -> bool:
    return any(rows is not None and rows.mixed for rows in (plan.rows.get(spot), plan.reduced.get(spot)))


def _check_reached(selectors: Sequence[Selector], watches: Sequence[Watch], kept: Mapping[Spot, LayerValues]) -> None:
    """Raise unless every selector has given a layer."""
    for selector in selectors:
        accepted = {watch.name for watch in watches if selector in watch.selectors}
        if any(spot.module in accepted and selector.takes(spot) for spot in kept):
            continue
        if selector.path or selector.call is not None:
            raise ValueError(
                f"'{selector.text}' names no tensor that a forward pass gives. Record the module without what "
                "follows its name to see what there is."
            )
        if selector.exact:
            raise ValueError(f"Layer '{selector.text}' was not reached in a forward pass, or gave no tensor.")
        raise ValueError(
            f"'{selector.text}' matches modules, but none of them gives one row per stimulus in a forward pass."
        )


@contextmanager
def _naming_the_last(n: int, size: int, start: int) -> Iterator[None]:
    """Name the cause where a network fails on a last block that is shorter than the others."""
    try:
        yield
    except Exception as error:
        if start == 0 or start + size <= n:
            raise
        raise ValueError(
            f"The network failed on the last {n - start} of {n} stimuli ({type(error).__name__}: "
            f"{' '.join(str(error).split())}). It ran on blocks of {size}: give a batch_size that divides {n}."
        ) from error


def _store(values: Tensor, copy: Tensor, name: str) -> None:
    """Copy values to the CPU, in the type of the store.

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


_NARROW = (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8)


def _widths(tensors: Batch) -> tuple[int, ...]:
    """Return the lengths of sequences among the inputs."""
    parts = tensors.values() if isinstance(tensors, dict) else (tensors,)
    return tuple(part.shape[1] for part in parts if part.ndim > 1)


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"Unknown {name} '{value}'. Choose one of: {', '.join(choices)}.")
