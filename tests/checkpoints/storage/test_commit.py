import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import checkpoints.storage.commit
from checkpoints.storage.commit import (
    append_line,
    remove_staging,
    replace_file,
    staged_directory,
    staged_file,
    sync,
    write_file,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def commit(final: Path) -> None:
    with staged_directory(final) as staging:
        (staging / "inner").mkdir()
        write_file(staging / "a", b"first")
        write_file(staging / "inner" / "b", b"second")


def commit_file(final: Path) -> None:
    with staged_file(final) as staging:
        write_file(staging, b"whole")


both = pytest.mark.parametrize("staged", [staged_directory, staged_file])


class Disk:
    """Records fsync, rename and replace by the inode they concern, and fails at the call that it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, int]] = []
        self.fails_at = -1
        for name in ("fsync", "rename", "replace"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name)))

    def _recorded(self, name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(target: Any, *rest: Any) -> None:
            self.calls.append((name, (os.fstat(target) if name == "fsync" else Path(target).stat()).st_ino))
            if len(self.calls) - 1 == self.fails_at:
                raise OSError(5, "Input/output error", *(str(path) for path in (target, *rest) if name != "fsync"))
            real(target, *rest)

        return call


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_a_staged_directory_becomes_final_with_all_that_is_in_it(folder: Path) -> None:
    commit(folder / "final")
    assert names(folder) == ["final"]
    assert (folder / "final" / "a").read_bytes() == b"first"
    assert (folder / "final" / "inner" / "b").read_bytes() == b"second"


def test_final_does_not_exist_before_the_block_ends(folder: Path) -> None:
    with staged_directory(folder / "final") as staging:
        assert staging.parent == folder
        assert names(folder) == [staging.name]
        assert staging.name.startswith(".tmp-final-")


def test_files_then_their_folders_are_synced_before_the_rename_and_the_parent_after_it(
    folder: Path, disk: Disk
) -> None:
    final = folder / "final"
    commit(final)
    assert disk.calls == [
        ("fsync", inode(final / "inner" / "b")),
        ("fsync", inode(final / "inner")),
        ("fsync", inode(final / "a")),
        ("fsync", inode(final)),
        ("rename", inode(final)),
        ("fsync", inode(folder)),
    ]


@both
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_nothing_behind(
    folder: Path, staged: Any, error: type[BaseException], written: bool
) -> None:
    with pytest.raises(error, match="in the block"), staged(folder / "final") as staging:
        if written:
            write_file(staging / "a" if staging.is_dir() else staging, b"half")
        raise error("in the block")
    assert names(folder) == []


@pytest.mark.parametrize(
    ("act", "call"), [*((commit, call) for call in range(6)), *((commit_file, n) for n in range(3))]
)
def test_a_failed_fsync_or_rename_leaves_nothing_behind_and_names_a_path(
    folder: Path, disk: Disk, act: Callable[[Path], None], call: int
) -> None:
    disk.fails_at = call
    with pytest.raises(OSError, match=rf"Input/output error.*{folder}"):
        act(folder / "final")
    assert names(folder) == []


@both
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_an_existing_final_is_refused_before_the_block_and_left_alone(folder: Path, staged: Any, kind: str) -> None:
    final = folder / "final"
    if kind == "file":
        final.write_bytes(b"old")
    elif kind == "folder":
        final.mkdir()
    else:
        final.symlink_to(folder / "nowhere")
    before = os.lstat(final)
    with pytest.raises(FileExistsError, match=f"{final} exists already; committed files are never replaced"):  # noqa: SIM117
        with staged(final):
            pytest.fail("the block was entered")
    assert os.lstat(final) == before
    assert names(folder) == ["final"]


@both
def test_a_final_that_appears_during_the_block_is_refused_and_left_alone(folder: Path, staged: Any) -> None:
    final = folder / "final"
    with pytest.raises(FileExistsError, match=f"{final} exists already"), staged(final) as staging:
        if not staging.exists():
            write_file(staging, b"mine")
        final.mkdir()
    assert names(folder) == ["final"]
    assert names(final) == []


def test_a_staged_file_becomes_final_synced_before_the_rename_and_the_folder_after_it(folder: Path, disk: Disk) -> None:
    final = folder / "final"
    with staged_file(final) as staging:
        write_file(staging, b"whole")
        assert names(folder) == [staging.name]
        assert staging.name.startswith(".tmp-final-")
    assert (names(folder), final.read_bytes()) == (["final"], b"whole")
    assert disk.calls == [("fsync", inode(final)), ("rename", inode(final)), ("fsync", inode(folder))]


KILLED = """
import os, pathlib, runpy, signal, sys
module, folder, fatal = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
commit = runpy.run_path(module)
calls = []
def dying(real):
    def call(*arguments):
        calls.append(arguments)
        if len(calls) > fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments)
    return call
os.fsync, os.rename = dying(os.fsync), dying(os.rename)
if len(sys.argv) > 4:
    with commit["staged_file"](folder / "final") as staging:
        commit["write_file"](staging, b"whole")
else:
    with commit["staged_directory"](folder / "final") as staging:
        commit["write_file"](staging / "a", b"first")
        commit["write_file"](staging / "b", b"second")
print("acknowledged")
"""


@pytest.mark.parametrize(("kind", "renamed", "calls"), [("directory", 4, 5), ("file", 2, 3)])
@pytest.mark.parametrize("fatal", range(6))
def test_a_writer_killed_at_any_step_leaves_all_files_or_none(
    folder: Path, kind: str, renamed: int, calls: int, fatal: int
) -> None:
    arguments = [checkpoints.storage.commit.__file__, folder, str(fatal), *(["file"] if kind == "file" else [])]
    child = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, timeout=60, check=False)
    assert (child.returncode == 0) == (child.stdout == b"acknowledged\n") == (fatal >= calls), child.stderr
    assert (folder / "final").exists() == (fatal >= renamed)
    if fatal >= renamed and kind == "directory":
        assert [(folder / "final" / name).read_bytes() for name in "ab"] == [b"first", b"second"]
    elif fatal >= renamed:
        assert (folder / "final").read_bytes() == b"whole"
    remove_staging(folder)
    assert names(folder) == ["final"] * (fatal >= renamed)


def test_write_file_refuses_to_overwrite(folder: Path) -> None:
    write_file(folder / "a", b"old")
    with pytest.raises(FileExistsError, match=rf"File exists; {folder}/a could not be written"):
        write_file(folder / "a", b"new")
    assert (folder / "a").read_bytes() == b"old"


def test_a_file_that_does_not_fit_is_an_error_that_names_it(folder: Path, full_disk: Any) -> None:
    with pytest.raises(OSError, match=rf"File too large; {folder}/a could not be written"), full_disk(100):
        write_file(folder / "a", bytes(1000))


def test_a_replaced_file_has_the_new_content_and_no_staging_beside_it(folder: Path) -> None:
    for content in (b"old", b"new and longer", b""):
        replace_file(folder / "a", content)
        assert (folder / "a").read_bytes() == content
        assert names(folder) == ["a"]


def test_a_replacement_is_synced_before_it_takes_the_name_and_its_folder_after(folder: Path, disk: Disk) -> None:
    replace_file(folder / "a", b"new")
    new = inode(folder / "a")
    assert disk.calls == [("fsync", new), ("replace", new), ("fsync", inode(folder))]


@pytest.mark.parametrize("call", range(2))
def test_a_failed_replacement_keeps_the_old_content(folder: Path, disk: Disk, call: int) -> None:
    (folder / "a").write_bytes(b"old")
    disk.fails_at = call
    with pytest.raises(OSError, match=rf"Input/output error.*{folder}"):
        replace_file(folder / "a", b"new")
    assert (folder / "a").read_bytes() == b"old"
    assert names(folder) == ["a"]


def test_a_replacement_that_does_not_fit_keeps_the_old_content(folder: Path, full_disk: Any) -> None:
    (folder / "a").write_bytes(b"old")
    with pytest.raises(OSError, match=rf"File too large; {folder}/.*a.* could not be written"), full_disk(100):
        replace_file(folder / "a", bytes(1000))
    assert (folder / "a").read_bytes() == b"old"
    assert names(folder) == ["a"]


def test_lines_are_appended_to_a_log_that_need_not_exist(folder: Path) -> None:
    append_line(folder / "log", b"one")
    append_line(folder / "log", b"two")
    assert (folder / "log").read_bytes() == b"one\ntwo\n"


def test_nothing_stays_of_a_line_that_does_not_fit(folder: Path, full_disk: Any) -> None:
    append_line(folder / "log", b"one")
    with pytest.raises(OSError, match=rf"File too large; {folder}/log could not be written"), full_disk(10):
        append_line(folder / "log", bytes(1000))
    append_line(folder / "log", b"two")
    assert (folder / "log").read_bytes() == b"one\ntwo\n"


def test_remove_staging_removes_only_staged_files(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    for path in (outside, folder / ".tmp-folder-1", folder / "kept", folder / "kept" / ".tmp-deeper"):
        path.mkdir()
        (path / "a").write_bytes(b"content")
    (folder / ".tmp-file-2").write_bytes(b"content")
    (folder / ".tmp-link-3").symlink_to(outside)
    (folder / "tmp-kept").write_bytes(b"content")
    remove_staging(folder)
    assert names(folder) == ["kept", "tmp-kept"]
    assert names(folder / "kept") == [".tmp-deeper", "a"]
    assert names(outside) == ["a"]


def test_staged_files_that_are_in_use_do_not_stop_the_removal_of_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".tmp-busy", ".tmp-other"):
        (folder / name).mkdir()
    real = shutil.rmtree

    def remove(path: Path) -> None:
        if path.name == ".tmp-busy":
            raise OSError(errno.EBUSY, "Device or resource busy", str(path / ".nfs0001"))
        real(path)

    monkeypatch.setattr(shutil, "rmtree", remove)
    remove_staging(folder)
    assert names(folder) == [".tmp-busy"]


# Durability


class Commands:
    """Stands for macOS, where ``fcntl`` has a command that empties the disk's own memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> None:
        self.calls: list[tuple[str, int]] = []
        self.code = code
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
        monkeypatch.setattr(fcntl, "fcntl", self._fcntl)
        monkeypatch.setattr(os, "fsync", lambda descriptor: self.calls.append(("fsync", 0)))

    def _fcntl(self, descriptor: int, command: int) -> int:
        self.calls.append(("fcntl", command))
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        return 0


def test_macos_is_asked_to_flush_the_cache_of_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(monkeypatch)
    sync(folder)
    assert commands.calls == [("fcntl", 51)]


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_fsync_is_used_where_macos_command_is_unsupported(
    folder: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands(monkeypatch, code)
    sync(folder)
    assert commands.calls == [("fcntl", 51), ("fsync", 0)]


def test_an_error_of_the_disk_is_not_taken_for_an_unsupported_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=f"Input/output error; {folder} could not be written"):
        sync(folder)
    assert commands.calls == [("fcntl", 51)]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_directories_that_cannot_be_synced_are_tolerated_but_files_are_not(
    folder: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    write_file(folder / "a", b"content")
    monkeypatch.setattr(os, "fsync", refuse)
    sync(folder)
    with pytest.raises(OSError, match=f"{os.strerror(code)}; {folder}/a could not be written"):
        sync(folder / "a")
