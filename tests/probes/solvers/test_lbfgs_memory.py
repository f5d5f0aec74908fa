from collections import deque

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from probes.solvers.lbfgs_memory import LEAST_CURVATURE, PAIRS, LbfgsMemory

P, Q = 3, 40  # problems, unknowns of each
GAMMA = np.array([0.5, 1.0, 2.0])


class TwoLoops:
    """The slow twin: L-BFGS of one problem as Nocedal and Wright have it (algorithm 7.4), over the last pairs."""

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma
        self.pairs: deque[tuple[NDArray, NDArray] | None] = deque(maxlen=PAIRS)

    def remember(self, s: NDArray, y: NDArray) -> None:
        curved = s @ y > LEAST_CURVATURE * np.sqrt((s @ s) * (y @ y))
        self.pairs.append((s, y) if curved else None)
        if curved:
            self.gamma = (s @ y) / (y @ y)

    def direction(self, g: NDArray) -> NDArray:
        pairs = [pair for pair in self.pairs if pair is not None]
        q, alphas = g.copy(), []
        for s, y in reversed(pairs):
            alphas.append((s @ q) / (s @ y))
            q = q - alphas[-1] * y
        r = self.gamma * q
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            r = r + s * (alpha - (y @ r) / (s @ y))
        return -r


class Both:
    """A memory of several problems beside a twin of each, which are told the same."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.rng = np.random.default_rng(0)
        roots = self.rng.normal(size=(P, Q, Q)) / np.sqrt(Q)
        self.curvature = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(Q)
        self.memory, self.dtype = LbfgsMemory(GAMMA, torch.empty(P, Q, dtype=dtype)), dtype
        self.twins = [TwoLoops(gamma) for gamma in GAMMA]

    def steps(self, n: int) -> "Both":
        for _ in range(n):
            s = self.rng.normal(size=(len(self.twins), Q))
            self.step(s, (self.curvature @ s[:, :, None])[:, :, 0])
        return self

    def step(self, s: NDArray, y: NDArray) -> None:
        self.memory.remember(torch.tensor(s, dtype=self.dtype), torch.tensor(y, dtype=self.dtype))
        for twin, *pair in zip(self.twins, s, y, strict=True):
            twin.remember(*pair)

    def assert_equal(self, rtol: float = 1e-9) -> None:
        g = self.rng.normal(size=(len(self.twins), Q))
        found = self.memory.direction(torch.tensor(g, dtype=self.dtype)).numpy()
        expected = np.array([twin.direction(each) for twin, each in zip(self.twins, g, strict=True)])
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("n", [0, 1, PAIRS - 1, PAIRS, PAIRS + 1, 2 * PAIRS + 7])
def test_the_direction_is_that_of_the_two_loop_recursion(n: int) -> None:
    Both().steps(n).assert_equal()


def test_single_precision_gives_the_direction_to_its_rounding() -> None:
    Both(torch.float32).steps(PAIRS + 3).assert_equal(rtol=1e-3)


def test_without_pairs_the_direction_is_the_scaled_steepest_descent() -> None:
    g = torch.ones(P, Q, dtype=torch.float64)
    np.testing.assert_array_equal(Both().memory.direction(g).numpy(), -GAMMA[:, np.newaxis] * np.ones((P, Q)))


@pytest.mark.parametrize("n", [1, PAIRS, PAIRS + 5])
def test_the_direction_satisfies_the_secant_equation(n: int) -> None:
    both = Both().steps(n - 1)  # the secant equation, H y = s
    s = both.rng.normal(size=(P, Q))
    y = (both.curvature @ s[:, :, None])[:, :, 0]
    both.step(s, y)
    np.testing.assert_allclose(both.memory.direction(torch.tensor(y)).numpy(), -s, atol=1e-9)


@pytest.mark.parametrize("kind", ["upwards", "flat", "no step", "no number"])
@pytest.mark.parametrize("before", [0, PAIRS - 1, PAIRS + 2])
def test_a_pair_without_curvature_is_skipped_in_its_problem_alone(kind: str, before: int) -> None:
    both = Both().steps(before)
    s = both.rng.normal(size=(P, Q))
    y = (both.curvature @ s[:, :, None])[:, :, 0]
    if kind == "upwards":
        y[1] = -y[1]
    elif kind == "flat":  # across the step, but for less than counts
        y[1] -= s[1] * (s[1] @ y[1]) / (s[1] @ s[1])
        y[1] += 0.1 * LEAST_CURVATURE * s[1] * np.linalg.norm(y[1]) / np.linalg.norm(s[1])
    elif kind == "no step":
        s[1] = y[1] = 0.0
    else:
        y[1, 3] = np.nan
    both.step(s, y)
    assert [twin.pairs[-1] is None for twin in both.twins] == [False, True, False]
    both.assert_equal()
    for further in (1, 5, PAIRS - 7, 1, 3):  # until the gap has left the ring
        both.steps(further).assert_equal()


@pytest.mark.parametrize("before", [3, PAIRS, PAIRS + 4])
def test_pairs_are_forgotten_per_problem(before: int) -> None:
    both = Both().steps(before)
    both.memory.forget(np.array([True, False, True]))
    for p in (0, 2):
        both.twins[p].pairs.extend([None] * PAIRS)  # gamma stays
    both.assert_equal()
    for further in (1, 4, PAIRS - 5, 1, 8):
        both.steps(further).assert_equal()


@pytest.mark.parametrize("left", [[0, 2], [2, 1], [1]])
@pytest.mark.parametrize("before", [3, PAIRS + 4])
def test_remaining_problems_keep_their_own_pairs(before: int, left: list[int]) -> None:
    both = Both().steps(before)
    both.memory.only(np.array(left))
    both.twins, both.curvature = [both.twins[p] for p in left], both.curvature[left]
    both.assert_equal()
    both.steps(PAIRS - 1).assert_equal()
    both.memory.forget(np.arange(len(left)) == 0)
    both.twins[0].pairs.extend([None] * PAIRS)
    both.assert_equal()


@pytest.mark.parametrize("before", [0, 1, 7, PAIRS])
def test_a_filled_memory_is_one_that_was_told_pair_by_pair(before: int) -> None:
    both = Both().steps(max(before - 1, 0))
    if before:  # one pair of one problem has no curvature
        s = both.rng.normal(size=(P, Q))
        y = (both.curvature @ s[:, :, None])[:, :, 0]
        y[1] = -y[1]
        both.step(s, y)
    filled = LbfgsMemory(GAMMA, torch.empty(P, Q, dtype=torch.float64))
    filled.fill(*both.memory.pairs)
    both.memory = filled
    both.assert_equal()
    both.steps(5).assert_equal()
    both.steps(PAIRS).assert_equal()


def test_zeros_before_the_pairs_of_a_problem_stand_for_no_pairs() -> None:
    both = Both().steps(4)
    S, Y = both.memory.pairs
    S[2, :3], Y[2, :3] = 0.0, 0.0
    for k in range(3):
        both.twins[2].pairs[k] = None
    both.memory = LbfgsMemory(GAMMA, torch.empty(P, Q, dtype=torch.float64))
    both.memory.fill(S, Y)
    both.assert_equal()
    assert both.memory.pairs_of(2)[0].shape == (4, Q)
