"""What every comparator declares, held to every word."""

from collections.abc import Callable

import numpy as np
import pytest

from repsim.similarity import COMPARATORS, Comparator, compare_rdms, rdm
from repsim.similarity.comparators.comparator import TRANSFORMATIONS

MAPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "scale": lambda D: 3 * D,
    "offset": lambda D: D + 0.8 * D.mean(),
    "monotone maps": lambda D: D**5,
}


@pytest.fixture(params=COMPARATORS)
def comparator(request: pytest.FixtureRequest) -> Comparator:
    return COMPARATORS[request.param]


def related(rng: np.random.Generator, k: int = 2, n: int = 9) -> np.ndarray:
    """Squared Euclidean RDMs of patterns that share half of their variance."""
    shared = rng.normal(size=(n, 12))
    return np.stack([rdm(shared + rng.normal(size=(n, 12)), "sqeuclidean") for _ in range(k)])


def mean_value(comparator: Comparator, D: np.ndarray, others: np.ndarray) -> float:
    prepared = comparator.prepare(D)
    return float(np.mean([comparator.compare(prepared, comparator.prepare(other)) for other in others]))


def test_every_transformation_has_a_map() -> None:
    assert set(MAPS) == TRANSFORMATIONS


def test_a_comparator_has_its_declared_invariances_and_no_others(
    rng: np.random.Generator, comparator: Comparator
) -> None:
    for transformation in MAPS:
        A, B = related(rng)
        change = abs(compare_rdms(MAPS[transformation](A), B, comparator.name) - compare_rdms(A, B, comparator.name))
        assert (change < 1e-10) == (transformation in comparator.ignores)
        assert change < 1e-10 or change > 1e-4


def test_a_comparator_is_symmetric(rng: np.random.Generator, comparator: Comparator) -> None:
    A, B = related(rng)
    assert compare_rdms(A, B, comparator.name) == pytest.approx(compare_rdms(B, A, comparator.name), abs=1e-12)


def test_a_comparator_stays_in_its_range(comparator: Comparator) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n = rng.integers(3, 12)
        A, B = rng.integers(0, rng.choice([4, 1000]), size=(2, n * (n - 1) // 2)).astype(float)
        A[:2] = B[:2] = 1, 2  # no constants
        for other in (A, B, 2.7 * A, A / 7):
            assert comparator.range[0] <= compare_rdms(A, other, comparator.name) <= comparator.range[1]


def test_a_comparator_is_best_between_equals(rng: np.random.Generator, comparator: Comparator) -> None:
    A, B = related(rng)
    assert compare_rdms(A, A, comparator.name) == pytest.approx(comparator.range[1], abs=1e-12)
    assert compare_rdms(A, B, comparator.name) < comparator.range[1] - 1e-3


def test_a_comparator_changes_if_stimuli_are_mismatched(rng: np.random.Generator, comparator: Comparator) -> None:
    X = rng.normal(size=(15, 4))
    A, B = rdm(X, "sqeuclidean"), rdm(X[::-1], "sqeuclidean")
    assert compare_rdms(A, B, comparator.name) < comparator.range[1] - 0.05


def test_a_comparator_does_not_depend_on_the_order_of_the_stimuli(
    rng: np.random.Generator, comparator: Comparator
) -> None:
    X, Y = rng.normal(size=(2, 9, 10))
    order = rng.permutation(9)
    before, after = (
        compare_rdms(rdm(x, "sqeuclidean"), rdm(y, "sqeuclidean"), comparator.name)
        for x, y in ((X, Y), (X[order], Y[order]))
    )
    assert after == pytest.approx(before, abs=1e-9)


def test_a_comparator_neither_overflows_nor_vanishes(rng: np.random.Generator, comparator: Comparator) -> None:
    for scale in [1e-200, 1e200]:
        A, B = related(rng)
        assert compare_rdms(scale * A, B, comparator.name) == pytest.approx(
            compare_rdms(A, B, comparator.name), abs=1e-10
        )


def test_a_comparator_leaves_its_input_alone(rng: np.random.Generator, comparator: Comparator) -> None:
    rdms = related(rng)
    before = rdms.copy()
    compare_rdms(*rdms, comparator.name)
    comparator.pool(rdms)
    np.testing.assert_array_equal(rdms, before)


def test_a_comparison_with_zeros_is_nan_with_one_warning(comparator: Comparator) -> None:
    with pytest.warns(RuntimeWarning, match=rf"^B {comparator.undefined}, over 6 pairs; the comparison is NaN\.$") as w:
        assert np.isnan(compare_rdms(np.arange(1, 7), np.zeros(6), comparator.name))
    assert len(w) == 1
    assert w[0].filename == __file__


def test_no_rdm_has_a_better_mean_value_than_an_exact_pool(comparator: Comparator) -> None:
    for seed in range(3):
        if not comparator.is_exact_pool:
            pytest.skip("an approximation, and declared one")
        rng = np.random.default_rng(seed)
        rdms = related(rng, 5)
        pool = comparator.pool(rdms)
        best = mean_value(comparator, pool, rdms)
        others = [*rdms, *(pool * np.exp(size * rng.normal(size=pool.shape)) for size in 25 * [1e-3, 0.1])]
        assert max(mean_value(comparator, other, rdms) for other in others) <= best + 1e-12


def test_a_pool_is_better_than_the_mean_rdm_of_another_scale_and_than_most_members(comparator: Comparator) -> None:
    for seed in range(3):
        rdms = related(np.random.default_rng(seed), 6) * np.array([1, 1, 1, 1, 1, 50])[:, None]
        best = mean_value(comparator, comparator.pool(rdms), rdms)
        assert best > np.median([mean_value(comparator, member, rdms) for member in rdms])
        assert best > mean_value(comparator, rdms.mean(axis=0), rdms)


def test_a_pool_of_one_rdm_is_equivalent_to_it(rng: np.random.Generator, comparator: Comparator) -> None:
    rdms = related(rng, 1)
    assert mean_value(comparator, comparator.pool(rdms), rdms) == pytest.approx(comparator.range[1], abs=1e-6)


def test_a_linear_comparator_is_the_cosine_after_its_map(rng: np.random.Generator, comparator: Comparator) -> None:
    if comparator.linear is None:
        pytest.skip("not linear, and not declared so")
    A, B = related(rng)
    a, b = comparator.linear(A), comparator.linear(B)
    np.testing.assert_allclose(comparator.linear(2 * A - B), 2 * a - b, atol=1e-12)
    expected = a @ b / np.sqrt((a @ a) * (b @ b))
    assert compare_rdms(A, B, comparator.name) == pytest.approx(expected, abs=1e-12)


def test_comparators_are_listed_by_name(comparator: Comparator) -> None:
    assert COMPARATORS[comparator.name] is comparator
    assert all((comparator.about.reference, comparator.about.formula, comparator.about.cost, comparator.about.use))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"ignores": frozenset({"noise"})}, r"^Unknown transformations \['noise'\]\. Choose among: monotone maps, off"),
        ({"ignores": frozenset({"monotone maps"})}, r"^A comparator that ignores monotone maps ignores scale and off"),
    ],
)
def test_a_comparator_refuses_a_declaration(field: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Comparator(**({"name": "c", "prepare": max, "compare": max, "pool": max} | field))
