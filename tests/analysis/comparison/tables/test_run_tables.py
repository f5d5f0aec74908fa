import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from analysis.comparison.tables.run_tables import gradient_table, training_table
from analysis.comparison.view import View, views_of_run

POINTS = np.array([[1.0, 1.0], [1.0, 1.0], [4.0, 5.0], [4.0, 5.0]])


# Training


def log(path: Path, *records: dict) -> None:
    (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_training_is_the_mean_of_each_epoch(known_view: Callable[..., View]) -> None:
    views = [known_view(name, POINTS, [0, 0, 1, 1], [np.eye(2)]) for name in "ab"]
    first = {"step": 1, "epoch": 1, "loss": 4.0, "accuracy": 0.25, "estimator_losses": {"1": 9.0}}
    second = {"step": 2, "epoch": 1, "loss": 2.0, "accuracy": 0.75, "validation_loss": 1.5, "validation_accuracy": 0.5}
    third = {"step": 3, "epoch": 2, "loss": 1.0, "accuracy": 1.0}
    log(views[0].run.path, first, second, third)
    log(views[1].run.path, third)
    table = training_table(views)
    assert sorted(table) == ["accuracy", "epoch", "loss", "validation_accuracy", "validation_loss", "view"]
    assert table["view"].tolist() == ["a", "a", "b"]
    assert table["epoch"].tolist() == [1, 2, 2]
    assert table["loss"].tolist() == [3.0, 1.0, 1.0]
    assert table["accuracy"].tolist() == [0.5, 1.0, 1.0]
    assert table["validation_loss"][0] == 1.5
    assert table["validation_accuracy"].isna().tolist() == [False, True, True]


def test_a_run_shown_at_two_steps_has_its_training_once(
    runs: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs["backprop"])
    table = training_table(views_of_run(".", "first,last"))
    assert table["view"].tolist() == ["backprop", "backprop"]
    assert table["epoch"].tolist() == [1, 2]
    assert table.notna().all(axis=None)


@pytest.mark.parametrize("records", [[], [{"step": 1, "reward": 3.0}]])
def test_a_run_of_another_trainer_has_no_rows(known_view: Callable[..., View], records: list[dict]) -> None:
    view = known_view("x", POINTS, [0, 0, 1, 1], [np.eye(2)])
    log(view.run.path, *records)
    assert training_table([view]).empty


# Gradients

HERE = {"training": {}, "recording": {}, "data": {}}
FACTS = {"norm": 2.0, "true_norm": 4.0, "relative_error": 0.5, "cosine": 0.5, "angle": 60.0}
WHERE_MEASURED = {
    "update_cosine": 0.25,
    "weight_angle": 45.0,
    "input_error": 0.75,
    "squared_bias": -0.125,
    "variance": 2.5,
    "true_variance": 1.5,
}
COLUMNS = ["view", "step", "boundary", "rule", *FACTS, *WHERE_MEASURED, "estimator_loss"]


def test_gradients_have_one_row_per_run_diagnosed_step_and_boundary(known_view: Callable[..., View]) -> None:
    views = [known_view(name, POINTS, [0, 0, 1, 1], [np.eye(2)], config=HERE) for name in "ab"]
    unknown = FACTS | {"relative_error": None, "cosine": None, "angle": None}
    diagnosed = {"gradients": {"2": unknown, "10": FACTS}, "estimator_losses": {"2": 9.0, "3": 7.0}}
    log(views[0].run.path, {"step": 1, "epoch": 1}, {"step": 2, "epoch": 1, **diagnosed})
    log(views[1].run.path, {"step": 3, "gradients": {"1": FACTS | WHERE_MEASURED}})
    table = gradient_table(views)
    assert list(table.columns) == COLUMNS
    assert table[["view", "step", "boundary"]].to_numpy().tolist() == [["a", 2, 2], ["a", 2, 10], ["b", 3, 1]]
    assert table["angle"].isna().tolist() == [True, False, False]
    assert (table.loc[1:, list(FACTS)] == list(FACTS.values())).all(axis=None)
    assert table.loc[2, list(WHERE_MEASURED)].tolist() == list(WHERE_MEASURED.values())
    assert table.loc[:1, list(WHERE_MEASURED)].isna().all(axis=None)  # as in runs of earlier versions
    assert table["rule"].isna().all()  # their configurations do not say where rules act
    assert table["estimator_loss"][0] == 9.0
    assert table["estimator_loss"].isna().tolist() == [False, True, True]


def test_a_run_shown_at_two_steps_has_its_gradients_once(runs: Mapping[str, Path]) -> None:
    table = gradient_table(views_of_run(runs["synthetic"], "first,last"))
    assert table[["step", "boundary"]].to_numpy().tolist() == [[step, k] for step in (1, 38) for k in (1, 2, 3)]
    assert set(table["view"]) == {"synthetic"}
    assert table["estimator_loss"].notna().tolist() == [True, False, False] * 2


def test_the_gradients_of_a_run_are_those_of_its_log(runs: Mapping[str, Path]) -> None:
    (view,) = views_of_run(runs["synthetic"], "last")
    last = view.run.metrics()[-1]
    rows = gradient_table([view]).query("step == 38").set_index("boundary")
    for boundary, facts in last["gradients"].items():
        assert rows.loc[int(boundary), list(facts)].tolist() == list(facts.values())
        assert list(facts) == [*FACTS, "update_cosine"]
    assert rows.loc[1, "estimator_loss"] == last["estimator_losses"]["1"]
    assert rows["rule"].to_dict() == {1: "synthetic-gradient", 2: "backprop", 3: "backprop"}


@pytest.mark.parametrize("config", [{}, HERE])
def test_a_run_without_diagnoses_has_the_columns_but_no_rows(known_view: Callable[..., View], config: dict) -> None:
    view = known_view("x", POINTS, [0, 0, 1, 1], [np.eye(2)], config=config)
    log(view.run.path, {"step": 1, "loss": 1.0} if config else {"step": 1, "gradients": "large"})
    table = gradient_table([view])
    assert table.empty
    assert list(table.columns) == COLUMNS
