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


@pytest.mark.parametrize(("labels", "n_classes"), [([1, 1, 1], 1), (["a", "b", "c"], 3)])
def test_categorical_rdm_refuses_labels_that_tell_nothing(labels: list, n_classes: int) -> None:
    with pytest.raises(ValueError, match=rf"^The 3 labels are of {n_classes} classes; expected at least 2, one of"):
        categorical_rdm(labels)


def test_categorical_rdm_refuses_missing_and_mixed_labels() -> None:
    with pytest.raises(
        ValueError, match=r"^2 of the 3 labels of the RDM are missing \(None or NaN\); expected one for "
    ):
        categorical_rdm([np.nan, np.nan, 1])
    with pytest.raises(ValueError, match=r"^1 of the 3 labels of the RDM are missing"):
        categorical_rdm(["a", "a", None])
    with pytest.raises(ValueError, match=r"^The 3 labels of the RDM are of mixed kinds \(number, string\)"):
        categorical_rdm(["1", 1, 2])


def test_ordinal_rdm_refuses_equal_values() -> None:
    with pytest.raises(ValueError, match=r"^All 3 values are 2; expected at least 2 that differ\."):
        ordinal_rdm([2, 2, 2])


def test_ordinal_rdm_refuses_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match=r"^values has 1 of 3 values that are NaN or infinite"):
        ordinal_rdm([1, 2, np.nan])


@pytest.mark.parametrize("model", [categorical_rdm, ordinal_rdm])
@pytest.mark.parametrize("values", [[[1, 2], [3, 4]], [1]])
def test_models_refuse_what_is_not_one_for_each_stimulus(model: Callable, values: list) -> None:
    with pytest.raises(ValueError, match=r"^(labels|values) has shape \(.*\); expected \(n_stimuli,\), at least 2\."):
        model(values)
