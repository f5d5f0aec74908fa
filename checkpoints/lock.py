"""One writer a run: an advisory lock that the operating system drops with the process that holds it."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from pathlib import Path
from typing import IO

__all__ = ["Lock", "Locked", "is_locked"]

_PATIENCE = 0.2  # seconds


class Locked(OSError):
    """Another process is writing this run."""


class Lock:
    """Hold ``path`` exclusively until ``release``; the file says who holds it.

    Raises
    ------
    Locked
        If another process, or another Lock of this one, holds it.
    """

    def __init__(self, path: Path) -> None:
        self._file: IO[str] | None = path.open("a+", encoding="utf-8")
        try:
            _acquire(self._file)
            self._file.seek(0)
            self._file.truncate()
            json.dump({"pid": os.getpid(), "host": platform.node()}, self._file)
            self._file.flush()
        except BlockingIOError as error:
            owner = _owner(self._file)
            self._close()
            raise Locked(
                f"{path.parent} is being written by {owner}. Wait for it, or stop it; readers may go on."
            ) from error
        except BaseException:
            self._close()
            raise

    def release(self) -> None:
        """Let others write; calling it twice does nothing."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # closing is not enough while a forked worker has a copy
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_locked(path: Path) -> bool:
    """Tell whether a writer holds the lock now, without taking it from anyone."""
    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _acquire(file: IO[str]) -> None:
    """Try for a moment: a reader that asks whether the run is locked shares the lock for an instant."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PATIENCE / 20)


def _owner(file: IO[str]) -> str:
    file.seek(0)
    try:
        owner = json.load(file)
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
