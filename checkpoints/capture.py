"""Capture the activations of chosen modules of any network while it looks at a fixed stimulus set."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from checkpoints.blocks import LayerValues, check_alike
from checkpoints.modules import evaluating, unwrapped
from checkpoints.reductions import Flatten, Reduction, as_reduction
from checkpoints.selection import Pattern, Selector, Spot, as_selectors, module_names

__all__ = ["Capture"]

SIDES = ("output", "input", "both")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "float64": torch.float64}

Reducing = Reduction | Callable[[Tensor], Tensor]

_LARGEST_BATCH = 512
_BATCH_BYTES = 2**24  # of activations
_DEEPEST = 32


class Capture:
    """What is recorded of a network: chosen modules' outputs or inputs, each reduced and stored in its own way.

    Nothing is attached to the network but while it is being recorded. Then it runs uncompiled, without torch's fused
    transformer layers, in evaluation mode and without gradients; afterwards, also if its forward pass raises, its
    modes, buffers and hooks and the global random generators are as they were. Values are copied the moment a module
    returns them, so that operations in place do not change what was recorded.

    Parameters
    ----------
    model : nn.Module
        Also one that ``torch.compile`` or a data-parallel wrapper returned.
    layers : pattern or sequence of patterns, default "*"
        Module names, or patterns in which ``*`` matches within one part of a dotted name and ``**`` any number of
        parts: ``"hidden.*"``, ``"encoder.layer.*.output"``, ``"**.norm"``. Tensors of theirs that do not have a row a
        stimulus, such as position embeddings, are left out with a warning. A name may end in ``#1`` (the second call of
        the module in a forward pass), ``:input``, and a path into what the module returns: ``"lstm[0]"``,
        ``"block[hidden]"``, ``"encoder[*][0]"``. Or a compiled regular expression that matches whole module names, or a
        function ``(name, module) -> bool``.
    side : str, default "output"
        What to record where a pattern does not say ``:input``: "output", "input" or "both".
    reduce : mapping of pattern to reduction, or a reduction for all, optional
        Makes activations smaller, e.g. ``{"conv*": SpatialMean()}``: a reduction, or a function of a tensor (n, …). The
        first pattern that matches counts; other layers are flattened.
    dtype : str, default "float32"
        A key of ``DTYPES``: how values are stored.
    batch_size : int, optional
        Stimuli in a forward pass. By default at most 512, fewer where their activations would exceed 16 MiB.
    forward : callable (model, batch) -> Any, optional
        How the network is run; ``model(batch)``, or ``model(**batch)`` if the stimuli are a dict of arrays, by default.

    Raises
    ------
    ValueError
        If a pattern matches no module (the message lists near names) or a reduction no recorded one, or an option is
        unknown.

    Notes
    -----
    Layers are named by their module. One that a forward pass calls several times gives a layer a call, ``relu#0``,
    ``relu#1``; tuples, lists, dicts and dataclasses give one for each tensor in them, ``lstm[1][0]``.

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
        modules = module_names(self.model)
        self._selectors = as_selectors(layers, modules, side)
        self._watched = {
            name: module
            for name, module in modules.items()
            if any(selector.accepts(name, module) for selector in self._selectors)
        }
        by_pattern = reduce if isinstance(reduce, Mapping) else {} if reduce is None else {"**": reduce}
        self._reductions = [
            (as_selectors(pattern, self._watched, "both")[0], as_reduction(reduction))
            for pattern, reduction in by_pattern.items()
        ]
        self._left_out: set[str] = set()  # said once
        self._dtype = DTYPES[dtype]
        self._batch_size = batch_size
        self._run = forward or _call

    def __enter__(self) -> Capture:
        """Return the capture; a ``with`` block is not needed, as nothing stays on the network."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        """Say of what it records how much."""
        return f"Capture({type(self.model).__name__}, {len(self._watched)} modules)"

    @property
    def names(self) -> tuple[str, ...]:
        """The chosen modules, in the model's order."""
        return tuple(self._watched)

    def record(self, inputs: Any) -> dict[str, LayerValues]:
        """Return each layer's activations for the inputs, in memory.

        Parameters
        ----------
        inputs : Tensor or array, shape (n, …), or mapping of str to such

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
        inputs : Tensor or array, shape (n, …), or mapping of str to such
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
            If there are no inputs; if a pattern records nothing, or a named module is not reached or gives a tensor
            without a row a stimulus; if a reduction fails; or if values do not fit the type to be stored in.
        """
        tensors = _tensors(inputs)
        n = _n_rows(tensors)
        size = self._batch_size or self._fitting_batch(tensors, n)
        memory: dict[Spot, Tensor] = {}
        for start in range(0, n, size):
            yield self._block(_rows_of(tensors, slice(start, start + size)), min(size, n - start), memory)

    def _fitting_batch(self, tensors: Any, n: int) -> int:
        """Return how many stimuli to run at once, as a power of two: what two stimuli give is measured."""
        some = min(n, 2)
        block = self._block(_rows_of(tensors, slice(0, some)), some, {})
        row = sum(layer.values.nbytes for layer in block.values()) / some
        fitting = max(1, int(_BATCH_BYTES // max(row, 1)))
        return min(_LARGEST_BATCH, 1 << (fitting.bit_length() - 1))

    def _block(self, batch: Any, n: int, memory: dict[Spot, Tensor]) -> dict[str, LayerValues]:
        batch = _placed(batch, self.model)
        pass_ = _Pass(batch, n, self._dtype, memory)
        with evaluating(self.model), self._listening(pass_):
            self._run(self.model, batch)
        self._check_reached(pass_.seen)
        self._say_left_out(pass_.left_out)
        block = {spot.name(several_calls=pass_.calls[spot.module] > 1): kept for spot, kept in pass_.seen.items()}
        if len(block) != len(pass_.seen):
            raise ValueError("Two layers have one name, as a module is named like another's call. Record fewer.")
        return block

    @contextmanager
    def _listening(self, pass_: _Pass) -> Iterator[None]:
        """Put hooks on that keep what passes through, and take them off again."""
        with ExitStack() as stack:
            for name, module in self._watched.items():
                wanted = [selector for selector in self._selectors if selector.accepts(name, module)]
                reductions = [(selector, each) for selector, each in self._reductions if selector.accepts(name, module)]
                listener = _Listener(name, wanted, reductions, pass_)
                before = module.register_forward_pre_hook(listener.before, with_kwargs=True)
                stack.callback(before.remove)
                after = module.register_forward_hook(listener.after)
                stack.callback(after.remove)
            yield

    def _say_left_out(self, names: Mapping[str, tuple[int, ...]]) -> None:
        new = {name: shape for name, shape in names.items() if name not in self._left_out}
        self._left_out |= set(new)
        if new:
            listed = ", ".join(f"{name} {shape}" for name, shape in new.items())
            warnings.warn(f"Not recorded, as they have no row a stimulus: {listed}.", stacklevel=2)

    def _check_reached(self, seen: Mapping[Spot, LayerValues]) -> None:
        for selector in self._selectors:
            accepted = {name for name, module in self._watched.items() if selector.accepts(name, module)}
            given = [spot for spot in seen if spot.module in accepted and selector.takes(spot)]
            if given:
                continue
            if selector.path or selector.call is not None:
                raise ValueError(
                    f"'{selector.text}' names no tensor that a forward pass gives. Record the module without what "
                    "follows its name to see what there is."
                )
            if selector.exact:
                raise ValueError(f"Layer '{selector.text}' was not reached in a forward pass, or gave no tensor.")
            raise ValueError(
                f"'{selector.text}' matches modules, but a forward pass reaches none that gives a row a stimulus."
            )


@dataclass
class _Pass:
    """One forward pass: what it is given, and what the hooks keep of it."""

    batch: Any
    n: int
    dtype: torch.dtype
    memory: dict[Spot, Tensor]  # of the passes before, to be used again: new memory costs more than the copy
    seen: dict[Spot, LayerValues] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)  # by module
    left_out: dict[str, tuple[int, ...]] = field(default_factory=dict)  # shapes of what has no row a stimulus


@dataclass
class _Listener:
    """The hooks on one module during one forward pass."""

    name: str
    wanted: list[Selector]
    reductions: list[tuple[Selector, Reduction]]
    now: _Pass

    def __post_init__(self) -> None:
        self.open: list[int] = []  # calls that have not returned: a module may call itself

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self.now.calls[self.name]
        self.now.calls[self.name] += 1
        self.open.append(call)
        only = args[0] if len(args) == 1 and not any(True for _ in _leaves(kwargs)) else None
        several: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
        given = only if isinstance(only, Tensor) else several
        self._keep(call, "input", given)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        self._keep(self.open.pop(), "output", output)

    def _keep(self, call: int, side: str, value: Any) -> None:
        for path, tensor in _leaves(value):
            spot = Spot(self.name, call, side, path)
            takers = [selector for selector in self.wanted if selector.takes(spot)]
            if not takers:
                continue
            if spot in self.now.seen:
                raise ValueError(f"Layer '{_name(spot)}' gives two tensors of this name; keys must differ as text.")
            reduction = next((each for selector, each in self.reductions if selector.takes(spot)), Flatten())
            reduced = self._reduced(spot, tensor.detach(), reduction)
            if reduced.shape[:1] == (self.now.n,):
                self.now.seen[spot] = self._values(spot, tensor, reduced, reduction)
            elif any(selector.exact for selector in takers):
                raise ValueError(
                    f"Layer '{_name(spot)}' gives shape {tuple(reduced.shape)} for {self.now.n} stimuli; expected a "
                    "row each. Choose another tensor, or give a reduction that returns one row a stimulus."
                )
            else:
                self.now.left_out[_name(spot)] = tuple(reduced.shape)

    def _reduced(self, spot: Spot, source: Tensor, reduction: Reduction) -> Tensor:
        if source.is_nested:
            raise ValueError(f"Layer '{_name(spot)}' gives a nested tensor; expected one shape for all stimuli.")
        try:
            reduced = reduction(source, self.now.batch)
        except Exception as error:  # whatever somebody's function raises
            raise ValueError(f"Layer '{_name(spot)}' cannot be reduced by {reduction}: {error}") from error
        if not isinstance(reduced, Tensor):
            raise ValueError(
                f"{reduction} made a {type(reduced).__name__} of layer '{_name(spot)}'; expected a tensor."
            )
        return reduced

    def _values(self, spot: Spot, source: Tensor, reduced: Tensor, reduction: Reduction) -> LayerValues:
        if reduced.numel() == 0:
            raise ValueError(f"Layer '{_name(spot)}' gives no values: its shape is {tuple(reduced.shape)}.")
        if (copy := self.now.memory.get(spot)) is None or copy.shape != reduced.shape:
            with torch.inference_mode(False):
                copy = self.now.memory[spot] = torch.empty(reduced.shape, dtype=self.now.dtype)
        _store(reduced, copy, _name(spot))
        return LayerValues(
            values=copy.reshape(self.now.n, -1).numpy(),
            feature_shape=tuple(reduced.shape[1:]),
            source_dtype=str(source.dtype),
            source_shape=tuple(source.shape[1:]),
            reduction=str(reduction),
            module=spot.module,
            call_index=spot.call,
            side=spot.side,
            path=spot.path_text,
        )


def _name(spot: Spot) -> str:
    """Return a layer's name while it is not known yet whether its module will be called again."""
    return spot.name(several_calls=spot.call > 0)


def _store(values: Tensor, copy: Tensor, name: str) -> None:
    """Copy values to the CPU, in the type of the store.

    Raises
    ------
    ValueError
        If finite values would become infinite, whole numbers would change, or the values are complex or sparse.
    """
    if values.is_complex() or values.is_quantized or values.layout != torch.strided:
        kind = f"{values.layout} values of type {values.dtype}"
        raise ValueError(f"Layer '{name}' gives {kind}; only real, dense ones can be recorded.")
    if values.is_floating_point() and values.itemsize == 1:
        values = values.float()  # of eight bits torch can do little else
    copy.copy_(values)
    if values.dtype == copy.dtype or (values.dtype in _NARROW and copy.dtype != torch.float16):
        return
    if values.is_floating_point() and bool((copy.isinf() & values.cpu().isfinite()).any()):
        largest = values[values.isfinite()].abs().max().item()
        raise ValueError(
            f"Layer '{name}' holds {largest:.6g}, more than {copy.dtype} can ({torch.finfo(copy.dtype).max:.6g}). "
            "Record it in a wider type."
        )
    if not values.is_floating_point() and not torch.equal(copy.to(values.dtype), values.cpu()):
        raise ValueError(f"Layer '{name}' holds whole numbers too large for {copy.dtype}. Record it in a wider type.")


_NARROW = (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8)


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Yield the tensors in nested tuples, lists, dicts and dataclasses, each with its path."""
    if isinstance(value, Tensor):
        yield path, value
        return
    for key, part in _parts(value) if len(path) < _DEEPEST else ():
        yield from _leaves(part, (*path, str(key)))


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)
    elif isinstance(value, tuple | list):
        yield from enumerate(value)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from ((each.name, getattr(value, each.name)) for each in fields(value))


def _call(model: nn.Module, batch: Any) -> Any:
    return model(**batch) if isinstance(batch, dict) else model(batch)


def _tensors(inputs: Any) -> Tensor | dict[str, Tensor]:
    if isinstance(inputs, Mapping):
        return {name: _tensor(part) for name, part in inputs.items()}
    return _tensor(inputs)


def _tensor(values: Any) -> Tensor:
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch warns of others
    return torch.as_tensor(values)


def _n_rows(tensors: Tensor | dict[str, Tensor]) -> int:
    parts = list(tensors.values()) if isinstance(tensors, dict) else [tensors]
    lengths = {len(part) if part.ndim else 0 for part in parts}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"The inputs have {sorted(lengths)} rows; expected one or more, as many in each.")
    return lengths.pop()


def _rows_of(tensors: Any, rows: slice) -> Any:
    return {name: part[rows] for name, part in tensors.items()} if isinstance(tensors, dict) else tensors[rows]


def _placed(batch: Any, model: nn.Module) -> Any:
    """Return the batch where the model is, floats in its type."""
    state = [*model.parameters(), *model.buffers()]
    if not state:
        return batch
    floating = next((each.dtype for each in state if each.is_floating_point()), None)

    def place(part: Tensor) -> Tensor:
        return part.to(state[0].device, floating if part.is_floating_point() else None)

    return {name: place(part) for name, part in batch.items()} if isinstance(batch, dict) else place(batch)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"Unknown {name} '{value}'. Choose one of: {', '.join(choices)}.")
