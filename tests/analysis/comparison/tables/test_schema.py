from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisConfig, ExecutionConfig, analyze_run
from analysis.comparison.result import ComparisonResult
from analysis.comparison.tables.comparison_table import LAYER, VIEW, Column, ComparisonTable
from analysis.comparison.tables.layer_tables import layer_table
from analysis.comparison.tables.schema import TABLES, read_table
from analysis.comparison.tasks import AnalysisTasks, Source
from analysis.execution import Task, TaskResult
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


# Results, tables and columns from outside the package


def count_zeros(folder: Path, *, sources: Sequence[Source]) -> TaskResult:
    (source,) = sources
    layers, _ = source.read()
    return TaskResult(values={"zeros": float(np.mean([layer[:] == 0 for layer in layers.values()]))})


def plan_zeros(tasks: AnalysisTasks) -> Iterator[Task]:
    for index, view in enumerate(tasks.views):
        for layer in view.listed:
            yield tasks.make("zeros", count_zeros, {"sources": (tasks.source(index, layer),)}, cost=0.1)


ZEROS = ComparisonTable(
    row="a view and layer",
    columns={**VIEW, **LAYER, "zeros": Column("share of activations that are zero")},
    plan=plan_zeros,
    build=lambda tasks, _: layer_table(ZEROS, tasks, tasks.values("zeros")),
)
BEST = ComparisonTable(
    row="a view",
    columns={"view": VIEW["view"], "best": Column("largest accuracy of a probe")},
    build=lambda _, tables: tables["probes"].groupby("view", sort=False)["accuracy"].max().rename("best").reset_index(),
)


def analyzed(path: Path, folder: Path) -> ComparisonResult:
    execution = ExecutionConfig(executor="serial")
    return analyze_run(path, output=folder, config=AnalysisConfig(steps="last"), execution=execution)


def test_an_entry_adds_a_result_and_its_table(
    runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank_figures: None
) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(TABLES, "zeros", ZEROS)
        result = analyzed(runs["backprop"], tmp_path)
        (view,) = result.tables.views
        expected = [float((layer[:] == 0).mean()) for layer in view.activations.values()]
        assert result.tables["zeros"]["zeros"].tolist() == expected
        assert list(result.tables["zeros"]) == list(ZEROS.columns)
        assert len(list((tmp_path / "cache").glob("zeros-*"))) == 3
        assert "zeros.csv" in (tmp_path / "report.html").read_text()
    assert "zeros" not in analyzed(runs["backprop"], tmp_path).tables


def test_an_entry_adds_a_table_or_a_column_that_follows_from_others(
    runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank_figures: None
) -> None:
    def doubled(tasks: AnalysisTasks, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        table = old.build(tasks, tables)
        return table.assign(doubled=2 * table["class_structure"])

    old = TABLES["class_structure"]
    analyzed(runs["backprop"], tmp_path)
    monkeypatch.setitem(TABLES, "best", BEST)
    columns = {**old.columns, "doubled": Column("twice the class structure")}
    monkeypatch.setitem(TABLES, "class_structure", replace(old, columns=columns, build=doubled))
    tables = analyzed(runs["backprop"], tmp_path).tables
    assert tables["best"]["best"].tolist() == [tables["probes"]["accuracy"].max()]
    assert tables["class_structure"]["doubled"].tolist() == (2 * tables["class_structure"]["class_structure"]).tolist()
