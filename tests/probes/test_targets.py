from typing import Any

import numpy as np
import pandas as pd
import pytest

from probes.targets import encode_target

SPLIT = ["train", "train", "validation", "test"]


def test_target_has_class_codes_and_the_rows_of_each_part() -> None:
    task = encode_target(["b", "a", "b", "a"], SPLIT)
    assert task.classes.tolist() == ["a", "b"]
    assert task.y.tolist() == [1, 0, 1, 0]
    assert {part: rows.tolist() for part, rows in task.rows.items()} == {
        "train": [0, 1],
        "validation": [2],
        "test": [3],
    }
    assert task.labels_of("validation").tolist() == [1]


@pytest.mark.parametrize(
    "labels",
    [
        [3, 5, 3, 5],
        np.array([3, 5, 3, 5], dtype=np.uint8),
        [False, True, False, True],
        np.array(["x", "y", "x", "y"], dtype=object),
        pd.Series(["x", "y", "x", "y"]),
    ],
)
def test_labels_may_be_integers_or_strings(labels: Any) -> None:
    assert encode_target(labels, pd.Series(SPLIT)).y.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "split", "message"),
    [
        ([0, 1, 0], SPLIT, r"labels has 3 entries and split has shape \(4,\); both need one entry per stimulus"),
        ([0.5, 1.0, 0.5, 1.0], SPLIT, r"shape \(4,\) and dtype float64; expected integers or strings of shape \(n,\)"),
        ([[0], [1], [0], [1]], SPLIT, r"labels has shape \(4, 1\) and dtype int64; expected integers or strings"),
        (["a", None, "a", "b"], SPLIT, "dtype object; expected integers or strings"),
        (
            [0, 1, 0, 1],
            ["train", "dev", "eval", "test"],
            "Unknown split names: 'dev', 'eval'. Choose one of: train, val",
        ),
        ([0, 1, 0, 1], [part.encode() for part in SPLIT], "Unknown split names: b'test', b'train', b'validation'"),
        ([0, 1, 0, 1], ["train", "train", "train", "test"], "split has no rows for: validation. Probes need all of"),
        ([0, 1, 0, 1], ["train"] * 4, "split has no rows for: validation, test"),
        ([4, 4, 4, 4], SPLIT, "labels has one class, 4; a probe needs two or more"),
        ([0, 1, 2, 3], SPLIT, "split has 2 training rows for 4 classes; every class needs one or more"),
        (["a", "a", "b", "b"], SPLIT, "Class absent from train: 'b'. Move stimuli of every class to train"),
    ],
)
def test_invalid_target_is_an_error(labels: Any, split: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_target(labels, split)
