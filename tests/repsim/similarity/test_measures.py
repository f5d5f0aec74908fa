"""What every measure declares, held to every word."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from repsim.similarity import MEASURES, Measure, Moments, linear_cka, minibatch_cka, pairwise, streamed_pairwise
from repsim.similarity.measures.measure import INVARIANCES

Related = Callable[..., tuple[np.ndarray, np.ndarray]]

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


def square(rng: np.random.Generator, X: np.ndarray) -> np.ndarray:
    return rng.normal(size=2 * X.shape[1:])


TRANSFORMS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "permutation": lambda X, rng: X[:, np.roll(np.arange(X.shape[1]), 1)],
    "orthogonal": lambda X, rng: X @ np.linalg.qr(square(rng, X))[0],
    "isotropic scaling": lambda X, rng: 2.5 * X,
    "translation": lambda X, rng: X + 3 * rng.normal(size=X.shape[1]),
    "invertible linear": lambda X, rng: X @ square(rng, X),
}


def test_every_invariance_has_a_transform() -> None:
    assert set(TRANSFORMS) == INVARIANCES


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_measure_ignores_what_it_declares_and_nothing_else(
    rng: np.random.Generator, related: Related, measure: Measure, transform: str
) -> None:
    X, Y = related(rng)
    changed = TRANSFORMS[transform](X, rng)
    for one, other in ((measure.function(changed, Y), measure.function(X, Y)),) + (
        ((measure.function(Y, changed), measure.function(Y, X)),) if measure.is_symmetric else ()
    ):
        assert (abs(one - other) < 1e-8) == (transform in measure.invariances)
        assert abs(one - other) < 1e-8 or abs(one - other) > 1e-4


def test_a_measure_is_symmetric_as_it_declares(rng: np.random.Generator, related: Related, measure: Measure) -> None:
    X, Y = related(rng)
    assert (abs(measure.function(X, Y) - measure.function(Y, X)) < 1e-9) == measure.is_symmetric


@pytest.mark.parametrize("seed", range(20))
def test_a_measure_stays_in_its_range(measure: Measure, seed: int) -> None:
    rng = np.random.default_rng(seed)
    d1, d2 = rng.integers(2, 6, size=2)
    n = rng.integers(d1 + d2 + 2, 30)
    value = measure.function(rng.normal(size=(n, d1)), rng.normal(size=(n, d2)))
    assert measure.range[0] <= value <= measure.range[1]


def test_a_measure_is_best_between_equals(rng: np.random.Generator, related: Related, measure: Measure) -> None:
    X, Y = related(rng)
    best = measure.range[1] if measure.direction == "similarity" else measure.range[0]
    assert measure.function(X, X) == pytest.approx(best, abs=1e-7)
    assert abs(measure.function(X, Y) - best) > 1e-3
    assert not measure.is_metric or best == 0


def test_a_measure_does_not_round_beyond_its_range(
    rng: np.random.Generator, related: Related, measure: Measure
) -> None:
    for _ in range(20):
        X, _ = related(rng)
        for changed in (X, TRANSFORMS["orthogonal"](X, rng), TRANSFORMS["isotropic scaling"](X, rng)):
            assert measure.range[0] <= measure.function(X, changed) <= measure.range[1]


@pytest.mark.parametrize("name", [name for name, measure in MEASURES.items() if measure.is_metric])
def test_a_metric_obeys_the_triangle_inequality(name: str) -> None:
    function = MEASURES[name].function
    for seed in range(50):
        rng = np.random.default_rng(seed)
        A = rng.normal(size=(12, 3))
        step = rng.choice([0.1, 1.0, 10.0])
        B = A[:, :2] + step * rng.normal(size=(12, 2))
        C = B + step * rng.normal(size=(12, 2))
        ab, bc, ac = function(A, B), function(B, C), function(A, C)
        assert ac <= ab + bc + 1e-9


def test_a_measure_depends_on_which_stimulus_is_which(
    rng: np.random.Generator, related: Related, measure: Measure
) -> None:
    X, _ = related(rng)
    assert abs(measure.function(X, X[rng.permutation(len(X))]) - measure.function(X, X)) > 0.05


def test_a_measure_does_not_depend_on_the_order_of_the_stimuli(
    rng: np.random.Generator, related: Related, measure: Measure
) -> None:
    X, Y = related(rng)
    order = rng.permutation(len(X))
    assert measure.function(X[order], Y[order]) == pytest.approx(measure.function(X, Y), abs=1e-9)


def test_a_measure_takes_wide_representations_or_refuses(rng: np.random.Generator, measure: Measure) -> None:
    X, Y = rng.normal(size=(2, 10, 40))
    try:
        value = measure.function(X, Y)
    except ValueError as error:
        assert re.match(r"X has 10 stimuli", str(error))
    else:
        assert measure.range[0] <= value <= measure.range[1]


OF_DEVIATIONS = [name for name, measure in MEASURES.items() if "translation" in measure.invariances]


@pytest.mark.parametrize("constant", CONSTANTS)
@pytest.mark.parametrize("side", [0, 1])
def test_a_measure_of_a_constant_representation_is_nan_and_says_so(
    rng: np.random.Generator, related: Related, measure: Measure, side: int, constant: str
) -> None:
    both = list(related(rng))
    both[side] = CONSTANTS[constant](rng, 30, 24)
    with pytest.warns(RuntimeWarning, match=rf"^1 of 2 representations \({'XY'[side]}\) .*constant.* NaN\.$") as caught:
        assert math.isnan(measure.function(*both))
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("constant", CONSTANTS)
def test_pairs_with_a_constant_representation_are_nan_and_said_so_once(
    rng: np.random.Generator, related: Related, measure: Measure, constant: str
) -> None:
    X, Y = related(rng)
    layers = {"x": X, "flat": CONSTANTS[constant](rng, 30, 24), "y": Y}
    with pytest.warns(RuntimeWarning, match=r"^1 of 3 representations \(X\['flat'\]\) .*constant") as caught:
        values = pairwise(layers, measure=measure).values
    assert len(caught) == 1
    assert np.isnan(values[1]).all()
    assert np.isnan(values[:, 1]).all()
    assert np.isfinite(values[[0, 0, 2, 2], [0, 2, 0, 2]]).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_a_measure_of_a_small_signal_is_defined(
    rng: np.random.Generator, related: Related, measure: Measure, mean: float, kind: type
) -> None:
    X, Y = related(rng)
    small = ((mean + 1e-3 * X) if mean else 1e-20 * X).astype(kind)
    assert measure.range[0] <= measure.function(small, Y) <= measure.range[1]


EXTREMES = [(1e20, np.float32), (1e36, np.float32), (1e-30, np.float32), (1e-200, np.float64), (1e200, np.float64)]


@pytest.mark.parametrize(("scale", "kind"), EXTREMES)
def test_a_measure_neither_overflows_nor_vanishes(
    rng: np.random.Generator, related: Related, measure: Measure, scale: float, kind: type
) -> None:
    X, Y = related(rng)
    extreme = (scale * X).astype(kind)
    expected = measure.function(extreme.astype(np.float64) / scale, Y)
    assert measure.function(extreme, Y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", [np.float16, torch.bfloat16])
def test_a_measure_takes_half_precision(rng: np.random.Generator, measure: Measure, kind: Any) -> None:
    X, Y = 1e4 * rng.normal(size=(30, 4)), rng.normal(size=(30, 5))
    half = X.astype(kind) if kind is np.float16 else torch.from_numpy(X).to(kind)
    exact = np.asarray(half if kind is np.float16 else half.float()).astype(np.float64)
    assert measure.function(half, Y) == pytest.approx(measure.function(exact, Y), abs=1e-12)


@pytest.mark.parametrize("side", [0, 1])
def test_a_measure_of_zeros_is_nan_and_says_so(
    rng: np.random.Generator, related: Related, measure: Measure, side: int
) -> None:
    both = list(related(rng))
    both[side] = np.zeros((30, 4))
    with pytest.warns(RuntimeWarning, match=rf"^1 of 2 representations \({'XY'[side]}\) .* NaN\.$"):
        assert math.isnan(measure.function(*both))


@pytest.mark.parametrize("name", OF_DEVIATIONS)
def test_a_measure_takes_single_precision_with_a_large_mean(rng: np.random.Generator, name: str) -> None:
    measure = MEASURES[name]
    X, Y = (100 + 1e-3 * rng.normal(size=(2, 30, 5))).astype(np.float32)
    shifted = measure.function(X.astype(np.float64) - 100, Y.astype(np.float64) - 100)
    assert measure.function(X, Y) == pytest.approx(shifted, abs=1e-8)


def test_a_measure_leaves_its_input_alone(rng: np.random.Generator, related: Related, measure: Measure) -> None:
    X, Y = related(rng)
    before = X.copy(), Y.copy()
    measure.function(X, Y)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


@pytest.mark.parametrize("name", ["X", "Y"])
def test_a_measure_names_the_representation_that_is_not_finite(measure: Measure, name: str) -> None:
    both = {"X": np.eye(30, 5), "Y": np.eye(30, 5)} | {name: np.full((30, 5), np.nan)}
    with pytest.raises(ValueError, match=f"^{name} has 150 of 150 values that are NaN or infinite"):
        measure.function(**both)


def test_a_measure_refuses_different_numbers_of_stimuli(measure: Measure) -> None:
    message = r"^X has 51 samples and Y has 50; both must come from the same stimuli in the same order\."
    with pytest.raises(ValueError, match=message):
        measure.function(np.zeros((51, 2)), np.zeros((50, 2)))


def test_a_measure_is_the_same_among_all_pairs(rng: np.random.Generator, related: Related, measure: Measure) -> None:
    X, Y = related(rng)
    layers = {"x": X, "y": Y, "z": X[:, :2] + 1}
    expected = [[measure.function(a, b) for b in layers.values()] for a in layers.values()]
    np.testing.assert_allclose(pairwise(layers, measure=measure.name).values, expected, atol=1e-8)


def test_measures_are_listed_by_name(measure: Measure) -> None:
    assert MEASURES[measure.name] is measure
    assert all((measure.reference, measure.formula, measure.cost, measure.use))


VALID = {
    "name": "m",
    "function": max,
    "prepare": max,
    "compare": max,
    "formula": "m",
    "range": (0, 1),
    "direction": "distance",
    "is_metric": False,
    "invariances": frozenset(),
    "cost": "1",
    "use": "never",
    "reference": "none",
}


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            {"invariances": frozenset({"mirror"})},
            r"^Unknown invariances \['mirror'\]\. Choose among: invertible linear, isotropic",
        ),
        ({"direction": "up"}, r"^Unknown direction 'up'\. Choose one of: distance, similarity\.$"),
        ({"range": (1, 0)}, r"^The range \(1, 0\) is empty; expected \(smallest, largest\)\.$"),
        (
            {"invariances": frozenset({"orthogonal"})},
            r"^A measure invariant to orthogonal transformations is so to permutation; name both\.$",
        ),
        ({"is_metric": True, "is_symmetric": False}, r"^A metric is symmetric\.$"),
    ],
)
def test_a_measure_refuses_a_declaration(field: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Measure(**(VALID | field))


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
        (
            [*IDS[:28], "img29", "img28"],
            r"^X and Y are of different stimuli: at position 28 'img28' and 'img29'\. Record",
        ),
        (IDS[:29], r"^X and Y are of different stimuli: at position 29 'img29' and nothing\."),
    ],
)
def test_ids_of_stimuli_are_compared_not_only_their_number(
    rng: np.random.Generator, related: Related, ids: list[str], message: str
) -> None:
    X, Y = related(rng)
    X, other = Recorded.of(X, IDS), Recorded.of(Y[: len(ids)], ids)
    with pytest.raises(ValueError, match=message):
        linear_cka(X, other)
    for compare in (pairwise, streamed_pairwise, Moments().update, lambda batch: minibatch_cka([batch])):
        with pytest.raises(ValueError, match=message.replace("X and Y", r"\S+ and \S+")):
            compare({"x": X, "y": other})
    assert linear_cka(X, Recorded.of(Y, IDS)) == linear_cka(X, Y)


DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [name for name, measure in MEASURES.items() if measure.together is not None])
def test_torch_multiplies_where_it_is_told_to(rng: np.random.Generator, name: str, device: str) -> None:
    for n, d in ((200, 5), (30, 90)):
        layers = {name: rng.normal(size=(n, d)) + 1 for name in "abc"}
        values = pairwise(layers, measure=name, device=device).values
        np.testing.assert_allclose(values, pairwise(layers, measure=name).values, atol=1e-12)
