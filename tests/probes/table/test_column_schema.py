"""One schema serves the rows, the reader, the documentation and the version of the cache."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from probes import ProbeConfig, probe_layers
from probes.table.column_schema import column_table, probe_frame, read_probe_table
from probes.table.columns import COLUMNS, ProbeColumn, schema_version
from probes.table.probed_layer import ProbedLayer

N = 60
SPLIT = np.resize(["train", "train", "validation", "test"], N)


def table_of(layers: dict[str, Any] | None = None, cache: Path | None = None, **settings: Any) -> pd.DataFrame:
    y = np.arange(N) % 3
    X = np.random.default_rng(0).normal(size=(N, 4)) + y[:, np.newaxis]
    layers = layers or {"h": X, "nan": np.full((N, 4), np.nan)}
    return probe_layers(layers, y, split=SPLIT, config=ProbeConfig(tol=1e-3, **settings), cache=cache)


def dtypes(table: pd.DataFrame) -> list[str]:
    return [str(dtype) for dtype in table.dtypes]


def norm_of(probed: ProbedLayer) -> float:
    return float(np.linalg.norm(probed.fit.coef))


NORM = ProbeColumn(dtype="float64", meaning="norm of the coefficients | W", compute=norm_of)


def test_full_partly_failed_and_empty_tables_have_the_dtypes_of_the_schema() -> None:
    expected = [column.dtype for column in COLUMNS.values()]
    full = table_of(Cs=[0.1], controls=1, codelength=True)
    for table in (full, full[full["status"] == "failed"], table_of({"nan": np.full((N, 2), np.nan)}), probe_frame([])):
        assert table.columns.tolist() == list(COLUMNS)
        assert dtypes(table) == expected


def test_a_table_is_read_back_from_csv_as_it_was_written(tmp_path: Path) -> None:
    table = table_of(controls=1)
    table.insert(0, "view", ["a", "b"])
    table.to_csv(tmp_path / "probes.csv", index=False)
    read = read_probe_table(tmp_path / "probes.csv")
    pd.testing.assert_frame_equal(read, table, check_exact=True)
    few = ["layer", "accuracy", "message"]
    table[few].to_csv(tmp_path / "few.csv", index=False)
    pd.testing.assert_frame_equal(read_probe_table(tmp_path / "few.csv"), table[few], check_exact=True)
    table.iloc[:0].to_csv(tmp_path / "empty.csv", index=False)
    assert dtypes(read_probe_table(tmp_path / "empty.csv"))[1:] == dtypes(table)[1:]


def test_a_csv_without_columns_of_probes_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("step,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv has no column of a table of probes; it has: step, loss"):
        read_probe_table(tmp_path / "other.csv")


def test_a_column_from_outside_is_computed_read_documented_and_makes_cached_rows_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = tmp_path / "rows.jsonl", schema_version()
    plain = table_of(cache=path)
    assert path.read_bytes().count(b"\n") == 1
    monkeypatch.setitem(COLUMNS, "norm", NORM)
    table = table_of(cache=path)
    assert path.read_bytes().count(b"\n") == 2  # computed again
    assert table["norm"].tolist()[0] > 0
    assert np.isnan(table["norm"].tolist()[1])  # of the layer that failed
    pd.testing.assert_frame_equal(table.drop(columns="norm"), plain)
    pd.testing.assert_frame_equal(table_of(cache=path), table, check_exact=True)
    assert path.read_bytes().count(b"\n") == 2
    assert probe_frame([])["norm"].dtype == "float64"
    assert "| `norm` | float64 | categorical targets | norm of the coefficients \\| W |" in column_table()
    assert schema_version() != before


def test_a_column_whose_computation_changed_makes_cached_rows_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLUMNS, "norm", NORM)
    first = schema_version()
    monkeypatch.setitem(COLUMNS, "norm", ProbeColumn(**{**vars(NORM), "version": 2}))
    assert schema_version() != first
    monkeypatch.setitem(COLUMNS, "norm", ProbeColumn(**{**vars(NORM), "meaning": "in other words"}))
    assert schema_version() == first


@pytest.mark.parametrize(("stage", "status"), [("control", "ok"), ("probe", "failed")])
def test_a_column_that_raises_fails_alone_or_with_its_layer(
    stage: Any, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(probed: ProbedLayer) -> float:
        raise RuntimeError("no memory left")

    monkeypatch.setitem(COLUMNS, "norm", ProbeColumn(dtype="float64", meaning="", compute=fail, stage=stage))
    row = table_of().iloc[0]
    assert (row["status"], np.isnan(row["norm"])) == (status, True)
    assert row["message"].endswith("RuntimeError: no memory left")
    assert np.isnan(row["accuracy"]) == (status == "failed")


def test_a_column_without_a_computation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLUMNS, "norm", ProbeColumn(dtype="float64", meaning=""))
    assert table_of()["message"][0].startswith("TypeError: Column 'norm' has no computation")


def test_the_documentation_has_one_row_per_column() -> None:
    lines = column_table().splitlines()
    assert len(lines) == 2 + len(COLUMNS)
    table = pd.read_csv(io.StringIO("\n".join(lines[:1] + lines[2:])), sep="|", skipinitialspace=True)
    assert [name.strip(" `") for name in table.iloc[:, 1]] == list(COLUMNS)
    assert all(column.meaning for column in COLUMNS.values())
