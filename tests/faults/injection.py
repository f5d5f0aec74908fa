"""Faults in the calls by which the store changes a file system: the process dies there, or the call fails."""

from __future__ import annotations

import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

__all__ = ["CALLS", "failing", "forked", "intercepted", "killing", "passing", "shortening"]

CALLS = (
    *("open", "close", "write", "pwrite", "fsync", "ftruncate", "truncate"),
    *("mkdir", "rmdir", "link", "rename", "replace", "unlink"),
)

Answer = Callable[..., Any]


@contextmanager
def intercepted(answer: Answer) -> Iterator[list[str]]:
    """Let ``answer(number, name, real, *arguments)`` stand for each function in CALLS; give the names called so far.

    Heartbeats of a lease are let through and not counted.
    """
    called: list[str] = []
    counting = threading.Lock()

    def stand_in(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if threading.current_thread().name == "lease":  # a heartbeat comes at any time
                return real(*arguments, **options)
            with counting:
                number = len(called)
                called.append(name)
            return answer(number, name, partial(real, **options), *arguments)

        return call

    real = {name: getattr(os, name) for name in CALLS}
    try:
        for name, function in real.items():
            setattr(os, name, stand_in(name, function))
        yield called
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def passing(number: int, name: str, real: Callable[..., Any], *arguments: Any) -> Any:
    """Let every call through."""
    return real(*arguments)


def killing(fatal: int, *, after: bool) -> Answer:
    """Kill this process just before the call of that number, or just after it."""

    def answer(number: int, name: str, real: Callable[..., Any], *arguments: Any) -> Any:
        if number == fatal and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(*arguments)
        finally:
            if number == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    return answer


def failing(fatal: int, code: int, *, lasting: bool = False) -> Answer:
    """Let the call of that number, or all from it on, fail: a write has done half, and a closed descriptor is gone."""

    def answer(number: int, name: str, real: Callable[..., Any], *arguments: Any) -> Any:
        if number < fatal or (number > fatal and not lasting):
            return real(*arguments)
        if name == "close":
            real(*arguments)
        if name in ("write", "pwrite"):
            _write_part(real, arguments, 2)
        paths = [os.fspath(each) for each in arguments if isinstance(each, str | os.PathLike)]
        raise OSError(code, os.strerror(code), *_as_file_names(paths))

    return answer


def shortening(number: int, name: str, real: Callable[..., Any], *arguments: Any) -> Any:
    """Let every write do a third of what it was asked for, or a byte."""
    return _write_part(real, arguments, 3) if name in ("write", "pwrite") else real(*arguments)


def _write_part(real: Callable[..., Any], arguments: tuple[Any, ...], part: int) -> Any:
    descriptor, content, *place = arguments
    view = memoryview(content).cast("B")
    return real(descriptor, view[: -(-len(view) // part)], *place)


def _as_file_names(paths: list[str]) -> tuple[Any, ...]:
    return (paths[0], None, paths[1]) if len(paths) == 2 else tuple(paths)


def forked(work: Callable[[], object]) -> int:
    """Start ``work`` in a copy of this process and return the copy's id; it ends with 0, or 1 if the work raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, of which none works now
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child
