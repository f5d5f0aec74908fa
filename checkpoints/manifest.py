"""What a committed step consists of: the size and SHA-256 of each of its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from checkpoints.commit import write_file
from checkpoints.errors import Damaged

__all__ = ["LEVELS", "check_manifest", "encode_json", "read_json", "sha256", "write_json", "write_manifest"]

MANIFEST = "MANIFEST.json"
LEVELS = ("size", "sha256")


def write_manifest(folder: Path) -> None:
    """Describe every file of a staged folder in ``MANIFEST.json``, written last."""
    files = {path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())}
    write_json(folder / MANIFEST, {"format": "repsim-step", "format_version": 1, "files": files})


def check_manifest(folder: Path, level: str = "size") -> None:
    """Compare a committed folder with its manifest.

    Parameters
    ----------
    folder : Path
    level : str, default "size"
        ``"size"`` compares file sizes; ``"sha256"`` reads every byte.

    Raises
    ------
    Damaged
        If a file is missing, added, of another size, or (level "sha256") of other content; the message names it.
    ValueError
        If the level is unknown.
    """
    if level not in LEVELS:
        raise ValueError(f"Unknown level '{level}'. Choose one of: {', '.join(LEVELS)}.")
    manifest = read_json(folder / MANIFEST)
    files = _check_entries(folder, manifest)
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    if difference := sorted(present ^ set(files)):
        state = "is not in its manifest" if difference[0] in present else "is missing"
        raise Damaged(f"{folder / difference[0]} {state}.")
    for name, entry in files.items():
        _check_file(folder / name, entry, level)


def _check_entries(folder: Path, manifest: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(manifest, dict) or manifest.get("format") != "repsim-step":
        raise Damaged(f"{folder / MANIFEST} is not a manifest of this format.")
    if manifest.get("format_version") != 1:
        raise Damaged(f"{folder / MANIFEST} has format version {manifest.get('format_version')}; this reader knows 1.")
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(_is_entry(name, entry) for name, entry in files.items()):
        raise Damaged(f"{folder / MANIFEST} has a malformed list of files.")
    return files


def _is_entry(name: str, entry: Any) -> bool:
    plain = "/" not in name and "\\" not in name and name not in ("", ".", "..")
    return plain and isinstance(entry, dict) and isinstance(entry.get("size"), int) and "sha256" in entry


def _check_file(path: Path, entry: dict[str, Any], level: str) -> None:
    if path.is_symlink() or not path.is_file():
        raise Damaged(f"{path} is not a regular file.")
    if (size := path.stat().st_size) != entry["size"]:
        raise Damaged(f"{path} has {size} bytes; {entry['size']} were committed.")
    if level == "sha256" and sha256(path) != entry["sha256"]:
        raise Damaged(f"{path} has changed since it was committed (SHA-256 differs).")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a new JSON file inside a staging directory."""
    write_file(path, encode_json(value))


def encode_json(value: Any) -> bytes:
    """Return indented UTF-8 JSON; NaN is refused, as it is not JSON."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Return a JSON file's value, or raise Damaged naming the file."""
    if path.is_symlink() or not path.is_file():
        raise Damaged(f"{path} is missing or not a regular file.")
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not readable JSON ({error}).") from error
