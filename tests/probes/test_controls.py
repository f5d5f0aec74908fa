from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier

from probes import ProbeConfig, probe_layers
from probes.controls import (
    BLOCK_ROWS,
    class_rates,
    control_task,
    majority_rate,
    random_labels,
    random_projection,
    selectivity,
)
from tests.probes.small_layers import Sliced

SPLIT = np.repeat(["train", "validation", "test"], [60, 20, 40])


def some_types(n_types: int) -> NDArray:
    """Return names of types in the order of the split, each of them in every part."""
    return np.array([f"type {i}" for i in np.resize(np.arange(n_types), len(SPLIT))])


def blobs(seed: int = 0) -> tuple[NDArray, NDArray]:
    """Return features that give three classes away, and the classes."""
    y = np.resize([0, 1, 2], len(SPLIT))
    return np.eye(3)[y] + 0.1 * np.random.default_rng(seed).normal(size=(len(y), 3)), y


def test_random_labels_keep_the_class_counts_of_every_part() -> None:
    y = np.random.default_rng(0).choice(["a", "b", "c"], size=len(SPLIT), p=[0.6, 0.3, 0.1])
    control = random_labels(y, SPLIT, seed=0)
    for part in ("train", "validation", "test"):
        rows = np.equal(SPLIT, part)
        assert sorted(control[rows]) == sorted(y[rows])
        assert control[rows].tolist() != y[rows].tolist()


def test_random_labels_move_over_all_rows_without_a_split() -> None:
    y = np.repeat([0, 1], 60)
    control = random_labels(y, seed=0)
    assert np.bincount(control).tolist() == [60, 60]
    assert 20 < control[:60].sum() < 40


def test_random_labels_agree_with_the_labels_as_often_as_chance() -> None:
    y = np.repeat([0, 1, 2], [60, 40, 20])
    agreement = [np.mean(random_labels(y, seed=seed) == y) for seed in range(400)]
    assert np.mean(agreement) == pytest.approx((60**2 + 40**2 + 20**2) / 120**2, abs=0.01)


def test_random_labels_are_fitted_on_train_alone() -> None:
    rng = np.random.default_rng(0)
    labels = random_labels(np.resize([0, 1], len(SPLIT)), SPLIT, seed=0)
    row = probe_layers(
        {"wide": rng.normal(size=(len(SPLIT), 100))}, labels, split=SPLIT, config=ProbeConfig(Cs=[1.0])
    ).iloc[0]
    assert row["train_accuracy"] == 1.0
    assert 0.2 < row["accuracy"] < 0.8


@pytest.mark.parametrize("control", [random_labels, control_task])
def test_controls_are_the_same_for_a_seed_and_for_lists_and_series(control: Any) -> None:
    names = some_types(12)
    arguments = {"n_classes": 4} if control is control_task else {}
    first = control(names, SPLIT, **arguments, seed=3)
    for other in (names.tolist(), pd.Series(names), names.astype(object)):
        np.testing.assert_array_equal(control(other, SPLIT.tolist(), **arguments, seed=3), first)
    assert control(names, SPLIT, **arguments, seed=4).tolist() != first.tolist()


@pytest.mark.parametrize("n_types", [4, 10, 11, 20])
def test_control_task_gives_each_type_one_class_in_every_part_and_each_class_as_many_types(n_types: int) -> None:
    types = some_types(n_types)
    control = control_task(types, SPLIT, 4, seed=0)
    class_of = dict(zip(types, control, strict=True))
    assert [class_of[name] for name in types] == control.tolist()
    n_types_of = np.bincount(list(class_of.values()), minlength=4)
    assert n_types_of.sum() == n_types
    assert set(n_types_of) <= {n_types // 4, -(-n_types // 4)}


def test_control_task_gives_every_class_to_a_type_equally_often() -> None:
    classes = [control_task(["a", "b", "c"], ["train"] * 3, 2, seed=seed)[0] for seed in range(600)]
    assert np.mean(np.array(classes) == 0) == pytest.approx(2 / 3, abs=0.06)


def test_probe_that_sees_types_is_not_selective_and_one_that_sees_classes_is() -> None:
    X, y = blobs()
    types = y + 3 * np.resize(np.repeat(np.arange(4), 3), len(y))  # four fine classes to a class
    control = control_task(types, SPLIT, 3, seed=1)
    layers = {"types": np.eye(12)[types], "classes": X}
    task_accuracy, control_accuracy = (
        probe_layers(layers, labels, split=SPLIT)["accuracy"].to_numpy() for labels in (y, control)
    )
    assert selectivity(task_accuracy, control_accuracy)[0] == 0.0
    assert selectivity(task_accuracy, control_accuracy)[1] > 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_classes": 1}, "n_classes is 1; expected an integer of two or more"),
        ({"n_classes": 2.0}, r"n_classes is 2\.0; expected an integer of two or more"),
        (
            {"n_classes": 13},
            "types has 12 different types for 13 classes; every class needs at least",
        ),
        ({"types": np.arange(120)}, "60 of 120 types, such as 60, have no training rows; a probe can memorise only"),
        ({"split": np.full(120, "test")}, "12 of 12 types, such as 'type 0', have no training rows"),
        ({"types": np.linspace(0, 1, 120)}, r"types has shape \(120,\) and dtype float64; expected integers or strin"),
        ({"split": ["train"]}, r"types has 120 entries and split has shape \(1,\); both need one entry per stimulus"),
    ],
)
def test_invalid_control_task_is_an_error(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"types": some_types(12), "split": SPLIT, "n_classes": 3, "seed": 0}
    with pytest.raises(ValueError, match=message):
        control_task(**good | arguments)


@pytest.mark.parametrize(
    ("labels", "split", "message"),
    [
        ([0, 1], ["train"], r"labels has 2 entries and split has shape \(1,\); both need one entry per stimulus"),
        ([0.5, 1.0], None, r"labels has shape \(2,\) and dtype float64; expected integers or strings of shape \(n,\)"),
        (["a", None], None, "dtype object; expected integers or strings"),
        ([[0], [1]], None, r"labels has shape \(2, 1\)"),
        ([], None, r"labels has shape \(0,\)"),
    ],
)
def test_invalid_random_labels_are_an_error(labels: Any, split: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_labels(labels, split, seed=0)


def test_selectivity_is_a_difference_that_keeps_nan() -> None:
    assert selectivity(0.75, 0.25) == 0.5
    np.testing.assert_array_equal(selectivity([0.5, np.nan], pd.Series([1.0, 0.5])), [-0.5, np.nan])


@pytest.mark.parametrize(
    ("task", "control", "message"),
    [
        (97.0, 0.5, "task_accuracy has 97; expected fractions from 0 to 1. Divide percentages by 100"),
        (0.5, [0.5, -0.1], r"control_accuracy has -0\.1; expected fractions from 0 to 1"),
        ([0.5, 0.6], 0.5, r"task_accuracy has shape \(2,\) and control_accuracy \(\); give one control accuracy for"),
    ],
)
def test_invalid_accuracies_are_an_error(task: Any, control: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        selectivity(task, control)


def test_majority_rate_is_the_score_of_a_dummy_classifier() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        train, test = rng.integers(3, size=30), rng.integers(3, size=20)
        dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((30, 1)), train)
        assert majority_rate(train, test) == dummy.score(np.zeros((20, 1)), test)
    assert majority_rate(["b", "a", "b", "a"], ["a", "b", "b", "b"]) == 0.25  # of equally common classes, the first


@pytest.mark.parametrize("test", [[0, 7], [0, 7, 5]])
def test_test_label_absent_from_training_is_an_error(test: list[int]) -> None:
    with pytest.raises(ValueError, match="labels_test has 7, which is absent from labels_train"):
        majority_rate([0, 1], test)


def test_labels_of_another_kind_are_absent() -> None:
    with pytest.raises(ValueError, match="labels_test has '0', which is absent from labels_train"):
        class_rates([0, 1], ["0", "1"])


def test_class_rates_sum_to_one_and_codes_find_the_labels() -> None:
    rates, test = class_rates(["b", "a", "b", "c"], ["c", "b"])
    assert rates.tolist() == [0.25, 0.5, 0.25]
    assert test.tolist() == [2, 1]


def test_random_projection_is_one_gaussian_matrix_for_all_rows() -> None:
    X = np.random.default_rng(0).normal(size=(2 * BLOCK_ROWS + 5, 7))
    weights = random_projection(np.eye(7), 3, seed=1)
    np.testing.assert_allclose(random_projection(X, 3, seed=1), X @ weights, rtol=1e-12, atol=1e-12)
    assert np.abs(random_projection(X, 3, seed=2) - X @ weights).max() > 0.1


def test_random_projection_of_lazy_rows_reads_blocks_and_gives_the_same() -> None:
    X = np.random.default_rng(0).normal(size=(2 * BLOCK_ROWS + 5, 7)).astype(np.float32)
    lazy: Any = Sliced(X)
    np.testing.assert_array_equal(random_projection(lazy, 3, seed=0), random_projection(X, 3, seed=0))
    assert lazy.reads == [BLOCK_ROWS, BLOCK_ROWS, 5]


def test_random_projection_keeps_mean_squares_and_distances_in_proportion() -> None:
    X = np.random.default_rng(0).normal(size=(6, 50)) + 3.0
    Z = random_projection(X, 20_000, seed=0)
    np.testing.assert_allclose(np.mean(Z**2, axis=1), np.mean(X**2, axis=1), rtol=0.05)
    np.testing.assert_allclose(np.mean((Z[:3] - Z[3:]) ** 2, axis=1), np.mean((X[:3] - X[3:]) ** 2, axis=1), rtol=0.05)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float64", "float64"),
        ("float32", "float32"),
        ("float16", "float32"),
        ("uint8", "float32"),
        ("int64", "float64"),
    ],
)
def test_random_projection_keeps_the_precision(dtype: str, expected: str) -> None:
    X = np.arange(20).reshape(4, 5)
    Z = random_projection(X.astype(dtype), 3, seed=0)
    assert Z.dtype == expected
    np.testing.assert_allclose(Z, random_projection(X.astype(float).tolist(), 3, seed=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("X", "width", "message"),
    [
        (np.ones((4, 2, 3)), 3, r"X has shape \(4, 2, 3\); expected \(n, d\). Flatten it first"),
        (np.ones((4, 0)), 3, r"X has shape \(4, 0\); expected \(n, d\)"),
        (np.full((4, 2), "0"), 3, "X has dtype <U1; expected real numbers"),
        (np.ones((4, 2)), 0, "width is 0; expected a positive integer"),
        (np.ones((4, 2)), 1.5, r"width is 1\.5; expected a positive integer"),
        (
            np.where(np.arange(BLOCK_ROWS + 2)[:, np.newaxis] < BLOCK_ROWS, [1.0, 2.0], np.nan),
            3,
            "X has 4 NaN or infinite values in rows 1024 to 1025; a projection would spread them",
        ),
    ],
)
def test_invalid_projection_is_an_error(X: Any, width: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_projection(X, width, seed=0)
