import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import Damaged, Stimuli
from tests.checkpoints.small_runs import flip_bits

N = 6


def changed(**parts: Any) -> Stimuli:
    whole: dict[str, Any] = {
        "ids": [f"s{index}" for index in range(N)],
        "labels": [2, 0, 1, 0, 2, 1],
        "split": ["train", "validation", "test"] * 2,
        "inputs": np.arange(N * 4.0).reshape(N, 2, 2),
    }
    return Stimuli.of(**{**whole, **parts})


@pytest.fixture
def path(folder: Path) -> Path:
    path = folder / "stimuli.h5"
    changed().write(path)
    return path


@given(labels=st.lists(st.integers(-3, 3), min_size=1, max_size=30))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_stimuli_are_ordered_by_label_and_keep_their_order_within_one(labels: list[int]) -> None:
    n = len(labels)
    split = np.resize(["train", "test"], n)
    stimuli = Stimuli.of(range(n), labels, split, np.arange(n))
    order = [index for _, index in sorted(zip(labels, range(n), strict=True))]
    assert len(stimuli) == n
    assert stimuli.labels.tolist() == sorted(labels)
    assert stimuli.ids.tolist() == [str(index) for index in order]
    assert stimuli.split.tolist() == split[order].tolist()
    assert isinstance(stimuli.inputs, np.ndarray)
    assert stimuli.inputs.tolist() == order


def test_labels_inputs_ids_and_split_have_the_documented_dtypes() -> None:
    stimuli = changed(inputs=np.zeros((N, 3), dtype=np.float64), labels=np.zeros(N, dtype=np.uint8))
    assert isinstance(stimuli.inputs, np.ndarray)
    assert (stimuli.labels.dtype, stimuli.inputs.dtype) == (np.int64, np.float32)
    assert (stimuli.ids.dtype.kind, stimuli.split.dtype.kind) == ("U", "U")


def test_the_hash_is_that_of_the_same_stimuli_however_they_are_given() -> None:
    order = [3, 0, 1, 2, 5, 4]  # keeps the order within each label
    parts = {name: getattr(changed(), name) for name in ("ids", "labels", "split", "inputs")}
    assert changed().content_hash == Stimuli.of(**parts).content_hash == changed().content_hash
    shuffled = {name: part[order] for name, part in parts.items()}
    assert sorted(shuffled["labels"]) == parts["labels"].tolist()
    assert shuffled["labels"].tolist() != parts["labels"].tolist()
    assert changed(inputs=np.arange(N * 4.0).reshape(N, 2, 2).tolist()).content_hash == changed().content_hash


@pytest.mark.parametrize("index", range(N * 4))
def test_the_hash_changes_with_any_input(index: int) -> None:
    inputs = np.arange(N * 4.0, dtype=np.float32)
    inputs[index] = np.nextafter(inputs[index], np.float32(100))
    assert changed(inputs=inputs.reshape(N, 2, 2)).content_hash != changed().content_hash


@pytest.mark.parametrize(
    "part",
    [
        {"labels": [2, 0, 1, 0, 2, 2]},
        {"labels": [3, 0, 1, 0, 3, 1]},
        {"inputs": np.arange(N * 4.0).reshape(N, 4)},
        {"inputs": np.arange(N * 4.0).reshape(N, 2, 2)[::-1]},
    ],
)
def test_the_hash_changes_with_labels_shape_and_order(part: dict[str, Any]) -> None:
    assert changed(**part).content_hash != changed().content_hash


@pytest.mark.parametrize("ids", [[f"é{index}" * (index + 1) for index in range(N)], ["", *list("abcde")]])
def test_all_but_the_inputs_round_trips_through_the_file(folder: Path, ids: list[str]) -> None:
    stimuli = changed(ids=ids)
    stimuli.write(folder / "stimuli.h5")
    read = Stimuli.read(folder / "stimuli.h5")
    for name in ("ids", "labels", "split"):
        np.testing.assert_array_equal(getattr(read, name), getattr(stimuli, name), strict=name == "labels")
    assert read.content_hash == stimuli.content_hash
    assert read.inputs is None


def test_any_hdf5_reader_finds_the_documented_columns(path: Path) -> None:
    with h5py.File(path) as file:
        assert sorted(file) == ["input_digest", "label", "split", "stimulus_id"]
        assert file["stimulus_id"][()].tolist() == [b"s1", b"s3", b"s2", b"s5", b"s0", b"s4"]
        assert file["label"][()].tolist() == [0, 0, 1, 1, 2, 2]
        assert file["split"][:3].tolist() == [b"validation", b"train", b"test"]
        assert dict(file.attrs) == {
            "format": b"repsim-stimuli",
            "format_version": 1,
            "content_hash": changed().content_hash.encode(),
        }


def test_a_flipped_bit_is_found_or_harmless(path: Path) -> None:
    whole = Stimuli.read(path)
    outcomes = set()
    for _ in flip_bits(path, 200):
        try:
            read = Stimuli.read(path)
        except Damaged as error:
            assert str(path) in str(error)
            outcomes.add("found")
        else:
            assert read.with_inputs(whole) is whole
            np.testing.assert_array_equal(read.labels, whole.labels)
            outcomes.add("harmless")
    assert "found" in outcomes


@pytest.mark.parametrize(
    "part",
    [
        {"ids": list("abcde")},
        {"labels": [0] * 7},
        {"split": ["train"]},
        {"inputs": np.zeros((5, 3))},
        {"labels": np.eye(N + 1)},
        {"labels": np.zeros((N + 1, 1))},
        {"inputs": np.zeros(())},
    ],
)
def test_arrays_of_different_lengths_are_rejected_with_their_shapes(part: dict[str, Any]) -> None:
    name, value = next(iter(part.items()))
    shape = re.escape(str(np.shape(value) if name == "inputs" else np.shape(value)[:1]))
    with pytest.raises(ValueError, match=rf"^Stimuli have .*{name} (of shape )?{shape}.*one of each per stimulus"):
        changed(**part)


@pytest.mark.parametrize("classes", [None, ["cat"]])
def test_no_stimuli_are_refused(classes: Any) -> None:
    with pytest.raises(ValueError, match=r"ids of shape \(0,\).*and one stimulus or more"):
        Stimuli.of([], [], [], np.zeros((0, 3)), classes=classes)


def test_repeated_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="Stimulus ids repeat; give every stimulus a unique id"):
        changed(ids=list("abcdea"))


def test_an_unknown_part_of_the_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown split 'dev'\. Choose one of: train, validation, test"):
        changed(split=["train", "dev"] * 3)


def test_columns_of_different_lengths_are_damaged(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["label"]
        file.create_dataset("label", data=np.arange(5))
    with pytest.raises(Damaged, match=f"{path} has columns of different lengths"):
        Stimuli.read(path)


@pytest.mark.parametrize("name", ["stimulus_id", "label", "split"])
@pytest.mark.parametrize("values", [np.zeros(N), np.zeros((N, 2), dtype=np.int64), np.full((N, 2), b"a"), None])
def test_columns_of_another_kind_are_damaged(path: Path, name: str, values: Any) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        if values is not None:
            file[name] = values
    with pytest.raises(Damaged, match=rf"/{name} in {path} (is missing|has \d axes of type)"):
        Stimuli.read(path)


def test_a_file_without_a_hash_is_damaged(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs["content_hash"]
    with pytest.raises(Damaged, match=f"Attribute 'content_hash' of / in {path} is missing or is not a text"):
        Stimuli.read(path)


LABELS = np.array([2, 0, 1, 0, 2, 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.float16, np.float32, np.float64, ">i4"])
@pytest.mark.parametrize("form", ["vector", "column", "one-hot"])
def test_labels_of_any_type_are_the_same_in_a_vector_a_column_or_one_hot(dtype: Any, form: str) -> None:
    forms = {"vector": LABELS, "column": LABELS[:, None], "one-hot": np.eye(4)[LABELS]}
    given = forms[form].astype(dtype)
    assert changed(labels=given).is_same_as(changed())
    assert changed(labels=given.tolist()).is_same_as(changed())
    if given.dtype.isnative:
        assert changed(labels=torch.from_numpy(given)).is_same_as(changed())


def test_labels_may_be_booleans_or_a_list_of_tensors() -> None:
    assert changed(labels=LABELS > 0).labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert changed(labels=np.eye(3, dtype=bool)[LABELS]).is_same_as(changed())
    assert changed(labels=[torch.tensor(label) for label in LABELS]).is_same_as(changed())
    assert changed(labels=pd.Series(LABELS, index=range(6, 0, -1))).is_same_as(changed())


def test_a_column_of_zeros_and_ones_is_not_one_hot() -> None:
    assert changed(labels=[[1], [0], [1], [0], [1], [0]]).labels.tolist() == [0, 0, 0, 1, 1, 1]


WRONG_LABELS: dict[str, tuple[Any, str]] = {
    "not whole": ([0.0, 1.5, 1, 0, 2, 1], r"Label 1\.5 is not a whole number in the range of int64"),
    "infinite": ([0, 1, np.inf, 0, 2, 1], "Label inf is not a whole number"),
    "too large": (
        np.full(N, 2**63, dtype=np.uint64),
        "Label 9223372036854775808 is not a whole number in the range of int64",
    ),
    "NaN": ([0, np.nan, 1, np.nan, 2, 1], "2 of 6 labels are NaN or None; leave out these stimuli"),
    "complex": ([1j] * N, "Labels are of type complex128; expected text or whole numbers"),
    "None": (np.array([0, None] * 3), "3 of 6 labels are NaN or None; leave out these stimuli"),
    "objects": ([Fraction(1, 2)] * N, "Labels are of type object; expected text or whole numbers"),
    "single": (3, r"Labels are a single value; expected one label for each stimulus, shape \(n,\)"),
    "single tensor": (torch.tensor(3), "Labels are a single value"),
    "two hot": (np.ones((N, 2)), r"Labels have shape \(6, 2\); expected one label .* \(n, 1\), or one-hot rows"),
    "none hot": (np.zeros((N, 2)), r"Labels have shape \(6, 2\)"),
    "probabilities": (np.full((N, 2), 0.5), r"Labels have shape \(6, 2\)"),
    "a row": (np.zeros((1, N)), r"Labels have shape \(1, 6\)"),
    "three axes": (np.zeros((N, 1, 1)), r"Labels have shape \(6, 1, 1\)"),
    "iterator": (iter(LABELS), "Labels are of type .*iterator; expected an array, a tensor"),
    "ragged": ([[1], [1, 2]], r"Labels differ in shape: \(1,\) and \(2,\)"),
}


@pytest.mark.parametrize(("labels", "message"), WRONG_LABELS.values(), ids=WRONG_LABELS)
def test_labels_that_are_not_classes_are_rejected(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(labels=labels)


def test_token_ids_stay_whole_numbers_and_floats_become_float32() -> None:
    tokens = Stimuli.of(["a", "b"], [0, 1], ["train", "test"], np.array([[7, 8], [9, 2**40]]))
    assert isinstance(tokens.inputs, np.ndarray)
    assert tokens.inputs.dtype == np.int64
    assert tokens.inputs.tolist() == [[7, 8], [9, 2**40]]
    floats = Stimuli.of(["a", "b"], [0, 1], ["train", "test"], np.ones((2, 2), dtype=np.float64))
    assert isinstance(floats.inputs, np.ndarray)
    assert floats.inputs.dtype == np.float32


def test_inputs_too_large_for_float32_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Inputs hold 1e\+300, which exceeds the range of float32"):
        Stimuli.of(["a", "b"], [0, 1], ["train", "test"], [[1e300], [float("inf")]])


def test_byte_order_does_not_matter() -> None:
    little, big = (Stimuli.of(["a"], [0], ["test"], np.array([[1, 2]], dtype)) for dtype in ("<i4", ">i4"))
    assert little.is_same_as(big)


def test_a_run_keeps_no_inputs(folder: Path) -> None:
    stimuli = Stimuli.of(["a", "b"], [0, 1], ["train", "test"], {"x": [[1.0], [2.0]], "m": [1, 2]})
    assert {name: part.tolist() for name, part in dict(stimuli.first_inputs(1)).items()} == {"x": [[1.0]], "m": [1]}
    stimuli.write(folder / "stimuli.h5")
    with pytest.raises(ValueError, match="read from a run, which stores no inputs; create them"):
        Stimuli.read(folder / "stimuli.h5").first_inputs(1)
