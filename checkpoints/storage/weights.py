"""Reading of weights, from the file of a step or from a file of another program."""

from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from checkpoints.errors import Damaged
from checkpoints.storage.nested_state import unpack
from checkpoints.storage.regular_files import check_regular, read_bytes

__all__ = ["PACKED", "PACKED_METADATA", "read_safetensors", "read_weights"]

PACKED = "__packed__."  # prefix of tensors that are parts of other entries
PACKED_METADATA = "repsim"  # the key of the file's metadata that describes these entries

_FIRST_SAFE_TORCH = (2, 10)
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_weights(path: str | Path) -> dict[str, Any]:
    """Return a ``state_dict`` from a ``.safetensors`` file, or from a ``.pt``, ``.pth``, ``.bin`` or ``.ckpt`` one.

    Files of the latter types are pickles. They are read only by torch's restricted reader (``weights_only=True``), and
    only with torch 2.10 or newer: in earlier versions a file could corrupt memory (CVE-2026-24747) or, before 2.6, run
    code (CVE-2025-32434).

    Parameters
    ----------
    path : path
        A dict of tensors; a pickle may hold it under "state_dict", "model_state_dict" or "model".

    Returns
    -------
    dict of str to Tensor
        On the CPU. From a file that ``Run.checkpoint`` wrote, also the entries that are not tensors.

    Raises
    ------
    Damaged
        If the file is missing, cannot be read, or holds objects other than tensors.
    ValueError
        If the file is of another type, or is a pickle and torch is too old to read it safely.
    """
    suffix = Path(path).suffix
    path = Path(path).resolve()  # users' own links are followed, as in the caches of model hubs
    if suffix == ".safetensors":
        return read_safetensors(path)
    if suffix not in (".pt", ".pth", ".bin", ".ckpt"):
        raise ValueError(f"{path} has an unknown type; expected .safetensors, or .pt, .pth, .bin or .ckpt.")
    if _torch_version() < _FIRST_SAFE_TORCH:
        raise ValueError(
            f"{path} is a pickle, which torch {torch.__version__} does not read safely. Install torch 2.10 or newer, "
            "or convert the file to .safetensors where it is trusted."
        )
    check_regular(path)
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Damaged:
        raise
    except Exception as error:  # a malformed pickle can make its reader raise anything
        raise Damaged(
            f"{path} is not a file of plain tensors, but a whole model, other objects or no pickle; it was not read. "
            "Save model.state_dict()."
        ) from error
    return _state_dict(path, content)


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


def _check_archive(path: Path) -> None:
    """Raise Damaged if the records of a zip archive are compressed or overlap, and so exceed its size."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
        size = path.stat().st_size
        if sum(record.file_size for record in records) > size or any(record.compress_type for record in records):
            raise Damaged(f"{path} is a compressed archive; expected one as torch.save writes it.")


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise Damaged(f"{path} holds no dict of tensors, but a {type(content).__name__}.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise Damaged(
                f"{path} holds a {type(value).__name__} at '{name}'; expected tensors only, at the top or under one "
                f"of: {', '.join(_WRAPPERS)}."
            )
        if not _is_stored(value):
            raise Damaged(f"{path} claims more values at '{name}' than it stores, or stores them sparsely.")
    return dict(content)


def _is_stored(tensor: Tensor) -> bool:
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _torch_version() -> tuple[int, ...]:
    return tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
