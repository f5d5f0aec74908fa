"""Commit a step of 8 MiB to a file system with 0, 64, 128, … KiB of free space, until it fits.

    python tests/faults/full_disk.py

A tmpfs of 24 MiB is mounted, which needs root on Linux. One process makes all attempts, so that a crash, also one on
exit, is seen as a signal. Each attempt must raise an OSError that names the run and leave no files behind; after the
ballast is removed, the step must be committed and verify.
"""

from __future__ import annotations

import argparse
import errno
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from small_run import contents, leftovers
from torch import nn

from checkpoints import Capture, Run, Stimuli

DISK, ROOM = 24 * 2**20, 2**16
N, WIDTH = 2000, 1024
MAY_NOT_MOUNT = 77


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", type=int, default=ROOM, help="bytes by which the free room grows between attempts")
    parser.add_argument("--on", default=None, help=argparse.SUPPRESS)  # the mounted folder, for the process that tries
    arguments = parser.parse_args()
    if arguments.on:
        raise SystemExit(_try_until_it_fits(Path(arguments.on), arguments.room))
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder]
        if shutil.which("mount") is None or (said := subprocess.run(mount, capture_output=True, text=True)).returncode:
            print("A tmpfs may not be mounted here:", "no mount command" if not shutil.which("mount") else said.stderr)
            raise SystemExit(MAY_NOT_MOUNT)
        try:
            command = [sys.executable, __file__, "--on", folder, "--room", str(arguments.room)]
            code = subprocess.run(command, timeout=600).returncode
        finally:
            subprocess.run(["umount", folder], check=True)
    print(f"the process ended with {f'signal {-code}' if code < 0 else f'code {code}'} (target: code 0)")
    raise SystemExit(bool(code))


def _try_until_it_fits(disk: Path, growth: int) -> int:
    """Return the number of faults found, at most 1 as the code that a process ends with."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, WIDTH))
    inputs = np.random.default_rng(0).random((N, 4), dtype=np.float32)
    stimuli = Stimuli.of([f"{index:04d}" for index in range(N)], np.arange(N) % 10, ["test"] * N, inputs)
    where: Counter[str] = Counter()
    started, faults, step = time.monotonic(), [], Path()
    with Run.create(disk / "run", {}, stimuli) as run:
        run.checkpoint(1, network)
        run.log({"step": 2})
        step = run.checkpoint(2, network, capture=Capture(network)).path
        whole = contents(step)
        size = sum(map(len, whole.values()))
        gc.freeze()  # collections then look at what the attempts make, and are quick
        free = 0
        while True:
            shutil.rmtree(step)
            error = _attempt(run, network, disk, free)
            if error is None:
                break
            where[Path(error.filename or "?").name if error.filename else "?"] += 1
            faults += _faults(run, error, free)
            run.checkpoint(2, network, capture=Capture(network))
            if run.verify() != [1, 2] or contents(step) != whole:
                faults.append(f"{free} bytes free: the next commit was not the same")
            free += growth
        if run.verify() != [1, 2] or contents(step) != whole:
            faults.append(f"{free} bytes free: the step that fitted is not the same")
    tried = sum(where.values())
    print(f"a step of {size / 2**20:.2f} MiB fitted when {free / 2**20:.2f} MiB were free")
    print(f"{tried} attempts that did not fit, every {growth // 1024} KiB: " + _listed(where))
    print(f"{len(faults)} faults (target 0), {time.monotonic() - started:.0f} s", *faults, sep="\n", flush=True)
    return bool(faults) or tried < size // growth


def _attempt(run: Run, network: nn.Module, disk: Path, free: int) -> OSError | None:
    """Try to commit with so many bytes free, and return the error."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, _free(disk) - free)
    assert _free(disk) == free
    try:
        run.checkpoint(2, network, capture=Capture(network))
    except OSError as error:
        return error.with_traceback(None)
    finally:
        gc.collect()
        ballast.unlink()
    return None


def _faults(run: Run, error: OSError, free: int) -> list[str]:
    found = []
    if error.errno != errno.ENOSPC or str(run.path) not in str(error):
        found.append(f"{free} bytes free: {error!r}")
    if run.verify() != [1] or leftovers(run.path):
        found.append(f"{free} bytes free: steps {run.steps}, left {leftovers(run.path)}")
    return found


def _free(disk: Path) -> int:
    room = os.statvfs(disk)
    return room.f_bavail * room.f_frsize


def _listed(where: Counter[str]) -> str:
    return ", ".join(f"{count} in {name}" for name, count in where.most_common())


if __name__ == "__main__":
    main()
