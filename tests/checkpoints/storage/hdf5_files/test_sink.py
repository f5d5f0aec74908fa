import errno
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints.storage.hdf5_files.hdf5 import created
from checkpoints.storage.hdf5_files.sink import Sink

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 60), st.binary(min_size=1, max_size=30)),
        st.tuples(st.just("read"), st.integers(0, 60), st.integers(0, 40)),
        st.tuples(st.just("truncate"), st.integers(0, 60), st.none()),
    ),
    max_size=25,
)


def full(*_: Any) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@given(steps=STEPS, fails_from=st.integers(0, 30))
@settings(derandomize=True, deadline=None, max_examples=600)
def test_hdf5_reads_back_what_it_wrote_even_if_the_disk_failed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], fails_from: int
) -> None:
    twin, number = bytearray(), 0
    with pytest.MonkeyPatch.context() as patch, Sink(tmp_path_factory.mktemp("sink") / "file") as sink:
        for kind, position, content in steps:
            number += 1
            if number > fails_from:
                patch.setattr(os, "pwrite", full)
            sink.seek(position)
            if kind == "write":
                twin.extend(bytes(max(0, position - len(twin))))
                twin[position : position + len(content)] = content
                assert sink.write(content) == len(content)
                assert sink.tell() == position + len(content)
            elif kind == "truncate":
                twin = twin[:position] + bytes(max(0, position - len(twin)))
                assert sink.truncate() == position
            else:
                buffer = bytearray(content)
                size = sink.readinto(buffer)
                assert bytes(buffer[:size]) == bytes(twin[position : position + content])
            assert sink.seek(0, os.SEEK_END) == len(twin)


def test_the_first_error_is_kept_and_names_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink(folder / "file") as sink:
        sink.write(b"abc")
        sink.check()
        monkeypatch.setattr(os, "pwrite", full)
        sink.write(b"def")
        monkeypatch.undo()
        sink.write(b"ghi")
        for _ in range(2):
            with pytest.raises(
                OSError, match=rf"No space left on device; {folder}/file could not be written"
            ) as raised:
                sink.check()
        assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(folder / "file"))
    assert (folder / "file").read_bytes() == b"abc"


def test_few_bytes_at_a_time_are_enough_and_none_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, content, offset: pwrite(fd, content[:2], offset))
    with Sink(folder / "file") as sink:
        assert sink.write(b"abcdefg") == 7
        sink.check()
        assert (folder / "file").read_bytes() == b"abcdefg"
        monkeypatch.setattr(os, "pwrite", lambda *_: 0)
        sink.write(b"h")
        with pytest.raises(OSError, match="The system wrote nothing"):
            sink.check()


@pytest.mark.parametrize("call", ["pread", "ftruncate"])
def test_other_failures_are_kept_too(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    with Sink(folder / "file") as sink:
        sink.write(b"abc")
        monkeypatch.setattr(os, call, full)
        sink.seek(0)
        sink.readinto(bytearray(3))
        sink.truncate(2)
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            sink.check()


@pytest.mark.parametrize("allowed", [0, 1, 5, 20])
def test_hdf5_closes_without_a_crash_on_a_full_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    pwrite, calls = os.pwrite, []

    def limited(*arguments: Any) -> int:
        calls.append(arguments)
        return pwrite(*arguments) if len(calls) <= allowed else full()

    monkeypatch.setattr(os, "pwrite", limited)
    with pytest.raises(OSError, match=rf"No space left on device; {folder}/file\.h5 could not be written"):  # noqa: SIM117
        with created(folder / "file.h5") as (file, _):
            for index in range(30):
                file.create_dataset(str(index), data=np.ones((64, 64)), chunks=(64, 64), fletcher32=True)
    assert len(calls) == allowed + 1
    monkeypatch.undo()
    with created(folder / "next.h5") as (file, _):
        file["a"] = 1
    with h5py.File(folder / "next.h5") as file:
        assert file["a"][()] == 1


def test_an_existing_file_is_not_opened(folder: Path) -> None:
    (folder / "file").write_bytes(b"old")
    with pytest.raises(FileExistsError, match=rf"File exists; {folder}/file could not be written"):
        Sink(folder / "file")
    assert (folder / "file").read_bytes() == b"old"


def test_ctrl_c_does_not_pass_through_hdf5_but_comes_out_of_the_block(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), created(folder / "file.h5") as (file, sink):
        monkeypatch.setattr(os, "pwrite", interrupted)
        file.create_dataset("a", data=np.ones((64, 64)), chunks=(64, 64))
        sink.check()


def test_writes_of_hdf5_after_closing_reach_no_file(folder: Path) -> None:
    sink = Sink(folder / "file")
    sink.close()
    (folder / "victim").write_bytes(b"victim")
    with (folder / "victim").open("r+b"):  # takes the number of the descriptor
        sink.write(b"late")
        sink.flush()
    assert (folder / "victim").read_bytes() == b"victim"
