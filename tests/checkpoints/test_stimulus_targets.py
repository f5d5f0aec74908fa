"""Labels as text, class names, targets and groups of stimuli."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from checkpoints import Damaged, Stimuli

N = 6
SPLIT = ["train", "train", "validation", "validation", "test", "test"]


def stimuli_of(**parts: Any) -> Stimuli:
    whole: dict[str, Any] = {
        "ids": list("abcdef"),
        "labels": ["dog", "cat", "dog", "cat", "cat", "dog"],
        "split": SPLIT,
        "inputs": np.arange(N * 2.0).reshape(N, 2),
    }
    return Stimuli.of(**{**whole, **parts})


def test_text_is_numbered_in_alphabetical_order_and_keeps_its_names() -> None:
    stimuli = stimuli_of()
    assert stimuli.classes == ("cat", "dog")
    assert stimuli.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert stimuli.ids.tolist() == ["b", "d", "e", "a", "c", "f"]


@pytest.mark.parametrize("dtype", [None, "category", object])
def test_columns_of_a_frame_are_labels_targets_and_groups(dtype: Any) -> None:
    column = pd.Series(["dog", "cat", "dog", "cat", "cat", "dog"], dtype=dtype)
    stimuli = stimuli_of(labels=column, targets={"t": column, "n": pd.Series(range(N), dtype=object)})
    assert stimuli.classes == ("cat", "dog")
    assert stimuli.targets["t"].tolist() == ["cat"] * 3 + ["dog"] * 3
    assert stimuli.targets["n"].tolist() == [1, 3, 4, 0, 2, 5]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=["None", "NaN", "NA"])
@pytest.mark.parametrize("kind", [list, pd.Series, lambda values: np.array(values, dtype=object)])
def test_missing_labels_targets_and_groups_are_no_classes_of_their_own(kind: Any, missing: Any) -> None:
    column = kind(["x", "x", missing, "y", "z", "z"])
    with pytest.raises(ValueError, match=r"^1 of 6 labels are NaN or None; leave out these stimuli"):
        stimuli_of(labels=column)
    with pytest.raises(ValueError, match=r"^Target 't': 1 of 6 labels are NaN or None"):
        stimuli_of(targets={"t": column})
    with pytest.raises(ValueError, match=r"^1 of 6 groups are NaN or None"):
        stimuli_of(groups=column)


def test_text_is_numbered_in_the_order_of_given_classes() -> None:
    stimuli = stimuli_of(classes=["dog", "cat", "bird"])
    assert stimuli.classes == ("dog", "cat", "bird")
    assert stimuli.ids[stimuli.labels == 0].tolist() == ["a", "c", "f"]


def test_the_hash_of_text_labels_is_that_of_their_numbers() -> None:
    assert stimuli_of().content_hash == stimuli_of(labels=[1, 0, 1, 0, 0, 1]).content_hash


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        (["x", "y", "x", "y", "é", "x"], ["y", "y", "é", "x", "x", "x"]),
        ([5, 4, 3, 2, 1, 0], [4, 2, 1, 5, 3, 0]),
        (torch.tensor([True, False, True, False, True, False]), [0, 0, 1, 1, 1, 0]),
        (np.float32([0.5, 1, 1.5, 2, 2.5, 3]), [1.0, 2.0, 2.5, 0.5, 1.5, 3.0]),
    ],
    ids=["text", "whole numbers", "booleans", "floats"],
)
def test_targets_follow_the_stimuli_and_round_trip_through_the_file(folder: Path, values: Any, stored: Any) -> None:
    stimuli = stimuli_of(targets={"some/name": values, "second": np.arange(N)}, groups=["g1", "g2", 3, 3, "g4", "g4"])
    stimuli.write(folder / "stimuli.h5")
    read = Stimuli.read(folder / "stimuli.h5")
    for each in (stimuli, read):
        assert list(each.targets) == ["some/name", "second"]
        assert each.targets["some/name"].tolist() == stored
        assert each.groups is not None
        assert each.groups.tolist() == ["g2", "3", "g4", "g1", "3", "g4"]
        assert each.classes == ("cat", "dog")
    assert read.targets["some/name"].dtype == stimuli.targets["some/name"].dtype
    assert read.is_same_as(stimuli)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"classes": ["cat", "cat"]}, "Names of classes repeat"),
        ({"classes": ["cat", "bird"]}, "Label 'dog' is not among the classes cat, bird"),
        ({"labels": [0, 1, 2, 0, 1, 2], "classes": ["a", "b"]}, "between 0 and 2, but there are names for the classes"),
        ({"targets": {"label": range(N)}}, "A target is named 'label'; expected a text other than"),
        ({"targets": {3: range(N)}}, "A target is named 3"),
        ({"targets": {"t": range(5)}}, "Target 't' has 5 values for 6 stimuli"),
        ({"groups": [1.0, 1.0, np.nan, 2.0, 3.0, 3.0]}, "1 of 6 groups are NaN or None"),
        ({"targets": {"t": [1.0, np.inf, 0, 0, 0, 0]}}, "Target 't' has values that are NaN or infinite"),
        ({"targets": {"t": np.zeros(N, dtype=complex)}}, "Target 't' has type complex128"),
        ({"targets": {"t": np.full(N, 2**63, dtype=np.uint64)}}, "Target 't': Label .* is not a whole number"),
        ({"targets": {"t": np.zeros((N, 2))}}, "Target 't': Labels have shape"),
        ({"groups": ["g"] * N}, "Group 'g' is in the parts train and validation of the split"),
        ({"groups": ["g"]}, r"Groups have shape \(1,\) for 6 stimuli"),
    ],
)
def test_names_targets_and_groups_that_do_not_fit_are_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stimuli_of(**parts)


def test_a_target_of_another_length_is_damaged(folder: Path) -> None:
    stimuli_of(targets={"t": range(N)}).write(folder / "stimuli.h5")
    with h5py.File(folder / "stimuli.h5", "r+") as file:
        del file["targets/0000/value"]
        file["targets/0000"].create_dataset("value", data=np.arange(5))
    with pytest.raises(Damaged, match="has a target 't' twice, or of another length"):
        Stimuli.read(folder / "stimuli.h5")


def test_a_file_without_the_optional_columns_has_none(folder: Path) -> None:
    stimuli_of(labels=range(N)).write(folder / "stimuli.h5")
    read = Stimuli.read(folder / "stimuli.h5")
    assert (read.classes, read.targets, read.groups, read.positions) == ((), {}, None, None)
    with h5py.File(folder / "stimuli.h5") as file:
        assert sorted(file) == ["input_digest", "label", "split", "stimulus_id"]
