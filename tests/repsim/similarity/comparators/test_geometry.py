from types import ModuleType

import numpy as np
import pytest
from scipy.linalg import eigvalsh, orthogonal_procrustes, sqrtm
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import squareform

from repsim.similarity import COMPARATORS, compare_rdms, rdm
from repsim.similarity.comparators.geometry import RIDGE, gram
from tests.repsim.similarity.synthetic import related


def centred_gram(D: np.ndarray) -> np.ndarray:
    H = np.eye(len(squareform(D))) - 1 / len(squareform(D))
    return -H @ squareform(D) @ H / 2


def slow_riemannian(A: np.ndarray, B: np.ndarray) -> float:
    """Distance of the second moments with their ridge, at the scale of B where it is smallest."""
    n = len(squareform(A))
    contrasts = np.linalg.svd(np.ones((1, n)))[2][1:]  # any orthonormal basis
    moments = []
    for D in (A, B):
        G = contrasts @ centred_gram(D) @ contrasts.T
        moments.append(G + RIDGE * np.trace(G) / (n - 1) * np.eye(n - 1))
    logarithms = np.log(eigvalsh(*moments))
    return -minimize_scalar(lambda shift: np.linalg.norm(logarithms - shift)).fun


def test_the_gram_matrix_is_that_of_the_centred_patterns(rng: np.random.Generator) -> None:
    X = rng.normal(size=(7, 4))
    D = rdm(X, "sqeuclidean")
    Z = X - X.mean(axis=0)
    np.testing.assert_allclose(centred_gram(D), Z @ Z.T, atol=1e-12)
    np.testing.assert_allclose(eigvalsh(gram(D)) * D.max(), eigvalsh(Z @ Z.T)[1:], atol=1e-12)


@pytest.mark.parametrize("d", [1, 6, 60])
def test_bures_of_squared_euclidean_rdms_is_the_cosine_of_angular_procrustes(rng: np.random.Generator, d: int) -> None:
    X, Y = related(rng, n=20, d1=d)
    value = compare_rdms(rdm(X, "sqeuclidean"), rdm(Y, "sqeuclidean"), "bures")
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    nuclear = np.linalg.svd(X.T @ Y, compute_uv=False).sum()
    assert value == pytest.approx(nuclear / np.linalg.norm(X) / np.linalg.norm(Y), abs=1e-8)
    width = max(d, 9)
    X, Y = (np.pad(Z, ((0, 0), (0, width - Z.shape[1]))) for Z in (X, Y))
    aligned = X @ orthogonal_procrustes(X, Y)[0]
    assert value == pytest.approx(np.vdot(aligned, Y) / np.linalg.norm(X) / np.linalg.norm(Y), abs=1e-8)


def test_bures_is_the_fidelity_of_gram_matrices(rng: np.random.Generator) -> None:
    X, Y = rng.normal(size=(2, 8, 9))
    A, B = rdm(X, "sqeuclidean"), rdm(Y, "sqeuclidean")
    G, K = (centred_gram(D) + 1e-13 * np.eye(8) for D in (A, B))
    root = sqrtm(G)
    expected = np.trace(sqrtm(root @ K @ root)).real / np.sqrt(np.trace(G) * np.trace(K))
    assert compare_rdms(A, B, "bures") == pytest.approx(expected, abs=1e-6)


def test_bures_equals_rsatoolbox(rng: np.random.Generator, rsatoolbox: ModuleType) -> None:
    X, Y = rng.normal(size=(2, 8, 9))
    A, B = rdm(X, "sqeuclidean"), rdm(Y, "sqeuclidean")
    expected = rsatoolbox.rdm.compare(rsatoolbox.rdm.RDMs(A), rsatoolbox.rdm.RDMs(B), method="bures")
    assert compare_rdms(A, B, "bures") == pytest.approx(expected.item(), abs=1e-6)


def test_bures_by_hand() -> None:
    # one direction each: the cosine between them
    X, Y = np.array([[1.0], [-1], [0]]), np.array([[1.0], [0], [-1]])
    assert compare_rdms(rdm(X, "sqeuclidean"), rdm(Y, "sqeuclidean"), "bures") == pytest.approx(0.5)


@pytest.mark.parametrize("method", ["bures", "riemannian"])
def test_negative_eigenvalues_are_taken_for_zero(method: str) -> None:
    # 1, 1 and 9 break the triangle inequality: stimuli 0 and 2 are further apart than by way of 1
    bent = squareform([[0, 1, 9], [1, 0, 1], [9, 1, 0]])
    values, vectors = np.linalg.eigh(centred_gram(bent))
    assert values[0] < -0.1
    X = vectors[:, values > 1e-9] * np.sqrt(values[values > 1e-9])
    other = np.array([1.0, 2, 2.5])
    assert compare_rdms(bent, other, method) == pytest.approx(
        compare_rdms(rdm(X, "sqeuclidean"), other, method), abs=1e-9
    )


@pytest.mark.parametrize("method", ["bures", "riemannian"])
def test_an_rdm_without_positive_eigenvalues_is_not_defined(method: str) -> None:
    with pytest.warns(RuntimeWarning, match=r"^A has no patterns that differ, over 6 pairs"):
        assert np.isnan(compare_rdms(-np.ones(6), np.arange(1, 7), method))


@pytest.mark.parametrize(("n", "d"), [(3, 2), (8, 9), (8, 3)])
def test_riemannian_equals_the_definition(rng: np.random.Generator, n: int, d: int) -> None:
    X, Y = rng.normal(size=(2, n, d))
    A, B = rdm(X, "sqeuclidean"), 5 * rdm(Y, "sqeuclidean")
    assert compare_rdms(A, B, "riemannian") == pytest.approx(slow_riemannian(A, B), abs=1e-8)


def test_the_negative_of_riemannian_obeys_the_triangle_inequality() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(8, 4))
        Y = X + rng.choice([0.1, 1.0]) * rng.normal(size=(8, 4))
        Z = Y + rng.choice([0.1, 1.0]) * rng.normal(size=(8, 4))
        A, B, C = (rdm(each, "sqeuclidean") for each in (X, Y, Z))
        ab, bc, ac = (-compare_rdms(*pair, "riemannian") for pair in ((A, B), (B, C), (A, C)))
        assert ac <= ab + bc + 1e-9


def test_riemannian_weighs_small_directions_as_large_ones(rng: np.random.Generator) -> None:
    X = rng.normal(size=(6, 5)) * [10, 10, 10, 10, 1]
    Y = X * [1, 1, 1, 1, 3]
    A, B = rdm(X, "sqeuclidean"), rdm(Y, "sqeuclidean")
    assert compare_rdms(A, B, "bures") > 0.98
    assert compare_rdms(A, B, "riemannian") < -0.5


@pytest.mark.parametrize("d", [1, 2, 20])
def test_no_patterns_have_a_better_mean_than_the_barycentre(rng: np.random.Generator, d: int) -> None:
    comparator = COMPARATORS["bures"]
    shared = rng.normal(size=(10, d))
    rdms = np.stack([rdm(shared + rng.normal(size=(10, d)), "sqeuclidean") for _ in range(4)])
    roots = [comparator.prepare(D) for D in rdms]

    def mean(D: np.ndarray) -> float:
        return float(np.mean([comparator.compare(comparator.prepare(D), root) for root in roots]))

    pool = comparator.pool(rdms)
    best = mean(pool)
    values, vectors = np.linalg.eigh(centred_gram(pool))
    X = vectors * np.sqrt(np.maximum(values, 0))
    for size in 20 * [1e-4, 1e-2, 0.1]:
        assert mean(rdm(X + size * rng.normal(size=X.shape) * np.abs(X).max(), "sqeuclidean")) <= best + 1e-10
    for member in rdms:
        assert mean(pool / pool.mean() + 0.01 * member / member.mean()) <= best + 1e-10
