"""Worker process: runs one task after another for the process that started it, and ends with it."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from analysis.execution.task import perform
from analysis.execution.threads import use_one_thread

__all__ = ["end_with", "serve"]

_C_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None
_WATCH_SECONDS = 0.2
_COLLECT_SECONDS = 1.0


def serve(descriptor: int, parent: int) -> None:
    """Run each task that arrives and answer with its outcome, until the connection is closed.

    An outcome is None, or a tuple of the error, or None if it cannot be pickled; its text; and its traceback.
    """
    end_with(parent)
    use_one_thread()
    collected = time.monotonic()
    with Connection(descriptor) as connection:
        while True:
            try:
                call = connection.recv_bytes()
                connection.send_bytes(_outcome(call))
                _give_back_memory()
            except (EOFError, OSError):  # the parent has closed its end
                return
            if time.monotonic() - collected > _COLLECT_SECONDS:
                gc.collect()  # arrays in reference cycles: few objects, much memory
                collected = time.monotonic()


def _give_back_memory() -> None:
    """Return memory that no object uses to the system, where the C library keeps it (glibc)."""
    if _C_LIBRARY is not None and hasattr(_C_LIBRARY, "malloc_trim"):
        _C_LIBRARY.malloc_trim(0)


def _outcome(call: bytes) -> bytes:
    try:
        perform(call)
    except BaseException as error:
        return _pack_error(error)
    return bytes(cloudpickle.dumps(None))


def _pack_error(error: BaseException) -> bytes:
    text, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
    outcome: tuple[Any, str, str]
    for outcome in ((error, text, trace), (None, text, trace)):
        try:
            packed = bytes(cloudpickle.dumps(outcome))
            cloudpickle.loads(packed)
        except Exception:  # whatever an exception of somebody's own raises when it is pickled or made again
            continue
        return packed
    raise AssertionError("text can always be pickled")


def end_with(parent: int) -> None:
    """End this process when the process that started it has died."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
