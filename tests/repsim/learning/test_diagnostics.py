import copy
import math
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repsim.learning import (
    NETWORKS,
    Chain,
    Diagnosis,
    Estimator,
    Learner,
    Noise,
    Observed,
    Signals,
    Site,
    SyntheticGradient,
    compute_gradients,
    diagnose,
    gradient_bias_variance,
    mlp,
    site_of,
    stack,
    true_gradients,
)
from repsim.learning.diagnostics import bias_variances, diagnose_step, true_step
from tests.repsim.small_chains import assert_same_bits, build_estimator, randn

N, CLASSES = 7, 3
SHAPES = {"mlp": (6,), "conv": (1, 8, 8), "residual": (1, 8, 8), "transformer": (1, 8, 8)}


def network(kind: str, seed: int = 0) -> Chain:
    generator = torch.Generator().manual_seed(seed)
    return NETWORKS[kind](SHAPES[kind], CLASSES, depth=3, width=4, generator=generator).double()


def examples(kind: str) -> tuple[Tensor, Tensor]:
    return randn(N, 6 if kind == "mlp" else 64, seed=1), torch.arange(N) % CLASSES


# Comparison


def test_gradients_are_compared_at_every_boundary() -> None:
    (X, y), net = examples("mlp"), network("mlp")
    S = SyntheticGradient(site_of(net, 2, n_outputs=CLASSES)).double()
    true = true_gradients(net, X, y)
    found = diagnose(compute_gradients(net, {2: S}, X, y, watch=True).gradients, true)
    assert found[2][0].norm == 0.0  # S starts at zero
    assert math.isnan(found[2][0].cosine)
    assert found[3][0].relative_error < 1e-12
    assert found[3][0].angle < 1e-4


def compare(g: list[list[float]], t: list[list[float]]) -> Diagnosis:
    return diagnose({1: torch.tensor(g)}, {1: torch.tensor(t)})[1][0]


def test_norms_are_root_mean_squares_over_examples() -> None:
    """Golden: ‖(3, 4)‖ = 5 and ‖(0, 0)‖ = 0, so that the root mean square is 5 / √2."""
    found = compare([[3, 4], [0, 0]], [[6.0, 8], [0, 0]])
    assert found.norm == pytest.approx(5 / math.sqrt(2))
    assert found.true_norm == pytest.approx(10 / math.sqrt(2))
    assert found.relative_error == pytest.approx(0.5)
    assert (found.cosine, found.angle) == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize(
    ("g", "cosine", "angle", "error"),
    [
        ([[1.0, 2.0]], 1.0, 0.0, 0.0),
        ([[-1.0, -2.0]], -1.0, 180.0, 2.0),
        ([[2.0, -1.0]], 0.0, 90.0, math.sqrt(2)),
        ([[3.0, 1.0]], math.sqrt(0.5), 45.0, 1.0),
        ([[1e-30, 2e-30]], 1.0, 0.0, 1.0),
    ],
)
def test_cosines_angles_and_errors_of_hand_made_cases(
    g: list[list[float]], cosine: float, angle: float, error: float
) -> None:
    found = compare(g, [[1.0, 2.0]])
    assert found.cosine == pytest.approx(cosine, abs=1e-12)
    assert found.angle == pytest.approx(angle, abs=1e-5)
    assert found.relative_error == pytest.approx(error)


def test_zero_gradients_have_no_angle() -> None:
    nothing, something = [[0.0, 0.0]], [[1.0, 2.0]]
    found = compare(nothing, something)
    assert (found.norm, found.relative_error) == (0.0, 1.0)
    assert math.isnan(found.cosine)
    assert math.isnan(found.angle)
    found = compare(something, nothing)
    assert found.true_norm == 0.0
    assert all(math.isnan(value) for value in (found.relative_error, found.cosine, found.angle))


@pytest.mark.parametrize("scale", [1e-25, 1e15])
def test_cosines_do_not_depend_on_scale_in_single_precision(scale: float) -> None:
    """Squares of such numbers leave the range of float32."""
    g, t = (randn(N, 4, seed=seed) for seed in (1, 2))
    expected = diagnose({1: g}, {1: t})[1][0]
    found = diagnose({1: (scale * g).float()}, {1: (scale * t).float()})[1][0]
    assert found.cosine == pytest.approx(expected.cosine, rel=1e-5)
    assert found.relative_error == pytest.approx(expected.relative_error, rel=1e-5)


def test_maps_are_compared_as_flat_vectors() -> None:
    g, t = randn(N, 2, 3, 4, seed=1), randn(N, 2, 3, 4, seed=2)
    (of_maps,), (of_vectors,) = (diagnose({1: a}, {1: b})[1] for a, b in ((g, t), (g.flatten(1), t.flatten(1))))
    assert of_maps == of_vectors
    assert of_maps.cosine == pytest.approx(F.cosine_similarity(g.flatten(), t.flatten(), dim=0).item())


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_stack_of_networks_is_diagnosed_one_by_one(kind: str) -> None:
    (X, y), nets = examples(kind), [network(kind, seed) for seed in (0, 1, 2)]
    together = true_gradients(stack(nets), X.expand(3, *X.shape), y.expand(3, N))
    alone = [true_gradients(net, X, y) for net in nets]
    for k in nets[0].boundaries:
        torch.testing.assert_close(together[k], torch.stack([each[k] for each in alone]), rtol=0, atol=1e-12)
    chosen = {k: g + 0.1 for k, g in together.items()}
    found = diagnose(chosen, together, lead=1)
    for i in range(3):
        one = diagnose({k: g[i] for k, g in chosen.items()}, {k: g[i] for k, g in together.items()})
        assert {k: several[i] for k, several in found.items()} == {k: each for k, (each,) in one.items()}


def test_an_infinite_gradient_has_no_angle() -> None:
    found = compare([[math.inf, 1.0]], [[1.0, 1.0]])
    assert math.isnan(found.cosine)
    assert math.isnan(found.angle)


# Updates and feedback weights


def linear_step(B: Tensor, rule: str = "feedback-alignment") -> tuple[dict[int, Diagnosis], Learner, Tensor, Tensor]:
    """Diagnose a step of a linear network whose output segment sends errors back through B."""
    generator = torch.Generator().manual_seed(0)
    net = mlp(4, 2, depth=2, width=3, norm="none", activation="linear", generator=generator).double()
    learner = Learner(net, {2: build_estimator(rule, net, 2)}, loss="mse")
    with torch.no_grad():
        learner.placed()[2,].feedback_0.copy_(B)
    X, Y = randn(N, 4, seed=1), randn(N, 2, seed=2)
    true = true_step(learner, X, Y)
    found = diagnose_step(learner, learner.compute_gradients(X, Y, watch=True), true)
    return {k: each for k, (each,) in found.items()}, learner, X, Y


def test_the_update_is_compared_with_that_of_backprop() -> None:
    """By hand: with e = 2 (Ŷ − Y), ∂W_2 is (e B)ᵀ h_1 / N where backprop has (e W_3)ᵀ h_1 / N, and so on below."""
    B = randn(2, 3, seed=5)
    found, learner, X, Y = linear_step(B)
    W1, b1, W2, b2, W3, b3 = (parameter.detach() for parameter in learner.network.parameters())
    h1 = X @ W1.T + b1
    h2 = h1 @ W2.T + b2
    e = 2 * (h2 @ W3.T + b3 - Y)

    def gradients(back: Tensor) -> dict[int, Tensor]:
        g2 = e @ back
        g1 = g2 @ W2
        return {
            1: torch.cat([(g1.T @ X).flatten(), g1.sum(dim=0)]) / N,
            2: torch.cat([(g2.T @ h1).flatten(), g2.sum(dim=0)]) / N,
        }

    ours, true = gradients(B), gradients(W3)
    for k in (1, 2):
        expected = float(F.cosine_similarity(ours[k], true[k], dim=0))
        assert found[k].update_cosine == pytest.approx(expected, abs=1e-12)
        assert abs(expected) < 0.99


@pytest.mark.parametrize("rule", ["feedback-alignment", "adaptive-random-backprop"])
def test_feedback_weights_are_compared_with_the_weights_that_they_replace(rule: str) -> None:
    W = linear_step(torch.zeros(2, 3), rule)[1].network.output.weight.detach()
    across = torch.zeros_like(W)
    across[0, 0], across[0, 1] = W[0, 1], -W[0, 0]
    turned = W / W.norm() + across / across.norm()  # W and its orthogonal complement in equal parts
    for B, angle in ((W, 0.0), (3 * W, 0.0), (-W, 180.0), (across, 90.0), (turned, 45.0)):
        found = linear_step(B, rule)[0]
        assert found[2].weight_angle == pytest.approx(angle, abs=1e-5)
        assert found[1].weight_angle is None
        assert (found[2].update_cosine > 1 - 1e-12) is (angle == 0.0)
    assert math.isnan(linear_step(torch.zeros(2, 3), rule)[0][2].weight_angle)


def test_signs_of_weights_are_within_90_degrees_of_them() -> None:
    (X, y), net = examples("mlp"), network("mlp")
    for rule in ("sign-symmetric", "sign-symmetric:magnitude=resampled"):
        learner = Learner(net, {2: build_estimator(rule, net, 2)})
        true = true_step(learner, X, y)
        before = copy.deepcopy(learner.estimators.state_dict())
        found = diagnose_step(learner, learner.compute_gradients(X, y, watch=True), true)[2][0]
        assert 0 < found.weight_angle < 90
        W = net.segments[2].affine.weight.detach()
        if rule == "sign-symmetric":
            expected = float(W.abs().sum() / (W.norm() * W.numel() ** 0.5))
            assert math.cos(math.radians(found.weight_angle)) == pytest.approx(expected)
        for name, value in learner.estimators.state_dict().items():  # the diagnosis draws nothing
            assert torch.equal(value, before[name] + name.endswith("count"))


@pytest.mark.parametrize("kind", NETWORKS)
def test_backprop_is_its_own_step(kind: str) -> None:
    learner, (X, y) = Learner(network(kind)), examples(kind)
    true = true_step(learner, X, y)
    assert all(parameter.grad is None for parameter in learner.parameters())
    plain = true_gradients(learner.network, X, y)
    for k, (found,) in diagnose_step(learner, learner.compute_gradients(X, y, watch=True), true).items():
        torch.testing.assert_close(true.boundaries[k], plain[k], rtol=0, atol=1e-12)
        assert found.update_cosine == pytest.approx(1.0, abs=1e-12)
        own = [parameter.grad for parameter in learner.network.segments[k - 1].parameters()]
        for ours, theirs in zip(own, true.segments[k], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
        assert found.weight_angle is None
        assert found.input_error is None


@pytest.mark.parametrize("n", [1, 3])
def test_segments_without_parameters_have_no_update(n: int) -> None:
    nets = [Chain([torch.nn.Linear(6, 5), torch.nn.Tanh()], torch.nn.Linear(5, CLASSES), [5, 5]) for _ in range(n)]
    learners = [Learner(net).double() for net in nets]
    learner = learners[0] if n == 1 else stack(learners)
    X, y = (each if n == 1 else each.expand(n, *each.shape) for each in examples("mlp"))
    true = true_step(learner, X, y)
    found = diagnose_step(learner, learner.compute_gradients(X, y, watch=True), true)
    spread = bias_variances(learner, [(X, y), (X, y)], lead=int(n > 1))
    for i in range(n):
        assert found[1][i].update_cosine == pytest.approx(1.0)
        assert math.isnan(found[2][i].update_cosine)
        assert spread[2][i].variance == 0.0
        assert math.isnan(found[2][i].with_spread(spread[2][i]).variance)


# Bias and variance


class Shifted(Estimator):
    """g_k = τ_k + c: a constant bias."""

    needs = frozenset({"true_gradient"})

    def __init__(self, site: Site, shift: Tensor) -> None:
        super().__init__(site)
        self.register_buffer("shift", shift)

    def gradient(self, signals: Signals) -> Tensor:
        return signals.true_gradient + self.shift


def linear_network() -> Chain:
    """Return a network without norm or nonlinearity, so that the gradient of W_k is Σ_i g_i h_iᵀ / N."""
    generator = torch.Generator().manual_seed(0)
    return mlp(6, CLASSES, depth=3, width=4, norm="none", activation="linear", generator=generator).double()


def batches(kind: str, n: int = 5, size: int = N) -> list[tuple[Tensor, Tensor]]:
    inputs = 0.5 + randn(n, size, 6 if kind == "mlp" else 64, seed=1)
    return [(X, X[:, :CLASSES].argmax(dim=1)) for X in inputs]


def inputs_of_segment(net: Chain, k: int, of_batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return [h_{k-1}, 1] of every batch (B, N, n_in + 1), the rows that multiply weights and bias."""
    with torch.no_grad():
        h = torch.stack([X for X, _ in of_batches])
        for segment in net.segments[: k - 1]:
            h = segment(h)
    return torch.cat([h, torch.ones(*h.shape[:2], 1, dtype=h.dtype)], dim=2)


@pytest.mark.parametrize("of", ["weights", "activations"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_backprop_has_no_bias_and_the_true_variance(kind: str, of: str) -> None:
    found = gradient_bias_variance(Learner(network(kind)), batches(kind), of=of)
    assert list(found) == [1, 2, 3]
    for each in found.values():
        assert each.n_batches == 5
        assert each.bias == 0.0
        assert each.variance == each.true_variance
    assert found[3].variance > 1e-3


@pytest.mark.parametrize("of", ["weights", "activations"])
def test_a_constant_shift_is_a_bias(of: str) -> None:
    """Closed form in a linear network: c moves the mean gradient of an activation by c, of weights by c ⟨[h, 1]⟩ᵀ."""
    net, of_batches = linear_network(), batches("mlp")
    shift = randn(4, seed=3)
    rule = Shifted(site_of(net, 2, n_outputs=CLASSES), shift)
    found = gradient_bias_variance(Learner(net, {2: rule}), of_batches, of=of)
    length = inputs_of_segment(net, 2, of_batches).mean(dim=(0, 1)).norm().item() if of == "weights" else 1.0
    assert found[2].bias == pytest.approx(shift.norm().item() * length)
    assert found[3].bias == 0.0
    assert found[1].bias > 1e-3  # the shift is passed down
    if of == "activations":
        assert found[2].variance == pytest.approx(found[2].true_variance)


@pytest.mark.parametrize("of", ["weights", "activations"])
def test_noise_has_its_own_variance_and_the_true_gradient_as_bias(of: str) -> None:
    """Closed form: 4 units with deviation σ give 4 σ² / N, times the mean ‖[h, 1]‖² for weights; 400 batches: 10 %."""
    net, of_batches = linear_network(), batches("mlp", n=400)
    rule = Noise(site_of(net, 2, n_outputs=CLASSES), scale=3.0).double()
    found = gradient_bias_variance(Learner(net, {2: rule}), of_batches, of=of)[2]
    rows = inputs_of_segment(net, 2, of_batches)
    variance = 4 * 9 / N * (rows.square().sum(dim=2).mean().item() if of == "weights" else 1.0)
    assert found.variance == pytest.approx(variance, rel=0.1)
    true = torch.stack([true_gradients(net, X, y)[2] for X, y in of_batches])
    means = (true.mT @ rows / N).flatten(1) if of == "weights" else true.mean(dim=1)
    assert found.true_variance == pytest.approx(means.var(dim=0).sum().item())
    assert found.true_norm**2 == pytest.approx(means.square().sum(dim=1).mean().item())
    assert found.error_variance == pytest.approx(variance + found.true_variance, rel=0.1)  # noise is independent
    assert found.bias == pytest.approx(means.mean(dim=0).norm().item(), abs=4 * math.sqrt(variance / 400))


@pytest.mark.parametrize("of", ["weights", "activations"])
def test_the_error_of_one_batch_is_its_squared_bias_and_variance(of: str) -> None:
    """The identity of the docstring, from every batch."""
    net, of_batches = network("mlp"), batches("mlp")
    S = build_estimator("synthetic-gradient", net, 2)
    found = gradient_bias_variance(Learner(net, {2: S}), of_batches, of=of)[2]

    def gradients(estimators: dict[int, Estimator]) -> Tensor:
        rows = []
        for X, y in of_batches:
            net.zero_grad()
            g = compute_gradients(net, estimators, X, y, watch=True).gradients[2].mean(dim=0)
            weights = torch.cat([parameter.grad.flatten() for parameter in net.hidden["2"].parameters()])
            rows.append(g if of == "activations" else weights)
        return torch.stack(rows)

    error = (gradients({2: S}) - gradients({}).mean(dim=0)).square().sum(dim=1).mean().item()
    assert found.mean_squared_error == pytest.approx(error)
    assert found.bias**2 + 0.8 * found.variance == pytest.approx(error)


def test_the_squared_bias_is_the_mean_product_of_the_errors_of_two_batches() -> None:
    """Which are independent, so that its expectation is the square of the expected error."""
    net, of_batches = linear_network(), batches("mlp", n=4)
    rule = Shifted(site_of(net, 2, n_outputs=CLASSES), randn(4, seed=3))
    found = gradient_bias_variance(Learner(net, {2: rule}), of_batches)[2]
    errors = inputs_of_segment(net, 2, of_batches).mean(dim=1)  # times the shift: a row of the error of each batch
    products = rule.shift.square().sum() * errors @ errors.T
    assert found.squared_bias == pytest.approx((products.sum() - products.trace()).item() / 12)
    assert found.squared_bias < found.bias**2


def test_batch_norm_leaves_no_mean_of_the_true_gradient_of_activations() -> None:
    """Theorem: a shift of all examples does not change the output of a linear map with batch norm, nor so the loss."""
    net, of_batches = network("mlp"), batches("mlp")
    found = gradient_bias_variance(Learner(net), of_batches, of="activations")
    assert max(found[k].true_variance for k in (1, 2)) < 1e-25
    assert found[3].true_variance > 1e-3  # below the output segment, which has no norm
    weights = gradient_bias_variance(Learner(net), of_batches)
    assert min(weights[k].true_variance for k in (1, 2, 3)) > 1e-3


@pytest.mark.parametrize("of", ["weights", "activations"])
def test_bias_and_variance_change_nothing_and_repeat(of: str) -> None:
    net = network("mlp")
    rules = {k: build_estimator(rule, net, k) for k, rule in ((1, "noise"), (2, "synthetic-gradient"))}
    learner = Learner(net, rules).train()
    before, state = copy.deepcopy(learner.state_dict()), torch.get_rng_state()
    found, again = (gradient_bias_variance(learner, batches("mlp"), of=of) for _ in range(2))
    assert found == again
    assert_same_bits(learner.state_dict(), before)
    assert all(parameter.grad is None for parameter in learner.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    learner.eval()
    assert gradient_bias_variance(learner, batches("mlp"), of=of) != found  # with running statistics, not the batch's


def test_the_bias_of_an_observed_rule_is_that_of_its_proposal() -> None:
    net = network("mlp")
    S = build_estimator("synthetic-gradient", net, 2)
    used, observed = (
        gradient_bias_variance(Learner(net, {2: each}), batches("mlp"), of="activations")[2]
        for each in (S, Observed(copy.deepcopy(S)))
    )
    assert asdict(observed) == pytest.approx(asdict(used))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], r"^The number of batches is 0; a variance over batches needs two or more\.$"),
        ([N], r"^The number of batches is 1; a variance over batches needs two or more\.$"),
        ([N, 4], r"^The batches have 4 to 7 examples; expected equally many, .* Leave out the incomplete batch\.$"),
    ],
)
def test_batches_that_cannot_be_compared_are_refused(sizes: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gradient_bias_variance(Learner(network("mlp")), [batches("mlp", n=1, size=size)[0] for size in sizes])


def test_an_unknown_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Unknown of 'rows'\. Choose one of: weights, activations\.$"):
        gradient_bias_variance(Learner(network("mlp")), batches("mlp"), of="rows")
