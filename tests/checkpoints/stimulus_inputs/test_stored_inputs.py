"""Inputs that are read again are compared with those that were hashed; a recording of others is not committed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from checkpoints import Capture, Run, Stimuli
from checkpoints.errors import UnreadableInputs

N = 40
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)


class Changing(Dataset[Any]):
    """Rows that may be changed, or moved by random numbers."""

    def __init__(self, *, random: bool = False) -> None:
        self.rows, self.random = X.copy(), random

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> torch.Tensor:
        row = torch.from_numpy(self.rows[index])
        return row + torch.rand(3) if self.random else row


def stimuli_of(inputs: Any) -> Stimuli:
    return Stimuli.of([f"s{index}" for index in range(N)], np.arange(N) % 2, ["test"] * N, inputs)


def record(folder: Path, stimuli: Stimuli, **options: Any) -> Run:
    model = nn.Sequential(nn.Linear(3, 2))
    run = Run.create(folder / "run", {}, stimuli)
    with run, torch.random.fork_rng():
        run.checkpoint(0, model, capture=Capture(model, **options))
    return run


@pytest.mark.parametrize("batch_size", [None, 1, 2, 7, N])
@pytest.mark.parametrize("as_inputs", [lambda data: data, lambda data: DataLoader(data, 8, shuffle=True)])
def test_a_data_set_is_recorded_like_its_array(tmp_path: Path, batch_size: int | None, as_inputs: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    expected = Capture(model, batch_size=batch_size).record(stimuli_of(X).inputs)["0"].values
    given = stimuli_of(as_inputs(Changing()))
    np.testing.assert_array_equal(Capture(model, batch_size=batch_size).record(given.inputs)["0"].values, expected)
    np.testing.assert_array_equal(given.first_inputs(N), stimuli_of(X).inputs)


def test_gradients_are_recorded_for_rows_that_are_read(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    options: dict[str, Any] = {"side": "gradient", "loss": nn.CrossEntropyLoss(reduction="sum"), "batch_size": 7}
    found, expected = (
        Capture(model, **options).record(each.inputs, each.labels)["0"].values
        for each in (stimuli_of(Changing()), stimuli_of(X))
    )
    np.testing.assert_array_equal(found, expected)


def test_random_transforms_are_found_before_a_step_is_committed(tmp_path: Path) -> None:
    for k, data in enumerate((Changing(random=True), DataLoader(Changing(random=True), 8))):
        with pytest.raises(UnreadableInputs, match=r"first at 's\d+'; switch random transforms off, and leave the f"):
            record(tmp_path / str(k), stimuli_of(data))
        assert Run.open(tmp_path / str(k) / "run").steps == []


def test_workers_draw_other_numbers_in_each_pass() -> None:
    stimuli = stimuli_of(DataLoader(Changing(random=True), 8, num_workers=1))
    with pytest.raises(UnreadableInputs, match="switch random transforms off"):
        list(stimuli.inputs.blocks(range(N), N))


@pytest.mark.parametrize("row", [0, 13, N - 1])
def test_the_first_row_that_has_changed_is_named(tmp_path: Path, row: int) -> None:
    data = Changing()
    stimuli = stimuli_of(data)
    data.rows[row, 1] += 1e-6
    with pytest.raises(ValueError, match=f"The inputs differ from those .* made, first at 's{row}'; switch"):
        record(tmp_path, stimuli)
    assert Run.open(tmp_path / "run").steps == []
    data.rows[:] = X
    with Run.resume(tmp_path / "run", stimuli) as run:
        model = nn.Sequential(nn.Linear(3, 2))
        assert run.checkpoint(0, model, capture=Capture(model)).activations["0"].shape == (N, 2)


def test_an_error_of_the_data_set_during_a_recording_is_given_once(tmp_path: Path) -> None:
    data = Changing()
    stimuli = stimuli_of(data)
    data.rows = X[:20]
    with pytest.raises(UnreadableInputs, match=r"of type Changing could not be read at \d+ \(IndexError: index"):
        record(tmp_path, stimuli)


def test_values_out_of_range_are_found_in_any_block() -> None:
    wide = np.zeros((N, 3))
    wide[33] = 1e300
    with pytest.raises(ValueError, match=r"Inputs hold 1e\+300, which exceeds the range of float32"):
        stimuli_of(DataLoader(torch.from_numpy(wide), 4))
