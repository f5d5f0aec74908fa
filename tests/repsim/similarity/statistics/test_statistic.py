import math
import tracemalloc
import warnings
from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from repsim.similarity.statistics import (
    STATISTICS,
    Statistic,
    class_separation,
    concentricity,
    intrinsic_dimension,
    magnitude,
    neural_collapse,
    participation_ratio,
    uniformity,
)
from tests.repsim.similarity.synthetic import TRANSFORMS

blocks = import_module("repsim.similarity.pair_distances")
dimension = import_module("repsim.similarity.statistics.dimension")


@pytest.fixture(params=STATISTICS)
def statistic(request: pytest.FixtureRequest) -> Statistic:
    return STATISTICS[request.param]


def some(rng: np.random.Generator, n: int = 30, d: int = 6, c: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Patterns around class means, of unequal scales and off the origin, and their labels; classes differ in size."""
    labels = np.concatenate([np.arange(c), np.arange(c), rng.integers(0, c, size=n - 2 * c)])
    return (rng.normal(size=(c, d))[labels] + rng.normal(size=(n, d))) * np.linspace(1, 3, d) + 1, labels


def value(statistic: Statistic, X: np.ndarray, labels: np.ndarray) -> float:
    return statistic.function(X, labels) if statistic.needs_labels else statistic.function(X)


# What every statistic declares


def test_a_statistic_has_its_declared_invariances_and_no_others(rng: np.random.Generator, statistic: Statistic) -> None:
    X, labels = some(rng)
    before = value(statistic, X, labels)
    changes = {name: abs(value(statistic, change(X, rng), labels) - before) for name, change in TRANSFORMS.items()}
    assert {name for name, change in changes.items() if change < 1e-10} == statistic.invariances
    assert all(change < 1e-10 or change > 1e-3 for change in changes.values())


def test_a_statistic_stays_in_its_range(rng: np.random.Generator, statistic: Statistic) -> None:
    for _ in range(20):
        X, labels = some(rng, rng.integers(5, 40), rng.integers(1, 50), 2)
        assert statistic.range[0] <= value(statistic, X, labels) <= statistic.range[1]


def test_a_statistic_does_not_depend_on_the_order_of_the_stimuli(
    rng: np.random.Generator, statistic: Statistic
) -> None:
    X, labels = some(rng)
    order = rng.permutation(30)
    assert value(statistic, X[order], labels[order]) == pytest.approx(value(statistic, X, labels), abs=1e-12)


def test_a_statistic_depends_on_labels_if_it_needs_them(rng: np.random.Generator, statistic: Statistic) -> None:
    X, labels = some(rng)
    names = np.array(["cat", "dog", "ant"])[labels]
    assert value(statistic, X, names) == pytest.approx(value(statistic, X, labels), abs=1e-12)
    differs = abs(value(statistic, X, rng.permutation(labels)) - value(statistic, X, labels)) > 1e-3
    assert differs == statistic.needs_labels


def test_a_statistic_does_not_depend_on_the_blocks(
    rng: np.random.Generator, statistic: Statistic, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, labels = some(rng)
    expected = value(statistic, X, labels)
    monkeypatch.setattr(blocks, "PAIRS_AT_ONCE", 70)
    assert value(statistic, X, labels) == pytest.approx(expected, abs=1e-12)


def test_a_statistic_leaves_its_input_alone(rng: np.random.Generator, statistic: Statistic) -> None:
    X, labels = some(rng)
    before = X.copy(), labels.copy()
    value(statistic, X, labels)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_a_statistic_takes_single_precision_with_a_large_mean(rng: np.random.Generator, statistic: Statistic) -> None:
    if "translation" not in statistic.invariances:
        pytest.skip("it depends on the mean")
    labels = some(rng)[1]
    X = (100 + 1e-3 * rng.normal(size=(30, 5))).astype(np.float32)
    shifted = value(statistic, X.astype(np.float64) - 100, labels)
    assert value(statistic, X, labels) == pytest.approx(shifted, rel=1e-8)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_a_statistic_without_a_unit_neither_overflows_nor_vanishes(
    rng: np.random.Generator, statistic: Statistic, scale: float
) -> None:
    if "isotropic scaling" not in statistic.invariances:
        pytest.skip("it has the unit of X")
    X, labels = some(rng)
    assert value(statistic, scale * X, labels) == pytest.approx(value(statistic, X, labels), rel=1e-10)


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_an_undefined_statistic_is_nan_with_one_warning(statistic: Statistic, constant: float) -> None:
    X, labels = np.full((30, 4), constant), np.arange(30) % 3
    expected = {("magnitude", 0.0): 0.0, ("magnitude", 0.1): 0.2, ("concentricity", 0.1): 1.0, ("uniformity", 0.1): 0.0}
    if (statistic.name, constant) in expected:
        assert value(statistic, X, labels) == pytest.approx(expected[statistic.name, constant], abs=1e-12)
        return
    with pytest.warns(RuntimeWarning, match=rf"^X: .*\. Its {statistic.name.replace('_', ' ')} is NaN\.$") as caught:
        assert math.isnan(value(statistic, X, labels))
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_statistic_of_a_layer_constant_up_to_rounding_is_that_of_a_constant_one(
    rng: np.random.Generator, statistic: Statistic, kind: type
) -> None:
    noise, labels = rng.normal(size=(30, 4)), np.arange(30) % 3
    values = []
    for X in (np.full((30, 4), 1e3), (1e3 + 1e-4 * noise).astype(np.float32).astype(kind)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values.append((value(statistic, X, labels), [str(each.message) for each in caught]))
    assert values[1][1] == values[0][1]
    assert values[1][0] == pytest.approx(values[0][0], rel=1e-6, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_class_separation_of_one_direction_up_to_rounding_is_nan(rng: np.random.Generator, kind: type) -> None:
    X = (rng.uniform(1, 2, size=(30, 1)) * rng.normal(size=4)).astype(kind)
    with pytest.warns(RuntimeWarning, match=r"^X: all patterns point in one direction\. "):
        assert math.isnan(class_separation(X, np.arange(30) % 3))


def test_a_statistic_refuses_values_that_are_not_finite(statistic: Statistic) -> None:
    with pytest.raises(ValueError, match=r"^X has 120 of 120 values that are NaN or infinite"):
        value(statistic, np.full((30, 4), np.nan), np.arange(30) % 3)


def test_statistics_are_listed_by_name(statistic: Statistic) -> None:
    assert STATISTICS[statistic.name] is statistic
    assert all((statistic.about.reference, statistic.about.formula, statistic.about.cost, statistic.about.use))


def test_a_statistic_refuses_unknown_invariances() -> None:
    with pytest.raises(ValueError, match=r"^Unknown invariances \['mirror'\]\. Choose among: invertible linear"):
        Statistic(name="s", function=max, invariances=frozenset({"mirror"}))


# Where the patterns lie


def test_golden_magnitude_and_concentricity() -> None:
    assert magnitude([[3, 0], [3, 8]]) == 5
    assert concentricity([[1, 0], [0, 1]]) == pytest.approx(math.sqrt(0.5))
    # The mean is (1, 0): cosines 1, 1 and -1.
    assert concentricity([[2, 0], [3, 0], [-2, 0]]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_magnitude_neither_overflows_nor_vanishes(rng: np.random.Generator, scale: float) -> None:
    X, _ = some(rng)
    assert magnitude(scale * X) == pytest.approx(scale * magnitude(X), rel=1e-12, abs=0)


def test_concentricity_equals_its_definition(rng: np.random.Generator) -> None:
    X, _ = some(rng)
    assert concentricity(X) == pytest.approx(1 - cdist(X, X.mean(axis=0)[None], "cosine").mean(), abs=1e-12)


@pytest.mark.parametrize("function", [concentricity, uniformity])
def test_patterns_of_zeros_have_no_direction(rng: np.random.Generator, function: Callable) -> None:
    X, labels = some(rng)
    X[[3, 7]] = 0
    with pytest.warns(RuntimeWarning, match=r"^X: 2 of 30 patterns are all zeros\. Its .* is NaN\.$"):
        assert math.isnan(function(X))
    with pytest.warns(RuntimeWarning, match=r"^X: 2 of 30 patterns are all zeros\. Its class separation is NaN\.$"):
        assert math.isnan(class_separation(X, labels))


def test_concentricity_around_the_origin_is_nan(rng: np.random.Generator) -> None:
    X = rng.normal(size=(10, 3))
    with pytest.warns(RuntimeWarning, match=r"^X: the mean pattern is all zeros, up to rounding\. "):
        assert math.isnan(concentricity(np.vstack([X, -X])))


# Uniformity


@pytest.mark.parametrize("t", [0.5, 2.0, 400.0])
def test_uniformity_equals_its_definition(rng: np.random.Generator, t: float) -> None:
    X, _ = some(rng)
    squared = pdist(X / np.linalg.norm(X, axis=1, keepdims=True), "sqeuclidean")
    assert uniformity(X, t=t) == pytest.approx(math.log(np.exp(-t * squared).mean()), rel=1e-10)


def test_golden_uniformity() -> None:
    # Squared distances 2, 4 and 2, whatever the lengths.
    expected = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    assert uniformity([[1, 0], [0, 5], [-2, 0]]) == pytest.approx(expected)


def test_uniformity_reaches_its_bounds_and_falls_with_evenness(rng: np.random.Generator) -> None:
    assert uniformity([[1.0, 2], [-1, -2]]) == pytest.approx(-8)
    assert uniformity([[1.0, 2], [2, 4], [3, 6]]) == pytest.approx(0, abs=1e-12)
    assert uniformity(rng.normal(size=(200, 500))) == pytest.approx(-4, abs=0.05)
    assert uniformity([[1.0, 0], [-1, 0]], t=1e4) == pytest.approx(-4e4)


@pytest.mark.parametrize("t", [0.0, -1.0, math.inf, math.nan])
def test_uniformity_refuses_a_scale(t: float) -> None:
    with pytest.raises(ValueError, match=rf"^t is {t}; expected a finite number above 0\."):
        uniformity(np.eye(3), t=t)


# Dimensions


def slow_two_nn(X: np.ndarray) -> float:
    nearest = np.sort(cdist(X, X), axis=1)[:, 1:3]
    return (len(X) - 1) / np.log(nearest[:, 1] / nearest[:, 0]).sum()


def test_intrinsic_dimension_equals_its_definition(rng: np.random.Generator) -> None:
    X, _ = some(rng)
    assert intrinsic_dimension(X) == pytest.approx(slow_two_nn(X), rel=1e-12)


def test_golden_intrinsic_dimension() -> None:
    # Of 0, 1, 3 the two nearest are 1 and 3, 1 and 2, 2 and 3 away: 2 / log(3 * 2 * 3/2).
    assert intrinsic_dimension([[0], [1], [3]]) == pytest.approx(2 / math.log(9))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_intrinsic_dimension_finds_that_of_a_curved_manifold(rng: np.random.Generator, d: int) -> None:
    latent = rng.uniform(size=(1500, d))
    curved = np.hstack([latent, np.cos(3 * latent), latent**2]) @ rng.normal(size=(3 * d, 20))
    assert intrinsic_dimension(curved) == pytest.approx(d, rel=0.1)


def test_intrinsic_dimension_is_unbiased_for_pareto_ratios(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = rng.pareto(3.0, size=(4000, 5)) + 1
    ratios = iter(draws)
    monkeypatch.setattr(dimension, "_two_nearest", lambda X: np.column_stack([np.ones(5), next(ratios)]))
    assert np.mean([intrinsic_dimension(np.eye(5)) for _ in draws]) == pytest.approx(3, abs=0.1)  # 3.75 if n / sum


def test_duplicates_are_left_out_of_the_intrinsic_dimension(rng: np.random.Generator) -> None:
    X = 100 + 1e-3 * rng.normal(size=(40, 5))
    far = 200 + 1e-3 * rng.normal(size=(1, 5))
    padded = np.vstack([X, np.repeat(far, 3, axis=0)])
    with pytest.warns(RuntimeWarning, match=r"^X: 2 of 43 stimuli are duplicates of others and are left out") as caught:
        assert intrinsic_dimension(padded) == pytest.approx(slow_two_nn(np.vstack([X, far])), rel=1e-9)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("times", [1.25, 2, 3])
def test_intrinsic_dimension_does_not_depend_on_how_often_a_stimulus_is_shown(
    rng: np.random.Generator, times: float
) -> None:
    X = rng.normal(size=(400, 2))
    X[0, 0] = 0.0
    shown = np.resize(X, (int(times * 400), 2))
    shown[400, 0] = -0.0  # the same stimulus
    with pytest.warns(RuntimeWarning, match=rf"^X: {len(shown) - 400} of {len(shown)} stimuli are duplicates of oth"):
        assert intrinsic_dimension(rng.permutation(shown)) == pytest.approx(intrinsic_dimension(X), rel=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("apart", [1e4, 1e7])
def test_intrinsic_dimension_of_two_clusters_far_apart_is_by_their_true_neighbours(
    rng: np.random.Generator, d: int, apart: float
) -> None:
    X = rng.normal(size=(600, d)) + apart * (np.arange(600) % 2)[:, None]
    assert intrinsic_dimension(X) == pytest.approx(slow_two_nn(X), rel=1e-9)


def test_intrinsic_dimension_of_stimuli_with_many_equally_near_is_by_true_neighbours() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 5), axis=-1).reshape(-1, 5)
    grid[:, 0] = np.array([0, 0.9, 2.7])[grid[:, 0].astype(int)]  # nearest 0.9 and 1, or 1 and 1
    assert intrinsic_dimension(grid) == pytest.approx(242 / (162 * math.log(1 / 0.9)), rel=1e-9)


def test_intrinsic_dimension_of_near_neighbours_far_apart_keeps_its_digits(rng: np.random.Generator) -> None:
    # Beside the squares of the whole, 1e-18, the squared distances within a triple are less than rounding.
    centres = rng.normal(size=(10, 1, 4))
    triples = centres + 2.0**-30 * np.array([[[0, 0, 0, 0]], [[1, 0, 0, 0]], [[0, 2, 0, 0]]]).swapaxes(0, 1)
    # Distances 1, 2; 1, root 5; 2, root 5: ratios 2, root 5, root 5 / 2, up to the rounding of the coordinates.
    assert intrinsic_dimension(triples.reshape(30, 4)) == pytest.approx(29 / (10 * math.log(5)), rel=1e-5)


def test_intrinsic_dimension_without_ratios_is_nan(rng: np.random.Generator) -> None:
    for rotation in (np.eye(5), np.linalg.qr(rng.normal(size=(5, 5)))[0]):
        with pytest.warns(RuntimeWarning, match=r"^X: the two nearest of each stimulus are equally far\. "):
            assert math.isnan(intrinsic_dimension(np.eye(5) @ rotation))
    with pytest.warns(RuntimeWarning, match=r"^X: only 2 of 5 stimuli are distinct\. Its intrinsic dimension is NaN"):
        assert math.isnan(intrinsic_dimension([[0], [0], [1], [1], [1]]))


def test_intrinsic_dimension_refuses_two_stimuli() -> None:
    with pytest.raises(ValueError, match=r"^X has 2 stimuli; .* at least 3\."):
        intrinsic_dimension(np.eye(2))


@pytest.mark.parametrize("shape", [(30, 6), (10, 50), (2, 3), (20, 1)])
def test_participation_ratio_equals_that_of_the_eigenvalues(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    X = rng.normal(size=shape) * np.linspace(1, 4, shape[1]) + 7
    eigenvalues = np.linalg.eigvalsh(np.atleast_2d(np.cov(X.T)))
    assert participation_ratio(X) == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-12)


def test_golden_participation_ratio() -> None:
    # Variances 1 and 3: 16 / 10.
    x, y = np.array([[1.0, 1, -1, -1], [1, -1, 1, -1]])
    assert participation_ratio(np.column_stack([x, math.sqrt(3) * y])) == pytest.approx(1.6)
    assert participation_ratio(np.eye(7)) == pytest.approx(6)


@pytest.mark.parametrize("shape", [(4, 2000), (2000, 4)])
def test_participation_ratio_takes_the_smaller_of_the_two_products(
    rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    X = rng.normal(size=shape)
    tracemalloc.start()
    participation_ratio(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * X.nbytes  # the larger product takes 500 times that


# Classes


def slow_separation(X: np.ndarray, labels: np.ndarray) -> float:
    """Sums over pairs as in Kornblith et al."""
    D, classes = cdist(X, X, "cosine"), np.unique(labels)
    blocks = np.array([[D[np.ix_(labels == a, labels == b)].mean() for b in classes] for a in classes])
    return 1 - np.diagonal(blocks).mean() / blocks.mean()


def slow_collapse(X: np.ndarray, labels: np.ndarray) -> float:
    classes = np.unique(labels)
    means = np.array([X[labels == c].mean(axis=0) for c in classes])
    within = np.mean([np.cov(X[labels == c].T, bias=True) for c in classes], axis=0)
    between = np.cov(means.T, bias=True)
    return np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / len(classes)


@pytest.mark.parametrize(("d", "c"), [(6, 3), (3, 6), (60, 4)])
def test_class_statistics_equal_their_definitions(rng: np.random.Generator, d: int, c: int) -> None:
    X, labels = some(rng, 30, d, c)
    assert class_separation(X, labels) == pytest.approx(slow_separation(X, labels), abs=1e-12)
    assert neural_collapse(X, labels) == pytest.approx(slow_collapse(X, labels), rel=1e-9)


def test_golden_class_statistics() -> None:
    # Mean directions (1/2, 1/2) and the opposite: squared deviations 1/2 of the means, 1/2 of the patterns.
    assert class_separation([[1, 0], [0, 3], [-2, 0], [0, -1]], [0, 0, 1, 1]) == pytest.approx(0.5)
    # Variance 1 within, 4 between, 2 classes; along the second feature the means do not differ.
    assert neural_collapse([[0, 5], [2, -5], [4, 9], [6, -9]], [0, 0, 1, 1]) == pytest.approx(1 / 8)


def test_class_statistics_of_points_and_of_no_classes(rng: np.random.Generator) -> None:
    labels = np.arange(400) % 4
    points = rng.normal(size=(4, 6))[labels]
    assert class_separation(points, labels) == pytest.approx(1, abs=1e-12)
    assert neural_collapse(points, labels) == pytest.approx(0, abs=1e-20)
    assert class_separation(rng.normal(size=(400, 6)), labels) < 0.05
    assert neural_collapse(rng.normal(size=(400, 6)), labels) > 10


def test_tight_classes_keep_their_digits(rng: np.random.Generator) -> None:
    labels = np.arange(40) % 2
    means, noise = rng.normal(size=(2, 5))[labels], rng.normal(size=(40, 5))
    within = [1 - class_separation(means + step * noise, labels) for step in (1e-3, 1e-6)]
    assert within[0] / within[1] == pytest.approx(1e6, rel=1e-2)
    collapse = [neural_collapse(means + step * noise, labels) for step in (1e-3, 1e-7)]
    assert collapse[0] / collapse[1] == pytest.approx(1e8, rel=1e-2)


@pytest.mark.parametrize(("latent", "d"), [(2, 30), (1, 12), (3, 200)])
def test_neural_collapse_counts_no_directions_of_single_precision_rounding(
    rng: np.random.Generator, latent: int, d: int
) -> None:
    labels = np.arange(200) % 6
    Z = 2 * rng.normal(size=(6, latent))[labels] + rng.normal(size=(200, latent))
    expected = neural_collapse(Z, labels)
    X = Z @ rng.normal(size=(latent, d))
    assert neural_collapse(X, labels) == pytest.approx(expected, rel=1e-9)
    assert neural_collapse(X.astype(np.float32), labels) == pytest.approx(expected, rel=1e-4)
    assert neural_collapse(X.astype(np.float32).astype(np.float64), labels) == pytest.approx(expected, rel=1e-4)


def test_neural_collapse_of_means_that_differ_by_single_precision_rounding_is_nan(rng: np.random.Generator) -> None:
    X = (5 + np.vstack([noise := rng.normal(size=(10, 3)), -noise, noise / 2, -noise / 2])).astype(np.float32)
    with pytest.warns(RuntimeWarning, match=r"^X: the means of all classes are equal, up to rounding\. Its neural col"):
        assert math.isnan(neural_collapse(X, np.repeat([0, 1], 20)))


def test_neural_collapse_of_equal_means_is_nan(rng: np.random.Generator) -> None:
    X, Y = rng.normal(size=(2, 10, 3))
    for classes in ([X, X], [X, -X, Y, -Y]):  # exactly, and up to rounding
        labels = np.repeat([0, 1], 5 * len(classes))
        with pytest.warns(RuntimeWarning, match=r"^X: the means of all classes are equal, up to rounding\. "):
            assert math.isnan(neural_collapse(np.vstack(classes) + 5, labels))
