"""Commit protocol: stage, fsync, rename, fsync. No other code makes a file final."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from checkpoints.storage.regular_files import left_by_system

__all__ = [
    "STAGING_PREFIX",
    "append_line",
    "naming",
    "remove_staging",
    "replace_file",
    "staged_directory",
    "staged_file",
    "sync",
    "write_all",
    "write_file",
]

STAGING_PREFIX = ".tmp-"


@contextmanager
def staged_directory(final: Path, confirm: Callable[[], object] | None = None) -> Iterator[Path]:
    """Give an empty directory to fill; when the block ends well it becomes ``final``, durably and all at once.

    Parameters
    ----------
    final : Path
        Must not exist. Its parent must.
    confirm : callable, optional
        Called immediately before ``final`` appears; raises if this process may no longer write (``Lock.confirm``).

    Yields
    ------
    Path
        The staging directory, beside ``final`` on the same file system. It is removed if the block raises.

    Raises
    ------
    FileExistsError
        If ``final`` exists when the block begins or ends.
    OSError
        If writing fails; nothing then stands at ``final``.
    """
    _refuse_existing(final)
    staging = final.with_name(f"{STAGING_PREFIX}{final.name}-{uuid.uuid4().hex}")
    with naming(final):
        staging.mkdir()
    try:
        yield staging
        for folder, _, names in os.walk(staging, topdown=False):
            for name in names:
                if not left_by_system(name):  # it may be gone already
                    sync(Path(folder, name))
            sync(Path(folder))
        _refuse_existing(final)
        if confirm is not None:
            confirm()
        _appear(staging, final)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


@contextmanager
def staged_file(final: Path) -> Iterator[Path]:
    """Give the path of a file to write; when the block ends well it becomes ``final``, durably and all at once.

    Parameters
    ----------
    final : Path
        Must not exist. Its parent must.

    Yields
    ------
    Path
        Where the file is to be made, beside ``final`` on the same file system. It is removed if the block raises.

    Raises
    ------
    FileExistsError
        If ``final`` exists when the block begins or ends.
    OSError
        If writing fails; nothing then stands at ``final``.
    """
    _refuse_existing(final)
    staging = final.with_name(f"{STAGING_PREFIX}{final.name}-{uuid.uuid4().hex}")
    try:
        yield staging
        sync(staging)
        _refuse_existing(final)
        _appear(staging, final)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes) -> None:
    """Write a new file inside a staging directory; an OSError names the path."""
    with naming(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(descriptor, content)
        finally:
            os.close(descriptor)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write every byte at the descriptor's position, however few the system takes at a time."""
    rest = memoryview(content)
    while rest.nbytes:
        written = os.write(descriptor, rest)
        if written == 0:
            raise OSError(errno.EIO, "The system wrote nothing")
        rest = rest[written:]


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a log; if that fails, nothing of it stays. Only a crash can leave a torn line."""
    with naming(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
        except BaseException:
            os.close(descriptor)
            raise
        try:
            try:
                write_all(descriptor, line + b"\n")
            finally:
                os.close(descriptor)
        except BaseException:
            os.truncate(path, size)
            raise


def replace_file(path: Path, content: bytes, confirm: Callable[[], object] | None = None) -> None:
    """Make ``content`` the whole of the file at ``path``, so that a reader or a crash sees the old or the new one.

    ``confirm``, if given, is called immediately before; it raises if this process may no longer write
    (``Lock.confirm``).
    """
    staging = path.with_name(f"{STAGING_PREFIX}{path.name}-{uuid.uuid4().hex}")
    try:
        write_file(staging, content)
        sync(staging)
        if confirm is not None:
            confirm()
        staging.replace(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
    sync(path.parent)


def remove_staging(folder: Path) -> None:
    """Remove what crashed writers left beside committed files. Only the holder of the run's lock may call this.

    What a network file system keeps because somebody has it open stays; readers ignore it.
    """
    for left in folder.glob(f"{STAGING_PREFIX}*"):
        try:
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
        except OSError as error:
            if error.errno not in _IN_USE:
                raise


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} exists already; committed files are never replaced.")


def _appear(staging: Path, final: Path) -> None:
    """Rename what is complete into its place, durably; if that fails, it is back at ``staging``."""
    staging.rename(final)
    try:
        sync(final.parent)
    except BaseException:
        final.rename(staging)
        raise


def sync(path: Path) -> None:
    """Make a file's content, or a directory's entries, durable; an OSError names the path."""
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _flush(descriptor)
        except OSError as error:
            if error.errno not in _UNSUPPORTED or not path.is_dir():  # some network file systems sync no directories
                raise
        finally:
            os.close(descriptor)


def _flush(descriptor: int) -> None:
    """Have the disk itself write: on macOS ``fsync`` leaves the data in the disk's own memory."""
    command = getattr(fcntl, "F_FULLFSYNC", None)
    if command is not None:
        try:
            fcntl.fcntl(descriptor, command)
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    os.fsync(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make an OSError of the block one that names the path."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; {path} could not be written", str(path)) from error


_IN_USE = (errno.EBUSY, errno.ENOTEMPTY)  # a network file system keeps a file that somebody has open
_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY)
