"""One writer per run: a lock of the operating system, and a lease for file systems that do not share locks."""

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
from checkpoints.storage.lease import Lease, Locked, is_leased, open_regular, refusal

__all__ = ["Lock", "Locked", "is_locked"]

_PATIENCE = 0.2  # seconds
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class Lock:
    """Hold ``path`` exclusively until ``release``; the file names its holder, and is empty when nobody holds it.

    Parameters
    ----------
    path : Path
        The lock file, e.g. ``run.lock``. It is locked with ``flock`` where the file system allows that, and a lease
        (``checkpoints.storage.lease``) is held beside it in any case: some network file systems refuse ``flock``,
        others grant it on two hosts at once.

    Attributes
    ----------
    taken_over_from : str or None
        The process that died, or lost its lease, while it held the lock.

    Raises
    ------
    Locked
        If another process, or another Lock of this one, holds it.
    OSError
        If it is no regular file, or cannot be written or locked.
    """

    def __init__(self, path: Path) -> None:
        self._process = os.getpid()
        self._lease: Lease | None = None
        self._file: IO[str] | None = _open(path, os.O_RDWR | os.O_CREAT, "r+")
        try:
            _acquire(self._file)
            self._lease = Lease(path)
            self._ending = weakref.finalize(self, self._lease.release)
            self.taken_over_from = _owner(self._file)
            self._write(json.dumps({"pid": os.getpid(), "host": platform.node()}))
        except BlockingIOError as error:
            owner = _owner(self._file)
            self._close()
            raise Locked(refusal(path, owner)) from error
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
        """Note that the folder of the lock file has been renamed."""
        if self._lease is not None:
            self._lease.moved_to(path)

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        if self._file is not None and self._process != os.getpid():
            self._close()  # a forked child has a copy: the lock is its parent's
        if self._file is not None:
            try:
                self.confirm()
                self._write("")
            except OSError:
                pass  # the name stays, or is that of the next writer already
            finally:
                self._close()

    def _write(self, text: str) -> None:
        assert self._file is not None
        os.ftruncate(self._file.fileno(), 0)
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        write_all(self._file.fileno(), text.encode())

    def _close(self) -> None:
        """Give up the lease, then the lock, so that whoever gets the lock finds no lease."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        if self._file is not None:
            if self._process == os.getpid():
                with suppress(OSError):  # closing is not enough while a forked worker has a copy
                    fcntl.flock(self._file, fcntl.LOCK_UN)
            self._file.close()
            self._file = None


def is_locked(path: Path) -> bool:
    """Tell whether a writer holds the lock now, without taking it from anyone.

    If the holder is on another host, this waits for its next heartbeat: 4 seconds at most.
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
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return  # there is the lease alone


def _owner(file: IO[str]) -> str | None:
    """Return the holder that the file names, or None if it names none."""
    try:
        file.seek(0)
        owner = json.loads(file.read(1000))
        return f"process {int(owner['pid'])} on {owner['host']}"
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _open(path: Path, flags: int, mode: str) -> IO[str]:
    return os.fdopen(open_regular(path, flags), mode, encoding="utf-8")
