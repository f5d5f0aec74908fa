from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.view import View, views_of_run


def test_every_table_is_written_and_read_back(measure: Any, runs: Mapping[str, Path], tmp_path: Path) -> None:
    measured = measure(views_of_run(runs["backprop"], "last"), tmp_path, distance="euclidean")
    read_back = Tables(measured.tables.views, measured.tables.config, tmp_path)
    assert list(measured.tables) == list(read_back) == list(TABLES)
    for name, read in read_back.items():
        pd.testing.assert_frame_equal(read, measured.tables[name], check_dtype=False, check_exact=True)
    assert measured.tables.rdm_path.is_file()
    with pytest.raises(KeyError, match=r"no table 'rdms'. Choose one of: arms, "):
        read_back["rdms"]


def test_infinite_values_are_empty_cells_in_the_files(
    measure: Any, known_view: Callable[..., View], tmp_path: Path
) -> None:
    labels, split = np.arange(24) % 2, np.repeat(["train", "validation", "test"], 8)
    inputs = np.random.default_rng(0).normal(size=(24, 2)) + 9 * labels[:, np.newaxis]
    views = [known_view("x", inputs, labels, [np.eye(2), np.zeros((2, 2))], split=split)]
    with pytest.warns(
        RuntimeWarning, match="x, step 7, layer 'hidden.2' has no CKA or probe. Its activations have zero"
    ):
        measured = measure(views, tmp_path, distance="euclidean")
    assert measured.tables["class_structure"]["fraction_of_final"][0] == np.inf
    assert pd.read_csv(tmp_path / "class_structure.csv")["fraction_of_final"].isna().all()


def test_a_dead_network_has_empty_results_and_warnings(
    measure: Any, known_view: Callable[..., View], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    inputs, labels, split = rng.normal(size=(60, 4)), np.arange(60) % 2, np.repeat(["train", "validation", "test"], 20)
    matrices = {"alive": [np.eye(4)] * 2, "dead": [np.zeros((4, 4))] * 2}
    views = [known_view(name, inputs, labels, layers, split=split) for name, layers in matrices.items()]
    with pytest.warns(RuntimeWarning) as said:
        measured = measure(views, tmp_path, distance="correlation")
    assert [str(each.message).partition(". ")[0] for each in said] == [
        f"dead, step 7, layer 'hidden.{k}' has no results" for k in (1, 2)
    ]
    assert any("'hidden.2'" in sentence and "not known" in sentence for sentence in measured.summary())
    assert measured.tables["probes"]["status"].tolist() == ["ok", "ok", "failed", "failed"]
    assert measured.tables["rdm_similarity"]["pearson"].isna().all()
