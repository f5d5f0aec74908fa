"""Executor of processes of this machine, one thread each."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait

import cloudpickle

from analysis.config.execution import ExecutionConfig
from analysis.execution.interruption import Incomplete
from analysis.execution.task import OnStart, Outcome, Task, TaskGraph, ignore_start, pack
from analysis.execution.threads import count_processors
from analysis.own_parts.siblings import ROOT

__all__ = ["ProcessExecutor"]

_LOOK_SECONDS = 1.0  # between checks for workers that died without closing their socket
_END_SECONDS = 5.0  # to wait for a killed process; one that is stuck in the kernel is left behind
_START = """\
import sys
sys.path[:] = [{root!r}, *{path!r}]
import analysis  # which a file of the working directory must not hide
sys.path[:] = {path!r}
from analysis.execution.worker import serve
serve({descriptor}, {parent})
"""


class ProcessExecutor:
    """Runs tasks in processes, by default one for each processor.

    If a process dies, its task is run once more when no other task is running, so that it has all the memory if it died
    for lack of it. A task whose process dies twice fails; the others go on.
    """

    def __init__(self, execution: ExecutionConfig) -> None:
        self.jobs = execution.jobs or count_processors()
        self.on_start: OnStart = ignore_start

    def __enter__(self) -> ProcessExecutor:
        """Return the executor; processes start with the first tasks."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave; processes have ended with the last tasks."""

    def completed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Run tasks and yield each as it ends, with its error or None; ``Incomplete`` if its process died twice."""
        graph, again = TaskGraph(tasks), deque[Task]()
        retried: set[tuple[str, str]] = set()
        pool = _ProcessPool(min(self.jobs, len(tasks)), self.on_start)
        try:
            while graph or again or pool.running:
                if not again:
                    while graph and pool.has_room():
                        pool.submit(graph.pop())
                elif not pool.running:
                    pool.submit(again.popleft())
                for task, error in pool.wait():
                    if isinstance(error, _ProcessDied) and task.id not in retried:
                        retried.add(task.id)
                        again.append(task)
                        continue
                    error = _error_of_task(error, task)
                    yield task, error
                    yield from graph.settle(task, error)
        finally:
            pool.close()


class _ProcessDied(Exception):
    """Error of a task whose process died."""


def _error_of_task(error: BaseException | None, task: Task) -> Exception | None:
    """Return the error of a task; raise a request to stop."""
    if isinstance(error, _ProcessDied):
        return Incomplete(
            f"The process of {task.key} died twice, perhaps for lack of memory. All other results are kept: give the "
            "same command again, with a smaller --jobs."
        )
    if error is not None and not isinstance(error, Exception):
        raise error
    return error


class _ProcessPool:
    """Worker processes, each with one task at a time; they start when they are needed."""

    def __init__(self, jobs: int, on_start: OnStart) -> None:
        self.jobs, self._on_start = jobs, on_start
        self.running: dict[_WorkerProcess, Task] = {}
        self._idle: list[_WorkerProcess] = []

    def has_room(self) -> bool:
        """Return whether one more task can run."""
        return len(self.running) < self.jobs

    def submit(self, task: Task) -> None:
        """Give a task to a worker that is idle, or to a new one."""
        call = pack(task)
        self._on_start(task)
        while self._idle:
            worker = self._idle.pop()
            if worker.send(call):
                self.running[worker] = task
                return
            worker.end()  # it died while it was idle
        worker = _WorkerProcess()
        self.running[worker] = task  # before it is sent: a new worker that is dead already has a task to report
        worker.send(call)

    def wait(self) -> list[tuple[Task, BaseException | None]]:
        """Return the tasks that have ended, at least one."""
        ended: list[tuple[Task, BaseException | None]] = []
        while not ended:
            heard = set(wait([worker.connection for worker in self.running], _LOOK_SECONDS))
            for worker in [each for each in self.running if each.connection in heard or not each.is_alive()]:
                error = worker.receive()
                ended.append((self.running.pop(worker), error))
                if isinstance(error, _ProcessDied):
                    worker.end()
                else:
                    self._idle.append(worker)
        return ended

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        workers = [*self.running, *self._idle]
        self.running.clear()
        self._idle.clear()
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.end()


class _WorkerProcess:
    """A process that performs calls, and this end of the socket on which they travel."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.connection = Connection(ours.detach())
            try:
                self._process = _start(theirs.fileno())
            except BaseException:
                self.connection.close()
                raise

    def is_alive(self) -> bool:
        """Return whether the process is running."""
        return self._process.poll() is None

    def send(self, call: bytes) -> bool:
        """Send a call, and return whether there was anybody to send it to."""
        try:
            self.connection.send_bytes(call)
        except OSError:
            return False
        return True

    def receive(self) -> BaseException | None:
        """Return the error of the call that was sent, if it raised one, or ``_ProcessDied``."""
        try:
            if not self.connection.poll():  # it is dead, but processes that it started hold its end of the socket
                return _ProcessDied()
            answer = self.connection.recv_bytes()
        except (EOFError, OSError):
            return _ProcessDied()
        return _read_error(cloudpickle.loads(answer))

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process, and wait a short while until it is gone."""
        self.kill()
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)


def _start(descriptor: int) -> subprocess.Popen[bytes]:
    """Start a fresh interpreter, which does not import the main module, that leaves Ctrl-C to this process."""
    code = _START.format(root=str(ROOT), path=sys.path, descriptor=descriptor, parent=os.getpid())
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a process inherits what is blocked
    try:
        return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=(descriptor,))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _read_error(outcome: tuple[BaseException | None, str, str] | None) -> BaseException | None:
    if outcome is None:
        return None
    error, text, trace = outcome
    if error is None:
        error = RuntimeError(text)
    error.add_note(f"In a worker process:\n{trace}")
    return error
