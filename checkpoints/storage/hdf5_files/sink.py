"""File object for HDF5 that stores the first error instead of raising it inside HDF5."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

from checkpoints.storage.commit import naming

__all__ = ["Sink"]


class Sink(io.RawIOBase):
    """A new file for h5py's file-object driver.

    HDF5 2.0 crashes the process when its own flush on closing fails, as on a full disk. After the first OSError, this
    sink therefore stores everything that HDF5 writes in memory and reports success. The writer of the file calls
    ``check`` after every block and stops at the first error, and HDF5 can close the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._error: BaseException | None = None  # or KeyboardInterrupt, which must not pass through HDF5 either
        self._patches: list[tuple[int, bytes]] = []  # (offset, content) that could not be written
        self._position = 0
        try:
            with naming(path):
                self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError:
            super().close()  # otherwise the finalizer would try to close it
            raise
        self._size = 0

    def check(self) -> None:
        """Raise the first error, if there was any; an OSError names the path."""
        if self._error is not None:
            with naming(self.path):
                raise self._error

    def seekable(self) -> bool:
        """Return True, because HDF5 writes in any order."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset from the start, the current position or the end, and return the new position."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def write(self, content: Any) -> int:
        """Write all bytes, to memory if an earlier write failed, and return their number."""
        rest = memoryview(content).cast("B")
        size, offset = rest.nbytes, self._position
        end = offset + size
        try:
            while self._error is None and rest.nbytes:
                written = os.pwrite(self._descriptor, rest, offset)
                if written == 0:
                    raise OSError(errno.EIO, "The system wrote nothing")
                rest, offset = rest[written:], offset + written
        except BaseException as error:
            self._error = error
        if rest.nbytes:
            self._patches.append((offset, bytes(rest)))
        self._size, self._position = max(self._size, end), end
        return size

    def readinto(self, buffer: Any) -> int:
        """Read back from file and memory, zeros where nothing was written, and return the number of bytes."""
        view = memoryview(buffer).cast("B")
        size = max(0, min(view.nbytes, self._size - self._position))
        content = bytearray(size)
        try:
            stored = os.pread(self._descriptor, size, self._position)
            content[: len(stored)] = stored
        except BaseException as error:
            self._error = self._error or error
        for offset, patch in self._patches:
            _overlay(content, patch, offset - self._position)
        view[:size] = content
        self._position += size
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file in bytes and return it."""
        before, self._size = self._size, self._position if size is None else size
        try:
            if self._error is None:
                os.ftruncate(self._descriptor, self._size)
        except BaseException as error:
            self._error = error
        if self._error is not None and self._size < before:
            self._patches.append((self._size, bytes(before - self._size)))  # bytes beyond the new end read as zeros
        return self._size

    def flush(self) -> None:
        """Do nothing: there is no buffer, and HDF5 may call this after closing."""

    def close(self) -> None:
        """Close the file; an OSError names it. A second call does nothing."""
        if not self.closed:
            descriptor, self._descriptor = self._descriptor, -1  # HDF5 may still write, and must not reach another file
            super().close()
            with naming(self.path):
                os.close(descriptor)


def _overlay(content: bytearray, patch: bytes, start: int) -> None:
    """Overwrite content with a patch that begins at ``start``, which may be negative."""
    begin, end = max(start, 0), min(start + len(patch), len(content))
    if begin < end:
        content[begin:end] = patch[begin - start : end - start]
