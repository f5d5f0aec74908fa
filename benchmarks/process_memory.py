"""Peak memory of a process and of all that it starts, from /proc (Linux)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

__all__ = ["MEASURED", "PeakMemory", "watch"]

MEASURED = Path("/proc/self/smaps_rollup").exists()  # whether this system tells
INTERVAL = 0.2  # seconds


class PeakMemory:
    """Memory of a process and of its descendants.

    Attributes
    ----------
    largest : float
        Peak resident memory of the largest process, MB.
    total : float
        Largest sum over the processes that there were at one time, MB; a page that several share counts once.
    """

    def __init__(self) -> None:
        self.largest = self.total = 0.0

    def look(self, pid: int) -> None:
        """Take in what the process and its descendants use now, and what each used at most."""
        found = [_peak_and_share(each) for each in _family(pid)]
        self.largest = max([self.largest, *(peak for peak, _ in found)])
        self.total = max(self.total, self.largest, sum(share for _, share in found))


@contextmanager
def watch(pid: int) -> Iterator[PeakMemory]:
    """Look at the memory of a process, at short intervals, until the end of the block."""
    memory, over = PeakMemory(), Event()

    def look() -> None:
        while MEASURED and not over.wait(INTERVAL):
            memory.look(pid)

    thread = Thread(target=look)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()


def _family(pid: int) -> list[int]:
    """Return the process and all its descendants."""
    family = [pid]
    for each in family:  # which grows
        family += [int(child) for task in _threads(each) for child in _read(task / "children").split()]
    return family


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # it has ended
        return []


def _peak_and_share(pid: int) -> tuple[float, float]:
    """Return the peak resident memory of a process and its share of what is resident now, MB; 0 if it has ended."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", _read(Path(f"/proc/{pid}/status")))
    share = re.search(r"\nPss:\s+(\d+) kB", _read(Path(f"/proc/{pid}/smaps_rollup")))
    return tuple(int(found[1]) * 1024 / 1e6 if found else 0.0 for found in (peak, share))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""
