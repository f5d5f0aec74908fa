"""Stimuli from memory-mapped arrays and open HDF5 files: rows in any order, as if they were in memory."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from checkpoints import Stimuli
from checkpoints.stimulus_inputs.array_inputs import ArrayInputs
from checkpoints.stimulus_inputs.input_source import InputSource, NamedInputs

N = 30
X = np.random.default_rng(0).normal(size=(N, 2, 3)).astype(np.float32)


@pytest.fixture(params=["memmap", "hdf5", "hdf5 in chunks"])
def mapped(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    if request.param == "memmap":
        np.save(tmp_path / "x.npy", X)
        return np.lib.format.open_memmap(tmp_path / "x.npy", mode="r")
    file = h5py.File(tmp_path / "x.h5", "w")
    request.addfinalizer(file.close)
    return file.create_dataset("x", data=X, chunks=(4, 2, 3) if "chunks" in request.param else None)


def test_rows_are_read_in_any_order(mapped: object) -> None:
    inputs = ArrayInputs.of(mapped, "Inputs")
    for rows in ([3], range(N), [7, 6, 6, 29, 0, 8], range(5, 12), np.arange(N)[::-1]):
        np.testing.assert_array_equal(inputs.take(rows), X[np.asarray(rows)])


def test_they_are_not_copied_into_memory_and_have_the_same_hash(mapped: object) -> None:
    columns = (range(N), np.arange(N) % 4, ["test"] * N)
    given = Stimuli.of(*columns, mapped)
    assert isinstance(given.inputs, InputSource)
    assert given.is_same_as(Stimuli.of(*columns, X))
    assert Stimuli.of(*columns, {"a": mapped, "b": X[:, 0]}).is_same_as(Stimuli.of(*columns, {"a": X, "b": X[:, 0]}))


def test_inputs_of_other_sizes_are_refused(mapped: object) -> None:
    with pytest.raises(ValueError, match="Inputs 'x' have 30 items for 2 stimuli; expected one for each stimulus"):
        Stimuli.of(range(2), [0, 1], ["test"] * 2, {"x": mapped})
    parts = {"x": ArrayInputs.of(X, "Inputs"), "m": ArrayInputs.of(X[:3], "Inputs")}
    with pytest.raises(ValueError, match=r"Inputs differ in their numbers of stimuli \(x 30, m 3\); expected as many"):
        NamedInputs(parts)
    with pytest.raises(ValueError, match=r"Inputs have no axis of stimuli; expected an array of shape \(n, ...\)"):
        ArrayInputs.of(np.float32(3), "Inputs")


def test_a_file_that_is_closed_meanwhile_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        inputs = ArrayInputs.of(file.create_dataset("x", data=X), "Inputs")
    with pytest.raises(ValueError, match="Inputs cannot be read"):
        inputs.take([0])
