"""Manifest of a committed step, the size and SHA-256 of each file; and the JSON files of a run."""

from __future__ import annotations

import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from checkpoints.errors import Damaged
from checkpoints.storage.commit import sync, write_file
from checkpoints.storage.regular_files import (
    FileSignature,
    check_folder,
    check_regular,
    file_signature,
    file_size,
    is_settled,
    is_system_file,
    read_bytes,
    size_and_sha256,
)

__all__ = [
    "LEVELS",
    "MANIFEST",
    "check_as_written",
    "check_manifest",
    "checked_json",
    "encode_json",
    "read_json",
    "read_manifest",
    "write_json",
    "write_manifest",
]

MANIFEST = "MANIFEST.json"
LEVELS = ("size", "sha256")
_LARGEST_JSON = 2**24
_DEEPEST_JSON = 200  # levels; the limit when reading depends on the call depth of the reader


def write_manifest(folder: Path) -> None:
    """Write the size and hash of every file of a staged folder to ``MANIFEST.json``, and make the files durable."""
    files = {}
    with ThreadPoolExecutor(1, "sync") as disk:  # syncs a file to the disk while this thread hashes it from memory
        for path in sorted(folder.iterdir()):
            if not is_system_file(path.name):
                synced = disk.submit(sync, path)
                size, digest = size_and_sha256(path)
                files[path.name] = {"size": size, "sha256": digest}
                synced.result()
    write_json(folder / MANIFEST, {"format": "repsim-step", "format_version": 1, "files": files})


def check_manifest(folder: Path, level: str = "size") -> None:
    """Compare a committed folder with its manifest.

    Level ``"size"`` compares file sizes; ``"sha256"`` reads every byte. Raise ``Damaged`` if a file is missing, was
    added, has another size or other content. Files that operating systems create in any folder, such as ``.DS_Store``,
    are ignored.
    """
    if level not in LEVELS:
        raise ValueError(f"Unknown level '{level}'. Choose one of: {', '.join(LEVELS)}.")
    files = {name: entry for name, entry in read_manifest(folder).items() if not is_system_file(name)}
    present = {path.name for path in folder.iterdir() if not is_system_file(path.name)} - {MANIFEST}
    # A network file system may list a folder from its cache, so files that are not listed are looked up by name.
    missing = {name for name in set(files) - present if not os.path.lexists(folder / name)}
    if difference := sorted(present - set(files) | missing):
        state = "is missing" if difference[0] in missing else "is not in its manifest"
        raise Damaged(f"{folder / difference[0]} {state}.")
    for name, entry in files.items():
        _check_file(folder / name, entry, level)


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Return ``size`` and ``sha256`` of each committed file, by name; ``Damaged`` if the manifest has changed.

    It is read once per process while the signature of the file is the same.
    """
    check_folder(folder)
    path = folder / MANIFEST
    check_regular(path)
    signature = file_signature(path)
    files = _known_manifest(folder, signature) if is_settled(signature) else _read_manifest(folder)
    return {name: dict(entry) for name, entry in files.items()}


@lru_cache(maxsize=4096)
def _known_manifest(folder: Path, signature: FileSignature) -> dict[str, dict[str, Any]]:
    return _read_manifest(folder)


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    manifest = read_json(folder / MANIFEST)
    files = _check_entries(folder, manifest)
    check_as_written(folder / MANIFEST)
    return files


def checked_json(value: Any, name: str) -> Any:
    """Return a value after checking that it can be written as JSON."""
    try:
        encode_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} cannot be written as JSON ({error}); expected text, finite numbers and None.") from error
    return value


def _check_entries(folder: Path, manifest: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(manifest, dict) or manifest.get("format") != "repsim-step":
        raise Damaged(f"{folder / MANIFEST} is not a manifest of this format.")
    if manifest.get("format_version") != 1:
        raise Damaged(
            f"{folder / MANIFEST} has format version {manifest.get('format_version')}; this version of repsim reads 1."
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(_is_entry(name, entry) for name, entry in files.items()):
        raise Damaged(f"{folder / MANIFEST} has a malformed list of files.")
    return files


def _is_entry(name: str, entry: Any) -> bool:
    plain = "/" not in name and "\\" not in name and name not in ("", ".", "..")
    return plain and isinstance(entry, dict) and type(entry.get("size")) is int and "sha256" in entry


def _check_file(path: Path, entry: dict[str, Any], level: str) -> None:
    if level == "size":
        size, digest = file_size(path), entry["sha256"]
    else:  # at most one byte more than was committed is read
        size, digest = size_and_sha256(path, max(0, entry["size"]) + 1)
        if size > entry["size"]:
            size = max(size, file_size(path))
    if size != entry["size"]:
        raise Damaged(f"{path} has {size} bytes; {entry['size']} were committed.")
    if digest != entry["sha256"]:
        raise Damaged(f"{path} has changed since it was committed (SHA-256 differs).")


def write_json(path: Path, value: Any) -> None:
    """Write a new JSON file inside a staging directory; see ``encode_json``."""
    write_file(path, encode_json(value))


def encode_json(value: Any) -> bytes:
    """Return indented UTF-8 JSON.

    Values are refused that hold NaN, exceed the size or depth that readers accept, or have two keys that are equal in
    JSON, such as 1 and "1".
    """
    content = (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
    if len(content) > _LARGEST_JSON:
        raise ValueError(f"A JSON file would have {len(content)} bytes; at most {_LARGEST_JSON} can be read again.")
    _check_tree(value)
    return content


def _check_tree(value: Any) -> None:
    """Raise ValueError if readers would refuse the value, or lose a key."""
    level, depth = [value], 0
    while level:
        if depth > _DEEPEST_JSON:
            raise ValueError(
                f"A value is nested more than {_DEEPEST_JSON} levels deep; such JSON cannot be read again."
            )
        inner: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                _check_keys(node)
                inner += node.values()
            elif isinstance(node, list | tuple):
                inner += node
        level, depth = inner, depth + 1


def _check_keys(mapping: dict[Any, Any]) -> None:
    if all(isinstance(key, str) for key in mapping):
        return
    seen = set()
    for key in mapping:
        name = key if isinstance(key, str) else json.dumps(key)
        if name in seen:
            raise ValueError(f"Two keys of one mapping would both be written as '{name}'. Give them different names.")
        seen.add(name)


def read_json(path: Path) -> Any:
    """Return a JSON file's value; ``Damaged`` if the file is missing, not regular, too large, or not JSON."""
    return _parsed(path, read_bytes(path, _LARGEST_JSON))


def _parsed(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not readable JSON ({error}).") from error


def check_as_written(path: Path) -> None:
    """Raise Damaged if a JSON file has other bytes than ``write_json`` would write, such as a flipped bit in a space.

    The file is read only once, because a writer may replace it at any time.
    """
    content = read_bytes(path, _LARGEST_JSON)
    if not _is_as_written(path, content, _parsed(path, content)):
        raise Damaged(
            f"{path} has changed since it was written: its bytes differ from the canonical form of its value."
        )


def _is_as_written(path: Path, content: bytes, value: Any) -> bool:
    """Compare incrementally, because the indentation of deeply nested lists may exceed the file a thousandfold."""
    place = 0
    try:
        for text in itertools.chain(json.JSONEncoder(indent=2, allow_nan=False).iterencode(value), "\n"):
            encoded = text.encode()
            if not content.startswith(encoded, place):
                return False
            place += len(encoded)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not readable JSON ({error}).") from error
    return place == len(content)
