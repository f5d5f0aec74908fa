"""Capture the activations of chosen modules of any network while it looks at a fixed stimulus set."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from checkpoints.activations import LayerValues

__all__ = ["Capture", "match_layers"]


class Capture:
    """Hooks on chosen modules of a network; a context manager that takes them off again.

    Between captures the hooks do nothing. ``record`` runs the network in evaluation mode without gradients and puts
    every module's mode and buffers and torch's generators back, also if the forward pass raises.

    Parameters
    ----------
    model : nn.Module
        Called with one tensor, a batch of stimuli.
    layers : str or sequence of str
        Module names or patterns. ``*`` matches within one part of a dotted name, ``**`` any number of parts:
        ``"hidden.*"``, ``"encoder.layer.*.output"``, ``"**.norm"``.

    Raises
    ------
    ValueError
        If a pattern matches no module; the message lists near names.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> with Capture(model, layers=["*"]) as capture:
    ...     layers = capture.record(torch.zeros(5, 4))
    >>> {name: layer.values.shape for name, layer in layers.items()}
    {'0': (5, 3), '1': (5, 3)}
    """

    def __init__(self, model: nn.Module, layers: str | Sequence[str] = ("*",)) -> None:
        self.model = model
        self.names = match_layers(model, layers)
        self._handles: list[RemovableHandle] = []
        self._seen: dict[str, list[Tensor]] | None = None

    def __enter__(self) -> Capture:
        """Put the hooks on."""
        modules = dict(self.model.named_modules())
        for name in self.names:
            self._handles.append(modules[name].register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def record(self, inputs: Tensor | NDArray[Any], *, batch_size: int = 512) -> dict[str, LayerValues]:
        """Return each layer's activations for the inputs.

        Parameters
        ----------
        inputs : Tensor or array, shape (n, …)
            Moved to the device of the model's first parameter, a batch at a time.
        batch_size : int, default 512

        Returns
        -------
        dict of str to LayerValues
            In the order in which the layers are first reached; activations are flattened to (n, d) float32.

        Raises
        ------
        RuntimeError
            If the hooks are not on: use the capture in a ``with`` block.
        ValueError
            If a layer is never reached or reached more than once in a forward pass, or if its output is not a tensor
            with one row a stimulus.
        """
        if not self._handles:
            raise RuntimeError("This Capture has no hooks on the model. Use it inside 'with Capture(...) as capture:'.")
        batches: list[dict[str, Tensor]] = []
        with _evaluating(self.model), torch.no_grad():
            for rows in torch.as_tensor(inputs).split(batch_size):
                batches.append(self._forward(rows))
        return {name: _join([batch[name] for batch in batches]) for name in batches[0]}

    def _forward(self, rows: Tensor) -> dict[str, Tensor]:
        parameter = next(self.model.parameters(), None)
        self._seen = {}
        try:
            self.model(rows if parameter is None else rows.to(parameter.device))
            seen = self._seen
        finally:
            self._seen = None
        for name in self.names:
            calls = seen.get(name, [])
            if len(calls) != 1:
                reached = "was not reached" if not calls else f"was reached {len(calls)} times"
                raise ValueError(f"Layer '{name}' {reached} in one forward pass; it can be recorded if reached once.")
            if calls[0].shape[:1] != rows.shape[:1]:
                shape = tuple(calls[0].shape)
                raise ValueError(f"Layer '{name}' returned shape {shape} for {len(rows)} stimuli; expected a row each.")
        return {name: calls[0] for name, calls in seen.items()}

    def _hook(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if self._seen is None:
                return
            if not isinstance(output, Tensor):
                raise ValueError(f"Layer '{name}' returns a {type(output).__name__}; only tensors can be recorded.")
            self._seen.setdefault(name, []).append(output.detach().to("cpu", copy=True))

        return hook


def match_layers(model: nn.Module, patterns: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of the modules that match any of the patterns, in the model's order.

    Raises
    ------
    ValueError
        If a pattern matches none.
    """
    patterns = [patterns] if isinstance(patterns, str) else patterns
    names = [name for name, _ in model.named_modules() if name]
    matched: set[str] = set()
    for pattern in patterns:
        expression = re.compile(_translate(pattern))
        hits = [name for name in names if expression.fullmatch(name)]
        if not hits:
            close = difflib.get_close_matches(pattern, names, n=5, cutoff=0.3)
            near = [*close, *(name for name in names if name not in close)][:5]
            raise ValueError(f"No layer matches '{pattern}'. Near names: {', '.join(near)}.")
        matched.update(hits)
    if not matched:
        raise ValueError("No layers were asked for; give at least one name or pattern.")
    return tuple(name for name in names if name in matched)


def _translate(pattern: str) -> str:
    parts = []
    for part in re.split(r"(\*\*\.|\*\*|\*|\?)", pattern):
        parts.append({"**.": r"(?:.*\.)?", "**": r".*", "*": r"[^.]*", "?": r"[^.]"}.get(part, re.escape(part)))
    return "".join(parts)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    buffers = [(module, *named) for module in modes for named in module.named_buffers(recurse=False)]
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(devices):
        try:
            model.eval()
            for module, name, buffer in buffers:
                setattr(module, name, buffer.clone())
            yield
        finally:
            for module, training in modes.items():
                module.training = training
            for module, name, buffer in buffers:
                setattr(module, name, buffer)


def _join(batches: list[Tensor]) -> LayerValues:
    values = torch.cat(batches)
    flat = values.reshape(len(values), -1).to(torch.float32).numpy()
    return LayerValues(np.ascontiguousarray(flat), tuple(values.shape[1:]), str(values.dtype))
