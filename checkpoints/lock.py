"""One writer a run: an advisory lock that the operating system drops with the process that holds it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import stat
import time
from pathlib import Path
from typing import IO

__all__ = ["Lock", "Locked", "is_locked"]

_PATIENCE = 0.2  # seconds


class Locked(OSError):
    """Another process is writing this run."""


class Lock:
    """Hold ``path`` exclusively until ``release``; the file says who holds it, and is empty when nobody does.

    Attributes
    ----------
    taken_over_from : str or None
        The process that died while it held the lock, which is free since then.

    Raises
    ------
    Locked
        If another process, or another Lock of this one, holds it.
    OSError
        If it is no regular file, cannot be written, or lies where files cannot be locked.
    """

    def __init__(self, path: Path) -> None:
        self._process = os.getpid()
        self._file: IO[str] | None = _open(path, os.O_RDWR | os.O_CREAT, "r+")
        try:
            _acquire(self._file)
            self.taken_over_from = _owner(self._file)
            self._write(json.dumps({"pid": os.getpid(), "host": platform.node()}))
        except BlockingIOError as error:
            owner = _owner(self._file) or "another process"
            self._close()
            raise Locked(
                f"{path.parent} is being written by {owner}. Wait for it, or stop it; readers may go on."
            ) from error
        except OSError as error:
            self._close()
            raise OSError(error.errno, f"{error.strerror}; {path} could not be locked", str(path)) from error
        except BaseException:
            self._close()
            raise

    def release(self) -> None:
        """Let others write; calling it twice does nothing."""
        if self._file is not None and self._process != os.getpid():
            self._close()  # a forked child has a copy: the lock is its parent's
        if self._file is not None:
            try:
                self._write("")
            except OSError:
                pass  # the name stays; the next writer will say that it took the lock over
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)  # closing is not enough while a forked worker has a copy
                self._close()

    def _write(self, text: str) -> None:
        assert self._file is not None
        content, written = text.encode(), 0
        os.ftruncate(self._file.fileno(), 0)
        while written < len(content):
            written += os.pwrite(self._file.fileno(), content[written:], written)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_locked(path: Path) -> bool:
    """Tell whether a writer holds the lock now, without taking it from anyone."""
    try:
        with _open(path, os.O_RDONLY, "r") as file:
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


def _owner(file: IO[str]) -> str | None:
    """Return who the file says holds it, or None if it does not say."""
    try:
        file.seek(0)
        owner = json.loads(file.read(1000))
        return f"process {int(owner['pid'])} on {owner['host']}"
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _open(path: Path, flags: int, mode: str) -> IO[str]:
    """Open a regular file and nothing else: a link may lead out of the run, and a pipe would not return."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "A link is not followed", str(path))
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return os.fdopen(descriptor, mode, encoding="utf-8")
