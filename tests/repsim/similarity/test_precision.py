import numpy as np
import pytest

from repsim.similarity.precision import (
    CONSTANT,
    DOUBLE,
    SINGLE,
    FeatureRange,
    centred,
    constant_features,
    epsilon_of,
    without_rounding,
)


def test_centred_takes_equal_values_to_exactly_zero(rng: np.random.Generator) -> None:
    for axis in [0, 1]:
        for n in [3, 10, 1000, 4097]:
            values = rng.normal(size=50) * 10.0 ** rng.integers(-20, 20, size=50)
            X = np.repeat(values[None], n, axis=0)
            assert not centred(X if axis == 0 else X.T, axis).any()


@pytest.mark.parametrize("axis", [0, 1])
def test_centred_leaves_no_mean(rng: np.random.Generator, axis: int) -> None:
    Z = centred(1e6 + 1e-3 * rng.normal(size=(40, 30)), axis)
    assert np.abs(Z.mean(axis)).max() < 1e-17


def test_centred_leaves_its_input_alone() -> None:
    X = np.ones((3, 2))
    centred(X, axis=0)
    assert X.all()


# What is rounding


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_epsilon_is_that_of_the_values_for_any_dtype(rng: np.random.Generator, kind: type) -> None:
    X = rng.normal(size=(50, 3))
    assert epsilon_of(X) == DOUBLE
    assert epsilon_of(X.astype(np.float32).astype(kind)) == SINGLE
    X[30:] = X[30:].astype(np.float32)
    assert epsilon_of(X) == epsilon_of(X[::-1]) == DOUBLE


def test_whole_numbers_are_exact_unless_single_precision_has_no_others() -> None:
    assert epsilon_of(np.array([3.0, 0.0, 12.0])) == DOUBLE
    assert epsilon_of(np.array([3.0, 2.0**23 + 1])) == DOUBLE
    assert epsilon_of(np.array([2.0**23 + 2, 2.0**23 + 1])) == SINGLE


SIZES = [1e-30, 1.0, 1e3, 1e20]


@pytest.mark.parametrize("single", [False, True])
def test_a_feature_is_constant_up_to_some_units_of_its_last_place(rng: np.random.Generator, single: bool) -> None:
    for size in SIZES:
        for n in [2, 5, 16, 17, 300]:
            epsilon = SINGLE if single else DOUBLE
            kind = np.float32 if single else np.float64
            noise = rng.uniform(size=(n, 40))
            noise[0], noise[-1] = 0, 1
            columns = size * rng.uniform(1, 2, size=40) * rng.choice([-1, 1], size=40)
            for factor, expected in ((CONSTANT / 2, True), (CONSTANT * 2, False)):
                X = (columns * (1 + factor * epsilon * noise)).astype(kind)
                assert (constant_features(X) == expected).all()
                assert (constant_features(X.astype(np.float64)) == expected).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rounding_of_a_small_feature_is_that_of_the_layer_it_is_in(rng: np.random.Generator, kind: type) -> None:
    """Sums that nearly cancel have the rounding errors of their terms, if nothing else in the layer varies."""
    epsilon = np.finfo(kind).eps
    sizes = np.array([1.0, -2.0, 1.0, 1.5, 1e-4])
    X = (sizes + 10 * epsilon * rng.uniform(size=(40, 5))).astype(kind)
    assert constant_features(X).all()
    np.testing.assert_array_equal(constant_features(X, alone=True), [True] * 4 + [False])
    X[:, 0] += 1e-3 * rng.normal(size=40).astype(kind)  # a layer that varies, and the small feature with it
    np.testing.assert_array_equal(constant_features(X), [False, True, True, True, False])


def test_one_large_constant_feature_does_not_hide_the_others(rng: np.random.Generator) -> None:
    X = rng.normal(size=(40, 9)).astype(np.float32)
    X[:, 4] = 1e8
    np.testing.assert_array_equal(constant_features(X), np.arange(9) == 4)


@pytest.mark.parametrize("place", [0, 7, 99])
def test_one_stimulus_that_differs_is_enough(place: int) -> None:
    X = np.full((100, 2), 0.1)
    X[place, 1] = 0.2
    np.testing.assert_array_equal(constant_features(X), [True, False])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_small_signals_are_not_constant(rng: np.random.Generator, kind: type) -> None:
    noise = rng.normal(size=(50, 4))
    for X in (1 + 1e-3 * noise, 1e-20 * noise, 1e-20 * (1 + 1e-3 * noise), 1e3 + 0.1 * noise):
        assert not constant_features(X.astype(kind)).any()


def test_features_may_be_seen_in_blocks(rng: np.random.Generator) -> None:
    X = (1e3 + 1e-4 * rng.normal(size=(90, 6))).astype(np.float32).astype(np.float64)
    X[:, 1] = rng.normal(size=90)
    X[80, 2] = 0.1
    X[:, 3] += 1e-7  # no longer of single precision
    features = FeatureRange(6)
    for start in range(0, 90, 20):
        features.update(X[start : start + 20])
    np.testing.assert_array_equal(features.constant(), constant_features(X))
    np.testing.assert_array_equal(features.constant(), [True, False, False, False, True, True])


def test_without_rounding_changes_constant_features_only(rng: np.random.Generator) -> None:
    X = rng.normal(size=(30, 3)).astype(np.float32)
    assert without_rounding(X) is X
    X[:, 1] = 1e3 + 1e-4 * rng.normal(size=30)
    before = X.copy()
    cleaned = without_rounding(X)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(cleaned[:, [0, 2]], X[:, [0, 2]])
    assert (cleaned[:, 1] == X[0, 1]).all()
