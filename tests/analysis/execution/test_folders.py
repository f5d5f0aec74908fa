"""Folders of results: removal of files that an earlier analysis wrote."""

from pathlib import Path

import pytest

from analysis.execution.folders import remove_stale


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out" / "figures").mkdir(parents=True)
    for name in ("kept.csv", "stale.csv", "figures/stale.png", "edited.csv", "of-somebody-else.csv"):
        (tmp_path / "out" / name).write_text("1234")
    return tmp_path / "out"


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_files_that_were_written_and_are_unchanged_are_removed(folder: Path) -> None:
    (folder / "edited.csv").write_text("12345")
    written = dict.fromkeys(("kept.csv", "stale.csv", "figures/stale.png", "edited.csv", "gone.csv"), 4)
    remove_stale(folder, written, kept=["kept.csv"])
    assert names(folder) == {"kept.csv", "edited.csv", "of-somebody-else.csv"}


def test_nothing_outside_of_the_folder_is_removed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("1234")
    (folder / "link").symlink_to(outside)
    (folder / "link-to-file").symlink_to(outside / "file")
    written = dict.fromkeys(("link/file", "../outside/file", str(outside / "file"), "link-to-file"), 4)
    remove_stale(folder, written, kept=[])
    assert (outside / "file").is_file()
    assert (folder / "link-to-file").is_symlink()
