from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

from probes import Fit, FitKey, LogisticProbe, probe_layers
from probes.readout import COLUMNS

N = 240
SCORES = ["accuracy", "balanced_accuracy", "log_loss", "train_accuracy", "validation_log_loss"]


def split_of(n: int) -> NDArray:
    return np.resize(["train", "train", "validation", "test"], n)


@pytest.fixture
def stimuli(relu_digits: tuple[NDArray, NDArray]) -> tuple[NDArray, NDArray, NDArray]:
    X, y = relu_digits
    return X[:N], y[:N], split_of(N)


class Lazy:
    """An array that counts how often it is read."""

    def __init__(self, array: NDArray) -> None:
        self.array, self.shape, self.reads = array, array.shape, 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        self.reads += 1
        return np.asarray(self.array, dtype=dtype)


class Broken(Lazy):
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        raise OSError("checksum of block 3 is wrong")


def test_row_holds_the_scores_of_the_probe_chosen_on_validation_log_loss(
    stimuli: tuple[NDArray, NDArray, NDArray],
) -> None:
    X, y, split = stimuli
    train, validation, test = (split == part for part in ("train", "validation", "test"))
    Cs = (0.1, 10.0, 1e4)
    probes = [LogisticProbe(C, solver="newton").fit(X[train], y[train]) for C in Cs]
    losses = [log_loss(y[validation], probe.predict_proba(X[validation]), labels=probe.classes_) for probe in probes]
    probe = probes[int(np.argmin(losses))]
    row = probe_layers({"fc1": X}, y, split, Cs=Cs, solver="newton").iloc[0]
    assert row["n_iter"] >= probe.n_iter_
    expected = {
        "layer": "fc1",
        "layer_index": 0,
        "d": 48,
        "n_train": 120,
        "n_validation": 60,
        "n_test": 60,
        "C": 10.0,
        "C_at_edge": False,
        "accuracy": accuracy_score(y[test], probe.predict(X[test])),
        "balanced_accuracy": balanced_accuracy_score(y[test], probe.predict(X[test])),
        "log_loss": log_loss(y[test], probe.predict_proba(X[test]), labels=probe.classes_),
        "train_accuracy": probe.score(X[train], y[train]),
        "validation_log_loss": min(losses),
        "chance": np.mean(y[test] == np.bincount(y[train]).argmax()),
        "relative_gap": pytest.approx(probe.relative_gap_, abs=1e-14),
        "n_iter": row["n_iter"],
        "converged": True,
        "status": "ok",
        "message": "",
    }
    rest = {
        "network": "",
        "target": "label",
        "n_constant": 0,
        "v_information": np.log2(10) - row["log_loss"] / np.log(2),
    }
    assert row.index.tolist() == COLUMNS
    assert rest["v_information"] == pytest.approx(row["v_information"], abs=0.02)  # classes are as good as balanced
    assert row[[name for name in COLUMNS if name not in {**expected, **rest}]].isna().all()
    for column, value in expected.items():
        assert row[column] == pytest.approx(value), column
    assert row["accuracy"] > 0.7 > row["chance"]


def test_layers_keep_their_order_and_progress_hears_of_each(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    heard: list[str] = []
    layers = {"z": X[:, :4], "broken": Broken(X), "a": X[:, :8]}
    table = probe_layers(layers, y, split, Cs=[0.1], progress=heard.append)
    assert table["layer"].tolist() == heard == ["z", "broken", "a"]
    assert table["layer_index"].tolist() == [0, 1, 2]
    assert table["d"].tolist() == [4, 48, 8]


def test_table_is_the_same_every_time_and_for_lists_strings_and_float32(
    stimuli: tuple[NDArray, NDArray, NDArray],
) -> None:
    X, y, split = stimuli
    X = X[:, :8].astype(np.float32)
    table = probe_layers({"h": X}, y, split)
    pd.testing.assert_frame_equal(probe_layers({"h": X}, y, split), table)
    names = [f"digit {label}" for label in y]
    pd.testing.assert_frame_equal(probe_layers({"h": X.tolist()}, names, split.tolist()), table)


def test_lazy_layers_are_read_once_and_in_turn(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    layers = {"h1": Lazy(X[:, :4]), "h2": Lazy(X[:, :4]), "wide": Lazy(X)}

    def reads(memory: int) -> list[list[int]]:
        seen: list[list[int]] = []
        for layer in layers.values():
            layer.reads = 0
        counts = lambda name: seen.append([layer.reads for layer in layers.values()])  # noqa: E731
        probe_layers(layers, y, split, Cs=[0.1], memory=memory, progress=counts)
        return seen

    together, in_turn = reads(2**30), reads(1)
    assert together == [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    assert in_turn == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_test_labels_touch_only_test_scores(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    shuffled = y.copy()
    shuffled[split == "test"] = np.roll(y[split == "test"], 1)
    honest, blind = (probe_layers({"h": X}, labels, split).iloc[0] for labels in (y, shuffled))
    fitted = ["C", "train_accuracy", "validation_log_loss", "relative_gap", "n_iter"]
    assert honest[fitted].tolist() == blind[fitted].tolist()
    assert blind["accuracy"] < 0.5 < honest["accuracy"]


def test_validation_rows_do_not_move_a_probe_with_a_single_C(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    other = np.where((split == "validation")[:, np.newaxis], -X, X)
    before, after = (probe_layers({"h": Z}, y, split, Cs=[0.1]).iloc[0] for Z in (X, other))
    assert before["log_loss"] == after["log_loss"]
    assert before["validation_log_loss"] != after["validation_log_loss"]


@pytest.mark.parametrize(
    ("Cs", "chosen", "at_edge"),
    [
        ((1e-6, 1e-5, 1e-4), 1e-4, True),
        ((0.1, 10.0, 1e4), 10.0, False),
        ((100.0, 1e4), 100.0, True),
        ((0.01,), 0.01, False),
    ],
)
def test_choice_at_the_edge_of_the_grid_is_flagged(
    stimuli: tuple[NDArray, NDArray, NDArray], Cs: tuple[float, ...], chosen: float, at_edge: bool
) -> None:
    X, y, split = stimuli
    for grid in (Cs, Cs[::-1]):
        row = probe_layers({"h": X}, y, split, Cs=grid, tol=1e-3).iloc[0]
        assert (row["C"], row["C_at_edge"]) == (chosen, at_edge)


def test_equal_validation_losses_keep_the_smallest_C() -> None:
    # The one validation row lies at the mean, where every C predicts the class rates.
    layers = {"h": np.array([[-1.0], [1.0], [0.0], [1.0]])}
    table = probe_layers(layers, [0, 1, 0, 1], ["train", "train", "validation", "test"], Cs=(1.0, 0.1, 10.0))
    assert table["C"].tolist() == [0.1]


def test_chance_is_the_commonest_training_class_scored_on_test() -> None:
    labels = np.array([0, 1, 1, 1, 0, 0, 0, 1])
    split = np.repeat(["train", "validation", "test"], [4, 1, 3])
    X = np.random.default_rng(0).normal(size=(8, 2))
    assert probe_layers({"h": X}, labels, split)["chance"].tolist() == [pytest.approx(1 / 3)]


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_present() -> None:
    # One feature that gives the class away, except for the last two test rows, which look like class 2.
    X = np.array([[0.0], [1.0], [2.0], [1.0], [0.0], [0.0], [0.0], [2.0], [2.0]])
    labels = [0, 1, 2, 1, 0, 0, 0, 0, 1]
    split = np.repeat(["train", "validation", "test"], [3, 1, 5])
    row = probe_layers({"h": X}, labels, split, Cs=[100.0]).iloc[0]
    assert row["accuracy"] == pytest.approx(3 / 5)
    assert row["balanced_accuracy"] == pytest.approx((3 / 4 + 0) / 2)


def test_fits_that_did_not_converge_are_told_without_a_warning(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    row = probe_layers({"h": X}, y, split, Cs=(1e-6, 1.0), max_iter=6).iloc[0]
    assert row["status"] == "ok"
    assert row["converged"] == (row["C"] == 1e-6)
    assert row["message"].startswith("C=1 stopped after 6 iterations at relative gap")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (np.where(np.eye(N, 5) > 0, np.nan, 1.0), "ValueError: 5 of 1200 values are NaN or infinite"),
        (np.where(np.eye(N, 5) > 0, -np.inf, 1.0), "ValueError: 5 of 1200 values are NaN or infinite"),
        (np.full((N, 3), 0.1), "ValueError: every feature is constant on the training rows; there is nothing to read"),
        (np.resize([1e300, -1e300, 0.0], (N, 1)), r"ValueError: X reaches 1\.0e\+300, too large to standardise"),
        (np.ones((N, 3), dtype=complex), "ValueError: the layer has dtype complex128; expected real numbers"),
        (np.full((N, 3), "0"), "ValueError: the layer has dtype <U1; expected real numbers"),
        (Broken(np.ones((N, 3))), "OSError: checksum of block 3 is wrong"),
    ],
)
def test_bad_layer_is_a_failed_row_beside_good_ones(
    stimuli: tuple[NDArray, NDArray, NDArray], layer: Any, message: str
) -> None:
    X, y, split = stimuli
    alone = probe_layers({"good": X[:, :4]}, y, split)
    table = probe_layers({"bad": layer, "good": X[:, :4]}, y, split)
    assert table["status"].tolist() == ["failed", "ok"]
    bad, good = table.iloc[0], table.iloc[1]
    assert bad["message"].startswith(message.replace("\\", ""))
    assert bad[["C", "relative_gap", *SCORES]].isna().all()
    assert bad[["C_at_edge", "n_iter", "converged"]].tolist() == [False, 0, False]
    assert bad[["d", "n_train", "chance"]].tolist() == [layer.shape[1], 120, good["chance"]]
    pd.testing.assert_series_equal(good.drop("layer_index"), alone.iloc[0].drop("layer_index"), check_names=False)
    assert table.dtypes.astype(str).tolist() == alone.dtypes.astype(str).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": {}}, "layers is empty; give one or more layers"),
        ({"layers": {"h": np.ones((7, 2))}}, "Layer 'h' has 7 rows and labels has 8; both must come from the same"),
        ({"layers": {"c": np.ones((8, 2, 3))}}, r"Layer 'c' has shape \(8, 2, 3\); expected \(n, d\). Pool or flatten"),
        ({"layers": {"c": np.ones((8, 0))}}, r"Layer 'c' has shape \(8, 0\); expected \(n, d\)"),
        ({"Cs": ()}, "Cs is empty; give one or more positive numbers"),
        ({"Cs": (1.0, -0.1)}, r"C is -0\.1; expected a positive, finite number"),
        ({"solver": "sgd"}, "Unknown solver 'sgd'"),
        ({"tol": 0.0}, r"tol is 0\.0; expected a positive, finite number"),
        ({"max_iter": 0}, "max_iter is 0; expected a positive integer"),
        ({"labels": [0, 1]}, "labels has 2 entries and split has shape"),
        ({"split": ["train"] * 8}, "split has no rows for: validation, test"),
        ({"labels": [3] * 8}, "labels has one class, 3; a probe needs two or more"),
        ({"labels": [0.5, 1.5] * 4}, r"labels has shape \(8,\) and dtype float64; expected integers or strings"),
        ({"labels": list(range(8))}, "split has 4 training rows for 8 classes; every class needs one or more"),
        ({"labels": [0, 1, 0, 2] * 2}, "Class absent from train: 2. Move stimuli of every class to train, or leave"),
    ],
)
def test_misuse_is_an_error_before_any_layer_is_read(arguments: dict[str, Any], message: str) -> None:
    first = Lazy(np.ones((8, 2)))
    good: dict[str, Any] = {"layers": {"first": first}, "labels": [0, 1] * 4, "split": split_of(8)}
    if arguments.get("layers"):
        arguments = {"layers": {"first": first, **arguments["layers"]}}
    with pytest.raises(ValueError, match=message):
        probe_layers(**{**good, **arguments})
    assert first.reads == 0


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
def test_feature_that_is_constant_on_the_training_rows_is_not_read(
    stimuli: tuple[NDArray, NDArray, NDArray], solver: str
) -> None:
    X, y, split = stimuli
    fits: dict[FitKey, Fit] = {}
    elsewhere = np.where(split == "train", 0.1, 1e3 * np.arange(N))
    layers = {"h": X[:, :4], "wider": np.column_stack([elsewhere, X[:, :4]])}
    table = probe_layers(layers, y, split, Cs=[0.1], solver=solver, tol=1e-12, fits=fits)
    np.testing.assert_array_equal(fits[FitKey("", None, "wider", "label")].coef[:, 0], np.zeros(10))
    one, other = table.iloc[0], table.iloc[1]
    assert (one["status"], other["status"]) == ("ok", "ok")
    for score in SCORES:
        assert other[score] == pytest.approx(one[score], abs=1e-5), score


def test_half_precision_is_computed_with_in_double(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    large = (2e4 + 1e4 * X[:, :8]).astype(np.float16)  # a sum of a few is no number of this precision
    half, double = (probe_layers({"h": Z}, y, split) for Z in (large, large.astype(np.float64)))
    assert half["status"].tolist() == ["ok"]
    pd.testing.assert_frame_equal(half, double)


def test_fits_of_an_earlier_checkpoint_are_where_searches_start(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    fits: dict[FitKey, Fit] = {}
    first = probe_layers({"h": X}, y, split, Cs=[0.1], fits=fits).iloc[0]
    key = FitKey("", None, "h", "label")
    assert fits[key].relative_gap == first["relative_gap"]
    assert probe_layers({"h": X}, y, split, Cs=[0.1], fits=fits)["n_iter"].item() == 0
    fits[key] = Fit(coef=np.zeros((3, 5)), intercept=np.zeros(3), objective=1.0, gap=1.0, n_iter=0, converged=False)
    again = probe_layers({"h": X}, y, split, Cs=[0.1], fits=fits).iloc[0]  # of another shape: no start
    assert (again["status"], again["n_iter"]) == ("ok", first["n_iter"])
