from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from repsim.similarity import class_separation, class_structure, neural_collapse, rdm
from repsim.similarity.conditions import class_codes


@pytest.mark.parametrize(
    "labels",
    [
        ["b", "a", "b"],
        [2, 1.5, np.int64(2)],
        [True, False, np.True_],
        range(3, 0, -1),
        torch.tensor([1, 0, 1]),
        pd.Series(["b", "a", "b"]),
        pd.Categorical(["b", "a", "b"]),
        np.array(["b", np.str_("a"), "b"], dtype=object),
        np.array(["2021", "2020", "2021"], dtype="M8[Y]"),
    ],
)
def test_codes_are_those_of_numpy(labels: object) -> None:
    expected = np.unique(np.asarray(labels), return_inverse=True)[1]
    np.testing.assert_array_equal(class_codes(labels, 3, "labels", "X"), expected)


@pytest.mark.parametrize(
    "labels",
    [
        [np.nan, np.nan, 1],
        ["a", None, np.nan],
        [None, None, 1],
        np.array([1, np.nan, np.nan], dtype=np.float32),
        np.array(["NaT", "NaT", "2020"], dtype="M8[Y]"),
        np.array(["a", None, np.nan], dtype=object),
        np.ma.array([1, 2, 3], mask=[1, 1, 0]),
        pd.array([1, None, pd.NA]),
        pd.Categorical(["a", None, None]),
    ],
)
def test_missing_labels_are_no_class(labels: object) -> None:
    message = r"^2 of the 3 labels of X are missing \(None or NaN\); expected one for each of the rows\. Leave out the"
    with pytest.raises(ValueError, match=message):
        class_codes(labels, 3, "labels", "X")


@pytest.mark.parametrize(
    ("labels", "kinds"),
    [
        ([1, "1", "a"], "number, string"),
        (np.array(["a", 1, 2.5], dtype=object), "number, string"),
        ([True, 1, 2], "Boolean, number"),
        (["a", b"a", "b"], "bytes, string"),
    ],
)
def test_labels_of_mixed_kinds_are_refused(labels: object, kinds: str) -> None:
    with pytest.raises(ValueError, match=rf"^The 3 labels of X are of mixed kinds \({kinds}\); expected all numbers o"):
        class_codes(labels, 3, "labels", "X")


def test_labels_without_an_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^The 2 labels of X \(dict\) have no order; expected all numbers or all str"):
        class_codes([{}, {}], 2, "labels", "X")


def test_rdm_refuses_missing_labels_and_folds(rng: np.random.Generator) -> None:
    X, nan = rng.normal(size=(4, 3)), np.nan
    with pytest.raises(ValueError, match=r"^2 of the 4 labels of X are missing"):
        rdm(X, labels=[0, 1, nan, nan])
    with pytest.raises(ValueError, match=r"^1 of the 4 folds of X are missing"):
        rdm(X, "crossnobis", labels=[0, 1, 0, 1], folds=[0, 0, 1, None])


@pytest.mark.parametrize(
    "function", [class_separation, neural_collapse, lambda X, labels: class_structure(rdm(X), labels)]
)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], r"^[XD] has 4 stimuli and labels has shape \(2,\); expected shape \(4,\)"),
        (None, r"^[XD] has 4 stimuli and labels has shape \(\); expected shape \(4,\)"),
        (np.eye(4), r"^[XD] has 4 stimuli and labels has shape \(4, 4\)"),
        (["a"] * 4, r"^All 4 labels are a; at least 2 classes are needed"),
        (
            [0, 0, 1, np.nan],
            r"^1 of the 4 labels of [XD] are missing \(None or NaN\); expected one for each of the stimuli",
        ),
        ([0, 0, 1, "a"], r"^The 4 labels of [XD] are of mixed kinds \(number, string\)"),
        ([0, 1, 2, 3], r"^Each of the 4 classes has 1 member; expected a class of at least 2"),
    ],
)
def test_comparisons_of_classes_refuse_labels(
    rng: np.random.Generator, function: Callable, labels: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        function(rng.normal(size=(4, 3)), labels)
