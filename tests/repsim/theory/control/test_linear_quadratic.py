from dataclasses import replace
from math import inf, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from repsim.learning import stream
from repsim.theory.control import LinearPolicy, LinearQuadratic, discounted_cost, roll_out
from tests.repsim.theory.control.systems import INTEGRATOR, UNSTABLE, matrix

PROBLEMS = [INTEGRATOR, UNSTABLE, replace(UNSTABLE, gamma=1.0)]


def other_gain(problem: LinearQuadratic) -> Tensor:
    """A stabilising gain that is not optimal: that of a problem whose controls cost more."""
    return replace(problem, R=10 * problem.R, gamma=1.0).optimum.K


def starts(problem: LinearQuadratic, n: int = 7) -> Tensor:
    return problem.draw_states(n, stream(0, "starts"))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_riccati_solution_is_the_limit_of_value_iteration(problem: LinearQuadratic) -> None:
    """A slow twin: P ← the cost of one step of the best control, then P."""
    P = torch.zeros_like(problem.A)
    for _ in range(700):
        H = problem.R + problem.gamma * problem.B.T @ P @ problem.B
        K = torch.linalg.solve(H, problem.gamma * problem.B.T @ P @ problem.A)
        closed = problem.A - problem.B @ K
        P = problem.Q + K.T @ problem.R @ K + problem.gamma * closed.T @ P @ closed
    torch.testing.assert_close(problem.optimum.P, P, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(problem.optimum.K, K, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_no_gain_near_the_optimum_costs_less(problem: LinearQuadratic) -> None:
    """Central differences of the exact cost are zero at the optimal gain, and positive in curvature."""
    K, best = problem.optimum.K, problem.cost(problem.optimum.K)
    assert best == pytest.approx(float(problem.optimum.P.trace()), rel=1e-10)
    for index in range(K.numel()):
        step = torch.zeros(K.shape, dtype=K.dtype)
        step.view(-1)[index] = 1e-4
        above, below = problem.cost(K + step), problem.cost(K - step)
        assert above > best < below
        assert abs(above - below) / 2e-4 < 1e-4 * best


@pytest.mark.parametrize("problem", PROBLEMS)
def test_lyapunov_cost_is_that_of_a_long_simulation(problem: LinearQuadratic) -> None:
    gain, x = other_gain(problem), starts(problem)
    with torch.no_grad():
        costs = discounted_cost(roll_out(problem, LinearPolicy(gain), x, 500), problem.gamma)
    P = problem.value_matrix(gain)
    torch.testing.assert_close(costs, (x @ P * x).sum(-1), rtol=1e-9, atol=0)
    covariance = x.T @ x / len(x)
    assert problem.cost(gain, covariance) == pytest.approx(float(costs.mean()), rel=1e-9)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_value_gradient_is_that_of_a_long_rollout_by_autograd(problem: LinearQuadratic) -> None:
    gain, x = other_gain(problem), starts(problem).requires_grad_()
    value = -discounted_cost(roll_out(problem, LinearPolicy(gain), x, 500), problem.gamma)
    (expected,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(problem.value_gradient(gain, x.detach()), expected, rtol=1e-9, atol=1e-9)


def test_value_gradient_agrees_with_finite_differences() -> None:
    gain, x, step = UNSTABLE.optimum.K, starts(UNSTABLE, 1)[0], 1e-5 * torch.eye(4, dtype=torch.float64)
    above, below = (-((x + sign * step) @ UNSTABLE.optimum.P * (x + sign * step)).sum(-1) for sign in (1, -1))
    torch.testing.assert_close(UNSTABLE.value_gradient(gain, x), (above - below) / 2e-5, rtol=1e-6, atol=1e-6)


def test_an_unstable_gain_costs_infinitely_much_and_has_no_value() -> None:
    nothing = torch.zeros_like(UNSTABLE.optimum.K)
    assert not UNSTABLE.is_stable(nothing)
    assert UNSTABLE.cost(nothing) == inf
    with pytest.raises(ValueError, match=r"does not stabilise the system.*Use a stabilising gain"):
        UNSTABLE.value_matrix(nothing)


def test_a_discount_can_make_a_growing_system_cheap_enough() -> None:
    one = matrix([[1.0]])
    growing = LinearQuadratic(A=1.2 * one, B=one, Q=one, R=one, gamma=0.5)  # √γ · 1.2 < 1
    assert growing.cost(0 * one) == pytest.approx(1 / (1 - 0.5 * 1.2**2))


def test_starts_are_standard_normal() -> None:
    x = UNSTABLE.draw_states(20_000, stream(0, "starts"))
    torch.testing.assert_close(x.T @ x / len(x), torch.eye(4, dtype=torch.float64), rtol=0, atol=0.04)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no tensor": ({"A": [[1.0]]}, r"A is \[\[1.0\]\]; expected a matrix of torch.float64"),
    "single precision": ({"Q": torch.eye(2)}, r"Q is a torch.float32 tensor of shape \(2, 2\).*dtype=torch.float64"),
    "vector": ({"B": torch.ones(2, dtype=torch.float64)}, r"B is a torch.float64 tensor of shape \(2,\)"),
    "not finite": ({"A": matrix([[1, inf], [0, 1]])}, "A holds values that are not finite"),
    "shape of A": ({"A": torch.eye(3, dtype=torch.float64)}, r"A has shape \(3, 3\) .* expected shape \(2, 2\)"),
    "shape of R": ({"R": torch.eye(2, dtype=torch.float64)}, r"R has shape \(2, 2\) .* expected shape \(1, 1\)"),
    "asymmetric": ({"Q": matrix([[1, 1], [0, 1]])}, r"Q is not symmetric.*Use \(Q \+ Q.T\) / 2"),
    "negative cost": ({"Q": matrix([[1, 0], [0, -0.1]])}, "Q has a negative eigenvalue"),
    "free control": ({"R": matrix([[0.0]])}, "R is not positive definite"),
    "gamma 0": ({"gamma": 0.0}, "gamma is 0.0; expected a number above 0"),
    "gamma above 1": ({"gamma": 1.1}, "gamma is 1.1; expected a number from 0 to 1"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=list(BAD))
def test_invalid_problems_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(INTEGRATOR, **change)


def test_an_uncontrollable_problem_has_no_optimum() -> None:
    zero = torch.zeros(2, 1, dtype=torch.float64)
    lost = replace(INTEGRATOR, B=zero, A=2 * INTEGRATOR.A)
    with pytest.raises(ValueError, match=r"no stabilising solution.*Change A, B or Q"):
        _ = lost.optimum


def test_the_discount_is_in_the_optimum_as_a_scale_of_the_dynamics() -> None:
    scaled = replace(UNSTABLE, A=sqrt(0.98) * UNSTABLE.A, B=sqrt(0.98) * UNSTABLE.B, gamma=1.0)
    torch.testing.assert_close(scaled.optimum.K, UNSTABLE.optimum.K)
