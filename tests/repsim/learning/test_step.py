from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import (
    Backprop,
    Chain,
    Learner,
    Signals,
    Site,
    SyntheticGradient,
    TrainingConfig,
    build_optimizer,
    compute_gradients,
    mlp,
)
from tests.repsim.small_chains import assert_close, assert_same_bits, cut_at_all, seeded

N, FEATURES, WIDTH, CLASSES = 50, 12, 16, 5
SITE = Site((WIDTH,), CLASSES)


def batches(n: int, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    generator = seeded(99)
    return [
        (
            torch.randn(N, FEATURES, generator=generator).to(dtype),
            torch.randint(CLASSES, (N,), generator=generator),
        )
        for _ in range(n)
    ]


def network(depth: int, norm: str = "none", dtype: torch.dtype = torch.float64) -> Chain:
    return mlp(FEATURES, CLASSES, depth=depth, width=WIDTH, norm=norm, generator=seeded()).to(dtype)


class Amplified(SyntheticGradient):
    """Minimises a thousand times the usual loss."""

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        return 1000 * super().loss(gradient, signals)


class Idle(SyntheticGradient):
    """Never learns."""

    def loss(self, gradient: Tensor, signals: Signals) -> None:
        return None


class Mixture(SyntheticGradient):
    """λ t + (1 − λ) S: needs everything and learns, as no shipped estimator does."""

    def __init__(self, share: float) -> None:
        super().__init__(SITE, generator=seeded())
        self.needs, self.share = self.needs | {"target"}, share

    def gradient(self, signals: Signals) -> Tensor:
        return self.share * signals.target + (1 - self.share) * super().gradient(signals)

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        return super().loss(super().gradient(signals), signals)


class Spy(Backprop):
    """Hands on the target, in whichever way it is told to, and keeps what it was shown."""

    def __init__(self, needs: set[str]) -> None:
        super().__init__(SITE)
        self.needs, self.passes_target_unchanged = frozenset(needs), False
        self.seen: list[Signals] = []

    def gradient(self, signals: Signals) -> Tensor:
        self.seen.append(signals)
        return signals.target if "target" in self.needs else torch.zeros_like(signals.activation)

    def loss(self, gradient: Tensor, signals: Signals) -> None:
        self.seen.append(signals)


def random_sg(seed: int = 1, kind: type[SyntheticGradient] = SyntheticGradient, **settings: bool) -> SyntheticGradient:
    """Return a synthetic gradient whose every parameter is random, so that no term is silently zero."""
    module = kind(SITE, generator=seeded(), **settings).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.1, generator=seeded(seed))
    return module


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Return the gradients that a module's parameters hold, and clear them."""
    held = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    module.zero_grad(set_to_none=True)
    return held


# Backprop against a plain PyTorch loop


def plain_network(depth: int, norm: str, dtype: torch.dtype) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in in [FEATURES] + [WIDTH] * (depth - 1):
        layers.append(nn.Linear(fan_in, WIDTH, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm1d(WIDTH))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES)).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_backprop_equals_a_plain_loop_on_every_parameter_and_buffer(
    everywhere: bool, norm: str, dtype: torch.dtype, tolerance: float
) -> None:
    net, plain = network(5, norm, dtype), plain_network(5, norm, dtype)
    pairs = list(zip(plain.state_dict().values(), net.state_dict().values(), strict=True))
    for theirs, ours in pairs:
        theirs.copy_(ours)
    estimators = cut_at_all({k: Backprop(SITE) for k in net.boundaries}) if everywhere else {}
    optimizer = build_optimizer(Learner(net), TrainingConfig(learning_rate=1e-3))
    plain_optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)

    for X, y in batches(20, dtype):
        optimizer.zero_grad()
        outcome = compute_gradients(net, estimators, X, y)
        optimizer.step()

        plain_optimizer.zero_grad()
        logits = plain(X)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        plain_optimizer.step()

        torch.testing.assert_close(outcome.loss, loss.detach(), rtol=0, atol=5 * tolerance)
        torch.testing.assert_close(outcome.logits, logits.detach(), rtol=0, atol=10 * tolerance)

    for theirs, ours in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
    initial = network(5, norm, dtype).state_dict()
    assert all((net.state_dict()[name] - initial[name]).abs().max() > 1e-3 for name in initial)  # 20 real updates


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_cutting_at_every_boundary_changes_nothing_beside_a_synthetic_gradient(norm: str) -> None:
    ((X, y),) = batches(1)
    held = []
    for everywhere in (False, True):
        net, sg = network(5, norm), random_sg()
        backprop = {k: Backprop(SITE) for k in (1, 2, 4, 5)}
        compute_gradients(net, (cut_at_all(backprop) if everywhere else backprop) | {3: sg}, X, y)
        held.append(gradients(net) | gradients(sg))
    assert_close(*held)


@pytest.mark.parametrize("unchanged", [False, True])
def test_the_chain_is_cut_unless_the_target_passes_unchanged(unchanged: bool) -> None:
    ((X, y),) = batches(1)
    spy = Spy({"target"})
    spy.passes_target_unchanged = unchanged
    compute_gradients(network(3), {2: spy}, X, y)
    assert bool(spy.seen) is not unchanged


def test_backprop_where_there_is_no_estimator_equals_backprop_named() -> None:
    ((X, y),) = batches(1)
    held = []
    for others in ({}, {1: Backprop(SITE), 3: Backprop(SITE)}):
        net = network(3)
        compute_gradients(net, others | {2: random_sg()}, X, y)
        held.append(gradients(net))
    assert_same_bits(*held)


# The synthetic-gradient step against formulas


def test_synthetic_gradient_step_equals_formulas_written_by_hand() -> None:
    ((X, y),) = batches(1)
    net, sg = network(2), random_sg()
    outcome = compute_gradients(net, {1: sg}, X, y)
    W1, b1, W2, b2, W3, b3 = (parameter.detach() for parameter in net.parameters())
    A, c, V = (parameter.detach() for parameter in sg.parameters())

    a1 = X @ W1.T + b1
    h1 = a1.clamp(min=0)
    a2 = h1 @ W2.T + b2
    h2 = a2.clamp(min=0)
    logits = h2 @ W3.T + b3
    one_hot = F.one_hot(y, CLASSES).double()
    e = logits.softmax(dim=1) - one_hot  # N · ∂L/∂logits
    delta2 = (e @ W3) * (a2 > 0)
    t = delta2 @ W2  # N · ∂L/∂h1
    s = h1 @ A.T + c + one_hot @ V
    delta1 = s * (a1 > 0)
    expected = [delta1.T @ X, delta1.sum(0), delta2.T @ h1, delta2.sum(0), e.T @ h2, e.sum(0)]
    expected_sg = [2 * (s - t).T @ h1, 2 * (s - t).sum(0), 2 * one_hot.T @ (s - t)]

    for parameter, total in zip([*net.parameters(), *sg.parameters()], expected + expected_sg, strict=True):
        torch.testing.assert_close(parameter.grad, total / N, rtol=0, atol=1e-14)
    torch.testing.assert_close(outcome.logits, logits)
    assert outcome.loss.item() == pytest.approx(F.cross_entropy(logits, y).item())
    assert outcome.estimator_losses[1].item() == pytest.approx(float((s - t).square().sum() / N))


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_two_synthetic_gradients_equal_explicit_derivatives_of_each_span(norm: str) -> None:
    ((X, y),) = batches(1)
    net, first, second = network(4, norm), random_sg(1), random_sg(2, label_conditioned=False)
    outcome = compute_gradients(net, {3: second, 1: first}, X, y)
    ours = gradients(net) | gradients(first) | {f"second.{name}": g for name, g in gradients(second).items()}

    f1, f2, f3, f4, f5 = net.segments
    h1 = f1(X)
    h1_above = h1.detach().requires_grad_()
    h3 = f3(f2(h1_above))
    h3_above = h3.detach().requires_grad_()
    total = F.cross_entropy(f5(f4(h3_above)), y, reduction="sum")  # per example, so N times the mean
    s1 = F.linear(h1.detach(), first.layers[0].weight, first.layers[0].bias) + first.label_vectors(y)
    s3 = F.linear(h3.detach(), second.layers[0].weight, second.layers[0].bias)

    top = dict(nn.ModuleList([f4, f5]).named_parameters())
    middle = dict(nn.ModuleList([f2, f3]).named_parameters())
    t3, *d_top = torch.autograd.grad(total, [h3_above, *top.values()])
    t1, *d_middle = torch.autograd.grad(h3, [h1_above, *middle.values()], s3.detach())
    d_bottom = torch.autograd.grad(h1, list(f1.parameters()), s1.detach())
    d_first = torch.autograd.grad((s1 - t1).square().sum(), list(first.parameters()))
    d_second = torch.autograd.grad((s3 - t3).square().sum(), list(second.parameters()))

    expected = [d / N for d in (*d_bottom, *d_middle, *d_top, *d_first, *d_second)]
    assert_close(ours, dict(zip(ours, expected, strict=True)))
    assert outcome.estimator_losses[1].item() == pytest.approx((s1 - t1).square().sum().item() / N)
    assert outcome.estimator_losses[3].item() == pytest.approx((s3 - t3).square().sum().item() / N)
    assert list(outcome.estimator_losses) == [1, 3]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_an_estimator_that_needs_the_target_receives_it(share: float) -> None:
    ((X, y),) = batches(1)
    held = []
    mixture, backprop, sg = Mixture(share).double(), Backprop(SITE), SyntheticGradient(SITE, generator=seeded())
    mixture.load_state_dict(random_sg().state_dict())
    sg.double().load_state_dict(mixture.state_dict())
    for estimator in (mixture, backprop, sg):
        net = network(3, "batch")
        compute_gradients(net, {2: estimator}, X, y)
        held.append(gradients(net))
    mixed, exact, estimated = held  # below one boundary, gradients are linear in g
    assert_close(mixed, {name: share * exact[name] + (1 - share) * estimated[name] for name in mixed})
    assert_close(gradients(mixture), gradients(sg))


# What each side may see of the other


def test_the_loss_of_the_synthetic_gradient_has_no_gradient_in_the_network() -> None:
    ((X, y),) = batches(1)
    held = []
    for kind in (SyntheticGradient, Amplified):
        net, sg = network(3, "batch"), random_sg(kind=kind)
        compute_gradients(net, {2: sg}, X, y)
        held.append((gradients(net), gradients(sg)))
    (net_before, sg_before), (net_after, sg_after) = held
    assert_same_bits(net_before, net_after)
    assert_close({name: 1000 * g for name, g in sg_before.items()}, sg_after, tolerance=1e-9)


def test_the_loss_of_the_network_has_no_gradient_in_the_synthetic_gradient() -> None:
    ((X, y),) = batches(1)
    net, sg = network(3), random_sg(kind=Idle)
    outcome = compute_gradients(net, {2: sg}, X, y)
    assert all(parameter.grad is None for parameter in sg.parameters())
    assert all(parameter.grad.any() for parameter in net.parameters())
    assert outcome.estimator_losses == {}


def test_synthetic_gradients_send_nothing_into_one_anothers_parameters() -> None:
    ((X, y),) = batches(1)
    held = []
    for kind_below, kind_above in [(SyntheticGradient, Idle), (Idle, SyntheticGradient)]:
        net, below, above = network(4), random_sg(1, kind=kind_below), random_sg(2, kind=kind_above)
        compute_gradients(net, {1: below, 3: above}, X, y)
        held.append((below, above))
    for idle in (held[0][1], held[1][0]):
        assert all(parameter.grad is None for parameter in idle.parameters())
    for learning in (held[0][0], held[1][1]):
        assert all(parameter.grad.any() for parameter in learning.parameters())


def test_a_synthetic_gradient_does_not_depend_on_the_one_below() -> None:
    ((X, y),) = batches(1)
    held = []
    for seed in (1, 5):
        net, above = network(4), random_sg(2)
        compute_gradients(net, {1: random_sg(seed), 3: above}, X, y)
        held.append((gradients(above), gradients(net)))
    assert_same_bits(held[0][0], held[1][0])
    below, elsewhere = "hidden.1.affine.weight", "hidden.2.affine.weight"
    assert not torch.equal(held[0][1][below], held[1][1][below])
    assert torch.equal(held[0][1][elsewhere], held[1][1][elsewhere])


def test_estimators_are_shown_detached_signals_and_the_target_per_example_only_if_they_need_it() -> None:
    ((X, y),) = batches(1)
    net, needy, blind = network(3), Spy({"target"}), Spy({"activation"})
    compute_gradients(net, {1: blind, 2: needy}, X, y)
    h2 = net.segments[1](net.segments[0](X)).detach().requires_grad_()
    logits = net.segments[3](net.segments[2](h2))
    (target,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), h2)

    for_gradient, for_loss = needy.seen
    for signals in (for_gradient, for_loss):
        assert not signals.activation.requires_grad
        assert not signals.target.requires_grad
        torch.testing.assert_close(signals.activation, h2.detach())
        torch.testing.assert_close(signals.target, target)
        assert torch.equal(signals.labels, y)
    assert [signals.target is None for signals in blind.seen] == [True, False]


def test_synthetic_gradients_start_at_zero_so_segments_below_do_not_learn() -> None:
    ((X, y),) = batches(1)
    net = network(3, "batch")
    compute_gradients(net, {2: SyntheticGradient(SITE, generator=seeded()).double()}, X, y)
    for name, gradient in gradients(net).items():
        assert bool(gradient.any()) is not name.startswith(("hidden.1", "hidden.2")), name


# One forward pass; means over the batch


@pytest.mark.parametrize("everywhere", [False, True])
def test_batch_norm_statistics_are_updated_exactly_once(everywhere: bool) -> None:
    ((X, y),) = batches(1)
    net, calls = network(4, "batch"), Counter[str]()
    for name, segment in net.hidden.items():
        segment.register_forward_hook(lambda module, args, out, name=name: calls.update([name]))
    estimators = {1: Backprop(SITE), 2: random_sg(), 3: Mixture(0.5).double(), 4: Backprop(SITE)}
    compute_gradients(net, cut_at_all(estimators) if everywhere else estimators, X, y)

    h = X
    for k, segment in net.hidden.items():
        a = F.linear(h, segment.affine.weight)
        mean, var = a.mean(dim=0), a.var(dim=0, correction=0)
        assert calls[k] == segment.norm.num_batches_tracked == 1
        torch.testing.assert_close(segment.norm.running_mean, 0.1 * mean)
        torch.testing.assert_close(segment.norm.running_var, 0.9 + 0.1 * var * N / (N - 1))
        h = ((a - mean) / (var + 1e-5).sqrt()).relu()


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_gradients_do_not_change_when_the_batch_is_repeated(norm: str) -> None:
    ((X, y),) = batches(1)
    held = []
    for repeats in (1, 3):
        net, sg, mixture = network(4, norm), random_sg(), Mixture(0.5).double()
        compute_gradients(net, {1: sg, 3: mixture}, X.repeat(repeats, 1), y.repeat(repeats))
        held.append(gradients(net) | gradients(sg) | {f"mixture.{name}": g for name, g in gradients(mixture).items()})
    assert_close(*held)


def test_gradients_are_added_to_those_held() -> None:
    ((X, y),) = batches(1)
    net, sg = network(3), random_sg()
    compute_gradients(net, {2: sg}, X, y)
    once = {name: p.grad.clone() for name, p in [*net.named_parameters(), *sg.named_parameters()]}
    compute_gradients(net, {2: sg}, X, y)
    assert_same_bits({name: 2 * g for name, g in once.items()}, gradients(net) | gradients(sg))


def test_outcome_is_detached_and_the_input_gets_no_gradient() -> None:
    ((X, y),) = batches(1)
    X.requires_grad_()
    outcome = compute_gradients(network(3), {2: random_sg()}, X, y)
    assert X.grad is None
    assert not any(t.requires_grad for t in (outcome.loss, outcome.logits, outcome.estimator_losses[2]))


def test_a_chain_of_other_modules_is_differentiated_alike() -> None:
    """Convolutions and pooling: the boundary is a map, not a vector, and the rule does not mind."""
    images, y = torch.randn(8, 1, 6, 6, generator=seeded(), dtype=torch.float64), torch.arange(8) % CLASSES
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()).double()
        second = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten()).double()
        net = Chain([first, second], nn.Linear(16, CLASSES).double(), shapes=[(3, 6, 6), 16])
    compute_gradients(net, cut_at_all({1: Backprop(SITE), 2: Backprop(SITE)}), images, y)
    ours = gradients(net)
    F.cross_entropy(net(images), y).backward()
    assert_close(ours, gradients(net))


def test_labels_of_the_wrong_type_for_the_loss_are_refused() -> None:
    ((X, y),) = batches(1)
    with pytest.raises(ValueError, match=r"^The log loss needs classes"):
        compute_gradients(network(2), {}, X, y.double())
    with pytest.raises(ValueError, match=r"^y has shape \(50,\) and the output \(50, 5\)"):
        compute_gradients(network(2), {}, X, y.double(), loss="mse")
