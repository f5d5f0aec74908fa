"""Tasks in processes of this machine, one thread each."""

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

from analysis.execution.interruption import Incomplete
from analysis.execution.task import Graph, Outcome, Task, pack

__all__ = ["ProcessExecutor"]

_LOOK_SECONDS = 1.0  # between looks for workers that died without closing their socket
_END_SECONDS = 5.0  # to wait for a killed process; one that is stuck in the kernel is left behind
_START = """\
import sys
sys.path[:] = {path!r}
from analysis.execution.worker import serve
serve({descriptor}, {parent})
"""


class ProcessExecutor:
    """Runs tasks in ``jobs`` processes.

    If a process dies, its task is done once more when no other is running, so that one which died for lack of memory
    finds as much as there is. A task that kills its process twice fails alone, and the rest goes on.

    Parameters
    ----------
    jobs : int, >= 1
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def __enter__(self) -> ProcessExecutor:
        """Begin; processes start with the first tasks."""
        return self

    def __exit__(self, *_: object) -> None:
        """End; processes have ended with the last tasks."""

    def completed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do tasks, and yield each as it is done, with the error that it raised if it did.

        The error of a task that killed its process twice, as happens when memory is short, is ``Incomplete``.
        """
        graph = Graph(tasks)
        ready, again = deque(graph.first()), deque[Task]()
        retried: set[str] = set()
        pool = _Pool(min(self.jobs, len(tasks)))
        try:
            while ready or again or pool.running:
                if not again:
                    while ready and pool.has_room():
                        pool.submit(ready.popleft())
                elif not pool.running:
                    pool.submit(again.popleft())
                for task, error in pool.wait():
                    if isinstance(error, _Died) and task.key not in retried:
                        retried.add(task.key)
                        again.append(task)
                        continue
                    error = _plain(error, task)
                    yield task, error
                    freed, lost = graph.settle(task, error)
                    ready.extend(freed)
                    yield from lost
        finally:
            pool.close()


class _Died(Exception):
    """The process of a task ended before the task did."""


def _plain(error: BaseException | None, task: Task) -> Exception | None:
    """Return the error of a task; raise what is none, such as a request to stop."""
    if isinstance(error, _Died):
        return Incomplete(
            f"{task.key} killed its process twice, perhaps for lack of memory. What else is done is kept: give "
            "the same command again, with a smaller --jobs."
        )
    if error is not None and not isinstance(error, Exception):
        raise error
    return error


class _Pool:
    """Worker processes, each with one task at a time; they start when there is work for them."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.running: dict[_Worker, Task] = {}
        self._idle: list[_Worker] = []

    def has_room(self) -> bool:
        """Return whether one more task can run."""
        return len(self.running) < self.jobs

    def submit(self, task: Task) -> None:
        """Give a task to a worker that is idle, or to a new one."""
        call = pack(task)
        while self._idle:
            worker = self._idle.pop()
            if worker.send(call):
                self.running[worker] = task
                return
            worker.end()  # it died while it was idle
        worker = _Worker()
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
                if isinstance(error, _Died):
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


class _Worker:
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
        """Return the error of the call that was sent, if it raised one, or ``_Died``."""
        try:
            if not self.connection.poll():  # it is dead, but processes that it started hold its end of the socket
                return _Died()
            answer = self.connection.recv_bytes()
        except (EOFError, OSError):
            return _Died()
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
    code = _START.format(path=sys.path, descriptor=descriptor, parent=os.getpid())
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
