"""The axis of a tensor that indexes the tokens of a sequence: established by a pass over shorter sequences.

The axis whose size follows the length of the sequences is that of the tokens. Features and attention heads may be as
many as the tokens; they stay as many when the sequences are shorter.
"""

from __future__ import annotations

from torch import Tensor, nn

from checkpoints.capture.feature_axis import feature_axis
from checkpoints.capture.hooks import LayerTensor, NotRecordable
from checkpoints.capture.network import Batch, Network, each_tensor
from checkpoints.capture.selection import LayerKey
from checkpoints.capture.trial_passes.recording_plan import NO_TOKENS, RecordingPlan, TokenAxes, move_stimuli_first
from checkpoints.capture.trial_passes.shown_stimuli import ShownStimuli
from checkpoints.errors import UnreadableInputs

__all__ = ["establish_token_axes"]

_SEVERAL = "several axes index the tokens"

Shapes = dict[LayerKey, tuple[tuple[int, ...], nn.Module]]


def establish_token_axes(network: Network, source: ShownStimuli, plan: RecordingPlan, length: int) -> TokenAxes:
    """Show the stimuli of the first trial pass with their last position left out, and compare the shapes of tensors.

    If the network takes no shorter sequences, the only axis with as many entries as there are positions is taken,
    unless it holds the features.
    """
    found = TokenAxes(length)
    batch = source.take(plan.stimuli)
    shapes = _shapes(network, batch, plan)
    shorter = _shorter_shapes(network, batch, plan, length)
    for key, (shape, module) in shapes.items():
        if shorter is None:
            _choose_by_size(found, key, shape, module)
        elif key in shorter and len(shorter[key][0]) == len(shape):
            _choose(found, key, shape, shorter[key][0])
    return found


def _choose(found: TokenAxes, key: LayerKey, shape: tuple[int, ...], shorter: tuple[int, ...]) -> None:
    """Note the axis that is shorter by one, if it is the only one that has changed."""
    changed = [axis for axis in range(1, len(shape)) if shape[axis] != shorter[axis]]
    fitting = [axis for axis in changed if (shape[axis], shorter[axis]) == (found.length, found.length - 1)]
    if len(changed) > 1:
        found.problems[key] = _SEVERAL
    elif fitting:
        found.axes[key] = fitting[0]
    elif changed:
        found.problems[key] = f"there are {shape[changed[0]]} tokens and not {found.length}"


def _choose_by_size(found: TokenAxes, key: LayerKey, shape: tuple[int, ...], module: nn.Module) -> None:
    """Note the only axis of the right size, if it is not that of the features."""
    fitting = [axis for axis in range(1, len(shape)) if shape[axis] == found.length]
    if len(shape) < 3 or len(fitting) != 1:
        found.problems[key] = f"{len(fitting)} axes have the size of {found.length} tokens" if fitting else NO_TOKENS
        return
    side, certain = feature_axis(module, shape, "last")
    if certain and fitting[0] == (1 if side == "first" else len(shape) - 1):
        found.problems[key] = NO_TOKENS
        return
    found.axes[key] = fitting[0]
    found.by_size.append(key)


def _shapes(network: Network, batch: Batch, plan: RecordingPlan) -> Shapes:
    """Return the shapes of tensors with a known axis of stimuli, which is first."""
    shapes: Shapes = {}

    def receive(given: LayerTensor) -> None:
        axis = plan.axes.get(given.key)
        if given.problem is None and axis is not None and given.tensor.ndim == len(axis.sample.shape):
            shapes[given.key] = tuple(move_stimuli_first(plan.axes, given.key, given.tensor).shape), given.module

    network.run_pass(batch, len(plan.stimuli), receive)
    return shapes


def _shorter_shapes(network: Network, batch: Batch, plan: RecordingPlan, length: int) -> Shapes | None:
    """Return the shapes for sequences without their last position; None if the network takes no such sequences."""
    shortened = 0

    def shorten(part: Tensor) -> Tensor:
        nonlocal shortened
        if part.ndim < 2 or part.shape[1] != length or length < 2:
            return part
        shortened += 1
        return part[:, :-1]

    batch, widths = each_tensor(batch, shorten), network.widths
    if not shortened:
        return None
    network.widths = tuple(width - 1 if width == length else width for width in widths)
    try:
        return _shapes(network, batch, plan)
    except (NotRecordable, UnreadableInputs):
        raise
    except Exception:  # a network may raise anything
        return None
    finally:
        network.widths = widths
