import math
from itertools import islice

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from repsim.similarity.measures.stochastic import _alike, _descent, _moments, _starts, stochastic_procrustes


def root(S: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(S)
    return vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T


def squared_bures(S: np.ndarray, T: np.ndarray) -> float:
    return float(np.trace(S) + np.trace(T) - 2 * np.trace(root(root(S) @ T @ root(S))))


def moments(X: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    means = X.mean(1)
    return means - means.mean(0), [np.cov(trials.T) for trials in X]


def slow_objective(X: np.ndarray, Y: np.ndarray, Q: np.ndarray) -> float:
    """The definition, one stimulus at a time."""
    (mu, S), (nu, T) = moments(X), moments(Y)
    return sum(float(np.sum((mu[i] - Q @ nu[i]) ** 2)) + squared_bures(S[i], Q @ T[i] @ Q.T) for i in range(len(mu)))


def noisy(rng: np.random.Generator, n: int = 6, r: int = 8, d: int = 3) -> np.ndarray:
    """Trials of which every stimulus has another covariance."""
    mixing = rng.normal(size=(n, d, d))
    return rng.normal(size=(n, 1, d)) + rng.normal(size=(n, r, d)) @ mixing


def move(rng: np.random.Generator, X: np.ndarray) -> np.ndarray:
    return X @ ortho_group.rvs(X.shape[2], random_state=rng) + rng.normal(size=X.shape[2])


def test_stochastic_procrustes_finds_the_best_of_all_rotations_of_the_plane() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X, Y = noisy(rng, d=2), noisy(rng, r=5, d=2)
        angles = np.linspace(0, 2 * np.pi, 721)
        turns = [np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) for a in angles]
        grid = math.sqrt(min(slow_objective(X, Y, Q @ F) for Q in turns for F in (np.eye(2), np.diag([1, -1]))))
        found = stochastic_procrustes(X, Y)
        assert found <= grid + 1e-9
        assert found == pytest.approx(grid, rel=1e-4)


def test_the_descent_never_rises_and_ends_at_the_distance_of_its_rotation(rng: np.random.Generator) -> None:
    X, Y = noisy(rng, d=4), noisy(rng, r=3, d=4)
    x, y = _alike(_moments(X), _moments(Y))
    for Q in _starts(x, y, 6, seed=1):
        objectives = np.array(list(islice(_descent(x, y, Q), 60)))
        assert (np.diff(objectives) <= 1e-12 * objectives[0]).all()
        # Features times Q is Q transposed times a response.
        assert objectives[0] <= slow_objective(X, Y, Q.T) + 1e-9
        assert objectives[0] - objectives[-1] > 1e-3


def test_the_first_turn_from_the_best_rotation_stays_at_its_objective(rng: np.random.Generator) -> None:
    X = noisy(rng, n=20)
    Y = move(rng, X)
    x, y = _alike(_moments(X), _moments(Y))
    start = next(_starts(x, y, 1, seed=0))
    assert slow_objective(X, Y, start.T) == pytest.approx(0, abs=1e-6)
    assert next(_descent(x, y, start)) == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("shape", [(20, 6, 4), (3, 6, 4), (5, 4, 20), (2, 3, 30), (1, 9, 3)])
def test_stochastic_procrustes_of_moved_trials_is_zero(shape: tuple[int, int, int]) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = noisy(rng, *shape)
        other_order = move(rng, X)[:, rng.permutation(shape[1])]
        assert stochastic_procrustes(X, other_order) < 1e-6 * np.linalg.norm(X)
        assert stochastic_procrustes(X, 2 * X) > 0.1 * np.linalg.norm(X) / shape[1]


@pytest.mark.parametrize("shape", [(20, 6, 4), (5, 8, 3), (3, 6, 10)])
def test_stochastic_procrustes_of_moved_trials_around_equal_means_is_zero(shape: tuple[int, int, int]) -> None:
    for mean in [0.0, 1e-3]:
        for n_starts in [1, 4]:
            for seed in range(10):
                rng = np.random.default_rng(seed)
                X = noisy(rng, *shape)
                X += mean * rng.normal(size=(shape[0], 1, shape[2])) - X.mean(axis=1, keepdims=True)
                assert stochastic_procrustes(X, move(rng, X), n_starts=n_starts) < 1e-6 * np.linalg.norm(X)


@pytest.mark.parametrize(("d1", "d2"), [(4, 4), (2, 5), (30, 20)])
def test_without_noise_it_is_the_unscaled_procrustes_distance(rng: np.random.Generator, d1: int, d2: int) -> None:
    mu, nu = rng.normal(size=(10, d1)), rng.normal(size=(10, d2))
    X, Y = (np.repeat(means[:, None], 3, axis=1) for means in (mu, nu))
    mu, nu = mu - mu.mean(0), nu - nu.mean(0)
    d = max(d1, d2)
    mu, nu = (np.pad(means, [(0, 0), (0, d - means.shape[1])]) for means in (mu, nu))
    Q, _ = orthogonal_procrustes(nu, mu)
    assert stochastic_procrustes(X, Y) == pytest.approx(np.linalg.norm(mu - nu @ Q), abs=1e-9)


def test_on_one_feature_it_adds_means_and_standard_deviations() -> None:
    # Means -2 and 2 against 1 and -1, reflected; standard deviations 1 against 3: twice 1 squared, twice 2 squared.
    X, Y = (
        mean * np.array([[[-1.0]], [[1.0]]]) + sd / math.sqrt(2) * np.array([[[-1.0], [1.0]]])
        for mean, sd in ((2, 1), (-1, 3))
    )
    assert stochastic_procrustes(X, Y) == pytest.approx(math.sqrt(2 * 1 + 2 * 4), abs=1e-12)


def test_stochastic_procrustes_is_at_least_the_distance_of_means_and_covariances() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X, Y = noisy(rng), noisy(rng)
        (mu, S), (nu, T) = moments(X), moments(Y)
        Q, _ = orthogonal_procrustes(nu, mu)
        means = np.linalg.norm(mu - nu @ Q) ** 2
        # The Bures distance is least where the axes of both are the same, in the same order.
        spreads = [np.sqrt(np.clip(np.linalg.eigvalsh(C), 0, None)) for C in (S, T)]
        covariances = np.linalg.norm(spreads[0] - spreads[1]) ** 2
        assert stochastic_procrustes(X, Y) ** 2 >= means + covariances - 1e-9


def test_stochastic_procrustes_is_symmetric_and_obeys_the_triangle_inequality() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        A, B = noisy(rng, d=2), noisy(rng, r=4)
        C = B + 0.5 * rng.normal(size=B.shape)
        ab, bc, ac = (stochastic_procrustes(*pair) for pair in ((A, B), (B, C), (A, C)))
        assert stochastic_procrustes(B, A) == pytest.approx(ab, rel=1e-6)
        assert ac <= ab + bc + 1e-6
        assert ab <= ac + bc + 1e-6


@pytest.mark.parametrize(("n", "d1", "d2"), [(3, 4, 4), (5, 7, 3), (1, 2, 3)])
def test_stochastic_procrustes_of_fewer_stimuli_than_features_is_symmetric(n: int, d1: int, d2: int) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X, Y = noisy(rng, n=n, d=d1), noisy(rng, n=n, r=5, d=d2)
        for n_starts in (1, 4):
            there, back = (stochastic_procrustes(*pair, n_starts=n_starts) for pair in ((X, Y), (Y, X)))
            assert there == pytest.approx(back, rel=1e-6)


def test_stochastic_procrustes_has_the_unit_of_its_input(rng: np.random.Generator) -> None:
    for factor in [2.0, 1e-6, 1e-200, 1e200]:
        X, Y = noisy(rng), noisy(rng)
        assert stochastic_procrustes(factor * X, factor * Y) == pytest.approx(
            factor * stochastic_procrustes(X, Y), rel=1e-6, abs=0
        )


def test_more_starts_and_turns_never_raise_it(rng: np.random.Generator) -> None:
    X, Y = noisy(rng, d=5), noisy(rng, d=5)
    few = [stochastic_procrustes(X, Y, n_iterations=k, n_starts=1) for k in (1, 5, 100)]
    assert few[0] > few[1] >= few[2] >= stochastic_procrustes(X, Y, n_starts=10)
    assert stochastic_procrustes(X, Y, seed=3) == stochastic_procrustes(X, Y, seed=3)


def test_stochastic_procrustes_leaves_its_input_alone(rng: np.random.Generator) -> None:
    X, Y = noisy(rng), noisy(rng)
    before = X.copy(), Y.copy()
    stochastic_procrustes(X, Y)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


# What it refuses

TRIALS = np.zeros((4, 2, 3))


@pytest.mark.parametrize(
    ("Y", "message"),
    [
        (np.zeros((4, 3)), r"^Y has shape \(4, 3\); expected three dimensions .*procrustes"),
        (np.zeros((4, 1, 3)), r"^Y has 1 trials of each stimulus; at least 2 are needed for a covariance\."),
        (np.full((4, 2, 3), np.nan), r"^Y has 24 of 24 values that are NaN or infinite"),
        (np.zeros((5, 2, 3)), r"^X has 4 samples and Y has 5; both must come from the same stimuli"),
        (np.zeros((4, 2, 0)), r"^Y has no features; expected at least 1\."),
    ],
)
def test_stochastic_procrustes_refuses_an_array(Y: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stochastic_procrustes(TRIALS, Y)


@pytest.mark.parametrize(
    ("option", "values", "expected"),
    [
        ("n_iterations", [0, 2.5, math.nan], r"a whole number of at least 1\.$"),
        ("n_starts", [0, 2.5, math.nan], r"a whole number of at least 1\.$"),
        ("tolerance", [-1e-9, math.inf, math.nan], r"a finite number of at least 0\."),
    ],
)
def test_stochastic_procrustes_refuses_an_option(option: str, values: list, expected: str) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^{option} is {value}; expected {expected}"):
            stochastic_procrustes(TRIALS, TRIALS, **{option: value})


def test_stochastic_procrustes_of_constants_is_zero() -> None:
    assert stochastic_procrustes(TRIALS, TRIALS + 1) == 0
