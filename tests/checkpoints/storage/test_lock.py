import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import checkpoints.storage.lock
from checkpoints.storage.lock import Lock, Locked, is_locked

HOLD = """
import pathlib, runpy, sys
lock = runpy.run_path(sys.argv[1])
try:
    held = lock["Lock"](pathlib.Path(sys.argv[2]))
    print("held", flush=True)
    sys.stdin.read()
except lock["Locked"] as error:
    print(error)
"""


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "run.lock"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its standard input ends."""
    command = [sys.executable, "-c", HOLD, checkpoints.storage.lock.__file__, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_a_second_lock_of_the_same_process_fails_and_names_the_owner(path: Path) -> None:
    lock = Lock(path)
    owner = rf"{path.parent} is being written by process {os.getpid()} on {platform.node()}\. Wait for it, or stop it"
    start = time.monotonic()
    for _ in range(2):
        with pytest.raises(Locked, match=owner):
            Lock(path)
    assert time.monotonic() - start < 10
    lock.release()


def test_a_lock_that_another_process_holds_fails_and_names_it(path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(Locked, match=f"is being written by process {holder.pid} on {platform.node()}"):
        Lock(path)


def test_the_lock_of_a_killed_process_is_free_again(path: Path, holder: subprocess.Popen[str]) -> None:
    assert is_locked(path)
    holder.kill()
    holder.wait(timeout=60)
    assert not is_locked(path)
    Lock(path).release()


def test_the_lock_file_names_its_holder(path: Path) -> None:
    path.write_text('{"pid": 1234567890123, "host": "an owner of the past with a long name"}')
    lock = Lock(path)
    assert json.loads(path.read_text()) == {"pid": os.getpid(), "host": platform.node()}
    lock.release()


def test_a_released_lock_can_be_taken_and_released_again(path: Path) -> None:
    for _ in range(2):
        lock = Lock(path)
        lock.release()
        lock.release()
        assert not is_locked(path)


def test_a_copy_of_the_descriptor_as_a_forked_worker_has_does_not_keep_the_lock(path: Path) -> None:
    lock = Lock(path)
    assert lock._file is not None
    copy = os.dup(lock._file.fileno())
    lock.release()
    Lock(path).release()
    os.close(copy)


def test_is_locked_does_not_change_the_lock(path: Path) -> None:
    assert not is_locked(path)
    assert not path.exists()
    lock = Lock(path)
    assert [is_locked(path) for _ in range(3)] == [True] * 3
    with pytest.raises(Locked):
        Lock(path)
    lock.release()
    assert [is_locked(path) for _ in range(3)] == [False] * 3


def test_concurrent_is_locked_calls_do_not_see_each_other(path: Path) -> None:
    path.touch()
    with path.open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert not is_locked(path)


def test_is_locked_in_a_reader_does_not_keep_a_writer_out(path: Path) -> None:
    path.touch()
    with path.open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        instant = threading.Timer(0.05, fcntl.flock, (reader, fcntl.LOCK_UN))
        instant.start()
        lock = Lock(path)
        instant.join()
        assert is_locked(path)
        lock.release()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"not json", b"\xff\xfe"])
def test_an_owner_that_cannot_be_read_is_another_process(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Locked, match="is being written by another process"):
            Lock(path)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_locked_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match=f"Input/output error; {path} could not be locked"):
        Lock(path)


def test_a_lock_is_empty_once_released_and_names_the_dead_otherwise(path: Path) -> None:
    lock = Lock(path)
    assert lock.taken_over_from is None
    lock.release()
    assert path.read_bytes() == b""
    path.write_text('{"pid": 4711, "host": "node7"}')
    lock = Lock(path)
    assert lock.taken_over_from == "process 4711 on node7"
    lock.release()
