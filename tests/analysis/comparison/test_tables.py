import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from torch import nn

from analysis.comparison import Planned, Store
from analysis.comparison.results import facts_of, similarities, undefined_of, warnings_of
from analysis.comparison.tables import (
    class_structure_table,
    gradient_table,
    rdm_similarity_table,
    read_rdm,
    similarity_table,
    training_table,
    undefined_table,
    write_rdms,
)
from analysis.comparison.view import View, views_of_run
from analysis.export.sources import Analysis, open_source
from checkpoints import Capture, Run, Stimuli
from repsim import compare_rdms, linear_cka, rdm

KEYS = ["view", "run", "step"]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def related(known_view: Callable[..., View], *depths: int) -> list[View]:
    """One view of each depth; the layers of the views at one depth are random, and different, maps of 24 stimuli."""
    rng = np.random.default_rng(0)
    inputs, labels, split = rng.normal(size=(24, 6)), np.arange(24) % 3, ["train", "validation", "test", "test"] * 6
    maps = [[rng.normal(size=(6, 5)) for _ in range(depth)] for depth in depths]
    return [known_view(f"v{i}", inputs, labels, matrices, split=split) for i, matrices in enumerate(maps)]


Pieces = Callable[..., tuple[Planned, Store]]


def rdm_file(tmp_path: Path, views: list[View], pieces_of: Pieces, method: str = "euclidean") -> Path:
    planned, store = pieces_of(views, distance=method)
    write_rdms(tmp_path / "rdm.h5", views, method, planned.rdms, store)
    return tmp_path / "rdm.h5"


def structure(views: list[View], pieces_of: Pieces, method: str = "euclidean") -> pd.DataFrame:
    planned, store = pieces_of(views, distance=method)
    return class_structure_table(views, facts_of(planned.class_structure, store))


def of_rdms(views: list[View], pieces_of: Pieces, method: str = "euclidean") -> pd.DataFrame:
    planned, store = pieces_of(views, distance=method)
    return rdm_similarity_table(views, facts_of(planned.rdm_similarity, store))


def cka(views: list[View], pieces_of: Pieces) -> pd.DataFrame:
    return similarity_table(views, similarities(views, *pieces_of(views)))


# RDMs


@pytest.mark.parametrize("method", ["correlation", "euclidean"])
def test_rdms_are_those_of_the_test_stimuli(
    known_view: Callable[..., View], pieces_of: Pieces, tmp_path: Path, method: str
) -> None:
    views = related(known_view, 2, 2)
    path = rdm_file(tmp_path, views, pieces_of, method)
    for index, view in enumerate(views):
        for layer, values in view.activations.items():
            expected = rdm(values[view.rows("test")], method).astype(np.float32)
            np.testing.assert_array_equal(read_rdm(path, index, layer), expected, strict=True)


def test_any_hdf5_reader_finds_the_documented_layout(
    known_view: Callable[..., View], pieces_of: Pieces, tmp_path: Path
) -> None:
    views = related(known_view, 2, 1)
    stimuli, rows = views[0].run.stimuli, views[0].rows("test")
    with h5py.File(rdm_file(tmp_path, views, pieces_of)) as file:
        assert dict(file.attrs) == {"format": "repsim-rdms", "format_version": 1, "method": "euclidean"}
        assert sorted(file) == ["0000", "0001", "keys", "label", "stimulus_id"]
        assert np.char.decode(file["stimulus_id"][()], "utf-8").tolist() == stimuli.ids[rows].tolist()
        assert file["label"][()].tolist() == stimuli.labels[rows].tolist()
        assert {name: list(file[name]) for name in ("0000", "0001")} == {
            "0000": ["hidden.1", "hidden.2"],
            "0001": ["hidden.1"],
        }
        assert dict(file["0001"].attrs) == {"view": "v1", "step": 7}
        assert file["0000"]["hidden.1"].shape == (len(rows) * (len(rows) - 1) // 2,)


@pytest.mark.parametrize(
    "names",
    [("a", "a/b"), ("/a", "a"), ("a/b", "a%2Fb"), ("%", "50%25"), ("a//b", "a/b")],
    ids=["beside its folder", "leading slash", "escape", "per cent", "equal paths"],
)
def test_layers_whose_names_look_like_paths_keep_their_own_matrices(
    pieces_of: Pieces, tmp_path: Path, names: tuple[str, str]
) -> None:
    rng = np.random.default_rng(0)
    stimuli = Stimuli.of([f"s{k}" for k in range(6)], [0, 0, 0, 1, 1, 1], ["test"] * 6, rng.normal(size=(6, 4)))
    model = nn.Sequential()
    for name in names:
        model.add_module(name, nn.Linear(4, 4))
    with Run.create(tmp_path / "run", {}, stimuli) as run, Capture(model) as capture:
        run.checkpoint(7, model, capture=capture)
    view = View("v", Run.open(tmp_path / "run"), 7)
    assert set(names) <= set(view.listed)
    path = rdm_file(tmp_path, [view], pieces_of)
    for name in names:
        np.testing.assert_array_equal(read_rdm(path, 0, name), rdm(view.listed[name][:], "euclidean").astype("f4"))
    analysis = open_source(tmp_path)
    assert isinstance(analysis, Analysis)
    assert set(analysis.views[0].layers) == set(view.listed)
    for matrix in analysis.matrices:
        np.testing.assert_array_equal(analysis.rdm(matrix), read_rdm(path, 0, matrix.layer))


# Class structure

POINTS = np.array([[1.0, 1.0], [1.0, 1.0], [4.0, 5.0], [4.0, 5.0]])  # two classes of equal points, 5 apart


def test_class_structure_is_the_distance_between_classes(known_view: Callable[..., View], pieces_of: Pieces) -> None:
    views = [known_view("x", POINTS, [0, 0, 1, 1], [2 * np.eye(2), 3 * np.eye(2), np.eye(2)])]
    table = structure(views, pieces_of)
    assert list(table.columns) == [*KEYS, "layer", "depth", "class_structure", "fraction_of_final"]
    assert list(table["depth"]) == [1, 2, 3]
    assert list(table["class_structure"]) == pytest.approx([10.0, 15.0, 5.0])
    assert list(table["fraction_of_final"]) == pytest.approx([2.0, 3.0, 1.0])


def test_a_fraction_is_of_the_last_layer_of_the_same_network(
    known_view: Callable[..., View], pieces_of: Pieces
) -> None:
    views = [
        known_view(name, POINTS, [0, 0, 1, 1], [np.eye(2), last * np.eye(2)]) for name, last in (("a", 2), ("b", 4))
    ]
    table = structure(views, pieces_of)
    assert list(table["fraction_of_final"]) == pytest.approx([0.5, 1.0, 0.25, 1.0])


def test_no_fraction_is_taken_of_an_undefined_last_layer(known_view: Callable[..., View], pieces_of: Pieces) -> None:
    views = [known_view("x", POINTS, [0, 0, 1, 1], [np.eye(2), np.zeros((2, 2))])]
    table = structure(views, pieces_of, "cosine")
    planned, store = pieces_of(views, distance="cosine")
    (row,) = undefined_table(views, undefined_of(views, planned, store)).to_dict("records")
    assert (row["layer"], row["depth"], row["results"]) == ("hidden.2", 2, "rdm, class_structure, cka")
    assert row["reason"].startswith("Layer 'hidden.2': 4 of 4 stimuli have zero norm")
    assert warnings_of(views, planned, store) == []
    assert table["class_structure"].notna().tolist() == [True, False]
    assert table["fraction_of_final"].isna().all()


# Similarity of RDMs


def test_rdms_of_equal_layers_correlate_at_their_depth_only(known_view: Callable[..., View], pieces_of: Pieces) -> None:
    rng = np.random.default_rng(0)
    inputs, labels, (one, two) = rng.normal(size=(12, 4)), np.arange(12) % 2, rng.normal(size=(2, 4, 3))
    views = [known_view("a", inputs, labels, [one, two]), known_view("b", inputs, labels, [one, one, two])]
    table = of_rdms(views, pieces_of)
    assert list(table.columns) == [*KEYS, "reference", "layer", "depth", "pearson", "spearman"]
    assert list(table["view"]) == ["b", "b"]
    assert list(table["reference"]) == ["a", "a"]
    assert list(table["depth"]) == [1, 2]  # a has no third layer
    assert table["pearson"][0] == pytest.approx(1.0)
    assert table["spearman"][0] == pytest.approx(1.0)
    assert table["pearson"][1] < 0.9


def test_stimuli_undefined_in_one_network_are_left_out_of_both(
    known_view: Callable[..., View], rng: np.random.Generator, pieces_of: Pieces
) -> None:
    inputs, labels = np.abs(rng.normal(size=(9, 3))), np.arange(9) // 3
    inputs[0] = [2.0, 0.0, 0.0]
    without_first = np.diag([0.0, 1.0, 1.0])
    views = [known_view("a", inputs, labels, [np.eye(3)]), known_view("b", inputs, labels, [without_first])]
    table = of_rdms(views, pieces_of, "cosine")
    (said,) = warnings_of(views, *pieces_of(views, distance="cosine"))
    assert re.match(r"b: Layer 'hidden\.1': 1 of 9 stimuli have zero norm \(rows 0\)", said)
    expected = compare_rdms(rdm(inputs[1:], "cosine"), rdm(inputs[1:] @ without_first, "cosine"))
    assert table["pearson"].item() == pytest.approx(expected, abs=1e-6)


def test_one_network_has_no_reference_but_the_same_columns(known_view: Callable[..., View], pieces_of: Pieces) -> None:
    views = related(known_view, 2)
    table = of_rdms(views, pieces_of)
    assert list(table.columns) == [*KEYS, "reference", "layer", "depth", "pearson", "spearman"]
    assert table.empty


# CKA


def test_cka_is_that_of_every_ordered_pair_on_the_test_stimuli(
    known_view: Callable[..., View], pieces_of: Pieces
) -> None:
    views = related(known_view, 2, 1)
    table = cka(views, pieces_of)
    assert list(table.columns) == ["view_a", "layer_a", "depth_a", "view_b", "layer_b", "depth_b", "cka"]
    assert len(table) == 9
    by_label = {view.label: view for view in views}
    for row in table.itertuples():
        a, b = (
            by_label[view].activations[layer][by_label[view].rows("test")]
            for view, layer in ((row.view_a, row.layer_a), (row.view_b, row.layer_b))
        )
        assert row.cka == pytest.approx(linear_cka(a, b), abs=1e-10)
        assert row.layer_a == f"hidden.{row.depth_a}"


def test_cka_that_is_undefined_names_the_layer(
    known_view: Callable[..., View], rng: np.random.Generator, pieces_of: Pieces
) -> None:
    views = [known_view("x", rng.normal(size=(8, 3)), np.arange(8) % 2, [np.eye(3), np.zeros((3, 3))])]
    table = cka(views, pieces_of)
    planned, store = pieces_of(views)
    ((place, found),) = undefined_of(views, planned, store).items()
    assert place == (0, "hidden.2")
    assert "Its activations have zero HSIC with themselves" in {each.result: each.reason for each in found}["cka"]
    assert warnings_of(views, planned, store) == []
    assert table["cka"].notna().tolist() == [True, False, False, False]


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


def test_a_run_seen_at_two_steps_was_trained_once(runs: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
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
COLUMNS = ["view", "step", "boundary", "rule", *FACTS, "estimator_loss"]


def test_gradients_have_a_row_a_run_diagnosed_step_and_boundary(known_view: Callable[..., View]) -> None:
    views = [known_view(name, POINTS, [0, 0, 1, 1], [np.eye(2)], config=HERE) for name in "ab"]
    unknown = FACTS | {"relative_error": None, "cosine": None, "angle": None}
    diagnosed = {"gradients": {"2": unknown, "10": FACTS}, "estimator_losses": {"2": 9.0, "3": 7.0}}
    log(views[0].run.path, {"step": 1, "epoch": 1}, {"step": 2, "epoch": 1, **diagnosed})
    log(views[1].run.path, {"step": 3, "gradients": {"1": FACTS}})
    table = gradient_table(views)
    assert list(table.columns) == COLUMNS
    assert table[["view", "step", "boundary"]].to_numpy().tolist() == [["a", 2, 2], ["a", 2, 10], ["b", 3, 1]]
    assert table["angle"].isna().tolist() == [True, False, False]
    assert (table.loc[1:, list(FACTS)] == list(FACTS.values())).all(axis=None)
    assert table["rule"].isna().all()  # their configurations do not say where rules act
    assert table["estimator_loss"][0] == 9.0
    assert table["estimator_loss"].isna().tolist() == [False, True, True]


def test_a_run_seen_at_two_steps_was_diagnosed_once(runs: Mapping[str, Path]) -> None:
    table = gradient_table(views_of_run(runs["synthetic"], "first,last"))
    assert table[["step", "boundary"]].to_numpy().tolist() == [[step, k] for step in (1, 38) for k in (1, 2, 3)]
    assert set(table["view"]) == {"synthetic"}
    assert table["estimator_loss"].notna().tolist() == [True, False, False] * 2


def test_the_gradients_of_a_run_are_those_of_its_log(runs: Mapping[str, Path]) -> None:
    (view,) = views_of_run(runs["synthetic"], "last")
    last = view.run.metrics()[-1]
    rows = gradient_table([view]).query("step == 38").set_index("boundary")
    for boundary, facts in last["gradients"].items():
        assert rows.loc[int(boundary), list(FACTS)].tolist() == list(facts.values())
    assert rows.loc[1, "estimator_loss"] == last["estimator_losses"]["1"]
    assert rows["rule"].to_dict() == {1: "synthetic-gradient", 2: "backprop", 3: "backprop"}


@pytest.mark.parametrize("config", [{}, HERE])
def test_a_run_without_diagnoses_has_the_columns_but_no_rows(known_view: Callable[..., View], config: dict) -> None:
    view = known_view("x", POINTS, [0, 0, 1, 1], [np.eye(2)], config=config)
    log(view.run.path, {"step": 1, "loss": 1.0} if config else {"step": 1, "gradients": "large"})
    table = gradient_table([view])
    assert table.empty
    assert list(table.columns) == COLUMNS
