"""Lease files beside a lock: listing and reading them, and finding out whether the process in one has ended."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import time
import uuid
from pathlib import Path
from typing import Any

from checkpoints.storage.regular_files import open_regular

__all__ = [
    "describe_holder",
    "has_ended",
    "holder_of_this_process",
    "is_forgotten",
    "lease_number",
    "leases",
    "read_lease",
]

_LONGEST = 4096  # bytes of a lease file
_MOST = 64  # lease files beside one lock
_FORGOTTEN = 3600  # seconds; clocks of hosts that share files differ by less


def leases(lock: Path) -> dict[Path, bytes]:
    """Return the content of each lease file beside a lock."""
    pattern = re.compile(rf"{re.escape(lock.stem)}\.lease-[0-9]{{1,9}}")
    names = (path.name for path in lock.parent.iterdir())
    paths = [lock.with_name(name) for name in names if pattern.fullmatch(name)]
    if len(paths) > _MOST:
        raise OSError(errno.EINVAL, f"{len(paths)} leases are beside this lock; at most {_MOST} are read", str(lock))
    contents = {path: read_lease(path) for path in sorted(paths)}
    return {path: content for path, content in contents.items() if content is not None}


def lease_number(path: Path) -> int:
    """Return the number at the end of a lease file's name."""
    return int(path.name.rpartition("-")[2])


def read_lease(path: Path) -> bytes | None:
    """Return the content of a lease file, or None if it is gone; opening makes a network file system ask the server."""
    try:
        descriptor = open_regular(path, os.O_RDONLY)
        try:
            return os.read(descriptor, _LONGEST)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return None
        raise OSError(error.errno, f"{error.strerror}; {path} could not be read", str(path)) from error


def is_forgotten(path: Path) -> bool:
    """Return whether the last heartbeat of a lease was more than an hour ago."""
    try:
        return abs(time.time() - path.stat().st_mtime) > _FORGOTTEN
    except OSError:
        return False


def holder_of_this_process() -> dict[str, Any]:
    """Return the description of this process that a lease file contains."""
    process = os.getpid()
    return {"pid": process, "host": platform.node(), "place": _place(), "started": _started(process)}


def describe_holder(found: dict[Path, bytes]) -> str | None:
    """Return the process and host in the lease of the highest number, or None if no lease names one."""
    holders = [holder for path in sorted(found, key=lease_number) if (holder := _parsed(found[path]))]
    return f"process {holders[-1]['pid']} on {holders[-1]['host']}" if holders else None


def has_ended(content: bytes) -> bool:
    """Return whether the holder was a process of this host that has ended; False if that is unknown."""
    holder = _parsed(content)
    if holder is None or holder["place"] != _place():
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _started(holder["pid"]) not in (holder["started"], "")


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        holder = json.loads(content)
        kinds = {"pid": int, "host": str, "place": str, "started": str}
        valid = all(type(holder[name]) is kind for name, kind in kinds.items()) and 0 < holder["pid"] < 2**31
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return holder if valid else None


def _place() -> str:
    """Return the scope within which process ids are unique: host, boot and, for containers, name space."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = f"{uuid.getnode():x}"
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return f"{platform.node()} {boot} {space}"


def _started(process: int) -> str:
    """Return the start time of a process in clock ticks since boot, "ended" for a zombie, or "" if unknown."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in "ZX" else fields[19]
