import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch

from repsim.learning import Diverged, stream
from repsim.theory.control import (
    ControlOptions,
    ControlStep,
    Critic,
    LinearGradient,
    LinearPolicy,
    LinearQuadratic,
    MLPGradient,
    MLPPolicy,
    MLPValue,
    Pendulum,
    QuadraticValue,
    discounted_cost,
    roll_out,
    train_policy,
)
from tests.repsim.theory.control.systems import INTEGRATOR, matrix
from tests.repsim.theory.control.systems import UNSTABLE as COUPLED

Q = torch.diag(torch.tensor([1.0, 0.1, 1.0, 0.1], dtype=torch.float64))
UNSTABLE = replace(COUPLED, Q=Q, R=0.2 * torch.eye(2, dtype=torch.float64))
PROBLEMS = {"integrator": INTEGRATOR, "unstable": UNSTABLE}

CRITICS: dict[str, Callable[[int], Critic | None]] = {
    "gradient": LinearGradient,
    "value": QuadraticValue,
    "none": lambda n_states: None,
}


def learn(
    problem: LinearQuadratic, critic: str, policy: LinearPolicy, options: ControlOptions
) -> Iterator[ControlStep]:
    return train_policy(problem, policy, CRITICS[critic](problem.n_states), options)


def first_policy(problem: LinearQuadratic) -> LinearPolicy:
    """That of a problem whose controls cost much more: stable, and far from the best."""
    return LinearPolicy(replace(problem, R=30 * problem.R, gamma=1.0).optimum.K)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=list(PROBLEMS))
@pytest.mark.parametrize(("critic", "trace"), [("gradient", 0.0), ("gradient", 0.5), ("gradient", 1.0), ("value", 0.0)])
def test_training_reaches_the_riccati_optimum(problem: LinearQuadratic, critic: str, trace: float) -> None:
    options = ControlOptions(trace=trace, steps=110, batch_size=48, head_start=20, policy_rate=0.2, critic_rate=0.25)
    first, *_, last = learn(problem, critic, first_policy(problem), options)
    assert first.excess_cost > 0.2
    assert -1e-12 < last.excess_cost < 0.01
    assert last.gradient_error < 0.01
    assert last.critic_loss < first.critic_loss / 100


def test_backprop_through_a_long_time_reaches_the_riccati_optimum() -> None:
    options = ControlOptions(horizon=30, steps=70, batch_size=16, policy_rate=0.15)
    first, *_, last = learn(UNSTABLE, "none", first_policy(UNSTABLE), options)
    assert first.excess_cost > 0.2
    assert last.excess_cost < 0.01
    assert math.isnan(last.critic_loss)
    assert math.isnan(last.gradient_error)


@pytest.mark.parametrize("critic", CRITICS)
def test_the_same_seed_gives_the_same_bits(critic: str) -> None:
    def run(seed: int) -> list[str]:
        options = ControlOptions(seed=seed, steps=12, restart=0.5, head_start=2)
        return [repr(record) for record in learn(INTEGRATOR, critic, first_policy(INTEGRATOR), options)]

    assert run(3) == run(3) != run(4)


@pytest.mark.parametrize("critic", CRITICS)
def test_a_record_describes_the_policy_before_its_update(critic: str) -> None:
    policy, options = first_policy(INTEGRATOR), ControlOptions(steps=3, head_start=0)
    gains = []
    records = []
    learning = learn(INTEGRATOR, critic, policy, options)
    for _ in range(options.steps):
        gains.append(policy.gain.detach().clone())
        records.append(next(learning))
    assert [record.step for record in records] == [1, 2, 3]
    assert not torch.equal(gains[0], gains[1])
    best = float(INTEGRATOR.optimum.P.trace())
    assert [r.excess_cost for r in records] == pytest.approx([INTEGRATOR.cost(gain) / best - 1 for gain in gains])


def test_a_critic_of_zero_has_a_relative_error_of_1() -> None:
    record = next(learn(INTEGRATOR, "gradient", first_policy(INTEGRATOR), ControlOptions()))
    assert record.gradient_error == 1


def test_only_the_critic_learns_during_its_head_start() -> None:
    policy, critic = first_policy(INTEGRATOR), LinearGradient(2)
    before = policy.gain.detach().clone()
    learning = train_policy(INTEGRATOR, policy, critic, ControlOptions(head_start=3))
    list(islice(learning, 3))
    assert torch.equal(policy.gain, before)
    assert float(critic.S.detach().abs().max()) > 0
    next(learning)
    assert not torch.equal(policy.gain, before)


def test_trajectories_continue_where_they_ended_unless_they_restart() -> None:
    policy = first_policy(INTEGRATOR)
    fixed = ControlOptions(steps=2, horizon=4, policy_rate=1e-300)
    whole, split = replace(fixed, horizon=8, steps=1), replace(fixed, restart=0.0)
    start = INTEGRATOR.draw_states(64, stream(0, "states", 1))
    with torch.no_grad():
        states = roll_out(INTEGRATOR, policy, start, whole.horizon).states
        expected = [roll_out(INTEGRATOR, policy, states[t], 4) for t in (0, 4)]
    costs = [float(discounted_cost(each, INTEGRATOR.gamma).mean()) for each in expected]
    seen = [record.cost for record in train_policy(INTEGRATOR, copy.deepcopy(policy), None, split)]
    assert seen == pytest.approx(costs)
    seen = [record.cost for record in train_policy(INTEGRATOR, copy.deepcopy(policy), None, fixed)]
    assert seen[1] > 1.5 * costs[1]  # from new states


def test_targets_bootstrap_from_a_critic_that_lags() -> None:
    """With the slow critic all but still at zero, one-step values are rewards, however long it learns."""
    policy, critic = first_policy(INTEGRATOR), QuadraticValue(2)
    options = ControlOptions(trace=0.0, steps=60, head_start=60, critic_rate=0.25, tracking=1e-9)
    *_, last = train_policy(INTEGRATOR, policy, critic, options)
    K = policy.gain.detach()
    S = critic.S.detach()
    torch.testing.assert_close((S + S.T) / 2, INTEGRATOR.Q + K.T @ INTEGRATOR.R @ K, rtol=1e-3, atol=1e-3)
    assert last.gradient_error > 0.5


@pytest.mark.parametrize("critic", [MLPGradient, MLPValue, None])
def test_a_policy_of_the_pendulum_learns(critic: type[MLPGradient | MLPValue] | None) -> None:
    pendulum, width = Pendulum(), 8
    policy = MLPPolicy(pendulum, limit=pendulum.torque_limit, width=width, generator=stream(0, "policy"))
    before = copy.deepcopy(policy.state_dict())
    options = ControlOptions(steps=4, head_start=1, restart=0.1, tracking=0.1)
    built = None if critic is None else critic(pendulum, width=width, generator=stream(0, "critic"))
    records = list(train_policy(pendulum, policy, built, options))
    assert len(records) == 4
    assert all(record.cost > 0 and math.isnan(record.excess_cost) for record in records)
    assert all(math.isnan(record.gradient_error) for record in records)
    assert all(not torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def test_divergence_is_raised_before_it_is_learned() -> None:
    policy = LinearPolicy(matrix([[1e200, 0.0]]))
    with pytest.raises(Diverged, match=r"the loss of the policy is nan at step 1\. Try a lower learning rate"):
        next(train_policy(INTEGRATOR, policy, None, ControlOptions()))
    critic = QuadraticValue(2)
    with torch.no_grad():
        critic.S.fill_(1e200)
    with pytest.raises(Diverged, match="the loss of the critic is inf at step 1"):
        next(train_policy(INTEGRATOR, first_policy(INTEGRATOR), critic, ControlOptions()))
    assert float(critic.S.detach().min()) == 1e200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed is -1; expected a whole number of 0 or more"),
        ({"steps": 0}, "steps is 0; expected a whole number of 1 or more"),
        ({"horizon": 1.5}, "horizon is 1.5; expected a whole number of 1 or more"),
        ({"head_start": -1}, "head_start is -1; expected a whole number of 0 or more"),
        ({"trace": 1.1}, "trace is 1.1; expected a number from 0 to 1"),
        ({"restart": -0.1}, "restart is -0.1; expected a number from 0 to 1"),
        ({"tracking": 0.0}, "tracking is 0.0; expected a number above 0"),
        ({"tracking": 2.0}, "tracking is 2.0; expected a number from 0 to 1"),
        ({"policy_rate": 0.0}, "policy_rate is 0.0; expected a number above 0"),
        ({"optimizer": "lbfgs"}, "Unknown optimizer 'lbfgs'. Choose one of: adam, sgd, momentum"),
        ({"schedule": "linear"}, "Unknown schedule 'linear'. Choose one of: constant, cosine"),
    ],
)
def test_options_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ControlOptions(**change)
