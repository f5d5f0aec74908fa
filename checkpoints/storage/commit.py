"""Commit protocol: stage, fsync, rename, fsync the folder. All files of a run become final here."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from checkpoints.storage.regular_files import is_system_file

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
    """Yield an empty directory to fill; when the block succeeds, it becomes ``final``, durably and all at once.

    Parameters
    ----------
    final : Path
        Must not exist; its parent must exist.
    confirm : callable, optional
        Called immediately before ``final`` appears. Raises if this process may no longer write (``Lock.confirm``).

    Yields
    ------
    Path
        The staging directory, beside ``final`` on the same file system; removed if the block raises.

    Raises
    ------
    FileExistsError
        If ``final`` exists when the block begins or ends.
    OSError
        If writing fails; ``final`` then does not exist.
    """
    with _staged(final, confirm) as staging:
        with naming(final):
            staging.mkdir()
        yield staging


@contextmanager
def staged_file(final: Path) -> Iterator[Path]:
    """Yield the path of a file to write; when the block succeeds, it becomes ``final``, durably and all at once.

    Conditions and errors are those of ``staged_directory``.
    """
    with _staged(final) as staging:
        yield staging


@contextmanager
def _staged(final: Path, confirm: Callable[[], object] | None = None) -> Iterator[Path]:
    _refuse_existing(final)
    staging = _staging_path(final)
    try:
        yield staging
        _sync_tree(staging)
        _refuse_existing(final)
        if confirm is not None:
            confirm()
        _publish(staging, final)
    except BaseException:
        if staging.is_dir():
            shutil.rmtree(staging, ignore_errors=True)
        else:
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
    """Write all bytes at the descriptor's position, in as many calls as the system needs."""
    rest = memoryview(content)
    while rest.nbytes:
        written = os.write(descriptor, rest)
        if written == 0:
            raise OSError(errno.EIO, "The system wrote nothing")
        rest = rest[written:]


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a log; if that fails, the log is as before. Only a crash can leave a torn line."""
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
    """Replace the content of a file, so that readers see, and a crash leaves, the old or the new content.

    ``confirm`` as for ``staged_directory``.
    """
    staging = _staging_path(path)
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
    """Remove the unfinished writes of crashed processes. Only the holder of the run's lock may call this.

    Files that a network file system keeps because a process has them open remain; readers ignore them.
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


def _staging_path(final: Path) -> Path:
    return final.with_name(f"{STAGING_PREFIX}{final.name}-{uuid.uuid4().hex}")


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} exists already; committed files are never replaced.")


def _sync_tree(staging: Path) -> None:
    """Sync a file, or the files of a directory and then the directory, from the innermost one on."""
    if not staging.is_dir():
        sync(staging)
    for folder, _, names in os.walk(staging, topdown=False):
        for name in names:
            if not is_system_file(name):  # it may have disappeared already
                sync(Path(folder, name))
        sync(Path(folder))


def _publish(staging: Path, final: Path) -> None:
    """Rename a complete file or directory into its place, durably; rename it back if that fails."""
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
            if (
                error.errno not in _UNSUPPORTED or not path.is_dir()
            ):  # some network file systems cannot sync directories
                raise
        finally:
            os.close(descriptor)


def _flush(descriptor: int) -> None:
    """Flush to the disk itself: on macOS, ``fsync`` leaves data in the disk's own cache."""
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
    """Add the path to the message of an OSError in the block."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; {path} could not be written", str(path)) from error


_IN_USE = (errno.EBUSY, errno.ENOTEMPTY)  # a network file system keeps a file that a process has open
_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY)
