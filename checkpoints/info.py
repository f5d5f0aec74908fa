"""What ``run.json`` says of a run: its name, settings, environment and state, sealed with a hash of its own."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from checkpoints.environment import environment
from checkpoints.errors import Damaged
from checkpoints.storage.manifest import check_as_written, encode_json, read_json

__all__ = ["checked_info", "new_info", "now", "read_info", "sealed"]

_FORMAT, _FORMAT_VERSION = "repsim-run", 1
_PARTS = {"uuid": str, "created": str, "config": dict, "environment": dict, "status": dict}


def new_info(config: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of a run that is made now."""
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
    """Return what ``run.json`` says, with the hash of all the rest of it last."""
    rest = {name: value for name, value in info.items() if name != "sha256"}
    return {**rest, "sha256": hashlib.sha256(encode_json(rest)).hexdigest()}


def read_info(path: Path) -> dict[str, Any]:
    """Return what the ``run.json`` of a run directory says.

    Raises
    ------
    Damaged
        If it cannot be read, is of another format or version, or lacks a part.
    """
    info = read_json(path / "run.json")
    if not isinstance(info, dict) or info.get("format") != _FORMAT:
        raise Damaged(f"{path / 'run.json'} is not of the format '{_FORMAT}'.")
    if (found := info.get("format_version")) != _FORMAT_VERSION:
        raise Damaged(f"{path} has format version {found}; this version of repsim reads {_FORMAT_VERSION}.")
    for key, kind in _PARTS.items():
        if not isinstance(info.get(key), kind):
            raise Damaged(f"{path / 'run.json'} has no {key}.")
    return info


def checked_info(path: Path) -> dict[str, Any]:
    """Return what ``run.json`` says if not a bit of it has changed.

    Raises
    ------
    Damaged
        Otherwise.
    """
    info = read_info(path)
    check_as_written(path / "run.json")
    if info != sealed(info):
        raise Damaged(f"{path / 'run.json'} has changed since it was written (SHA-256 differs).")
    return info


def now() -> str:
    """Return the time in UTC, as it is written everywhere in a run."""
    return datetime.now(UTC).isoformat(timespec="seconds")
