"""Stage, fsync, rename, fsync: the only code that makes a file final."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
def staged_directory(final: Path) -> Iterator[Path]:
    """Give an empty directory to fill; when the block ends well it becomes ``final``, durably and all at once.

    Parameters
    ----------
    final : Path
        Must not exist. Its parent must.

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
                sync(Path(folder, name))
            sync(Path(folder))
        _refuse_existing(final)
        staging.rename(final)
        try:
            sync(final.parent)
        except BaseException:
            final.rename(staging)
            raise
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
        staging.rename(final)
        try:
            sync(final.parent)
        except BaseException:
            final.rename(staging)
            raise
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


def replace_file(path: Path, content: bytes) -> None:
    """Make ``content`` the whole of the file at ``path``, so that a reader or a crash sees the old or the new one."""
    staging = path.with_name(f"{STAGING_PREFIX}{path.name}-{uuid.uuid4().hex}")
    try:
        write_file(staging, content)
        sync(staging)
        staging.replace(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
    sync(path.parent)


def remove_staging(folder: Path) -> None:
    """Remove what crashed writers left beside committed files. Only the holder of the run's lock may call this."""
    for left in folder.glob(f"{STAGING_PREFIX}*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} exists already; committed files are never replaced.")


def sync(path: Path) -> None:
    """Make a file's content, or a directory's entries, durable; an OSError names the path."""
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make an OSError of the block one that names the path."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; {path} could not be written", str(path)) from error
