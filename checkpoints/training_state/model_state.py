"""The ``state_dict`` of a model: encoding for a file, and loading into a model."""

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

__all__ = ["encode_weights", "is_covered", "load_weights", "memory_groups", "model_state"]

_MOST_NAMES = 5


def encode_weights(model: nn.Module) -> bytes:
    """Return the content of ``weights.safetensors``; tensors that share memory are stored one by one."""
    tensors, metadata = model_state(model)
    apart, stored = {}, set()
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in stored else tensor  # safetensors refuses shared memory
        stored.add(place)
    return safetensors.torch.save(apart, metadata or None)


def model_state(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a model's ``state_dict`` in the form of safetensors, with the values that a forward pass uses.

    Values that accelerate has offloaded are read from its hooks. There is no communication between processes, so
    sharded parameters must be complete in this process.

    Returns
    -------
    tensors : dict of str to Tensor
        On the CPU; they may share memory with each other and with the model. Names that begin with ``PACKED`` belong to
        parts of entries that the metadata describe.
    metadata : dict of str to str
        Empty if all entries are tensors of types that safetensors has.
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
        raise NotStorable(f"'{min(clash)}' has a name that is reserved in the file")
    known = getattr(state, "_metadata", {})
    versions = {plain_name(name): about["version"] for name, about in known.items() if "version" in about}
    return {**tensors, **packed}, {PACKED_METADATA: json.dumps({"entries": entries, "versions": versions})}


def load_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Load weights into a model; each of its entries must be given, or share its memory with a given one.

    Files of ``safetensors.torch.save_model`` contain one name of each group of tied weights.

    Parameters
    ----------
    model : nn.Module
    weights : mapping of str to Tensor, or to another value of a ``state_dict``
        By name, without the parts that ``torch.compile`` adds.

    Raises
    ------
    RuntimeError
        If tied weights differ or the model's own weights are offloaded; the model is as before then. If names or shapes
        belong to another model; some of the weights may have been loaded then.
    """
    before = model.state_dict()
    if absent := [name for name, value in before.items() if isinstance(value, Tensor) and _is_offloaded(value)]:
        raise RuntimeError(
            f"'{absent[0]}' of the model is on the meta device, which holds no values; load the weights before the "
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
    _check_tied(before, state)
    missing, unexpected = model.load_state_dict(state, strict=False)
    _check_complete(model.state_dict(), state, missing, unexpected)


def _check_complete(
    held: Mapping[str, Any], given: Mapping[str, Any], missing: list[str], unexpected: list[str]
) -> None:
    """Raise RuntimeError unless all entries were given, and the model holds the given values."""
    groups = memory_groups(held)
    lacking = [name for name in missing if not is_covered(held.get(name), groups, given)]
    if lacking or unexpected:
        parts = [
            f"{kind}: {_some(names)}." for kind, names in (("Missing", lacking), ("Unexpected", unexpected)) if names
        ]
        raise RuntimeError(f"The weights are those of another model. {' '.join(parts)}")
    for group in groups.values():  # of which some may be parts of others
        tied = [name for name in group if name in given]
        if len(tied) > 1 and (wrong := [name for name in tied if not _same(group[name], given[name])]):
            raise _contradiction(tied, wrong[0])


def _check_tied(held: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise RuntimeError if entries that are the same tensor in the model have different values."""
    for group in memory_groups(held).values():
        first: dict[Any, str] = {}
        for name in (name for name in group if isinstance(given.get(name), Tensor)):
            other = first.setdefault((_span(group[name]), given[name].shape), name)
            if other != name and not _same(given[other].to(group[name].dtype), given[name]):
                raise _contradiction([other, name], name)


def _contradiction(tied: list[str], wrong: str) -> RuntimeError:
    return RuntimeError(
        f"The weights give {_some(tied)} different values, but in the model they share memory; '{wrong}' cannot have "
        "its own. Untie them in the model, or give one of them only."
    )


def memory_groups(state: Mapping[str, Any]) -> dict[int, dict[str, Tensor]]:
    """Return the tensors of a state dict by the address of their memory, which tied weights share."""
    groups: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, value in state.items():
        if isinstance(value, Tensor) and (place := _storage(value)):
            groups[place][name] = value
    return groups


def is_covered(value: Any, groups: Mapping[int, Mapping[str, Tensor]], given: Mapping[str, Any]) -> bool:
    """Return whether the memory of an entry lies within the memory of a given entry."""
    if not isinstance(value, Tensor) or not (place := _storage(value)):
        return False
    start, stop = _span(value)
    others = [_span(other) for name, other in groups[place].items() if name in given and _local(other).is_contiguous()]
    return any(first <= start and stop <= last for first, last in others)


def _storage(tensor: Tensor) -> int:
    """Return the address of a tensor's memory, or 0 if it has no memory of its own."""
    try:
        return _local(tensor).untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError, ValueError):  # a tensor that wraps other tensors
        return 0


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the first and the last byte of a tensor in its memory."""
    local = _local(tensor)
    start = int(local.storage_offset())
    reach = sum((int(size) - 1) * int(stride) for size, stride in zip(local.shape, local.stride(), strict=True))
    return start * local.element_size(), (start + reach + 1) * local.element_size()


def _local(tensor: Any) -> Tensor:
    return tensor.to_local() if is_sharded(tensor) else tensor


def _same(held: Tensor, given: Any) -> bool:
    """Compare bit by bit, after the conversion of types that loading makes."""
    one, other = (_local(tensor).detach().to("cpu", held.dtype).contiguous().reshape(-1) for tensor in (held, given))
    return torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(f"'{name}'" for name in names[:_MOST_NAMES]) + rest


def _is_offloaded(value: Tensor) -> bool:
    return value.is_meta and not nn.parameter.is_lazy(value)
