"""Regular files from an untrusted source: no links or pipes are opened, and no more bytes read than expected."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import stat
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
    "file_signature",
    "file_size",
    "is_regular",
    "is_settled",
    "is_system_file",
    "open_regular",
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


def is_system_file(name: str) -> bool:
    """Return whether operating systems or file systems create files of this name, such as ``.DS_Store``."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in _SYSTEM_NAMES)


def is_regular(path: Path) -> bool:
    """Return whether the path is a regular file and not a link to one."""
    return path.is_file() and not path.is_symlink()


def check_regular(path: Path) -> None:
    """Raise Damaged unless the path is a regular file; the target of a link may lie outside the run."""
    if not is_regular(path):
        raise Damaged(f"{path} is missing or not a regular file.")


def check_folder(path: Path) -> None:
    """Raise Damaged unless the path is a folder and not a link to one."""
    if path.is_symlink() or not path.is_dir():
        raise Damaged(f"{path} is missing or not a folder (links are not followed).")


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """Return the content of a regular file; ``Damaged`` if there is none or it has more than ``most`` bytes."""
    check_regular(path)
    try:
        if most is not None and (size := path.stat().st_size) > most:
            raise Damaged(f"{path} has {size} bytes; at most {most} are read.")
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error


def open_regular(path: Path, flags: int) -> int:
    """Return the descriptor of a regular file; a link may lead out of the run, and opening a pipe may not return."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "Links are not followed", str(path))
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return descriptor


def file_size(path: Path) -> int:
    """Return the size of a regular file; it is opened, because a network file system may otherwise use a cache."""
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
    """Return the number of bytes of a regular file, at most ``most``, and their SHA-256 as hexadecimal text."""
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
    """Compare a file with its SHA-256; every byte is read once per process while the file's signature is the same."""
    check_regular(path)
    signature = file_signature(path)
    if (_digest(path, signature) if is_settled(signature) else sha256(path)) != expected:
        raise Damaged(f"{path} has changed since it was committed (SHA-256 differs).")


class FileSignature(NamedTuple):
    """What differs after a file was changed or replaced; ``changed`` is the later of two times, in nanoseconds."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


def file_signature(path: Path) -> FileSignature:
    """Return the signature of a file without reading its content."""
    state = path.stat()
    latest = max(state.st_mtime_ns, state.st_ctime_ns)
    return FileSignature(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, latest)


def is_settled(signature: FileSignature) -> bool:
    """Return whether a file has not changed for a moment, so that its content may be cached under its signature.

    A file that has just changed could change again under the same signature, because time stamps are coarse.
    """
    return abs(time.time_ns() - signature.changed) >= _MOMENT


@lru_cache(maxsize=65536)
def _digest(path: Path, signature: FileSignature) -> str:
    return sha256(path)
