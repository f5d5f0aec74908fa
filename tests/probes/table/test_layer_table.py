import re
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, mean_squared_error, r2_score
from sklearn.preprocessing import StandardScaler

from probes import (
    SOLVERS,
    Fit,
    FitKey,
    LogisticProbe,
    NetworkLayers,
    ProbeConfig,
    baselines,
    control_task,
    online_codelength,
    probe_layers,
    random_labels,
    random_projection,
)
from probes.solvers import lbfgs, lbfgs_layers
from probes.table.columns import COLUMNS
from tests.probes.small_layers import Broken, Lazy

N = 240
LBFGS = ProbeConfig(Cs=[0.1], solver="lbfgs")
SCORES = ["accuracy", "balanced_accuracy", "log_loss", "train_accuracy", "validation_log_loss"]


def split_of(n: int) -> NDArray:
    return np.resize(["train", "train", "validation", "test"], n)


@pytest.fixture
def stimuli(relu_digits: tuple[NDArray, NDArray]) -> tuple[NDArray, NDArray, NDArray]:
    X, y = relu_digits
    return X[:N], y[:N], split_of(N)


def test_row_holds_the_scores_of_the_probe_chosen_on_validation_log_loss(
    stimuli: tuple[NDArray, NDArray, NDArray],
) -> None:
    X, y, split = stimuli
    train, validation, test = (split == part for part in ("train", "validation", "test"))
    Cs = (0.1, 10.0, 1e4)
    probes = [LogisticProbe(C, solver="newton").fit(X[train], y[train]) for C in Cs]
    losses = [log_loss(y[validation], probe.predict_proba(X[validation]), labels=probe.classes_) for probe in probes]
    probe = probes[int(np.argmin(losses))]
    row = probe_layers({"fc1": X}, y, split=split, config=ProbeConfig(Cs=Cs, solver="newton")).iloc[0]
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
        "kind": "categorical",
        "n_constant": 0,
        "v_information": np.log2(10) - row["log_loss"] / np.log(2),
    }
    assert row.index.tolist() == list(COLUMNS)
    assert rest["v_information"] == pytest.approx(row["v_information"], abs=0.02)  # classes are as good as balanced
    assert row[[name for name in COLUMNS if name not in {**expected, **rest}]].isna().all()
    for column, value in expected.items():
        assert row[column] == pytest.approx(value), column
    assert row["accuracy"] > 0.7 > row["chance"]


def test_table_is_the_same_every_time_and_for_lists_strings_and_float32(
    stimuli: tuple[NDArray, NDArray, NDArray],
) -> None:
    X, y, split = stimuli
    X = X[:, :8].astype(np.float32)
    table = probe_layers({"h": X}, y, split=split)
    pd.testing.assert_frame_equal(probe_layers({"h": X}, y, split=split), table)
    names = [f"digit {label}" for label in y]
    pd.testing.assert_frame_equal(probe_layers({"h": X.tolist()}, names, split=split.tolist()), table)


def test_test_labels_affect_only_test_scores(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    shuffled = y.copy()
    shuffled[split == "test"] = np.roll(y[split == "test"], 1)
    honest, blind = (probe_layers({"h": X}, labels, split=split).iloc[0] for labels in (y, shuffled))
    fitted = ["C", "train_accuracy", "validation_log_loss", "relative_gap", "n_iter"]
    assert honest[fitted].tolist() == blind[fitted].tolist()
    assert blind["accuracy"] < 0.5 < honest["accuracy"]


def test_validation_rows_do_not_affect_a_probe_with_a_single_C(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    other = np.where((split == "validation")[:, np.newaxis], -X, X)
    before, after = (probe_layers({"h": Z}, y, split=split, config=ProbeConfig(Cs=[0.1])).iloc[0] for Z in (X, other))
    assert before["log_loss"] == after["log_loss"]
    assert before["validation_log_loss"] != after["validation_log_loss"]


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_present() -> None:
    # One feature that gives the class away, except for the last two test rows, which look like class 2.
    X = np.array([[0.0], [1.0], [2.0], [1.0], [0.0], [0.0], [0.0], [2.0], [2.0]])
    labels = [0, 1, 2, 1, 0, 0, 0, 0, 1]
    split = np.repeat(["train", "validation", "test"], [3, 1, 5])
    row = probe_layers({"h": X}, labels, split=split, config=ProbeConfig(Cs=[100.0])).iloc[0]
    assert row["accuracy"] == pytest.approx(3 / 5)
    assert row["balanced_accuracy"] == pytest.approx((3 / 4 + 0) / 2)


def test_unconverged_fits_are_named_in_the_message_without_a_warning(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    row = probe_layers({"h": X}, y, split=split, config=ProbeConfig(Cs=(1e-6, 1.0), max_iter=6)).iloc[0]
    assert row["status"] == "ok"
    assert row["converged"] == (row["C"] == 1e-6)
    assert row["message"].startswith("C=1 stopped after 6 iterations at relative gap")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (np.where(np.eye(N, 5) > 0, np.nan, 1.0), "ValueError: 5 of 1200 values are NaN or infinite"),
        (np.where(np.eye(N, 5) > 0, -np.inf, 1.0), "ValueError: 5 of 1200 values are NaN or infinite"),
        (np.full((N, 3), 0.1), "ValueError: every feature is constant on the training rows"),
        (np.resize([1e300, -1e300, 0.0], (N, 1)), r"ValueError: X reaches 1\.0e\+300, too large to standardise"),
        (np.ones((N, 3), dtype=complex), "ValueError: the layer has dtype complex128; expected real numbers"),
        (np.full((N, 3), "0"), "ValueError: the layer has dtype <U1; expected real numbers"),
        (Broken(np.ones((N, 3))), "OSError: checksum of block 3 is wrong"),
    ],
)
def test_a_bad_layer_has_a_failed_row_beside_good_ones(
    stimuli: tuple[NDArray, NDArray, NDArray], layer: Any, message: str
) -> None:
    X, y, split = stimuli
    alone = probe_layers({"good": X[:, :4]}, y, split=split)
    table = probe_layers({"bad": layer, "good": X[:, :4]}, y, split=split)
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
        ({"types": [0, 1] * 4}, "types has 2 different types, and target 'label' 2 classes; a control task needs"),
        ({"labels": [0, 1]}, "labels has 2 entries and split has shape"),
        ({"labels": [0, 1, 0, 2] * 2}, "Class absent from train: 2. Move stimuli of every class to train, or leave"),
        ({"labels": {}}, "labels is empty; give one or more targets, name -> array of shape"),
        (
            {"labels": {"a": [0, 1] * 4, "b": [0] * 8}},
            "^Target 'b': labels has one class, 0; a probe needs two or more",
        ),
        ({"labels": {"a": [0, 1] * 4, "b": [0, 1]}}, "^Target 'b': labels has 2 entries and split has shape"),
        ({"types": [0, 1]}, "types has 2 entries and split has shape"),
        ({"types": [0] * 8}, "types has 1 different types for 2 classes"),
        ({"types": range(8)}, "4 of 8 types, such as 2, have no training rows"),
        ({"labels": {1: [0, 1] * 4, "1": [0, 1] * 4}}, r"^labels has targets of one name: 1, '1'\."),
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
def test_feature_that_is_constant_on_the_training_rows_has_no_effect(
    stimuli: tuple[NDArray, NDArray, NDArray], solver: str
) -> None:
    X, y, split = stimuli
    fits: dict[FitKey, Fit] = {}
    elsewhere = np.where(split == "train", 0.1, 1e3 * np.arange(N))
    layers = {"h": X[:, :4], "wider": np.column_stack([elsewhere, X[:, :4]])}
    table = probe_layers(layers, y, split=split, config=ProbeConfig(Cs=[0.1], solver=solver, tol=1e-12), fits=fits)
    np.testing.assert_array_equal(fits[FitKey("", None, "wider", "label")].coef[:, 0], np.zeros(10))
    one, other = table.iloc[0], table.iloc[1]
    assert (one["status"], other["status"]) == ("ok", "ok")
    for score in SCORES:
        assert other[score] == pytest.approx(one[score], abs=1e-5), score


def test_searches_start_from_the_given_fits(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    fits: dict[FitKey, Fit] = {}
    first = probe_layers({"h": X}, y, split=split, config=ProbeConfig(Cs=[0.1]), fits=fits).iloc[0]
    key = FitKey("", None, "h", "label")
    assert fits[key].relative_gap == first["relative_gap"]
    assert probe_layers({"h": X}, y, split=split, config=ProbeConfig(Cs=[0.1]), fits=fits)["n_iter"].item() == 0
    fits[key] = Fit(coef=np.zeros((3, 5)), intercept=np.zeros(3), objective=1.0, gap=1.0, n_iter=0, converged=False)
    again = probe_layers({"h": X}, y, split=split, config=ProbeConfig(Cs=[0.1]), fits=fits).iloc[
        0
    ]  # of another shape: no start
    assert (again["status"], again["n_iter"]) == ("ok", first["n_iter"])


# Networks, seeds, checkpoints and targets

KEYS = ["network", "seed", "checkpoint", "target", "layer"]
PLACE = ["network", "seed", "checkpoint", "target", "layer", "layer_index"]


def recordings_from(X: NDArray) -> list[NetworkLayers]:
    """Return two networks of two seeds at two steps, each of three layers, of which two are of a width."""
    rng = np.random.default_rng(0)
    return [
        NetworkLayers(
            layers={
                "wide": X[:, :20] + 0.3 * rng.normal(size=(N, 20)),
                "flat": X[:, 20:40] + 0.3 * rng.normal(size=(N, 20)),
                "last": X[:, :8] + 0.3 * rng.normal(size=(N, 8)),
            },
            network=network,
            seed=seed,
            checkpoint=step,
        )
        for network in ("sham", "bp")
        for seed in (1, 0)
        for step in (0, 50)
    ]


def assert_near(table: pd.DataFrame, other: pd.DataFrame, tol: float) -> None:
    """Check that two tables hold fits of the same optima: equal scores, and losses as near as gaps can tell."""
    for column in ("d", "n_constant", "C", "accuracy", "balanced_accuracy", "train_accuracy", "chance", "status"):
        assert table[column].tolist() == other[column].tolist(), column
    for column in ("log_loss", "validation_log_loss", "v_information"):
        np.testing.assert_allclose(table[column], other[column], rtol=1e3 * np.sqrt(tol))
    assert (table["relative_gap"] <= tol).all()
    assert (other["relative_gap"] <= tol).all()


def test_every_network_seed_step_layer_and_target_has_its_row_in_order(
    stimuli: tuple[NDArray, NDArray, NDArray],
) -> None:
    X, y, split = stimuli
    recordings, targets = recordings_from(X), {"parity": y % 2, "digit": y}
    config = replace(LBFGS, tol=1e-10)
    fits: dict[FitKey, Fit] = {}
    heard: list[str] = []
    table = probe_layers(
        iter(recordings),
        targets,
        split=split,
        config=config,
        fits=fits,
        progress=heard.append,
    )
    layers = ["wide", "flat", "last"]
    expected = [
        (each.network, each.seed, each.checkpoint, target, layer)
        for each in recordings
        for layer in layers
        for target in targets
    ]
    assert list(table[KEYS].itertuples(index=False, name=None)) == expected
    assert table["layer_index"].tolist() == [0, 0, 1, 1, 2, 2] * 8
    assert heard == layers * 8
    assert table.dtypes[["seed", "checkpoint"]].astype(str).tolist() == ["Int64", "Int64"]
    apart, alone = [], dict[FitKey, Fit]()
    for target, labels in targets.items():
        for each in recordings:
            found: dict[FitKey, Fit] = {}
            apart.append(
                probe_layers(
                    each.layers,
                    labels,
                    split=split,
                    config=config,
                    fits=found,
                )
            )
            alone |= {FitKey(each.network, each.seed, key.layer, target): fit for key, fit in found.items()}
            apart[-1][KEYS[:-1]] = each.network, each.seed, each.checkpoint, target
    order = table.sort_values(KEYS).reset_index(drop=True)
    assert_near(order, pd.concat(apart).sort_values(KEYS).reset_index(drop=True), tol=1e-10)
    assert fits.keys() == alone.keys()  # of the last checkpoint
    for key, fit in fits.items():
        bound = np.sqrt(2.0 * fit.gap) + np.sqrt(2.0 * alone[key].gap)
        assert np.linalg.norm(fit.coef - alone[key].coef) <= bound + 1e-10


def test_searches_start_from_the_checkpoint_before_and_save_iterations(
    stimuli: tuple[NDArray, NDArray, NDArray],
) -> None:
    X, y, split = stimuli
    noise = np.random.default_rng(0).normal(size=X.shape)
    recordings = [
        NetworkLayers(layers={"h": X + size * noise}, network="bp", seed=0, checkpoint=step)
        for step, size in ((0, 0.0), (10, 0.01), (20, 0.02))
    ]
    cold, warm = (probe_layers(recordings, y, split=split, config=LBFGS, fits=fits) for fits in (None, {}))
    pd.testing.assert_series_equal(warm.iloc[0], cold.iloc[0])
    assert (warm["n_iter"][1:] < 0.8 * cold["n_iter"][1:]).all()
    assert_near(warm, cold, tol=1e-6)
    alone = pd.concat([probe_layers([each], y, split=split, config=LBFGS) for each in recordings], ignore_index=True)
    pd.testing.assert_frame_equal(cold, alone)  # by default nothing is carried over


def test_no_search_starts_from_another_network_seed_layer_or_target(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    recordings = [
        NetworkLayers(layers={"h": X[:, :8]}, network="bp", seed=0),
        NetworkLayers(layers={"h": X[:, :8]}, network="bp", seed=1),
        NetworkLayers(layers={"h": X[:, :8]}, network="dfa", seed=0),
        NetworkLayers(layers={"g": X[:, :8]}, network="bp", seed=2),
    ]
    fits: dict[FitKey, Fit] = {}
    table = probe_layers(recordings, {"one": y, "other": y}, split=split, config=LBFGS, fits=fits)
    assert table["n_iter"].nunique() == 1
    assert table["n_iter"][0] > 5
    assert len(fits) == 8


@pytest.mark.parametrize("tol", [1e-6, 1e-10])
def test_layers_of_equal_width_are_probed_together_with_the_results_of_each_alone(
    stimuli: tuple[NDArray, NDArray, NDArray], monkeypatch: pytest.MonkeyPatch, tol: float
) -> None:
    X, y, split = stimuli
    layers = {"a": X[:, :20], "b": X[:, 20:40], "c": np.maximum(X[:, :20], 0.0)}
    sizes: list[int] = []

    def spy(layers: Any, *arguments: Any, **settings: Any) -> list[Fit]:
        sizes.append(len(layers))
        return lbfgs_layers(layers, *arguments, **settings)

    monkeypatch.setattr("probes.solvers.path.lbfgs_layers", spy)
    config = ProbeConfig(Cs=(0.01, 0.1, 1.0), solver="lbfgs", tol=tol)
    together = probe_layers(layers, y, split=split, config=config)
    assert set(sizes) == {3}
    sizes.clear()
    alone = pd.concat(
        [probe_layers({name: X}, y, split=split, config=config) for name, X in layers.items()], ignore_index=True
    )
    assert not sizes
    assert_near(together, alone, tol)
    assert together["layer_index"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("memory", "most", "reads"),
    [(2**30, 2, [2, 2, 4, 4, 5]), (2 * N * (16 * 20 + 28 * 2), 32, [2, 2, 4, 4, 5]), (1, 32, [1, 2, 3, 4, 5])],
)
def test_no_more_layers_are_held_together_than_fit_into_memory(
    stimuli: tuple[NDArray, NDArray, NDArray],
    monkeypatch: pytest.MonkeyPatch,
    memory: int,
    most: int,
    reads: list[int],
) -> None:
    X, y, split = stimuli
    layers = {str(k): Lazy(X[:, k : k + 20]) for k in range(5)}
    ends: list[int] = []
    monkeypatch.setattr("probes.table.layer_table.MOST_TOGETHER", most)
    count = lambda name: ends.append(sum(layer.reads for layer in layers.values()))  # noqa: E731
    table = probe_layers(layers, y % 2, split=split, config=ProbeConfig(Cs=[0.1], memory=memory), progress=count)
    assert ends == reads
    assert table["layer"].tolist() == list(layers)
    assert table["layer_index"].tolist() == [0, 1, 2, 3, 4]


def out_of_memory(*_: Any, **__: Any) -> None:
    raise RuntimeError("CUDA out of memory")


def test_layers_are_fitted_one_by_one_if_fitting_them_together_fails(
    stimuli: tuple[NDArray, NDArray, NDArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y, split = stimuli
    layers = {"a": X[:, :20], "b": X[:, 20:40], "c": X[:, 10:30]}
    alone = pd.concat(
        [probe_layers({name: X}, y, split=split, config=ProbeConfig(solver="lbfgs")) for name, X in layers.items()]
    )
    monkeypatch.setattr("probes.solvers.path.lbfgs_layers", out_of_memory)
    table = probe_layers(layers, y, split=split, config=ProbeConfig(solver="lbfgs"))
    assert table["layer_index"].tolist() == [0, 1, 2]
    pd.testing.assert_frame_equal(
        table.drop(columns="layer_index"), alone.reset_index(drop=True).drop(columns="layer_index")
    )
    # And where one of them fails alone too, the others keep their rows.
    bad = X[np.flatnonzero(split == "train")[0], 20]

    def search(features: NDArray, *arguments: Any, **settings: Any) -> Fit:
        if features[0, 0] == pytest.approx((bad - X[split == "train", 20].mean()) / X[split == "train", 20].std()):
            raise RuntimeError("CUDA out of memory")
        return lbfgs(features, *arguments, **settings)

    monkeypatch.setitem(SOLVERS, "lbfgs", search)
    partly = probe_layers(layers, y, split=split, config=ProbeConfig(solver="lbfgs"))
    assert partly["status"].tolist() == ["ok", "failed", "ok"]
    assert partly["message"].tolist() == ["", "RuntimeError: CUDA out of memory", ""]
    pd.testing.assert_frame_equal(partly.iloc[[0, 2]], table.iloc[[0, 2]])


def test_a_bad_layer_among_layers_of_its_width_fails_alone(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    layers = {"a": X[:, :20], "bad": Broken(X[:, :20]), "nan": np.full((N, 20), np.nan), "b": X[:, 20:40]}
    table = probe_layers(layers, {"digit": y, "parity": y % 2}, split=split, config=ProbeConfig(Cs=[0.1]))
    assert table["status"].tolist() == ["ok"] * 2 + ["failed"] * 4 + ["ok"] * 2
    assert table["target"].tolist() == ["digit", "parity"] * 4
    sound = probe_layers(
        {"a": layers["a"], "b": layers["b"]}, {"digit": y, "parity": y % 2}, split=split, config=ProbeConfig(Cs=[0.1])
    )
    pd.testing.assert_frame_equal(
        table[table["status"] == "ok"].reset_index(drop=True).drop(columns="layer_index"),
        sound.drop(columns="layer_index"),
    )


# Baselines


def test_rows_of_baselines_are_those_of_their_arrays(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    inputs = np.random.default_rng(1).normal(size=(N, 30)) + y[:, np.newaxis] * np.linspace(0.0, 0.3, 30)
    recordings = [
        NetworkLayers(layers={"h1": X[:, :8], "h2": X[:, 8:16], "h3": X[:, :4]}, network="bp", seed=0),
        NetworkLayers(layers={"h1": X[:, 8:16], "h2": X[:, :6]}, network="bp", seed=1),
    ]
    table = probe_layers([*recordings, *baselines(inputs, recordings)], y, split=split)
    assert table["network"].tolist() == ["bp"] * 5 + ["raw input"] + ["random projection"] * 3
    assert table["layer"][5:].tolist() == ["input", "width 8", "width 4", "width 6"]
    assert table["layer_index"][5:].tolist() == [0, 0, 1, 2]
    assert table[["seed", "checkpoint"]][5:].isna().all(axis=None)
    pd.testing.assert_frame_equal(table[:5], probe_layers(recordings, y, split=split))
    by_hand = {"input": inputs} | {f"width {d}": random_projection(inputs, d, seed=0) for d in (8, 4, 6)}
    expected = pd.concat([probe_layers({name: Z}, y, split=split) for name, Z in by_hand.items()], ignore_index=True)
    pd.testing.assert_frame_equal(table[5:].reset_index(drop=True).drop(columns=PLACE), expected.drop(columns=PLACE))


# Controls


@pytest.mark.parametrize("target", ["digit", "parity"])
def test_controls_equal_separate_fits(stimuli: tuple[NDArray, NDArray, NDArray], target: str) -> None:
    X, y, split = stimuli
    X, types = X[:, :12], np.array([f"type {i}" for i in (y + 10 * (np.arange(N) // 8 % 2))])
    train, test = (split == part for part in ("train", "test"))
    targets = {"digit": y, "parity": y % 2}
    labels = targets[target]
    plain_config = ProbeConfig(Cs=(0.01, 1.0), tol=1e-8)
    config = replace(plain_config, controls=3, codelength=True)
    table = probe_layers({"h": X}, targets, split=split, config=config, types=types)
    row = table.set_index("target").loc[target]
    probe = LogisticProbe(row["C"], tol=1e-8)
    random = [random_labels(labels[train], seed=seed) for seed in range(3)]
    shares = [probe.fit(X[train], each).score(X[train], each) for each in random]
    assert len(set(shares)) > 1
    assert row["random_label_accuracy"] == pytest.approx(np.mean(shares), abs=1e-12)
    task = control_task(types, split, len(set(labels)), seed=0)
    control = probe.fit(X[train], task[train]).score(X[test], task[test])
    assert row["control_accuracy"] == pytest.approx(control, abs=1e-12)
    assert row["selectivity"] == pytest.approx(row["accuracy"] - control, abs=1e-12)
    code = online_codelength(X[train], labels[train], probes=[probe], seed=0)
    assert row["codelength"] == pytest.approx(code.codelength, rel=1e-5)
    assert (row["status"], row["message"]) == ("ok", "")
    plain = probe_layers({"h": X}, targets, split=split, config=plain_config).set_index("target").loc[target]
    of_controls = ["random_label_accuracy", "control_accuracy", "selectivity", "codelength"]
    assert plain[of_controls].isna().all()
    pd.testing.assert_series_equal(row.drop(of_controls), plain.drop(of_controls))  # they change nothing else


def test_unconverged_controls_are_named_in_the_message(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    easy = np.column_stack([100.0 * (y % 2), X[:, :20]])  # one step reads the labels at this C, but not controls
    config = ProbeConfig(Cs=[1.0], solver="newton", max_iter=12, controls=2, tol=1e-13)
    types = y + 10 * (np.arange(N) // 8 % 2)
    row = probe_layers({"h": easy}, y % 2, split=split, types=types, config=config).iloc[0]
    assert row["converged"]
    random, control = row["message"].split("; ")
    assert re.fullmatch(r"2 of 2 fits of random labels stopped at relative gap \S+ or less", random)
    assert re.fullmatch(r"1 of 1 fits of the control task stopped at relative gap \S+ or less", control)


# Continuous targets


def test_continuous_target_has_the_ridge_regression_of_least_validation_error(
    stimuli: tuple[NDArray, NDArray, NDArray],
) -> None:
    X, _, split = stimuli
    values = X[:, :3] @ [1.0, -2.0, 0.5] + np.random.default_rng(0).normal(size=N)
    train, validation, test = (split == part for part in ("train", "validation", "test"))
    Cs = (0.001, 0.1, 10.0)
    Z = StandardScaler().fit(X[train]).transform(X)
    ridges = [Ridge(alpha=1 / C).fit(Z[train], values[train]) for C in Cs]
    errors = [mean_squared_error(values[validation], each.predict(Z[validation])) for each in ridges]
    best = ridges[int(np.argmin(errors))]
    row = probe_layers({"fc1": X}, {"value": values}, split=split, config=ProbeConfig(Cs=Cs)).iloc[0]
    expected = {
        "target": "value",
        "kind": "continuous",
        "C": Cs[int(np.argmin(errors))],
        "C_at_edge": int(np.argmin(errors)) != 1,
        "r2": best.score(Z[test], values[test]),
        "mse": mean_squared_error(values[test], best.predict(Z[test])),
        "train_r2": best.score(Z[train], values[train]),
        "validation_mse": min(errors),
        "chance": r2_score(values[test], np.full(test.sum(), values[train].mean())),
        "n_iter": 0,
        "converged": True,
        "status": "ok",
    }
    for column, value in expected.items():
        assert row[column] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), column
    assert row[["accuracy", "log_loss", "v_information", "relative_gap", "codelength"]].isna().all()
    assert row["r2"] > 0.5 > 0 > row["chance"]


def test_each_target_has_its_probe_and_the_columns_of_its_kind(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    targets = {"digit": y, "pixel": X[:, 0], "whole": np.round(X[:, 1] * 2), "parity": np.where(y % 2, "odd", "even")}
    layers = {"h": X, "nan": np.full((N, 2), np.nan), "wide": np.repeat(X, 8, axis=1)}
    table = probe_layers(
        layers, targets, split=split, config=ProbeConfig(controls=2, codelength=True), types=np.arange(N) % 25
    )
    assert table["target"].tolist() == [*targets] * 3
    assert table["kind"].tolist() == ["categorical", "continuous", "continuous", "categorical"] * 3
    assert (table["status"] == "failed").tolist() == [False] * 4 + [True] * 4 + [False] * 4
    ok = table[table["status"] == "ok"]
    measured = ok["kind"] == "continuous"
    for column in ("accuracy", "codelength", "random_label_accuracy", "control_accuracy", "selectivity"):
        assert (ok[column].isna() == measured).all(), column
    for column in ("r2", "mse", "train_r2", "validation_mse", "random_label_r2"):
        assert (ok[column].isna() == ~measured).all(), column
    assert (ok["random_label_r2"][measured] < ok["train_r2"][measured]).all()
    alone = probe_layers({"h": X}, {"digit": y}, split=split, config=ProbeConfig(controls=2))
    shared = ["C", "accuracy", "log_loss", "random_label_accuracy"]
    pd.testing.assert_frame_equal(table.loc[[0], shared], alone[shared])


def test_targets_of_a_stimulus_set_are_probed_beside_its_labels(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    ids = np.array([f"s{k}" for k in range(N)])
    order = np.random.default_rng(1).permutation(N)
    own = StimulusColumns(ids[order], y[order], split[order], {"pixel": X[order, 0], "odd": y[order] % 2})
    layer = RowsWithIds(X, ids)
    table = probe_layers({"h": layer}, own)
    expected = probe_layers({"h": X}, {"label": y, "pixel": X[:, 0], "odd": y % 2}, split=split)
    pd.testing.assert_frame_equal(table, expected)
    with pytest.raises(ValueError, match="labels has a target 'label' beside its labels"):
        probe_layers({"h": layer}, replace(own, targets={"label": y}))


def test_a_split_that_divides_a_group_of_the_stimuli_is_an_error(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, y, split = stimuli
    ids = np.array([f"s{k}" for k in range(N)])
    own = StimulusColumns(ids, y, split, {}, groups=np.array([f"{part} {k % 3}" for k, part in enumerate(split)]))
    layer = {"h": RowsWithIds(X, ids)}
    assert probe_layers(layer, own)["status"].tolist() == ["ok"]
    other = np.roll(split, 1)
    message = "The split divides 3 of 9 groups, such as 'train 0', which is in .* Put all stimuli of a group into"
    with pytest.raises(ValueError, match=message), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probe_layers(layer, own, split=other)
    with pytest.raises(ValueError, match="The split divides 3 of 9 groups"):
        probe_layers(layer, dict(zip(ids, y, strict=True)), split=replace(own, split=other))


@dataclass(frozen=True)
class StimulusColumns:
    """Columns of stimuli like those of a run."""

    ids: NDArray
    labels: NDArray
    split: NDArray
    targets: dict[str, NDArray]
    groups: NDArray | None = None


class RowsWithIds(Lazy):
    """A layer that knows its stimuli."""

    def __init__(self, array: NDArray, stimulus_ids: NDArray) -> None:
        super().__init__(array)
        self.stimulus_ids = stimulus_ids


def test_a_constant_or_infinite_continuous_target_is_an_error(stimuli: tuple[NDArray, NDArray, NDArray]) -> None:
    X, _, split = stimuli
    for part, why in (("train", "there is nothing to learn"), ("test", "R² is not defined")):
        values = np.where(split == part, 1.5, X[:, 0])
        with pytest.raises(
            ValueError, match=f"Target 'v': labels has the one value 1.5 on all rows for {part}, where {why}"
        ):
            probe_layers({"h": X}, {"v": values}, split=split)
    values = X[:, 0].copy()
    values[3] = np.inf
    with pytest.raises(
        ValueError, match="Target 'v': labels has 1 values that are NaN or infinite, the first at row 3"
    ):
        probe_layers({"h": X}, {"v": values}, split=split)
    with pytest.raises(ValueError, match=r"Target 'v': labels has shape \(240, 2\); expected real numbers of shape"):
        probe_layers({"h": X}, {"v": X[:, :2]}, split=split)
    with pytest.raises(ValueError, match=r"Convert classes to integers; give a quantity by name: \{'speed': values\}"):
        probe_layers({"h": X}, X[:, 0], split=split)
