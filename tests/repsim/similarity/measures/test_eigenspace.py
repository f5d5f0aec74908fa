import math
from importlib import import_module

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.linear_model import Ridge

from repsim.similarity.measures.cca import mean_cca
from repsim.similarity.measures.eigenspace import eigenspace_overlap, gulp
from tests.repsim.similarity.synthetic import related

module = import_module("repsim.similarity.measures.eigenspace")

# Eigenspace overlap


@pytest.mark.parametrize(("n", "d1", "d2"), [(30, 6, 9), (30, 9, 6), (10, 9, 1)])
def test_eigenspace_overlap_is_the_squared_cosines_of_the_angles_between_the_spaces(
    rng: np.random.Generator, n: int, d1: int, d2: int
) -> None:
    X, Y = related(rng, n, d1, d2)
    expected = (np.cos(subspace_angles(X, Y)) ** 2).sum() / max(d1, d2)
    assert eigenspace_overlap(X, Y) == pytest.approx(expected, abs=1e-12)


def test_golden_eigenspace_overlap() -> None:
    # A line at 45 degrees to the other, in the plane of two of three stimuli; then within a plane, and beside it.
    x, y = np.array([[1.0], [0], [0]]), np.array([[1.0], [1], [0]])
    assert eigenspace_overlap(x, y) == pytest.approx(1 / 2)
    assert eigenspace_overlap(x, np.eye(3, 2)) == pytest.approx(1 / 2)
    assert eigenspace_overlap(np.array([[0.0], [0], [1]]), np.eye(3, 2)) == 0


def test_eigenspace_overlap_counts_independent_features_only(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    repeated = np.hstack([X, X @ rng.normal(size=(6, 3))])
    assert eigenspace_overlap(repeated, Y) == pytest.approx(eigenspace_overlap(X, Y), abs=1e-12)
    assert eigenspace_overlap(repeated, X) == pytest.approx(1, abs=1e-12)


def test_eigenspace_overlap_does_not_centre(rng: np.random.Generator) -> None:
    x = rng.normal(size=(20, 1))
    assert eigenspace_overlap(x, 1e6 + x) < 0.5
    shared = np.ones((20, 1))
    assert eigenspace_overlap(np.hstack([x, shared]), np.hstack([-x, 3 * shared])) == pytest.approx(1, abs=1e-12)


def test_eigenspace_overlap_of_unrelated_representations_is_the_share_of_the_smaller(rng: np.random.Generator) -> None:
    values = [eigenspace_overlap(rng.normal(size=(40, 4)), rng.normal(size=(40, 10))) for _ in range(100)]
    assert np.mean(values) == pytest.approx(4 / 40, abs=0.01)


@pytest.mark.parametrize("d", [10, 40])
def test_eigenspace_overlap_refuses_representations_that_span_everything(rng: np.random.Generator, d: int) -> None:
    message = r"^Y has 10 stimuli and as many linearly independent features; .* gulp or cka\.$"
    with pytest.raises(ValueError, match=message):
        eigenspace_overlap(rng.normal(size=(10, 2)), rng.normal(size=(10, d)))
    low_rank = rng.normal(size=(10, 3)) @ rng.normal(size=(3, d))
    assert eigenspace_overlap(low_rank, low_rank) == pytest.approx(1, abs=1e-12)


# GULP


def normalised(X: np.ndarray) -> np.ndarray:
    X = X - X.mean(axis=0)
    return X / math.sqrt((X**2).sum() / len(X))


def predictions(X: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    X = normalised(X)
    return Ridge(alpha=penalty * len(X), fit_intercept=False, solver="svd").fit(X, targets).predict(X)


SHAPES = [(30, 6, 9), (12, 5, 60), (8, 20, 30)]


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_gulp_is_the_difference_of_ridge_predictions(
    rng: np.random.Generator, shape: tuple[int, int, int], penalty: float
) -> None:
    X, Y = related(rng, *shape)
    n = shape[0]
    targets = math.sqrt(n) * np.linalg.qr(rng.normal(size=(n, n)))[0]  # orthogonal, of mean square one
    differences = predictions(X, targets, penalty) - predictions(Y, targets, penalty)
    assert gulp(X, Y, penalty=penalty) ** 2 == pytest.approx((differences**2).mean(axis=0).sum(), rel=1e-8)


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 50.0])
def test_gulp_bounds_the_difference_for_every_target(rng: np.random.Generator, penalty: float) -> None:
    X, Y = related(rng)
    targets = rng.normal(size=(30, 200))
    targets /= np.sqrt((targets**2).mean(axis=0))
    difference = predictions(X, np.sqrt(30) * np.eye(30), penalty) - predictions(Y, np.sqrt(30) * np.eye(30), penalty)
    worst = np.linalg.svd(difference / np.sqrt(30))[2][0]
    targets = np.column_stack([targets, math.sqrt(30) * worst])
    means = ((predictions(X, targets, penalty) - predictions(Y, targets, penalty)) ** 2).mean(axis=0)
    assert means.argmax() == 200
    assert means.max() <= gulp(X, Y, penalty=penalty) ** 2


@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_gulp_equals_the_traces_of_its_definition(rng: np.random.Generator, penalty: float) -> None:
    X, Y = map(normalised, related(rng))
    Cx, Cy, Cxy = X.T @ X / 30, Y.T @ Y / 30, X.T @ Y / 30
    Ix, Iy = (np.linalg.inv(C + penalty * np.eye(len(C))) for C in (Cx, Cy))
    squared = np.trace(Ix @ Cx @ Ix @ Cx) + np.trace(Iy @ Cy @ Iy @ Cy) - 2 * np.trace(Ix @ Cxy @ Iy @ Cxy.T)
    assert gulp(X, Y, penalty=penalty) == pytest.approx(math.sqrt(squared), rel=1e-10)


def test_gulp_without_penalty_is_squared_cca(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    correlations = np.cos(subspace_angles(X - X.mean(axis=0), Y - Y.mean(axis=0)))
    assert gulp(X, Y, penalty=0) ** 2 == pytest.approx(6 + 9 - 2 * (correlations**2).sum(), abs=1e-12)
    assert gulp(X, Y, penalty=1e-13) == pytest.approx(gulp(X, Y, penalty=0), abs=1e-9)
    assert correlations.mean() == pytest.approx(mean_cca(X, Y), abs=1e-12)


def test_golden_gulp() -> None:
    # One direction of variance 1 predicts 1 / (1 + 1/2) of it; two of variance 1/2 each predict 1/2 of theirs.
    x, y = np.array([[1.0, 1, -1, -1], [1, -1, 1, -1]])
    both = np.column_stack([x, y])
    assert gulp(x[:, None], y[:, None], penalty=0.5) == pytest.approx(math.sqrt(2) * 2 / 3)
    assert gulp(x[:, None], both, penalty=0.5) == pytest.approx(math.sqrt((2 / 3 - 1 / 2) ** 2 + 1 / 4))


@pytest.mark.parametrize(
    ("penalty", "bound"), [(1.0, math.sqrt(0.5)), (3.0, math.sqrt(2) / 4), (0.25, math.sqrt(2)), (0.5, 1.0)]
)
def test_gulp_reaches_its_bound_and_stays_below(rng: np.random.Generator, penalty: float, bound: float) -> None:
    # One direction where the penalty is at least 1, and otherwise 1 / penalty of them, of equal variance.
    n_directions = max(1, round(1 / penalty))
    basis = np.linalg.qr(np.hstack([np.ones((20, 1)), rng.normal(size=(20, 12))]))[0][:, 1:]
    X, Y = basis[:, :n_directions], basis[:, n_directions : 2 * n_directions]
    assert gulp(X, Y, penalty=penalty) == pytest.approx(bound, abs=1e-12)
    for d in range(1, 13):
        X, Y = basis[:, :d] * rng.uniform(size=d), basis[:, -d:] * rng.uniform(size=d)
        assert gulp(X, Y, penalty=penalty) <= bound + 1e-12


@pytest.mark.parametrize("penalty", [0.0, 1e-30, 1e-9])
def test_directions_that_are_rounding_do_not_count_however_small_the_penalty(
    rng: np.random.Generator, penalty: float
) -> None:
    X, Y = related(rng)
    repeated = np.hstack([X, X @ rng.normal(size=(6, 4)), np.full((30, 1), 0.1)])
    assert gulp(repeated, repeated + 100, penalty=penalty) < 1e-3
    expected = gulp(np.linalg.svd(repeated - repeated.mean(axis=0), full_matrices=False)[0][:, :6], Y, penalty=penalty)
    assert gulp(repeated, Y, penalty=penalty) == pytest.approx(expected, abs=1e-4)


def test_gulp_of_nearly_equal_representations_keeps_its_digits(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, Y = related(rng, d1=6, d2=6)
    # Too small a step for differences of squares, of which the root would be 1e-8 or 0.
    fine, coarse = gulp(X, X + 1e-9 * Y), gulp(X, X + 1e-3 * Y)
    assert 1e6 * fine == pytest.approx(coarse, rel=1e-2)
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 100)
    assert gulp(X, X + 1e-9 * Y) == pytest.approx(fine, rel=1e-12)


@pytest.mark.parametrize("penalty", [-1.0, math.nan, math.inf])
def test_gulp_refuses_a_penalty(penalty: float) -> None:
    with pytest.raises(ValueError, match=rf"^penalty is {penalty}; expected a finite number of at least 0\."):
        gulp(np.eye(4), np.eye(4), penalty=penalty)


def test_gulp_without_penalty_refuses_saturated_representations(rng: np.random.Generator) -> None:
    X, Y = rng.normal(size=(2, 10, 40))
    with pytest.raises(ValueError, match=r"^X has 10 stimuli and 40 features; GULP without penalty needs more"):
        gulp(X, Y, penalty=0)
