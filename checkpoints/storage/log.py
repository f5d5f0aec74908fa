"""The log of a run, ``metrics.jsonl``: lines are only added, and each commit keeps the hash of the lines before it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from checkpoints.errors import Damaged
from checkpoints.storage.commit import append_line, replace_file, sync
from checkpoints.storage.regular_files import read_bytes

__all__ = ["Log", "check_prefixes", "finite", "read_log"]


class Log:
    """The log that a writer adds to. It must exist.

    A torn last line, which a crash can leave, is dropped at once. Threads may share it.

    Parameters
    ----------
    path : Path
    confirm : callable, optional
        Called immediately before each change; raises if this process may no longer write (``Lock.confirm``).
    """

    def __init__(self, path: Path, confirm: Callable[[], object] | None = None) -> None:
        self.path, self._confirm = path, confirm
        self._turn = threading.Lock()
        self._known = 0, hashlib.sha256()  # how much the log holds, and of what
        content = read_bytes(path)
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) != len(content):
            os.truncate(path, len(whole))
        self._know(whole)

    def append(self, line: bytes) -> None:
        """Add a line; if that fails, nothing of it stays."""
        with self._turn:
            if self._confirm is not None:
                self._confirm()
            size, digest = self._known[0], self._known[1].copy()
            if self.path.stat().st_size > size:  # an earlier line failed, and so did taking it back
                os.truncate(self.path, size)
            append_line(self.path, line)
            digest.update(line + b"\n")
            self._known = size + len(line) + 1, digest  # both at once, whenever Ctrl-C comes

    def sync(self) -> dict[str, Any]:
        """Make all lines durable and return their ``size`` in bytes and ``sha256``."""
        with self._turn:
            sync(self.path)
            size, digest = self._known
        return {"size": size, "sha256": digest.hexdigest()}

    def upto(self, step: int, least: int = 0) -> bytes:
        """Return the lines before the first that belongs to a later step, and at any rate the first ``least`` bytes."""
        kept, lines = 0, read_bytes(self.path).splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            if _step(self.path, number, line) > step:
                break
            kept += len(line)
        return b"".join(lines)[: max(kept, least)]

    def replace(self, content: bytes) -> None:
        """Make ``content`` the whole log; if that fails, it is the old or the new one."""
        with self._turn:
            try:
                replace_file(self.path, content, self._confirm)
            finally:
                self._know(read_bytes(self.path))

    def _know(self, content: bytes) -> None:
        self._known = len(content), hashlib.sha256(content)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the logged objects; a torn last line is ignored.

    Raises
    ------
    Damaged
        If the log is missing or any other line is not a JSON object.
    """
    lines = read_bytes(path).split(b"\n")
    return [_parsed(path, number, line) for number, line in enumerate(lines[:-1], start=1)]


def check_prefixes(path: Path, prefixes: Iterable[tuple[str, Any]]) -> None:
    """Compare the beginning of the log with what it was at each commit.

    Parameters
    ----------
    path : Path
    prefixes : iterable of (str, dict)
        The name of each commit, for messages, and the value that ``Log.sync`` returned then.

    Raises
    ------
    Damaged
        If it is shorter or other than it was; the message names the log and who says so.
    """
    content = memoryview(read_bytes(path))
    digest, done = hashlib.sha256(), 0
    for origin, prefix in sorted(prefixes, key=lambda each: _size(path, *each)):
        size = _size(path, origin, prefix)
        if size > len(content):
            raise Damaged(f"{path} has {len(content)} bytes; {origin} was committed after {size}.")
        digest.update(content[done:size])
        done = size
        if digest.hexdigest() != prefix.get("sha256"):
            raise Damaged(f"{path} has changed since {origin} was committed (SHA-256 differs).")


def _size(path: Path, origin: str, prefix: Any) -> int:
    size = prefix.get("size") if isinstance(prefix, dict) else None
    if not isinstance(size, int) or size < 0:
        raise Damaged(f"{origin} does not say how long {path} was.")
    return size


def _step(path: Path, number: int, line: bytes) -> int:
    step = _parsed(path, number, line).get("step", 0)
    if not isinstance(step, int):
        raise Damaged(f"Line {number} of {path} has step {step!r}; expected a whole number.")
    return step


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise Damaged(f"Line {number} of {path} is not a JSON object.")
    return record


def finite(value: Any) -> Any:
    """Return nested values with null for NaN and infinities, and plain numbers for scalars of NumPy and torch."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a scalar of numpy or torch
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
