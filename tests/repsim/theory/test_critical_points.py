import copy
import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from repsim.learning import Chain, Segment, SyntheticGradient, compute_gradients, mlp, site_of
from repsim.learning.losses import LOSSES
from repsim.theory.critical_points import (
    FAMILIES,
    Features,
    Objective,
    VectorField,
    find_stationary,
    function_distance,
    least_squares_loss,
    relu_features,
    synthetic_field,
    true_field,
)
from tests.repsim.small_chains import randn, seeded

N, FEATURES, OUTPUTS, WIDTH = 40, 4, 3, 3
Examples = Callable[[], tuple[Tensor, Tensor]]


def network(activation: str = "tanh", depth: int = 1, width: int = WIDTH, seed: int = 0) -> Chain:
    return mlp(
        FEATURES, OUTPUTS, depth=depth, width=width, norm="none", activation=activation, generator=seeded(seed)
    ).double()


def classes(seed: int = 1) -> tuple[Tensor, Tensor]:
    """Overlapping classes."""
    y = torch.arange(N) % OUTPUTS
    return randn(N, FEATURES, seed=seed) + 0.8 * randn(OUTPUTS, FEATURES, seed=seed + 1)[y], y


def regression(seed: int = 1) -> tuple[Tensor, Tensor]:
    X = randn(N, FEATURES, seed=seed)
    return X, X @ randn(FEATURES, OUTPUTS, seed=seed + 1) + 0.3 * randn(N, OUTPUTS, seed=seed + 2)


def relu(n_units: int) -> Features:
    return relu_features(WIDTH + OUTPUTS, n_units, generator=seeded(9))


def optimal_readout(objective: Objective, theta: Tensor, boundary: int = 1) -> Tensor:
    """Return theta with the output segment that minimises the squared error, all else as it is."""
    h = objective.activation(theta, boundary)
    solution = torch.linalg.lstsq(torch.cat([h, torch.ones_like(h[:, :1])], dim=1), objective.y).solution
    n_output = sum(parameter.numel() for parameter in objective.network.output.parameters())
    return torch.cat([theta[:-n_output], solution[:-1].T.flatten(), solution[-1]])


def flat_gradient(module: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None])


def whitened(singular_values: list[float], width: int) -> tuple[Chain, Tensor, Tensor]:
    """Return a linear network and data with XᵀX / N = I, means of 0 and Y = X diag(σ)."""
    X = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    net = mlp(2, 2, depth=1, width=width, norm="none", activation="linear", generator=seeded()).double()
    return net, X, X @ torch.diag(torch.tensor(singular_values, dtype=torch.float64))


# The true loss


@pytest.mark.parametrize(("loss", "examples"), [("log_loss", classes), ("mse", regression), ("mse", classes)])
def test_the_true_field_is_the_gradient_that_autograd_finds(loss: str, examples: Examples) -> None:
    (X, y), net = examples(), network(depth=2)
    field = true_field(net, X, y, loss=loss, weight_decay=0.1)
    norm = sum(parameter.square().sum() for parameter in net.parameters())
    value = LOSSES[loss](net(X), y).mean() + 0.05 * norm
    value.backward()
    expected = flat_gradient(net)
    theta = field.objective.start
    torch.testing.assert_close(field(theta), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(field.objective.loss(theta), value.detach(), rtol=0, atol=1e-13)
    torch.testing.assert_close(field.objective.output(theta), net(X).detach(), rtol=0, atol=1e-13)


def test_the_hessian_is_that_of_autograd_functional() -> None:
    (X, y), net = classes(), network()
    objective = Objective(net, X, y, weight_decay=0.1)
    expected = torch.autograd.functional.hessian(objective.loss, objective.start)
    torch.testing.assert_close(objective.hessian(objective.start), expected, rtol=0, atol=1e-12)
    field = true_field(net, X, y, weight_decay=0.1)
    torch.testing.assert_close(field.jacobian(objective.start), expected, rtol=0, atol=1e-12)


def test_a_short_step_against_the_true_field_lowers_the_loss_by_its_squared_norm() -> None:
    X, y = classes()
    field = true_field(network(), X, y, weight_decay=0.1)
    theta, length = field.objective.start, 1e-6
    slope = field(theta)
    fall = field.objective.loss(theta) - field.objective.loss(theta - length * slope)
    assert float(fall / length) == pytest.approx(float(slope @ slope), rel=1e-4)


def test_fields_do_not_change_the_network() -> None:
    (X, y), net = classes(), network()
    before = copy.deepcopy(net.state_dict())
    find_stationary(synthetic_field(net, X, y, boundary=1, family="linear-labels"), max_iterations=2)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


# The synthetic gradient's field


def fitted_module(objective: Objective, boundary: int) -> SyntheticGradient:
    """Return the linear module with labels, fitted by numpy to the true gradient."""
    net, y = objective.network, objective.y
    h = objective.activation(objective.start, boundary).requires_grad_()
    (t,) = torch.autograd.grad(N * objective.loss_above(objective.start, h, boundary), h)
    one_hot = torch.nn.functional.one_hot(y, OUTPUTS).double()
    weights = np.linalg.lstsq(torch.cat([h.detach(), one_hot], dim=1).numpy(), t.numpy(), rcond=1e-12)[0]
    S = SyntheticGradient(site_of(net, boundary, n_outputs=OUTPUTS), generator=seeded()).double()
    with torch.no_grad():
        S.layers[0].weight.copy_(torch.from_numpy(weights[:WIDTH].T))
        assert S.label_vectors is not None
        S.label_vectors.weight.copy_(torch.from_numpy(weights[WIDTH:]).view_as(S.label_vectors.weight))
    return S


@pytest.mark.parametrize("boundary", [1, 2])
def test_the_field_is_what_a_training_step_with_a_fitted_module_computes(boundary: int) -> None:
    (X, y), net = classes(), network(depth=2)
    field = synthetic_field(net, X, y, boundary=boundary, family="linear-labels", weight_decay=0.1)
    compute_gradients(net, {boundary: fitted_module(field.objective, boundary)}, X, y)
    theta = field.objective.start
    torch.testing.assert_close(field(theta), flat_gradient(net) + 0.1 * theta, rtol=0, atol=1e-12)
    assert (field(theta) - field.objective.gradient(theta)).norm() > 1e-4


def test_at_a_stationary_point_both_network_and_module_are_at_rest() -> None:
    (X, y), net = classes(), network()
    field = synthetic_field(net, X, y, boundary=1, family="linear-labels", weight_decay=0.01)
    point = find_stationary(field)
    assert point.converged
    nn.utils.vector_to_parameters(point.theta, net.parameters())
    objective = Objective(net, X, y, weight_decay=0.01)
    S = fitted_module(objective, 1)
    compute_gradients(net, {1: S}, X, y)
    assert (flat_gradient(net) + 0.01 * point.theta).norm() < 1e-9
    assert flat_gradient(S).norm() < 1e-9


@pytest.mark.parametrize("depth", [1, 3])
def test_segments_above_the_boundary_get_the_true_gradient(depth: int) -> None:
    (X, y), net = classes(), network(depth=depth)
    below = sum(parameter.numel() for parameter in net.hidden["1"].parameters())
    field = synthetic_field(net, X, y, boundary=1, family="constant", weight_decay=0.1)
    theta = field.objective.start
    difference = field(theta) - field.objective.gradient(theta)
    assert difference[below:].abs().max() < 1e-14
    assert difference[:below].norm() > 1e-3


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_exact_family_is_backprop(loss: str, ridge: float) -> None:
    X, y = classes()
    field = synthetic_field(
        network(depth=2), X, y, boundary=1, family="exact", loss=loss, weight_decay=0.1, ridge=ridge
    )
    theta = randn(len(field.objective.start), seed=3)
    torch.testing.assert_close(field(theta), field.objective.gradient(theta), rtol=0, atol=1e-13)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("family", [*FAMILIES, relu(8)])
def test_the_jacobian_is_that_of_finite_differences(family: str | Features, ridge: float) -> None:
    X, y = classes()
    field = synthetic_field(network(), X, y, boundary=1, family=family, ridge=ridge)
    theta, direction = field.objective.start, randn(len(field.objective.start), seed=5)
    expected = (field(theta + 1e-6 * direction) - field(theta - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close(field.jacobian(theta) @ direction, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("examples", [regression, classes])
@pytest.mark.parametrize("activation", ["tanh", "linear"])
def test_a_linear_module_with_labels_is_exact_for_squared_error_below_a_linear_readout(
    activation: str, examples: Examples, seed: int
) -> None:
    X, y = examples()
    field = synthetic_field(network(activation), X, y, boundary=1, family="linear-labels", loss="mse", weight_decay=0.1)
    theta = randn(len(field.objective.start), seed=seed)  # anywhere
    torch.testing.assert_close(field(theta), field.objective.gradient(theta), rtol=1e-10, atol=1e-10)


def test_a_linear_module_with_labels_is_exact_where_the_activations_have_no_full_rank() -> None:
    X, y = regression()
    net = network("linear", width=6)  # 6 units of 4 features
    field = synthetic_field(net, X, y, boundary=1, family="linear-labels", loss="mse")
    theta = field.objective.start
    torch.testing.assert_close(field(theta), field.objective.gradient(theta), rtol=1e-9, atol=1e-9)


def test_a_linear_module_with_labels_is_not_exact_for_log_loss() -> None:
    X, y = classes()
    field = synthetic_field(network(), X, y, boundary=1, family="linear-labels")
    theta = field.objective.start
    assert (field(theta) - field.objective.gradient(theta)).norm() > 1e-3


def test_a_linear_module_with_labels_is_not_exact_for_squared_error_below_a_hidden_layer() -> None:
    X, y = regression()
    field = synthetic_field(network(depth=2), X, y, boundary=1, family="linear-labels", loss="mse")
    theta = field.objective.start
    assert (field(theta) - field.objective.gradient(theta)).norm() > 1e-3


def test_more_random_features_are_never_worse_and_in_the_end_exact() -> None:
    X, y = classes()
    errors = []
    for family in (FAMILIES["linear-labels"], *(relu(n_units) for n_units in (4, 16, 40, 400))):
        assert family is not None
        field = synthetic_field(network(), X, y, boundary=1, family=family)
        objective, t = field.objective, randn(N, WIDTH, seed=7)
        one_hot = torch.nn.functional.one_hot(y, OUTPUTS).double()
        Phi = family(objective.activation(objective.start, 1), one_hot)
        errors.append(float((t - Phi @ (torch.linalg.pinv(Phi, rtol=1e-10) @ t)).norm()))
    assert all(fewer >= more - 1e-9 for fewer, more in itertools.pairwise(errors))
    assert errors[0] > 1
    assert torch.linalg.matrix_rank(Phi, rtol=1e-10) == N
    assert (field(objective.start) - objective.gradient(objective.start)).norm() < 1e-9


def test_random_features_of_one_seed_are_nested() -> None:
    h, y = randn(N, WIDTH), randn(N, OUTPUTS, seed=1)
    few, many = relu(2)(h, y), relu(16)(h, y)
    assert few.shape == (N, WIDTH + OUTPUTS + 1 + 2)
    torch.testing.assert_close(few, many[:, : few.shape[1]], rtol=0, atol=1e-14)


def test_a_ridge_shrinks_the_fit_as_weight_decay_of_the_module_does() -> None:
    X, y = classes()
    mean = synthetic_field(network(), X, y, boundary=1, family="constant")
    shrunk = synthetic_field(network(), X, y, boundary=1, family="constant", ridge=3.0)
    theta, below = mean.objective.start, WIDTH * (FEATURES + 1)
    torch.testing.assert_close(4 * shrunk(theta)[:below], mean(theta)[:below], rtol=0, atol=1e-14)  # 1 / (1 + ridge)
    nearly = synthetic_field(network(), X, y, boundary=1, family="linear-labels", ridge=1e-10)
    without = synthetic_field(network(), X, y, boundary=1, family="linear-labels")
    torch.testing.assert_close(nearly(theta), without(theta), rtol=0, atol=1e-7)


# Spurious points


@pytest.mark.parametrize("activation", ["linear", "tanh"])
@pytest.mark.parametrize("seed", range(3))
def test_every_first_layer_is_stationary_for_a_linear_module_without_labels(seed: int, activation: str) -> None:
    X, y = regression()
    field = synthetic_field(network(activation, width=2), X, y, boundary=1, family="linear", loss="mse")
    objective = field.objective
    theta = optimal_readout(objective, randn(len(objective.start), seed=seed))
    assert field(theta).norm() < 1e-11
    assert objective.gradient(theta).norm() > 0.1


def test_the_flow_of_a_linear_module_without_labels_ends_at_a_spurious_point() -> None:
    X, y = regression()
    net = network("linear", width=2)
    field = synthetic_field(net, X, y, boundary=1, family="linear", loss="mse")
    point = find_stationary(field)
    assert point.converged
    assert point.field_norm <= 1e-10
    assert point.true_gradient_norm > 0.1
    assert point.is_stable(1e-6)
    assert (point.eigenvalues.abs() < 1e-6).sum() >= 2 * (FEATURES + 1)  # any first layer would do
    assert point.loss > least_squares_loss(X, y, rank=2) + 0.1
    readout = optimal_readout(field.objective, point.theta)
    assert function_distance(field.objective, point.theta, readout) < 1e-9


# Finding points


@pytest.mark.parametrize("widths", [[3], [2], [1], [2, 3], [3, 2, 3]])
def test_backprop_reaches_the_reduced_rank_optimum_of_linear_networks(widths: list[int]) -> None:
    X, y = regression()
    sizes = [FEATURES, *widths]
    hidden = [
        Segment(nn.utils.skip_init(nn.Linear, fan_in, fan_out), nn.Identity(), nn.Identity())
        for fan_in, fan_out in itertools.pairwise(sizes)
    ]
    net = Chain(hidden, nn.utils.skip_init(nn.Linear, widths[-1], OUTPUTS), widths).double()
    P = sum(parameter.numel() for parameter in net.parameters())
    point = find_stationary(true_field(net, X, y, loss="mse"), 0.5 * randn(P, seed=4))
    assert point.converged
    assert point.loss == pytest.approx(least_squares_loss(X, y, rank=min(widths)), abs=1e-12)
    assert point.is_stable()


def test_the_synthetic_gradient_of_a_deep_linear_network_reaches_the_same_optimum() -> None:
    X, y = regression()
    net = network("linear", depth=2, width=2)
    points = [
        find_stationary(field)
        for field in (
            true_field(net, X, y, loss="mse"),
            synthetic_field(net, X, y, boundary=1, family="linear-labels", loss="mse"),
        )
    ]
    assert all(point.converged for point in points)
    assert (points[0].theta - points[1].theta).norm() < 1e-7
    assert points[1].loss == pytest.approx(least_squares_loss(X, y, rank=2), abs=1e-12)


@pytest.mark.parametrize("weight_decay", [0.4, 2.5])
def test_weight_decay_of_a_linear_network_shrinks_singular_values_by_half_of_it(weight_decay: float) -> None:
    # min ‖Y − X B‖² / N + weight_decay ‖B‖_* for XᵀX / N = I: after Srebro, Rennie and Jaakkola (2005)
    net, X, Y = whitened([3.0, 1.0], width=2)
    point = find_stationary(true_field(net, X, Y, loss="mse", weight_decay=weight_decay))
    sigma = np.maximum(np.array([3.0, 1.0]) - weight_decay / 2, 0)
    assert point.converged
    expected = np.square(sigma - [3.0, 1.0]).sum() + weight_decay * sigma.sum()
    assert point.loss == pytest.approx(expected, abs=1e-10)
    objective = Objective(net, X, Y, loss="mse")
    torch.testing.assert_close(objective.output(point.theta), X * torch.from_numpy(sigma), rtol=0, atol=1e-6)


def test_a_saddle_has_a_negative_eigenvalue() -> None:
    net, X, Y = whitened([3.0, 1.0], width=1)  # the unit holds the weaker direction
    saddle = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64)  # W1, b1, W2, b2
    point = find_stationary(true_field(net, X, Y, loss="mse"), saddle)
    assert point.converged and not point.is_stable()
    assert point.count_negative() == point.count_unstable() == 1
    assert float(point.hessian_eigenvalues[0]) == pytest.approx(2 * (1 - 3), abs=1e-9)
    assert point.loss == pytest.approx(9.0)
    origin = find_stationary(true_field(net, X, Y, loss="mse"), torch.zeros(7, dtype=torch.float64))
    assert origin.count_negative() == 2  # one for each singular value


def test_the_flow_leaves_a_saddle_that_it_passes_close_by() -> None:
    net, X, Y = whitened([3.0, 1.0], width=1)
    start = torch.tensor([1e-6, 1.1, 0.0, 0.0, 0.9, 0.0, 0.0], dtype=torch.float64)
    point = find_stationary(true_field(net, X, Y, loss="mse"), start)
    assert point.converged and point.is_stable()
    assert point.loss == pytest.approx(1.0, abs=1e-12)


def test_attributes_of_a_point_follow_from_its_theta() -> None:
    X, y = classes()
    field = synthetic_field(network(), X, y, boundary=1, family="linear-labels", weight_decay=0.01)
    point, objective = find_stationary(field), field.objective
    assert point.converged and point.field_norm <= 1e-10 and point.distance_left < 1e-5
    assert point.field_norm == float(field(point.theta).norm())
    assert point.true_gradient_norm == float(objective.gradient(point.theta).norm()) > 1e-3
    assert point.loss == float(objective.loss(point.theta)) < float(objective.loss(objective.start))
    J = field.jacobian(point.theta)
    assert (J - J.T).norm() > 1e-3  # the field is no gradient
    assert point.eigenvalues.is_complex() and bool((point.eigenvalues.real.diff() >= 0).all())
    assert float(point.eigenvalues.sum().real) == pytest.approx(float(J.trace()), abs=1e-10)
    hessian = torch.autograd.functional.hessian(objective.loss, point.theta)
    torch.testing.assert_close(point.hessian_eigenvalues, torch.linalg.eigvalsh(hessian), rtol=0, atol=1e-10)
    assert 0 < point.n_iterations < 1000


def linear_field(matrix: Tensor) -> VectorField:
    """Return F(θ) = M θ on the parameters of some network."""
    X, y = classes()
    return VectorField(Objective(network(), X, y), lambda theta: matrix @ theta)


def test_a_field_that_is_no_gradient_has_complex_eigenvalues_and_may_be_stable() -> None:
    P = WIDTH * (FEATURES + 1) + OUTPUTS * (WIDTH + 1)
    skew = torch.triu(torch.ones(P, P, dtype=torch.float64), 1)
    point = find_stationary(linear_field(torch.eye(P, dtype=torch.float64) + skew - skew.T))
    assert point.converged and point.is_stable()
    torch.testing.assert_close(point.eigenvalues.real, torch.ones(P, dtype=torch.float64), rtol=0, atol=1e-9)
    assert point.eigenvalues.imag.abs().max() > 1
    assert point.theta.norm() < 1e-9


def test_stability_is_of_real_parts_up_to_a_tolerance() -> None:
    P = WIDTH * (FEATURES + 1) + OUTPUTS * (WIDTH + 1)
    slopes = torch.ones(P, dtype=torch.float64)
    slopes[:3] = torch.tensor([-1.0, -1e-3, -1e-9])
    point = find_stationary(linear_field(torch.diag(slopes)), torch.zeros(P, dtype=torch.float64))
    assert point.count_unstable() == 2 and not point.is_stable()
    assert point.count_unstable(1e-2) == 1
    assert point.count_unstable(0.0) == 3
    assert point.is_stable(2.0)
    described = dataclasses.replace(point, hessian_eigenvalues=torch.tensor([-1.0, -1e-3, -1e-9, 1.0]))
    assert described.count_negative() == 2 and described.count_negative(1e-2) == 1


def test_a_flow_without_a_stationary_point_does_not_converge() -> None:
    P = WIDTH * (FEATURES + 1) + OUTPUTS * (WIDTH + 1)
    away = find_stationary(linear_field(-torch.eye(P, dtype=torch.float64)), max_iterations=60)
    assert not away.converged and away.n_iterations == 60 and away.field_norm > 1


def test_a_flow_that_is_cut_short_does_not_end_where_the_field_repels() -> None:
    P = WIDTH * (FEATURES + 1) + OUTPUTS * (WIDTH + 1)
    field = linear_field(-torch.eye(P, dtype=torch.float64))
    cut = find_stationary(field, max_iterations=1)
    assert not cut.converged
    assert cut.theta.norm() > field.objective.start.norm()


def test_examples_and_classes_have_to_fit_the_network() -> None:
    X, y = classes()
    with pytest.raises(ValueError, match=r"cannot process examples of shape \(3,\)\."):
        true_field(network(), X[:, :3], y)
    with pytest.raises(ValueError, match=rf"^y holds classes 0 to {OUTPUTS}; the network has {OUTPUTS} outputs"):
        true_field(network(), X, torch.cat([torch.zeros(N - 1, dtype=torch.int64), torch.tensor([OUTPUTS])]))


def test_separable_classes_without_weight_decay_have_no_stationary_point_for_log_loss() -> None:
    X = torch.tensor([[-1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    field = true_field(network(), X, torch.tensor([0, 1]))
    point = find_stationary(field)
    assert point.field_norm < 1e-8  # the loss falls and falls as θ grows
    assert not point.converged
    assert point.distance_left > 0.1


def test_a_search_with_too_few_iterations_does_not_converge() -> None:
    X, y = classes()
    field = true_field(network(), X, y, weight_decay=0.01)
    point = find_stationary(field, max_iterations=3)
    assert not point.converged and point.n_iterations == 3 and point.field_norm > 1e-10
    assert find_stationary(field, point.theta).converged


def test_a_smaller_curvature_takes_more_steps_to_the_same_point() -> None:
    X, y = classes()
    field = true_field(network(), X, y, weight_decay=0.01)
    coarse, fine = (find_stationary(field, curvature=share) for share in (1.0, 0.05))
    assert coarse.converged and fine.converged
    assert coarse.n_iterations < fine.n_iterations
    assert (coarse.theta - fine.theta).norm() < 1e-8


def test_a_point_has_converged_only_if_the_field_is_below_the_tolerance() -> None:
    X, y = classes()
    point = find_stationary(true_field(network(), X, y, weight_decay=0.1), tolerance=1e-30, max_iterations=60)
    assert point.distance_left < 1e-12 < 1e30 * point.field_norm
    assert not point.converged


def test_the_last_step_is_newtons() -> None:
    X, y = classes()
    point = find_stationary(true_field(network(), X, y, weight_decay=0.1), tolerance=1e-4)
    assert point.converged and point.field_norm < 1e-5  # of 1e-4 or less before it


# With log loss


def test_with_log_loss_a_linear_module_rests_elsewhere_and_random_features_come_closer_to_backprop() -> None:
    X, y = classes()
    backprop = find_stationary(true_field(network(), X, y, weight_decay=0.01))
    distances, gradients = [], []
    for family in ("linear-labels", relu(4), relu(16), relu(160)):
        field = synthetic_field(network(), X, y, boundary=1, family=family, weight_decay=0.01, ridge=1e-6)
        point = find_stationary(field)
        assert point.converged
        assert point.loss > backprop.loss
        distances.append(function_distance(field.objective, point.theta, backprop.theta))
        gradients.append(point.true_gradient_norm)
    assert distances[0] > 1e-2 and gradients[0] > 1e-2
    assert distances[0] > 3 * distances[2] > 9 * distances[3]
    assert gradients[0] > 3 * gradients[2] > 9 * gradients[3]
    assert distances[3] < 1e-2 * distances[0]


def test_where_the_module_can_express_the_gradient_backprops_critical_point_remains_one() -> None:
    X, y = classes()
    backprop = find_stationary(true_field(network(), X, y, weight_decay=0.01))
    interpolating = synthetic_field(network(), X, y, boundary=1, family=relu(400), weight_decay=0.01)
    assert interpolating(backprop.theta).norm() < 1e-8
    linear = synthetic_field(network(), X, y, boundary=1, family="linear-labels", weight_decay=0.01)
    assert linear(backprop.theta).norm() > 1e-3


# Distances and the known optimum


def test_the_function_distance_ignores_permuted_units() -> None:
    (X, y), net = classes(), network()
    objective = Objective(net, X, y)
    permuted, order, state = copy.deepcopy(net), torch.tensor([2, 0, 1]), net.state_dict()
    for name in ("hidden.1.affine.weight", "hidden.1.affine.bias"):
        state[name] = state[name][order]
    state["output.weight"] = state["output.weight"][:, order]
    permuted.load_state_dict(state)
    theta = Objective(permuted, X, y).start
    assert function_distance(objective, objective.start, theta) < 1e-14
    assert (objective.start - theta).norm() > 1
    shifted = objective.start.clone()
    shifted[-OUTPUTS:] += 2.0  # all outputs
    assert function_distance(objective, objective.start, shifted) == pytest.approx(2.0)


def test_the_least_squares_loss_is_the_residual_of_numpy_and_of_the_means() -> None:
    X, Y = regression()
    with_ones = np.column_stack([X.numpy(), np.ones(N)])
    residual = Y.numpy() - with_ones @ np.linalg.lstsq(with_ones, Y.numpy(), rcond=None)[0]
    assert least_squares_loss(X, Y) == pytest.approx(np.square(residual).sum() / N, rel=1e-10)
    assert least_squares_loss(X, Y, rank=0) == pytest.approx(float(Y.var(dim=0, correction=0).sum()), rel=1e-10)
    losses = [least_squares_loss(X, Y, rank=rank) for rank in range(5)]
    assert losses[0] > losses[1] > losses[2] > losses[3] == losses[4] == least_squares_loss(X, Y)


# Errors


def test_networks_with_buffers_or_batch_norm_are_refused() -> None:
    X, y = classes()
    normed = mlp(FEATURES, OUTPUTS, depth=1, width=3, generator=seeded()).double()
    with pytest.raises(ValueError, match=r"'hidden.1.norm.running_mean'.*Use norm 'none' or 'layer'"):
        true_field(normed, X, y)
    untracked = nn.BatchNorm1d(3, affine=False, track_running_stats=False)
    segment = Segment(nn.utils.skip_init(nn.Linear, FEATURES, 3), untracked, nn.Tanh())
    net = Chain([segment], nn.utils.skip_init(nn.Linear, 3, OUTPUTS), [3]).double()
    with pytest.raises(ValueError, match=r"'hidden.1.norm'.*buffer or batch norm"):
        true_field(net, X, y)


def test_layer_norm_is_accepted() -> None:
    X, y = classes()
    net = mlp(FEATURES, OUTPUTS, depth=1, width=3, norm="layer", activation="tanh", generator=seeded()).double()
    field = synthetic_field(net, X, y, boundary=1, family="exact", weight_decay=0.1)
    theta = field.objective.start
    torch.testing.assert_close(field(theta), field.objective.gradient(theta), rtol=0, atol=1e-13)


def test_types_other_than_float64_are_refused() -> None:
    X, y = regression()
    with pytest.raises(ValueError, match=r"hidden.1.affine.weight is torch.float32.*Call network.double\(\)"):
        true_field(network().float(), X, y, loss="mse")
    with pytest.raises(ValueError, match=r"X is torch.float32; expected torch.float64. Call X.double\(\)"):
        true_field(network(), X.float(), y, loss="mse")
    with pytest.raises(ValueError, match=r"y is torch.float32; expected torch.float64. Call y.double\(\)"):
        true_field(network(), X, y.float(), loss="mse")


def test_examples_that_do_not_fit_are_refused() -> None:
    X, y = classes()
    with pytest.raises(ValueError, match=r"X has 40 examples and y has 39; expected equally many"):
        true_field(network(), X, y[:-1])
    with pytest.raises(ValueError, match=r"y holds floats. Use the loss 'mse'"):
        true_field(network(), X, randn(N, OUTPUTS))
    with pytest.raises(ValueError, match=r"expected equal shapes"):
        true_field(network(), X, randn(N, OUTPUTS + 1), loss="mse")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "quadratic"}, r"Unknown family 'quadratic'. Choose one of: exact, linear-labels, linear, constant"),
        ({"boundary": 2}, r"There is no boundary 2; this network has boundaries 1 to 1"),
        ({"boundary": 0}, r"There is no boundary 0"),
        ({"loss": "hinge"}, r"Unknown loss 'hinge'. Choose one of: log_loss, mse"),
        ({"weight_decay": -1.0}, r"weight_decay is -1.0; expected a number of 0 or more"),
        ({"ridge": -1e-6}, r"ridge is -1e-06; expected a number of 0 or more"),
    ],
)
def test_wrong_settings_of_a_field_are_refused(settings: dict, message: str) -> None:
    X, y = classes()
    with pytest.raises(ValueError, match=message):
        synthetic_field(network(), X, y, **({"boundary": 1, "family": "linear"} | settings))


def test_wrong_random_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n_units is 0; expected a whole number of 1 or more"):
        relu_features(6, 0, generator=seeded())
    with pytest.raises(ValueError, match=r"n_inputs is 0; expected a whole number of 1 or more"):
        relu_features(0, 6, generator=seeded())
    X, y = classes()
    field = synthetic_field(network(width=5), X, y, boundary=1, family=relu(4))
    with pytest.raises(ValueError, match=r"h has 5 columns and y 3; these features were drawn for 6 in all.*n_inputs"):
        field(field.objective.start)


@pytest.mark.parametrize("start", [torch.zeros(3, dtype=torch.float64), torch.zeros(27), torch.full((27,), torch.nan)])
def test_wrong_starts_are_refused(start: Tensor) -> None:
    X, y = classes()
    field = true_field(network(), X, y)
    with pytest.raises(ValueError, match=r"expected 27 finite torch.float64"):
        find_stationary(field, start)


def test_wrong_settings_of_the_search_are_refused() -> None:
    X, y = classes()
    field = true_field(network(), X, y)
    with pytest.raises(ValueError, match=r"tolerance is 0; expected a number above 0"):
        find_stationary(field, tolerance=0)
    with pytest.raises(ValueError, match=r"curvature is 0; expected a number above 0"):
        find_stationary(field, curvature=0)
    with pytest.raises(ValueError, match=r"curvature is 2; expected a number from 0 to 1"):
        find_stationary(field, curvature=2)
    with pytest.raises(ValueError, match=r"max_iterations is 0; expected a whole number of 1 or more"):
        find_stationary(field, max_iterations=0)


def test_wrong_data_of_the_known_optimum_are_refused() -> None:
    X, Y = regression()
    for wrong in (Y[:-1], Y[:, 0]):
        with pytest.raises(
            ValueError, match=r"expected \(N, n_features\) and \(N, n_outputs\). Pass classes as one-hot"
        ):
            least_squares_loss(X, wrong)
    with pytest.raises(ValueError, match=r"rank is -1; expected a whole number of 0 or more"):
        least_squares_loss(X, Y, rank=-1)
