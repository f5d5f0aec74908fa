import errno
import fcntl
import gc
import itertools
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import checkpoints.storage.lease
import checkpoints.storage.lease_files
from checkpoints import Run, Stimuli
from checkpoints.storage.commit import append_line, replace_file, staged_directory
from checkpoints.storage.lease import Lease, Locked, is_leased
from checkpoints.storage.lock import Lock, is_locked

SHORT = 1.5  # seconds

PREPARE = """
import errno, fcntl, os, pathlib, platform, random, signal, sys, time
import checkpoints.storage.lease
import checkpoints.storage.lease_files
from checkpoints.storage.lock import Lock, Locked, is_locked
path, host, flock, lease = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
checkpoints.storage.lease.LEASE = lease
platform.node = lambda: host
def refused(*_):
    raise OSError(errno.ENOLCK, "No locks available")
if flock != "shared":
    fcntl.flock = refused if flock == "refused" else lambda *_: None
"""
HOLD = """
lock = Lock(path)
print("held", flush=True)
for line in sys.stdin:
    try:
        lock.confirm()
        print("confirmed", flush=True)
    except Locked as error:
        print(error, flush=True)
lock.release()
"""
CONTEND = """
random.seed(host)
taken, until = 0, time.monotonic() + 40
while taken < 5 and time.monotonic() < until:
    try:
        lock = Lock(path)
    except Locked:
        continue
    os.close(os.open(path.with_name("inside"), os.O_CREAT | os.O_EXCL))  # raises if another holds the lock too
    time.sleep(random.uniform(0, 0.02))
    lock.confirm()
    path.with_name("inside").unlink()
    taken += 1
    lock.release()
    time.sleep(random.uniform(0, 0.02))
print(taken)
"""


def started(program: str, path: Path, host: str, flock: str = "refused", lease: float = SHORT) -> subprocess.Popen[str]:
    """Start a process on a pretended host, where ``flock`` is "refused", "local" to it, or "shared"."""
    command = [sys.executable, "-c", PREPARE + program, str(path), host, flock, str(lease)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def holding(path: Path, host: str, flock: str = "refused") -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the lock."""
    with started(HOLD, path, host, flock) as child:
        try:
            assert answer(child) == "held"
            yield child
        finally:
            child.kill()


def answer(child: subprocess.Popen[str], question: str = "") -> str:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(question)
    child.stdin.flush()
    return child.stdout.readline().strip()


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "run.lock"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make leases short and ``flock`` refused."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(checkpoints.storage.lease, "LEASE", SHORT)
    monkeypatch.setattr(fcntl, "flock", refuse)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# One at a time


@pytest.mark.parametrize(
    ("hosts", "flock"),
    [(("here", "there", "yonder"), "local"), (("here", "here", "here"), "refused")],
    ids=["hosts", "host"],
)
def test_contending_processes_never_hold_the_lock_together(path: Path, hosts: tuple[str, ...], flock: str) -> None:
    children = [started(CONTEND, path, host, flock, 3) for host in hosts]
    ends = [child.communicate(timeout=60) for child in children]
    assert ends == [("5\n", "")] * len(hosts)
    assert names(path.parent) == {"run.lock"}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("flock", ["refused", "local"])
def test_a_holder_on_another_host_is_named_at_its_next_heartbeat(path: Path, flock: str) -> None:
    with holding(path, "there", flock) as child:
        start = time.monotonic()
        with pytest.raises(Locked, match=f"{path.parent} is being written by process {child.pid} on there. Wait for"):
            Lock(path)
        assert time.monotonic() - start < SHORT
        assert is_locked(path)
        assert answer(child, "\n") == "confirmed"
        child.communicate("")
        assert not is_locked(path)
        Lock(path).release()
        assert names(path.parent) == {"run.lock"}


@pytest.mark.usefixtures("short")
def test_a_released_lock_is_free_at_once(path: Path) -> None:
    lock = Lock(path)
    assert is_locked(path)
    with pytest.raises(Locked):
        Lock(path)
    lock.release()
    start = time.monotonic()
    Lock(path).release()
    assert time.monotonic() - start < SHORT


# Taking over


@pytest.mark.usefixtures("short")
def test_a_killed_holder_of_this_host_is_replaced_at_once(path: Path) -> None:
    with holding(path, platform.node()) as child:
        child.kill()
        child.wait()
        start = time.monotonic()
        assert not is_locked(path)
        lock = Lock(path)
        assert time.monotonic() - start < SHORT
        assert lock.taken_over_from == f"process {child.pid} on {platform.node()}"
        lock.confirm()
        lock.release()


@pytest.mark.usefixtures("short")
def test_a_holder_of_this_host_that_ended_and_was_not_waited_for_is_dead(path: Path) -> None:
    with holding(path, platform.node()) as child:
        os.kill(child.pid, signal.SIGKILL)
        time.sleep(0.2)  # now a zombie
        start = time.monotonic()
        Lock(path).release()
        assert time.monotonic() - start < SHORT


@pytest.mark.usefixtures("short")
def test_a_killed_holder_of_another_host_is_replaced_after_the_lease_and_not_before(path: Path) -> None:
    with holding(path, "there") as child:
        child.kill()
        child.wait()
        start = time.monotonic()
        lock = Lock(path)
        assert SHORT <= time.monotonic() - start < 2 * SHORT
        assert lock.taken_over_from == f"process {child.pid} on there"
        assert names(path.parent) == {"run.lock", "run.lease-2"}
        lock.release()


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("flock", ["refused", "local"])
def test_a_holder_that_stalls_longer_than_the_lease_refuses_to_commit(path: Path, flock: str) -> None:
    with holding(path, "there", flock) as child:
        assert answer(child, "\n") == "confirmed"
        os.kill(child.pid, signal.SIGSTOP)
        lock = Lock(path)
        os.kill(child.pid, signal.SIGCONT)
        said = answer(child, "\n")
        assert f"{path.parent} was taken over by process {os.getpid()} on {platform.node()}" in said
        assert "no heartbeat for 1.5 s" in said and "resume the run" in said
        child.communicate("")  # it releases what it does not hold
        lock.confirm()
        assert json.loads(path.read_text())["pid"] == os.getpid()
        lock.release()
        assert answer_after_release(path)


def answer_after_release(path: Path) -> bool:
    return names(path.parent) == {"run.lock"} and path.read_bytes() == b""


@pytest.mark.usefixtures("short")
def test_a_holder_that_stalls_for_less_than_the_lease_keeps_it(path: Path) -> None:
    with holding(path, "there") as child:
        os.kill(child.pid, signal.SIGSTOP)
        threading.Timer(SHORT / 3, os.kill, (child.pid, signal.SIGCONT)).start()
        with pytest.raises(Locked):
            Lock(path)
        assert answer(child, "\n") == "confirmed"


@pytest.mark.usefixtures("short")
def test_a_holder_that_comes_back_while_it_is_replaced_keeps_the_lease(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = Lease(path)
    beat, real = (path.parent / "run.lease-1"), Lease._create

    beats = itertools.count(10**6)  # the holder has not come as far by itself

    def create(lease: Lease, name: Path) -> bool:
        content = re.sub(rb'"beat": "[0-9]+"', b'"beat": "%012d"' % next(beats), beat.read_bytes())
        beat.write_bytes(content)
        return real(lease, name)

    monkeypatch.setattr(checkpoints.storage.lease, "_wait_until_dead", lambda *_: None)
    monkeypatch.setattr(Lease, "_create", create)
    monkeypatch.setattr(checkpoints.storage.lease, "LEASE", 0.1)
    with pytest.raises(Locked):
        Lease(path)
    assert names(path.parent) == {"run.lease-1"}
    holder.confirm()
    holder.release()


@pytest.mark.usefixtures("short")
def test_of_two_that_replace_a_dead_holder_at_once_one_does(path: Path) -> None:
    path.with_name("run.lease-7").write_bytes(b"torn")
    taken: list[Lock | Locked] = []

    def take() -> None:
        try:
            taken.append(Lock(path))
        except Locked as error:
            taken.append(error)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [lock for lock in taken if isinstance(lock, Lock)]
    assert (len(taken), len(held)) == (4, 1)
    held[0].confirm()
    held[0].release()
    assert names(path.parent) == {"run.lock"}


# What is lost is noticed


@pytest.fixture
def lost(path: Path) -> Lock:
    """A lock whose lease somebody has removed."""
    lock = Lock(path)
    (path.parent / "run.lease-1").unlink()
    return lock


def commit_directory(folder: Path, lock: Lock) -> None:
    with staged_directory(folder / "final", lock.confirm):
        pass


COMMITS: list[Callable[[Path, Lock], object]] = [
    commit_directory,
    lambda folder, lock: replace_file(folder / "final", b"new", lock.confirm),
]


@pytest.mark.parametrize("commit", COMMITS)
def test_nothing_is_committed_under_a_lost_lease(
    folder: Path, lost: Lock, commit: Callable[[Path, Lock], object]
) -> None:
    with pytest.raises(Locked, match=f"{folder} is no longer held by this process"):
        commit(folder, lost)
    assert names(folder) == {"run.lock"}
    lost.release()


def test_a_run_that_was_taken_over_rejects_writes_and_leaves_those_of_the_new_writer(
    folder: Path,
) -> None:
    stimuli = Stimuli.of(["a", "b"], [0, 1], ["train"] * 2, [[1.0], [2.0]])
    with Run.create(folder / "run", {}, stimuli) as run:
        run.log({"step": 1})
        lease = folder / "run" / "run.lease-1"
        content = lease.read_bytes().replace(b'"token": "', b'"token": "another')
        lease.rename(lease.with_name("run.lease-2"))
        lease.with_name("run.lease-2").write_bytes(content)
        append_line(folder / "run" / "metrics.jsonl", b'{"step": 2}')
        before = (folder / "run" / "run.json").read_bytes()
        for write in (lambda: run.log({"step": 3}), lambda: run.set_status("finished"), lambda: run.cut_metrics(0)):
            with pytest.raises(Locked, match=f"{folder}/run was taken over by process {os.getpid()} on"):
                write()
        assert run.metrics() == [{"step": 1}, {"step": 2}]
        assert (folder / "run" / "run.json").read_bytes() == before
    assert lease.with_name("run.lease-2").read_bytes() == content


# What a holder leaves, and does not


def test_a_run_that_is_created_takes_its_lease_along(folder: Path) -> None:
    stimuli = Stimuli.of(["a", "b"], [0, 1], ["train"] * 2, [[1.0], [2.0]])
    run = Run.create(folder / "run", {}, stimuli)
    assert "run.lease-1" in names(folder / "run")
    run.log({"step": 1})
    run.close()
    assert names(folder / "run") == {"checkpoints", "metrics.jsonl", "run.json", "run.lock", "stimuli.h5"}


def test_heartbeats_stop_at_the_release(path: Path) -> None:
    before = threading.active_count()
    lock = Lock(path)
    assert threading.active_count() == before + 1
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "lease")
    lock.release()
    assert threading.active_count() == before


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.usefixtures("short")
def test_a_lock_that_is_forgotten_is_released(path: Path) -> None:
    lock = Lock(path)
    assert "run.lease-1" in names(path.parent)
    del lock
    gc.collect()
    assert names(path.parent) == {"run.lock"}


def test_a_process_that_ends_without_releasing_ends_and_leaves_no_lease(path: Path) -> None:
    with started("Lock(path)\nlock = Lock(path)\n", path, "here", "shared", 30) as child:
        said = child.communicate(timeout=20)
    assert said[0] == ""
    assert names(path.parent) == {"run.lock"}


@pytest.mark.usefixtures("short")
def test_a_forked_child_neither_beats_nor_releases(path: Path) -> None:
    lock = Lock(path)
    if (child := os.fork()) == 0:
        lock.release()
        del lock
        gc.collect()
        os._exit(threading.active_count() - 1)
    assert os.waitpid(child, 0)[1] == 0
    lock.confirm()
    with pytest.raises(Locked):
        Lock(path)
    lock.release()


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
@pytest.mark.usefixtures("short")
def test_a_lock_works_on_a_file_system_without_hard_links(
    path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    lock = Lock(path)
    assert names(path.parent) == {"run.lock", "run.lease-1"}
    assert is_locked(path)
    with pytest.raises(Locked):
        Lock(path)
    lock.confirm()
    lock.release()
    assert names(path.parent) == {"run.lock"}


def test_a_link_whose_answer_was_lost_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def twice(*arguments: Path) -> None:
        real(*arguments)
        real(*arguments)

    monkeypatch.setattr(os, "link", twice)
    lock = Lock(path)
    lock.confirm()
    lock.release()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", ["link", "write", "open"])
def test_a_lease_that_cannot_be_written_is_an_error_that_names_it_and_leaves_nothing(
    path: Path, call: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **_: object) -> int:
        if call == "open" and not str(arguments[0]).endswith("lock"):
            raise OSError(code, os.strerror(code), str(arguments[0]))
        if call == "open":
            return real(*arguments)
        raise OSError(code, os.strerror(code))

    real = getattr(os, call)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match=f"{os.strerror(code)}.*{path} could not be locked"):
            Lock(path)
    assert names(path.parent) == {"run.lock"}
    Lock(path).release()


# What others put there


OWNER = {"pid": 1, "host": "there", "place": "there", "started": "1", "token": "t", "beat": "000000000000"}
CONTENTS = [
    b"",
    b"[" * 5000,
    b"\xff",
    b"x" * 10**6,
    *(json.dumps(OWNER | {"pid": pid}).encode() for pid in (-1, 2**70)),
]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("content", CONTENTS)
def test_an_invalid_lease_file_is_replaced_after_the_lease(path: Path, content: bytes) -> None:
    path.with_name("run.lease-1").write_bytes(content)
    start = time.monotonic()
    assert not is_leased(path)
    lock = Lock(path)
    assert SHORT <= time.monotonic() - start < 3 * SHORT
    assert names(path.parent) == {"run.lock", "run.lease-2"}
    lock.release()


@pytest.mark.usefixtures("short")
def test_a_reader_does_not_wait_for_a_heartbeat_of_hours_ago(path: Path) -> None:
    path.with_name("run.lease-1").write_text(json.dumps(OWNER))
    os.utime(path.with_name("run.lease-1"), (time.time() - 7200,) * 2)
    start = time.monotonic()
    assert not is_leased(path)
    assert time.monotonic() - start < SHORT / 10


@pytest.mark.usefixtures("short")
def test_a_process_id_that_was_used_again_is_not_the_holder(path: Path) -> None:
    owner = OWNER | {"pid": os.getpid(), "host": platform.node(), "place": checkpoints.storage.lease_files._place()}
    path.with_name("run.lease-1").write_text(json.dumps(owner))
    if checkpoints.storage.lease_files._started(os.getpid()) == "":
        pytest.skip("the system does not tell when a process was started")
    start = time.monotonic()
    Lock(path).release()
    assert time.monotonic() - start < SHORT
