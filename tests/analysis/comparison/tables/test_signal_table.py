"""The table of teaching signals: its rows, and what it says where a source is missing."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import fork_run, record_run, train_run
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.tasks import AnalysisTasks
from analysis.comparison.view import View, views_of_run, views_of_runs
from analysis.config.recording import CaptureConfig, RecordingConfig
from checkpoints import Damaged, Run
from repsim.learning import TrainingConfig

TINY = TrainingConfig(data="digits", depth=3, width=8, epochs=2, batch_size=200, learning_rate=0.01)
FEW = RecordingConfig(n_train=20, n_validation=20, n_test=40, steps="first,5,last", record_signals=True)
QUALITY = ["angle", "relative_error", "squared_bias", "variance", "true_variance"]
LOSSES = ["implied_correlation", "implied_slope"]
GEOMETRY = ["cka", "rdm_correlation"]
CHANGE = [f"{true}change_{name}" for true in ("", "true_") for name in ("cka", "rdm_correlation", "cosine")]
RULES: dict[str, dict[str, Any]] = {
    "backprop": {},
    "middle": {"rule": "synthetic-gradient@2"},
    "exact": {"rule": "disturbed-gradient:angle=0@1,3"},
    "observed": {"rule": "synthetic-gradient:observe=true@2"},
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("recorded")
    for name, changes in RULES.items():
        train_run(folder / name, replace(TINY, **changes), FEW)
    return {name: folder / name for name in RULES}


@pytest.fixture
def signals(computed: Callable[..., AnalysisTasks]) -> Callable[..., pd.DataFrame]:
    """Return the table of views."""

    def build(views: list[View]) -> pd.DataFrame:
        table = TABLES["signals"].build(computed(views), {})
        assert list(table) == list(TABLES["signals"].columns)
        return table

    return build


def is_filled(table: pd.DataFrame) -> dict[str, bool]:
    """Return whether all cells of a group of columns are filled; they are all filled, or all empty."""
    groups = {"quality": QUALITY, "losses": LOSSES, "geometry": GEOMETRY, "change": CHANGE}
    filled = {name: table[columns].notna().to_numpy() for name, columns in groups.items()}
    assert all(each.all() or not each.any() for each in filled.values())
    return {name: bool(each.all()) for name, each in filled.items()}


def test_there_is_a_row_where_the_gradient_is_not_the_true_one(
    recorded: Mapping[str, Path], signals: Callable[..., pd.DataFrame]
) -> None:
    table = signals(views_of_runs(list(recorded.values()), steps="5,last"))
    rules: dict[str, dict[int, str]] = {}
    for row in table.to_dict("records"):
        rules.setdefault(row["view"].partition(",")[0], {})[row["boundary"]] = row["rule"]
    assert len(table) == 2 * 6
    assert rules == {
        "middle": {1: "backprop", 2: "synthetic-gradient"},
        "exact": {1: "disturbed-gradient", 2: "backprop", 3: "disturbed-gradient"},
        "observed": {2: "synthetic-gradient (observed)"},
    }
    assert set(table["step"]) == {5, 12}
    assert (table["run"] == [str(recorded[view.partition(",")[0]]) for view in table["view"]]).all()


def test_nothing_is_computed_for_backprop(
    recorded: Mapping[str, Path], computed: Callable[..., AnalysisTasks], known_view: Callable[..., View]
) -> None:
    assert computed(views_of_run(recorded["backprop"], "all")).by_table["signals"] == []
    rng = np.random.default_rng(0)
    foreign = known_view("foreign", rng.normal(size=(9, 4)), np.arange(9) % 3, [rng.normal(size=(4, 5))])
    assert computed([foreign]).by_table["signals"] == []


def test_a_rule_that_is_the_true_gradient_has_no_error(
    recorded: Mapping[str, Path], signals: Callable[..., pd.DataFrame]
) -> None:
    table = signals(views_of_run(recorded["exact"], "all"))
    assert len(table) == 9
    assert table["angle"].max() < 1e-2
    assert table["relative_error"].max() < 1e-5
    assert table["squared_bias"].abs().max() < 1e-9
    np.testing.assert_allclose(table["variance"], table["true_variance"], rtol=1e-5)
    np.testing.assert_allclose(table[GEOMETRY], 1, atol=1e-6)
    before = table[table["step"] < 12]
    for name in ("cka", "rdm_correlation", "cosine"):
        np.testing.assert_allclose(before[f"change_{name}"], before[f"true_change_{name}"], atol=1e-5)
    assert is_filled(before) == {"quality": True, "losses": False, "geometry": True, "change": True}
    assert (before["message"] == "").all()


def test_the_last_step_has_no_change_and_says_so(
    recorded: Mapping[str, Path], signals: Callable[..., pd.DataFrame]
) -> None:
    table = signals(views_of_run(recorded["middle"], "last"))
    assert is_filled(table[table["boundary"] == 2]) == {
        "quality": True,
        "losses": True,
        "geometry": True,
        "change": False,
    }
    assert set(table["message"]) == {"No later step is recorded, so no change in activations is known."}
    assert table.loc[table["boundary"] == 1, LOSSES].isna().all(axis=None)  # there is no module


def test_an_observed_rule_has_no_bias_of_weights(
    recorded: Mapping[str, Path], signals: Callable[..., pd.DataFrame]
) -> None:
    (row,) = signals(views_of_run(recorded["observed"], "5")).to_dict("records")
    assert np.isnan([row["squared_bias"], row["variance"], row["true_variance"]]).all()
    filled = [row[name] for name in (*QUALITY[:2], *LOSSES, *GEOMETRY, *CHANGE)]
    assert np.isfinite(filled).all()
    assert 0 < row["angle"] < 180
    assert row["message"] == ""


def test_a_gradient_of_zero_is_explained(recorded: Mapping[str, Path], signals: Callable[..., pd.DataFrame]) -> None:
    """At step 0 a synthetic gradient is 0."""
    row = signals(views_of_run(recorded["middle"], "first")).set_index("boundary").loc[2]
    assert (row["relative_error"], row["variance"]) == (1.0, 0.0)
    assert row[["angle", "cka", "rdm_correlation", "change_cosine", *LOSSES]].isna().all()
    assert row[["true_change_cka", "true_change_cosine"]].notna().all()
    assert "The implied loss is constant within every label (40 points)" in row["message"]
    assert "The gradients are the same for all stimuli." in row["message"]


# Missing sources


def test_missing_gradients_and_weights_are_named(tmp_path: Path, signals: Callable[..., pd.DataFrame]) -> None:
    train_run(tmp_path / "run", replace(TINY, rule="synthetic-gradient@1"), replace(FEW, record_signals=False))
    (row,) = signals(views_of_run(tmp_path / "run", "5")).to_dict("records")
    assert row["message"] == "Recorded without gradients; train with --record-signals."
    assert np.isfinite([row[name] for name in QUALITY + LOSSES]).all()
    assert np.isnan([row[name] for name in GEOMETRY + CHANGE]).all()
    record_run(tmp_path / "run", tmp_path / "bare", capture=CaptureConfig(layers=("hidden.*",), save_weights=False))
    bare = signals(views_of_run(tmp_path / "bare", "5"))
    assert is_filled(bare) == dict.fromkeys(("quality", "losses", "geometry", "change"), False)
    assert bare["message"].tolist() == [
        "Recorded without weights. Recorded without gradients; train with --record-signals."
    ]


def test_data_that_are_not_here_are_named_and_found_again(
    tmp_path: Path, signals: Callable[..., pd.DataFrame], computed: Callable[..., AnalysisTasks]
) -> None:
    X, y = np.random.default_rng(0).normal(size=(300, 6)), np.arange(300) % 3
    data = tmp_path / "own.npz"
    np.savez(data, X=X, y=y)
    train_run(tmp_path / "run", replace(TINY, data=str(data), batch_size=50, rule="synthetic-gradient@1"), FEW)
    views = views_of_run(tmp_path / "run", "5")
    data.rename(tmp_path / "elsewhere.npz")
    absent = signals(views)
    assert is_filled(absent) == {"quality": False, "losses": False, "geometry": True, "change": True}
    assert absent["message"][0].startswith("The learner could not be rebuilt: ")
    assert "own.npz" in absent["message"][0]
    np.savez(data, X=X + 1, y=y)
    assert "are not the 80 that the run records" in signals(views)["message"][0]
    shutil.copy(tmp_path / "elsewhere.npz", data)
    back = signals(views)
    assert is_filled(back) == dict.fromkeys(("quality", "losses", "geometry", "change"), True)
    assert back["message"].tolist() == [""]


def test_a_layer_that_is_not_recorded_has_no_change(tmp_path: Path, signals: Callable[..., pd.DataFrame]) -> None:
    training = replace(TINY, rule="synthetic-gradient@1,2")
    train_run(tmp_path / "run", training, replace(FEW, layers=("hidden.1",)))
    table = signals(views_of_run(tmp_path / "run", "5")).set_index("boundary")
    assert table.loc[2, CHANGE].isna().all()
    assert table.loc[1, CHANGE].notna().all()
    assert table["message"].tolist() == ["", "The activations of hidden.2 are not recorded."]


def test_steps_before_a_fork_have_the_rule_of_its_source(tmp_path: Path, signals: Callable[..., pd.DataFrame]) -> None:
    train_run(tmp_path / "source", replace(TINY, rule="noise@1"), FEW)
    fork_run(tmp_path / "fork", tmp_path / "source", 5, {"rule": "synthetic-gradient@2"})
    table = signals(views_of_run(tmp_path / "fork", "all"))
    assert table[["step", "boundary", "rule"]].to_numpy().tolist() == [
        [0, 1, "noise"],
        [5, 1, "noise"],
        [12, 1, "backprop"],
        [12, 2, "synthetic-gradient"],
    ]
    assert table.loc[0, ["true_change_cka", "true_change_cosine"]].notna().all()
    assert table.loc[1, CHANGE].isna().all()
    assert table["message"][1].startswith("The run was forked at this step")
    again = fork_run(tmp_path / "again", tmp_path / "fork", 12, {"rule": "noise@3", "epochs": 3})
    assert set(signals(views_of_run(again.path, "0,5,12"))["step"]) == {12}  # of earlier steps nothing is known


def test_large_weights_are_left_out(
    recorded: Mapping[str, Path], signals: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.comparison.tables.signal_table._LARGEST_WEIGHTS", 10)
    table = signals(views_of_run(recorded["middle"], "5"))
    assert is_filled(table) == {"quality": False, "losses": False, "geometry": True, "change": True}
    assert set(table["message"]) == {"The weights exceed 64 MiB; gradients over batches are not computed."}


@pytest.mark.parametrize("name", ["weights.safetensors", "gradients.h5"])
def test_damaged_files_are_refused(
    recorded: Mapping[str, Path], tmp_path: Path, computed: Callable[..., AnalysisTasks], name: str
) -> None:
    run = Run.open(Path(shutil.copytree(recorded["middle"], tmp_path / "copy")))
    path = run[5].path / name
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match=f"{name} has changed since it was committed"):
        computed(views_of_run(run.path, "5"))
