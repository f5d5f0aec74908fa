"""Stimuli from loaders: in the order of their data sets, whatever theirs, with their workers and collate functions."""

import multiprocessing
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler, SubsetRandomSampler, TensorDataset

from checkpoints import Stimuli

N = 21
X = torch.arange(N * 4.0).reshape(N, 2, 2)
Y = torch.arange(N) % 3


class Failing(Dataset[Any]):
    """A data set of which one item cannot be read."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        if index == 16:
            raise KeyError("no such\nfile")
        return X[index], Y[index]


def in_memory() -> Stimuli:
    return Stimuli.of(range(N), Y, ["test"] * N, X)


def loaded(loader: DataLoader[Any], labels: Any = None) -> Stimuli:
    return Stimuli.of(range(N), labels, ["test"] * N, loader)


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": True},
        {"batch_size": 4, "shuffle": True, "drop_last": True},
        {"batch_size": 4, "shuffle": True, "num_workers": 2},
        {"batch_sampler": [[3, 4], [0]]},
    ],
    ids=lambda options: ",".join(options),
)
def test_rows_follow_the_data_set_whatever_the_order_of_the_loader(options: dict[str, Any]) -> None:
    state = torch.get_rng_state()
    given = loaded(DataLoader(TensorDataset(X, Y), **options))
    assert given.is_same_as(in_memory())
    np.testing.assert_array_equal(given.first_inputs(N), in_memory().inputs)
    for rows in given.inputs.blocks(range(N), 6):
        assert len(rows) in (6, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert multiprocessing.active_children() == []


def test_worker_processes_end_when_reading_stops_or_fails() -> None:
    given = loaded(DataLoader(TensorDataset(X, Y), batch_size=2, num_workers=2))
    blocks = given.inputs.blocks(range(N), 4)
    next(blocks)
    assert len(multiprocessing.active_children()) == 2
    blocks.close()
    assert multiprocessing.active_children() == []
    with pytest.raises(ValueError, match=r"Inputs could not be read among items 1[0-9] to \d+ \(KeyError: .*no such"):
        loaded(DataLoader(Failing(), batch_size=5, num_workers=1), None)
    assert multiprocessing.active_children() == []


def test_the_collate_function_makes_the_inputs() -> None:
    def named(items: list[Any]) -> dict[str, Any]:
        return {"x": torch.stack([2 * x for x, _ in items]), "labels": [int(y) for _, y in items]}

    given = loaded(DataLoader(TensorDataset(X, Y), collate_fn=named, batch_size=4))
    assert given.is_same_as(Stimuli.of(range(N), Y, ["test"] * N, {"x": 2 * X}))


def padded(items: list[Any]) -> Any:
    return torch.zeros(len(items), len(items))


def half(items: list[Any]) -> Any:
    return torch.zeros(1 + len(items) // 2, 2)


def raising(items: list[Any]) -> Any:
    raise RuntimeError("stack expects each tensor to be equal size")


@pytest.mark.parametrize(
    ("collate", "message"),
    [
        (padded, r"Inputs differ in shape: \(1,\) and, at items 0 to 12, \(5,\); .*Pad them to one length"),
        (half, r"collate_fn returned an array of shape \(3, 2\) for 5 stimuli; expected one row for each"),
        (raising, r"could not be read among items 0 to 0 \(RuntimeError: stack expects each tensor"),
    ],
)
def test_what_a_collate_function_returns_is_checked(collate: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loaded(DataLoader(TensorDataset(X), collate_fn=collate, batch_size=5), Y)


class Endless(Sampler[int]):
    """A sampler without a length."""

    def __iter__(self) -> Iterator[int]:
        yield from range(N)


def test_a_sampler_without_a_length_does_not_matter() -> None:
    assert loaded(DataLoader(TensorDataset(X, Y), sampler=Endless())).is_same_as(in_memory())


def test_a_loader_that_makes_no_batches_or_leaves_items_out_is_refused() -> None:
    data = TensorDataset(X, Y)
    with pytest.raises(ValueError, match=r"a loader that makes no batches \(batch_size=None\); give its data set"):
        loaded(DataLoader(data, batch_size=None))
    with pytest.raises(ValueError, match=r"sampler draws 2 of 21 items; choose the items with torch.utils.data.Subset"):
        loaded(DataLoader(data, sampler=SubsetRandomSampler([1, 2])))
    assert loaded(DataLoader(data, sampler=SequentialSampler(data))).is_same_as(in_memory())
