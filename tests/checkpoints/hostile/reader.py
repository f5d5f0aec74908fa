"""The reader of hostile runs: a server that reads each case in a forked process, and the run that cases change."""

import ctypes
import gc
import hashlib
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import Capture, Run, read_weights
from tests.checkpoints.small_runs import build, build_stimuli, train

STEP = 5
FLOATS = np.ones((6, 8), np.float32)


def write_run(path: Path) -> None:
    model = build()
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer, 1)
    with Run.create(path, {"lr": 0.1}, build_stimuli()) as run:
        run.log({"step": 1, "loss": 0.5})
        run.checkpoint(STEP, model, optimizer, capture=Capture(model, ["0", "2"]))


@dataclass(frozen=True)
class Place:
    """Where a case is made: the run, files given beside it, and what lies outside and is nobody's to touch."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def step(self) -> Path:
        return self.run / "checkpoints" / f"step_{STEP:08d}"

    @property
    def activations(self) -> Path:
        return self.step / "activations.h5"

    @property
    def given(self) -> Path:
        return self.folder / "given"

    @property
    def outside(self) -> Path:
        return self.folder / "outside"

    def of(self, name: str) -> Path:
        """Return the path of a file of the run or of its step."""
        return self.run / name if (self.run / name).is_symlink() or (self.run / name).exists() else self.step / name


def seal(place: Place) -> None:
    """Make every hash fit what is there now; links are followed, and what cannot be hashed gets some hash."""
    if not place.step.is_symlink() and (place.step / "MANIFEST.json").is_file():
        manifest = json.loads((place.step / "MANIFEST.json").read_bytes())
        for name in manifest["files"]:
            manifest["files"][name] = described(place.step / name)
        if not (place.step / "MANIFEST.json").is_symlink():
            write_json(place.step / "MANIFEST.json", manifest)
    if (place.run / "run.json").is_file() and not (place.run / "run.json").is_symlink():
        info = json.loads((place.run / "run.json").read_bytes())
        info["stimuli_sha256"] = described(place.run / "stimuli.h5")["sha256"]
        write_json(place.run / "run.json", sealed(info))


def described(path: Path) -> dict[str, Any]:
    content = path.read_bytes() if path.is_file() and path.stat().st_size < 2**24 else b""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def sealed(info: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in info.items() if name != "sha256"}
    return {**rest, "sha256": hashlib.sha256((json.dumps(rest, indent=2) + "\n").encode()).hexdigest()}


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def operations(place: Place) -> dict[str, Callable[[], Any]]:
    """Return what readers and writers of a run do, by name."""

    def step() -> Any:
        return Run.open(place.run)[STEP]

    def restore() -> None:
        model = build()
        step().restore(model, torch.optim.Adam(model.parameters()))

    return {
        "open": lambda: Run.open(place.run),
        "status": lambda: Run.open(place.run).status,
        "steps": lambda: Run.open(place.run).steps,
        "metrics": lambda: Run.open(place.run).metrics(),
        "stimuli": lambda: Run.open(place.run).stimuli,
        "activations": lambda: [block for layer in step().activations.values() for block in layer.blocks()],
        "weights": lambda: step().weights(),
        "restore": restore,
        "verify size": lambda: Run.open(place.run).verify("size"),
        "verify": lambda: Run.open(place.run).verify("sha256"),
        "resume": lambda: go_on(place.run),
        "read_weights": lambda: [read_weights(path) for path in sorted(place.given.iterdir())],
    }


def go_on(path: Path) -> None:
    with Run.resume(path, build_stimuli()) as run:
        run.set_status("running")
        run.log({"step": 6, "loss": 0.25})
        run.cut_metrics(STEP)
        run.checkpoint(6, build())


def serve() -> None:
    """Read one case a line of the standard input, each in a forked process, and answer with a line each."""
    torch.optim.Adam(build().parameters())  # it imports more at its first use
    gc.freeze()  # or each fork would copy what its collector walks over
    for line in sys.stdin:
        request = json.loads(line)
        source, sink = os.pipe()
        if (child := os.fork()) == 0:
            os.close(source)
            os.write(sink, json.dumps(attempt(**request)).encode())
            os._exit(0)
        os.close(sink)
        with os.fdopen(source, "rb") as answer:
            attempted = json.loads(answer.read() or "{}")
        _, status, usage = os.wait4(child, 0)
        print(json.dumps({**attempted, "status": status, "memory": usage.ru_maxrss * 1024}), flush=True)


def attempt(folder: str, resume: bool, torch_version: str | None) -> dict[str, Any]:
    """Do all a reader does, in bounded time and memory, and return the errors that it met and its longest time."""
    signal.alarm(20)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 2**30
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**31,) * 2)
    if torch_version is not None:
        torch.__version__ = torch_version  # type: ignore[assignment]
    errors, seconds = {}, 0.0
    for name, operation in operations(Place(Path(folder))).items():
        if name == "resume" and not resume:
            continue
        started = time.monotonic()
        try:
            operation()
        except BaseException as error:
            errors[name] = ([each.__name__ for each in type(error).__mro__], str(error)[:20_000])
        seconds = max(seconds, time.monotonic() - started)
    return {"errors": errors, "seconds": seconds}


@dataclass
class Reader:
    """The server; ``honest`` is the memory that it takes to read the untouched run."""

    process: subprocess.Popen[str]
    honest: int = 0

    def read(self, place: Place, *, resume: bool = True, torch_version: str | None = None) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"folder": str(place.folder), "resume": resume, "torch_version": torch_version}
        print(json.dumps(request), file=self.process.stdin)
        self.process.stdin.flush()
        report: dict[str, Any] = json.loads(self.process.stdout.readline())
        return report


class TouchedFiles:
    """Tells which files below a folder are opened, read, written, made or removed, by whichever process."""

    _OPEN, _ACCESS, _MODIFY, _CREATE, _DELETE, _MOVED = 0x20, 0x1, 0x2, 0x100, 0x200, 0xC0

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            pytest.skip("inotify is not available: what is opened outside cannot be seen")
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            pytest.skip("inotify gives no more instances: what is opened outside cannot be seen")
        mask = self._OPEN | self._ACCESS | self._MODIFY | self._CREATE | self._DELETE | self._MOVED
        for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            assert libc.inotify_add_watch(self._descriptor, os.fsencode(each), mask) >= 0

    def close(self) -> list[str]:
        """Return the names of what was touched."""
        try:
            events = os.read(self._descriptor, 2**16)
        except BlockingIOError:
            events = b""
        os.close(self._descriptor)
        names = []
        while events:
            length = struct.unpack_from("iIII", events)[3]
            names.append(events[16 : 16 + length].rstrip(b"\0").decode() or ".")
            events = events[16 + length :]
        return names


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    serve()
