"""The file ``run.json``: identity, settings, environment and status of a run, sealed with a hash of the rest."""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from checkpoints.errors import Damaged
from checkpoints.storage.manifest import check_as_written, encode_json, read_json

__all__ = ["checked_info", "environment", "new_info", "now", "read_info", "sealed"]

_FORMAT, _FORMAT_VERSION = "repsim-run", 1
_REQUIRED = {"uuid": str, "created": str, "config": dict, "environment": dict, "status": dict}


def new_info(config: dict[str, Any]) -> dict[str, Any]:
    """Return the content of ``run.json`` for a new run, not yet sealed."""
    return {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "uuid": str(uuid.uuid4()),
        "created": now(),
        "config": config,
        "config_hash": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "environment": environment(),
        "status": {"state": "created"},
    }


def sealed(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``run.json`` with the SHA-256 of all other entries as its last entry."""
    rest = {name: value for name, value in info.items() if name != "sha256"}
    return {**rest, "sha256": hashlib.sha256(encode_json(rest)).hexdigest()}


def read_info(path: Path) -> dict[str, Any]:
    """Return the content of the ``run.json`` of a run directory; ``Damaged`` if it is not one of this format."""
    info = read_json(path / "run.json")
    if not isinstance(info, dict) or info.get("format") != _FORMAT:
        raise Damaged(f"{path / 'run.json'} is not of the format '{_FORMAT}'.")
    if (found := info.get("format_version")) != _FORMAT_VERSION:
        raise Damaged(f"{path} has format version {found}; this version of repsim reads {_FORMAT_VERSION}.")
    for key, kind in _REQUIRED.items():
        if not isinstance(info.get(key), kind):
            raise Damaged(f"{path / 'run.json'} has no {key}.")
    return info


def checked_info(path: Path) -> dict[str, Any]:
    """Return the content of ``run.json`` after comparing the file with its own hash; ``Damaged`` if it has changed."""
    info = read_info(path)
    check_as_written(path / "run.json")
    if info != sealed(info):
        raise Damaged(f"{path / 'run.json'} has changed since it was written (SHA-256 differs).")
    return info


def now() -> str:
    """Return the current time in UTC as ISO 8601 text."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Return versions, platform, device and thread count, which influence the numbers of a run, as its config does."""
    import torch  # imported here, because reading a run needs no torch

    packages = ("repsim-sg", "torch", "numpy", "scikit-learn", "h5py", "safetensors")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "packages": {name: _version(name) for name in packages},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
