import copy
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import (
    LOSSES,
    NETWORKS,
    BPLambda,
    Chain,
    DecoupledGreedy,
    DirectRandomTarget,
    Learner,
    Noise,
    Observed,
    Signals,
    Site,
    SyntheticGradient,
    SyntheticGradientProp,
    TargetPropagation,
    TrainingConfig,
    build_learner,
    build_optimizer,
    train,
    true_gradients,
)
from repsim.theory.implied_loss import (
    Field,
    affine_implied_loss,
    agreement,
    curl,
    data_directions,
    implied_loss,
    module_of,
    path_dependence,
    quadratic_fit,
    true_loss_at,
)
from tests.repsim.small_chains import randn

N, CLASSES = 40, 3


def labels(n: int = N) -> Tensor:
    return torch.arange(n) % CLASSES


def zeros(n: int = N) -> Tensor:
    return torch.zeros(n, dtype=torch.int64)


def rotation(h: Tensor, y: Tensor) -> Tensor:
    return torch.stack([-h[:, 1], h[:, 0]], dim=1)


def slope_of_log_loss(h: Tensor, y: Tensor) -> Tensor:
    return h.softmax(dim=1) - F.one_hot(y, h.shape[1])


def relu_field(seed: int = 0, d: int = 3, width: int = 8) -> tuple[Field, Field]:
    """A field Wᵀ diag(v) relu(W h + b), and the loss whose gradient it is."""
    W, b, v = randn(width, d, seed=seed), randn(width, seed=seed + 1), randn(width, seed=seed + 2)
    return lambda h, y: (F.relu(h @ W.T + b) * v) @ W, lambda h, y: (F.relu(h @ W.T + b).square() * v).sum(dim=1) / 2


def synthetic(d: int = 3, boundary: int = 1, **options: object) -> SyntheticGradient:
    """A module with weights that are not zero."""
    S = SyntheticGradient(Site((d,), CLASSES, boundary), generator=torch.Generator().manual_seed(0), **options).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in S.parameters():
            parameter.normal_(generator=generator)
    return S


@cache
def trained(hidden_layers: int, loss: str = "log_loss") -> Learner:
    """A small network that a synthetic gradient at boundary 1 has taught, with the real training loop."""
    config = TrainingConfig(
        depth=2,
        width=4,
        norm="none",
        loss=loss,
        rule=f"synthetic-gradient:hidden_layers={hidden_layers}",
        boundaries="1",
        epochs=15,
        batch_size=20,
        learning_rate=1e-2,
        estimator_learning_rate=1e-2,
    )
    learner = build_learner(config, 5, CLASSES).double()
    X, y = randn(100, 5, seed=3), labels(100)
    for _ in train(learner, build_optimizer(learner, config), X + y[:, None], y, config):
        pass
    return learner


def module_in(learner: Learner) -> SyntheticGradient:
    (S,) = learner.estimators.children()
    assert isinstance(S, SyntheticGradient)
    return S


def believed(S: SyntheticGradient, h: Tensor, y: Tensor, anchor: Tensor | float = 0.0) -> Tensor:
    """The implied loss of a linear module, from its weights."""
    assert S.label_vectors is not None
    bias = S.layers[0].bias + S.label_vectors(y)
    return affine_implied_loss(S.layers[0].weight, bias, h, anchor=anchor).detach()


# The implied loss


@pytest.mark.parametrize("anchor", [0.0, -2.0, randn(3, seed=5), randn(N, 3, seed=6)], ids=["0", "-2", "d", "N,d"])
def test_the_implied_loss_of_a_quadratics_gradient_is_the_quadratic(anchor: Tensor | float) -> None:
    A, b, h = randn(3, 3, seed=1), randn(3, seed=2), randn(N, 3)
    A = A + A.T

    def quadratic(h: Tensor) -> Tensor:
        return ((h @ A) * h).sum(dim=1) / 2 + h @ b

    found = implied_loss(lambda h, y: h @ A + b, h, zeros(), anchor=anchor, n_nodes=1, tolerance=None)
    expected = quadratic(h) - quadratic(torch.zeros_like(h) + anchor)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(affine_implied_loss(A, b, h, anchor=anchor), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("anchor", [0.0, randn(3, seed=5)], ids=["0", "d"])
def test_the_closed_form_is_the_line_integral_of_any_affine_field(anchor: Tensor | float) -> None:
    A, vectors, h, y = randn(3, 3, seed=1), randn(CLASSES, 3, seed=2), randn(N, 3), labels()
    b = vectors[y]
    found = implied_loss(lambda h, y: h @ A.T + vectors[y], h, y, anchor=anchor, n_nodes=1, tolerance=None)
    torch.testing.assert_close(found, affine_implied_loss(A, b, h, anchor=anchor), rtol=0, atol=1e-12)
    odd = A - A.T
    at_zero = [affine_implied_loss(M, b, h) for M in (A, A + odd)]
    torch.testing.assert_close(*at_zero, rtol=0, atol=1e-12)  # only the symmetric part counts


def test_the_implied_loss_of_the_gradient_of_the_log_loss_is_the_log_loss() -> None:
    h, y = 3 * randn(N, CLASSES), labels()
    found = implied_loss(slope_of_log_loss, h, y, tolerance=1e-12)
    expected = LOSSES["log_loss"](h, y) - math.log(CLASSES)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert expected.std() > 0.5


@pytest.mark.parametrize("n_nodes", [1, 2, 3, 5])
def test_one_panel_is_exact_up_to_the_degree_that_is_promised_and_no_further(n_nodes: int) -> None:
    h = 1 + randn(N, 2).abs()
    for degree, exact in ((2 * n_nodes - 1, True), (2 * n_nodes, False)):
        found = implied_loss(lambda h, y, p=degree: h**p, h, zeros(), n_nodes=n_nodes, tolerance=None)  # type: ignore[misc]
        expected = h.pow(degree + 1).sum(dim=1) / (degree + 1)
        assert (float((found / expected - 1).abs().max()) < 1e-13) is exact


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
def test_the_tolerance_decides_the_error_at_kinks(tolerance: float) -> None:
    (S, loss), h = relu_field(), 2 * randn(N, 3, seed=7)
    expected = loss(h, zeros()) - loss(torch.zeros_like(h), zeros())
    error = (implied_loss(S, h, zeros(), tolerance=tolerance) - expected).abs().max()
    assert error < 2 * tolerance * expected.abs().max()


def test_the_error_of_fixed_panels_at_kinks_falls_with_their_number() -> None:
    (S, loss), h = relu_field(), 2 * randn(N, 3, seed=7)
    expected = loss(h, zeros()) - loss(torch.zeros_like(h), zeros())
    errors = [
        float((implied_loss(S, h, zeros(), n_nodes=2, n_panels=n, tolerance=None) - expected).abs().max())
        for n in (1, 10, 100)
    ]
    assert errors[0] > 1e-3
    assert errors[1] < errors[0] / 10
    assert errors[2] < errors[1] / 10


def test_a_jump_is_found_and_integrated_over() -> None:
    h = torch.tensor([[1.0], [2.0], [0.2]], dtype=torch.float64)
    found = implied_loss(lambda h, y: (h > 1 / 3).to(h.dtype), h, zeros(3), tolerance=1e-12)
    torch.testing.assert_close(found, (h[:, 0] - 1 / 3).clamp(min=0), rtol=0, atol=1e-12)


def test_a_field_that_is_zero_at_the_first_nodes_is_integrated() -> None:
    """It lives on [0.35, 0.45], between the nodes of the first look, of which halves have one at 0.394."""
    h = torch.ones(1, 1, dtype=torch.float64)
    found = implied_loss(lambda h, y: F.relu(0.05 - (h - 0.4).abs()), h, zeros(1), n_nodes=2, tolerance=1e-9)
    assert float(found) == pytest.approx(0.05**2, abs=1e-9)


def test_a_random_field_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(
        ArithmeticError, match=r"is uncertain by .* of its scale with panels .*; expected 1.0e-06 or less"
    ):
        implied_loss(lambda h, y: torch.randn(h.shape, generator=generator), torch.ones(2, 2), zeros(2))


def test_the_tolerance_is_relative_to_the_norm_of_the_field() -> None:
    h = randn(N, 2)
    assert (
        implied_loss(rotation, h, zeros(), tolerance=1e-12).abs().max() < 1e-14
    )  # rounding alone, which never settles


@pytest.mark.parametrize("n_nodes", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("n_panels", [1, 3])
def test_nodes_and_panels_change_nothing_within_the_tolerance(n_nodes: int, n_panels: int) -> None:
    (S, loss), h = relu_field(), randn(5, 3, seed=7)
    found = implied_loss(S, h, zeros(5), n_nodes=n_nodes, n_panels=n_panels, tolerance=1e-9)
    expected = loss(h, zeros(5)) - loss(torch.zeros_like(h), zeros(5))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8 * float(expected.abs().max()))


def test_many_examples_are_taken_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    S, h, y = synthetic(hidden_layers=1), randn(N, 3), labels()
    expected, most = implied_loss(S, h, y), []
    monkeypatch.setattr("repsim.theory.implied_loss.line_integral._NUMBERS_AT_ONCE", 100)

    def watched(h: Tensor, y: Tensor) -> Tensor:
        most.append(h.numel())
        return module_of(S)(h, y)

    torch.testing.assert_close(implied_loss(watched, h, y), expected, rtol=0, atol=1e-13)
    assert max(most) <= 100


def test_the_implied_loss_depends_on_the_label_only_as_the_module_does() -> None:
    h, ys = randn(1, 3).expand(3, 3), torch.tensor([0, 1, 1])
    conditioned, not_conditioned = synthetic(), synthetic(label_conditioned=False)
    one, other, same = implied_loss(conditioned, h, ys).tolist()
    assert abs(one - other) > 0.1
    assert other == pytest.approx(same, rel=1e-14)
    assert implied_loss(not_conditioned, h, ys).tolist() == pytest.approx([0.1686716720689479] * 3, rel=1e-12)


def test_each_example_has_the_loss_that_it_has_alone() -> None:
    S, h, y = synthetic(hidden_layers=1), randn(5, 3), labels(5)
    settings: dict[str, Any] = {"n_nodes": 3, "n_panels": 7, "tolerance": None}
    together = implied_loss(S, h, y, **settings)
    alone = torch.cat([implied_loss(S, h[i : i + 1], y[i : i + 1], **settings) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_type_of_the_activations_and_no_graph(dtype: torch.dtype) -> None:
    S, h, y = synthetic(hidden_layers=1).to(dtype), randn(N, 3).to(dtype).requires_grad_(), labels()
    paths = path_dependence(S, h, y, tolerance=1e-4)
    fit = quadratic_fit(paths.straight, h.detach())
    found = [implied_loss(S, h, y, tolerance=1e-4), curl(S, h, y), paths.difference, paths.straight]
    assert all(each.shape == (N,) and each.dtype is dtype and not each.requires_grad for each in found)
    assert all(each.dtype is dtype for each in (fit.constant, fit.linear, fit.quadratic))
    assert all(parameter.grad is None for parameter in S.parameters())
    assert h.grad is None


def test_an_untrained_module_implies_a_loss_of_zero() -> None:
    S, h = SyntheticGradient(Site((3,), CLASSES)), randn(N, 3).float()
    assert implied_loss(S, h, labels()).count_nonzero() == 0
    assert curl(S, h, labels()).count_nonzero() == 0
    assert path_dependence(S, h, labels()).relative == 0.0
    assert quadratic_fit(torch.zeros(N), h).relative_residual == 0.0


def test_the_anchor_is_where_the_implied_loss_is_zero() -> None:
    h = randn(N, 3)
    assert implied_loss(synthetic(hidden_layers=1), h, labels(), anchor=h).count_nonzero() == 0


# Curl


def test_the_curl_of_a_rotation_is_infinite_and_of_gradients_nothing() -> None:
    h, y = randn(N, 2), zeros()
    assert curl(rotation, h, y).isinf().all()
    assert (curl(lambda h, y: slope_of_log_loss(h, y), 3 * randn(N, CLASSES), labels()) < 1e-14).all()
    assert curl(lambda h, y: torch.ones_like(h), h, y).count_nonzero() == 0  # constant: 0 / 0


def test_the_curl_of_a_spiral_is_the_share_of_its_rotation() -> None:
    """Golden: J = [[1, -ω], [ω, 1]], so that ‖J − Jᵀ‖ / ‖J + Jᵀ‖ = 2√2 ω / 2√2 = ω."""
    found = curl(lambda h, y: h + y[:, None] * rotation(h, y), randn(N, 2), labels())
    torch.testing.assert_close(found, labels().double(), rtol=0, atol=1e-14)


def test_fields_of_one_unit_have_no_curl() -> None:
    S = synthetic(1, hidden_layers=1)
    assert curl(S, randn(N, 1), labels()).count_nonzero() == 0


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
@pytest.mark.parametrize("chunk_size", [1, 7, N, None])
def test_the_curl_is_that_of_each_examples_own_jacobian(hidden_layers: int, chunk_size: int | None) -> None:
    S, h, y = synthetic(hidden_layers=hidden_layers, hidden_width=9), randn(N, 3), labels()
    field, expected = module_of(S), []
    for i in range(N):
        J = torch.autograd.functional.jacobian(lambda x, i=i: field(x[None], y[i : i + 1])[0], h[i])
        expected.append(float((J - J.T).norm() / (J + J.T).norm()))
    assert min(expected) > 0.01
    torch.testing.assert_close(curl(S, h, y, chunk_size=chunk_size), torch.tensor(expected, dtype=torch.float64))


def test_jacobians_are_taken_a_chunk_at_a_time() -> None:
    S, h, y, taken = module_of(synthetic()), randn(N, 3), labels(), []

    def watched(h: Tensor, y: Tensor) -> Tensor:
        taken.append(len(h) if h.requires_grad else 0)
        return S(h, y)

    curl(watched, h, y, chunk_size=16)
    assert [n for n in taken if n > 1] == [16, 16, 8]


def test_the_curl_changes_with_the_label_only_where_units_switch() -> None:
    h, ys = randn(1, 3).expand(CLASSES, 3), torch.arange(CLASSES)
    assert len(set(curl(synthetic(), h, ys).tolist())) == 1  # the label adds a constant
    assert len(set(curl(synthetic(hidden_layers=1), h, ys).tolist())) > 1


def test_small_slopes_have_the_curl_of_large_ones() -> None:
    assert curl(lambda h, y: 1e-25 * (h + rotation(h, y)), torch.ones(1, 2), zeros(1)).tolist() == pytest.approx([1.0])


def test_a_field_whose_slopes_autograd_cannot_see_is_refused() -> None:
    h, y = randn(N, 3), labels()
    for S in (lambda h, y: h.detach() ** 2, DecoupledGreedy(Site((3,), CLASSES), generator=torch.Generator()).double()):
        with pytest.raises(ValueError, match="S changes with h, but its autograd graph does not include h"):
            curl(S, h, y)


def test_a_field_without_a_slope_somewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="The Jacobian of S is not finite at some h"):
        curl(lambda h, y: h.abs().sqrt(), torch.zeros(1, 2), zeros(1))


# Curl in the directions of the data

STDS = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)


def plane(n: int = N, d: int = 5) -> tuple[Tensor, Tensor]:
    """Return activations around 1 that vary along three random axes only, with STDS, and all d axes (columns)."""
    axes = torch.linalg.qr(randn(d, d, seed=11)).Q
    z = torch.linalg.qr(torch.cat([torch.ones(n, 1), randn(n, 3, seed=13)], dim=1)).Q[:, 1:]  # centred
    return 1.0 + (z * STDS * math.sqrt(n - 1)) @ axes[:, :3].T, axes


def every_curl(S: Field, h: Tensor) -> list[Tensor]:
    """Return the curl over all units, in the span of the data, and weighted by their covariance."""
    roots = [None, data_directions(h), data_directions(h, weighted=True)]
    return [curl(S, h, zeros(len(h)), directions=each) for each in roots]


def test_directions_are_the_principal_axes_and_weighted_ones_a_root_of_the_covariance() -> None:
    h, axes = plane()
    B, root = data_directions(h), data_directions(h, weighted=True)
    torch.testing.assert_close((B.T @ axes[:, :3]).abs(), torch.eye(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(root @ root.T, torch.cov(h.T), rtol=0, atol=1e-12)
    torch.testing.assert_close(root.norm(dim=0), STDS, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("share", "n_axes"), [(0.5, 1), (9 / 10.25, 1), (0.9, 2), (10 / 10.25, 2), (0.99, 3), (1, 3)])
def test_directions_are_the_fewest_that_hold_a_share_of_the_variance(share: float, n_axes: int) -> None:
    """STDS have the variances 9, 1 and 0.25."""
    assert data_directions(plane()[0], share=share).shape == (5, n_axes)


def test_a_gradient_has_no_curl_in_any_directions() -> None:
    h, axes = plane()
    hessian = axes @ torch.diag(torch.tensor([1.0, -2.0, 3.0, 4.0, -5.0]).double()) @ axes.T
    for S in (lambda h, y: h @ hessian, lambda h, y: slope_of_log_loss(h, y)):
        assert all((found < 1e-12).all() for found in every_curl(S, h))


@pytest.mark.parametrize(
    ("planted", "seen"), [((3, 4), [False, False]), ((0, 3), [False, False]), ((0, 1), [True] * 2)]
)
def test_a_rotation_is_seen_in_the_directions_of_the_data_only_if_it_lies_within(
    planted: tuple[int, int], seen: list[bool]
) -> None:
    """Golden: for J = I + ω (u vᵀ − v uᵀ) the curl is ω √(2 / d) over d units; over three axes √(2 / 3) ω."""
    (h, axes), omega = plane(), 0.7
    u, v = axes[:, planted[0]], axes[:, planted[1]]
    J = torch.eye(5).double() + omega * (torch.outer(u, v) - torch.outer(v, u))
    everywhere, within, weighted = every_curl(lambda h, y: h @ J.T, h)
    a, b = STDS[0] ** 2, STDS[1] ** 2  # ‖C^½ (J ∓ Jᵀ) C^½‖² is 8 ω² a b and 4 Σ (variance²)
    exact = math.sqrt(2 * float(a * b)) / float(STDS.pow(4).sum().sqrt())
    for found, ratio in (
        (everywhere, math.sqrt(2 / 5)),
        (within, seen[0] * math.sqrt(2 / 3)),
        (weighted, seen[1] * exact),
    ):
        torch.testing.assert_close(found, torch.full_like(found, omega * ratio), rtol=0, atol=1e-12)


@pytest.mark.parametrize("hidden_layers", [0, 1])
def test_weighted_directions_weight_each_jacobian_by_the_covariance(hidden_layers: int) -> None:
    """Oracle: C^½ from the eigenvectors, and each example's own Jacobian."""
    S, h, y = synthetic(hidden_layers=hidden_layers, hidden_width=9), randn(N, 3) * STDS, labels()
    values, vectors = torch.linalg.eigh(torch.cov(h.T))
    root, field, expected = vectors @ torch.diag(values.sqrt()) @ vectors.T, module_of(S), []
    for i in range(N):
        J = torch.autograd.functional.jacobian(lambda x, i=i: field(x[None], y[i : i + 1])[0], h[i])
        odd, even = (root @ (J + sign * J.T) @ root for sign in (-1, 1))
        expected.append(float(odd.norm() / even.norm()))
    found = curl(S, h, y, directions=data_directions(h, weighted=True), chunk_size=7)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (
            lambda h: curl(rotation, h, zeros(), directions=randn(3, 2)),
            r"directions has shape \(3, 2\) .*expected \(2, k\)",
        ),
        (
            lambda h: curl(rotation, h, zeros(), directions=torch.eye(2)),
            "of torch.float32; expected .* of torch.float64",
        ),
        (lambda h: data_directions(h, share=0), "share is 0; expected a number above 0 and at most 1"),
        (lambda h: data_directions(h, share=1.5), "share is 1.5; expected a number above 0 and at most 1"),
        (lambda h: data_directions(h[:1]), "h holds 1 example; expected two or more"),
        (lambda h: data_directions(torch.ones(4, 2)), "h does not vary, or is not finite; expected two or more"),
        (lambda h: data_directions(h / 0), "or is not finite; expected two or more different finite activations"),
        (lambda h: data_directions(h[0]), r"h has shape \(2,\)"),
    ],
)
def test_invalid_directions_are_refused(work: Callable[[Tensor], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        work(randn(N, 2))


# Path dependence


def test_paths_around_a_rotation_differ_by_twice_the_area_between_them() -> None:
    """Green: the rotation has curl 2, and the line and the two legs enclose the triangle of area h₁h₂ / 2."""
    h, anchor = randn(N, 2), torch.tensor([0.5, -1.0], dtype=torch.float64)
    found = path_dependence(rotation, h, zeros(), anchor=anchor)
    torch.testing.assert_close(found.difference, (h - anchor).prod(dim=1), rtol=0, atol=1e-13)
    from_zero = path_dependence(rotation, torch.ones(1, 2), zeros(1))  # across the line, which sees nothing of it
    assert (from_zero.straight.tolist(), from_zero.difference.tolist()) == ([0.0], [1.0])
    assert from_zero.relative == math.inf


def test_the_relative_path_dependence_of_a_spiral_follows_from_its_rotation() -> None:
    h = randn(N, 2)
    found = path_dependence(lambda h, y: h + 0.3 * rotation(h, y), h, zeros())
    expected = 0.3 * h.prod(dim=1).norm() / (h.square().sum(dim=1) / 2).norm()
    assert found.relative == pytest.approx(float(expected), abs=1e-12)


def test_paths_through_a_gradient_field_agree() -> None:
    S, loss = relu_field()
    h = 2 * randn(N, 3, seed=7)
    found = path_dependence(S, h, zeros(), anchor=randn(3, seed=8), tolerance=1e-9)
    assert found.relative < 1e-8
    torch.testing.assert_close(found.straight, loss(h, zeros()) - loss(randn(3, seed=8)[None], zeros()[:1]))


def test_paths_of_one_unit_are_one_path() -> None:
    assert path_dependence(synthetic(1, hidden_layers=1), randn(N, 1), labels(), tolerance=1e-8).relative < 1e-7


def test_a_path_from_its_end_has_no_length() -> None:
    h = randn(N, 2)
    found = path_dependence(rotation, h, zeros(), anchor=h)
    assert found.difference.count_nonzero() == 0
    assert found.relative == 0.0


# The quadratic fit


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (100.0, 1e-2), (-3.0, 1e3)])
def test_the_fit_recovers_the_quadratic_that_was_planted(d: int, offset: float, scale: float) -> None:
    A, b, h = randn(d, d, seed=1), randn(d, seed=2), offset + scale * randn(60, d)
    A = A + A.T
    values = ((h @ A) * h).sum(dim=1) / 2 + h @ b - 4
    fit = quadratic_fit(values, h)
    size = float(values.abs().max())
    torch.testing.assert_close(fit.quadratic, A, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fit(h), values, rtol=0, atol=1e-10 * size)
    assert fit.relative_residual < 1e-10
    assert fit.rank == 1 + d + d * (d + 1) // 2
    assert torch.equal(fit.quadratic, fit.quadratic.T)


def test_the_fits_coefficients_are_named_rightly() -> None:
    h = randn(20, 2)
    fit = quadratic_fit(7 + 2 * h[:, 0] - h[:, 1] + 3 * h[:, 0] ** 2 + 4 * h[:, 0] * h[:, 1], h)
    torch.testing.assert_close(fit.constant, torch.tensor(7.0, dtype=torch.float64))
    torch.testing.assert_close(fit.linear, torch.tensor([2.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(
        fit.quadratic, torch.tensor([[6.0, 4.0], [4.0, 0.0]], dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_the_residual_is_the_share_of_what_is_no_quadratic() -> None:
    """Golden: on a symmetric grid, x³ less its best line leaves 1 − ⟨x³, x⟩² / ⟨x, x⟩⟨x³, x³⟩ of its square norm."""
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    left = 1 - (x**4).sum() ** 2 / ((x**2).sum() * (x**6).sum())
    assert quadratic_fit(x**3 + 5 * x, x[:, None]).relative_residual == pytest.approx(
        float((left * (x**6).sum()).sqrt() / (x**3 + 5 * x).norm()), rel=1e-10
    )


def test_units_that_are_off_leave_coefficients_open_but_not_the_residual() -> None:
    h = torch.cat([randn(N, 2), torch.zeros(N, 1, dtype=torch.float64)], dim=1)
    fit = quadratic_fit(h[:, 0] * h[:, 1], h)
    assert fit.rank == 6
    assert fit.relative_residual < 1e-14
    assert max(abs(fit.linear[2]), *fit.quadratic[2].abs()) < 1e-14


def test_constant_values_are_a_quadratic() -> None:
    assert quadratic_fit(torch.full((N,), 0.1, dtype=torch.float64), randn(N, 2)).relative_residual == 0.0


def test_a_trained_linear_module_implies_a_quadratic() -> None:
    S, h = module_in(trained(0)), 2 * randn(100, 4, seed=9)
    for label in range(CLASSES):
        values = implied_loss(S, h, torch.full((100,), label))
        fit = quadratic_fit(values, h)
        assert values.std() > 0.01  # it has learned something
        assert fit.relative_residual < 1e-12
        weight = S.layers[0].weight.detach()
        torch.testing.assert_close(fit.quadratic, (weight + weight.T) / 2, rtol=0, atol=1e-12)
        torch.testing.assert_close(values, believed(S, h, torch.full((100,), label)), rtol=0, atol=1e-12)


def test_a_trained_module_with_a_hidden_layer_implies_more_than_a_quadratic() -> None:
    S, h = module_in(trained(1)), 2 * randn(100, 4, seed=9)
    values = implied_loss(S, h, zeros(100))
    assert values.std() > 0.01
    assert quadratic_fit(values, h).relative_residual > 1e-3


# Beside the true loss


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_true_loss_at_a_boundary_is_that_of_the_whole_network_and_changes_nothing(
    kind: str, loss: str, training: bool
) -> None:
    shape = (6,) if kind == "mlp" else (1, 8, 8)
    net = NETWORKS[kind](shape, CLASSES, depth=3, width=4, generator=torch.Generator().manual_seed(0)).double()
    X, y = randn(N, math.prod(shape)), labels()
    net(X)  # gives batch norm statistics
    net.eval()
    h, expected = net.input(X), LOSSES[loss](net(X), y)
    net.train(training)
    net.hidden["3"].eval()  # a part of its own mode
    before, modes = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    for k in net.boundaries:
        with torch.no_grad():
            net.hidden[str(k)].eval()
            h = net.hidden[str(k)](h)
            net.hidden[str(k)].train(training and k != 3)
        for rows in (h, h.flatten(1)):
            found = true_loss_at(net, k, rows, y, loss=loss)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
            assert not found.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes


def small_chain(norm: str = "batch", activation: str = "tanh") -> Chain:
    generator = torch.Generator().manual_seed(0)
    settings = {"depth": 2, "width": 4, "norm": norm, "activation": activation, "generator": generator}
    net = NETWORKS["mlp"]((5,), CLASSES, **settings).double()
    net(randn(N, 5))
    return net.eval()


def test_the_implied_loss_of_the_true_gradient_is_the_true_loss() -> None:
    net, h, y = small_chain(), randn(N, 4), labels()

    def truth(h: Tensor, y: Tensor) -> Tensor:
        leaf = h.clone().requires_grad_()
        total = LOSSES["log_loss"](net.output(net.hidden["2"](leaf)), y).sum()
        return torch.autograd.grad(total, leaf)[0]

    implied, true = implied_loss(truth, h, y, tolerance=1e-12), true_loss_at(net, 1, h, y)
    constants = true_loss_at(net, 1, torch.zeros(CLASSES, 4, dtype=torch.float64), torch.arange(CLASSES))
    torch.testing.assert_close(implied, true - constants[y], rtol=0, atol=1e-10)
    found = agreement(implied, true, y)
    assert found.correlation == pytest.approx(1.0, abs=1e-12)
    assert found.relative_difference < 1e-10


def test_the_true_loss_has_the_scale_of_the_targets_of_synthetic_gradients() -> None:
    net, X, y = small_chain(), randn(N, 5), labels()
    h, step = net.hidden["1"](X).detach(), 1e-6 * randn(N, 4, seed=2)
    rise = true_loss_at(net, 1, h + step, y) - true_loss_at(net, 1, h - step, y)
    torch.testing.assert_close(rise, 2 * (true_gradients(net, X, y)[1] * step).sum(dim=1), rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("regression", [False, True])
def test_a_linear_module_can_be_right_about_the_squared_error_of_a_linear_readout(regression: bool) -> None:
    """After the exact solution S = 2 (h Wᵀ + b − y) W, for classes and for regression targets."""
    net, h = small_chain(), randn(N, 4)
    y = randn(4, CLASSES, seed=3)[torch.arange(N) % 4] if regression else labels()
    S = SyntheticGradient(Site((4,), CLASSES, 2, loss="mse")).double()
    W, b = (net.output.get_parameter(name).detach() for name in ("weight", "bias"))
    assert S.label_vectors is not None
    with torch.no_grad():
        S.layers[0].weight.copy_(2 * W.T @ W)
        S.layers[0].bias.copy_(2 * b @ W)
        S.label_vectors.weight.copy_(-2 * W)
    implied, true = implied_loss(S, h, y), true_loss_at(net, 2, h, y, loss="mse")
    at_zero = true_loss_at(net, 2, torch.zeros_like(h), y, loss="mse")
    torch.testing.assert_close(implied, true - at_zero, rtol=0, atol=1e-12)
    assert agreement(implied, true, y).relative_difference < 1e-12
    assert curl(S, h, y).max() < 1e-14
    assert path_dependence(S, h, y).relative < 1e-13


def test_a_trained_module_is_nearer_to_the_true_loss_than_to_another_labels() -> None:
    learner = trained(0)
    h, y = learner.network.hidden["1"](randn(100, 5, seed=3) + labels(100)[:, None]).detach(), labels(100)
    implied = implied_loss(module_in(learner), h, y)
    right, wrong = (agreement(implied, true_loss_at(learner.network, 1, h, t), y) for t in (y, (y + 1) % CLASSES))
    assert right.correlation > max(0.0, wrong.correlation)


def test_agreement_of_hand_made_surfaces() -> None:
    """Golden: about their label's means (±1, ±2) and (±2, ±4), (±1, ∓2): 3 / 5 off in the last is −6 / 10."""
    y = torch.tensor([0, 0, 1, 1])
    true = torch.tensor([1.0, -1.0, 12.0, 8.0])
    twice = agreement(torch.tensor([102.0, 98.0, 4.0, -4.0]), true, y)
    assert (twice.correlation, twice.relative_difference, twice.slope) == pytest.approx((1.0, 1.0, 2.0))
    mixed = agreement(torch.tensor([1.0, -1.0, -2.0, 2.0]), true, y)
    assert (mixed.correlation, mixed.relative_difference) == pytest.approx((-0.6, math.sqrt(16 * 2 / 10)))
    assert mixed.slope == pytest.approx(-6 / 10)  # both have the norm √10


def test_agreement_ignores_a_constant_for_each_label_and_nothing_else() -> None:
    y, true, implied = labels(), randn(N), randn(N, seed=1)
    before, moved = agreement(implied, true, y), agreement(implied + 1000 * y, true - 77 * y, y)
    assert moved.correlation == pytest.approx(before.correlation, abs=1e-10)
    assert moved.relative_difference == pytest.approx(before.relative_difference, abs=1e-10)
    assert agreement(implied + torch.linspace(0, 3, N), true, y).correlation != pytest.approx(
        before.correlation, abs=1e-3
    )


def test_rows_of_regression_targets_are_labels() -> None:
    y, true = labels(), randn(N)
    targets = randn(CLASSES, 2, seed=4)[y]
    assert agreement(true + 5 * y, true, targets).correlation == pytest.approx(1.0)


def test_flat_surfaces_have_no_correlation_and_say_so() -> None:
    y, true = labels(), randn(N)
    flat = 0.1 * y.double() + 0.1
    with pytest.warns(RuntimeWarning, match=r"The implied loss is constant within every label \(40 points\)"):
        found = agreement(flat, true, y)
    assert math.isnan(found.correlation)
    assert (found.relative_difference, found.slope) == (1.0, 0.0)
    with pytest.warns(RuntimeWarning, match="The true loss is constant within every label"):
        found = agreement(true, flat, y)
    assert math.isnan(found.correlation)
    assert math.isnan(found.relative_difference)
    assert math.isnan(found.slope)
    with pytest.warns(RuntimeWarning, match="The implied and the true loss is constant"):
        agreement(flat.float(), flat, y)


# Modules as fields


@pytest.mark.parametrize("hidden_layers", [0, 1])
@pytest.mark.parametrize("shape", [(3,), (2, 4, 4)])
def test_the_module_is_the_estimators_gradient_with_its_graph(shape: tuple[int, ...], hidden_layers: int) -> None:
    S = SyntheticGradient(Site(shape, CLASSES), hidden_layers=hidden_layers, generator=torch.Generator()).double()
    with torch.no_grad():
        for parameter in S.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    h, y = randn(5, *shape).requires_grad_(), labels(5)
    found = module_of(S)(h.flatten(1), y)
    torch.testing.assert_close(found, S.gradient(Signals(h.detach(), y)).flatten(1), rtol=1e-12, atol=1e-12)
    assert torch.autograd.grad(found.sum(), h)[0].count_nonzero() > 0
    assert implied_loss(S, h.flatten(1), y, tolerance=1e-3).shape == (5,)


@pytest.mark.parametrize("kind", [SyntheticGradientProp, BPLambda])
def test_the_module_of_a_combined_rule_is_its_prediction(kind: type[SyntheticGradient]) -> None:
    rule, plain, h, y = kind(Site((3,), CLASSES)).double(), synthetic(), randn(N, 3), labels()
    rule.load_state_dict(plain.state_dict())
    expected = implied_loss(plain, h, y)
    assert torch.equal(implied_loss(rule, h, y), expected)
    assert torch.equal(implied_loss(Observed(rule), h, y), expected)


def test_rules_that_read_activation_and_labels_alone_imply_losses_too() -> None:
    h, y, generator = randn(N, 3), labels(), torch.Generator().manual_seed(0)
    greedy = DecoupledGreedy(Site((3,), CLASSES), generator=generator).double()
    local = [LOSSES["log_loss"](greedy.classifier(h), y).detach() for h in (h, torch.zeros_like(h))]
    expected = local[0] - local[1]
    torch.testing.assert_close(implied_loss(greedy, h, y, tolerance=1e-10), expected, rtol=0, atol=1e-10)
    random_targets = DirectRandomTarget(Site((3,), CLASSES), generator=generator).double()
    assert quadratic_fit(implied_loss(random_targets, h, zeros()), h).quadratic.abs().max() < 1e-12
    assert curl(random_targets, h, y).count_nonzero() == 0


@pytest.mark.parametrize(
    ("rule", "says"), [(Noise, "at random"), (TargetPropagation, "from ")], ids=["noise", "target propagation"]
)
def test_rules_of_other_signals_imply_no_loss(rule: type, says: str) -> None:
    above = nn.Linear(3, 3)
    estimator = rule(Site((3,), CLASSES, 1, above, (3,)), generator=torch.Generator())
    with pytest.raises(ValueError, match=f"{rule.__name__} chooses its gradient {says}.*Pass an estimator"):
        module_of(estimator)


def test_the_error_of_a_stack_names_how_to_unstack_it() -> None:
    config = TrainingConfig(depth=3, width=4, rule="synthetic-gradient", boundaries="1,2")
    (stacked,) = build_learner(config, 5, CLASSES).estimators.children()
    assert isinstance(stacked, SyntheticGradient)
    with pytest.raises(ValueError, match=r"SyntheticGradient is a stack of several; .* together=False"):
        module_of(stacked)
    apart = build_learner(config, 5, CLASSES, together=False).estimators["2"]
    assert implied_loss(apart, torch.ones(2, 4), labels(2)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("h", "says"),
    [
        (torch.ones(2, 4, dtype=torch.float64), "h has 4 units; SyntheticGradient at boundary 1 takes 3"),
        (
            torch.ones(2, 3),
            "h is torch.float32 and SyntheticGradient at boundary 1 torch.float64; expected equal types",
        ),
    ],
)
def test_a_module_says_which_activations_it_takes(h: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        module_of(synthetic())(h, labels(2))


# Errors


@pytest.mark.parametrize("measure", [implied_loss, curl, path_dependence])
@pytest.mark.parametrize(
    ("h", "y", "says"),
    [
        (torch.ones(3), zeros(3), r"h has shape \(3,\) of torch.float32; expected floats \(N, d\)"),
        (torch.ones(3, 2, 2), zeros(3), r"Flatten feature maps with h.flatten\(1\)"),
        (torch.ones(3, 2, dtype=torch.int64), zeros(3), "of torch.int64; expected floats"),
        (torch.ones(0, 2), zeros(0), "with N and d above 0"),
        (torch.ones(3, 2), zeros(2), r"h has 3 examples and y has shape \(2,\); expected classes \(3,\)"),
        (torch.ones(3, 2), torch.tensor(0), r"y has shape \(\)"),
    ],
)
def test_inconsistent_shapes_and_types_are_refused(
    measure: Callable[..., object], h: Tensor, y: Tensor, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        measure(lambda h, y: h, h, y)


@pytest.mark.parametrize("measure", [implied_loss, curl, path_dependence])
@pytest.mark.parametrize(
    ("S", "says"),
    [
        (lambda h, y: h.sum(dim=1), r"S returned shape .* expected the shape and type of h"),
        (lambda h, y: h.double(), "S returned shape .* of torch.float64 for h .* of torch.float32"),
        (lambda h, y: h / 0, "S is not finite at some points between the anchor and h"),
    ],
    ids=["shape", "type", "infinite"],
)
def test_an_invalid_field_is_refused(measure: Callable[..., object], S: Field, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        measure(S, torch.ones(3, 2), zeros(3))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_nodes": 0}, "n_nodes is 0; expected a whole number of 1 or more"),
        ({"n_panels": 1.5}, "n_panels is 1.5; expected a whole number of 1 or more"),
        ({"tolerance": 0.0}, "tolerance is 0.0; expected a number above 0"),
        ({"anchor": torch.ones(3)}, r"anchor has shape \(3,\); expected a number, \(2,\) or \(4, 2\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], says: str) -> None:
    for measure in (implied_loss, path_dependence):
        with pytest.raises(ValueError, match=says):
            measure(lambda h, y: h, torch.ones(4, 2), zeros(4), **settings)


def test_errors_of_the_other_functions_name_what_was_expected() -> None:
    net, h, y = small_chain(), randn(N, 4), labels()
    with pytest.raises(ValueError, match="chunk_size is 0; expected a whole number"):
        curl(rotation, randn(N, 2), y, chunk_size=0)
    with pytest.raises(ValueError, match=r"A has shape \(3, 3\) of .* expected \(4, 4\), and \(4,\) or \(40, 4\)"):
        affine_implied_loss(randn(3, 3), randn(4), h)
    with pytest.raises(ValueError, match=r"of torch.float32 and b"):
        affine_implied_loss(randn(4, 4).float(), randn(4), h)
    with pytest.raises(ValueError, match="There is no boundary 3; this network has boundaries 1 to 2"):
        true_loss_at(net, 3, h, y)
    with pytest.raises(ValueError, match=r"Unknown loss 'l1'. Choose one of: log_loss, mse"):
        true_loss_at(net, 1, h, y, loss="l1")
    with pytest.raises(ValueError, match="h has 3 units; boundary 1 takes 4"):
        true_loss_at(net, 1, randn(N, 3), y)
    with pytest.raises(ValueError, match=r"h has shape \(4,\)"):
        true_loss_at(net, 1, randn(4), y)
    with pytest.raises(ValueError, match=r"h is torch.float32 and boundary 1 torch.float64"):
        true_loss_at(net, 1, h.float(), y)
    with pytest.raises(ValueError, match=r"There are 15 points for 15 coefficients .* Pass 16 points or more"):
        quadratic_fit(randn(15), randn(15, 4))
    with pytest.raises(ValueError, match=r"values has shape \(3,\) of .*; expected \(40,\), finite floats"):
        quadratic_fit(randn(3), h)
    with pytest.raises(ValueError, match=r"implied has shape \(40,\) of .*; expected \(40,\), finite floats"):
        agreement(torch.full((N,), math.nan), randn(N), y)
    with pytest.raises(ValueError, match="Each of the 40 labels has one point"):
        agreement(randn(N), randn(N), randn(N, 2))


def test_a_broken_network_is_left_in_its_mode() -> None:
    net = small_chain().train()
    with pytest.raises((RuntimeError, IndexError)):
        true_loss_at(net, 1, randn(N, 4), labels() + 100)
    assert all(module.training for module in net.modules())
