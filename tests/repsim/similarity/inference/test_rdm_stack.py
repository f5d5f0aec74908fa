import numpy as np
import pytest

from repsim.similarity import COMPARATORS
from repsim.similarity.inference.rdm_stack import first_equal


@pytest.mark.parametrize("method", COMPARATORS)
def test_rdms_are_equal_up_to_what_a_comparator_ignores(rng: np.random.Generator, method: str) -> None:
    for dtype in [np.float64, np.float32]:
        a = rng.uniform(0.1, 1, size=45).astype(dtype)
        other = a.copy()
        other[3] *= 1 + dtype(1e-3)
        transformed = {"scale": dtype(0.3) * a, "offset": a + dtype(7), "monotone maps": a**3}
        rdms = np.stack([a, *transformed.values(), other, a.max() - a]).astype(np.float64)
        ignored = [name in COMPARATORS[method].ignores for name in transformed]
        expected = [0, *(0 if each else k for k, each in enumerate(ignored, 1)), 4, 5]
        if "monotone maps" in COMPARATORS[method].ignores:
            other_order = np.argsort(other).tolist() != np.argsort(a).tolist()
            expected[4] = 4 if other_order else 0
        np.testing.assert_array_equal(first_equal(rdms, COMPARATORS[method]), expected)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_rounding_of_large_offsets_and_scales_is_no_difference(
    rng: np.random.Generator, scale: float, offset: float
) -> None:
    a = rng.uniform(size=45)
    assert first_equal(np.stack([a, scale * (3.7 * a + offset)]), COMPARATORS["pearson"])[1] == 0


def test_whole_numbers_that_differ_are_different(rng: np.random.Generator) -> None:
    a = rng.integers(1000, size=45).astype(float)
    b = a.copy()
    b[0] += 1
    assert first_equal(np.stack([a, b, b]), COMPARATORS["cosine"]).tolist() == [0, 1, 1]
