"""Capture of the activations of chosen modules of any network for a fixed stimulus set."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from checkpoints.capture.captured import Block
from checkpoints.capture.hooks import Refused, Watch, spot_name
from checkpoints.capture.modules import check_initialized, is_scripted, unwrapped
from checkpoints.capture.network import Network, as_tensors, n_rows, rows_of, sequence_lengths
from checkpoints.capture.reductions import Reduction, as_reduction
from checkpoints.capture.selection import Pattern, Selector, Spot, as_selectors, chosen_modules, module_names
from checkpoints.capture.trials import Plan, add_checks, planned
from checkpoints.storage.blocks import LayerValues, check_alike

__all__ = ["Capture"]

SIDES = ("output", "input", "both")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "float64": torch.float64}

Reducing = Reduction | Callable[[Tensor], Tensor]

_BLOCK_BYTES = 2**24  # of activations


class Capture:
    """Record the outputs or inputs of chosen modules, each reduced in its own way.

    The layers are looked up at each recording, so that a layer which has been replaced or wrapped in the meantime is
    recorded in its new form. The network runs uncompiled, without torch's fused transformer layers, in evaluation mode
    and without gradients. Afterwards, also if its forward pass raises, everything is as it was: its parameters,
    gradients, buffers, attributes, modes and hooks, the inputs, and the global random generators. Each forward pass
    starts from that state. Values are copied as soon as a module returns them, so later in-place operations do not
    change the recorded values.

    The axis of a tensor that indexes the stimuli is established by four short passes over two to four stimuli: the rows
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
        Number of stimuli in a forward pass. By default at most 512, fewer if their stored activations would exceed
        16 MiB, or the tensors that a pass holds at the same time would exceed 64 MiB (on a GPU: an eighth of its free
        memory).
    forward : callable (model, batch) -> Any, optional
        Function that runs the network; by default ``model(batch)``, or ``model(**batch)`` if the stimuli are a dict of
        arrays.

    Raises
    ------
    ValueError
        If a pattern matches no module (the message lists similar names), a reduction matches no recorded module, or an
        option is unknown.

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
        """The names of the modules that match now, in the model's order."""
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
            Copied to the device of the model's first parameter or buffer, one block at a time; floats take the type of
            the first that holds floats.

        Yields
        ------
        dict of str to LayerValues
            In the order in which the layers are first reached. The values are overwritten by the next block: copy those
            that you keep.

        Raises
        ------
        ValueError
            If there are no inputs; if a pattern records nothing, or a named layer is not reached or gives a tensor
            without an axis that indexes the stimuli; if a reduction fails; if values do not fit the type in which they
            are stored; or if the network has lazy modules without weights.
        """
        tensors = as_tensors(inputs)
        n = n_rows(tensors)
        check_initialized(self.model)
        selectors, watches = self._watches()
        network = Network(self.model, self._run, watches, sequence_lengths(tensors), self._warn_of_lost)
        plan = planned(network, tensors, n, self._batch_size)
        size = self._batch_size or self._fitting_batch(plan, n)
        add_checks(network, tensors, plan, n, size)
        memory: dict[Spot, Tensor] = {}
        for start in range(0, n, size):
            block = Block(plan, start, min(size, n - start), self._dtype, memory)
            with _naming_the_last(n, size, start):
                block.run(network, rows_of(tensors, slice(start, start + size)))
            _check_reached(selectors, watches, block)
            self._warn_of_block(block)
            yield block.named()
            network.look_again()

    def _watches(self) -> tuple[tuple[Selector, ...], tuple[Watch, ...]]:
        """Return the selectors, and the modules of the present network that they choose."""
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
        reductions = [
            (as_selectors(pattern, named, "both", network=True)[0], each) for pattern, each in self._reductions.items()
        ]
        return selectors, tuple(
            Watch(name, module, takers, tuple(pair for pair in reductions if pair[0].accepts(name, module)))
            for name, (module, takers) in watched.items()
        )

    def _fitting_batch(self, plan: Plan, n: int) -> int:
        """Return how many stimuli to run at once, given the memory of a pass and the stored bytes per stimulus."""
        if plan.only_batch:
            return plan.only_batch
        row = sum(plan.row_bytes.values()) * self._dtype.itemsize // 4
        fitting = max(1, _BLOCK_BYTES // max(row, 1))
        size = min(plan.largest_batch, 1 << (fitting.bit_length() - 1))
        while size > 2 and n % size == 1:  # a block of one stimulus fails or misleads in many networks
            size -= max(1, size // 32)
        return size

    def _warn_of_lost(self, names: list[str]) -> None:
        self._warn(f"These attributes cannot be put back if the forward pass changes them: {_listed(names)}.")

    def _warn_of_block(self, block: Block) -> None:
        left_out = {spot_name(spot): why for spot, why in block.left_out.items()}
        new = {name: why for name, why in left_out.items() if name not in self._said}
        self._said |= set(new)
        for reason in dict.fromkeys(reason for _, reason in new.values()):
            listed = _listed([f"{name} {shape}" for name, (shape, why) in new.items() if why == reason])
            self._warn(f"Not recorded, because {reason.replace('its', 'their')}: {listed}.")
        if random := [spot_name(spot) for spot in block.kept if spot in block.plan.random]:
            self._warn(
                "The network draws random numbers in evaluation mode. Recorded activations are one draw, and which row "
                f"belongs to which stimulus could not be checked, in: {_listed(random)}."
            )
        if mixed := block.mixed():
            self._warn(
                "The activations of a stimulus depend on the other stimuli of its batch, and so on batch_size, in: "
                f"{_listed(mixed)}."
            )

    def _warn(self, message: str) -> None:
        """Warn once."""
        if message not in self._said:
            self._said.add(message)
            warnings.warn(message, stacklevel=4)


def _check_reached(selectors: Sequence[Selector], watches: Sequence[Watch], block: Block) -> None:
    """Raise unless every selector has given a layer."""
    for selector in selectors:
        accepted = {watch.name for watch in watches if selector in watch.selectors}
        if any(spot.module in accepted and selector.takes(spot) for spot in block.kept):
            continue
        for spot, (shape, wrong) in block.left_out.items():
            if selector.exact and spot.module in accepted and selector.takes(spot):
                raise Refused(
                    f"Layer '{spot_name(spot)}' gives shape {shape} for {block.n} stimuli, and {wrong}. Choose another "
                    "tensor, or give a reduction that returns one row per stimulus."
                )
        if selector.path or selector.call is not None:
            raise ValueError(
                f"'{selector.text}' names no tensor that a forward pass gives. Record the module without what "
                "follows its name to see what there is."
            )
        if selector.exact:
            raise ValueError(f"Layer '{selector.text}' was not reached in a forward pass, or gave no tensor.")
        raise ValueError(
            f"'{selector.text}' matches modules, but none of them gives one row per stimulus in a forward pass. The "
            "network's own output is ''."
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


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"Unknown {name} '{value}'. Choose one of: {', '.join(choices)}.")
