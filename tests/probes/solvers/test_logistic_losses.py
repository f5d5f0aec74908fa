from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from probes.solvers.feature_products import FeatureProducts, SharedFeatures, StackedLayers
from probes.solvers.fit import LogisticProblem
from probes.solvers.logistic_losses import LogisticLosses

N, D, P = 30, 4, 3
CS = (0.1, 1.0, 3.0)


@dataclass
class Case:
    """Problems, and their losses by autograd alone."""

    layers: NDArray  # (P, n, d)
    problems: list[LogisticProblem]
    n_outputs: int
    rows: FeatureProducts
    w: NDArray
    way: NDArray

    def losses(self) -> LogisticLosses:
        losses = LogisticLosses(self.rows, self.problems, self.n_outputs)
        losses.move_to(torch.tensor(self.w))
        return losses

    def loss(self, p: int, w: torch.Tensor) -> torch.Tensor:
        """C Σ s ℓ at coefficients and intercepts (q,)."""
        X, each = torch.tensor(self.layers[p]), self.problems[p]
        logits = X @ w[: -self.n_outputs].view(self.n_outputs, D).T + w[-self.n_outputs :]
        if self.n_outputs == 1:
            logits = torch.cat([torch.zeros(N, 1), logits], dim=1)
        of_each = torch.nn.functional.cross_entropy(logits, torch.tensor(each.y), reduction="none")
        weight = np.ones(N) if each.sample_weight is None else each.sample_weight
        return each.C * (torch.tensor(weight) * of_each).sum()

    def value(self, w: NDArray) -> NDArray:
        return np.array([self.loss(p, torch.tensor(each)).item() for p, each in enumerate(w)])

    def slope(self, w: NDArray) -> NDArray:
        return np.stack([self._slope(p, each) for p, each in enumerate(w)])

    def _slope(self, p: int, w: NDArray) -> NDArray:
        at = torch.tensor(w, requires_grad=True)
        (slope,) = torch.autograd.grad(self.loss(p, at), at)
        return slope.numpy()


@pytest.fixture(params=[(1, "shared"), (3, "shared"), (1, "stacked"), (3, "stacked")], ids=str)
def case(request: Any) -> Case:
    n_outputs, kind = request.param
    rng = np.random.default_rng(0)
    n_layers = 1 if kind == "shared" else P
    layers = np.broadcast_to(rng.normal(size=(n_layers, N, D)), (P, N, D)).copy()
    n_classes = max(2, n_outputs)
    weights = [None, rng.uniform(0.0, 2.0, size=N), np.resize([0.0, 1.0], N)]
    problems = [
        LogisticProblem(y=np.resize(rng.permutation(n_classes), N), C=C, sample_weight=weight)
        for C, weight in zip(CS, weights, strict=True)
    ]
    rows: FeatureProducts = (
        SharedFeatures(layers[0], torch.float64, "cpu", P * n_outputs)
        if kind == "shared"
        else StackedLayers(list(layers), torch.float64, "cpu", n_outputs)
    )
    w, way = rng.normal(size=(2, P, n_outputs * (D + 1)))
    return Case(layers, problems, n_outputs, rows, w, way)


def test_values_and_slopes_are_those_of_autograd(case: Case) -> None:
    losses = case.losses()
    np.testing.assert_allclose(losses.values, case.value(case.w), rtol=1e-12)
    np.testing.assert_allclose(losses.slope().numpy(), case.slope(case.w), rtol=1e-10, atol=1e-12)


def test_curvature_is_the_mean_second_derivative_in_a_logit(case: Case) -> None:
    expected = []
    for p, w in enumerate(case.w):  # in an intercept, which is in the logits of all examples
        bent = torch.autograd.functional.hessian(lambda at, p=p: case.loss(p, at), torch.tensor(w))
        expected.append(bent.diagonal()[-case.n_outputs :].mean().item())
    np.testing.assert_allclose(case.losses().curvatures().sum(1).numpy(), expected, rtol=1e-10)


def test_a_trial_along_a_line_has_the_value_and_the_slope_there(case: Case) -> None:
    losses = case.losses()
    losses.look(torch.tensor(case.way))
    for t in (np.zeros(P), np.array([0.5, 1.0, 3.0]), np.array([1e-3, 5.0, 0.1])):
        there = case.w + t[:, np.newaxis] * case.way
        value, along = losses.trial(t)
        np.testing.assert_allclose(value, case.value(there), rtol=1e-12)
        np.testing.assert_allclose(along, np.sum(case.slope(there) * case.way, axis=1), rtol=1e-9, atol=1e-12)


def test_a_trial_without_acceptance_changes_nothing(case: Case) -> None:
    losses = case.losses()
    before = losses.values.copy(), losses.slope().numpy()
    losses.look(torch.tensor(case.way))
    losses.trial(np.ones(P))
    np.testing.assert_array_equal(losses.values, before[0])
    np.testing.assert_array_equal(losses.slope().numpy(), before[1])


@pytest.mark.parametrize("moved", [[True, True, True], [True, False, True], [False, False, False]])
def test_problems_that_accept_move_and_the_others_stay(case: Case, moved: list[bool]) -> None:
    losses = case.losses()
    losses.look(torch.tensor(case.way))
    t = np.array([0.5, 1.0, 2.0])
    value, _ = losses.trial(t)
    losses.accept(value, np.array(moved))
    here = case.w + (t * moved)[:, np.newaxis] * case.way
    np.testing.assert_allclose(losses.values, case.value(here), rtol=1e-12)
    np.testing.assert_allclose(losses.slope().numpy(), case.slope(here), rtol=1e-9, atol=1e-12)
    losses.look(torch.tensor(-case.way))  # the next line starts from there
    value, _ = losses.trial(t)
    np.testing.assert_allclose(value, case.value(here - t[:, np.newaxis] * case.way), rtol=1e-12)


@pytest.mark.parametrize("left", [[0, 2], [2, 1], [1]])
def test_remaining_problems_keep_their_state(case: Case, left: list[int]) -> None:
    losses = case.losses()
    case.rows.only(np.array(left))
    losses.only(torch.tensor(left))
    np.testing.assert_allclose(losses.values, case.value(case.w)[left], rtol=1e-12)
    np.testing.assert_allclose(losses.slope().numpy(), case.slope(case.w)[left], rtol=1e-10, atol=1e-12)
    losses.look(torch.tensor(case.way[left]))
    value, _ = losses.trial(np.ones(len(left)))
    np.testing.assert_allclose(value, case.value(case.w + case.way)[left], rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_logits_in_the_thousands_do_not_overflow(dtype: torch.dtype, n_outputs: int) -> None:
    X = np.array([[1.0], [-1.0], [0.0]])
    y = np.array([0, 1, 1]) if n_outputs == 1 else np.array([0, 1, 2])
    losses = LogisticLosses(SharedFeatures(X, dtype, "cpu", n_outputs), [LogisticProblem(y=y, C=1.0)], n_outputs)
    coef = [5000.0] if n_outputs == 1 else [5000.0, 0.0, -5000.0]
    losses.move_to(torch.tensor([coef + [0.0] * n_outputs], dtype=dtype))
    # Two classes: 5000 for each of two wrong examples and log 2. Three: 0, then 5000, and log 3.
    expected = 10000.0 + np.log(2.0) if n_outputs == 1 else 5000.0 + np.log(3.0)
    assert losses.values.item() == pytest.approx(expected, rel=1e-6)
    assert torch.isfinite(losses.slope()).all()
    assert torch.isfinite(losses.curvatures()).all()


@pytest.mark.parametrize("z", [21.0, 30.0])
def test_a_nearly_certain_second_class_keeps_its_small_loss(z: float) -> None:
    losses = LogisticLosses(
        SharedFeatures(np.ones((2, 1)), torch.float64, "cpu", 1), [LogisticProblem(y=np.array([1, 1]), C=1.0)], 1
    )
    losses.move_to(torch.tensor([[z, 0.0]], dtype=torch.float64))
    assert losses.values.item() == pytest.approx(2.0 * np.log1p(np.exp(-z)), rel=3e-2, abs=0.0)
