"""Capture of the activations of chosen modules of any network for a fixed stimulus set."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from checkpoints.capture.hooks import NotRecordable, WatchedModule, layer_name
from checkpoints.capture.loss_gradients import Loss
from checkpoints.capture.modules import check_initialized, is_scripted, unwrapped
from checkpoints.capture.network import Network, as_tensors
from checkpoints.capture.recorded_block import RecordedBlock
from checkpoints.capture.reductions import Reduction, as_reduction
from checkpoints.capture.selection import LayerKey, Pattern, Selector, as_selectors, chosen_modules, module_names
from checkpoints.capture.trial_passes.batch_size import fitting_batch
from checkpoints.capture.trial_passes.recording_plan import TokenAxes
from checkpoints.capture.trial_passes.shown_stimuli import ShownStimuli
from checkpoints.capture.trial_passes.token_axis import establish_token_axes
from checkpoints.capture.trial_passes.trials import add_check_samples, run_trials
from checkpoints.storage.hdf5_files.activation_file import LayerValues, check_same_layers

__all__ = ["Capture"]

SIDES = ("output", "input", "both", "gradient")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "float64": torch.float64}

ReductionLike = Reduction | Callable[[Tensor], Tensor] | str


class Capture:
    """Record the outputs or inputs of selected modules, or gradients, each with a reduction of its own.

    The layers are looked up at each recording, so that a layer which has been replaced or wrapped in the meantime is
    recorded in its new form. The network runs uncompiled, without torch's fused transformer layers, in evaluation mode
    and without gradients. Afterwards, also if the forward pass raises, its parameters, gradients, buffers, attributes,
    modes and hooks, the inputs, and the global random generators are restored. Each forward pass starts from that
    state. Values are copied as soon as a module returns them, so later in-place operations do not change the recorded
    values.

    Four short passes over two to four stimuli establish the axis of a tensor that indexes the stimuli: its rows must
    follow the stimuli when their order and number change. That axis is moved to the front. Tensors without such an
    axis, such as weights and position embeddings, are left out with a warning.

    Parameters
    ----------
    model : nn.Module
        May be wrapped by ``torch.compile`` or by a data-parallel wrapper.
    layers : pattern or sequence of patterns, default "*"
        Module names, or patterns in which ``*`` matches within one part of a dotted name and ``**`` any number of
        parts: ``"hidden.*"``, ``"encoder.layer.*.output"``, ``"**.norm"``. ``""`` is the network's own output,
        recorded as ``"(network)"``. A name may end in ``#1`` (the second call of the module in a forward pass),
        ``:input``, and a path into what the module returns: ``"lstm[0]"``, ``"block[hidden]"``, ``"encoder[*][0]"``.
        Or a compiled regular expression that matches whole module names, or a function ``(name, module) -> bool``.
    side : str, default "output"
        The tensors recorded for patterns without ``:input``: "output", "input" or "both"; or "gradient", for each
        stimulus the gradient of its loss with respect to the outputs. Outputs without one are left out with a warning:
        whole numbers, those that were computed without a graph, and those that the loss does not depend on.
    reduce : mapping of pattern to reduction, or one reduction for all layers, optional
        Makes activations smaller, e.g. ``{"conv*": SpatialMean()}``. A reduction is a ``Reduction``, its text such as
        ``"token(0)"`` (see ``parse_reduction``), or a function of a tensor (n, ...). The first matching pattern
        applies; other layers are flattened.
    dtype : str, default "float32"
        The type in which values are stored: "float32", "float16" or "float64".
    batch_size : int, optional
        Number of stimuli per forward pass. By default at most 512, fewer if their stored activations would exceed
        16 MiB, or if the tensors that a pass holds at the same time would exceed 64 MiB (on a GPU: an eighth of its
        free memory).
    forward : callable (model, batch) -> Any, optional
        Function that runs the network; by default ``model(batch)``, or ``model(**batch)`` if the stimuli are a dict of
        arrays.
    loss : callable (output, labels) -> Tensor, optional
        Required for the side "gradient": a function of the network's output and the labels of a batch. It returns one
        number per stimulus, or their sum. (A mean would make the gradient of a stimulus depend on the batch size.)

    Raises
    ------
    ValueError
        If a pattern matches no module (the message lists similar names), a reduction matches no recorded module, an
        option is unknown, or there is a loss without the side "gradient" or the reverse.

    Warns
    -----
    UserWarning
        When recording: if layers are left out; if the rows of a layer depend on the other stimuli of the batch; if the
        network draws random numbers in evaluation mode or carries a state of earlier batches; or if an attribute cannot
        be restored.

    Notes
    -----
    Layers are named after their module. If a forward pass calls a module several times, each call gives a layer:
    ``relu#0``, ``relu#1``. Tuples, lists, dicts and dataclasses give one layer for each tensor in them: ``lstm[1][0]``.
    A packed sequence gives its values, padded with zeros, and its lengths: ``lstm[0][lengths]``. Complex values are
    stored as real and imaginary part along a last axis. A pattern records a module that is registered under several
    names once.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> layers = Capture(model, layers=["*"]).record(torch.zeros(5, 4))
    >>> {name: layer.values.shape for name, layer in layers.items()}
    {'0': (5, 3), '1': (5, 3)}
    >>> def loss(output, labels):
    ...     return torch.nn.functional.cross_entropy(output, labels, reduction="sum")
    >>> gradients = Capture(model, side="gradient", loss=loss).record(torch.zeros(5, 4), [0, 1, 2, 0, 1])
    >>> gradients["1"].values.shape
    (5, 3)
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Pattern | Sequence[Pattern] = "*",
        *,
        side: str = "output",
        reduce: Mapping[Pattern, ReductionLike] | ReductionLike | None = None,
        dtype: str = "float32",
        batch_size: int | None = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
        loss: Loss | None = None,
    ) -> None:
        _check_choice("side", side, SIDES)
        _check_loss(side, loss)
        _check_choice("dtype", dtype, tuple(DTYPES))
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected a whole number of 1 or more.")
        self.model = unwrapped(model)
        self.side = side
        self._layers, self._loss = layers, loss
        by_pattern = reduce if isinstance(reduce, Mapping) else {} if reduce is None else {"**": reduce}
        self._reductions = {pattern: as_reduction(reduction) for pattern, reduction in by_pattern.items()}
        self._warned: set[str] = set()  # warnings so far, and names of layers that they mention
        self._dtype = DTYPES[dtype]
        self._batch_size = batch_size
        self._forward = forward
        self._watches()  # raises if a pattern is wrong

    def __repr__(self) -> str:
        """Return the model's class and the number of modules that are recorded."""
        return f"Capture({type(self.model).__name__}, {len(self.names)} modules)"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the modules that match now, in the model's order."""
        return tuple(watch.name for watch in self._watches()[1])

    def record(self, inputs: Any, labels: Any = None, *, mask: Any = None) -> dict[str, LayerValues]:
        """Return each layer's activations, or gradients, for the inputs, in memory.

        Parameters
        ----------
        inputs : Tensor, array, sequence, data set, loader or InputSource, or mapping of str to such
        labels : Tensor or array, shape (n, ...), optional
            What the loss is given besides the output; only for the side "gradient", which requires it.
        mask : Tensor or array, shape (n, n_positions), optional
            As for ``blocks``.

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
        for block in self.blocks(inputs, labels, mask=mask):
            check_same_layers({name: first for name, (first, *_) in parts.items()} or block, block)
            for name, layer in block.items():
                parts.setdefault(name, []).append(replace(layer, values=layer.values.copy()))
        return {
            name: replace(layers[0], values=np.concatenate([layer.values for layer in layers]))
            for name, layers in parts.items()
        }

    def blocks(self, inputs: Any, labels: Any = None, *, mask: Any = None) -> Iterator[dict[str, LayerValues]]:
        """Yield each layer's activations, or gradients, for consecutive blocks of the inputs, one pass at a time.

        Parameters
        ----------
        inputs : Tensor, array, sequence, data set, loader or InputSource, or mapping of str to such
            As for ``Stimuli.of``. Those that are not in memory are read in blocks. Copied to the device of the model's
            first parameter or buffer, one block at a time; floats take the type of the first that holds floats.
        labels : Tensor or array, shape (n, ...), optional
            As for ``record``.
        mask : Tensor or array, shape (n, n_positions), optional
            Gives one row per token (frame, patch) where the mask is not 0, in the order of stimuli and of positions,
            in place of one row per stimulus. A pass over shorter sequences establishes which axis of a layer indexes
            the tokens. Layers without such an axis, or with another number of positions, are left out with a warning.
            Not with reductions, nor with a loss.

        Yields
        ------
        dict of str to LayerValues
            In the order in which the layers are first reached. The next block overwrites the values; copy those that
            you need longer.

        Raises
        ------
        ValueError
            If there are no inputs; if a pattern records nothing; if a layer that is given by its exact name is not
            reached, has no axis that indexes the stimuli, or has no gradient; if a reduction fails; if values exceed
            the range of the stored type; if the network has lazy modules without weights; if there are no labels for a
            loss, or not one per stimulus; if the loss does not return one number per stimulus or their sum; or if the
            mask is not one row per stimulus, or is combined with a reduction or a loss.
        """
        stimuli = ShownStimuli(inputs)
        n = len(stimuli)
        check_initialized(self.model)
        selectors, watches = self._watches()
        network = Network(self.model, self._forward, watches, stimuli.widths, self._warn_not_restorable, self._loss)
        stimuli.labels = self._labels_for_loss(labels, n)
        tokens = self._token_mask(mask, n)
        plan = run_trials(network, stimuli, self._batch_size)
        if tokens is not None:
            plan.tokens = establish_token_axes(network, stimuli, plan, tokens.shape[1])
            self._warn_of_sizes(plan.tokens)
        size = self._batch_size or fitting_batch(plan, n, self._dtype.itemsize)
        add_check_samples(network, stimuli, plan, size)
        memory: dict[LayerKey, Tensor] = {}
        for start, batch in zip(range(0, n, size), stimuli.blocks(size), strict=True):
            shown = None if tokens is None else tokens[start : start + size]
            block = RecordedBlock(plan, start, min(size, n - start), self._dtype, shown, memory)
            with _last_block_error(n, size, start):
                block.run(network, batch)
            _check_reached(selectors, watches, block)
            self._warn_of_block(block)
            yield block.named()
            network.notice_changes()

    def _labels_for_loss(self, labels: Any, n: int) -> Tensor | None:
        """Return the labels of ``n`` stimuli if there is a loss."""
        if self._loss is None:
            if labels is not None:
                raise ValueError("Labels are only used by a loss; leave them out, or record the side 'gradient'.")
            return None
        if labels is None:
            raise ValueError("The loss of the side 'gradient' needs labels; give one per stimulus.")
        column = as_tensors(labels)
        if isinstance(column, dict) or column.shape[:1] != (n,):
            raise ValueError(f"The labels are not one per stimulus; expected {n} rows.")
        return column

    def _token_mask(self, mask: Any, n: int) -> Tensor | None:
        """Return which tokens of ``n`` stimuli are rows, if tokens are rows."""
        if mask is None:
            return None
        if self._loss is not None:
            raise ValueError("Gradients have one row per stimulus and none per token; leave out the loss or the mask.")
        if self._reductions:
            raise ValueError(
                "Reductions make one row per stimulus, and the mask asks for one per token; leave out one."
            )
        tokens = as_tensors(mask)
        if isinstance(tokens, dict) or tokens.ndim != 2 or len(tokens) != n or not bool((tokens != 0).any(1).all()):
            raise ValueError(
                f"The mask is not one row per stimulus with a token in each; expected shape ({n}, n_positions)."
            )
        return tokens != 0

    def _warn_of_sizes(self, tokens: TokenAxes) -> None:
        if tokens.by_size:
            names = ", ".join(map(layer_name, tokens.by_size))
            self._warn(
                f"The network runs on sequences of {tokens.length} positions only, so the axis of the tokens was taken "
                f"by its size, and could not be verified, in: {names}."
            )

    def _watches(self) -> tuple[tuple[Selector, ...], tuple[WatchedModule, ...]]:
        """Return the selectors, and the modules of the present network that they choose."""
        modules = module_names(self.model)
        selectors = as_selectors(self._layers, modules, self.side)
        if self.side == "gradient" and any(selector.side != "gradient" for selector in selectors):
            raise ValueError("Gradients are recorded with respect to outputs; leave ':input' out of the layers.")
        chosen = chosen_modules(selectors, modules)
        for name, (module, takers) in chosen.items():
            if is_scripted(module) and any(selector.exact for selector in takers):
                raise ValueError(
                    f"Layer '{name}' is scripted by torch.jit, which gives no access to its output. Record the input "
                    "of the layer that follows it."
                )
        scripted = [name for name, (module, _) in chosen.items() if is_scripted(module)]
        if scripted:
            self._warn(f"Not recorded, because torch.jit gives no access to scripted modules: {', '.join(scripted)}.")
        watched = {name: each for name, each in chosen.items() if name not in scripted}
        named = {name: module for name, (module, _) in watched.items()}
        reductions = [
            (as_selectors(pattern, named, "both", network=True)[0], each) for pattern, each in self._reductions.items()
        ]
        return selectors, tuple(
            WatchedModule(name, module, takers, tuple(pair for pair in reductions if pair[0].accepts(name, module)))
            for name, (module, takers) in watched.items()
        )

    def _warn_not_restorable(self, names: list[str]) -> None:
        self._warn(f"These attributes cannot be restored if the forward pass changes them: {', '.join(names)}.")

    def _warn_of_block(self, block: RecordedBlock) -> None:
        left_out = {layer_name(key): entry for key, entry in block.left_out.items()}
        new = {name: entry for name, entry in left_out.items() if name not in self._warned}
        self._warned |= set(new)
        for problem in dict.fromkeys(problem for _, problem in new.values()):
            layers = ", ".join(f"{name} {shape}" for name, (shape, each) in new.items() if each == problem)
            self._warn(f"Not recorded, because {problem}: {layers}.")
        if random := [layer_name(key) for key in block.layers if key in block.plan.random]:
            self._warn(
                "The network draws random numbers in evaluation mode. Recorded activations are one draw, and it could "
                f"not be checked which row belongs to which stimulus, in: {', '.join(random)}."
            )
        if mixed := block.mixed():
            what = "gradients" if self._loss else "activations"
            advice = " A loss that is a mean over the batch does this; return its sum." if self._loss else ""
            self._warn(
                f"The {what} of a stimulus depend on the other stimuli of its batch, and thus on batch_size, in: "
                f"{', '.join(mixed)}.{advice}"
            )

    def _warn(self, message: str) -> None:
        """Warn once."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=4)


def _check_reached(selectors: Sequence[Selector], watches: Sequence[WatchedModule], block: RecordedBlock) -> None:
    """Raise unless every selector has recorded a layer."""
    for selector in selectors:
        accepted = {watch.name for watch in watches if selector in watch.selectors}
        if not any(key.module in accepted and selector.takes(key) for key in block.layers):
            left_out = [key for key in block.left_out if key.module in accepted and selector.takes(key)]
            _raise_not_reached(selector, left_out, block)


def _raise_not_reached(selector: Selector, left_out: Sequence[LayerKey], block: RecordedBlock) -> NoReturn:
    if selector.exact and left_out:
        shape, problem = block.left_out[left_out[0]]
        raise NotRecordable(
            f"Layer '{layer_name(left_out[0])}' has shape {shape} for {block.n} stimuli, and {problem}. Choose "
            + ("another tensor, or give " if block.mask is None else "other layers, or record one row per stimulus by ")
            + "a reduction that returns one row per stimulus."
        )
    if selector.path or selector.call is not None:
        raise ValueError(
            f"'{selector.text}' matches no tensor of a forward pass. Record the module without the end of its name "
            "('#', '[') to see its tensors."
        )
    if selector.exact:
        raise ValueError(f"Layer '{selector.text}' was not reached in a forward pass, or returned no tensor.")
    raise ValueError(
        f"'{selector.text}' matches modules, but none of them gives one row per "
        f"{'stimulus' if block.mask is None else 'token'} in a forward pass. {_why_no_tokens(left_out, block)}The "
        "network's own output is ''."
    )


def _why_no_tokens(left_out: Sequence[LayerKey], block: RecordedBlock) -> str:
    """Return why the first layer that was left out has no tokens, if tokens are rows."""
    if block.mask is None or not left_out:
        return ""
    shape, problem = block.left_out[left_out[0]]
    width = block.mask.shape[1]
    return f"The mask has {width} positions; of layer '{layer_name(left_out[0])}' {shape}, {problem}. "


@contextmanager
def _last_block_error(n: int, size: int, start: int) -> Iterator[None]:
    """Name the batch size as the cause if the network fails on a last block that is shorter than the others."""
    try:
        yield
    except Exception as error:
        if start == 0 or start + size <= n:
            raise
        raise ValueError(
            f"The network failed on the last {n - start} of {n} stimuli ({type(error).__name__}: "
            f"{' '.join(str(error).split())}). It ran on blocks of {size}: give a batch_size that divides {n}."
        ) from error


def _check_loss(side: str, loss: Loss | None) -> None:
    if side == "gradient" and loss is None:
        raise ValueError(
            "Side 'gradient' needs a loss: a function (output, labels) that returns one number per stimulus, or their "
            "sum."
        )
    if side != "gradient" and loss is not None:
        raise ValueError(f"The loss is only used with side 'gradient', and side is '{side}'; leave out one of them.")


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"Unknown {name} '{value}'. Choose one of: {', '.join(choices)}.")
