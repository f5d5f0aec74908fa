from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kendalltau, rankdata, spearmanr

from repsim.similarity import compare_rdms, evaluate_models, partial_rsa, rdm, rsa
from repsim.similarity.comparators.ties import DOUBLE_ROUNDING, SINGLE_ROUNDING, is_constant, levels, ranks
from tests.repsim.similarity.synthetic import rotation

RANKED = ("spearman", "rho-a", "tau-a", "tau-b")
METHODS = ("euclidean", "sqeuclidean", "cityblock")
OUTLIERS = (1.0, 10.0, 100.0, 1000.0)


@pytest.fixture
def codes(rng: np.random.Generator) -> np.ndarray:
    """Binary codes: many distances are equal, until they are rounded."""
    return rng.integers(0, 2, size=(40, 6)).astype(float)


def with_outlier(X: np.ndarray, outlier: float) -> np.ndarray:
    """Multiply one stimulus, so that it is far away from all others."""
    X = X.copy()
    X[len(X) // 3] *= outlier
    return X


def partial_spearman(A: np.ndarray, B: np.ndarray) -> float:
    """Compare with a control that is related to neither."""
    control = np.random.default_rng(9).permutation(len(A)).astype(float)
    return partial_rsa(A, B, {"control": control}, "spearman")


COMPARISONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    **{method: lambda A, B, method=method: compare_rdms(A, B, method) for method in RANKED},
    "partial": partial_spearman,
}


@pytest.fixture(params=COMPARISONS)
def compare(request: pytest.FixtureRequest) -> Callable[[np.ndarray, np.ndarray], float]:
    return COMPARISONS[request.param]


# Ties that rounding would break


def test_rounding_breaks_no_ties(rng: np.random.Generator, codes: np.ndarray, compare: Callable) -> None:
    for single in [False, True]:
        kind = np.float32 if single else np.float64
        exact, other = rdm(codes, "euclidean"), rdm(rng.normal(size=codes.shape), "euclidean")
        for changed in (codes @ rotation(rng, 6), 0.1 * codes, 3 * codes + 0.1):
            D = rdm(changed.astype(kind), "euclidean")
            assert compare(other, D) == pytest.approx(compare(other, exact), abs=1e-9)


@pytest.mark.parametrize("method", ["euclidean", "sqeuclidean", "cosine"])
def test_rounding_breaks_no_ties_of_one_stimulus_far_away(rng: np.random.Generator, method: str) -> None:
    for outlier in OUTLIERS:
        for n, d in [(12, 4), (40, 6), (80, 24)]:
            codes = rng.integers(0, 2, size=(n, d)).astype(float)
            codes[~codes.any(axis=1), 0] = 1
            codes = with_outlier(codes, outlier)
            exact, rotated = rdm(codes, method), rdm(codes @ rotation(rng, d), method)
            np.testing.assert_array_equal(levels(rotated), levels(exact.round(9)))


def test_rounding_of_single_precision_breaks_no_ties(rng: np.random.Generator) -> None:
    for outlier in OUTLIERS[:3]:
        for n, d in [(12, 4), (40, 6), (80, 24)]:
            codes = with_outlier(rng.integers(0, 2, size=(n, d)).astype(float), outlier)
            rotated = rdm((codes @ rotation(rng, d)).astype(np.float32), "euclidean")
            np.testing.assert_array_equal(levels(rotated.astype(np.float64)), levels(rdm(codes, "euclidean").round(9)))


def test_ties_do_not_depend_on_the_order_of_stimuli(codes: np.ndarray) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        order, X = rng.permutation(40), with_outlier(codes @ rotation(rng, 6), 300)
        there = squareform(rdm(X[order], "euclidean"))
        here = squareform(rdm(X, "euclidean"))[np.ix_(order, order)]
        np.testing.assert_array_equal(levels(squareform(there)), levels(squareform(here, checks=False)))


def test_rsa_of_classes_ignores_rotation_as_it_declares(rng: np.random.Generator) -> None:
    X = np.repeat(np.eye(10), 5, axis=0)
    assert rsa(X, X @ rotation(rng, 10), distance="euclidean", comparator="spearman") == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("method", RANKED[:2])
def test_resampled_ranks_have_the_same_ties(rng: np.random.Generator, codes: np.ndarray, method: str) -> None:
    models = {"exact": rdm(codes, "euclidean"), "rotated": rdm(codes @ rotation(rng, 6), "euclidean")}
    data = {"data": pdist(codes + rng.normal(size=codes.shape))}
    samples = evaluate_models(models, data, method=method, n_samples=20).samples
    np.testing.assert_allclose(samples[:, 0], samples[:, 1], atol=1e-9)


# Distances that differ


def test_rank_correlations_of_single_precision_are_those_of_double(rng: np.random.Generator, compare: Callable) -> None:
    for outlier in OUTLIERS:
        for method in METHODS:
            for n, d in [(16, 3), (40, 64), (100, 5)]:
                X = with_outlier(rng.normal(size=(n, d)), outlier).astype(np.float32)
                Y = (X + rng.normal(size=X.shape)).astype(np.float32)
                A, B = (rdm(each.astype(np.float64), method) for each in (X, Y))
                expected = compare(A, B)
                assert compare(rdm(X, method), rdm(Y, method)) == pytest.approx(expected, abs=1e-3)
                assert compare(A.astype(np.float32), B.astype(np.float32)) == pytest.approx(expected, abs=1e-3)


def test_rank_correlations_are_those_of_scipy(rng: np.random.Generator) -> None:
    for outlier in [1.0, 1e3, 1e8]:
        A, B = pdist(with_outlier(rng.normal(size=(30, 4)), outlier)), pdist(rng.normal(size=(30, 4)))
        assert compare_rdms(A, B, "spearman") == pytest.approx(spearmanr(A, B).statistic, abs=1e-6)
        assert compare_rdms(A, B, "tau-b") == pytest.approx(kendalltau(A, B).statistic, abs=1e-6)


def test_the_largest_distance_ties_no_others(rng: np.random.Generator) -> None:
    distances = rng.uniform(size=200)
    for largest in (1e2, 1e15, 1e300):
        np.testing.assert_array_equal(levels(np.append(distances, largest))[:-1], levels(distances))


def test_ranks_do_not_change_under_a_steep_monotone_map(rng: np.random.Generator) -> None:
    distances = rng.uniform(size=300)
    np.testing.assert_array_equal(ranks(np.exp(400 * distances)), ranks(distances))


def test_distances_that_differ_stay_apart(rng: np.random.Generator) -> None:
    distances = np.concatenate([[1.0, 1.0 + 1e-11], rng.uniform(size=200)])
    assert len(np.unique(levels(distances))) == 202
    assert (np.argsort(levels(distances), kind="stable") == np.argsort(distances, kind="stable")).all()


def test_whole_numbers_are_exact() -> None:
    distances = 1e6 + np.arange(5.0)  # numbers of single precision, which would be tied if they were rounded
    np.testing.assert_array_equal(levels(np.append(distances, 3.0)), [1, 2, 3, 4, 5, 0])


def test_negative_distances_tie_at_their_own_magnitude() -> None:
    distances = np.array([-1.0, -1.0 - 1e-15, -1e-9, 0.0, -0.0, 1e-9, 1e-9 + 1e-24, 5.1])
    np.testing.assert_array_equal(levels(distances), [0, 0, 1, 2, 2, 3, 3, 4])


def test_a_chain_of_near_distances_is_not_one_tie() -> None:
    for single in [False, True]:
        rounding = SINGLE_ROUNDING if single else DOUBLE_ROUNDING
        distances = 1.1 * (1 + np.arange(50_000) * rounding / 20)
        distances = distances.astype(np.float32).astype(np.float64) if single else distances
        numbers = levels(distances)
        assert np.bincount(numbers).max() <= 21 + 1
        assert spearmanr(numbers, distances).statistic > 1 - 1e-6


def test_tied_distances_share_their_mean_rank(rng: np.random.Generator) -> None:
    distances = rng.integers(0, 9, size=100) / 7
    noisy = distances * (1 + 1e-14 * rng.uniform(-1, 1, size=100))
    np.testing.assert_array_equal(ranks(noisy), rankdata(distances))


@pytest.mark.parametrize("block", [1, 7, 100])
def test_ties_and_ranks_do_not_depend_on_the_size_of_blocks(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    chain = 1.1 * (1 + np.arange(300) * DOUBLE_ROUNDING / 20)
    few = np.round(rng.normal(size=200), 1) * (1 + 1e-14 * rng.uniform(-1, 1, size=200))
    for distances in (np.concatenate([few, chain, -chain, [0.0, -0.0]]), chain, np.ones(50), few):
        expected = levels(distances), ranks(distances)
        with monkeypatch.context() as changed:
            changed.setattr("repsim.similarity.comparators.ties.BLOCK", block)
            np.testing.assert_array_equal(levels(distances), expected[0])
            np.testing.assert_array_equal(ranks(distances), expected[1])


def test_an_rdm_is_constant_up_to_rounding(rng: np.random.Generator) -> None:
    noise = rng.uniform(-1, 1, size=100)
    assert is_constant(3 * (1 + 1e-13 * noise))
    assert is_constant((3 * (1 + 1e-7 * noise)).astype(np.float32).astype(np.float64))
    assert not is_constant(3 * (1 + 1e-7 * noise))
    assert is_constant(np.zeros(5))
    assert not is_constant(1e-20 * (1 + noise))
