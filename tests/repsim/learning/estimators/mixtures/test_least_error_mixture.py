import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repsim.learning import LeastErrorMixture, Signals, Site, locks
from repsim.learning.estimators.mixtures.least_error_mixture import least_error_weight
from tests.repsim.small_chains import CLASSES, N, randn, seeded
from tests.repsim.small_digits import digits_accuracy

LABELS = torch.arange(N) % CLASSES


def mixture(**options: object) -> LeastErrorMixture:
    rule = LeastErrorMixture(Site((5,), CLASSES), generator=seeded(), **options).double()
    with torch.no_grad():
        for i, parameter in enumerate(rule.parameters()):
            parameter.copy_(0.3 * randn(*parameter.shape, seed=i))
    return rule


def tensors(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def error(lam: float, squared_bias: float, v: float, w: float, c: float) -> float:
    return (1 - lam) ** 2 * (squared_bias + w) + lam**2 * v + 2 * lam * (1 - lam) * c


@pytest.mark.parametrize(
    ("squared_bias", "v", "w", "c", "expected"),
    [
        (1.0, 3.0, 0.0, 0.0, 0.25),
        (0.0, 2.0, 2.0, 0.0, 0.5),
        (0.5, 1.0, 0.7, 0.3, 0.9 / 1.6),
        (0.0, 1.0, 0.25, 0.5, 0.0),  # all of the variance of s is shared: s is best
        (4.0, 0.0, 1.0, 0.0, 1.0),
        (2.0, 1.0, 4.0, 1.9, 1.0),  # beyond 1
        (0.0, 0.0, 0.0, 0.0, 1.0),  # every weight is as good
    ],
)
def test_the_weight_has_the_least_mean_squared_error(
    squared_bias: float, v: float, w: float, c: float, expected: float
) -> None:
    lam = float(least_error_weight(*tensors(squared_bias, v, w, c)))
    assert lam == pytest.approx(expected, abs=1e-12)
    grid = np.linspace(0, 1, 1001)
    assert error(lam, squared_bias, v, w, c) <= error(grid, squared_bias, v, w, c).min() + 1e-12


def test_the_error_of_the_mixture_is_that_of_the_formula() -> None:
    """Oracle: the mean squared error over all pairs of values of t and s, in closed form."""
    t, s = randn(50, 4, seed=1), randn(50, 4, seed=2) + 0.3 * randn(50, 4, seed=1) + 0.4
    T, S = t - t.mean(0), s - s.mean(0)
    squared_bias = (s.mean(0) - t.mean(0)).square().sum()
    v, w, c = ((one * other).sum(1).mean() for one, other in ((T, T), (S, S), (T, S)))
    for lam in (0.0, 0.3, float(least_error_weight(squared_bias, v, w, c)), 1.0):
        measured = (lam * t + (1 - lam) * s - t.mean(0)).square().sum(1).mean()
        assert float(measured) == pytest.approx(error(lam, *map(float, (squared_bias, v, w, c))), abs=1e-12)


@pytest.mark.parametrize("memory", [100, 4])
def test_running_estimates_are_weighted_moments_of_the_batches(memory: int) -> None:
    """Oracle: weights of all batches, and moments around their weighted means."""
    rule = mixture(memory=memory)
    T, S, weights = [], [], np.zeros(0)
    y = F.one_hot(LABELS, CLASSES).double()
    for i in range(9):
        signals = Signals(randn(N, 5, seed=20 + i), LABELS, target=randn(N, 5, seed=40 + i))
        S.append(y.T @ rule.traced(signals).detach() / N)
        T.append(y.T @ signals.target / N)
        rule.gradient(signals)
        share = max(1 / (i + 1), 1 / memory)
        weights = np.append(weights * (1 - share), share)
    p = torch.from_numpy(weights)
    t, s = torch.stack(T).flatten(1), torch.stack(S).flatten(1)
    dt, ds = t - p @ t, s - p @ s
    unbiased = 1 - p.square().sum()
    v, w, c = (p @ (one * other).sum(1) / unbiased for one, other in ((dt, dt), (ds, ds), (dt, ds)))
    squared_bias = (p @ s - p @ t).square().sum() - (v + w - 2 * c) * p.square().sum()
    expected = least_error_weight(squared_bias.clamp_min(0), v, w, c)
    torch.testing.assert_close(rule.weight(), expected, rtol=0, atol=1e-12)
    assert 0 < expected < 1


def test_a_batch_does_not_decide_its_own_weight_and_the_first_two_use_the_target() -> None:
    rule = mixture()
    for i in range(4):
        signals = Signals(randn(N, 5, seed=20 + i), LABELS, target=randn(N, 5, seed=40 + i))
        before, estimate = float(rule.weight()), rule.traced(signals).detach()
        chosen = rule.gradient(signals)
        torch.testing.assert_close(chosen, before * signals.target + (1 - before) * estimate, rtol=0, atol=1e-12)
        assert (before == 1.0) == (i < 2)


def test_a_module_without_error_in_the_mean_and_with_less_variance_is_preferred() -> None:
    rule = mixture()
    mean, S = randn(N, 5, seed=7), rule.traced(Signals(randn(N, 5, seed=8), LABELS)).detach()
    for i in range(60):  # the same batch, with targets that vary about the module's gradient
        rule.gradient(Signals(randn(N, 5, seed=8), LABELS, target=S + randn(N, 5, seed=40 + i)))
    assert rule.weight() < 0.1
    rule = mixture()
    for i in range(60):  # targets that do not vary, far from the module's gradient
        rule.gradient(Signals(randn(N, 5, seed=8 + i), LABELS, target=mean))
    assert rule.weight() > 0.9


def test_it_waits_as_backprop_does() -> None:
    assert locks(mixture()) == {"update", "backward"}


def test_a_memory_of_one_update_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^memory is 1; expected a whole number of 2 or more\.$"):
        mixture(memory=1)


def test_it_learns_digits() -> None:
    assert digits_accuracy("least-error-mixture") > 0.9
