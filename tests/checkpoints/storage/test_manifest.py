import hashlib
import json
import os
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import Damaged
from checkpoints.storage.manifest import (
    LEVELS,
    check_as_written,
    check_manifest,
    encode_json,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
)

CONTENTS = {"a.bin": bytes(range(256)), "b.json": b'{"b": 1}\n', "empty": b""}


@pytest.fixture
def committed(folder: Path) -> Path:
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    write_manifest(folder)
    return folder


def rewrite(committed: Path, **changes: Any) -> None:
    manifest = json.loads((committed / "MANIFEST.json").read_bytes())
    (committed / "MANIFEST.json").write_bytes(encode_json({**manifest, **changes}))


def test_the_manifest_lists_size_and_sha256_of_every_file(committed: Path) -> None:
    assert json.loads((committed / "MANIFEST.json").read_bytes()) == {
        "format": "repsim-step",
        "format_version": 1,
        "files": {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in CONTENTS.items()
        },
    }


@pytest.mark.parametrize("level", LEVELS)
def test_an_untouched_folder_passes(committed: Path, level: str) -> None:
    check_manifest(committed, level)


def test_a_manifest_is_read_once_until_it_changes(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long_ago = 10**9
    os.utime(committed / "MANIFEST.json", (long_ago, long_ago))
    monkeypatch.setattr("checkpoints.storage.manifest.is_settled", lambda signature: True)  # not changed a moment ago
    files = read_manifest(committed)
    files["a.bin"]["size"] = -1
    del files["empty"]
    with monkeypatch.context() as patched:
        patched.setattr("checkpoints.storage.manifest.read_bytes", None)
        assert read_manifest(committed)["a.bin"]["size"] == 256
        assert list(read_manifest(committed)) == list(CONTENTS)
    rewrite(committed, files={})
    assert read_manifest(committed) == {}


@pytest.mark.parametrize("bit", [0, 7, 1000, 2047])
def test_a_flipped_bit_is_found_at_sha256_only(committed: Path, bit: int) -> None:
    content = bytearray(CONTENTS["a.bin"])
    content[bit // 8] ^= 1 << bit % 8
    (committed / "a.bin").write_bytes(content)
    check_manifest(committed, "size")
    with pytest.raises(Damaged, match=rf"{committed}/a\.bin has changed since it was committed \(SHA-256 differs\)"):
        check_manifest(committed, "sha256")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [0, 255, 257])
def test_another_size_is_found_at_every_level(committed: Path, level: str, size: int) -> None:
    (committed / "a.bin").write_bytes(bytes(size))
    with pytest.raises(Damaged, match=rf"{committed}/a\.bin has {size} bytes; 256 were committed"):
        check_manifest(committed, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CONTENTS)
def test_a_missing_file_is_found_at_every_level(committed: Path, level: str, name: str) -> None:
    (committed / name).unlink()
    with pytest.raises(Damaged, match=rf"{committed}/{name} is missing"):
        check_manifest(committed, level)


@pytest.mark.parametrize("level", LEVELS)
def test_a_manifest_of_the_same_value_in_other_bytes_is_damaged(committed: Path, level: str) -> None:
    path = committed / "MANIFEST.json"
    path.write_bytes(path.read_bytes().replace(b"  ", b" \t", 1))
    with pytest.raises(Damaged, match=f"{path} has changed since it was written"):
        check_manifest(committed, level)


def test_an_unknown_level_is_refused(committed: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown level 'md5'\. Choose one of: size, sha256"):
        check_manifest(committed, "md5")


def test_json_that_cannot_be_read_is_damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    write_json(folder / "a.json", 1)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(Damaged, match=rf"{folder}/a\.json cannot be read.*Input/output error"):
        read_json(folder / "a.json")


def test_json_that_would_not_be_read_again_is_not_written(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"A JSON file would have \d+ bytes; at most 16777216 can be read again"):
        write_json(folder / "a.json", "x" * 2**24)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_json({"loss": [number]})


# What operating systems leave

SYSTEM = [
    *(
        ".DS_Store",
        "._weights.safetensors",
        "._MANIFEST.json",
        ".AppleDouble",
        "Thumbs.db",
        "desktop.ini",
        "Desktop.ini",
    ),
    *(".nfs000000000123abcd00000001", ".fuse_hidden0000000200000001", "@eaDir", ".smbdeleteAAA12f4"),
]
OTHERS = ["DS_Store", ".DS_Store.txt", "_a.bin", ".a.bin", "nfs0001", "Thumbs.db.h5", "a.bin~", "eaDir", "added", ".nf"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
@pytest.mark.parametrize("name", SYSTEM)
def test_files_of_operating_systems_are_ignored(committed: Path, name: str, kind: str, level: str) -> None:
    if kind == "file":
        (committed / name).write_bytes(b"left")
    elif kind == "folder":
        (committed / name).mkdir()
    else:
        (committed / name).symlink_to(committed / "nowhere")
    check_manifest(committed, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", OTHERS)
def test_any_other_added_file_is_damage(committed: Path, name: str, level: str) -> None:
    (committed / name).write_bytes(b"")
    with pytest.raises(Damaged, match=f"{committed}/{name} is not in its manifest"):
        check_manifest(committed, level)


def test_files_of_operating_systems_are_not_committed_and_may_disappear(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"a")
    (folder / ".nfs0001").write_bytes(b"open elsewhere")
    (folder / "@eaDir").mkdir()
    write_manifest(folder)
    assert list(json.loads((folder / "MANIFEST.json").read_bytes())["files"]) == ["a.bin"]
    (folder / ".nfs0001").unlink()
    check_manifest(folder, "sha256")


def test_a_system_file_in_an_earlier_manifest_may_be_missing(committed: Path) -> None:
    files = json.loads((committed / "MANIFEST.json").read_bytes())["files"]
    rewrite(committed, files={**files, ".DS_Store": {"size": 3, "sha256": ""}})
    check_manifest(committed, "sha256")


# File systems that answer late


class _Late:
    """Stands for a file system that says of each file that it has a byte less than it has."""

    def __init__(self, real: os.stat_result) -> None:
        self._real = real
        self.st_size = max(0, real.st_size - 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_outdated_file_sizes_are_neither_committed_nor_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.bin").write_bytes(bytes(1000))
    real = Path.stat
    with monkeypatch.context() as late:
        late.setattr(Path, "stat", lambda path, **options: _Late(real(path, **options)))
        write_manifest(folder)
        check_manifest(folder, "sha256")
        check_manifest(folder, "size")
    check_manifest(folder, "sha256")
    check_manifest(folder, "size")
    assert json.loads((folder / "MANIFEST.json").read_bytes())["files"]["a.bin"]["size"] == 1000


def test_an_outdated_listing_is_not_damage_but_a_missing_file_is(
    committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "iterdir", lambda path: iter([path / "MANIFEST.json"]))
    check_manifest(committed, "sha256")
    (committed / "empty").unlink()
    with pytest.raises(Damaged, match=f"{committed}/empty is missing"):
        check_manifest(committed, "size")


# What is written is read again

TEXT = st.text(st.characters(codec=None), max_size=5)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
VALUES = st.recursive(
    TEXT | NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXT, inner, max_size=3)
        | st.dictionaries(st.integers() | st.floats(allow_nan=False), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(value=VALUES)
def test_json_that_can_be_written_is_read_back_unchanged(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    try:
        write_json(path, value)
    except ValueError as error:
        assert "Two keys" in str(error) or "not JSON compliant" in str(error)
        return
    check_as_written(path)
    assert read_json(path) == json.loads(json.dumps(value))


class Colour(IntEnum):
    RED = 1


TEXTS = {
    "é": "日本",
    "\U0001f600": "\ud83d\ude00",
    "lone": "\ud800",
    "zero": "\0",
    "line": "\u2028\x85\r\n",
    "\ud800": 1,
}
NUMBERS_OF_OTHERS = {"float": np.float64(0.1), "enum": Colour.RED, "small": 5e-324, "minus": -0.0, "large": 2**200}


@pytest.mark.parametrize("value", [TEXTS, NUMBERS_OF_OTHERS, {1: 0, 2.5: 0, None: 0, False: 1}])
def test_texts_and_numbers_of_every_kind_are_read_as_they_were_written(folder: Path, value: Any) -> None:
    write_json(folder / "a.json", value)
    check_as_written(folder / "a.json")


@pytest.mark.parametrize("value", [{1: "a", "1": "b"}, [{"x": {True: 1, "true": 2}}], ({None: 1, "null": 2},)])
def test_two_keys_that_json_cannot_tell_apart_are_refused(folder: Path, value: Any) -> None:
    with pytest.raises(ValueError, match=r"Two keys of one mapping would both be written as '(1|true|null)'"):
        write_json(folder / "a.json", value)
    assert list(folder.iterdir()) == []


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def test_json_that_is_nested_too_deeply_for_readers_is_rejected(folder: Path) -> None:
    with pytest.raises(ValueError, match="nested more than 200 levels deep"):
        write_json(folder / "a.json", nested(201))
    write_json(folder / "a.json", nested(200))

    def read(depth: int) -> None:
        if depth:
            read(depth - 1)
        else:
            check_as_written(folder / "a.json")

    read(400)
