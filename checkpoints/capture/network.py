"""One forward pass of a network on some stimuli, observed by hooks, after which everything is restored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from checkpoints.capture.evaluation_mode import evaluation_mode
from checkpoints.capture.hooks import LayerTensor, NotRecordable, Receive, WatchedModule, hooked
from checkpoints.capture.loss_gradients import Loss, LossGradients, with_graph
from checkpoints.capture.peak_memory import PeakMemory
from checkpoints.capture.preservation import PreservedNetwork
from checkpoints.capture.selection import module_names
from checkpoints.conversion import as_array
from checkpoints.generators import generator_states

__all__ = [
    "Batch",
    "Labelled",
    "Network",
    "PassReport",
    "as_tensors",
    "each_tensor",
    "inputs_of",
]

Inputs = Tensor | dict[str, Tensor]


class Labelled(NamedTuple):
    """Inputs with one label per stimulus, which a loss needs."""

    inputs: Inputs
    labels: Tensor


Batch = Inputs | Labelled


@dataclass(frozen=True)
class PassReport:
    """Observations of one forward pass."""

    calls: Counter[str]  # of each watched module
    random: bool  # whether numbers were drawn from a random generator, global or of the network
    peak: int  # largest number of bytes that tensors made in the pass held at once; 0 if it was not measured
    changed: list[tuple[Any, Any, Any]]  # owner, key and earlier value of attributes whose tensors have changed


@dataclass
class Network:
    """A network, the function that runs it, and its watched modules.

    Attributes
    ----------
    model : nn.Module
    forward : callable (model, batch) -> Any, optional
        By default ``model(batch)``, or ``model(**batch)`` if the batch is a dict.
    watches : tuple of WatchedModule
    widths : tuple of int
        See ``checkpoints.capture.leaves.leaves``.
    loss : callable (output, labels) -> Tensor, optional
        If given, the watched tensors are its gradients with respect to those that modules return, and every batch has
        labels.
    warn_not_restorable : callable (list of str) -> None
        Called before a pass with the names of attributes that cannot be restored after it, if there are any.
    prepare : list of callable (n) -> None
        Called with the number of stimuli before each pass. Their changes to the network are restored as well.
    """

    model: nn.Module
    forward: Callable[[nn.Module, Any], Any] | None
    watches: tuple[WatchedModule, ...]
    widths: tuple[int, ...]
    warn_not_restorable: Callable[[list[str]], None]
    loss: Loss | None = None
    prepare: list[Callable[[int], None]] = field(default_factory=list)
    _preserved: PreservedNetwork | None = field(default=None, init=False)
    _modules: tuple[int, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        """Remember the identity of every module."""
        self._modules = tuple(map(id, self.model.modules()))

    def run_pass(
        self,
        batch: Batch,
        n: int,
        receive: Receive,
        *,
        measured: bool = False,
        compared: bool = False,
        seed: int | None = None,
    ) -> PassReport:
        """Run the network on a batch of ``n`` stimuli and hand the watched tensors to ``receive``.

        The batch is copied to the device of the model, because the network may write to it; floats take the type of its
        weights.
        """
        if measured:
            try:
                return self._run(batch, n, receive, PeakMemory(), compared, seed)
            except NotRecordable:
                raise
            except Exception:  # some operations cannot be observed; an error of the network itself recurs below
                pass
        return self._run(batch, n, receive, None, compared, seed)

    def _run(
        self, batch: Batch, n: int, receive: Receive, memory: PeakMemory | None, compared: bool, seed: int | None
    ) -> PassReport:
        def receive_unobserved(given: LayerTensor) -> None:
            with torch.autocast(given.tensor.device.type, enabled=False), memory.paused() if memory else nullcontext():
                receive(replace(given, tensor=given.tensor.detach()))

        with torch.inference_mode(False):  # a loss cannot be differentiated for tensors made in inference mode
            placed = _placed(batch, self.model)
        with evaluation_mode(self.model, self._preserved, seed) as preserved:
            self._preserved = preserved
            if preserved.not_restorable:
                self.warn_not_restorable(preserved.not_restorable)
            for prepare in self.prepare:
                prepare(n)
            if seed is not None:
                preserved.reseed(seed)
            before = generator_states()
            with memory or nullcontext():
                calls = self._call(placed, receive_unobserved)
            changed = list(preserved.changed_entries()) if compared else []
            random = before != generator_states() or preserved.has_drawn()
        return PassReport(calls, random, memory.peak if memory else 0, changed)

    def notice_changes(self) -> None:
        """Preserve the network anew if it has changed since the last pass; call this after other code may have run."""
        if self._preserved is not None and not self._preserved.is_current():
            self._preserved = None

    def _watches_now(self) -> tuple[WatchedModule, ...]:
        """Return the watched modules in evaluation mode; some networks replace modules when they enter it."""
        if self._modules == tuple(map(id, self.model.modules())):
            return self.watches
        modules = module_names(self.model)
        return tuple(replace(each, module=modules[each.name]) for each in self.watches if each.name in modules)

    def _call(self, batch: Batch, receive: Receive) -> Counter[str]:
        """Run the network, hand over the watched tensors, and return the number of calls of each watched module."""
        watches = self._watches_now()
        if self.loss is None:
            with hooked(watches, receive, self.widths) as calls:
                self._output(inputs_of(batch))
            return calls
        assert isinstance(batch, Labelled)
        gradients = LossGradients(self.loss)
        with torch.inference_mode(False), torch.enable_grad():
            with hooked(watches, gradients.remember, self.widths) as calls:
                output = self._output(each_tensor(batch.inputs, with_graph))
            for given in gradients.compute(output, batch.labels):
                with torch.no_grad():
                    receive(given)
        return calls

    def _output(self, inputs: Inputs) -> Any:
        if self.forward is not None:
            return self.forward(self.model, inputs)
        return self.model(**inputs) if isinstance(inputs, dict) else self.model(inputs)


def as_tensors(inputs: Any) -> Inputs:
    """Return inputs as a tensor, or as a dict of tensors; see ``as_array`` for the types that are accepted."""
    if isinstance(inputs, Mapping):
        return {name: _tensor(part) for name, part in inputs.items()}
    return _tensor(inputs)


def inputs_of(batch: Batch) -> Inputs:
    """Return the inputs of a batch without labels."""
    return batch.inputs if isinstance(batch, Labelled) else batch


def each_tensor(batch: Any, act: Callable[[Tensor], Tensor]) -> Any:
    """Return a batch of the results of a function for each tensor."""
    if isinstance(batch, Labelled):
        return Labelled(each_tensor(batch.inputs, act), act(batch.labels))
    if isinstance(batch, dict):
        return {name: act(part) for name, part in batch.items()}
    return act(batch)


def _tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values
    array = as_array(values, "Inputs")
    is_list = not isinstance(values, np.ndarray)  # Python numbers become float64 merely by default
    dtype = np.dtype(np.float32) if is_list and array.dtype == np.float64 else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))  # torch accepts no other arrays without a warning


def _placed(batch: Batch, model: nn.Module) -> Any:
    """Return a copy of the batch on the device and in the float type of the model, as far as these are known."""
    state = [*model.parameters(), *model.buffers()]
    device = next((each.device for each in state if not each.is_meta), None)
    floating = next((each.dtype for each in state if each.is_floating_point()), None)

    return each_tensor(batch, lambda part: part.to(device, floating if part.is_floating_point() else None, copy=True))
