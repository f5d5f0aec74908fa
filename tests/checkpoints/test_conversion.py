"""Inputs and ids of every type: converted if there is only one way to do so, otherwise rejected."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from torch import nn

from checkpoints import Capture, Stimuli

N = 6
LABELS = [2, 0, 1, 0, 2, 1]


def given(inputs: Any) -> Stimuli:
    return Stimuli.of(range(N), LABELS, ["test"] * N, inputs)


IMAGES = np.arange(N * 4.0).reshape(N, 2, 2)


class Images(torch.utils.data.Dataset[Any]):
    """A data set that, like most, raises no IndexError."""

    def __init__(self, items: Any, n: int = N) -> None:
        self.items, self.n = items, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        return self.items(index)


class Foreign:
    """An array of another package."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return IMAGES.astype(np.float32)


def pictures() -> list[Any]:
    return [PIL.Image.fromarray(image) for image in IMAGES.astype(np.uint8)]


SAME_INPUTS: dict[str, Callable[[], Any]] = {
    "lists": IMAGES.tolist,
    "tensor": lambda: torch.from_numpy(IMAGES),
    "with gradient": lambda: torch.tensor(IMAGES, requires_grad=True),
    "bfloat16": lambda: torch.tensor(IMAGES, dtype=torch.bfloat16),
    "imaginary part": lambda: torch.complex(torch.zeros(N, 2, 2), torch.tensor(-IMAGES).float()).conj().imag,
    "list of tensors": lambda: [torch.tensor(image, requires_grad=True) for image in IMAGES],
    "list of arrays": lambda: list(IMAGES),
    "list of lists of tensors": lambda: [[torch.tensor(row) for row in image] for image in IMAGES],
    "tuple": lambda: tuple(torch.tensor(IMAGES)),
    "array of objects": lambda: pd.Series(list(IMAGES)),
    "data set": lambda: Images(lambda index: torch.tensor(IMAGES[index], dtype=torch.bfloat16)),
    "tuples of one": lambda: torch.utils.data.TensorDataset(torch.from_numpy(IMAGES)),
    "loader": lambda: torch.utils.data.DataLoader(Images(lambda index: IMAGES[index]), batch_size=4, shuffle=True),
    "subset": lambda: torch.utils.data.Subset(Images(lambda index: IMAGES[index - 6], 12), range(6, 12)),
    "another package": Foreign,
    "transposed": lambda: np.asfortranarray(IMAGES),
}


@pytest.mark.parametrize("make", SAME_INPUTS.values(), ids=SAME_INPUTS)
def test_inputs_are_the_same_however_they_are_given(make: Callable[[], Any]) -> None:
    assert given(make()).is_same_as(given(IMAGES))
    assert given({"x": make()}).is_same_as(given({"x": IMAGES}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float16], ids=str)
def test_narrow_floats_keep_their_values(dtype: torch.dtype) -> None:
    narrow = torch.randn(N, 3).to(dtype)
    assert given(narrow).is_same_as(given(narrow.float()))


def test_pictures_and_tables_are_numbers() -> None:
    assert given(pictures()).is_same_as(given(IMAGES.astype(np.uint8)))
    flat = IMAGES.reshape(N, 4)
    assert given(pd.DataFrame(flat, index=range(6, 0, -1))).is_same_as(given(flat))


class Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(torch.zeros(2))


class Endless(Stream):
    def __len__(self) -> int:
        return N


def pair(index: int) -> tuple[torch.Tensor, int]:
    return torch.zeros(2), index


def deep() -> list[Any]:
    nested: list[Any] = []
    nested.append(nested)
    return nested


OBJECTS = np.array([np.zeros(2), None, 3, 4, 5, 6], dtype=object)
TUPLE = "Inputs give a tuple for each stimulus"
APART = r"Give inputs and labels apart: inputs=\[x for x, _ in data\]"
NO_LENGTH = "Inputs are of type {}; expected an array, a tensor, .*Collect what an iterator gives first"
RAGGED = r"Inputs differ in shape: \(2,\) and \(1,\); expected the same for all\. Pad them to one length"
RAGGED_ITEMS = r"Inputs differ in shape: \(2,\) and, at item \d, \(1,\); expected the same for all\. Pad them to one"
NO_ORDER = "Inputs cannot be read in order. The data set is iterable, so its items have no fixed order; give one with"
WRONG_INPUTS: dict[str, tuple[Callable[[], Any], str]] = {
    "token ids": (lambda: [[5, 6], [7], [8, 9, 4], [1], [2], [3]], RAGGED),
    "tensors": (lambda: [torch.zeros(n) for n in (2, 1, 1, 1, 1, 1)], RAGGED),
    "arrays": (lambda: tuple(np.zeros(n) for n in (2, 1, 1, 1, 1, 1)), RAGGED),
    "objects": (lambda: pd.Series([[1, 2], [3], [4], [5], [6], [7]]), RAGGED),
    "ragged data set": (lambda: Images(lambda index: torch.zeros(max(1, 2 - index))), RAGGED_ITEMS),
    "within": (lambda: [[[1, 2], [3]]] * N, RAGGED),
    "nested": (
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(1)], layout=torch.jagged),
        "are a nested tensor; expected rows of one length. Pad them",
    ),
    "packed": (
        lambda: nn.utils.rnn.pack_sequence([torch.zeros(2), torch.zeros(1)]),
        "are a packed sequence; expected rows of one length. Pad them",
    ),
    "pairs": (lambda: Images(pair), f"{TUPLE}; expected the input alone. {APART}"),
    "list of pairs": (lambda: [pair(index) for index in range(N)], rf"{TUPLE}, of shapes \(2,\) and \(\); .*{APART}"),
    "list of dicts": (lambda: [{"x": 1}] * N, "Inputs are dicts, one for each stimulus"),
    "other length": (lambda: Images(pair, 10**9), "Inputs have 1000000000 items for 6 stimuli; expected one for each"),
    "unreadable": (
        lambda: Images([1, 2].__getitem__),
        r"of type Images could not be read at [2-5] \(IndexError: list index",
    ),
    "iterator": (lambda: itertools.repeat(0), NO_LENGTH.format("repeat")),
    "generator": (lambda: (each for each in itertools.count()), NO_LENGTH.format("generator")),
    "loader": (lambda: torch.utils.data.DataLoader(Images(pair)), TUPLE),
    "stream": (Stream, NO_ORDER),
    "stream with a length": (Endless, NO_ORDER),
    "loader of a stream": (lambda: torch.utils.data.DataLoader(Stream()), "Inputs cannot be read in order"),
    "set": (lambda: set(range(N)), NO_LENGTH.format("set")),
    "nothing": (lambda: None, NO_LENGTH.format("NoneType")),
    "sparse": (lambda: torch.eye(N).to_sparse(), r"layout torch.sparse_coo .* expected a dense tensor.*to_dense\(\)"),
    "meta": (lambda: torch.zeros(N, device="meta"), "on meta; expected a dense tensor with values"),
    "masked": (lambda: np.ma.masked_equal(np.arange(N), 3), "Inputs have masked values; fill them in"),
    "recursive": (deep, "Inputs are nested too deeply to be an array"),
    "array of objects": (lambda: OBJECTS, "Inputs are of type NoneType; expected an array"),
    "text": (lambda: list("abcdef"), "Inputs are of type <U1; expected real numbers"),
    "one text": (lambda: "abcdef", "Inputs are of type <U6; expected real numbers"),
    "bytes": (lambda: b"abcdef", "Inputs are of type .S6; expected real numbers"),
    "complex": (lambda: np.full(N, 1j), "Inputs are of type complex128; expected real numbers"),
    "complex tensor": (lambda: torch.zeros(N, dtype=torch.complex64), "Inputs are of type complex64; expected real"),
    "missing": (lambda: pd.Series([1, None, 3, 4, 5, 6], dtype=object), "Inputs are of type object; expected real"),
    "dates": (lambda: np.zeros(N, dtype="M8[s]"), "Inputs are of type datetime64.*; expected real numbers"),
    "large integers": (lambda: [2**70] * N, "Inputs are of type object; expected real numbers"),
}


@pytest.mark.parametrize(("make", "message"), WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_inputs_that_are_not_rows_of_numbers_are_rejected(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        given(make())
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="Inputs 'x'"):
        given({"x": make()})


class Unreadable:
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError("it is on another device")


def test_an_array_of_another_package_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"Inputs of type Unreadable cannot be converted to an array \(it is on another device\)"
    ):
        given(Unreadable())


@pytest.mark.parametrize("name", ["", 0, None])
def test_inputs_are_named_by_text(name: Any) -> None:
    with pytest.raises(ValueError, match=rf"An input is named {name!r}; expected the name of one of the network's"):
        given({name: IMAGES})


def named(ids: Any) -> Any:
    return Stimuli.of(ids, LABELS, ["test"] * N, IMAGES).ids


@pytest.mark.parametrize(
    "ids",
    [range(N), torch.arange(N), np.arange(N), [torch.tensor(index) for index in range(N)], pd.Series(range(N))],
    ids=lambda ids: type(ids).__name__,
)
def test_ids_become_text(ids: Any) -> None:
    assert sorted(named(ids).tolist()) == list("012345")


def test_ids_may_be_paths_but_not_an_endless_sequence() -> None:
    assert sorted(named([Path(letter) for letter in "abcdef"]).tolist()) == list("abcdef")
    assert sorted(named(Images(str)).tolist()) == list("012345")
    with pytest.raises(ValueError, match="Ids are of type count; expected an array"):
        named(itertools.count())
    with pytest.raises(ValueError, match="Ids differ in shape"):
        named([["a"], ["b", "c"], ["d"], ["e"], ["f"], ["g"]])


def recorded(inputs: Any) -> Any:
    return Capture(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), "1").record(inputs)["1"].values


@pytest.mark.parametrize("make", SAME_INPUTS.values(), ids=SAME_INPUTS)
def test_a_capture_takes_inputs_in_the_same_forms(make: Callable[[], Any]) -> None:
    with torch.random.fork_rng():
        expected = recorded(torch.from_numpy(IMAGES))
    np.testing.assert_array_equal(recorded(make()), expected)


@pytest.mark.parametrize(
    "name", ["token ids", "tensors", "pairs", "unreadable", "generator", "loader", "stream", "list of dicts", "masked"]
)
def test_a_capture_rejects_inputs_that_are_not_rows_of_numbers(name: str) -> None:
    make, message = WRONG_INPUTS[name]
    with pytest.raises(ValueError, match=message):
        recorded(make())
