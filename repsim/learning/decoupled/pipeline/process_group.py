"""Groups of processes that run together: if one fails, all are stopped and its error is raised."""

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

_GRACE = 2.0  # seconds for the other processes to report, and then to end


class PeerLost(RuntimeError):
    """Another process was lost or exceeded the timeout; its own error is more likely to name the cause."""


class Ended(Exception):
    """Raised in one process to stop all; ``run_together`` raises it again with the same arguments."""


def run_together(function: Callable[[int, Any], Any], arguments: Sequence[Any]) -> list[Any]:
    """Call ``function(rank, argument)`` in a new process for each argument, in parallel, and return the results.

    All processes are stopped in any case, even if the calling process is killed. ``function`` is defined in a module,
    and raises ``PeerLost`` for errors that another process caused. Raise ``Ended`` if a process raised it, and
    RuntimeError if one died or raised another error.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[tuple[BaseProcess, Connection]] = []
    try:
        for rank, argument in enumerate(arguments):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_main, args=(theirs, function, rank, argument), daemon=True)
            workers.append((process, ours))
            process.start()
            theirs.close()  # so that the pipe closes when the process ends
        results = _collect(workers)
        _wait([process for process, _ in workers])
        return results
    finally:
        _stop([process for process, _ in workers if process.pid is not None])
        for _, report in workers:
            report.close()


@dataclass(frozen=True)
class _Report:
    kind: str  # "result", "ended", "failed", "lost" or "died"
    value: Any


def _main(report: Connection, function: Callable[[int, Any], Any], rank: int, argument: Any) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        report.send(_Report("result", function(rank, argument)))
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
    """Return the results of all processes, or raise the error that is most likely the cause of a failure."""
    reports: dict[int, _Report] = {}
    deadline = None
    while len(reports) < len(workers) and (deadline is None or time.monotonic() < deadline):
        waiting = {report: rank for rank, (_, report) in enumerate(workers) if rank not in reports}
        for report in wait(list(waiting), None if deadline is None else max(0.0, deadline - time.monotonic())):
            rank = waiting[report]  # type: ignore[index]
            reports[rank] = _read(*workers[rank])
            if reports[rank].kind != "result" and deadline is None:
                deadline = time.monotonic() + _GRACE
    for kind in ("ended", "failed", "died", "lost"):
        for rank, report_of_rank in sorted(reports.items()):
            if report_of_rank.kind == kind:
                raise _error(rank, len(workers), report_of_rank)
    return [reports[rank].value for rank in range(len(workers))]


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
            f"Process {rank + 1} of {n} died with exit code {report.value}, and the others were stopped. A negative "
            "code is a signal; -9 is often a lack of memory. If the process died at once, call this function under "
            "`if __name__ == '__main__':`, because new processes import the main module."
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
