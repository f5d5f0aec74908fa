from collections.abc import Callable

import numpy as np
import pytest
from scipy.linalg import helmert, sqrtm
from sklearn.cross_decomposition import CCA

from repsim.similarity import shape_distance
from repsim.similarity.measures.cca import centred_svd, mean_cca, pwcca, svcca
from tests.repsim.similarity.synthetic import related

# Slow twins


def whitened_correlations(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Canonical correlations and the variates of X, by inverting the covariances."""
    X, Y = X - X.mean(0), Y - Y.mean(0)
    Wx, Wy = (np.linalg.inv(sqrtm(Z.T @ Z)) for Z in (X, Y))
    U, rho, _ = np.linalg.svd(Wx @ X.T @ Y @ Wy, full_matrices=False)
    return rho, X @ Wx @ U


def slow_pwcca(X: np.ndarray, Y: np.ndarray) -> float:
    rho, H = whitened_correlations(X, Y)
    X = X - X.mean(0)
    weights = [sum(abs(h @ x) for x in X.T) for h in H.T]
    return float(np.average(rho, weights=weights))


def slow_svcca(X: np.ndarray, Y: np.ndarray, variance: float) -> float:
    reduced = []
    for Z in (X, Y):
        values, vectors = np.linalg.eigh(np.cov(Z.T))
        k = 0
        while values[::-1][:k].sum() < variance * values.sum():
            k += 1
        reduced.append(Z @ vectors[:, ::-1][:, :k])
    return whitened_correlations(*reduced)[0].mean()


@pytest.mark.parametrize("shape", [(30, 6, 9), (30, 9, 2), (80, 20, 20), (12, 1, 3)])
def test_mean_cca_equals_its_slow_twin(rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    X, Y = related(rng, *shape)
    assert mean_cca(X, Y) == pytest.approx(whitened_correlations(X, Y)[0].mean(), abs=1e-10)


def test_mean_cca_equals_scikit_learn(rng: np.random.Generator) -> None:
    X = rng.normal(size=(60, 2))
    Y = X + [0.3, 2] * rng.normal(size=(60, 2))
    scores = CCA(n_components=2, tol=1e-14, max_iter=5000).fit(X, Y).transform(X, Y)
    expected = np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(*(score.T for score in scores), strict=True)])
    assert mean_cca(X, Y) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("shape", [(30, 6, 9), (30, 9, 2), (80, 20, 20), (12, 1, 3)])
def test_pwcca_equals_its_slow_twin(rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    X, Y = related(rng, *shape)
    assert pwcca(X, Y) == pytest.approx(slow_pwcca(X, Y), abs=1e-10)


@pytest.mark.parametrize("variance", [0.3, 0.6, 0.9, 0.99])
def test_svcca_equals_its_slow_twin(rng: np.random.Generator, variance: float) -> None:
    X, Y = related(rng, n=60)
    assert svcca(X, Y, variance=variance) == pytest.approx(slow_svcca(X, Y, variance), abs=1e-10)


# Theorems


@pytest.mark.parametrize("measure", [mean_cca, pwcca])
def test_cca_of_an_invertible_linear_map_is_one(rng: np.random.Generator, measure: Callable) -> None:
    X = rng.normal(size=(50, 7))
    assert measure(X, X @ rng.normal(size=(7, 7)) + 5) == pytest.approx(1, abs=1e-12)


def test_cca_takes_the_smaller_rank(rng: np.random.Generator) -> None:
    X = rng.normal(size=(50, 7))
    assert mean_cca(X, X[:, :2]) == pytest.approx(1, abs=1e-12)
    assert mean_cca(X @ rng.normal(size=(7, 3)) @ rng.normal(size=(3, 7)), X) == pytest.approx(1, abs=1e-12)


def test_svcca_of_the_whole_variance_is_mean_cca(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    X[:, 0] *= 1e-9  # its square is lost in a sum with the others
    assert svcca(X, Y, variance=1) == pytest.approx(mean_cca(X, Y), abs=1e-12)
    assert abs(svcca(X, Y) - mean_cca(X, Y)) > 1e-3


def test_one_feature_on_each_side_gives_the_absolute_correlation(rng: np.random.Generator) -> None:
    X, Y = rng.normal(size=(2, 20, 1))
    expected = abs(np.corrcoef(X[:, 0], Y[:, 0])[0, 1])
    for measure in (mean_cca, svcca, pwcca):
        assert measure(X, Y) == pytest.approx(expected, abs=1e-12)


# Golden numbers: the rows of a Helmert matrix are orthonormal and sum to zero.

CONTRASTS = helmert(8).T  # (8, 7)


@pytest.mark.parametrize(
    ("variance", "expected"),
    [
        (0.90, 0.0),  # 100 / 110 reaches it, the second component is out; a cut on s, 10 / 14, would let it in
        (0.95, 1.0),  # 109 / 110 is the first to reach it, and the component that crosses is in
    ],
)
def test_svcca_cuts_on_squared_singular_values(variance: float, expected: float) -> None:
    X = CONTRASTS[:, :3] * [10, 3, 1]
    assert svcca(X, CONTRASTS[:, 1:2], variance=variance) == pytest.approx(expected, abs=1e-12)


def test_pwcca_weights_by_the_features_of_x() -> None:
    # Canonical correlations 1 and 0.6 along the two features of X, whose lengths are 3 and 1.
    X = CONTRASTS[:, :2] * [3, 1]
    Y = np.column_stack([CONTRASTS[:, 0], 0.6 * CONTRASTS[:, 1] + 0.8 * CONTRASTS[:, 2]])
    assert pwcca(X, Y) == pytest.approx((3 * 1 + 1 * 0.6) / 4, abs=1e-12)
    assert pwcca(Y, X) == pytest.approx((1 * 1 + 1 * 0.6) / 2, abs=1e-12)
    assert mean_cca(X, Y) == pytest.approx(0.8, abs=1e-12)


# Numerical traps


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
def test_the_rank_does_not_depend_on_the_unit(rng: np.random.Generator, factor: float) -> None:
    X = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 8))
    assert len(centred_svd(factor * X).s) == 3


def test_the_rank_counts_features_of_unequal_scales(rng: np.random.Generator) -> None:
    assert len(centred_svd(rng.normal(size=(30, 3)) * [1, 1e-6, 1e-12]).s) == 3


@pytest.mark.parametrize("measure", [mean_cca, svcca, pwcca])
def test_a_doubled_feature_counts_once(rng: np.random.Generator, measure: Callable) -> None:
    X, Y = related(rng)
    doubled = np.column_stack([Y, Y[:, :1]])
    tolerance = 0.05 if measure is svcca else 1e-10  # a doubled feature has more variance
    assert measure(X, doubled) == pytest.approx(measure(X, Y), abs=tolerance)


# What they refuse


@pytest.mark.parametrize("measure", [mean_cca, pwcca])
@pytest.mark.parametrize(("d", "name"), [(40, "X"), (40, "Y"), (9, "X")])
def test_cca_refuses_as_many_features_as_stimuli(
    rng: np.random.Generator, measure: Callable, d: int, name: str
) -> None:
    both = {"X": rng.normal(size=(10, 3)), "Y": rng.normal(size=(10, 3))} | {name: rng.normal(size=(10, d))}
    message = rf"^{name} has 10 stimuli and {d} features; CCA needs more stimuli: .* take svcca or cka\.$"
    with pytest.raises(ValueError, match=message):
        measure(**both)


def test_cca_takes_many_features_of_low_rank(rng: np.random.Generator) -> None:
    X, mix = rng.normal(size=(10, 3)), rng.normal(size=(3, 40))
    assert mean_cca(X @ mix, X) == pytest.approx(1, abs=1e-12)
    assert pwcca(X @ mix, X) == pytest.approx(1, abs=1e-12)


def test_svcca_takes_more_features_than_stimuli_if_few_components_hold_them(rng: np.random.Generator) -> None:
    X = rng.normal(size=(10, 3)) @ rng.normal(size=(3, 40)) + 1e-3 * rng.normal(size=(10, 40))
    assert svcca(X, X) == pytest.approx(1, abs=1e-12)
    message = r"^X has 10 stimuli, and 1 of its variance takes 9 principal components; .* take cka\.$"
    with pytest.raises(ValueError, match=message):
        svcca(X, X, variance=1)


@pytest.mark.parametrize("variance", [0, 99, float("nan")])
def test_svcca_refuses_a_variance_outside_its_range(variance: float) -> None:
    with pytest.raises(ValueError, match=rf"^variance is {variance}; expected a fraction above 0 and at most 1\."):
        svcca(np.eye(5), np.eye(5), variance=variance)


# Rounding of single precision


def test_rounding_of_a_recorded_layer_is_no_direction(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(500, 10))
    softmax = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)  # rows sum to one
    narrow = (rng.normal(size=(400, 20)) @ rng.normal(size=(20, 100)) + 3).astype(np.float32)
    for X, rank in ((softmax, 9), (narrow, 20)):
        rotated = (X @ np.linalg.qr(rng.normal(size=(X.shape[1],) * 2))[0]).astype(np.float32)
        assert len(centred_svd(X.astype(np.float64)).s) == len(centred_svd(rotated.astype(np.float64)).s) == rank
        assert mean_cca(X, rotated) == pytest.approx(1, abs=1e-6)
        assert shape_distance(X, rotated) == pytest.approx(0, abs=1e-3)


def test_weak_directions_of_single_precision_stay(rng: np.random.Generator) -> None:
    X = (rng.normal(size=(400, 20)) * np.logspace(0, -3, 20)).astype(np.float32)
    assert len(centred_svd(X.astype(np.float64)).s) == 20
    assert len(centred_svd(rng.normal(size=(400, 20)) * np.logspace(0, -10, 20)).s) == 20
