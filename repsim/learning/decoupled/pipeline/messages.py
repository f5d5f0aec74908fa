"""Messages between neighbours in a pipeline, by gloo on the loopback device, and how long they are waited for."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from repsim.learning.decoupled.pipeline.processes import PeerLost

__all__ = ["Clock", "Mailbox", "Receiver", "Sender", "connect", "talk"]


def connect(rank: int, n_processes: int, store: Path, timeout: float) -> dist.ProcessGroup:
    """Join the default group, in which activations go up; return the group in which targets come down."""
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if loopback:
        os.environ["GLOO_SOCKET_IFNAME"] = loopback[0]
    limit = timedelta(seconds=timeout)
    found = dist.FileStore(str(store), n_processes)
    dist.init_process_group("gloo", store=found, rank=rank, world_size=n_processes, timeout=limit)
    return dist.new_group(backend="gloo", timeout=limit)


@contextmanager
def talk() -> Iterator[None]:
    """Say of errors in here that they are those of another process."""
    try:
        yield
    except (RuntimeError, Empty) as error:
        raise PeerLost(f"Another process was lost, or not in time: {error}") from error


class Clock:
    """Counts the seconds in which this process is blocked, by what it waits for."""

    def __init__(self) -> None:
        self.idle = dict.fromkeys(("input", "room", "gradient", "drain"), 0.0)
        self._started = self._cpu_started = 0.0

    def start(self) -> None:
        """Begin to count."""
        self._started, self._cpu_started = time.perf_counter(), time.process_time()

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Count the time in here."""
        started = time.perf_counter()
        with talk():
            yield
        self.idle[what] += time.perf_counter() - started

    def seconds(self) -> float:
        """Return the time since the start."""
        return time.perf_counter() - self._started

    def cpu_seconds(self) -> float:
        """Return the processor time since the start."""
        return time.process_time() - self._cpu_started


class Sender:
    """Sends tensors to a neighbour; it waits only if more than ``room`` of them have not been taken."""

    def __init__(self, rank: int, group: dist.ProcessGroup | None, room: int, clock: Clock) -> None:
        self._rank, self._group, self._room, self._clock = rank, group, room, clock
        self._sent: deque[tuple[Any, Tensor]] = deque()  # a tensor must live until it is taken

    def send(self, message: Tensor) -> None:
        """Send a tensor, which must not change afterwards."""
        message = message.contiguous()
        with talk():
            self._sent.append((dist.isend(message, self._rank, group=self._group), message))
        self._wait(self._room)

    def finish(self) -> None:
        """Wait until all is taken."""
        self._wait(0)

    def _wait(self, room: int) -> None:
        while len(self._sent) > room:
            with self._clock.waiting("room"):
                self._sent.popleft()[0].wait()


class Receiver:
    """Takes n tensors from a neighbour; while one is worked on, the next is on its way."""

    def __init__(self, rank: int, shape: tuple[int, ...], dtype: torch.dtype, n: int, clock: Clock) -> None:
        self._rank, self._shape, self._dtype, self._left, self._clock = rank, shape, dtype, n, clock
        self._coming: tuple[Any, Tensor] | None = None
        self._ask()

    def take(self) -> Tensor:
        """Return the next tensor, and ask for that which follows."""
        assert self._coming is not None
        request, tensor = self._coming
        with self._clock.waiting("input"):
            request.wait()
        self._ask()
        return tensor

    def _ask(self) -> None:
        if self._left:
            self._left -= 1
            tensor = torch.empty(self._shape, dtype=self._dtype)
            with talk():
                self._coming = dist.irecv(tensor, self._rank), tensor


class Mailbox:
    """Takes n tensors from a neighbour as they come, in a thread."""

    def __init__(
        self,
        rank: int,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        n: int,
        group: dist.ProcessGroup,
        timeout: float,
        clock: Clock,
    ) -> None:
        self._timeout, self._clock = timeout, clock
        self._arrived: SimpleQueue[Tensor | RuntimeError] = SimpleQueue()
        Thread(target=self._receive, args=(rank, shape, dtype, n, group), daemon=True).start()

    def has_some(self) -> bool:
        """Return whether a tensor lies in it."""
        return not self._arrived.empty()

    def take(self) -> Tensor:
        """Return the first of those that lie in it."""
        with talk():
            return self._open(self._arrived.get_nowait())

    def wait(self, what: str) -> Tensor:
        """Return the first as soon as there is one."""
        with self._clock.waiting(what):
            return self._open(self._arrived.get(timeout=self._timeout))

    def _open(self, message: Tensor | RuntimeError) -> Tensor:
        if isinstance(message, RuntimeError):
            raise message
        return message

    def _receive(self, rank: int, shape: tuple[int, ...], dtype: torch.dtype, n: int, group: dist.ProcessGroup) -> None:
        try:
            for _ in range(n):
                tensor = torch.empty(shape, dtype=dtype)
                dist.recv(tensor, rank, group=group)
                self._arrived.put(tensor)
        except RuntimeError as error:
            self._arrived.put(error)
