"""Reading of weights: files and folders of other programs, and the state dicts that they hold."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from checkpoints.errors import Damaged
from checkpoints.storage.nested_state import unpack
from checkpoints.storage.pickled_files import StandIn, read_pickle
from checkpoints.storage.regular_files import read_bytes
from checkpoints.storage.weight_paths import INDEX, Shards, read_index, weight_path

__all__ = ["PACKED", "PACKED_METADATA", "WeightFile", "read_safetensors", "read_weights"]

PACKED = "__packed__."  # prefix of tensors that are parts of other entries
PACKED_METADATA = "repsim"  # the key of the file's metadata that describes these entries

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_MOST_DEPTH = 5  # of keys below one another
_MOST_KEYS = 12  # that a message lists


def read_weights(path: str | Path, key: str | None = None) -> dict[str, Any]:
    """Return a ``state_dict`` from a file or folder of weights.

    Pickles (all files but ``.safetensors``) are read only by torch's restricted reader (``weights_only=True``), and
    only with torch 2.10 or newer: in earlier versions a file could corrupt memory (CVE-2026-24747) or, before 2.6, run
    code (CVE-2025-32434). Objects of other classes beside the tensors are not built.

    Parameters
    ----------
    path : path
        A ``.safetensors``, ``.pt``, ``.pth``, ``.bin``, ``.ckpt`` or ``.tar`` file, the ``.index.json`` of several such
        files, or a folder of ``save_pretrained``, ``save_model`` or ``save_state`` (transformers, accelerate).
    key : str, optional
        Where the file holds the state dict, with dots for dicts within dicts, such as ``"ema.model"``; or the prefix
        of the names to return. By default the only dict of tensors, or the one under "state_dict", "model_state_dict"
        or "model".

    Returns
    -------
    dict of str to Tensor
        On the CPU. From a file that ``Run.checkpoint`` wrote, also the entries that are not tensors.

    Raises
    ------
    Damaged
        If the file is missing, cannot be read, or holds no dict of tensors.
    ValueError
        If the file is of another type, there is no such key, several dicts of tensors could be meant, or the file is a
        pickle and torch is too old to read it safely.
    """
    file = WeightFile.read(path)
    found = file.state_dicts(key)
    usual = [name for name in found if name and set(name.split(".")) <= set(_WRAPPERS)]
    if len(found) > 1 and len(usual) != 1:
        raise ValueError(f"{path} holds several dicts of tensors; choose one with key: {listed_keys(found)}.")
    state = found[usual[0]] if usual else next(iter(found.values()))
    for name, value in state.items():
        if not isinstance(name, str) or (file.is_pickled and not isinstance(value, Tensor)):
            kind = value.name if isinstance(value, StandIn) else type(value).__name__
            raise Damaged(f"{path} holds a {kind} at '{name}'; expected a dict of tensors only.")
    file.check_stored(state)
    return state if isinstance(state, OrderedDict) and not file.is_pickled else dict(state)


@dataclass(frozen=True)
class WeightFile:
    """The content of a file or folder of weights.

    Attributes
    ----------
    path : Path
        As it was given.
    files : tuple of Path
        What was read: one file, or the index of several and these.
    content : object
        A dict of tensors, or what a pickle holds.
    """

    path: Path
    files: tuple[Path, ...]
    content: Any

    @classmethod
    def read(cls, path: str | Path) -> WeightFile:
        """Read all of a file or folder; see ``read_weights``."""
        path = Path(path)
        file = weight_path(path)
        if not file.name.endswith(INDEX):
            return cls(path, (file,), _read_one(file))
        shards = read_index(file)
        return cls(path, (file, *shards.files), _joined(file, shards))

    @property
    def is_pickled(self) -> bool:
        """Whether the tensors come from pickles, so that other objects may be beside them."""
        return self.files[-1].suffix != ".safetensors"

    def state_dicts(self, key: str | None = None) -> dict[str, Mapping[str, Any]]:
        """Return every dict that holds tensors itself, by its dotted key; ``""`` is the whole content.

        State of optimizers is left out. With a key, only the dict there is returned.

        Raises
        ------
        Damaged
            If there is no dict of tensors.
        ValueError
            If the key is not there, or holds no tensors.
        """
        if key is not None:
            return {key: self._at(key)}
        found = {"": self.content} if not self.is_pickled else dict(_dicts_of_tensors(self.content, ()))
        if not found:
            raise Damaged(f"{self.path} holds no dict of tensors, but {self._described()} Save model.state_dict().")
        return found

    def number(self, key: str) -> int:
        """Return the whole number of 0 or more that is at a dotted key, beside the weights.

        Raises
        ------
        ValueError
            If there is no such key, several values could be meant, or the value is not such a number.
        """
        found = [value for value in _values_at(self.content, key) if not isinstance(value, Mapping)]
        if not found:
            held = (
                listed_keys(self.content) if isinstance(self.content, Mapping) else f"a {type(self.content).__name__}"
            )
            raise ValueError(f"{self.path} holds no number at key '{key}'; it holds: {held or 'nothing'}.")
        if len(found) > 1:
            raise ValueError(f"{self.path} holds {len(found)} values at key '{key}'; expected one. Give another key.")
        (value,) = found
        if isinstance(value, Tensor) and value.numel() == 1 and _is_stored(value) and not value.is_complex():
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != value // 1:
            shown = value.name if isinstance(value, StandIn) else f"{value!r:.40}"
            raise ValueError(f"{self.path} holds {shown} at key '{key}'; expected a whole number of 0 or more.")
        return int(value)

    def check_stored(self, state: Mapping[str, Any]) -> None:
        """Raise Damaged if a tensor claims more values than the file stores."""
        for name, value in state.items():
            if isinstance(value, Tensor) and not _is_stored(value):
                raise Damaged(f"{self.path} claims more values at '{name}' than it stores, or stores them sparsely.")

    def _at(self, key: str) -> Mapping[str, Any]:
        found = [value for value in _values_at(self.content, key) if _holds_tensors(value)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{self.path} holds '{key}' both as a key and as the prefix of names; choose another key.")
        keys = listed_keys(dict(_dicts_of_tensors(self.content, ()))) or "none"
        raise ValueError(f"{self.path} holds no dict of tensors at key '{key}'; its dicts of tensors are: {keys}.")

    def _described(self) -> str:
        """Return what the file holds in place of tensors, as the end of a sentence."""
        if isinstance(self.content, StandIn):
            return f"a whole {self.content.name}, which cannot be read without its code."
        if not isinstance(self.content, Mapping):
            return f"a {type(self.content).__name__}."
        if "param_groups" in self.content:
            return "the state of an optimizer."
        whole = [(name, value.name) for name, value in self.content.items() if isinstance(value, StandIn)]
        if whole:
            name, kind = whole[0]
            return f"a whole {kind} at '{name}', which cannot be read without its code."
        return f"a dict with {listed_keys(self.content) or 'no keys'}."


def listed_keys(keys: Mapping[Any, Any]) -> str:
    """Return keys for a message; that of the whole content is shown as the top level."""
    shown = [str(key) or "(top level)" for key in list(keys)[:_MOST_KEYS]]
    return ", ".join(shown) + (f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else "")


def read_safetensors(path: Path) -> dict[str, Any]:
    """Return the tensors of a safetensors file, by name in alphabetical order.

    In the ``weights.safetensors`` of a step, entries that are not tensors, such as the packed parameters of quantized
    layers, are reassembled.
    """
    content = read_bytes(path)
    try:
        tensors = dict(sorted(safetensors.torch.load(content).items()))  # the order in the file varies
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        described = header.get("__metadata__", {}).get(PACKED_METADATA)
        return tensors if described is None else _with_packed(tensors, json.loads(described))
    except (KeyError, SafetensorError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        # KeyError: a type that torch does not have; others: an invalid shape or description
        raise Damaged(f"{path} cannot be read ({error}).") from error


def _with_packed(tensors: dict[str, Tensor], described: dict[str, Any]) -> dict[str, Any]:
    parts = {name: value for name, value in tensors.items() if name.startswith(PACKED)}
    whole = {name: value for name, value in tensors.items() if name not in parts}
    others = unpack(parts, described["entries"])
    state = OrderedDict(sorted({**whole, **others}.items()))
    versions = described["versions"].items()
    state._metadata = {module: {"version": version} for module, version in versions}  # type: ignore[attr-defined]
    return state


def _read_one(file: Path) -> Any:
    real = file.resolve()  # users' own links are followed, as in the caches of model hubs
    return read_safetensors(real) if file.suffix == ".safetensors" else read_pickle(real)


def _joined(index: Path, shards: Shards) -> dict[str, Any]:
    """Return the entries of several files; those that the index does not name are left out."""
    joined: dict[str, Any] = {}
    for file, names in shards.names.items():
        content = _read_one(file)
        if not isinstance(content, Mapping) or (absent := [name for name in names if name not in content]):
            lacking = absent[0] if isinstance(content, Mapping) else names[0]
            raise Damaged(f"{file} does not hold '{lacking}', which {index.name} says it does.")
        joined.update((name, content[name]) for name in names)
    return joined


def _dicts_of_tensors(content: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(content, Mapping) or "param_groups" in content or len(path) > _MOST_DEPTH:
        return
    if _holds_tensors(content):
        yield ".".join(path), content
    for key, value in content.items():
        if isinstance(key, str):
            yield from _dicts_of_tensors(value, (*path, key))


def _holds_tensors(content: Any) -> bool:
    return isinstance(content, Mapping) and any(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )


def _values_at(content: Any, key: str) -> Iterator[Any]:
    """Yield what a dotted key may mean: keys may hold dots themselves, and the last part may be a prefix of names."""
    if not isinstance(content, Mapping):
        return
    if key in content:
        yield content[key]
    named = {name: value for name, value in content.items() if isinstance(name, str) and name.startswith(f"{key}.")}
    if _holds_tensors(named):
        yield {name.removeprefix(f"{key}."): value for name, value in named.items()}
    parts = key.split(".")
    for count in range(1, len(parts)):
        yield from _values_at(content.get(".".join(parts[:count])), ".".join(parts[count:]))


def _is_stored(tensor: Tensor) -> bool:
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
