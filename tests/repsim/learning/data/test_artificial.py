from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import PolynomialFeatures

from repsim.learning import ARTIFICIAL, Dataset, artificial

by_name = pytest.mark.parametrize("name", ARTIFICIAL)
by_dimensions = pytest.mark.parametrize("n_features", [2, 3, 20])


def separable(X: NDArray, y: NDArray) -> bool:
    """Whether some w has w · x > 0 exactly for the examples of class 1, that is, some w has sign · (w · x) >= 1."""
    n_features = X.shape[1]
    found = linprog(
        np.zeros(n_features),
        A_ub=np.where(y, -1.0, 1.0)[:, None] * X,
        b_ub=-np.ones(len(y)),
        bounds=[(None, None)] * n_features,
    )
    assert found.status in (0, 2)  # solved, or proved to have no solution
    return bool(found.status == 0)


def accuracy_on_new_examples(data: Dataset) -> float:
    half = len(data.y) // 2
    fitted = LogisticRegression().fit(data.X[:half], data.y[:half])
    return float(fitted.score(data.X[half:], data.y[half:]))


# What all have in common


@by_name
@pytest.mark.parametrize(("n_features", "called"), [(2, "{}"), (100, "{}:100")])
def test_examples_are_standard_normal_in_two_balanced_classes(name: str, n_features: int, called: str) -> None:
    data = artificial(name, n_features, n_examples=4000)
    assert data.name == called.format(name)
    assert (data.X.shape, data.X.dtype, data.y.dtype) == ((4000, n_features), np.float32, np.int64)
    assert (data.classes, data.held_out, data.shape) == (("0", "1"), None, (n_features,))
    assert data.X.mean(axis=0) == pytest.approx(0, abs=0.07)
    assert np.cov(data.X.T) == pytest.approx(np.eye(n_features), abs=0.12)
    assert data.y.mean() == pytest.approx(0.5, abs=0.03)


@by_name
@by_dimensions
def test_the_seed_decides_everything(name: str, n_features: int) -> None:
    one, again, other = (artificial(name, n_features, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.X, again.X)
    assert np.array_equal(one.y, again.y)
    assert np.mean(one.X == other.X) < 0.001
    assert 300 < np.count_nonzero(one.y != other.y) < 700


@by_dimensions
def test_sets_of_one_seed_share_their_examples(n_features: int) -> None:
    first, *others = (artificial(name, n_features).X for name in ARTIFICIAL)
    assert all(np.array_equal(first, X) for X in others)


@by_name
def test_the_first_examples_do_not_depend_on_their_number(name: str) -> None:
    few, many = artificial(name, 5, n_examples=100), artificial(name, 5, n_examples=300)
    assert np.array_equal(few.X, many.X[:100])
    if name in ("linear", "xor"):  # the others draw which labels are noise
        assert np.array_equal(few.y, many.y[:100])


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("linear", "100010111100"),
        ("noisy-linear", "001110111110"),
        ("random-labels", "011000110000"),
        ("xor", "011111111111"),
    ],
)
def test_the_examples_of_a_name_never_change(name: str, labels: str) -> None:
    """Runs keep the name of their data, not the data: these are the numbers of the first version."""
    data = artificial(name)
    assert data.X[0] == pytest.approx([1.038236, 0.40082753])
    assert "".join(map(str, data.y[:12])) == labels


# What can be learnt


@by_dimensions
def test_a_plane_through_the_origin_separates_linear_and_no_other(n_features: int) -> None:
    for name in ARTIFICIAL:
        data = artificial(name, n_features)
        assert separable(data.X, data.y) == (name == "linear")


@by_dimensions
@pytest.mark.parametrize("n_examples", [10, 1000, 1005])
def test_noisy_linear_is_linear_with_a_tenth_of_the_labels_flipped(n_features: int, n_examples: int) -> None:
    clean, noisy = (artificial(name, n_features, n_examples) for name in ("linear", "noisy-linear"))
    assert np.count_nonzero(clean.y != noisy.y) == round(0.1 * n_examples)


def test_the_noise_of_noisy_linear_does_not_depend_on_the_class() -> None:
    clean, noisy = (artificial(name, n_examples=10_000) for name in ("linear", "noisy-linear"))
    flipped = clean.y != noisy.y
    assert [flipped[clean.y == label].mean() for label in (0, 1)] == pytest.approx([0.1, 0.1], abs=0.01)


@pytest.mark.parametrize(("name", "accuracy"), [("linear", 1.0), ("noisy-linear", 0.9), ("random-labels", 0.5)])
@by_dimensions
def test_a_linear_readout_of_new_examples_is_as_good_as_the_labels(name: str, accuracy: float, n_features: int) -> None:
    data = artificial(name, n_features, n_examples=10_000)
    assert accuracy_on_new_examples(data) == pytest.approx(accuracy, abs=0.02)


@pytest.mark.parametrize("n_examples", [8, 9, 1000])
def test_random_labels_are_one_half_each(n_examples: int) -> None:
    assert np.bincount(artificial("random-labels", n_examples=n_examples).y)[1] == n_examples // 2


@by_dimensions
def test_each_class_of_xor_is_symmetric_so_that_its_means_say_nothing(n_features: int) -> None:
    data = artificial("xor", n_features, n_examples=10_000)
    for label in (0, 1):
        assert data.X[data.y == label].mean(axis=0) == pytest.approx(0, abs=0.05)


def test_no_plane_classifies_more_than_five_eighths_of_xor() -> None:
    """max over c of 1/2 + ∫_c^∞ (4 Φ(z) - 3) φ(z) dz, which c = Φ⁻¹(3/4) makes 5/8, along the diagonals."""
    data = artificial("xor", n_examples=20_000)
    best = 0.0
    for angle in np.linspace(0, np.pi, 60, endpoint=False):
        order = np.argsort(data.X @ [np.cos(angle), np.sin(angle)])
        signs = np.where(data.y[order], 1, -1)
        right = np.abs(np.cumsum(signs) - signs.sum() / 2).max()  # of all offsets, and either class on either side
        best = max(best, 0.5 + right / len(signs))
    assert best == pytest.approx(5 / 8, abs=0.01)


@by_dimensions
def test_products_of_features_separate_xor(n_features: int) -> None:
    data = artificial("xor", n_features)
    products = PolynomialFeatures(2, include_bias=False).fit_transform(data.X.astype(np.float64))[:, n_features:]
    assert separable(products, data.y)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "spiral"},
            r"^Unknown artificial data set 'spiral'\. Choose one of: linear, noisy-linear, random-labels, xor\.$",
        ),
        ({"name": "xor:3"}, r"^Unknown artificial data set 'xor:3'\."),
        ({"n_features": 1}, r"^n_features is 1; expected a whole number of 2 or more\.$"),
        ({"n_features": 2.0}, r"^n_features is 2\.0; expected a whole number of 2 or more\.$"),
        ({"n_examples": 0}, r"^n_examples is 0; expected a whole number of 1 or more\.$"),
        ({"seed": -1}, r"^seed is -1; expected a whole number of 0 or more\.$"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        artificial(**{"name": "xor", **arguments})
