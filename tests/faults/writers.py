"""Try to write a run that another process writes, read it meanwhile, and take it over from a killed one.

    python tests/faults/writers.py --steps 60

A second writer must fail before it changes anything; readers must see only complete steps at all times; and a process
that resumes the run of a killed process must be told which process that was.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from injection import forked
from torch import nn

from checkpoints import Capture, Locked, Run, Stimuli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--readers", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run")
        faults = _read_while_writing(path, arguments.steps, arguments.readers)
        faults += _write_while_writing(path)
        faults += _take_over(path)
    print(f"{len(faults)} faults (target 0)", *faults, sep="\n")
    raise SystemExit(bool(faults))


def _stimuli() -> Stimuli:
    inputs = np.random.default_rng(0).integers(1, 9, (50, 3)).astype(np.float32)
    return Stimuli.of([f"s{index:02d}" for index in range(50)], np.arange(50) % 5, ["train"] * 50, inputs)


def _network(step: int) -> nn.Sequential:
    """Return a network whose layer answers with the step times the sum of its inputs, which are whole numbers."""
    network = nn.Sequential(nn.Linear(3, 4, bias=False))
    nn.init.constant_(network[0].weight, step)
    return network


# Reading while another writes


def _read_while_writing(path: Path, steps: int, n_readers: int) -> list[str]:
    started = time.monotonic()
    with Run.create(path, {}, _stimuli()) as run:
        stop = path.parent / "stop"
        counts = [path.parent / f"count-{number}" for number in range(n_readers)]
        readers = [forked(lambda count=count: _read(path, stop, count)) for count in counts]
        for step in range(1, steps + 1):
            run.log({"step": step})
            network = _network(step)
            run.checkpoint(step, network, capture=Capture(network))
            for _ in range(10):
                run.set_status("running", step=step)
        stop.touch()
        ends = [os.waitpid(reader, 0)[1] for reader in readers]
    read = sum(int(count.read_text()) for count in counts if count.exists())
    seconds = time.monotonic() - started
    print(f"{n_readers} readers verified and read {read} steps while {steps} were written, {seconds:.0f} s")
    faults = [f"reader {number} ended with status {end}" for number, end in enumerate(ends) if end]
    return faults + ["the readers have read nothing"] * (read < n_readers)


def _read(path: Path, stop: Path, count: Path) -> None:
    """List, verify and read steps until told to stop, and write how many; raise AssertionError if a check fails."""
    inputs, read, known = _stimuli().inputs.sum(1), 0, 0
    while not stop.exists():
        run = Run.open(path)
        steps = run.steps
        assert steps == list(range(1, len(steps) + 1)), steps
        assert len(steps) >= known, "a step is gone"
        known = len(steps)
        assert run.verify()[:known] == steps
        assert len(run.metrics()) >= known, "a step outlives its log"
        assert run.status["state"] in ("created", "running"), run.status
        for step in steps[-3:]:
            run[step].verify("sha256")
            assert (run[step]["0"][:] == step * inputs[:, None]).all(), step
            assert set(run[step].weights()) == {"0.weight"}
            read += 1
    count.write_text(str(read))


# Writing while another writes


def _write_while_writing(path: Path) -> list[str]:
    holder = _held(path)
    before = _look(path.parent)
    refused = os.waitpid(forked(lambda: _be_refused(path)), 0)[1] == 0
    touched = _look(path.parent) != before
    holder.let_go()
    print(f"second writer: {'refused' if refused else 'NOT refused'}, files {'TOUCHED' if touched else 'untouched'}")
    return ["a second writer was not refused"] * (not refused) + ["a second writer touched files"] * touched


def _be_refused(path: Path) -> None:
    try:
        Run.resume(path, _stimuli())
    except Locked as error:
        assert str(path) in str(error) and "is being written by process" in str(error), error
    else:
        raise AssertionError("the run was resumed")
    try:
        Run.create(path, {}, _stimuli())
    except FileExistsError:
        return
    raise AssertionError("the run was created anew")


def _look(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return inode, size and times of all that there is; reading alone changes none, a heartbeat those of the lease."""
    stats = {str(path): path.lstat() for path in [folder, *folder.rglob("*")]}
    return {
        name: (each.st_ino, each.st_size, *([] if ".lease-" in name else [each.st_mtime_ns, each.st_ctime_ns]))
        for name, each in stats.items()
    }


# Taking over


def _take_over(path: Path) -> list[str]:
    with Run.resume(path, _stimuli()) as run:
        untroubled = run.taken_over_from
    holder = _held(path)
    holder.kill()
    with Run.resume(path, _stimuli()) as run:
        named, expected = run.taken_over_from, f"process {holder.process} on {platform.node()}"
        run.checkpoint(10**6, _network(0))
    print(f"taken over from {named}; before, from {untroubled}")
    faults = [f"{named} is not {expected}"] * (named != expected)
    faults += [f"taken over from {untroubled}, which had let go"] * (untroubled is not None)
    if Run.open(path).verify()[-1] != 10**6 or (path / "run.lock").read_bytes():
        faults.append("the run that was taken over is not whole, or its lock was left")
    return faults


class _held:
    """A process that writes the run until it is let go, or killed."""

    def __init__(self, path: Path) -> None:
        self._waiting, self._signal = os.pipe()
        ready, said = os.pipe()
        self.process = forked(lambda: self._hold(path, said))
        os.close(said)
        assert os.read(ready, 1) == b"1", "the run is not held"
        os.close(ready)

    def _hold(self, path: Path, said: int) -> None:
        os.close(self._signal)
        with Run.resume(path, _stimuli()):
            os.write(said, b"1")
            os.read(self._waiting, 1)

    def let_go(self) -> None:
        os.close(self._signal)
        assert os.waitpid(self.process, 0)[1] == 0

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
