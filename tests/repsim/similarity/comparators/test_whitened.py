from itertools import combinations
from types import ModuleType

import numpy as np
import pytest

from repsim.similarity import compare_rdms, linear_cka, rdm
from repsim.similarity.comparators.whitened import whiten
from tests.repsim.similarity.synthetic import related


def dense_covariance(n: int) -> np.ndarray:
    """Covariance of squared distances: the squared products of the contrasts between stimuli."""
    contrasts = np.array([np.eye(n)[i] - np.eye(n)[j] for i, j in combinations(range(n), 2)])
    return (contrasts @ contrasts.T) ** 2


def cosine(a: np.ndarray, b: np.ndarray, W: np.ndarray) -> float:
    return float(a @ W @ b / np.sqrt((a @ W @ a) * (b @ W @ b)))


def whitened_deviations(d: np.ndarray, W: np.ndarray) -> np.ndarray:
    """What generalised least squares leaves when a constant is fitted."""
    return d - W.sum(axis=0) @ d / W.sum()


@pytest.mark.parametrize("n", [2, 3, 4, 8, 40])
@pytest.mark.parametrize("d", [1, 6, 60])
def test_whitened_cosine_of_squared_euclidean_rdms_is_biased_linear_cka(
    rng: np.random.Generator, n: int, d: int
) -> None:
    X, Y = related(rng, n=n, d1=d)
    value = compare_rdms(rdm(X, "sqeuclidean"), rdm(Y, "sqeuclidean"), "cosine_whitened")
    assert value == pytest.approx(linear_cka(X, Y, unbiased=False), abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_whitening_is_by_the_dense_covariance(rng: np.random.Generator, n: int) -> None:
    W = np.linalg.inv(dense_covariance(n))
    A, B = rng.uniform(size=(2, n * (n - 1) // 2))
    assert whiten(A) @ whiten(B) == pytest.approx(A @ W @ B, abs=1e-12)
    assert compare_rdms(A, B, "cosine_whitened") == pytest.approx(cosine(A, B, W), abs=1e-12)


@pytest.mark.parametrize("n", [3, 4, 8])
def test_whitened_pearson_is_the_cosine_after_generalised_least_squares(rng: np.random.Generator, n: int) -> None:
    W = np.linalg.inv(dense_covariance(n))
    A, B = rng.uniform(size=(2, n * (n - 1) // 2))
    expected = cosine(whitened_deviations(A, W), whitened_deviations(B, W), W)
    assert compare_rdms(A, B, "pearson_whitened") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [5, 20])
@pytest.mark.parametrize(("ours", "theirs"), [("cosine_whitened", "cosine_cov"), ("pearson_whitened", "corr_cov")])
def test_whitened_comparators_equal_rsatoolbox(
    rng: np.random.Generator, rsatoolbox: ModuleType, n: int, ours: str, theirs: str
) -> None:
    A, B = rng.uniform(size=(2, n * (n - 1) // 2))
    expected = rsatoolbox.rdm.compare(rsatoolbox.rdm.RDMs(A), rsatoolbox.rdm.RDMs(B), method=theirs)
    assert compare_rdms(A, B, ours) == pytest.approx(expected.item(), abs=1e-10)


def test_whitened_cosine_by_hand() -> None:
    # three stimuli: V is 4 on the diagonal and 1 elsewhere, V^-1 is (6 I - 1) / 18
    assert compare_rdms([1, 0, 0], [0, 1, 0], "cosine_whitened") == pytest.approx(-1 / 5)
    # deviations of pairs from their mean all have the eigenvalue 3, so that whitening changes nothing
    assert compare_rdms([1, 0, 0], [0, 1, 0], "pearson_whitened") == pytest.approx(-1 / 2)


def test_whitening_changes_the_value(rng: np.random.Generator) -> None:
    A, B = rng.uniform(size=(2, 45))
    assert abs(compare_rdms(A, B, "cosine_whitened") - compare_rdms(A, B, "cosine")) > 1e-3
    assert abs(compare_rdms(A, B, "pearson_whitened") - compare_rdms(A, B, "pearson")) > 1e-3


def test_rdms_of_clouds_that_share_no_direction_have_cosine_zero() -> None:
    X = np.array([1.0, -1, 1, -1])[:, None]
    Y = np.array([1.0, 1, -1, -1])[:, None]
    A, B = rdm(X, "sqeuclidean"), rdm(Y, "sqeuclidean")
    assert compare_rdms(A, B, "cosine_whitened") == pytest.approx(0, abs=1e-15)
    assert compare_rdms(A, B, "cosine") == pytest.approx(0.5)
