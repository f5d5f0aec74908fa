"""Plain files: what was read of them is remembered only while they look the same."""

import os
from pathlib import Path

import pytest

from checkpoints import Damaged
from checkpoints.storage import regular_files
from checkpoints.storage.regular_files import check_unchanged, file_signature, is_settled, sha256


def test_a_change_that_does_not_show_in_the_times_of_a_young_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    expected, seen = sha256(path), file_signature(path)
    monkeypatch.setattr(regular_files, "file_signature", lambda _: seen)  # a file system whose times are coarse
    check_unchanged(path, expected)
    path.write_bytes(b"two")
    with pytest.raises(Damaged, match=r"a has changed since it was committed"):
        check_unchanged(path, expected)


def test_a_settled_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = tmp_path / "a", []
    path.write_bytes(b"one")
    expected, seen = sha256(path), file_signature(path)
    monkeypatch.setattr(regular_files, "file_signature", lambda _: seen._replace(changed=seen.changed - 10**9))
    monkeypatch.setattr(regular_files, "sha256", lambda path: (read.append(path), expected)[1])
    for _ in range(3):
        check_unchanged(path, expected)
    assert read == [path]


def test_a_file_is_settled_a_moment_after_its_last_change(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert not is_settled(file_signature(path))
    seen = file_signature(path)
    assert is_settled(seen._replace(changed=seen.changed - 10**9))
    assert is_settled(seen._replace(changed=seen.changed + 10**9))  # by the clock of a file server
    os.utime(path, ns=(0, 0))
    assert not is_settled(file_signature(path))  # the time of the change of its times
