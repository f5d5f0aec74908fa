"""Lease beside a lock file, for file systems where locks are refused or local to one host.

The lease is a small file, ``run.lease-1`` beside ``run.lock``, in which its holder counts heartbeats. Another process
watches it on its own clock: a heartbeat proves that the lease is held; after ``LEASE`` seconds without one it may be
replaced by a file of the next number. Clocks of different hosts are never compared. Three rules keep two writers apart:

1. A lease file is created complete and exclusively, so that only one process can create a number.
2. A process that has created a lease lists all leases again. If there are others than those that it knows to be dead,
   it removes its own; otherwise it removes the dead leases.
3. The holder looks for its own file before each commit, and stops writing if the file is gone.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

from checkpoints.storage.commit import STAGING_PREFIX, naming, write_all
from checkpoints.storage.lease_files import (
    describe_holder,
    has_ended,
    holder_of_this_process,
    is_forgotten,
    lease_number,
    leases,
    read_lease,
)

__all__ = ["LEASE", "Lease", "Locked", "is_leased", "locked_by"]

LEASE = 30.0  # seconds without a heartbeat after which another process may replace the holder
_BEATS = 15  # heartbeats in that time


class Locked(OSError):
    """Another process is writing this run."""


def locked_by(lock: Path, holder: str | None) -> Locked:
    """Return the error for a lock that another process holds."""
    return Locked(
        f"{lock.parent} is being written by {holder or 'another process'}. Wait for it, or stop it. "
        "The run can be read meanwhile."
    )


class Lease:
    """Hold the lease beside a lock file until ``release``, with a heartbeat from a background thread.

    Raises
    ------
    Locked
        If another process holds the lease. A holder on this host is replaced as soon as its process has ended, a holder
        on another host after ``LEASE`` seconds without a heartbeat.
    OSError
        If the lease cannot be written or read.
    """

    def __init__(self, lock: Path) -> None:
        self._process, self._token = os.getpid(), uuid.uuid4().hex
        self._holder = {**holder_of_this_process(), "token": self._token}
        self._lock, self._path, self._descriptor = lock, lock, -1
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="lease", daemon=True)
        deadline = time.monotonic() + 4 * LEASE
        while not self._take():
            if time.monotonic() > deadline:
                raise locked_by(lock, describe_holder(leases(lock)))
            time.sleep(LEASE / 1000)
        try:
            self._thread.start()
        except BaseException:
            self._give_up()
            raise

    def confirm(self) -> None:
        """Raise Locked unless this process still holds the lease; to be called immediately before each commit."""
        if not self._is_mine():
            others = describe_holder(leases(self._lock)) if self._lock.parent.is_dir() else None
            reason = f"was taken over by {others}" if others else "is no longer held by this process"
            raise Locked(
                f"{self._lock.parent} {reason}: its lease was removed, or had no heartbeat for {LEASE:g} s. Nothing "
                "more is written; resume the run when no other process writes it."
            )

    def moved_to(self, lock: Path) -> None:
        """Follow the lock to its new path after its folder was renamed."""
        self._lock, self._path = lock, lock.with_name(self._path.name)

    def release(self) -> None:
        """Stop the heartbeat and remove the lease; a second call, or a call in a forked child, does nothing."""
        if self._process == os.getpid() and not self._stop.is_set():
            self._stop.set()
            if self._thread.is_alive() and self._thread is not threading.current_thread():
                self._thread.join(LEASE / _BEATS)
            if not self._thread.is_alive():  # otherwise its next write might reach another file
                self._give_up()

    def _take(self) -> bool:
        """Replace dead leases; return False if another process was faster, or a holder is alive after all."""
        found = leases(self._lock)
        _wait_until_dead(self._lock, found)
        if not self._create(self._lock.with_suffix(f".lease-{1 + max(map(lease_number, found), default=0)}")):
            return False
        try:
            others = {path: content for path, content in leases(self._lock).items() if path != self._path}
            if others == found:
                for path in found:
                    path.unlink(missing_ok=True)
                if not all(map(has_ended, found.values())):
                    time.sleep(LEASE / _BEATS)  # the holder may have begun a commit just before it was taken for dead
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
            if not self._is_mine(path):  # the answer to a first attempt may have been lost in the network
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
        with suppress(OSError):  # a lease that remains has no heartbeat and can be replaced
            if self._is_mine():
                self._path.unlink()
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):
                os.close(descriptor)

    def _is_mine(self, path: Path | None = None) -> bool:
        return self._token.encode() in (read_lease(path or self._path) or b"")

    def _keep_beating(self) -> None:
        beat = 0
        while not self._stop.wait(LEASE / _BEATS):
            beat += 1
            with suppress(OSError):  # the next one may succeed
                self._beat(beat)

    def _beat(self, number: int) -> None:
        content = json.dumps({**self._holder, "beat": f"{number:012d}"}) + "\n"  # the length never changes
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        write_all(self._descriptor, content.encode())


def is_leased(lock: Path) -> bool:
    """Return whether a process holds the lease beside a lock file.

    A process of this host is looked up. Any other holder is watched for a heartbeat for up to 4 seconds, unless its
    last heartbeat was more than an hour ago.
    """
    found = {path: content for path, content in leases(lock).items() if not is_forgotten(path)}
    try:
        _wait_until_dead(lock, found, 2 * LEASE / _BEATS)
    except Locked:
        return True
    return False


def _wait_until_dead(lock: Path, found: dict[Path, bytes], patience: float | None = None) -> None:
    """Return once all leases are dead; raise Locked at the first heartbeat."""
    deadline = time.monotonic() + (LEASE if patience is None else patience)
    watched = dict(found)
    while True:
        watched = {path: content for path, content in watched.items() if not has_ended(content)}
        if not watched or time.monotonic() > deadline:
            return
        time.sleep(LEASE / _BEATS / 8)
        for path, before in list(watched.items()):
            now = read_lease(path)
            if now is None:
                del watched[path]
            elif now != before:
                raise locked_by(lock, describe_holder({path: now}))


_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV)
