from math import pi
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repsim.learning import stream
from repsim.theory.control import Pendulum, roll_out


class Torque(nn.Module):
    """The same torque everywhere."""

    def __init__(self, torque: float) -> None:
        super().__init__()
        self.torque = torque

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((*x.shape[:-1], 1), self.torque, dtype=x.dtype)


def state(angle: float, speed: float = 0.0) -> Tensor:
    return torch.tensor([[angle, speed]], dtype=torch.float64)


def test_energy_is_conserved_without_friction_and_torque() -> None:
    x = Pendulum().draw_states(50, stream(0, "starts"))
    drifts = []
    for substeps in (1, 2):
        pendulum = Pendulum(friction=0.0, substeps=substeps)
        energy = pendulum.energy(roll_out(pendulum, Torque(0.0), x, 200).states)  # 10 s
        assert float(energy[0].std()) > 5
        drifts.append(float((energy - energy[0]).abs().max()))
    assert drifts[0] < 0.1  # of ±9.81 J
    assert drifts[1] < drifts[0] / 16  # the method is of fourth order


def test_friction_takes_energy_and_torque_gives_its_work() -> None:
    pendulum = Pendulum(friction=0.3, substeps=4)
    energy = pendulum.energy(roll_out(pendulum, Torque(0.0), state(2.0), 100).states)
    assert (energy.diff(dim=0) < 0).all()
    pendulum = Pendulum(friction=0.0, substeps=4)
    states = roll_out(pendulum, Torque(3.0), state(2.0), 100).states
    work = 3.0 * (states[:, :, 0] - 2.0)
    torch.testing.assert_close(pendulum.energy(states) - pendulum.energy(states[0]), work, rtol=0, atol=1e-3)


def test_small_swings_have_the_period_of_the_textbook() -> None:
    pendulum = Pendulum(friction=0.0, length=2.0, time_step=0.01)
    states = roll_out(pendulum, Torque(0.0), state(pi + 1e-3), 1000).states
    down = (states[:-1, 0, 0] > pi) & (states[1:, 0, 0] <= pi)
    crossings = down.nonzero().flatten() * pendulum.time_step
    assert float(crossings.diff().double().mean()) == pytest.approx(2 * pi * (2.0 / 9.81) ** 0.5, abs=0.01)


def test_the_motor_alone_cannot_lift_it() -> None:
    pendulum = Pendulum()
    states = roll_out(pendulum, Torque(pendulum.torque_limit), state(pi), 20).states  # 1 s, before it swings back
    assert float(pendulum.tilt(states).min()) > pi / 4


def test_the_best_state_is_upright_at_rest() -> None:
    pendulum, nothing = Pendulum(), torch.zeros(1, 1, dtype=torch.float64)
    assert float(pendulum.reward(state(0.0), nothing)) == 0
    for x, u in ((state(0.1), nothing), (state(0.0, 0.1), nothing), (state(0.0), nothing + 0.1)):
        assert float(pendulum.reward(x, u)) < 0
    assert float(pendulum.reward(state(pi), nothing)) == pytest.approx(-2 * pendulum.time_step)


def test_a_full_turn_changes_neither_features_nor_reward() -> None:
    pendulum, u = Pendulum(), torch.zeros(1, 1, dtype=torch.float64)
    x, turned = state(0.4, 1.0), state(0.4 + 2 * pi, 1.0)
    torch.testing.assert_close(pendulum.features(x), pendulum.features(turned))
    torch.testing.assert_close(pendulum.reward(x, u), pendulum.reward(turned, u))
    assert float(pendulum.tilt(turned)) == pytest.approx(0.4)


def test_dynamics_can_be_differentiated() -> None:
    x, u = Pendulum().draw_states(3, stream(0, "starts")).requires_grad_(), torch.ones(3, 1, dtype=torch.float64)
    assert torch.autograd.gradcheck(Pendulum().dynamics, (x, u.requires_grad_()))


def test_initial_states_are_uniform_or_near_hanging() -> None:
    pendulum = Pendulum()
    x = pendulum.draw_states(2000, stream(0, "starts"))
    assert pi - 0.05 < float(x[:, 0].abs().max()) <= pi
    assert 6.95 < float(x[:, 1].abs().max()) <= 7
    hanging = pendulum.draw_hanging(2000, stream(0, "starts"), spread=0.2)
    assert hanging.mean(0).tolist() == pytest.approx([pi, 0], abs=0.02)
    assert hanging.std(0).tolist() == pytest.approx([0.2, 0.2], abs=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mass": 0.0}, "mass is 0.0; expected a number above 0"),
        ({"time_step": -1.0}, "time_step is -1.0; expected a number above 0"),
        ({"friction": -0.1}, "friction is -0.1; expected a number of 0 or more"),
        ({"gamma": 1.5}, "gamma is 1.5; expected a number from 0 to 1"),
        ({"substeps": 0}, "substeps is 0; expected a whole number of 1 or more"),
    ],
)
def test_an_impossible_pendulum_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pendulum(**change)
