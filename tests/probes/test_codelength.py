from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from probes import LogisticProbe, ProbeConfig, probe_layers
from probes.codelength import FRACTIONS, OnlineCode, online_codelength, v_information
from probes.controls import random_labels

N = 400


@pytest.fixture
def digits(relu_digits: tuple[NDArray, NDArray]) -> tuple[NDArray, NDArray]:
    X, y = relu_digits
    return X[:N], y[:N]


def noise(n_classes: int, n: int = N, d: int = 5, seed: int = 0) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), random_labels(np.resize(np.arange(n_classes), n), seed=seed)


def probes_of(*Cs: float, **settings: Any) -> list[LogisticProbe]:
    return [LogisticProbe(C, **{"solver": "lbfgs", **settings}) for C in Cs]


def in_coding_order(y: Any, seed: int = 0) -> NDArray:
    """Arrange labels so that the code comes to them in the order given."""
    arranged = np.empty_like(y)
    arranged[np.random.default_rng(seed).permutation(len(y))] = y
    return arranged


def slow_bits(X: NDArray, y: NDArray, ends: list[int], C: float) -> list[float]:
    """Code one example at a time, with an exact Newton fit on standardised features, from the definition."""
    classes = sorted(set(y.tolist()))
    bits = [ends[0] * np.log2(len(classes))]
    for start, end in pairwise(ends):
        mean, scale = X[:start].mean(axis=0), X[:start].std(axis=0)
        scale[scale == 0.0] = 1.0
        model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=200)
        model.fit((X[:start] - mean) / scale, y[:start])
        bits.append(0.0)
        for x, label in zip(X[start:end], y[start:end], strict=True):
            p = dict(zip(model.classes_.tolist(), model.predict_proba([(x - mean) / scale])[0], strict=True))
            weight = len(classes) / (2 * start + len(classes))
            bits[-1] -= np.log2((1 - weight) * p.get(label, 0.0) + weight / len(classes))
    return bits


def test_code_equals_a_slow_exact_computation(digits: tuple[NDArray, NDArray]) -> None:
    X, y = digits
    order = np.random.default_rng(7).permutation(N)
    code = online_codelength(X, y, probes=probes_of(0.1, tol=1e-11), fractions=(0.02, 0.05, 0.2, 0.5, 1.0), seed=7)
    assert len(np.unique(y[order][:8])) < 10  # some classes are new to the first probe
    expected = slow_bits(X[order], y[order], [8, 20, 80, 200, 400], C=0.1)
    np.testing.assert_allclose(code.frame()["bits"], expected, rtol=1e-6)
    assert code.codelength == pytest.approx(sum(expected), rel=1e-6)


def test_binary_code_equals_a_slow_exact_computation() -> None:
    X, y = noise(2)
    X[:, 0] += y
    order = np.random.default_rng(0).permutation(N)
    code = online_codelength(X, y, probes=probes_of(1.0, tol=1e-11), fractions=(0.05, 0.3, 1.0), seed=0)
    np.testing.assert_allclose(code.frame()["bits"], slow_bits(X[order], y[order], [20, 120, 400], C=1.0), rtol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_features_without_variation_leave_the_krichevsky_trofimov_code(n_classes: int) -> None:
    y = np.sort(np.resize(np.arange(n_classes), 60))
    blocks = online_codelength(np.ones((60, 2)), in_coding_order(y), fractions=(0.5, 0.75, 1.0), seed=0).blocks
    for block in blocks[1:]:
        q = (np.bincount(y[: block.n_before], minlength=n_classes) + 0.5) / (block.n_before + 0.5 * n_classes)
        coded = y[block.n_before : block.n_before + block.n_block]
        assert block.bits == pytest.approx(-np.log2(q[coded]).sum(), rel=1e-9)


@pytest.mark.parametrize("prefix", [[0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 0, 2, 1]])
def test_probabilities_of_all_classes_sum_to_one_whatever_the_prefix(prefix: list[int]) -> None:
    # One block holds one example, whose label is changed; the last block keeps every class in the game.
    X, n_before = np.random.default_rng(0).normal(size=(14, 2)), len(prefix)
    fractions = (n_before / 14, (n_before + 1) / 14, 1.0)
    total = 0.0
    for label in range(4):
        y = np.array([*prefix, label, *np.resize([0, 1, 2, 3], 13 - n_before)])
        block = online_codelength(X, in_coding_order(y), fractions=fractions, seed=0).blocks[1]
        assert (block.n_before, block.n_block) == (n_before, 1)
        total += 2.0**-block.bits
    assert total == pytest.approx(1.0, rel=1e-12)


def test_cost_of_a_class_new_to_the_probe_follows_the_formula() -> None:
    y = in_coding_order(np.array([0, 0, 0, 0, 1, 2]))
    code = online_codelength(np.ones((6, 1)), y, fractions=(4 / 6, 1.0), seed=0)
    assert code.blocks[1].bits == pytest.approx(2 * np.log2(2 * 4 + 3))


@pytest.mark.parametrize("n_classes", [2, 5, 10])
def test_code_of_uninformative_features_is_about_the_uniform_code(n_classes: int) -> None:
    codes = [
        online_codelength(*noise(n_classes, 1000, 2, seed), probes=probes_of(0.01), seed=seed) for seed in range(3)
    ]
    assert codes[0].uniform_codelength == pytest.approx(1000 * np.log2(n_classes))
    assert all(1.0 < code.codelength / code.uniform_codelength < 1.06 for code in codes)


def test_one_hot_of_the_label_is_far_shorter_than_uniform() -> None:
    y = np.resize(np.arange(10), 1000)
    code = online_codelength(np.eye(10)[y], y, probes=probes_of(1.0), seed=0)
    assert code.compression > 8.0
    assert code.compression == code.uniform_codelength / code.codelength


def test_features_compress_true_labels_more_than_random_ones(digits: tuple[NDArray, NDArray]) -> None:
    X, y = digits
    assert online_codelength(X, y, probes=probes_of(0.01), seed=0).compression > 1.5
    assert online_codelength(X, random_labels(y, seed=0), probes=probes_of(0.01), seed=0).compression < 1.0


def test_no_block_depends_on_what_comes_after_it(digits: tuple[NDArray, NDArray]) -> None:
    X, y = digits
    order = np.random.default_rng(0).permutation(N)
    later = order[100:]
    other_X, other_y = X.copy(), y.copy()
    other_X[later] = -3.0 * X[later]
    other_y[later] = np.roll(y[later], 1)
    Cs, fractions = (0.001, 0.1, 10.0), (0.05, 0.1, 0.25, 0.5, 1.0)
    code, other = (
        online_codelength(features, labels, probes=probes_of(*Cs), fractions=fractions, seed=0).frame()
        for features, labels in ((X, y), (other_X, other_y))
    )
    assert code[:3].to_dict("list")["bits"] == other[:3].to_dict("list")["bits"]
    assert code["C"].tolist()[1:4] == other["C"].tolist()[1:4]  # the fourth is chosen before it is coded
    assert (code["bits"] != other["bits"]).tolist() == [False, False, False, True, True]


def test_each_block_takes_the_C_whose_code_so_far_is_shortest(digits: tuple[NDArray, NDArray]) -> None:
    X, y = digits
    Cs, fractions = (1e-5, 0.01, 100.0), (0.05, 0.1, 0.25, 0.5, 1.0)
    single = np.array(
        [online_codelength(X, y, probes=probes_of(C), fractions=fractions, seed=0).frame()["bits"] for C in Cs]
    )
    chosen = [int(np.argmin(single[:, 1:block].sum(axis=1))) for block in range(1, 5)]
    assert len(set(chosen)) > 1
    code = online_codelength(X, y, probes=probes_of(*Cs), fractions=fractions, seed=0)
    assert code.frame()["C"].tolist()[1:] == [Cs[c] for c in chosen]
    assert code.frame()["bits"].tolist()[1:] == [single[c, block + 1] for block, c in enumerate(chosen)]


def test_blocks_end_at_the_nearest_example_and_empty_ones_are_left_out() -> None:
    X, y = noise(2, 100)
    code = online_codelength(X, y, fractions=FRACTIONS, seed=0)
    assert code.frame()["n_before"].tolist() == [0, 1, 2, 3, 6, 12, 25, 50]
    assert code.frame()["n_block"].tolist() == [1, 1, 1, 3, 6, 13, 25, 50]
    assert code.frame().columns.tolist() == ["n_before", "n_block", "bits", "C", "relative_gap", "converged"]


def test_code_of_a_single_block_is_the_uniform_code() -> None:
    code = online_codelength(*noise(5), fractions=[1.0], seed=0)
    assert code.codelength == code.uniform_codelength == pytest.approx(N * np.log2(5))
    assert code.compression == 1.0
    assert code.frame()[["C", "relative_gap"]].isna().all(axis=None)


def test_seed_sets_the_order_and_nothing_else_does(digits: tuple[NDArray, NDArray]) -> None:
    X, y = digits
    X = X.astype(np.float32)
    first, second, third = (online_codelength(X, y, seed=seed) for seed in (0, 0, 1))
    assert first.frame().equals(second.frame())
    assert first.codelength != third.codelength
    assert first.codelength == pytest.approx(third.codelength, rel=0.15)
    names = [f"digit {label}" for label in y]
    assert online_codelength(X.tolist(), names, seed=0).frame().equals(first.frame())


def test_unconverged_probes_are_reported_without_a_warning(digits: tuple[NDArray, NDArray]) -> None:
    code: OnlineCode = online_codelength(*digits, probes=probes_of(1.0, max_iter=3), fractions=(0.25, 1.0), seed=0)
    assert not code.converged
    assert code.frame()["converged"].tolist() == [True, False]
    assert code.blocks[1].relative_gap > 1e-6
    assert online_codelength(*digits, probes=probes_of(0.01), fractions=(0.25, 1.0), seed=0).converged


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": np.ones(8)}, "Expected 2D array, got 1D array instead"),
        ({"X": np.ones((7, 2))}, r"inconsistent numbers of samples: \[7, 8\]"),
        ({"X": np.full((8, 2), np.inf)}, "X contains infinity"),
        ({"y": np.full(8, 3)}, "y has one class, 3; a probe needs two or more"),
        ({"y": np.linspace(0, 1, 8)}, "Unknown label type: continuous"),
        ({"probes": ()}, r"probes is empty; give one or more, such as \[LogisticProbe"),
        ({"probes": probes_of(1.0, -0.1)}, r"C is -0\.1; expected a positive, finite number"),
        ({"probes": probes_of(1.0, max_iter=0)}, "max_iter is 0; expected a positive integer"),
        ({"fractions": ()}, r"fractions is \(\); expected positive numbers that rise to 1, such as"),
        ({"fractions": (0.1, 0.5)}, r"fractions is \(0\.1, 0\.5\); expected positive numbers that rise to 1"),
        ({"fractions": (0.5, 0.5, 1.0)}, "expected positive numbers that rise to 1"),
        ({"fractions": (0.0, 1.0)}, "expected positive numbers that rise to 1"),
        ({"fractions": (0.5, np.nan, 1.0)}, "expected positive numbers that rise to 1"),
    ],
)
def test_invalid_code_is_an_error(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"X": np.eye(8), "y": np.resize([0, 1], 8), "fractions": (0.5, 1.0), "seed": 0}
    with pytest.raises(ValueError, match=message):
        online_codelength(**good | arguments)


def test_information_of_a_perfect_probe_is_the_entropy_of_the_labels() -> None:
    labels = np.repeat([0, 1, 2], [10, 20, 70])
    assert v_information(0.0, labels, labels) == pytest.approx(entropy([0.1, 0.2, 0.7], base=2))
    assert v_information(0.0, labels, labels, unit="nats") == pytest.approx(entropy([0.1, 0.2, 0.7]))


def test_label_entropy_is_the_loss_of_training_rates_on_test_rows() -> None:
    train, test = np.repeat([0, 1], [30, 10]), np.repeat([0, 1], [5, 15])
    expected = log_loss(test, np.tile([0.75, 0.25], (20, 1)))
    assert v_information(0.0, train, test, unit="nats") == pytest.approx(expected)
    assert expected > entropy([0.25, 0.75])  # that of the test rates


def test_class_rates_have_no_information() -> None:
    train, test = noise(3)[1], noise(3, seed=1)[1][:50]
    with pytest.warns(UserWarning, match="are constant"):
        probe = LogisticProbe().fit(np.ones((N, 1)), train)
    loss = log_loss(test, probe.predict_proba(np.ones((50, 1))), labels=probe.classes_)
    assert v_information(loss, train, test) == pytest.approx(0.0, abs=1e-9)


def test_information_of_layers_is_negative_where_a_probe_overfits(digits: tuple[NDArray, NDArray]) -> None:
    X, y = digits
    split = np.resize(["train", "train", "validation", "test"], N)
    wide_noise = np.random.default_rng(0).normal(size=(N, 300))
    table = probe_layers(
        {"digits": X, "noise": wide_noise, "broken": np.full((N, 2), np.nan)},
        y,
        split=split,
        config=ProbeConfig(Cs=[1.0]),
    )
    digits_bits, noise_bits, broken = v_information(table["log_loss"], y[split == "train"], y[split == "test"])
    assert 1.5 < digits_bits < np.log2(10) + 0.2
    assert noise_bits < 0.0
    assert np.isnan(broken)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"log_loss": -0.5}, r"log_loss has -0\.5; expected mean losses of 0 or more, in nats. Check the sign"),
        ({"log_loss": [np.nan, -0.5]}, r"log_loss has -0\.5"),
        ({"unit": "bytes"}, r"Unknown unit 'bytes'\. Choose one of: bits, nats\."),
        ({"labels_test": [0, 2]}, "labels_test has 2, which is absent from labels_train"),
        ({"labels_train": []}, r"labels_train has shape \(0,\)"),
    ],
)
def test_invalid_information_is_an_error(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"log_loss": 0.5, "labels_train": [0, 1], "labels_test": [1, 0]}
    with pytest.raises(ValueError, match=message):
        v_information(**good | arguments)
