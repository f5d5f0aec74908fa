from dataclasses import replace
from math import sqrt
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import (
    BPLambda,
    Chain,
    Learner,
    Signals,
    Site,
    SyntheticGradient,
    SyntheticGradientProp,
    compute_gradients,
    conv_net,
    mlp,
)
from tests.repsim.small_chains import assert_close, held_gradients, randn, seeded

N, WIDTH, CLASSES = 24, 6, 4
SITE = Site((WIDTH,), CLASSES)
MAPS = Site((3, 5, 4), CLASSES)  # of odd and even sides


def synthetic_gradient(
    kind: type[SyntheticGradient] = SyntheticGradient, site: Site = SITE, **options: Any
) -> SyntheticGradient:
    """Return one whose every parameter is random, so that no term is silently zero."""
    module = kind(site, generator=seeded(), **options).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=seeded(parameter.numel()))
    return module


@pytest.fixture
def signals() -> Signals:
    return Signals(randn(N, WIDTH, seed=1), torch.arange(N) % CLASSES, randn(N, WIDTH, seed=2))


@pytest.fixture
def map_signals() -> Signals:
    return Signals(randn(N, *MAPS.shape, seed=1), torch.arange(N) % CLASSES, randn(N, *MAPS.shape, seed=2))


def examples() -> tuple[Tensor, Tensor]:
    return randn(N, WIDTH, seed=3), torch.arange(N) % CLASSES


def network(depth: int = 3, **settings: Any) -> Chain:
    return mlp(WIDTH, CLASSES, depth=depth, width=WIDTH, generator=seeded(), **settings).double()


@pytest.mark.parametrize(("conditioned", "needs"), [(True, {"activation", "labels"}), (False, {"activation"})])
def test_synthetic_gradient_never_needs_the_target(conditioned: bool, needs: set[str], signals: Signals) -> None:
    module = synthetic_gradient(label_conditioned=conditioned)
    assert module.needs == needs
    blind = Signals(signals.activation, signals.labels)
    assert torch.equal(module.gradient(blind), module.gradient(signals))


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("hidden_layers", [0, 1, 3])
def test_synthetic_gradient_starts_at_exactly_zero(hidden_layers: int, conditioned: bool) -> None:
    module = SyntheticGradient(SITE, hidden_layers=hidden_layers, label_conditioned=conditioned, generator=seeded())
    gradient = module.gradient(Signals(100 * torch.randn(N, WIDTH, generator=seeded()), torch.arange(N) % CLASSES))
    assert gradient.shape == (N, WIDTH)
    assert not gradient.any()
    assert not module.layers[-1].weight.any()
    assert not module.layers[-1].bias.any()


def test_hidden_weights_have_variance_2_over_fan_in_and_the_generator_decides_them() -> None:
    one, same, other = (
        SyntheticGradient(Site((200,), 10), hidden_layers=2, hidden_width=300, generator=seeded(seed))
        for seed in (1, 1, 2)
    )
    assert [tuple(layer.weight.shape) for layer in one.layers] == [(300, 200), (300, 300), (200, 300)]
    for layer, twin, stranger in zip(one.layers[:-1], same.layers, other.layers, strict=False):
        assert layer.weight.std().item() == pytest.approx(sqrt(2 / layer.in_features), rel=0.02)
        assert not layer.bias.any()
        assert torch.equal(layer.weight, twin.weight)
        assert not torch.equal(layer.weight, stranger.weight)


def test_hidden_width_is_the_boundarys_by_default() -> None:
    module = SyntheticGradient(Site((5,), 3), hidden_layers=1, generator=seeded())
    assert [tuple(layer.weight.shape) for layer in module.layers] == [(5, 5), (5, 5)]


def test_linear_synthetic_gradient_draws_nothing() -> None:
    generator = seeded()
    before, everywhere = generator.get_state(), torch.get_rng_state()
    SyntheticGradient(Site((5,), 3), generator=generator)
    assert torch.equal(generator.get_state(), before)
    SyntheticGradient(Site((5,), 3), hidden_layers=1, generator=generator)
    assert torch.equal(torch.get_rng_state(), everywhere)


@pytest.mark.parametrize("hidden_layers", [0, 2])
def test_label_conditioning_is_a_first_layer_on_activation_and_one_hot_label(
    hidden_layers: int, signals: Signals
) -> None:
    module = synthetic_gradient(hidden_layers=hidden_layers, hidden_width=9)
    first, *rest = module.layers
    weight = torch.cat([first.weight, module.label_vectors.weight.T], dim=1)  # (fan_out, d + n_classes)
    one_hot = F.one_hot(signals.labels, CLASSES).double()
    expected = F.linear(torch.cat([signals.activation, one_hot], dim=1), weight, first.bias)
    for layer in rest:
        expected = layer(expected.relu())
    torch.testing.assert_close(module.gradient(signals), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("conditioned", [True, False])
def test_only_a_conditioned_synthetic_gradient_sees_labels(conditioned: bool, signals: Signals) -> None:
    module = synthetic_gradient(hidden_layers=1, label_conditioned=conditioned)
    other = Signals(signals.activation, signals.labels.flip(0))
    assert torch.equal(module.gradient(signals), module.gradient(other)) is not conditioned


def test_an_unconditioned_linear_synthetic_gradient_is_one_affine_map(signals: Signals) -> None:
    module = synthetic_gradient(label_conditioned=False)
    (affine,) = module.layers
    assert isinstance(affine, nn.Linear)
    assert torch.equal(module.gradient(signals), affine(signals.activation))


def test_loss_is_the_mean_over_examples_of_the_squared_distance(signals: Signals) -> None:
    module = synthetic_gradient()
    gradient = module.gradient(signals)
    distances = [float((g - t) @ (g - t)) for g, t in zip(gradient.detach(), signals.target, strict=True)]
    assert module.loss(gradient, signals).item() == pytest.approx(sum(distances) / N, rel=1e-12)


def test_loss_and_its_slope_do_not_depend_on_how_often_the_batch_is_repeated(signals: Signals) -> None:
    def slopes(signals: Signals) -> list[Tensor]:
        module = synthetic_gradient(hidden_layers=1)
        module.loss(module.gradient(signals), signals).backward()
        return [parameter.grad for parameter in module.parameters()]

    once = slopes(signals)
    thrice = slopes(Signals(*(torch.cat([part] * 3) for part in (signals.activation, signals.labels, signals.target))))
    torch.testing.assert_close(thrice, once, rtol=1e-12, atol=1e-12)


def test_gradient_and_loss_reach_only_the_modules_own_parameters(signals: Signals) -> None:
    signals.activation.requires_grad_()
    module = synthetic_gradient()
    module.loss(module.gradient(Signals(signals.activation.detach(), signals.labels)), signals).backward()
    assert signals.activation.grad is None
    assert all(parameter.grad.any() for parameter in module.parameters())


# Modules that fit the log loss

LINKS = {"sigmoid": torch.sigmoid, "softmax": lambda z: z.softmax(dim=-1)}


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("hidden_layers", [0, 1])
@pytest.mark.parametrize("link", LINKS)
def test_a_link_comes_before_the_last_layer_and_the_label_after_it(
    link: str, hidden_layers: int, conditioned: bool, signals: Signals
) -> None:
    module = synthetic_gradient(link=link, hidden_layers=hidden_layers, label_conditioned=conditioned)
    *hidden, A, D = module.layers
    assert (A.out_features, D.in_features) == (CLASSES, CLASSES)  # one unit per output of the network
    h = signals.activation
    for layer in hidden:
        h = layer(h).relu()
    expected = LINKS[link](h @ A.weight.T + A.bias) @ D.weight.T + D.bias
    if conditioned:
        expected = expected + module.label_vectors.weight[signals.labels]
    torch.testing.assert_close(module.gradient(signals), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("site", [SITE, MAPS], ids=["vectors", "maps"])
@pytest.mark.parametrize("link", LINKS)
def test_a_module_with_a_link_starts_at_zero_and_learns(link: str, site: Site) -> None:
    module = SyntheticGradient(site, link=link, generator=seeded()).double()
    signals = Signals(randn(N, *site.shape), torch.arange(N) % CLASSES, randn(N, *site.shape, seed=2))
    assert not module.gradient(signals).any()
    assert module.layers[0].weight.any()
    for _ in range(2):
        module.loss(module.gradient(signals), signals).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 1e-2 * parameter.grad
    assert all(parameter.grad.any() for parameter in module.parameters())  # A learns once D is not zero


def test_at_maps_a_softmax_is_over_channels(map_signals: Signals) -> None:
    module = synthetic_gradient(site=MAPS, link="softmax", label_conditioned=False)
    A, D = module.layers
    expected = D(A(map_signals.activation).softmax(dim=1))
    torch.testing.assert_close(module.gradient(map_signals), expected, rtol=0, atol=1e-12)


def test_an_exact_softmax_module_below_the_output_is_backprop_on_log_loss() -> None:
    X, y = examples()
    net, twin, S = network(), network(), synthetic_gradient(link="softmax")
    W, b = net.output.weight.detach(), net.output.bias.detach()
    with torch.no_grad():
        for parameter, value in zip(S.layers.parameters(), (W, b, W.T, torch.zeros(WIDTH)), strict=True):
            parameter.copy_(value)
        S.label_vectors.weight.copy_(-W)
    outcome = compute_gradients(net, {3: S}, X, y)
    compute_gradients(twin, {}, X, y)
    assert_close(held_gradients(net), held_gradients(twin))
    assert outcome.estimator_losses[3] < 1e-24


def test_an_exact_sigmoid_module_is_backprop_on_log_loss_of_two_classes() -> None:
    """softmax(z)₁ = σ(z₁ − z₀), so that one sigmoid per class expresses the gradient of the log loss."""
    X, y = randn(N, 2, seed=3), torch.arange(N) % 2
    net = mlp(2, 2, depth=1, width=2, norm="none", activation="linear", generator=seeded()).double()
    S = SyntheticGradient(Site((2,), 2), link="sigmoid", generator=seeded()).double()
    W, b, sign = net.output.weight.detach(), net.output.bias.detach(), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    with torch.no_grad():
        values = (sign.double() @ W, sign.double() @ b, W.T, torch.zeros(2))
        for parameter, value in zip(S.layers.parameters(), values, strict=True):
            parameter.copy_(value)
        S.label_vectors.weight.copy_(-W)
    assert compute_gradients(net, {1: S}, X, y).estimator_losses[1] < 1e-24


def random_readout(n_classes: int) -> tuple[Tensor, Tensor]:
    return randn(n_classes, WIDTH, seed=4), randn(n_classes, seed=5)


def log_loss_gradients(h: Tensor, y: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Return N · ∂L/∂h of the log loss behind a linear readout, by autograd."""
    h = h.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(h @ W.T + b, y, reduction="sum"), h)[0]


def fit_by_least_squares(S: SyntheticGradient, signals: Signals, target: Tensor) -> None:
    """Set V and the last layer of S, D and c, to their least-squares solution; the layers before it stay."""
    (*before, last), h, n = S.layers, signals.activation, S.site.n_outputs
    for layer in before:
        h = LINKS[S.options.link](layer(h))
    Z = torch.cat([h, F.one_hot(signals.labels, n), torch.ones(len(h), 1)], dim=1)
    found = torch.linalg.lstsq(Z, target, driver="gelsd").solution
    last.weight.copy_(found[: -n - 1].T)
    S.label_vectors.weight.copy_(found[-n - 1 : -1])
    last.bias.copy_(found[-1])


@pytest.mark.parametrize(("link", "n_classes"), [("softmax", CLASSES), ("sigmoid", 2)])
@torch.no_grad()
def test_least_squares_in_D_V_and_c_finds_the_exact_gradient_of_the_log_loss(link: str, n_classes: int) -> None:
    """With A that of the readout; the least error of a linear module is large."""
    W, b = random_readout(n_classes)
    S, linear = (synthetic_gradient(site=Site((WIDTH,), n_classes), link=each) for each in (link, "linear"))
    of_A = (W, b) if link == "softmax" else (W - W.flip(0), b - b.flip(0))  # a sigmoid of the difference of logits
    for parameter, value in zip(S.layers[0].parameters(), of_A, strict=True):
        parameter.copy_(value)
    h, y = randn(80, WIDTH, seed=3), torch.arange(80) % n_classes
    with torch.enable_grad():
        target = log_loss_gradients(h, y, W, b)
    errors = []
    for module in (S, linear):
        fit_by_least_squares(module, Signals(h[:50], y[:50]), target[:50])
        errors.append((module.gradient(Signals(h, y)) - target).abs().max().item())  # also at 30 other examples
    assert errors[0] < 1e-10
    assert errors[1] > 0.1


@pytest.mark.parametrize("link", LINKS)
def test_modules_with_a_link_learn_together_as_they_do_alone(link: str) -> None:
    X, y = examples()
    outcomes = []
    for together in (True, False):
        net = network(norm="none")
        modules = {k: synthetic_gradient(site=Site((WIDTH,), CLASSES, k), link=link) for k in (1, 2)}
        learner = Learner(net, modules, together=together)
        learner.compute_gradients(X, y)
        outcomes.append(held_gradients(learner.network))
    assert_close(*outcomes)


def test_a_link_that_cannot_be_used_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Unknown link 'relu'\. Choose one of: linear, sigmoid, softmax\."):
        SyntheticGradient(SITE, link="relu")
    with pytest.raises(ValueError, match="link is softmax and the network has one output"):
        SyntheticGradient(Site((WIDTH,), 1), link="softmax", generator=seeded())


# At boundaries of maps


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize(("hidden_layers", "hidden_width", "kernel_size"), [(0, None, 3), (1, 7, 5), (2, None, 1)])
def test_at_maps_synthetic_gradients_are_convolutions_that_keep_the_size(
    hidden_layers: int, hidden_width: int | None, kernel_size: int, conditioned: bool, map_signals: Signals
) -> None:
    options = {"hidden_layers": hidden_layers, "hidden_width": hidden_width, "kernel_size": kernel_size}
    module = synthetic_gradient(site=MAPS, label_conditioned=conditioned, **options)
    first, *rest = module.layers
    h = F.conv2d(map_signals.activation, first.weight, first.bias, padding=kernel_size // 2)
    if conditioned:
        h = h + module.label_vectors.weight[map_signals.labels].view(h.shape)  # a map per class
    for layer in rest:
        h = F.conv2d(h.relu(), layer.weight, layer.bias, padding=kernel_size // 2)
    assert h.shape == map_signals.activation.shape
    torch.testing.assert_close(module.gradient(map_signals), h, rtol=0, atol=1e-11)


def test_at_maps_the_loss_sums_over_the_map(map_signals: Signals) -> None:
    module = synthetic_gradient(site=MAPS)
    gradient = module.gradient(map_signals)
    expected = (gradient - map_signals.target).square().sum().item() / N
    assert module.loss(gradient, map_signals).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("hidden_layers", [0, 2])
def test_at_maps_synthetic_gradients_start_at_exactly_zero(hidden_layers: int, map_signals: Signals) -> None:
    module = SyntheticGradient(MAPS, hidden_layers=hidden_layers, generator=seeded()).double()
    assert not module.gradient(map_signals).any()
    for layer in module.layers[:-1]:
        assert layer.weight.std().item() == pytest.approx(sqrt(2 / (3 * 9)), rel=0.3)


# Exact synthetic gradients


def give_exact_parameters(module: SyntheticGradient, A: Tensor, c: Tensor) -> None:
    """Set S(h, y) = 2 (h Aᵀ + c − y) A, the gradient of ‖h Aᵀ + c − y‖²."""
    with torch.no_grad():
        module.layers[0].weight.copy_(2 * A.T @ A)
        module.layers[0].bias.copy_(2 * c @ A)
        module.label_vectors.weight.copy_(-2 * A)


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("settings", [{"norm": "batch"}, {"norm": "none", "activation": "tanh"}])
def test_exact_linear_synthetic_gradient_below_the_output_is_backprop_on_squared_error(
    settings: dict[str, str], regression: bool
) -> None:
    X, y = examples()
    y = randn(N, CLASSES, seed=8) if regression else y
    net, twin, S = network(**settings), network(**settings), synthetic_gradient()
    give_exact_parameters(S, net.output.weight.detach(), net.output.bias.detach())
    outcome = compute_gradients(net, {3: S}, X, y, loss="mse")
    compute_gradients(twin, {}, X, y, loss="mse")
    assert_close(held_gradients(net), held_gradients(twin))
    assert outcome.estimator_losses[3] < 1e-24
    assert all(parameter.grad.abs().max() < 1e-11 for parameter in S.parameters())  # and it stays exact


@pytest.mark.parametrize("regression", [False, True])
def test_exact_synthetic_gradients_at_every_boundary_of_a_deep_linear_chain_are_backprop(regression: bool) -> None:
    X, y = examples()
    y = randn(N, CLASSES, seed=8) if regression else y
    net, twin = (network(5, norm="none", activation="linear") for _ in range(2))
    estimators = {}
    for k in net.boundaries:
        zero, basis = torch.zeros(1, WIDTH).double(), torch.eye(WIDTH).double()
        above = nn.Sequential(*net.segments[k:])
        with torch.no_grad():
            c = above(zero)[0]
            A = (above(basis) - c).T
        estimators[k] = synthetic_gradient()
        give_exact_parameters(estimators[k], A, c)
    outcome = compute_gradients(net, estimators, X, y, loss="mse")
    compute_gradients(twin, {}, X, y, loss="mse")
    assert_close(held_gradients(net), held_gradients(twin), tolerance=1e-11)
    assert all(loss < 1e-20 for loss in outcome.estimator_losses.values())


def test_a_linear_synthetic_gradient_learns_the_exact_one_on_squared_error() -> None:
    """With the network held still, S is linear regression on what is linear in [h, y]."""
    X, y = randn(200, WIDTH, seed=3), torch.arange(200) % CLASSES
    net, S = network(1, norm="none", activation="tanh"), SyntheticGradient(SITE, generator=seeded()).double()
    optimizer = torch.optim.LBFGS(S.parameters(), max_iter=300, tolerance_grad=1e-12, tolerance_change=0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        return compute_gradients(net, {1: S}, X, y, loss="mse").estimator_losses[1]

    optimizer.step(closure)
    A = net.output.weight.detach()
    assert closure() < 1e-10
    torch.testing.assert_close(S.layers[0].weight.detach(), 2 * A.T @ A, rtol=0, atol=1e-4)


# BP(λ)


@pytest.mark.parametrize("make", [network, lambda: conv_net((1, 6, 1), CLASSES, depth=3, width=3, generator=seeded())])
@pytest.mark.parametrize("lam", [0.0, 0.25, 1.0])
def test_bp_lambda_is_the_mixture_of_backprop_and_synthetic_gradient(lam: float, make: Any) -> None:
    X, y = examples()
    nets = [make().double() for _ in range(3)]
    site = Site(nets[0].shapes[1], CLASSES)
    mixed, S = synthetic_gradient(BPLambda, site, lam=lam), synthetic_gradient(site=site)
    for net, estimators in zip(nets, ({2: mixed}, {}, {2: S}), strict=True):
        compute_gradients(net, estimators, X, y)
    ours, exact, estimated = (held_gradients(net) for net in nets)  # below one boundary, gradients are linear in g
    assert_close(ours, {name: lam * exact[name] + (1 - lam) * estimated[name] for name in ours}, tolerance=1e-11)
    assert_close(held_gradients(mixed), held_gradients(S), tolerance=1e-11)  # S learns the same at every λ


def test_bp_of_1_everywhere_is_backprop_and_bp_of_0_synthetic_gradients() -> None:
    X, y = examples()
    for lam, others in ((1.0, {}), (0.0, {k: synthetic_gradient() for k in (1, 2, 3)})):
        net, twin = network(), network()
        compute_gradients(net, {k: synthetic_gradient(BPLambda, lam=lam) for k in (1, 2, 3)}, X, y)
        compute_gradients(twin, others, X, y)
        assert_close(held_gradients(net), held_gradients(twin))


def test_bp_lambda_bootstraps_from_what_was_chosen_above() -> None:
    """t_k is the pull-back of the mixture above, not of the true gradient."""
    X, y = examples()
    net = network(norm="none")
    upper, lower = synthetic_gradient(BPLambda, lam=0.3), synthetic_gradient(BPLambda, lam=0.6, hidden_layers=1)
    g = compute_gradients(net, {1: lower, 2: upper}, X, y, watch=True).gradients
    h1 = net.hidden["1"](X).detach().requires_grad_()
    (t1,) = torch.autograd.grad(net.hidden["2"](h1), h1, g[2])
    S1 = SyntheticGradient.gradient(lower, Signals(h1.detach(), y))
    torch.testing.assert_close(g[1], 0.6 * t1 + 0.4 * S1, rtol=0, atol=1e-12)


# SG + prop


@pytest.mark.parametrize("hidden_layers", [0, 1])
@pytest.mark.parametrize("site", [SITE, MAPS], ids=["vectors", "maps"])
def test_prop_adds_the_slope_of_the_regression_loss(
    site: Site, hidden_layers: int, signals: Signals, map_signals: Signals
) -> None:
    """Oracle: central differences of ⟨S(h), h'⟩ + ‖S(h') − t‖² in h', with S(h) held."""
    signals = signals if site is SITE else map_signals
    module = synthetic_gradient(SyntheticGradientProp, site, hidden_layers=hidden_layers)
    plain = synthetic_gradient(site=site, hidden_layers=hidden_layers)
    held = plain.gradient(signals).detach()

    def objective(h: Tensor) -> float:
        estimate = plain.gradient(replace(signals, activation=h))
        return ((held * h).sum() + (estimate - signals.target).square().sum()).item()

    h, direction, step = signals.activation, randn(*signals.activation.shape, seed=7), 1e-6
    difference = (objective(h + step * direction) - objective(h - step * direction)) / (2 * step)
    slope = float((module.gradient(signals) * direction).sum())
    assert slope == pytest.approx(difference, rel=1e-6)


def test_prop_of_a_linear_module_follows_its_formula(signals: Signals) -> None:
    module = synthetic_gradient(SyntheticGradientProp)
    S = synthetic_gradient().gradient(signals).detach()
    expected = S + 2 * (S - signals.target) @ module.layers[0].weight.detach()
    torch.testing.assert_close(module.gradient(signals), expected, rtol=0, atol=1e-12)


def test_prop_returns_no_graph_and_its_module_learns_as_a_synthetic_gradient_does() -> None:
    X, y = examples()
    learned = []
    for kind in (SyntheticGradient, SyntheticGradientProp):
        S = synthetic_gradient(kind, hidden_layers=1)
        outcome = compute_gradients(network(), {2: S}, X, y)
        learned.append(held_gradients(S) | {"loss": outcome.estimator_losses[2]})
    assert_close(*learned)
    module = synthetic_gradient(SyntheticGradientProp)
    g = module.gradient(Signals(X, y, target=X))
    assert not g.requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())


def test_prop_of_an_exact_module_is_backprop() -> None:
    """Where S(h) = t, the slope of the regression loss is zero."""
    X, y = examples()
    net, twin, S = network(), network(), synthetic_gradient(SyntheticGradientProp)
    give_exact_parameters(S, net.output.weight.detach(), net.output.bias.detach())
    compute_gradients(net, {3: S}, X, y, loss="mse")
    compute_gradients(twin, {}, X, y, loss="mse")
    assert_close(held_gradients(net), held_gradients(twin), tolerance=1e-11)


def test_looking_at_one_example_leaves_the_bias_as_it_is() -> None:
    """One row of biases is as large as one example: the product must not be written into the parameter."""
    S = SyntheticGradient(SITE, label_conditioned=False, generator=seeded()).double()
    with torch.no_grad():
        S.layers[0].weight.fill_(1.0)
    h = torch.ones(1, WIDTH, dtype=torch.float64)
    assert torch.equal(S.gradient(Signals(h)), torch.full((1, WIDTH), float(WIDTH), dtype=torch.float64))
    assert not S.layers[0].bias.any()
