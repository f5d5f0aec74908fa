"""Declarations of all measures, tested one by one."""

import math
import re
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch

from repsim.similarity import MEASURES, Measure, Moments, linear_cka, minibatch_cka, pairwise, streamed_pairwise
from repsim.similarity.entries import INVARIANCES
from tests.repsim.similarity.synthetic import TRANSFORMS, related

Make = Callable[[np.random.Generator, int, int], np.ndarray]


def sums_in_any_order(rng: np.random.Generator, n: int, d: int, kind: type, mean: float = 0.3) -> np.ndarray:
    """Add the same 512 numbers for every stimulus, each time in another order."""
    terms = (rng.normal(size=(d, 512)) + mean).astype(kind)
    return np.stack([np.cumsum(terms[:, rng.permutation(512)], axis=1, dtype=kind)[:, -1] for _ in range(n)])


# Layers that are constant up to rounding.
CONSTANTS: dict[str, Make] = {
    "exactly": lambda rng, n, d: np.repeat(rng.normal(size=(1, d)), n, axis=0),
    "0.1": lambda rng, n, d: np.full((n, d), 0.1),
    "a large bias, single": lambda rng, n, d: (1e3 + 1e-4 * rng.normal(size=(n, d))).astype(np.float32),
    "a large bias, single in double": lambda rng, n, d: np.float64(np.float32(1e3 + 1e-4 * rng.normal(size=(n, d)))),
    "order of summation, single": lambda rng, n, d: sums_in_any_order(rng, n, d, np.float32),
    "order of summation, double": lambda rng, n, d: sums_in_any_order(rng, n, d, np.float64),
    "sums near zero, single": lambda rng, n, d: sums_in_any_order(rng, n, d, np.float32, 0.0),
    "sums near zero, double": lambda rng, n, d: sums_in_any_order(rng, n, d, np.float64, 0.0),
    "signs of zero": lambda rng, n, d: np.where(rng.random((n, d)) < 0.5, -0.0, 0.0),
}


@pytest.fixture(params=MEASURES)
def measure(request: pytest.FixtureRequest) -> Measure:
    return MEASURES[request.param]


def test_every_invariance_has_a_transform() -> None:
    assert set(TRANSFORMS) == INVARIANCES


def test_a_measure_has_its_declared_invariances_and_no_others(rng: np.random.Generator, measure: Measure) -> None:
    X, Y = related(rng)
    sides = [lambda Z: measure(Z, Y), lambda Z: measure(Y, Z)][: 1 + measure.is_symmetric]
    for side in sides:
        before = side(X)
        changes = {name: abs(side(transform(X, rng)) - before) for name, transform in TRANSFORMS.items()}
        assert {name for name, change in changes.items() if change < 1e-8} == measure.invariances
        assert all(change < 1e-8 or change > 1e-4 for change in changes.values())


def test_a_measure_is_symmetric_as_it_declares(rng: np.random.Generator, measure: Measure) -> None:
    X, Y = related(rng)
    assert (abs(measure(X, Y) - measure(Y, X)) < 1e-9) == measure.is_symmetric


def test_a_measure_stays_in_its_range(rng: np.random.Generator, measure: Measure) -> None:
    for _ in range(20):
        d1, d2 = rng.integers(2, 6, size=2)
        n = rng.integers(d1 + d2 + 2, 30)
        X, _ = related(rng)
        unrelated = measure(rng.normal(size=(n, d1)), rng.normal(size=(n, d2)))
        equals = [measure(X, Z) for Z in (X, TRANSFORMS["orthogonal"](X, rng), TRANSFORMS["isotropic scaling"](X, rng))]
        assert measure.range[0] <= min(unrelated, *equals) <= max(unrelated, *equals) <= measure.range[1]


def test_a_measure_is_best_between_equals(rng: np.random.Generator, measure: Measure) -> None:
    X, Y = related(rng)
    best = measure.range[1] if measure.direction == "similarity" else measure.range[0]
    assert measure(X, X) == pytest.approx(best, abs=1e-7)
    assert abs(measure(X, Y) - best) > 1e-3
    assert not measure.is_metric or best == 0


@pytest.mark.parametrize("name", [name for name, measure in MEASURES.items() if measure.is_metric])
def test_a_metric_obeys_the_triangle_inequality(name: str) -> None:
    measure = MEASURES[name]
    for seed in range(50):
        rng = np.random.default_rng(seed)
        A = rng.normal(size=(12, 3))
        step = rng.choice([0.1, 1.0, 10.0])
        B = A[:, :2] + step * rng.normal(size=(12, 2))
        C = B + step * rng.normal(size=(12, 2))
        ab, bc, ac = measure(A, B), measure(B, C), measure(A, C)
        assert ac <= ab + bc + 1e-9


def test_a_measure_changes_if_stimuli_are_mismatched(rng: np.random.Generator, measure: Measure) -> None:
    X, _ = related(rng)
    assert abs(measure(X, X[rng.permutation(len(X))]) - measure(X, X)) > 0.05


def test_a_measure_does_not_depend_on_the_order_of_the_stimuli(rng: np.random.Generator, measure: Measure) -> None:
    X, Y = related(rng)
    order = rng.permutation(len(X))
    assert measure(X[order], Y[order]) == pytest.approx(measure(X, Y), abs=1e-9)


def test_a_measure_accepts_or_rejects_wide_representations(rng: np.random.Generator, measure: Measure) -> None:
    X, Y = rng.normal(size=(2, 10, 40))
    try:
        value = measure(X, Y)
    except ValueError as error:
        assert re.match(r"X has 10 stimuli", str(error))
    else:
        assert measure.range[0] <= value <= measure.range[1]


OF_DEVIATIONS = [name for name, measure in MEASURES.items() if "translation" in measure.invariances]


def test_a_measure_of_a_constant_representation_is_nan_and_warns_once(
    rng: np.random.Generator, measure: Measure
) -> None:
    for side, make in product((0, 1), CONSTANTS.values()):
        both = list(related(rng))
        both[side] = make(rng, 30, 24)
        message = rf"^1 of 2 representations \({'XY'[side]}\) .*constant.* Their {re.escape(measure.label)} is NaN\.$"
        with pytest.warns(RuntimeWarning, match=message) as caught:
            assert math.isnan(measure(*both))
        assert len(caught) == 1
        assert caught[0].filename == __file__


def test_pairs_with_a_constant_representation_are_nan_with_one_warning(
    rng: np.random.Generator, measure: Measure
) -> None:
    for make in CONSTANTS.values():
        X, Y = related(rng)
        layers = {"x": X, "flat": make(rng, 30, 24), "y": Y}
        with pytest.warns(RuntimeWarning, match=r"^1 of 3 representations \(X\['flat'\]\) .*constant") as caught:
            values = pairwise(layers, measure=measure).values
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert np.isnan(values[1]).all()
        assert np.isnan(values[:, 1]).all()
        assert np.isfinite(values[[0, 0, 2, 2], [0, 2, 0, 2]]).all()


def test_a_measure_of_a_small_signal_is_defined(rng: np.random.Generator, measure: Measure) -> None:
    X, Y = related(rng)
    for kind in (np.float32, np.float64):
        for small in (1 + 1e-3 * X, 1e-20 * X):
            assert measure.range[0] <= measure(small.astype(kind), Y) <= measure.range[1]


EXTREMES = [(1e20, np.float32), (1e36, np.float32), (1e-30, np.float32), (1e-200, np.float64), (1e200, np.float64)]


def test_a_measure_neither_overflows_nor_vanishes(rng: np.random.Generator, measure: Measure) -> None:
    X, Y = related(rng)
    for scale, kind in EXTREMES:
        extreme = (scale * X).astype(kind)
        expected = measure(extreme.astype(np.float64) / scale, Y)
        assert measure(extreme, Y) == pytest.approx(expected, abs=1e-9)


def test_a_measure_takes_half_precision(rng: np.random.Generator, measure: Measure) -> None:
    X, Y = 1e4 * rng.normal(size=(30, 4)), rng.normal(size=(30, 5))
    for half in (X.astype(np.float16), torch.from_numpy(X).to(torch.bfloat16)):
        exact = half.double().numpy() if isinstance(half, torch.Tensor) else half.astype(np.float64)
        assert measure(half, Y) == pytest.approx(measure(exact, Y), abs=1e-12)


@pytest.mark.parametrize("name", OF_DEVIATIONS)
def test_a_measure_takes_single_precision_with_a_large_mean(rng: np.random.Generator, name: str) -> None:
    measure = MEASURES[name]
    X, Y = (100 + 1e-3 * rng.normal(size=(2, 30, 5))).astype(np.float32)
    shifted = measure(X.astype(np.float64) - 100, Y.astype(np.float64) - 100)
    assert measure(X, Y) == pytest.approx(shifted, abs=1e-8)


def test_a_measure_leaves_its_input_alone(rng: np.random.Generator, measure: Measure) -> None:
    X, Y = related(rng)
    before = X.copy(), Y.copy()
    measure(X, Y)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


def test_a_measure_names_the_representation_that_is_not_finite(measure: Measure) -> None:
    for name in "XY":
        both = {"X": np.eye(30, 5), "Y": np.eye(30, 5)} | {name: np.full((30, 5), np.nan)}
        with pytest.raises(ValueError, match=f"^{name} has 150 of 150 values that are NaN or infinite"):
            measure(**both)


def test_a_measure_refuses_different_numbers_of_stimuli(measure: Measure) -> None:
    message = r"^X has 51 samples and Y has 50; both must come from the same stimuli in the same order\. Record both"
    with pytest.raises(ValueError, match=message):
        measure(np.zeros((51, 2)), np.zeros((50, 2)))


def test_a_measure_is_the_same_among_all_pairs(rng: np.random.Generator, measure: Measure) -> None:
    X, Y = related(rng)
    layers = {"x": X, "y": Y, "z": X[:, :2] + 1}
    expected = [[measure(a, b) for b in layers.values()] for a in layers.values()]
    np.testing.assert_allclose(pairwise(layers, measure=measure.name).values, expected, atol=1e-8)


def test_measures_are_listed_by_name(measure: Measure) -> None:
    assert MEASURES[measure.name] is measure
    assert measure.label != measure.name
    assert all((measure.about.reference, measure.about.formula, measure.about.cost, measure.about.use))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"invariances": frozenset({"mirror"})}, r"^Unknown invariances \['mirror'\]\. Choose among: invertible linea"),
        ({"direction": "up"}, r"^Unknown direction 'up'\. Choose one of: distance, similarity\.$"),
        (
            {"invariances": frozenset({"orthogonal"})},
            r"^Invariance to orthogonal transformations implies invariance to permutation; name both\.$",
        ),
        ({"is_metric": True, "is_symmetric": False}, r"^A metric is symmetric; set is_symmetric=True or"),
    ],
)
def test_invalid_declarations_of_a_measure_are_rejected(field: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Measure(**({"name": "m", "prepare": max, "compare": max} | field))


# Stimuli


class Recorded(np.ndarray):
    """An array that knows its stimuli."""

    stimulus_ids: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, ids: list[str]) -> "Recorded":
        array = X.view(cls)
        array.stimulus_ids = np.array(ids)
        return array


IDS = [f"img{k}" for k in range(30)]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([*IDS[:28], "img29", "img28"], r"^X and Y are of different stimuli: at position 28 'img28' and 'img29'\. Rec"),
        (IDS[:29], r"^X and Y are of different stimuli: at position 29 'img29' and nothing\."),
    ],
)
def test_ids_of_stimuli_are_compared_not_only_their_number(
    rng: np.random.Generator, ids: list[str], message: str
) -> None:
    X, Y = related(rng)
    X, other = Recorded.of(X, IDS), Recorded.of(Y[: len(ids)], ids)
    with pytest.raises(ValueError, match=message):
        linear_cka(X, other)
    for compare in (pairwise, streamed_pairwise, Moments().update, lambda batch: minibatch_cka([batch])):
        with pytest.raises(ValueError, match=message.replace("X and Y", r"\S+ and \S+")):
            compare({"x": X, "y": other})
    assert linear_cka(X, Recorded.of(Y, IDS)) == linear_cka(X, Y)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("name", [name for name, measure in MEASURES.items() if measure.together is not None])
def test_products_on_a_torch_device_equal_those_of_numpy(rng: np.random.Generator, name: str, device: str) -> None:
    for n, d in ((200, 5), (30, 90)):
        layers = {name: rng.normal(size=(n, d)) + 1 for name in "abc"}
        values = pairwise(layers, measure=name, device=device).values
        np.testing.assert_allclose(values, pairwise(layers, measure=name).values, atol=1e-12)
