"""Let processes on simulated hosts, which share no ``flock``, take over one lock while they are killed and stopped.

    python tests/faults/leases.py --seconds 60

Each process writes lines under the lock. Some kill themselves while they hold the lock, or stop until others have had
time to take it over. The lines of a holder must be consecutive, otherwise two have written at once. A dead or stopped
holder must be replaced soon after the lease has expired, and a process that was replaced must notice it.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import platform
import random
import signal
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

from injection import forked

import checkpoints.storage.lease
from checkpoints.storage.commit import append_line
from checkpoints.storage.lock import Lock, Locked, is_locked

KILLS, STALLS = 0.25, 0.25  # of the times that a process holds the lock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--lease", type=float, default=1, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    checkpoints.storage.lease.LEASE = arguments.lease
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.lock")
        path.with_name("log").touch()
        events = _contend(path, arguments.seconds, arguments.processes, random.Random(arguments.seed))
        faults = _judge(path, events, arguments.lease)
    print(f"{len(faults)} faults (target 0)", *faults, sep="\n")
    raise SystemExit(bool(faults))


def _contend(path: Path, seconds: float, processes: int, dice: random.Random) -> Counter[str]:
    """Keep so many processes alive, wake those that stopped themselves, and return how processes ended."""
    events: Counter[str] = Counter()
    until, number, asleep = time.monotonic() + seconds, 0, {}
    alive: set[int] = set()
    while time.monotonic() < until or alive:
        while len(alive) < processes and time.monotonic() < until:
            number += 1
            alive.add(_start(path, number, until, dice.random()))
        for child in list(alive):
            ended, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
            if ended and os.WIFSTOPPED(status):
                asleep[child] = time.monotonic() + checkpoints.storage.lease.LEASE * dice.uniform(0.2, 3)
            elif ended:
                alive.remove(child)
                events[f"ended with {status}"] += 1
        for child in [each for each, wake in asleep.items() if time.monotonic() > wake]:
            del asleep[child]
            os.kill(child, signal.SIGCONT)
        if time.monotonic() > until + 60:
            for child in alive:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            events["never ended"] += len(alive)
            break
        time.sleep(0.01)
    return events


def _start(path: Path, number: int, until: float, seed: float) -> int:
    """Start a process that writes under the lock, on a host of its own: one that refuses ``flock``, or grants it."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def work() -> None:
        platform.node = lambda: f"host{number}"  # type: ignore[assignment]
        fcntl.flock = refuse if number % 2 else lambda *_: None  # type: ignore[assignment]
        dice = random.Random(seed)
        while time.monotonic() < until:
            _write_for_a_while(path, dice)
            time.sleep(dice.uniform(0, 0.05))

    return forked(work)


def _write_for_a_while(path: Path, dice: random.Random) -> None:
    log, fate = path.with_name("log"), dice.random()
    try:
        lock = Lock(path)
    except Locked:
        return
    holder = uuid.uuid4().hex
    _write(log, holder, "took over" if lock.taken_over_from else "took")
    try:
        for _ in range(dice.randrange(1, 8)):
            lock.confirm()
            _write(log, holder, "wrote")
            time.sleep(dice.uniform(0, 0.03))
        if fate < KILLS:
            lock.confirm()
            _write(log, holder, "died")
            os.kill(os.getpid(), signal.SIGKILL)
        if fate < KILLS + STALLS:
            lock.confirm()
            _write(log, holder, "stalled")
            os.kill(os.getpid(), signal.SIGSTOP)
        lock.confirm()
        _write(log, holder, "released")
    except Locked:
        append_line(path.with_name("refusals"), holder.encode())
    lock.release()


def _write(log: Path, holder: str, act: str) -> None:
    append_line(log, f"{holder} {time.monotonic()} {act}".encode())


def _judge(path: Path, events: Counter[str], lease: float) -> list[str]:
    lines = [line.split(" ", 2) for line in path.with_name("log").read_text().splitlines()]
    acts = Counter(act for _, _, act in lines)
    refusals = path.with_name("refusals")
    refused = len(refusals.read_bytes().splitlines()) if refusals.exists() else 0
    print(
        f"{acts['took'] + acts['took over']} times held, {acts['wrote']} lines, {acts['died']} holders killed,", end=" "
    )
    print(f"{acts['stalled']} stalled, {acts['took over']} taken over, {refused} refused to go on afterwards")
    faults = [
        f"{count} processes {how}" for how, count in events.items() if how not in ("ended with 0", "ended with 9")
    ]
    seen: set[str] = set()
    longest = 0.0
    for before, now in zip([["", "0", ""], *lines], lines, strict=False):
        if now[0] != before[0]:
            if now[0] in seen:
                faults.append(f"{now[0]} wrote again after {before[0]} had written")
            seen.add(now[0])
            if before[2] == "died":
                longest = max(longest, float(now[1]) - float(before[1]))
    print(f"a killed holder was replaced after {longest / lease:.1f} leases at the latest")
    if longest > 3 * lease + 2:
        faults.append(f"a killed holder was replaced only after {longest:.1f} s")
    if not (acts["died"] and acts["stalled"] and refused):
        faults.append("nobody died, stalled or was refused: this shows nothing")
    if is_locked(path):
        faults.append("the lock is held still")
    return faults


if __name__ == "__main__":
    main()
