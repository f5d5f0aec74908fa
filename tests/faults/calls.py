"""Kill a process at each call by which it changes the file system, just before it and just after it.

    python tests/faults/calls.py

The calls are those of ``Run.create``, ``checkpoint``, ``log``, ``set_status``, ``cut_metrics`` and ``resume``. After
each kill the earlier step must verify, and the action must be complete or absent. A resumed run must then complete it,
verify, and hold no unfinished files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from injection import forked, intercepted, killing
from small_run import EARLIER, LATER, contents, create_run, leftovers, make_stimuli, save

from checkpoints import Run

OLD = 3600  # seconds after which nobody waits for a writer that was creating a run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=None, help="where to write; the system's temporary folder by default")
    parser.add_argument("--quick", action="store_true", help="kill just before each call only")
    arguments = parser.parse_args()
    started, wrong = time.monotonic(), 0
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name, act in ACTS.items():
            for after in (False, True)[: 1 if arguments.quick else 2]:
                scene = Path(folder, f"{name}-{after}")
                kills, found = _kill_at_each_call(scene, act, after)
                print(f"{name}: {kills} kills just {'after' if after else 'before'} a call, {len(found)} faults")
                print(*found, sep="\n", end="\n" * bool(found))
                wrong += len(found) + (kills == 0)
    print(f"{wrong} faults in all (target 0), {time.monotonic() - started:.0f} s")
    raise SystemExit(bool(wrong))


class Act:
    """Something that a writer does to a run: ``do`` it, and tell whether it ``is_done`` by looking at the files."""

    def __init__(self, do: Callable[[Run], object], is_done: Callable[[Run], bool]) -> None:
        self.do, self.is_done = do, is_done

    def prepare(self, path: Path) -> None:
        """Make the run to which it is done."""
        create_run(path).close()
        run = Run.resume(path, make_stimuli())
        run.log({"step": LATER, "loss": 0.25})
        run.close()

    def start(self, path: Path, fatal: int, after: bool) -> None:
        """Do it in this process, which dies at that call."""
        run = Run.resume(path, make_stimuli())
        with intercepted(killing(fatal, after=after)):
            self.do(run)

    def finish(self, path: Path) -> None:
        """Do it after all, if it was not done."""
        with Run.resume(path, make_stimuli()) as run:
            if not self.is_done(run):
                self.do(run)
            assert self.is_done(run), "it is not done after the resume either"

    def look(self, path: Path) -> None:
        """Raise if anything is there that must not be."""
        run = Run.open(path)
        steps = run.verify("sha256")
        assert steps in ([EARLIER], [EARLIER, LATER]), f"steps are {steps}"
        assert {record["step"] for record in run.metrics()} <= {EARLIER, LATER, LATER + 1}
        assert run.metrics()[0] == {"step": EARLIER, "loss": 0.5}
        run.status  # noqa: B018 - it is read, or raises


class Creating(Act):
    """Making a run, beside which a dead process may leave what only time removes."""

    def __init__(self) -> None:
        super().__init__(lambda run: None, lambda run: True)

    def prepare(self, path: Path) -> None:
        """Leave the place empty."""

    def start(self, path: Path, fatal: int, after: bool) -> None:
        with intercepted(killing(fatal, after=after)):
            run = Run.create(path, {"lr": 0.1}, make_stimuli())
        run.close()

    def finish(self, path: Path) -> None:
        for left in path.parent.glob(".tmp-*"):
            os.utime(left, (time.time() - OLD,) * 2)
        if not path.exists():
            Run.create(path, {"lr": 0.1}, make_stimuli()).close()
        with Run.resume(path, make_stimuli()) as run:
            run.log({"step": EARLIER, "loss": 0.5})
            save(run, EARLIER)

    def look(self, path: Path) -> None:
        if path.exists():
            assert Run.open(path).verify() in ([], [EARLIER])


class Resuming(Act):
    """Resuming a run that a killed writer left, which removes what was left of a commit and of a line of the log."""

    def __init__(self) -> None:
        super().__init__(save, lambda run: LATER in run.steps)

    def prepare(self, path: Path) -> None:
        super().prepare(path)
        shutil.copytree(path / "checkpoints" / f"step_{EARLIER:08d}", path / "checkpoints" / ".tmp-step_00000002-ab")
        (path / ".tmp-run.json-cd").write_bytes(b"half")
        with (path / "metrics.jsonl").open("ab") as log:
            log.write(b'{"step": 3, "lo')

    def start(self, path: Path, fatal: int, after: bool) -> None:
        with intercepted(killing(fatal, after=after)):
            Run.resume(path, make_stimuli()).close()


def _kill_at_each_call(scene: Path, act: Act, after: bool) -> tuple[int, list[str]]:
    """Return how often a process was killed before one lived, and what was wrong afterwards."""
    scene.mkdir()
    prepared = scene / "prepared" / "run"
    prepared.parent.mkdir()
    act.prepare(prepared)
    kills, found = 0, []
    while True:
        folder = scene / str(kills)
        shutil.copytree(prepared.parent, folder)
        path, fatal = folder / "run", kills
        _, status = os.waitpid(forked(lambda path=path, fatal=fatal: act.start(path, fatal, after)), 0)
        if status not in (0, signal.SIGKILL):
            found.append(f"call {kills}: the process ended with status {status}")
        try:
            _check(act, path)
        except Exception as error:
            found.append(f"call {kills}: {type(error).__name__}: {error}")
        if status != signal.SIGKILL:
            return kills, found
        kills += 1
        shutil.rmtree(folder)


def _check(act: Act, path: Path) -> None:
    earlier = path / "checkpoints" / f"step_{EARLIER:08d}"
    before = contents(earlier)
    act.look(path)
    act.finish(path)
    act.look(path)
    assert not leftovers(path.parent), f"{leftovers(path.parent)} was left"
    assert not before or contents(earlier) == before, "the earlier step has changed"
    assert (path / "run.lock").read_bytes() == b"", "the lock was left"
    assert not list(path.glob("run.lease-*")), "the lease was left"


ACTS = {
    "create": Creating(),
    "checkpoint": Act(save, lambda run: LATER in run.steps),
    "log": Act(
        lambda run: run.log({"step": LATER + 1, "loss": 0.1}), lambda run: run.metrics()[-1]["step"] == LATER + 1
    ),
    "set_status": Act(lambda run: run.set_status("finished"), lambda run: run.status["state"] == "finished"),
    "cut_metrics": Act(lambda run: run.cut_metrics(EARLIER), lambda run: len(run.metrics()) == 1),
    "resume": Resuming(),
}


if __name__ == "__main__":
    main()
