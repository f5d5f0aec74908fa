import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from checkpoints import Damaged
from checkpoints.manifest import LEVELS, check_manifest, encode_json, read_json, write_json, write_manifest

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
def test_an_added_file_is_found_at_every_level(committed: Path, level: str) -> None:
    (committed / "added").write_bytes(b"")
    with pytest.raises(Damaged, match=rf"{committed}/added is not in its manifest"):
        check_manifest(committed, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_not_a_regular_file_is_refused_though_its_content_fits(
    committed: Path, tmp_path: Path, level: str, kind: str
) -> None:
    (committed / "a.bin").unlink()
    if kind == "link":
        (tmp_path / "outside").write_bytes(CONTENTS["a.bin"])
        (committed / "a.bin").symlink_to(tmp_path / "outside")
    else:
        (committed / "a.bin").mkdir()
    with pytest.raises(Damaged, match=rf"{committed}/a\.bin is missing or not a regular file"):
        check_manifest(committed, level)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "inner/file", "inner\\file", "..", ".", ""])
def test_names_that_leave_the_folder_are_refused(committed: Path, name: str) -> None:
    rewrite(committed, files={name: {"size": 1, "sha256": ""}})
    with pytest.raises(Damaged, match=rf"{committed}/MANIFEST\.json has a malformed list of files"):
        check_manifest(committed)


@pytest.mark.parametrize(
    "files", [None, [], ["a.bin"], {"a.bin": 1}, {"a.bin": {"size": 256}}, {"a.bin": {"size": "256"}}]
)
def test_a_malformed_list_of_files_is_refused(committed: Path, files: Any) -> None:
    rewrite(committed, files=files)
    with pytest.raises(Damaged, match=rf"{committed}/MANIFEST\.json has a malformed list of files"):
        check_manifest(committed)


def test_another_format_is_refused(committed: Path) -> None:
    rewrite(committed, format="other")
    with pytest.raises(Damaged, match=rf"{committed}/MANIFEST\.json is not a manifest of this format"):
        check_manifest(committed)
    (committed / "MANIFEST.json").write_text("[]")
    with pytest.raises(Damaged, match="is not a manifest of this format"):
        check_manifest(committed)


@pytest.mark.parametrize("version", [2, 0, None, "1"])
def test_another_version_is_refused(committed: Path, version: Any) -> None:
    rewrite(committed, format_version=version)
    with pytest.raises(Damaged, match=rf"MANIFEST\.json has format version {version}; this reader knows 1"):
        check_manifest(committed)


@pytest.mark.parametrize("level", LEVELS)
def test_a_manifest_that_says_the_same_in_other_bytes_is_damaged(committed: Path, level: str) -> None:
    path = committed / "MANIFEST.json"
    path.write_bytes(path.read_bytes().replace(b"  ", b" \t", 1))
    with pytest.raises(Damaged, match=f"{path} has changed since it was written"):
        check_manifest(committed, level)


def test_an_unknown_level_is_refused(committed: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown level 'md5'\. Choose one of: size, sha256"):
        check_manifest(committed, "md5")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 10_000])
def test_what_is_not_json_is_damaged(folder: Path, content: bytes) -> None:
    (folder / "a.json").write_bytes(content)
    with pytest.raises(Damaged, match=rf"{folder}/a\.json is not readable JSON"):
        read_json(folder / "a.json")


def test_json_that_cannot_be_read_is_damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    write_json(folder / "a.json", 1)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(Damaged, match=rf"{folder}/a\.json cannot be read.*Input/output error"):
        read_json(folder / "a.json")


@pytest.mark.parametrize("kind", ["absent", "folder", "link"])
def test_json_is_read_from_regular_files_only(folder: Path, tmp_path: Path, kind: str) -> None:
    path = folder / "a.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        (tmp_path / "outside").write_text("1")
        path.symlink_to(tmp_path / "outside")
    with pytest.raises(Damaged, match=rf"{folder}/a\.json is missing or not a regular file"):
        read_json(path)


def test_json_round_trips_through_a_file(folder: Path) -> None:
    value = {"text": "é\n", "numbers": [1, 0.1, -1e300, None, True]}
    write_json(folder / "a.json", value)
    assert read_json(folder / "a.json") == value


def test_json_that_would_not_be_read_again_is_not_written(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"A JSON file would have \d+ bytes; at most 16777216 are read again"):
        write_json(folder / "a.json", "x" * 2**24)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_json({"loss": [number]})
