"""Plain files that somebody else may have made: only regular ones are read, no links, no more than expected."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from checkpoints.errors import Damaged

__all__ = [
    "FileSignature",
    "check_folder",
    "check_regular",
    "check_unchanged",
    "file_size",
    "is_regular",
    "is_settled",
    "left_by_system",
    "look",
    "read_bytes",
    "sha256",
    "size_and_sha256",
]

_BLOCK = 2**18  # bytes
_MOMENT = 10**8  # nanoseconds
_SYSTEM_NAMES = (
    *(".ds_store", "._*", ".appledouble", ".spotlight-v100", ".fseventsd"),  # macOS
    *("thumbs.db", "ehthumbs.db", "desktop.ini"),  # Windows
    *(".nfs*", ".fuse_hidden*", ".smbdelete*", ".afp_deleted_*", "@eadir", ".directory", ".snapshot"),  # file systems
)


def left_by_system(name: str) -> bool:
    """Tell whether a file of this name is made by operating and file systems, in any folder and without being asked."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in _SYSTEM_NAMES)


def is_regular(path: Path) -> bool:
    """Tell whether a regular file, and no link to one, stands at the path."""
    return path.is_file() and not path.is_symlink()


def check_regular(path: Path) -> None:
    """Raise Damaged unless a regular file stands at the path: what a link leads to may lie outside the run."""
    if not is_regular(path):
        raise Damaged(f"{path} is missing or not a regular file.")


def check_folder(path: Path) -> None:
    """Raise Damaged if there is a link, or no folder, at the path."""
    if path.is_symlink() or not path.is_dir():
        raise Damaged(f"{path} is missing or not a folder of its own (a link is not followed).")


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    Damaged
        If it is none, cannot be read, or holds more than ``most`` bytes.
    """
    check_regular(path)
    try:
        if most is not None and (size := path.stat().st_size) > most:
            raise Damaged(f"{path} has {size} bytes; at most {most} are read.")
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error


def file_size(path: Path) -> int:
    """Return the size of a regular file, opened first: a network file system may otherwise answer from memory.

    Raises
    ------
    Damaged
        If it is none or cannot be opened.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file as hexadecimal text; see ``size_and_sha256``."""
    return size_and_sha256(path)[1]


def size_and_sha256(path: Path, most: int | None = None) -> tuple[int, str]:
    """Return how many bytes can be read from a regular file, at most ``most``, and their SHA-256 as hexadecimal text.

    Raises
    ------
    Damaged
        If it is no regular file or cannot be read.
    """
    check_regular(path)
    digest, size, buffer = hashlib.sha256(), 0, memoryview(bytearray(_BLOCK))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer if most is None else buffer[: max(0, most - size)]):
                digest.update(buffer[:count])
                size += count
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error
    return size, digest.hexdigest()


def check_unchanged(path: Path, expected: str) -> None:
    """Compare every byte of a file with its SHA-256, once per process as long as the file looks the same.

    Raises
    ------
    Damaged
        If it is no regular file, or has changed.
    """
    check_regular(path)
    seen = look(path)
    if (_digest(path, seen) if is_settled(seen) else sha256(path)) != expected:
        raise Damaged(f"{path} has changed since it was committed (SHA-256 differs).")


class FileSignature(NamedTuple):
    """Signs of a change to a file, or of its replacement. ``changed`` is the later of two times, in nanoseconds."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


def look(path: Path) -> FileSignature:
    """Return the signs of a file without reading it."""
    state = path.stat()
    latest = max(state.st_mtime_ns, state.st_ctime_ns)
    return FileSignature(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, latest)


def is_settled(seen: FileSignature) -> bool:
    """Tell whether a file has not changed for a moment.

    One that has could change again without looking different, as the times that a file system keeps are coarse. What
    was read of it must not be remembered.
    """
    return abs(time.time_ns() - seen.changed) >= _MOMENT


@lru_cache(maxsize=65536)
def _digest(path: Path, seen: FileSignature) -> str:
    return sha256(path)
