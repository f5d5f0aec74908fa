import numpy as np
import pytest
from scipy.spatial.distance import pdist

from repsim.similarity import compare_rdms, evaluate_models, rdm, rsa
from repsim.similarity.comparators.ties import levels

RANKED = ("spearman", "rho-a", "tau-a", "tau-b")


def rotation(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


@pytest.fixture
def codes(rng: np.random.Generator) -> np.ndarray:
    """Binary codes: many distances are equal, until they are rounded."""
    return rng.integers(0, 2, size=(40, 6)).astype(float)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("method", RANKED)
def test_rounding_breaks_no_ties(rng: np.random.Generator, codes: np.ndarray, method: str, single: bool) -> None:
    kind = np.float32 if single else np.float64
    exact = rdm(codes, "euclidean")
    for changed in (codes @ rotation(rng, 6), 0.1 * codes, 3 * codes + 0.1):
        D = rdm(changed.astype(kind), "euclidean")
        assert compare_rdms(D, exact, method) == pytest.approx(compare_rdms(exact, exact, method), abs=1e-9)


def test_rsa_of_classes_ignores_rotation_as_it_declares(rng: np.random.Generator) -> None:
    X = np.repeat(np.eye(10), 5, axis=0)
    assert rsa(X, X @ rotation(rng, 10), distance="euclidean", comparator="spearman") == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("method", RANKED[:2])
def test_resampled_ranks_tie_alike(rng: np.random.Generator, codes: np.ndarray, method: str) -> None:
    models = {"exact": rdm(codes, "euclidean"), "rotated": rdm(codes @ rotation(rng, 6), "euclidean")}
    data = {"data": pdist(codes + rng.normal(size=codes.shape))}
    samples = evaluate_models(models, data, method=method, n_samples=20).samples
    np.testing.assert_allclose(samples[:, 0], samples[:, 1], atol=1e-9)


def test_distances_that_differ_stay_apart(rng: np.random.Generator) -> None:
    distances = np.concatenate([[1.0, 1.0 + 1e-11], rng.uniform(size=200)])
    assert len(np.unique(levels(distances))) == 202
    assert (np.argsort(levels(distances), kind="stable") == np.argsort(distances, kind="stable")).all()
