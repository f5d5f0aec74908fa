"""Messages between neighbouring stages of a pipeline, sent with gloo over the loopback device."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from repsim.learning.decoupled.pipeline.process_group import PeerLost

__all__ = ["Clock", "Mailbox", "Receiver", "Sender", "connect", "talk"]


def connect(rank: int, n_processes: int, store: Path, timeout: float) -> dist.ProcessGroup:
    """Join the default process group, which sends activations up, and return the group that sends targets down."""
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if loopback:
        os.environ["GLOO_SOCKET_IFNAME"] = loopback[0]
    limit = timedelta(seconds=timeout)
    file_store = dist.FileStore(str(store), n_processes)
    dist.init_process_group("gloo", store=file_store, rank=rank, world_size=n_processes, timeout=limit)
    return dist.new_group(backend="gloo", timeout=limit)


@contextmanager
def talk() -> Iterator[None]:
    """Raise errors of the communication inside this block as ``PeerLost``."""
    try:
        yield
    except (RuntimeError, Empty) as error:
        raise PeerLost(f"Another process was lost or exceeded the timeout: {error}") from error


class Clock:
    """Counter of the seconds that this process spends waiting, by reason."""

    def __init__(self) -> None:
        self.idle = dict.fromkeys(("input", "room", "gradient", "drain"), 0.0)
        self._started = self._cpu_started = 0.0

    def start(self) -> None:
        """Start counting."""
        self._started, self._cpu_started = time.perf_counter(), time.process_time()

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Count the time spent inside this block."""
        started = time.perf_counter()
        with talk():
            yield
        self.idle[what] += time.perf_counter() - started

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._started

    def cpu_seconds(self) -> float:
        """Return the seconds of processor time since the start."""
        return time.process_time() - self._cpu_started


class Sender:
    """Sender of tensors to a neighbour; it blocks only while more than ``room`` of them have not been received."""

    def __init__(self, rank: int, group: dist.ProcessGroup | None, room: int, clock: Clock) -> None:
        self._rank, self._group, self._room, self._clock = rank, group, room, clock
        self._sent: deque[tuple[Any, Tensor]] = deque()  # a tensor must live until it is received

    def send(self, message: Tensor) -> None:
        """Send a tensor, which must not be changed afterwards."""
        message = message.contiguous()
        with talk():
            self._sent.append((dist.isend(message, self._rank, group=self._group), message))
        self._wait(self._room)

    def finish(self) -> None:
        """Wait until all tensors have been received."""
        self._wait(0)

    def _wait(self, room: int) -> None:
        while len(self._sent) > room:
            with self._clock.waiting("room"):
                self._sent.popleft()[0].wait()


class Receiver:
    """Receiver of n tensors from a neighbour; while one is processed, the next is already being transferred."""

    def __init__(self, rank: int, shape: tuple[int, ...], dtype: torch.dtype, n: int, clock: Clock) -> None:
        self._rank, self._shape, self._dtype, self._left, self._clock = rank, shape, dtype, n, clock
        self._coming: tuple[Any, Tensor] | None = None
        self._request_next()

    def take(self) -> Tensor:
        """Return the next tensor, and request the one after it."""
        assert self._coming is not None
        request, tensor = self._coming
        with self._clock.waiting("input"):
            request.wait()
        self._request_next()
        return tensor

    def _request_next(self) -> None:
        if self._left:
            self._left -= 1
            tensor = torch.empty(self._shape, dtype=self._dtype)
            with talk():
                self._coming = dist.irecv(tensor, self._rank), tensor


class Mailbox:
    """Queue of n tensors from a neighbour, which a thread receives as they arrive.

    If ``room`` is given, the thread receives no more while so many of them have not been taken.
    """

    def __init__(
        self,
        rank: int,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        n: int,
        group: dist.ProcessGroup | None,
        timeout: float,
        clock: Clock,
        *,
        room: int = 0,
    ) -> None:
        self._timeout, self._clock = timeout, clock
        self._arrived: Queue[Tensor | RuntimeError] = Queue(room)
        Thread(target=self._receive, args=(rank, shape, dtype, n, group), daemon=True).start()

    def has_some(self) -> bool:
        """Return whether a tensor has arrived."""
        return not self._arrived.empty()

    def take(self) -> Tensor:
        """Return the first tensor that has arrived."""
        with talk():
            return self._open(self._arrived.get_nowait())

    def wait(self, what: str) -> Tensor:
        """Wait for a tensor and return it."""
        with self._clock.waiting(what):
            return self._open(self._arrived.get(timeout=self._timeout))

    def _open(self, message: Tensor | RuntimeError) -> Tensor:
        if isinstance(message, RuntimeError):
            raise message
        return message

    def _receive(
        self, rank: int, shape: tuple[int, ...], dtype: torch.dtype, n: int, group: dist.ProcessGroup | None
    ) -> None:
        try:
            for _ in range(n):
                tensor = torch.empty(shape, dtype=dtype)
                dist.recv(tensor, rank, group=group)
                self._arrived.put(tensor)
        except RuntimeError as error:
            self._arrived.put(error)
