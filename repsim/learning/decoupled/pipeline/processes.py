"""Processes that work on one thing: if one ends before its time, all are ended and the cause is raised."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

__all__ = ["Ended", "PeerLost", "run_together"]

_GRACE = 2.0  # seconds: for the others to say what they saw, and then to end


class PeerLost(RuntimeError):
    """Another process was not there, or not in time. It is likely to know more about the cause."""


class Ended(Exception):
    """What a worker raises to end all: it is raised again, with its arguments, by ``run_together``."""


def run_together(work: Callable[[int, Any], Any], jobs: Sequence[Any]) -> list[Any]:
    """Call ``work(rank, job)`` in a fresh process for each job, at once, and return what they returned.

    However this ends, no process is left behind, not even if this one is killed.

    Parameters
    ----------
    work : callable
        A function of a module. It raises ``PeerLost`` where others are the cause.
    jobs : sequence
        Picklable.

    Raises
    ------
    Ended
        If one of them did.
    RuntimeError
        If one failed, with its traceback, or died.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[tuple[BaseProcess, Connection]] = []
    try:
        for rank, job in enumerate(jobs):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_main, args=(theirs, work, rank, job), daemon=True)
            workers.append((process, ours))
            process.start()
            theirs.close()  # so that the end of the process is the end of the pipe
        results = _collect(workers)
        _wait([process for process, _ in workers])
        return results
    finally:
        _stop([process for process, _ in workers if process.pid is not None])
        for _, report in workers:
            report.close()


@dataclass(frozen=True)
class _Report:
    kind: str  # "result", "ended", "failed", "lost" or "died"; of those that are no result, the first is the cause
    value: Any


def _main(report: Connection, work: Callable[[int, Any], Any], rank: int, job: Any) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        report.send(_Report("result", work(rank, job)))
    except Ended as error:
        report.send(_Report("ended", error.args))
    except PeerLost:
        report.send(_Report("lost", traceback.format_exc()))
    except Exception:
        report.send(_Report("failed", traceback.format_exc()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _collect(workers: Sequence[tuple[BaseProcess, Connection]]) -> list[Any]:
    found: dict[int, _Report] = {}
    deadline = None
    while len(found) < len(workers) and (deadline is None or time.monotonic() < deadline):
        waiting = {report: rank for rank, (_, report) in enumerate(workers) if rank not in found}
        for report in wait(list(waiting), None if deadline is None else max(0.0, deadline - time.monotonic())):
            rank = waiting[report]  # type: ignore[index]
            found[rank] = _read(*workers[rank])
            if found[rank].kind != "result" and deadline is None:
                deadline = time.monotonic() + _GRACE
    for kind in ("ended", "failed", "died", "lost"):
        for rank, seen in sorted(found.items()):
            if seen.kind == kind:
                raise _error(rank, len(workers), seen)
    return [found[rank].value for rank in range(len(workers))]


def _read(process: BaseProcess, report: Connection) -> _Report:
    try:
        return report.recv()
    except (EOFError, OSError):
        process.join(_GRACE)
        return _Report("died", process.exitcode)


def _error(rank: int, n: int, report: _Report) -> Exception:
    if report.kind == "ended":
        return Ended(*report.value)
    if report.kind == "died":
        return RuntimeError(
            f"Process {rank + 1} of {n} died with exit code {report.value}, and the others were stopped. A code below "
            "0 is a signal: -9 is often a lack of memory. If it died at once, call this under "
            "`if __name__ == '__main__':`, as new processes import the main module."
        )
    return RuntimeError(f"Process {rank + 1} of {n} failed, and the others were stopped:\n{report.value}")


def _stop(processes: Sequence[BaseProcess]) -> None:
    for end in (BaseProcess.terminate, BaseProcess.kill):
        for process in processes:
            if process.is_alive():
                end(process)
        _wait(processes)
    for process in processes:
        process.close()


def _wait(processes: Sequence[BaseProcess]) -> None:
    deadline = time.monotonic() + _GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
