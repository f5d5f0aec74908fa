import math
from collections.abc import Callable
from importlib import import_module
from itertools import permutations
from types import ModuleType

import numpy as np
import pytest

from repsim.similarity import linear_cka, rdm
from repsim.similarity.measures.hsic import hsic, hsic_from_features, hsic_from_grams, normalised
from tests.repsim.similarity.slow_hsic import dense_biased, ratio, three_terms_unbiased
from tests.repsim.similarity.synthetic import related

# Slow twins


def four_samples_unbiased(X: np.ndarray, Y: np.ndarray) -> float:
    """The U-statistic itself: a mean over all ordered quadruples of different stimuli."""
    K, L = X @ X.T, Y @ Y.T
    terms = [K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q]) for i, j, q, r in permutations(range(len(X)), 4)]
    return float(np.mean(terms))


# Narrow, wide and mixed: both routes are taken.
SHAPES = [(30, 6, 9), (30, 100, 80), (12, 5, 300), (4, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("unbiased", "twin"), [(True, three_terms_unbiased), (False, dense_biased)])
def test_linear_cka_equals_its_slow_twin(
    rng: np.random.Generator, shape: tuple[int, int, int], unbiased: bool, twin: Callable
) -> None:
    X, Y = related(rng, *shape)
    assert linear_cka(X, Y, unbiased=unbiased) == pytest.approx(ratio(twin, X, Y), abs=1e-10)


def test_unbiased_cka_equals_the_mean_over_quadruples(rng: np.random.Generator) -> None:
    X, Y = related(rng, n=7)
    assert linear_cka(X, Y) == pytest.approx(ratio(four_samples_unbiased, X, Y), abs=1e-10)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_two_routes_to_hsic_agree(rng: np.random.Generator, shape: tuple[int, int, int], unbiased: bool) -> None:
    X, Y = map(normalised, related(rng, *shape))
    for A, B in ((X, Y), (X, X), (Y, Y)):
        features, grams = hsic_from_features(A, B, unbiased=unbiased), hsic_from_grams(A, B, unbiased=unbiased)
        assert features == pytest.approx(grams, abs=1e-12)


@pytest.mark.parametrize(("shape", "route"), [((30, 6, 9), "features"), ((30, 100, 80), "grams")])
def test_hsic_takes_the_cheaper_route(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], route: str
) -> None:
    module = import_module("repsim.similarity.measures.hsic")
    monkeypatch.setattr(module, f"hsic_from_{route}", lambda *_, unbiased: 42.0)
    assert hsic(*related(rng, *shape), unbiased=True) == 42.0


def test_biased_cka_equals_whitened_cosine_of_squared_distances(
    rng: np.random.Generator, rsatoolbox: ModuleType
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


@pytest.mark.parametrize("route", [hsic_from_features, hsic_from_grams])
def test_orthogonal_patterns_have_no_unbiased_hsic(route: Callable) -> None:
    X = normalised(np.diag(np.arange(1.0, 11)))
    assert route(X, X, unbiased=True) == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize("d", [10, 11, 100])
def test_unbiased_cka_of_orthogonal_patterns_is_nan(d: int) -> None:
    X = np.eye(10, d) * np.arange(1.0, 11)[:, None]
    with pytest.warns(RuntimeWarning, match=r"^2 of 2 representations \(X, Y\) .* no two of their stimuli are more al"):
        assert math.isnan(linear_cka(X, X))
    assert linear_cka(X, X, unbiased=False) == 1


# What it refuses


def test_unbiased_cka_refuses_fewer_than_four_stimuli(rng: np.random.Generator) -> None:
    X, Y = related(rng, n=3)
    with pytest.raises(ValueError, match=r"^X has 3 stimuli; unbiased CKA needs at least 4\. .* biased estimator\.$"):
        linear_cka(X, Y)
    assert 0 <= linear_cka(X, Y, unbiased=False) <= 1
