"""Lineage of a run that was forked from another one: its ancestors, and the steps that it shares with them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from checkpoints.checkpoint import Checkpoint
from checkpoints.errors import Damaged
from checkpoints.storage.commit import naming, write_all
from checkpoints.storage.manifest import MANIFEST, read_manifest
from checkpoints.storage.regular_files import is_system_file, open_regular

__all__ = ["ancestors", "copy_steps", "recorded_by"]

_BLOCK = 2**20  # bytes


def ancestors(path: Path, info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the runs that a run was forked from, oldest first: their ``uuid`` and the ``step`` of the fork.

    Raise ``Damaged`` if ``info``, the content of ``run.json``, has a malformed list of them.
    """
    listed = info.get("ancestors", [])
    if not isinstance(listed, list) or not all(map(_is_ancestor, listed)):
        raise Damaged(f"{path / 'run.json'} has a malformed list of ancestors.")
    return listed


def recorded_by(path: Path, info: Mapping[str, Any], step: int) -> str:
    """Return the uuid of the run that recorded a step: an ancestor, for the steps that were copied from it."""
    return next((each["uuid"] for each in ancestors(path, info) if step <= each["step"]), str(info["uuid"]))


def _is_ancestor(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("uuid"), str) and type(value.get("step")) is int


def copy_steps(checkpoints: Iterable[Checkpoint], folder: Path) -> None:
    """Copy committed steps byte for byte into a staged folder, and compare each file with its manifest on the way."""
    for checkpoint in checkpoints:
        copied = folder / checkpoint.path.name
        with naming(copied):
            copied.mkdir()
        for name, entry in read_manifest(checkpoint.path).items():
            if not is_system_file(name) and _copy(checkpoint.path / name, copied / name) != entry["sha256"]:
                raise Damaged(f"{checkpoint.path / name} has changed since it was committed (SHA-256 differs).")
        _copy(checkpoint.path / MANIFEST, copied / MANIFEST)


def _copy(source: Path, target: Path) -> str:
    """Copy a regular file in blocks, and return the SHA-256 of its content."""
    digest = hashlib.sha256()
    reading = open_regular(source, os.O_RDONLY)
    try:
        with naming(target):
            writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                while block := os.read(reading, _BLOCK):
                    digest.update(block)
                    write_all(writing, memoryview(block))
            finally:
                os.close(writing)
    finally:
        os.close(reading)
    return digest.hexdigest()
