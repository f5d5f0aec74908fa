"""Stimuli from map-style data sets: equal to the same arrays, read in blocks, with the labels of the items."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from checkpoints import Stimuli

N = 7
IMAGES = np.random.default_rng(0).integers(0, 255, (N, 3, 4, 4)).astype(np.uint8)
LABELS = np.array([2, 0, 1, 0, 2, 1, 0])


class Items(Dataset[Any]):
    """Items from a function, with other attributes."""

    def __init__(self, item: Callable[[int], Any], n: int = N, **attributes: Any) -> None:
        self.item, self.n, self.read = item, n, 0
        vars(self).update(attributes)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        return self.item(index)


def stimuli(inputs: Any, labels: Any = LABELS, n: int = N) -> Stimuli:
    return Stimuli.of(range(n), labels, ["test"] * n, inputs)


IN_MEMORY = stimuli(IMAGES)
KINDS: dict[str, Callable[[int], Any]] = {
    "array": lambda index: IMAGES[index],
    "tensor": lambda index: torch.from_numpy(IMAGES[index]),
    "not contiguous": lambda index: torch.from_numpy(np.asfortranarray(IMAGES[index])),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_data_set_has_the_hash_and_rows_of_its_arrays(kind: str) -> None:
    given = stimuli(Items(KINDS[kind]))
    assert given.is_same_as(IN_MEMORY)
    np.testing.assert_array_equal(given.first_inputs(N), IN_MEMORY.inputs)
    np.testing.assert_array_equal(given.inputs_at([5, 0, 5]), IN_MEMORY.inputs_at([5, 0, 5]))


def test_floats_become_single_precision_whatever_their_width() -> None:
    values = torch.rand(N, 3).bfloat16()
    widths = (torch.float64, torch.bfloat16, torch.float32)
    mixed = stimuli(Items(lambda index: values[index].to(widths[index % 3])))
    assert mixed.is_same_as(stimuli(values))
    assert np.asarray(mixed.first_inputs(2)).dtype == np.float32


def test_several_inputs_have_the_hash_of_their_arrays_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = IMAGES[:, 0] > 100
    expected = stimuli({"x": IMAGES, "mask": mask})
    given = stimuli(Items(lambda index: {"x": IMAGES[index], "mask": mask[index]}))
    assert given.is_same_as(expected)
    monkeypatch.setattr("checkpoints.stimulus_inputs.content_hash._SPOOLED_BYTES", 10)  # kept on the disk
    assert stimuli({"x": Items(lambda index: IMAGES[index]), "mask": mask}).is_same_as(expected)
    with pytest.raises(ValueError, match="Inputs 'x' are dicts, one for each stimulus; give that data set as the inp"):
        stimuli({"x": Items(lambda index: {"y": IMAGES[index]})})


@pytest.mark.parametrize("as_item", [tuple, lambda pair: {"x": pair[0], "labels": pair[1]}], ids=["pairs", "dicts"])
@pytest.mark.parametrize("as_label", [int, torch.tensor, np.int32], ids=lambda as_label: as_label.__name__)
def test_labels_come_from_the_items_if_none_are_given(as_item: Any, as_label: Any) -> None:
    given = stimuli(Items(lambda index: as_item((IMAGES[index], as_label(LABELS[index])))), None)
    assert given.is_same_as(IN_MEMORY if as_item is tuple else stimuli({"x": IMAGES}))
    with pytest.raises(ValueError, match=r"expected the input alone\. Give inputs and labels apart"):
        stimuli(Items(lambda index: as_item((IMAGES[index], as_label(LABELS[index])))))


@pytest.mark.parametrize("name", ["targets", "labels"])
@pytest.mark.parametrize("listed", [LABELS.tolist(), torch.tensor(LABELS)], ids=["list", "tensor"])
def test_a_list_of_labels_saves_a_pass_over_the_items(name: str, listed: Any) -> None:
    data = Items(lambda index: (IMAGES[index], int(LABELS[index])), **{name: listed})
    assert stimuli(data, None).is_same_as(IN_MEMORY)
    assert data.read == 2 + 1 + N  # the ends, one for the size of blocks, and all for the hash
    half = Subset(data, range(4))
    assert stimuli(half, None, 4).is_same_as(stimuli(IMAGES[:4], LABELS[:4], 4))


def test_a_list_of_labels_that_the_items_do_not_have_is_not_taken() -> None:
    changed = Items(lambda index: (IMAGES[index], int(LABELS[index])), targets=(LABELS + 1).tolist())
    assert stimuli(changed, None).is_same_as(IN_MEMORY)
    wrong = LABELS.copy()
    wrong[3] = 1
    with pytest.raises(ValueError, match="Item 3 has another label than when the labels were read, or than in the da"):
        stimuli(Items(changed.item, targets=wrong), None)


@pytest.mark.parametrize("targets", [["a"], "abcdefg", np.array([object()] * N), [[1], [1, 2]] * 4, 3])
def test_attributes_that_are_no_list_of_labels_are_ignored(targets: Any) -> None:
    assert stimuli(Items(lambda index: (IMAGES[index], int(LABELS[index])), targets=targets), None).is_same_as(
        IN_MEMORY
    )


def test_tensors_and_names_of_classes_are_labels_too() -> None:
    assert stimuli(TensorDataset(torch.from_numpy(IMAGES), torch.tensor(LABELS)), None).is_same_as(IN_MEMORY)
    given = stimuli(Items(lambda index: (IMAGES[index], "abc"[LABELS[index]])), None)
    assert given.is_same_as(IN_MEMORY)
    assert given.classes == ("a", "b", "c")


def test_labels_are_required() -> None:
    for inputs in (IMAGES, Items(lambda index: IMAGES[index]), Items(lambda index: (IMAGES[index], None))):
        with pytest.raises(ValueError, match="no labels: none are given, and the inputs have none beside them"):
            stimuli(inputs, None)
    with pytest.raises(ValueError, match="Some items of Inputs have a label and others have none"):
        stimuli(Items(lambda index: (IMAGES[index], 1) if index != 2 else IMAGES[index]), None)


WRONG: dict[str, tuple[Callable[[int], Any], str]] = {
    "ragged": (lambda index: np.zeros(2 + index // 6), r"differ in shape: \(2,\) and, at item 6, \(3,\)"),
    "types": (lambda index: np.zeros(2, np.int64 if index == 5 else np.uint8), "uint8 and, at item 5, int64; expected"),
    "names": (lambda index: {"x" if index else "y": 1}, "have the names y and, at item [1-6], x; expected the same"),
    "no name": (lambda index: {3: 1}, "An input is named 3; expected the name of one of the network's arguments"),
    "three": (lambda index: (1, 2, 3), "give a tuple for each stimulus; expected the input alone"),
    "labels twice": (lambda index: ({"x": 1, "label": 2}, 3), "hold 'label' for each stimulus, which is no input"),
    "text": (lambda index: "a", "Inputs are of type <U1; expected real numbers"),
    "raises": (lambda index: [0][index], r"of type Items could not be read at [1-6] \(IndexError: list index out"),
    "palette": (lambda index: PIL.Image.new("P", (2, 2)), r"Item 0 is an image with a palette; .*convert\('RGB'\)"),
}


@pytest.mark.parametrize(("item", "message"), WRONG.values(), ids=WRONG)
def test_an_item_that_fits_no_array_is_named(item: Callable[[int], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        stimuli(Items(lambda index: item(index) if isinstance(item(index), tuple) else (item(index), 0)), None)
    assert "\n" not in str(error.value)


def test_reading_leaves_the_random_generators_as_they_were() -> None:
    def drawing(index: int) -> Any:
        torch.rand(1), np.random.rand(1), random.random()
        return IMAGES[index]

    with torch.random.fork_rng():
        before = (torch.get_rng_state(), np.random.get_state()[2], random.getstate())
        stimuli(Items(drawing)).first_inputs(N)
        after = (torch.get_rng_state(), np.random.get_state()[2], random.getstate())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_one_item_is_enough() -> None:
    assert stimuli(Items(lambda index: 3.5, 1), [0], 1).is_same_as(stimuli([3.5], [0], 1))
    with pytest.raises(ValueError, match=r"Inputs have 7 items for 1 stimuli; expected one for each"):
        stimuli(Items(lambda index: 3.5), [0], 1)
    with pytest.raises(ValueError, match="one of each per stimulus, and one stimulus or more"):
        stimuli(Items(lambda index: 3.5, 0), [], 0)
