"""Lock of a run, so that one process writes it: ``flock``, and a lease for file systems that do not share locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO

from checkpoints.storage.commit import write_all
from checkpoints.storage.lease import Lease, Locked, is_leased, locked_by
from checkpoints.storage.regular_files import open_regular

__all__ = ["Lock", "Locked", "is_locked"]

_PATIENCE = 0.2  # seconds
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class Lock:
    """Hold a lock file exclusively until ``release``; the file names its holder, and is empty if it has none.

    Parameters
    ----------
    path : Path
        The lock file, e.g. ``run.lock``. It is locked with ``flock`` if the file system allows that, and always with a
        lease beside it (``checkpoints.storage.lease``): some network file systems refuse ``flock``, others grant it on
        two hosts at once.

    Attributes
    ----------
    taken_over_from : str or None
        The process that held the lock before and ended, or lost its lease, without releasing it.

    Raises
    ------
    Locked
        If another process, or another Lock of this process, holds the file.
    OSError
        If the file is not a regular file, or cannot be written or locked.
    """

    def __init__(self, path: Path) -> None:
        self._process = os.getpid()
        self._lease: Lease | None = None
        self._file: IO[str] | None = _open(path, os.O_RDWR | os.O_CREAT, "r+")
        try:
            _acquire(self._file)
            self._lease = Lease(path)
            self._ending = weakref.finalize(self, self._lease.release)
            self.taken_over_from = _named_holder(self._file)
            self._write(json.dumps({"pid": os.getpid(), "host": platform.node()}))
        except BlockingIOError as error:
            holder = _named_holder(self._file)
            self._close()
            raise locked_by(path, holder) from error
        except Locked:
            self._close()
            raise
        except OSError as error:
            self._close()
            raise OSError(error.errno, f"{error.strerror}; {path} could not be locked", str(path)) from error
        except BaseException:
            self._close()
            raise

    def confirm(self) -> None:
        """Raise Locked if another process has taken the lock over; to be called immediately before each commit."""
        if self._lease is not None:
            self._lease.confirm()

    def moved_to(self, path: Path) -> None:
        """Follow the lock file to its new path after its folder was renamed."""
        if self._lease is not None:
            self._lease.moved_to(path)

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        if self._file is not None and self._process != os.getpid():
            self._close()  # in a forked child: the lock belongs to its parent
        if self._file is not None:
            try:
                self.confirm()
                self._write("")
            except OSError:
                pass  # the file keeps this holder's name, or names the next writer already
            finally:
                self._close()

    def _write(self, text: str) -> None:
        assert self._file is not None
        os.ftruncate(self._file.fileno(), 0)
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        write_all(self._file.fileno(), text.encode())

    def _close(self) -> None:
        """Release the lease, then the lock, so that the next holder of the lock finds no lease."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        if self._file is not None:
            if self._process == os.getpid():
                with suppress(OSError):  # closing does not suffice while a forked worker has a copy of the descriptor
                    fcntl.flock(self._file, fcntl.LOCK_UN)
            self._file.close()
            self._file = None


def is_locked(path: Path) -> bool:
    """Return whether a writer holds the lock, without acquiring it.

    If the holder is on another host, this waits for its next heartbeat, at most 4 seconds.
    """
    try:
        file = _open(path, os.O_RDONLY, "r")
    except FileNotFoundError:
        return path.parent.is_dir() and is_leased(path)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    return is_leased(path)


def _acquire(file: IO[str]) -> None:
    """Lock the file, with retries for a moment, because ``is_locked`` in a reader shares the lock for an instant."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PATIENCE / 20)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return  # the lease alone must do


def _named_holder(file: IO[str]) -> str | None:
    """Return the process and host in the file, or None if it contains none."""
    try:
        file.seek(0)
        holder = json.loads(file.read(1000))
        return f"process {int(holder['pid'])} on {holder['host']}"
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _open(path: Path, flags: int, mode: str) -> IO[str]:
    return os.fdopen(open_regular(path, flags), mode, encoding="utf-8")
