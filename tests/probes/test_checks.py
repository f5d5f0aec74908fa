import numpy as np
import pytest

from probes.checks import check_positive_integer, is_positive


@pytest.mark.parametrize("value", [1, 0.5, np.float32(2.0), np.int64(3)])
def test_positive_numbers_of_any_type_are_positive(value: object) -> None:
    assert is_positive(value)


@pytest.mark.parametrize("value", [0, -1.0, np.inf, np.nan, "1", None, 1j])
def test_other_values_are_not_positive(value: object) -> None:
    assert not is_positive(value)


@pytest.mark.parametrize("value", [0, -3, 1.0, "1", None])
def test_anything_but_a_positive_integer_is_an_error(value: object) -> None:
    check_positive_integer(np.int64(1), "k")
    with pytest.raises(ValueError, match=f"k is {value!r}; expected a positive integer"):
        check_positive_integer(value, "k")
