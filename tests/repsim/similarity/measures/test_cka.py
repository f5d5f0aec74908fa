import math
from collections.abc import Callable
from importlib import import_module
from itertools import permutations
from types import ModuleType

import numpy as np
import pytest

from repsim.similarity import linear_cka, rdm
from repsim.similarity.measures.hsic import hsic, hsic_from_features, hsic_from_grams, normalised

Related = Callable[..., tuple[np.ndarray, np.ndarray]]

# Slow twins


def dense_biased(X: np.ndarray, Y: np.ndarray) -> float:
    """Gretton's trace, with the centering matrix written out."""
    n = len(X)
    H = np.eye(n) - np.ones((n, n)) / n
    return np.trace(X @ X.T @ H @ Y @ Y.T @ H) / (n - 1) ** 2


def four_samples_unbiased(X: np.ndarray, Y: np.ndarray) -> float:
    """The U-statistic itself: a mean over all ordered quadruples of different stimuli."""
    K, L = X @ X.T, Y @ Y.T
    terms = [K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q]) for i, j, q, r in permutations(range(len(X)), 4)]
    return float(np.mean(terms))


def three_terms_unbiased(X: np.ndarray, Y: np.ndarray) -> float:
    """Song's equation 5."""
    n, one = len(X), np.ones(len(X))
    K, L = X @ X.T, Y @ Y.T
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)
    sums = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    return (np.trace(K @ L) + sums - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3))


def ratio(twin: Callable[[np.ndarray, np.ndarray], float], X: np.ndarray, Y: np.ndarray) -> float:
    return twin(X, Y) / math.sqrt(twin(X, X) * twin(Y, Y))


# Narrow, wide and mixed: both routes are taken.
SHAPES = [(30, 6, 9), (30, 100, 80), (12, 5, 300), (4, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("unbiased", "twin"), [(True, three_terms_unbiased), (False, dense_biased)])
def test_linear_cka_equals_its_slow_twin(
    rng: np.random.Generator, related: Related, shape: tuple[int, int, int], unbiased: bool, twin: Callable
) -> None:
    X, Y = related(rng, *shape)
    assert linear_cka(X, Y, unbiased=unbiased) == pytest.approx(ratio(twin, X, Y), abs=1e-10)


def test_unbiased_cka_equals_the_mean_over_quadruples(rng: np.random.Generator, related: Related) -> None:
    X, Y = related(rng, n=7)
    assert linear_cka(X, Y) == pytest.approx(ratio(four_samples_unbiased, X, Y), abs=1e-10)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_two_routes_to_hsic_agree(
    rng: np.random.Generator, related: Related, shape: tuple[int, int, int], unbiased: bool
) -> None:
    X, Y = map(normalised, related(rng, *shape))
    for A, B in ((X, Y), (X, X), (Y, Y)):
        features, grams = hsic_from_features(A, B, unbiased=unbiased), hsic_from_grams(A, B, unbiased=unbiased)
        assert features == pytest.approx(grams, abs=1e-12)


@pytest.mark.parametrize(("shape", "route"), [((30, 6, 9), "features"), ((30, 100, 80), "grams")])
def test_hsic_takes_the_cheaper_route(
    rng: np.random.Generator, related: Related, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], route: str
) -> None:
    module = import_module("repsim.similarity.measures.hsic")
    monkeypatch.setattr(module, f"hsic_from_{route}", lambda *_, unbiased: 42.0)
    assert hsic(*related(rng, *shape), unbiased=True) == 42.0


def test_biased_cka_equals_whitened_cosine_of_squared_distances(
    rng: np.random.Generator, related: Related, rsatoolbox: ModuleType
) -> None:
    X, Y = related(rng, n=12)
    rdms = [rsatoolbox.rdm.RDMs(rdm(Z, "sqeuclidean")) for Z in (X, Y)]
    expected = rsatoolbox.rdm.compare(*rdms, method="cosine_cov")
    assert linear_cka(X, Y, unbiased=False) == pytest.approx(expected.item(), abs=1e-10)


def test_unbiased_hsic_of_unrelated_representations_averages_to_zero(rng: np.random.Generator) -> None:
    pairs = [(rng.normal(size=(20, 30)), rng.normal(size=(20, 30))) for _ in range(200)]
    assert np.mean([linear_cka(X, Y) for X, Y in pairs]) == pytest.approx(0, abs=0.01)
    assert np.mean([linear_cka(X, Y, unbiased=False) for X, Y in pairs]) > 0.5


# Numerical traps


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("d", [5, 200])
def test_linear_cka_survives_a_large_mean(rng: np.random.Generator, unbiased: bool, d: int) -> None:
    X, Y = (100 + 1e-3 * rng.normal(size=(2, 50, d))).astype(np.float32)
    shifted = linear_cka(X.astype(np.float64) - 100, Y.astype(np.float64) - 100, unbiased=unbiased)
    assert linear_cka(X, Y, unbiased=unbiased) == pytest.approx(shifted, abs=1e-10)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("d", [3, 200])
def test_linear_cka_of_a_constant_representation_is_nan(rng: np.random.Generator, unbiased: bool, d: int) -> None:
    constant = np.repeat(rng.normal(size=(1, d)), 30, axis=0)
    message = r"^1 of 2 representations \(Y\) have zero HSIC with themselves: they are constant"
    with pytest.warns(RuntimeWarning, match=message) as record:
        assert math.isnan(linear_cka(rng.normal(size=(30, 4)), constant, unbiased=unbiased))
    assert len(record) == 1
    assert record[0].filename == __file__


@pytest.mark.parametrize("route", [hsic_from_features, hsic_from_grams])
def test_orthogonal_patterns_have_no_unbiased_hsic(route: Callable) -> None:
    X = normalised(np.diag(np.arange(1.0, 11)))
    assert route(X, X, unbiased=True) == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize("d", [10, 11, 100])
def test_unbiased_cka_of_orthogonal_patterns_is_nan(d: int) -> None:
    X = np.eye(10, d) * np.arange(1.0, 11)[:, None]
    with pytest.warns(
        RuntimeWarning, match=r"^2 of 2 representations \(X, Y\) .* no two of their stimuli are more alike"
    ):
        assert math.isnan(linear_cka(X, X))
    assert linear_cka(X, X, unbiased=False) == 1


def test_linear_cka_leaves_its_input_alone(rng: np.random.Generator, related: Related) -> None:
    X, Y = related(rng)
    before = X.copy(), Y.copy()
    linear_cka(X, Y)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


# What it refuses


def test_linear_cka_refuses_different_numbers_of_stimuli() -> None:
    message = (
        r"^X has 512 samples and Y has 500; both must come from the same stimuli in the same order\. "
        r"Record both with the same stimulus set\.$"
    )
    with pytest.raises(ValueError, match=message):
        linear_cka(np.zeros((512, 2)), np.zeros((500, 2)))


def test_unbiased_cka_refuses_fewer_than_four_stimuli(rng: np.random.Generator, related: Related) -> None:
    X, Y = related(rng, n=3)
    with pytest.raises(ValueError, match=r"^X has 3 stimuli; unbiased CKA needs at least 4\. .* biased estimator\.$"):
        linear_cka(X, Y)
    assert 0 <= linear_cka(X, Y, unbiased=False) <= 1


@pytest.mark.parametrize("name", ["X", "Y"])
def test_linear_cka_names_the_one_that_is_not_finite(name: str) -> None:
    both = {"X": np.eye(5), "Y": np.eye(5)} | {name: np.full((5, 5), np.nan)}
    with pytest.raises(ValueError, match=f"^{name} has 25 of 25 values that are NaN or infinite"):
        linear_cka(**both)
