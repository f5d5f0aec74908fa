from pathlib import Path

import pytest

from analysis.comparison.result import ComparisonResult
from analysis.comparison.tables.schema import TABLES, read_table
from checkpoints import Damaged


@pytest.mark.parametrize("name", list(TABLES))
def test_a_table_has_the_documented_columns(comparison: ComparisonResult, name: str) -> None:
    rest = {"similarity": ["cka"]}.get(name, [])
    assert sorted(comparison.tables[name]) == sorted([*TABLES[name].columns, *rest])


def test_text_stays_text_and_numbers_keep_every_bit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("view,accuracy\n001,0.1234567890123456789\n1e3,\n")
    table = read_table(tmp_path / "a.csv")
    assert table["view"].tolist() == ["001", "1e3"]
    assert table["accuracy"][0] == 0.1234567890123456789
    assert table["accuracy"].isna().tolist() == [False, True]


def test_a_file_that_is_no_table_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    with pytest.raises(Damaged, match=r"a\.csv is not a table of comma-separated values"):
        read_table(tmp_path / "a.csv")
