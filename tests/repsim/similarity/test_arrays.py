import numpy as np
import pytest

from repsim.similarity.arrays import centred


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("n", [3, 10, 1000, 4097])
def test_centred_takes_equal_values_to_exactly_zero(rng: np.random.Generator, axis: int, n: int) -> None:
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
