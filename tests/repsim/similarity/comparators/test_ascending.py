"""Order of many numbers: that of a stable sort, for numbers of any size, sign and precision."""

import numpy as np
import pytest
from numpy.typing import NDArray

from repsim.similarity.comparators.ascending import sort_stably

M = 5_000

VALUES = {
    "different": lambda x: x,
    "tied": lambda x: np.round(x, 1),
    "one far away": lambda x: np.where(np.arange(len(x)) == 0, 1e30, x),
    "over many magnitudes": lambda x: np.exp(20 * x),
    "zeros of both signs": lambda x: np.where(np.arange(len(x)) % 2, 0.0, -0.0),
    "negative": lambda x: -np.abs(x),
    "nearly equal": lambda x: 1 + x * 1e-13,
    "the range of doubles": lambda x: np.where(np.arange(len(x)) == 0, -1e308, np.where(x > 2, 1e308, x)),
    "some tied and some equal in single precision": lambda x: np.where(x > 1, np.round(x, 2), 1 + x * 1e-9),
    "all equal": np.ones_like,
    "subnormal": lambda x: x * 1e-310,
}


@pytest.mark.parametrize("m", [1, 2, 999, M])
@pytest.mark.parametrize("form", ["double", "single", "single precision in doubles"])
@pytest.mark.parametrize("kind", VALUES)
def test_the_order_is_that_of_a_stable_sort(kind: str, form: str, m: int) -> None:
    values: NDArray[np.float64] = VALUES[kind](np.random.default_rng(0).standard_normal(m))
    if form != "double":
        values = np.clip(values, -3e38, 3e38).astype(np.float32)
    if form == "single precision in doubles":
        values = values.astype(np.float64)
    assert_sorted(values)


@pytest.mark.parametrize("form", [np.float64, np.float32])
@pytest.mark.parametrize("kind", VALUES)
def test_many_numbers_are_sorted_as_few_are(monkeypatch: pytest.MonkeyPatch, kind: str, form: type) -> None:
    monkeypatch.setattr("repsim.similarity.comparators.ascending._MANY", M)
    for m in (M, 10 * M):  # torch sorts the former by comparisons, the latter by radix
        assert_sorted(np.clip(VALUES[kind](np.random.default_rng(1).standard_normal(m)), -3e38, 3e38).astype(form))


def assert_sorted(values: NDArray) -> None:
    before = values.copy()
    ascending, order = sort_stably(values)
    np.testing.assert_array_equal(order, np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(ascending, values[order])
    np.testing.assert_array_equal(values, before)


def test_there_may_be_no_numbers() -> None:
    ascending, order = sort_stably(np.empty(0))
    assert ascending.tolist() == order.tolist() == []
