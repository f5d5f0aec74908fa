"""A model's ``state_dict``: encoding as a file, and loading from such a file into a model."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from checkpoints.capture.modules import plain_name
from checkpoints.storage.nested_state import pack
from checkpoints.storage.tensors import (
    NotStorable,
    check_gathered,
    dense,
    is_native,
    is_sharded,
    offloaded_value,
    sharded_like,
)
from checkpoints.storage.weights import PACKED, PACKED_METADATA

__all__ = ["encode_weights", "load_weights", "model_state"]

_MOST_NAMES = 5


def encode_weights(model: nn.Module) -> bytes:
    """Return the content of ``weights.safetensors``; each of several tensors that share memory is stored.

    Raises
    ------
    NotStorable
        As for ``model_state``.
    """
    tensors, metadata = model_state(model)
    apart, stored = {}, set()
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in stored else tensor  # safetensors refuses shared memory
        stored.add(place)
    return safetensors.torch.save(apart, metadata or None)


def model_state(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a model's ``state_dict``, with the values that its forward pass computes with, as safetensors takes it.

    Values that accelerate has offloaded are read from where its hooks keep them. Nothing is communicated: of sharded
    parameters, those that are whole in this process are returned.

    Returns
    -------
    tensors : dict of str to Tensor
        On the CPU; they may share memory with each other and with the model. Those whose names begin with ``PACKED``
        are parts of entries that are described in the metadata.
    metadata : dict of str to str
        Empty if all entries are tensors of types that safetensors has.

    Raises
    ------
    NotStorable
        If an entry has no values in this process, or cannot be stored exactly; the message names it.
    """
    check_gathered(model)
    state = model.state_dict()
    tensors: dict[str, Tensor] = {}
    others: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, Tensor) and _is_offloaded(value):
            value = offloaded_value(model, name, value)
        if isinstance(value, Tensor) and is_native(value.dtype):
            tensors[plain_name(name)] = dense(value, f"'{name}'")
        else:
            others[plain_name(name)] = value
    if not others:
        return tensors, {}
    packed, entries = pack(others, prefix=PACKED)
    if clash := packed.keys() & tensors.keys():
        raise NotStorable(f"'{min(clash)}' has a name that the file uses otherwise")
    known = getattr(state, "_metadata", {})
    versions = {plain_name(name): about["version"] for name, about in known.items() if "version" in about}
    return {**tensors, **packed}, {PACKED_METADATA: json.dumps({"entries": entries, "versions": versions})}


def load_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Put weights into a model; every entry must be given, or share its memory with one that is given.

    Files written by ``safetensors.torch.save_model`` hold one name of each group of tied weights.

    Parameters
    ----------
    model : nn.Module
    weights : mapping of str to Tensor, or to what else a ``state_dict`` holds
        By name, without the parts that ``torch.compile`` adds.

    Raises
    ------
    RuntimeError
        If names or shapes are those of another model, tied weights differ, or the model's own weights are offloaded.
        Except in the last case, the model may then hold some of the new weights.
    """
    before = model.state_dict()
    if absent := [name for name, value in before.items() if isinstance(value, Tensor) and _is_offloaded(value)]:
        raise RuntimeError(
            f"'{absent[0]}' of the model is on the meta device, where no value can be put; load the weights before the "
            "model is offloaded."
        )
    names = {plain_name(name): name for name in before}
    modules = {plain_name(name): name for name, _ in model.named_modules()}
    state: OrderedDict[str, Any] = OrderedDict()
    for name, value in weights.items():
        target = before.get(names.get(name, name))
        state[names.get(name, name)] = sharded_like(value, target) if isinstance(value, Tensor) else value
    if versions := getattr(weights, "_metadata", None):
        state._metadata = {modules.get(name, name): about for name, about in versions.items()}  # type: ignore[attr-defined]
    missing, unexpected = model.load_state_dict(state, strict=False)
    _check_complete(model.state_dict(), state, missing, unexpected)


def _check_complete(
    held: Mapping[str, Any], given: Mapping[str, Any], missing: list[str], unexpected: list[str]
) -> None:
    """Raise RuntimeError unless a model holds what it was given, and all of it was given."""
    groups: dict[int, dict[str, Tensor]] = defaultdict(dict)  # by memory
    for name, value in held.items():
        if isinstance(value, Tensor) and (place := _storage(value)):
            groups[place][name] = value
    lacking = [name for name in missing if not _is_covered(held.get(name), groups, given)]
    if lacking or unexpected:
        said = [
            f"{kind}: {_some(names)}." for kind, names in (("Missing", lacking), ("Unexpected", unexpected)) if names
        ]
        raise RuntimeError(f"The weights are those of another model. {' '.join(said)}")
    for group in groups.values():
        tied = [name for name in group if name in given]
        if len(tied) > 1 and (wrong := [name for name in tied if not _same(group[name], given[name])]):
            raise RuntimeError(
                f"The weights give {_some(tied)} different values, but in the model they share memory; '{wrong[0]}' "
                "cannot have its own. Untie them in the model, or give one of them only."
            )


def _is_covered(value: Any, groups: Mapping[int, Mapping[str, Tensor]], given: Mapping[str, Any]) -> bool:
    """Tell whether the memory of an entry lies within that of one that was given."""
    if not isinstance(value, Tensor) or not (place := _storage(value)):
        return False
    start, stop = _span(value)
    others = [_span(other) for name, other in groups[place].items() if name in given and _local(other).is_contiguous()]
    return any(first <= start and stop <= last for first, last in others)


def _storage(tensor: Tensor) -> int:
    """Return the address of a tensor's memory, or 0 if it has none of its own."""
    try:
        return _local(tensor).untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError, ValueError):  # a tensor that wraps others
        return 0


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return where in its memory a tensor begins and ends, in bytes."""
    local = _local(tensor)
    start = int(local.storage_offset())
    reach = sum((int(size) - 1) * int(stride) for size, stride in zip(local.shape, local.stride(), strict=True))
    return start * local.element_size(), (start + reach + 1) * local.element_size()


def _local(tensor: Any) -> Tensor:
    return tensor.to_local() if is_sharded(tensor) else tensor


def _same(held: Tensor, given: Any) -> bool:
    """Compare bit by bit, after the conversion that loading makes."""
    one, other = (_local(tensor).detach().to("cpu", held.dtype).contiguous().reshape(-1) for tensor in (held, given))
    return torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(f"'{name}'" for name in names[:_MOST_NAMES]) + rest


def _is_offloaded(value: Tensor) -> bool:
    return value.is_meta and not nn.parameter.is_lazy(value)
