import copy
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from repsim.learning import (
    NETWORKS,
    Backprop,
    Chain,
    Learner,
    Noise,
    Observed,
    SyntheticGradient,
    TrainingConfig,
    build_learner,
    build_optimizer,
    diagnose,
    site_of,
    stack,
    train,
    true_gradients,
)
from repsim.theory.convergence import Tracking, track, tracked
from repsim.theory.linear_dynamics import largest_rates, linear_model
from tests.repsim.small_chains import RULES_OF_CHAINS, randn

N, CLASSES, WIDTH = 8, 3, 6
SHAPES = {"mlp": (6,), "conv": (1, 8, 8), "residual": (1, 8, 8), "transformer": (1, 8, 8)}


def examples(kind: str = "mlp", seed: int = 1) -> tuple[Tensor, Tensor]:
    return randn(N, math.prod(SHAPES[kind]), seed=seed), torch.arange(N) % CLASSES


def learner_of(
    rule: str = "synthetic-gradient",
    boundaries: str = "2",
    *,
    kind: str = "mlp",
    norm: str = "batch",
    seed: int = 0,
    n_steps: int = 3,
    depth: int = 4,
) -> Learner:
    """Return a learner that has made a few steps, so that nothing is zero any more."""
    of_network = {"heads": 2} if kind == "transformer" else {}  # which divide the width
    config = TrainingConfig(
        rule=rule, boundaries=boundaries, network=kind, depth=depth, width=WIDTH, norm=norm, seed=seed, **of_network
    )
    learner = build_learner(config, SHAPES[kind], CLASSES).double()
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.03)
    for _ in range(n_steps):
        optimizer.zero_grad()
        learner.compute_gradients(*examples(kind))
        optimizer.step()
    optimizer.zero_grad()
    return learner


def parameters_of(network: Chain, segments: Sequence[int]) -> list[nn.Parameter]:
    return [parameter for k in segments for parameter in network.segments[k - 1].parameters()]


def dense_jacobian(network: Chain, X: Tensor, k: int, segments: Sequence[int]) -> Tensor:
    """Return ∂h_k/∂θ (N·d, P) entry by entry, for the parameters θ of some segments: the oracle."""
    below = nn.Sequential(copy.deepcopy(network.input), *(copy.deepcopy(network.segments[:k])))
    learning = {name: p.detach() for name, p in below.named_parameters() if int(name.split(".")[0]) in segments}

    def activations(theta: dict[str, Tensor]) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in below.named_buffers()}
        return functional_call(below, theta | buffers, (X,)).flatten()

    return torch.cat([part.flatten(1) for part in jacrev(activations)(learning).values()], dim=1).detach()


def gradient_of(learner: Learner, X: Tensor, y: Tensor, segments: Sequence[int], *, by_backprop: bool) -> Tensor:
    """Return the gradient that some segments' parameters get, from the step itself."""
    twin = copy.deepcopy(learner)
    (Learner(twin.network, loss=twin.loss) if by_backprop else twin).compute_gradients(X, y)
    return torch.cat([parameter.grad.flatten() for parameter in parameters_of(twin.network, segments)])


# What it is made of


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_jacobian_norms_are_those_of_the_dense_jacobian(norm: str, training: bool) -> None:
    learner, (X, y) = learner_of(boundaries="1,3", norm=norm).train(training), examples()
    for k, seen in track(learner, X, y).items():
        segments = {1: [1], 3: [2, 3]}[k]
        exact = float(torch.linalg.matrix_norm(dense_jacobian(learner.network, X, k, segments), ord=2)) / math.sqrt(N)
        assert list(seen.segments) == segments
        assert exact > 0.1
        assert seen.jacobian_norm == pytest.approx(exact, rel=1e-6)
        assert exact * (1 - 1e-9) <= seen.jacobian_bound <= 1.05 * exact


@pytest.mark.parametrize("kind", ["conv", "residual"])
def test_jacobian_norms_of_maps_are_those_of_the_dense_jacobian(kind: str) -> None:
    learner, (X, y) = learner_of(boundaries="2", kind=kind, depth=2), examples(kind)
    exact = float(torch.linalg.matrix_norm(dense_jacobian(learner.network, X, 2, [1, 2]), ord=2)) / math.sqrt(N)
    seen = track(learner, X, y, tolerance=0.01)[2]
    assert seen.jacobian_norm == pytest.approx(exact, rel=1e-6)
    assert exact <= seen.jacobian_bound <= 1.01 * exact


def test_the_jacobian_is_that_of_the_whole_batch_where_batch_norm_couples_its_examples() -> None:
    learner, (X, y) = learner_of(), examples()
    seen = track(learner.train(), X, y)[2].jacobian_norm
    apart = track(learner.eval(), X, y)[2].jacobian_norm
    assert abs(seen / apart - 1) > 0.01


@pytest.mark.parametrize(
    ("kind", "rule"),
    [*((kind, "synthetic-gradient") for kind in NETWORKS), ("mlp", "feedback-alignment"), ("conv", "bp-lambda")],
)
def test_gradients_and_errors_are_those_that_the_parameters_get(kind: str, rule: str) -> None:
    learner, (X, y) = learner_of(rule, "1,3", kind=kind), examples(kind)
    for k, seen in track(learner, X, y).items():
        segments = {1: [1], 3: [2, 3]}[k]
        true, given = (gradient_of(learner, X, y, segments, by_backprop=each) for each in (True, False))
        assert seen.gradient_norm == pytest.approx(float(true.norm()), rel=1e-9)
        assert seen.error_norm == pytest.approx(float((given - true).norm()), rel=1e-9)
        assert seen.error_norm > 0.01 * seen.gradient_norm


def test_epsilon_is_the_root_mean_square_over_examples_of_the_error_of_the_gradient() -> None:
    learner, (X, y) = learner_of(boundaries="1,3"), examples()
    chosen = copy.deepcopy(learner).compute_gradients(X, y, watch=True).gradients
    for k, seen in track(learner, X, y).items():
        (expected,) = diagnose(chosen, true_gradients(learner.network, X, y))[k]
        assert seen.epsilon == pytest.approx(expected.relative_error * expected.true_norm, rel=1e-9)
        assert seen.epsilon > 0


@settings(max_examples=15, deadline=None)
@given(
    rule=st.sampled_from(sorted(set(RULES_OF_CHAINS) - {"backprop"})),
    norm=st.sampled_from(["none", "batch", "layer"]),
    boundaries=st.sampled_from(["2", "1,3", "all"]),
    seed=st.integers(0, 1000),
)
def test_the_error_never_exceeds_its_bound(rule: str, norm: str, boundaries: str, seed: int) -> None:
    learner, (X, y) = learner_of(rule, boundaries, norm=norm, seed=seed), examples(seed=seed)
    for seen in track(learner, X, y, tolerance=0.2).values():
        assert seen.error_norm <= seen.error_bound * (1 + 1e-9)
        assert seen.error_norm >= abs(seen.gradient_norm - seen.error_norm) - seen.gradient_norm - 1e-12


def test_the_bound_is_reached_where_the_error_lies_along_the_largest_singular_vector() -> None:
    learner, (X, y) = learner_of("direct-feedback-alignment", norm="none"), examples()
    J = dense_jacobian(learner.network, X, 2, [1, 2])
    worst = torch.linalg.svd(J)[0][:, 0].view(N, WIDTH)
    fixed = Fixed(learner, true_gradients(learner.network, X, y)[2] + worst)
    seen = track(Learner(learner.network, {2: fixed}), X, y)[2]
    assert seen.error_norm == pytest.approx(seen.epsilon * seen.jacobian_norm, rel=1e-6)


class Fixed(Noise):
    """Chooses what it was told to."""

    def __init__(self, learner: Learner, g: Tensor) -> None:
        super().__init__(site_of(learner.network, 2, n_outputs=CLASSES), scale=1.0)
        self.g = g

    def gradient(self, signals: object) -> Tensor:
        return self.g


# Which parameters


def spans(learner: Learner, boundaries: Sequence[int] | None = None) -> dict[int, list[int]]:
    return {k: list(seen.segments) for k, seen in track(learner, *examples(), boundaries=boundaries).items()}


def test_what_learns_from_a_gradient_ends_at_the_next_estimator_below() -> None:
    assert spans(learner_of(boundaries="2,3")) == {2: [1, 2], 3: [3]}
    assert spans(learner_of(boundaries="all")) == {1: [1], 2: [2], 3: [3], 4: [4]}
    assert spans(learner_of(boundaries="2"), [3, 1]) == {1: [1], 3: [3]}
    assert spans(learner_of("feedback-alignment", "1,3")) == {1: [1], 3: [2, 3]}


def test_backprop_is_no_estimator_to_track() -> None:
    network = learner_of().network
    sites = {k: site_of(network, k, n_outputs=CLASSES) for k in (1, 3)}
    S = SyntheticGradient(sites[3]).double()
    assert spans(Learner(network, {1: Backprop(sites[1]), 3: S})) == {3: [1, 2, 3]}
    assert spans(Learner(network)) == {}


def test_above_all_estimators_there_is_no_error() -> None:
    learner, (X, y) = learner_of(boundaries="2"), examples()
    seen = track(learner, X, y, boundaries=[3])[3]
    assert seen.ratio < 1e-12
    assert seen.delta == pytest.approx(1)


def test_an_observed_rule_is_tracked_as_if_it_were_used() -> None:
    learner, (X, y) = learner_of(), examples()
    S = copy.deepcopy(learner.placed()[2,])
    assert track(Learner(learner.network, {2: Observed(S)}), X, y) == track(learner, X, y)


def test_parameters_that_do_not_learn_are_not_counted() -> None:
    learner, (X, y) = learner_of(norm="none"), examples()
    learner.network.hidden["1"].requires_grad_(False)
    exact = float(torch.linalg.matrix_norm(dense_jacobian(learner.network, X, 2, [2]), ord=2)) / math.sqrt(N)
    seen = track(learner, X, y)[2]
    assert seen.jacobian_norm == pytest.approx(exact, rel=1e-6)
    assert seen.gradient_norm == pytest.approx(float(gradient_of(learner, X, y, [2], by_backprop=True).norm()))
    assert [p.requires_grad for p in learner.network.hidden["1"].parameters()] == [False, False]


# The condition


def test_ratio_delta_and_margin_of_a_hand_made_case() -> None:
    """Golden: ε C = 0.5 · 2 = 1 against a gradient of 3 gives r = 1/3 and δ = (2/3) / (4/3) = 1/2."""
    seen = Tracking(range(1, 3), 0.5, 1.9, 2.0, 3.0, 0.7)
    assert (seen.error_bound, seen.margin) == (1.0, 2.0)
    assert (seen.ratio, seen.delta) == pytest.approx((1 / 3, 1 / 2))
    assert seen.holds(0.499)
    assert not seen.holds(0.501)


def test_no_delta_exists_where_the_bound_exceeds_the_gradient() -> None:
    for gradient_norm in (1.0, 0.9, 0.0):
        seen = Tracking(range(1, 2), 0.5, 1.9, 2.0, gradient_norm, 0.7)
        assert seen.ratio >= 1
        assert math.isnan(seen.delta)
        assert seen.margin <= 0
        assert not seen.holds(1e-6)


def test_where_nothing_is_left_to_learn_the_condition_holds() -> None:
    seen = Tracking(range(1, 2), 0.0, 1.9, 2.0, 0.0, 0.0)
    assert (seen.ratio, seen.delta, seen.margin) == (0.0, 1.0, 0.0)
    assert seen.holds(0.999)


def test_a_module_of_zeros_errs_by_the_whole_gradient() -> None:
    learner, (X, y) = learner_of(n_steps=0), examples()
    seen = track(learner, X, y)[2]
    (true,) = diagnose(*[true_gradients(learner.network, X, y)] * 2)[2]
    assert seen.epsilon == pytest.approx(true.true_norm)
    assert seen.error_norm == pytest.approx(seen.gradient_norm)
    assert math.isnan(seen.delta)


def exact_learner(X: Tensor, Y: Tensor) -> Learner:
    network = linear_model(X.shape[1], Y.shape[1], generator=torch.Generator().manual_seed(0)).double()
    S = SyntheticGradient(site_of(network, 1, loss="mse", n_outputs=Y.shape[1])).double()
    with torch.no_grad():
        S.layers[0].weight.copy_(2 * torch.eye(Y.shape[1]))
        S.label_vectors.weight.copy_(-2 * torch.eye(Y.shape[1]))
    return Learner(network, {1: S}, loss="mse")


def test_an_exact_module_satisfies_the_condition_with_every_delta() -> None:
    X, Y = randn(N, 3, seed=1), randn(N, 2, seed=2)
    seen = track(exact_learner(X, Y), X, Y)[1]
    assert seen.epsilon < 1e-14
    assert seen.gradient_norm > 0.1
    assert seen.delta == pytest.approx(1, abs=1e-12)
    assert seen.holds(0.999999)


def test_the_jacobian_of_the_linear_model_is_its_input() -> None:
    """C = ‖[X, 1]‖₂ / √N, so that 1 / C² is the largest rate that gradient descent bears."""
    X, Y = randn(N, 3, seed=1), randn(N, 2, seed=2)
    seen = track(exact_learner(X, Y), X, Y)[1]
    exact = float(torch.linalg.matrix_norm(torch.cat([X, torch.ones(N, 1)], dim=1), ord=2)) / math.sqrt(N)
    assert seen.jacobian_norm == seen.jacobian_bound == pytest.approx(exact, rel=1e-12)
    assert largest_rates(X, Y).alpha == pytest.approx(1 / seen.jacobian_norm**2, rel=1e-12)


def test_a_network_without_slope_has_no_jacobian_and_no_error() -> None:
    learner, (X, y) = learner_of(norm="none"), examples()
    with torch.no_grad():
        learner.network.hidden["2"].affine.bias.fill_(-1e6)  # no relu passes anything on
    seen = track(learner, X, y)[2]
    assert (seen.jacobian_norm, seen.jacobian_bound, seen.error_norm) == (0.0, 0.0, 0.0)
    assert seen.epsilon > 0


def test_single_and_double_precision_agree() -> None:
    learner, (X, y) = learner_of(boundaries="1,3"), examples()
    exact = track(learner, X, y)
    for k, seen in track(learner.float(), X.float(), y).items():
        for name in ("epsilon", "jacobian_norm", "gradient_norm", "error_norm", "ratio"):
            assert getattr(seen, name) == pytest.approx(getattr(exact[k], name), rel=1e-3), name


# What is left alone


def bits(learner: Learner) -> dict[str, bytes]:
    found = {name: value.numpy().tobytes() for name, value in learner.state_dict().items()}
    grads = {f"{name}.grad": p.grad for name, p in learner.named_parameters()}
    return found | {name: b"" if grad is None else grad.numpy().tobytes() for name, grad in grads.items()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rule", RULES_OF_CHAINS)
def test_tracking_changes_nothing(rule: str, training: bool) -> None:
    learner, (X, y) = learner_of(rule, "1,3").train(training), examples()
    learner.network.hidden["2"].norm.train(not training)
    learner.compute_gradients(X, y)
    next(learner.network.parameters()).grad = None
    before, modes, state = bits(learner), [each.training for each in learner.modules()], torch.get_rng_state()
    places = {name: (p.data_ptr(), p.grad, p.requires_grad) for name, p in learner.named_parameters()}
    track(learner, X, y, boundaries=[1, 2, 3])
    assert bits(learner) == before
    assert [each.training for each in learner.modules()] == modes
    assert all((p.data_ptr(), p.requires_grad) == places[name][::2] for name, p in learner.named_parameters())
    assert all(p.grad is places[name][1] for name, p in learner.named_parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_rule_that_draws_shows_the_draw_that_it_uses_next() -> None:
    learner, (X, y) = learner_of("noise"), examples()
    first, again = (track(learner, X, y)[2] for _ in range(2))
    assert first == again
    true = true_gradients(learner.network, X, y)[2]
    used = learner.compute_gradients(X, y, watch=True).gradients[2]
    assert first.epsilon == pytest.approx(float((used - true).norm()) / math.sqrt(N), rel=1e-12)
    assert track(learner, X, y)[2].epsilon != first.epsilon


@pytest.mark.parametrize("rule", ["synthetic-gradient", "noise"])
def test_tracking_does_not_change_the_training(rule: str) -> None:
    X, y = randn(24, 6, seed=1), torch.arange(24) % CLASSES
    config = TrainingConfig(rule=rule, boundaries="1,3", depth=4, width=4, epochs=2, batch_size=8)
    states = []
    for watched in (False, True):
        learner = build_learner(config, 6, CLASSES).double()
        steps = train(learner, build_optimizer(learner, config), X, y, config)
        records = list(tracked(steps, learner, X, y, every=2)) if watched else [(step, {}) for step in steps]
        states.append((bits(learner), [step for step, _ in records]))
    assert states[0] == states[1]


def test_the_condition_is_evaluated_after_every_nth_update() -> None:
    X, y = randn(24, 6, seed=1), torch.arange(24) % CLASSES
    config = TrainingConfig(rule="synthetic-gradient", boundaries="1,3", depth=4, width=4, epochs=2, batch_size=8)
    learner = build_learner(config, 6, CLASSES).double()
    steps = train(learner, build_optimizer(learner, config), X, y, config)
    for i, (step, seen) in enumerate(tracked(steps, learner, X, y, every=2), start=1):
        assert step.step == i
        assert seen == (track(learner, X, y) if i in (2, 4, 6) else {})
    assert i == 6


# Errors


@pytest.mark.parametrize("k", [0, 5])
def test_an_unknown_boundary_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"There is no boundary {k}; this network has boundaries 1 to 4"):
        track(learner_of(), *examples(), boundaries=[2, k])


def test_a_boundary_that_nothing_learns_from_is_refused() -> None:
    learner = learner_of(boundaries="1,3")
    for k in "23":
        learner.network.hidden[k].requires_grad_(False)
    with pytest.raises(ValueError, match=r"at boundary 3: segments 2 to 3 have no parameter .* Leave this"):
        track(learner, *examples())


def test_a_stack_is_refused() -> None:
    (X, y), together = examples(), stack([learner_of(seed=seed) for seed in (0, 1)])
    with pytest.raises(ValueError, match="The learner is a stack of 2; unstack it"):
        track(together, X.expand(2, *X.shape), y.expand(2, N))


def test_a_tolerance_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match="tolerance is 0; expected a number above 0"):
        track(learner_of(), *examples(), tolerance=0)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.5, math.nan])
def test_a_delta_outside_0_to_1_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match=rf"delta is {delta}; expected a number between 0 and 1, both excluded"):
        Tracking(range(1, 2), 0.5, 1.9, 2.0, 3.0, 0.7).holds(delta)


def test_an_interval_of_0_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="every is 0; expected a whole number of 1 or more"):
        next(tracked([], learner_of(), *examples(), every=0))


def test_a_network_that_diverged_is_refused() -> None:
    learner = learner_of(norm="none")
    with torch.no_grad():
        learner.network.hidden["1"].affine.weight.fill_(math.inf)
    with pytest.raises(ArithmeticError, match=r"product with the Jacobian is not finite; .* Use an earlier step"):
        track(learner, *examples())
