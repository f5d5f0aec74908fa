from collections.abc import Callable

import numpy as np
import pytest

from repsim.similarity.models.theories import categorical_rdm, ordinal_rdm


def test_categorical_rdm_by_hand() -> None:
    np.testing.assert_array_equal(categorical_rdm([3, 1, 3, 2]), [1, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(categorical_rdm(["b", "a", "b", "c"]), [1, 0, 1, 1, 1, 1])


def test_ordinal_rdm_by_hand() -> None:
    np.testing.assert_array_equal(ordinal_rdm([1, 4, 2]), [3, 1, 2])


def test_an_ordinal_rdm_of_two_values_is_categorical(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 2, size=12)
    np.testing.assert_array_equal(ordinal_rdm(labels), categorical_rdm(labels))


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (categorical_rdm, [1, 1, 1], r"^The 3 labels are of 1 classes; expected at least 2, one of"),
        (categorical_rdm, ["a", "b", "c"], r"^The 3 labels are of 3 classes; expected at least 2, one of"),
        (categorical_rdm, [np.nan, np.nan, 1], r"^2 of the 3 labels of the RDM are missing \(None or NaN\); expected"),
        (categorical_rdm, ["1", 1, 2], r"^The 3 labels of the RDM are of mixed kinds \(number, string\)"),
        (ordinal_rdm, [2, 2, 2], r"^All 3 values are 2; expected at least 2 that differ\."),
        (ordinal_rdm, [1, 2, np.nan], r"^values has 1 of 3 values that are NaN or infinite"),
        (categorical_rdm, [[1, 2], [3, 4]], r"^labels has shape \(2, 2\); expected \(n_stimuli,\), at least 2\."),
        (ordinal_rdm, [1], r"^values has shape \(1,\); expected \(n_stimuli,\), at least 2\."),
    ],
)
def test_theories_refuse(model: Callable, values: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(values)
