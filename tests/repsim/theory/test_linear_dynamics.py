import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repsim.learning import Learner, Signals, SyntheticGradient, site_of
from repsim.theory.linear_dynamics import (
    iteration_matrix,
    largest_rates,
    least_squares,
    linear_model,
    spectral_radius,
)
from tests.repsim.small_chains import seeded

N, FEATURES = 40, 3


def problem(n_outputs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return inputs of unequal variances, and targets that no linear model fits."""
    generator = seeded(seed)
    X = torch.randn(N, FEATURES, generator=generator, dtype=torch.float64) * torch.tensor([1.5, 1.0, 0.3])
    return X, torch.randn(N, n_outputs, generator=generator, dtype=torch.float64) + X[:, :n_outputs]


def one_hot(n_classes: int = 3) -> tuple[Tensor, Tensor]:
    X, Y = problem(n_classes)
    return X, F.one_hot(Y.argmax(dim=1), n_classes).double()


def exact_module(n_outputs: int) -> Tensor:
    """Return Θ* = [2I; −2I; 0]."""
    eye = torch.eye(n_outputs, dtype=torch.float64)
    return torch.cat([2 * eye, -2 * eye, torch.zeros(1, n_outputs)])


def fixed_point(X: Tensor, Y: Tensor, bias: bool = True) -> Tensor:
    """Return [W*; Θ*]."""
    return torch.cat([least_squares(X, Y, bias=bias), exact_module(Y.shape[1])])


def move(state: Tensor, X: Tensor, Y: Tensor, alpha: float, beta: float, bias: bool = True) -> Tensor:
    """Return [W; A; B; c] after one step: the oracle, written from the model's equations."""
    Z = torch.cat([X, torch.ones(len(X), 1)], dim=1) if bias else X
    W, A, B, c = state.split([Z.shape[1], Y.shape[1], Y.shape[1], 1])
    H = Z @ W
    S = H @ A + Y @ B + c
    miss = S - 2 * (H - Y)
    slopes = [torch.einsum("ni,nj->ij", seen, miss) * 2 / len(X) for seen in (H, Y, torch.ones(len(X), 1).to(X))]
    return torch.cat([W - alpha / len(X) * Z.T @ S, A - beta * slopes[0], B - beta * slopes[1], c - beta * slopes[2]])


class Run:
    """The learner itself, with its own optimizer."""

    def __init__(self, X: Tensor, Y: Tensor, alpha: float, beta: float | None, bias: bool = True) -> None:
        self.X, self.Y = X, Y
        self.network = linear_model(X.shape[1], Y.shape[1], bias=bias, generator=seeded(0)).double()
        self.S = SyntheticGradient(site_of(self.network, 1, loss="mse", n_outputs=Y.shape[1])).double()
        self.learner = Learner(self.network, {1: self.S}, loss="mse")
        groups = [{"params": list(self.network.parameters()), "lr": alpha}]
        if beta is not None:
            groups.append({"params": list(self.S.parameters()), "lr": beta})
        self.optimizer = torch.optim.SGD(groups)

    @property
    def state(self) -> Tensor:
        affine = self.network.hidden["1"]
        rows = [affine.weight.T] if affine.bias is None else [affine.weight.T, affine.bias[None]]
        return torch.cat([*rows, self.S.layers[0].weight.T, self.S.label_vectors.weight, self.S.layers[0].bias[None]])

    @state.setter
    def state(self, state: Tensor) -> None:
        c, affine = self.Y.shape[1], self.network.hidden["1"]
        sizes = [self.X.shape[1], 0 if affine.bias is None else 1, c, c, 1]
        weight, bias, A, B, shift = state.split(sizes)
        with torch.no_grad():
            affine.weight.copy_(weight.T)
            if affine.bias is not None:
                affine.bias.copy_(bias[0])
            self.S.layers[0].weight.copy_(A.T)
            self.S.label_vectors.weight.copy_(B)
            self.S.layers[0].bias.copy_(shift[0])

    def step(self, n_steps: int = 1) -> Tensor:
        for _ in range(n_steps):
            self.optimizer.zero_grad()
            self.learner.compute_gradients(self.X, self.Y)
            self.optimizer.step()
        return self.state.detach()


def perturbed(X: Tensor, Y: Tensor, size: float, bias: bool = True) -> Tensor:
    point = fixed_point(X, Y, bias)
    return point + size * torch.randn(point.shape, generator=seeded(5), dtype=torch.float64)


def decay(run: Run, target: Tensor, rows: slice, n_steps: int, n_more: int) -> float:
    """Return the factor by which a step multiplies the distance of some rows, after so many and over so many more."""
    first = (run.step(n_steps) - target)[rows].norm()
    return float(((run.step(n_more) - target)[rows].norm() / first) ** (1 / n_more))


# The solution and the model


@pytest.mark.parametrize("bias", [True, False])
def test_least_squares_are_those_of_numpy(bias: bool) -> None:
    X, Y = problem(2)
    Z = np.hstack([X, np.ones((N, 1))]) if bias else X.numpy()
    expected = np.linalg.lstsq(Z, Y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(least_squares(X, Y, bias=bias).numpy(), expected, rtol=1e-10, atol=1e-12)


def test_of_many_least_squares_the_shortest_is_found() -> None:
    X, Y = problem(2)
    X = torch.cat([X, X[:, :1], torch.zeros(N, 1)], dim=1)
    expected = np.linalg.lstsq(X.numpy(), Y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(least_squares(X, Y, bias=False).numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_the_linear_model_is_one_affine_map_with_a_boundary_at_its_output(bias: bool) -> None:
    net, again = (linear_model(400, 300, bias=bias, generator=seeded(1)) for _ in range(2))
    X = torch.randn(5, 400, generator=seeded(2))
    assert torch.equal(net(X), again(X))
    assert net.shapes == ((300,),)
    assert float(net.hidden["1"].weight.detach().std()) == pytest.approx(1 / math.sqrt(400), rel=0.01)
    torch.testing.assert_close(net(X), X @ net.hidden["1"].weight.T)
    assert (net.hidden["1"].bias is not None) is bias


# The matrix


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_outputs", [1, 2, 3])
def test_the_learner_moves_as_the_equations_say(n_outputs: int, bias: bool) -> None:
    X, Y = problem(n_outputs)
    run = Run(X, Y, 0.05, 0.02, bias)
    state = run.state = perturbed(X, Y, 0.5, bias)
    for _ in range(10):
        state = move(state, X, Y, 0.05, 0.02, bias)
        torch.testing.assert_close(run.step(), state, rtol=0, atol=1e-12)
    assert (state - perturbed(X, Y, 0.5, bias)).abs().max() > 0.1


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_outputs", [1, 2, 3])
def test_the_iteration_matrix_is_the_jacobian_of_a_step(n_outputs: int, bias: bool) -> None:
    X, Y = problem(n_outputs)
    point = fixed_point(X, Y, bias)
    torch.testing.assert_close(move(point, X, Y, 0.3, 0.2, bias), point, rtol=0, atol=1e-13)
    jacobian = torch.func.jacrev(lambda state: move(state, X, Y, 0.3, 0.2, bias))(point)
    matrix = iteration_matrix(X, Y, 0.3, 0.2, bias=bias)
    torch.testing.assert_close(matrix, jacobian.reshape(point.numel(), point.numel()), rtol=0, atol=1e-10)


def test_the_iteration_matrix_at_any_other_fixed_point_is_the_jacobian_there() -> None:
    """One-hot rows and the fitted ones both sum to 1, so that Φ* n = 0 for n = (1, −1, 0)."""
    X, Y = one_hot()
    point = fixed_point(X, Y)
    point[4:7] += torch.tensor([0.4, -0.7, 0.2])
    point[7:10] -= torch.tensor([0.4, -0.7, 0.2])
    torch.testing.assert_close(move(point, X, Y, 0.3, 0.2), point, rtol=0, atol=1e-13)
    jacobian = torch.func.jacrev(lambda state: move(state, X, Y, 0.3, 0.2))(point)
    matrix = iteration_matrix(X, Y, 0.3, 0.2, A=point[4:7])
    torch.testing.assert_close(matrix, jacobian.reshape(point.numel(), point.numel()), rtol=0, atol=1e-10)
    assert (matrix - iteration_matrix(X, Y, 0.3, 0.2)).abs().max() > 0.01


def test_the_iteration_matrix_is_that_of_one_output_for_each() -> None:
    """[[I − 2α/N ZᵀZ, −α/N ZᵀΦ*], [0, I − 2β/N Φ*ᵀΦ*]], for Z = X and Φ* = [H*, Y, 1]."""
    X, Y = problem(2)
    Phi = torch.cat([X @ least_squares(X, Y, bias=False), Y, torch.ones(N, 1)], dim=1)
    top = torch.cat([torch.eye(3) - 0.6 / N * X.T @ X, -0.3 / N * X.T @ Phi], dim=1)
    bottom = torch.cat([torch.zeros(5, 3), torch.eye(5) - 0.4 / N * Phi.T @ Phi], dim=1)
    found = iteration_matrix(X, Y, 0.3, 0.2, bias=False).view(8, 2, 8, 2)
    for output in range(2):
        torch.testing.assert_close(found[:, output, :, output], torch.cat([top, bottom]), rtol=0, atol=1e-12)
        assert found[:, output, :, 1 - output].abs().max() < 1e-12


# Its spectrum


@pytest.mark.parametrize("bias", [True, False])
def test_the_spectral_radius_is_the_largest_eigenvalue_of_the_matrix(bias: bool) -> None:
    X, Y = problem(2)
    for alpha, beta in ((0.1, 0.01), (0.01, 0.1), (0.9, 0.05), (0.05, 0.9)):
        expected = float(torch.linalg.eigvals(iteration_matrix(X, Y, alpha, beta, bias=bias)).abs().max())
        assert spectral_radius(X, Y, alpha, beta, bias=bias) == pytest.approx(expected, abs=1e-10)
        exact = 2 * torch.eye(2)
        assert spectral_radius(X, Y, alpha, beta, bias=bias, A=exact) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("A", [None, torch.tensor([[2.3, 0.4, 0.0], [0.3, 2.0, -0.1], [0.3, 0.4, 1.6]])])
def test_directions_that_change_nothing_are_left_out(A: Tensor | None) -> None:
    X, Y = one_hot()
    X = torch.cat([X, X[:, :1]], dim=1)
    found = torch.linalg.eigvals(iteration_matrix(X, Y, 0.1, 0.2, A=A)).abs().sort(descending=True).values
    n_idle = 3 * (1 + 2)  # w = (1, 0, 0, −1, 0); n = (1, −1, 0) and (0, 1, −1); each for 3 outputs
    torch.testing.assert_close(found[:n_idle], torch.ones(n_idle).double(), rtol=0, atol=1e-6)
    assert float(found[n_idle]) < 0.999
    assert spectral_radius(X, Y, 0.1, 0.2, A=A) == pytest.approx(float(found[n_idle]), abs=1e-6)


def test_targets_that_a_linear_model_fits_leave_no_direction_of_rounding_errors() -> None:
    X, _ = problem(1)
    Y = X @ torch.tensor([[1.0], [2.0], [-1.0]], dtype=torch.float64) + 0.5
    assert spectral_radius(X, Y, 0.1, 0.03) < 0.99


def test_with_the_module_fixed_the_whole_descent_is_linear() -> None:
    X, Y = problem(2)
    run = Run(X, Y, 0.2, None)
    start = fixed_point(X, Y)
    start[:4] += 3 * torch.randn(4, 2, generator=seeded(3), dtype=torch.float64)
    run.state = start
    Z = torch.cat([X, torch.ones(N, 1)], dim=1)
    matrix = iteration_matrix(X, Y, 0.2, None)
    torch.testing.assert_close(
        matrix, torch.kron(torch.eye(4) - 0.4 / N * Z.T @ Z, torch.eye(2).double()), rtol=0, atol=1e-13
    )
    distance = (start - fixed_point(X, Y))[:4].flatten()
    for _ in range(20):
        distance = matrix @ distance
        found = run.step() - fixed_point(X, Y)
        torch.testing.assert_close(found[:4].flatten(), distance, rtol=0, atol=1e-12)
    assert found[4:].abs().max() == 0


# Real runs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("n_outputs", "alpha", "beta"), [(2, 0.1, 0.12), (1, 0.3, 0.03)], ids=["slow model", "slow module"]
)
def test_training_decays_as_the_spectral_radius_says(n_outputs: int, alpha: float, beta: float, bias: bool) -> None:
    X, Y = problem(n_outputs)
    run = Run(X, Y, alpha, beta, bias)
    run.state = perturbed(X, Y, 1e-4, bias)
    radius = spectral_radius(X, Y, alpha, beta, bias=bias)
    found = decay(run, fixed_point(X, Y, bias), slice(FEATURES + bias), 250, 60)
    assert found == pytest.approx(radius, rel=1e-3)
    assert 1 - found == pytest.approx(1 - radius, rel=0.01)


def test_the_excess_loss_decays_by_the_square_of_the_spectral_radius() -> None:
    X, Y = problem(2)
    run = Run(X, Y, 0.1, 0.12)
    run.state = perturbed(X, Y, 1e-3)
    fitted = torch.cat([X, torch.ones(N, 1)], dim=1) @ least_squares(X, Y)
    least = float((fitted - Y).square().sum(dim=1).mean())

    def excess() -> float:
        return float((run.network(X).detach() - Y).square().sum(dim=1).mean()) - least

    run.step(100)
    first = excess()
    run.step(60)
    assert (excess() / first) ** (1 / 60) == pytest.approx(spectral_radius(X, Y, 0.1, 0.12) ** 2, rel=1e-3)


@pytest.mark.parametrize("which", ["alpha", "beta"])
def test_just_below_the_largest_rates_training_converges_and_just_above_it_diverges(which: str) -> None:
    X, Y = problem(2)
    largest = largest_rates(X, Y)
    for factor, grows in ((0.98, False), (1.02, True)):
        rates = {"alpha": 0.3 * largest.alpha, "beta": 0.3 * largest.beta}
        rates[which] = factor * getattr(largest, which)
        run = Run(X, Y, **rates)
        run.state = perturbed(X, Y, 1e-6)
        radius = spectral_radius(X, Y, **rates)
        assert (radius > 1) is grows
        found = decay(run, fixed_point(X, Y), slice(None), 100, 30)
        assert (found > 1) is grows
        assert not grows or found == pytest.approx(radius, rel=1e-3)


@pytest.mark.parametrize("which", ["alpha", "beta"])
def test_at_a_largest_rate_the_spectral_radius_is_1(which: str) -> None:
    X, Y = problem(2)
    largest = largest_rates(X, Y)
    rates = {"alpha": 0.5 * largest.alpha, "beta": 0.5 * largest.beta, which: getattr(largest, which)}
    assert spectral_radius(X, Y, **rates) == pytest.approx(1, abs=1e-12)


def test_zero_inputs_have_an_infinite_largest_rate() -> None:
    X, Y = torch.zeros(4, 2), torch.ones(4, 1)
    assert largest_rates(X, Y, bias=False).alpha == math.inf
    assert spectral_radius(X, Y, 1.0, None, bias=False) == 0.0


def test_from_a_module_of_zeros_training_finds_the_solution_and_need_not_find_the_exact_module() -> None:
    X, Y = one_hot(2)
    run = Run(X, Y, 0.2, 0.2)
    end = run.step(600)
    torch.testing.assert_close(end[:4], least_squares(X, Y), rtol=0, atol=1e-8)
    H = run.network(X)
    torch.testing.assert_close(run.S.gradient(Signals(H, Y)), 2 * (H - Y), rtol=0, atol=1e-8)
    assert (end[4:] - exact_module(2)).abs().max() > 0.01


def test_at_a_module_that_is_right_on_the_data_alone_training_has_the_rate_of_that_module() -> None:
    X, Y = one_hot(2)
    point, change = fixed_point(X, Y), torch.tensor([-0.6, -0.4])  # halves the slope of S along (1, 1)
    point[4:6] += change
    point[6:8] -= change
    run = Run(X, Y, 0.2, 0.3)
    start = point.clone()
    start[:4] += 1e-5 * torch.randn(4, 2, generator=seeded(6), dtype=torch.float64)
    run.state = start
    radius = spectral_radius(X, Y, 0.2, 0.3, A=point[4:6])
    assert decay(run, point, slice(4), 120, 60) == pytest.approx(radius, rel=1e-3)
    assert radius - spectral_radius(X, Y, 0.2, 0.3) > 0.01


# Errors


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        (torch.zeros(3), torch.zeros(3, 1), r"X has shape \(3,\) and type torch.float32; expected a matrix"),
        (torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.int64), "Pass classes as one-hot rows"),
        (torch.zeros(0, 2), torch.zeros(0, 1), "expected a matrix of floats with one row per example"),
        (torch.full((3, 2), torch.nan), torch.zeros(3, 1), "X holds values that are not finite"),
        (torch.zeros(3, 2), torch.zeros(4, 1), "X has 3 rows and Y has 4; expected one row of each"),
    ],
)
def test_data_other_than_matrices_of_floats_are_refused(X: Tensor, Y: Tensor, message: str) -> None:
    for function in (least_squares, largest_rates):
        with pytest.raises(ValueError, match=message):
            function(X, Y)


@pytest.mark.parametrize("function", [iteration_matrix, spectral_radius])
def test_rates_that_are_not_positive_and_modules_of_another_size_are_refused(function: object) -> None:
    assert callable(function)
    X, Y = problem(2)
    with pytest.raises(ValueError, match="alpha is 0; expected a number above 0"):
        function(X, Y, 0, 0.1)
    with pytest.raises(ValueError, match=r"beta is -0\.1; expected a number above 0"):
        function(X, Y, 0.1, -0.1)
    with pytest.raises(ValueError, match=r"A has shape \(3, 3\); expected \(2, 2\), as Y has 2 outputs"):
        function(X, Y, 0.1, 0.1, A=torch.eye(3))
