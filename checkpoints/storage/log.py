"""The log of a run, ``metrics.jsonl``: lines are only appended, and each commit stores the hash of the lines so far."""

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
    """An existing log, opened for appending. Threads may share it.

    A torn last line, which a crash can leave, is removed. ``confirm`` is called immediately before each change, and
    raises if this process may no longer write.
    """

    def __init__(self, path: Path, confirm: Callable[[], object] | None = None) -> None:
        self.path, self._confirm = path, confirm
        self._mutex = threading.Lock()
        self._written = 0, hashlib.sha256()  # size and hash of the log
        content = read_bytes(path)
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) != len(content):
            os.truncate(path, len(whole))
        self._set_written(whole)

    def append(self, line: bytes) -> None:
        """Append a line; if that fails, the log is as before."""
        with self._mutex:
            if self._confirm is not None:
                self._confirm()
            size, digest = self._written[0], self._written[1].copy()
            if self.path.stat().st_size > size:  # appending an earlier line failed, and so did removing it
                os.truncate(self.path, size)
            append_line(self.path, line)
            digest.update(line + b"\n")
            self._written = size + len(line) + 1, digest  # one assignment, so that Ctrl-C cannot separate the two

    def sync(self) -> dict[str, Any]:
        """Make all lines durable and return their ``size`` in bytes and ``sha256``."""
        with self._mutex:
            sync(self.path)
            size, digest = self._written
        return {"size": size, "sha256": digest.hexdigest()}

    def upto(self, step: int, least: int = 0) -> bytes:
        """Return the lines before the first line of a later step, but not less than the first ``least`` bytes."""
        size, lines = 0, read_bytes(self.path).splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            if _step_of(self.path, number, line) > step:
                break
            size += len(line)
        return b"".join(lines)[: max(size, least)]

    def replace(self, content: bytes) -> None:
        """Replace the content of the log; if that fails, it is the old or the new one."""
        with self._mutex:
            try:
                replace_file(self.path, content, self._confirm)
            finally:
                self._set_written(read_bytes(self.path))

    def _set_written(self, content: bytes) -> None:
        self._written = len(content), hashlib.sha256(content)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the logged objects; a torn last line is ignored, any other line that is not JSON raises ``Damaged``."""
    lines = read_bytes(path).split(b"\n")
    return [_parsed(path, number, line) for number, line in enumerate(lines[:-1], start=1)]


def check_prefixes(path: Path, prefixes: Iterable[tuple[str, Any]]) -> None:
    """Compare the beginning of the log with its state at each commit.

    ``prefixes`` has the name of each commit and the value that ``Log.sync`` returned at that time. Raise ``Damaged`` if
    the log is shorter than at a commit, or has changed since.
    """
    content = memoryview(read_bytes(path))
    digest, done = hashlib.sha256(), 0
    for origin, prefix in sorted(prefixes, key=lambda each: _prefix_size(path, *each)):
        size = _prefix_size(path, origin, prefix)
        if size > len(content):
            raise Damaged(f"{path} has {len(content)} bytes; {origin} was committed after {size}.")
        digest.update(content[done:size])
        done = size
        if digest.hexdigest() != prefix.get("sha256"):
            raise Damaged(f"{path} has changed since {origin} was committed (SHA-256 differs).")


def _prefix_size(path: Path, origin: str, prefix: Any) -> int:
    size = prefix.get("size") if isinstance(prefix, dict) else None
    if not isinstance(size, int) or size < 0:
        raise Damaged(f"{origin} does not state the size of {path}.")
    return size


def _step_of(path: Path, number: int, line: bytes) -> int:
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
    """Return nested values in which NaN and infinities are None, and scalars of NumPy and torch plain numbers."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a scalar of numpy or torch
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
