"""Optimizer state: what comes back has the type and value that it had."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from checkpoints import Run, Stimuli
from tests.checkpoints.exact_equality import same

SETTINGS: dict[str, Any] = {
    "growth_rate": float("inf"),
    "d": float("nan"),
    "lowest": float("-inf"),
    "dtype": torch.bfloat16,
    "history": deque([1.0, float("inf")], maxlen=4),
    "names": {"a", "b"},
    "table": {1: (2, None), "x": [b"raw"]},
    "limits": np.array([np.inf, 1.0]),
    "rate": np.float32(0.1),
    "device": torch.device("cpu"),
}
ENTRIES: dict[str, Any] = {
    "mask": torch.tensor([[True, False, True, False]] * 3),
    "moment": torch.full((3, 4), 1 / 3, dtype=torch.float64),
    "small": torch.arange(12.0).reshape(3, 4).to(torch.bfloat16),
    "tiny": torch.arange(4.0).to(torch.float8_e4m3fn),
    "phase": torch.tensor([1j, 2 + 1j], dtype=torch.complex128),
    "index": torch.tensor(2**40),
    "none": torch.zeros(0, 3, dtype=torch.int8),
    "kind": "exponential",
    "losses": deque([torch.tensor(0.5, dtype=torch.float64), float("nan")], maxlen=2),
    "shape": torch.Size([3, 4]),
    "counts": np.arange(3),
    "nested": {"steps": [torch.tensor(3), (b"x",)]},
    "step": torch.tensor(7.0),
    "best": float("-inf"),
    "empty": None,
}


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    stimuli = Stimuli.of(range(4), [0, 1] * 2, ["test"] * 4, np.zeros((4, 4)))
    with Run.create(folder / "run", {}, stimuli) as run:
        yield run


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64])
def test_settings_and_entries_of_every_kind_are_restored_exactly(run: Run, dtype: torch.dtype) -> None:
    def optimizer() -> torch.optim.Optimizer:
        return torch.optim.SGD([nn.Parameter(torch.zeros(3, 4, dtype=dtype))], lr=0.1, momentum=0.9)

    first, second = optimizer(), optimizer()
    first.param_groups[0].update(SETTINGS)
    first.state[first.param_groups[0]["params"][0]].update(ENTRIES)
    run.checkpoint(0, nn.Identity(), first)
    Run.open(run.path)[0].restore(nn.Identity(), second)
    assert same(second.state_dict(), first.state_dict())
    assert run.verify() == [0]


def test_an_optimizer_that_keeps_its_own_types_trains_on_bit_for_bit(run: Run) -> None:
    class Averaging(torch.optim.SGD):
        """Gradient descent along an average that is more precise than the parameters."""

        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for parameter in group["params"]:
                    state = self.state[parameter]
                    average = state.get("average", torch.zeros_like(parameter, dtype=torch.float64))
                    state["average"] = 0.9 * average + parameter.grad.double()
                    parameter.data -= (0.1 * state["average"]).float()

    def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.linspace(-1, 1, 12).reshape(4, 3)).square().mean().backward()
            optimizer.step()

    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer, resumed = Averaging(model.parameters(), 0.1), Averaging(other.parameters(), 0.1)
    advance(model, optimizer, 3)
    run.checkpoint(0, model, optimizer)
    run[0].restore(other, resumed)
    advance(model, optimizer, 3)
    advance(other, resumed, 3)
    assert torch.equal(other.weight, model.weight)
    assert same(resumed.state_dict(), optimizer.state_dict())


def test_an_optimizer_with_lists_of_tensors_trains_on_bit_for_bit(run: Run) -> None:
    def advance(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        def loss() -> Tensor:
            optimizer.zero_grad()
            value = (model(torch.linspace(-1, 1, 12).reshape(4, 3)) - 1).square().mean()
            value.backward()
            return value

        for _ in range(3):
            optimizer.step(loss)  # type: ignore[arg-type]

    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    first, second = (torch.optim.LBFGS(each.parameters(), lr=0.1, max_iter=2) for each in (model, other))
    advance(model, first)
    run.checkpoint(0, model, first)
    run[0].restore(other, second)
    advance(model, first)
    advance(other, second)
    assert torch.equal(other.weight, model.weight)
    assert same(second.state_dict(), first.state_dict())


@pytest.mark.parametrize("several", [False, True])
def test_an_entry_that_cannot_be_stored_is_named_and_the_step_can_be_saved_without_it(run: Run, several: bool) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["schedule"] = len
    given = [torch.optim.Adam(model.parameters()), optimizer] if several else optimizer
    entry = r"optimizers\[1\]\['param_groups'\]" if several else "param_groups"
    message = (
        rf"^The optimizer's state cannot be saved: {entry}\[0\]\['schedule'\] is of type builtin_function_or_method, "
        r"which cannot be stored exactly; give optimizer=None to save the step without it\.$"
    )
    with pytest.raises(TypeError, match=message):
        run.checkpoint(0, model, given)
    assert run.steps == []
    run.checkpoint(0, model)
    assert run.verify() == [0]


def test_a_state_too_long_to_be_read_again_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    optimizer.param_groups[0]["history"] = [0.5] * 1000
    monkeypatch.setattr("checkpoints.storage.manifest._LARGEST_JSON", 5000)
    with pytest.raises(TypeError, match=r"would have \d+ bytes; at most 5000 can be read again; give optimizer=None"):
        run.checkpoint(0, nn.Identity(), optimizer)


def test_a_deeply_nested_setting_is_read_again(run: Run) -> None:
    first, second = (torch.optim.SGD([nn.Parameter(torch.zeros(1))]) for _ in range(2))
    setting: dict[str, Any] = {}
    for _ in range(45):
        setting = {"a": setting}
    first.param_groups[0]["setting"] = setting
    run.checkpoint(0, nn.Identity(), first)
    assert run.verify() == [0]
    run[0].restore(nn.Identity(), second)
    assert second.param_groups[0]["setting"] == setting
