"""A lease beside a lock file, for file systems where locks are refused or known to one host only.

The lease is a small file, ``run.lease-1`` beside ``run.lock``, in which its holder counts heartbeats. Whoever finds one
watches it on a clock of their own: a heartbeat proves that it is held; after ``LEASE`` seconds without one it may be
replaced by a file of the next number. Clocks of different hosts are never compared. Three rules keep two writers apart:

1. A lease file is created complete and exclusively, so that only one process can create a number.
2. The process that has created one lists all again, gives its own up if any but those that it found dead is there, and
   only then removes the dead ones.
3. The holder looks for its own file before each commit, and stops if it is gone.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import stat
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from checkpoints.storage.commit import STAGING_PREFIX, naming, write_all

__all__ = ["LEASE", "Lease", "Locked", "is_leased", "open_regular", "refusal"]

LEASE = 30.0  # seconds without a heartbeat after which another process may replace the holder
_BEATS = 15  # heartbeats in that time
_LONGEST = 4096  # bytes of a lease file
_MOST = 64  # lease files beside one lock
_FORGOTTEN = 3600  # seconds; clocks of hosts that share files differ by less


class Locked(OSError):
    """Another process is writing this run."""


class Lease:
    """Hold the lease beside a lock file until ``release``, with a heartbeat from a background thread.

    Parameters
    ----------
    lock : Path
        The lock file; its folder must exist.

    Raises
    ------
    Locked
        If another process holds the lease. A holder that has died on this host is replaced at once; one on another
        host after it has shown no heartbeat for ``LEASE`` seconds.
    OSError
        If the lease cannot be written or read.
    """

    def __init__(self, lock: Path) -> None:
        self._process, self._token = os.getpid(), uuid.uuid4().hex
        self._owner = {"pid": self._process, "host": platform.node(), "place": _place()}
        self._owner |= {"started": _started(self._process), "token": self._token}
        self._lock, self._path, self._descriptor = lock, lock, -1
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="lease", daemon=True)
        deadline = time.monotonic() + 4 * LEASE
        while not self._take():
            if time.monotonic() > deadline:
                raise Locked(refusal(lock, _owner(_leases(lock))))
            time.sleep(LEASE / 1000)
        try:
            self._thread.start()
        except BaseException:
            self._give_up()
            raise

    def confirm(self) -> None:
        """Raise Locked unless this process still holds the lease; to be called immediately before each commit."""
        if not self._is_mine():
            others = _owner(_leases(self._lock)) if self._lock.parent.is_dir() else None
            reason = f"was taken over by {others}" if others else "is no longer held by this process"
            raise Locked(
                f"{self._lock.parent} {reason}: this process had shown no heartbeat for {LEASE:g} s, or its lease was "
                "removed. Nothing more is written; resume the run when nobody else writes it."
            )

    def moved_to(self, lock: Path) -> None:
        """Note that the folder of the lock has been renamed."""
        self._lock, self._path = lock, lock.with_name(self._path.name)

    def release(self) -> None:
        """Stop the heartbeat and remove the lease; calling it twice, or in a forked child, does no harm."""
        if self._process == os.getpid() and not self._stop.is_set():
            self._stop.set()
            if self._thread.is_alive() and self._thread is not threading.current_thread():
                self._thread.join(LEASE / _BEATS)
            if not self._thread.is_alive():  # or its next write might reach another file
                self._give_up()

    # Taking

    def _take(self) -> bool:
        """Replace dead leases; return False if another process did so first, or a holder came back."""
        found = _leases(self._lock)
        _wait_until_dead(self._lock, found)
        if not self._create(self._lock.with_suffix(f".lease-{1 + max(map(_number, found), default=0)}")):
            return False
        try:
            others = {path: content for path, content in _leases(self._lock).items() if path != self._path}
            if others == found:
                for path in found:
                    path.unlink(missing_ok=True)
                if not all(map(_has_died, found.values())):
                    time.sleep(LEASE / _BEATS)  # the holder may have begun a commit just before
                if self._is_mine():
                    return True
        except BaseException:
            self._give_up()
            raise
        self._give_up()
        return False

    def _create(self, path: Path) -> bool:
        """Create a complete lease file in one step; return False if one of this name exists."""
        draft = path.with_name(f"{STAGING_PREFIX}{path.name}-{self._token}")
        self._path = draft
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_DSYNC", os.O_SYNC)
        self._descriptor = os.open(draft, flags, 0o666)
        try:
            with naming(draft):
                self._beat(0)
            self._publish(draft, path)
            self._path = path
            draft.unlink(missing_ok=True)
        except FileExistsError:
            self._give_up()
            return False
        except BaseException:
            self._give_up()
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        return True

    def _publish(self, draft: Path, path: Path) -> None:
        """Give the draft its final name; raise FileExistsError if that is taken."""
        try:
            os.link(draft, path)
        except FileExistsError:
            if not self._is_mine(path):  # the answer to a first attempt may have been lost on its way
                raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            exclusive = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_SYNC, 0o666)
            os.close(self._descriptor)
            self._descriptor = exclusive
            self._beat(0)

    def _give_up(self) -> None:
        """Remove the lease file if this process holds it, and close it."""
        with suppress(OSError):  # a lease that stays has no heartbeat, so it can be replaced
            if self._is_mine():
                self._path.unlink()
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):
                os.close(descriptor)

    def _is_mine(self, path: Path | None = None) -> bool:
        return self._token.encode() in (_read(path or self._path) or b"")

    # Heartbeat

    def _keep_beating(self) -> None:
        beat = 0
        while not self._stop.wait(LEASE / _BEATS):
            beat += 1
            with suppress(OSError):  # the next one may succeed
                self._beat(beat)

    def _beat(self, number: int) -> None:
        content = json.dumps({**self._owner, "beat": f"{number:012d}"}) + "\n"  # always of the same length
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        write_all(self._descriptor, content.encode())


def is_leased(lock: Path) -> bool:
    """Tell whether a process holds the lease beside a lock file now.

    A process of this host is looked up. Any other is watched until its next heartbeat, 4 seconds at the
    most, and not at all if its last one was more than an hour ago.
    """
    found = {path: content for path, content in _leases(lock).items() if not _is_forgotten(path)}
    try:
        _wait_until_dead(lock, found, 2 * LEASE / _BEATS)
    except Locked:
        return True
    return False


def _wait_until_dead(lock: Path, found: dict[Path, bytes], patience: float | None = None) -> None:
    """Return when no lease can be held any more; raise Locked at the first heartbeat."""
    deadline = time.monotonic() + (LEASE if patience is None else patience)
    watched = dict(found)
    while True:
        watched = {path: content for path, content in watched.items() if not _has_died(content)}
        if not watched or time.monotonic() > deadline:
            return
        time.sleep(LEASE / _BEATS / 8)
        for path, before in list(watched.items()):
            now = _read(path)
            if now is None:
                del watched[path]
            elif now != before:
                raise Locked(refusal(lock, _owner({path: now})))


# Lease files beside the lock


def _leases(lock: Path) -> dict[Path, bytes]:
    """Return the content of each lease file beside a lock."""
    pattern = re.compile(rf"{re.escape(lock.stem)}\.lease-[0-9]{{1,9}}")
    names = (path.name for path in lock.parent.iterdir())
    paths = [lock.with_name(name) for name in names if pattern.fullmatch(name)]
    if len(paths) > _MOST:
        raise OSError(errno.EINVAL, f"{len(paths)} leases are beside this lock; at most {_MOST} are read", str(lock))
    contents = {path: _read(path) for path in sorted(paths)}
    return {path: content for path, content in contents.items() if content is not None}


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _read(path: Path) -> bytes | None:
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


def open_regular(path: Path, flags: int) -> int:
    """Open a regular file and nothing else: a link may lead out of the run, and a pipe would not return."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "A link is not followed", str(path))
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return descriptor


def _is_forgotten(path: Path) -> bool:
    try:
        return abs(time.time() - path.stat().st_mtime) > _FORGOTTEN
    except OSError:
        return False


# Owners


def refusal(lock: Path, owner: str | None) -> str:
    """Return the sentence that says who holds a lock, if that is known."""
    return (
        f"{lock.parent} is being written by {owner or 'another process'}. Wait for it, or stop it; readers may go on."
    )


def _owner(leases: dict[Path, bytes]) -> str | None:
    """Return the process that the last lease names, or None if there is none."""
    named = [owner for path in sorted(leases, key=_number) if (owner := _parsed(leases[path]))]
    return f"process {named[-1]['pid']} on {named[-1]['host']}" if named else None


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        owner = json.loads(content)
        kinds = {"pid": int, "host": str, "place": str, "started": str}
        valid = all(type(owner[name]) is kind for name, kind in kinds.items()) and 0 < owner["pid"] < 2**31
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return owner if valid else None


def _has_died(content: bytes) -> bool:
    """Tell whether the holder was a process of this host that has ended; False if that is not known."""
    owner = _parsed(content)
    if owner is None or owner["place"] != _place():
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _started(owner["pid"]) not in (owner["started"], "")


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


_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV)
