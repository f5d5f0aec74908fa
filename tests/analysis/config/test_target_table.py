import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.config.target_table import TargetTable
from checkpoints import Stimuli

TEXT = """id,emotion,speed,digit,code,age:continuous,dose:categorical,speaker
a,happy,1.5,3,007,30,0.5,ann
b,sad,2,-4,7,41,1.0,bob
c,"happy, so",1e-1,0,8,22,0.5,ann
unrecorded,,,,,,,
"""
IDS = ["c", "a", "b"]


def table(folder: Path, text: str = TEXT, groups: str | None = None) -> TargetTable:
    (folder / "targets.csv").write_text(text, encoding="utf-8")
    return TargetTable.open(folder / "targets.csv", groups)


def test_the_kind_of_a_column_follows_from_its_values_or_its_name(tmp_path: Path) -> None:
    found = table(tmp_path, groups="speaker").values_of(IDS)
    expected: dict[str, list[Any]] = {
        "emotion": ["happy, so", "happy", "sad"],
        "speed": [0.1, 1.5, 2.0],
        "digit": [0, 3, -4],
        "code": ["8", "007", "7"],
        "age": [22.0, 30.0, 41.0],
        "dose": ["0.5", "0.5", "1.0"],
    }
    assert {name: values.tolist() for name, values in found.targets.items()} == expected
    assert {name: values.dtype.kind for name, values in found.targets.items()} == {
        **{"emotion": "U", "speed": "f", "digit": "i", "code": "U", "age": "f", "dose": "U"}
    }
    assert found.groups is not None
    assert found.groups.tolist() == ["ann", "ann", "bob"]
    assert table(tmp_path).names == [*expected, "speaker"]
    assert table(tmp_path).values_of(IDS).groups is None


@pytest.mark.parametrize("header", ["id,t", "name,t", "t,stimulus_id"])
def test_ids_are_in_the_column_of_that_name_or_in_the_first(tmp_path: Path, header: str) -> None:
    rows = ["x,1", "y,2"] if header.endswith("t") else ["1,x", "2,y"]
    text = "\r\n".join([f"\ufeff{header}", *rows, "", ""])
    assert table(tmp_path, text).values_of(["y", "x"]).targets["t"].tolist() == [2, 1]


def test_whole_numbers_beyond_64_bits_are_classes_by_their_text(tmp_path: Path) -> None:
    assert table(tmp_path, f"id,t\nx,{2**63}\ny,1").values_of(["x", "y"]).targets["t"].tolist() == [str(2**63), "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a header and one row per stimulus"),
        ("id\na", "has the one column 'id'; expected ids and one column per target, separated by commas"),
        ("id;t\na;1", "has the one column 'id;t'"),
        ("id,t,t\na,1,2", "has two columns 't'; give every column a name of its own"),
        ("id,t,t:continuous\na,1,2", "has two columns 't'"),
        ("id,\na,1", "has no name for column 2"),
        ("id,stimulus_id,t\na,b,1", "has the columns id and stimulus_id; rename the one that does not hold the ids"),
        ("id,t\na,1,2", "Line 2 of .* has 3 cells; the header has 2"),
        ("id,t\na,1\na,2", "has stimulus 'a' twice; expected one row per stimulus"),
        ('id,t\na,"1', "is not a table of comma-separated values in UTF-8"),
        ("id,t\na,1.5\nb,slow", r"has the number 1.5 \(stimulus 'a'\) and the text 'slow' \(stimulus 'b'\)"),
    ],
)
def test_a_file_that_is_no_table_of_targets_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,t\na,1\nb,2", "has no row for 1 of 3 stimuli, such as 'c'; expected one row for each, with its id in the"),
        ("id,t\na,x\nb,\nc,y", "Column 't' of .* has no value for stimulus 'b'; every recorded stimulus needs one"),
        ("id,t\na,1\nb,NA\nc,2", "Column 't' of .* has no value for stimulus 'b'"),
        ("id,t\na,1.5\nb,nan\nc,2", "Column 't' of .* has no value for stimulus 'b'"),
        ("id,t:continuous\na,1\nb,fast\nc,2", "Column 't' of .* has 'fast' for stimulus 'b'; expected a finite number"),
        ("id,t\na,1.5\nb,1e999\nc,2", "Column 't' of .* has '1e999' for stimulus 'b'; expected a finite number"),
    ],
)
def test_a_recorded_stimulus_without_a_value_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(tmp_path, text).values_of(IDS)


def test_a_group_without_a_name_and_an_unknown_column_of_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no column 'voice' of groups. Choose one of: emotion, speed"):
        table(tmp_path, groups="voice")
    with pytest.raises(ValueError, match=r"Column 'g' of .* has no value for stimulus 'b'"):
        table(tmp_path, "id,t,g\na,1,x\nb,2,\nc,3,y", groups="g").values_of(IDS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nowhere.csv; expected a .csv file of targets"):
        TargetTable.open(tmp_path / "nowhere.csv")


def test_the_identity_is_the_content_wherever_the_file_lies(tmp_path: Path) -> None:
    first = table(tmp_path)
    shutil.copyfile(tmp_path / "targets.csv", tmp_path / "copy.csv")
    assert TargetTable.open(tmp_path / "copy.csv").identity == first.identity
    assert table(tmp_path, groups="speaker").identity != first.identity
    assert table(tmp_path, TEXT.replace("1.5", "1.6")).identity != first.identity


def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    text = "id,t\na,1\nb,2\nc,4"
    opened = TargetTable(str(tmp_path / "targets.csv"), table(tmp_path, text).identity[0])
    (tmp_path / "targets.csv").write_text("id,t\na,1\nb,3\nc,4")
    with pytest.raises(ValueError, match=r"has changed since it was opened. Give the command again"):
        TargetTable(str(tmp_path / "../" / tmp_path.name / "targets.csv"), opened.sha256).values_of(IDS)


def test_targets_are_added_to_those_of_the_stimuli(tmp_path: Path) -> None:
    def stimuli(**targets: Any) -> Stimuli:
        return Stimuli.of(IDS, [0, 1, 1], ["train", "train", "test"], np.ones((3, 2)), targets=targets)

    opened = table(tmp_path, groups="speaker")
    found = opened.added_to(stimuli(own=[1, 2, 3], digit=[0, 3, -4]))
    assert list(found.targets) == ["own", "digit", "emotion", "speed", "code", "age", "dose"]
    assert found.groups is not None
    with pytest.raises(ValueError, match=r"have a target 'digit' already, and column 'digit' of .* has other values"):
        opened.added_to(stimuli(digit=[0, 3, 4]))
    with pytest.raises(ValueError, match="have a target 'label' already"):
        table(tmp_path, "id,label\na,1\nb,2\nc,3").added_to(stimuli())


def test_cells_keep_line_separators(tmp_path: Path) -> None:
    text = 'id,word\na,"one\ntwo"\nb,one\u2028two\nc,one\x85two\r\n'
    (tmp_path / "targets.csv").write_bytes(text.encode())
    found = TargetTable.open(tmp_path / "targets.csv").values_of(list("abc"))
    assert found.targets["word"].tolist() == ["one\ntwo", "one\u2028two", "one\x85two"]
