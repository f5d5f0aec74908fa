from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import ESTIMATORS, Backprop, Estimator, Signals, SyntheticGradient, locks

N, WIDTH, CLASSES = 24, 6, 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def synthetic_gradient(**settings: int | bool | None) -> SyntheticGradient:
    """Return one whose every parameter is random, so that no term is silently zero."""
    module = SyntheticGradient(WIDTH, CLASSES, generator=seeded(), **settings).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=seeded(parameter.numel()))
    return module


@pytest.fixture
def signals() -> Signals:
    activation, target = torch.randn(2, N, WIDTH, generator=seeded(1), dtype=torch.float64)
    return Signals(activation, torch.arange(N) % CLASSES, target)


def test_estimators_are_found_by_name() -> None:
    assert list(ESTIMATORS.items()) == [("backprop", Backprop), ("synthetic-gradient", SyntheticGradient)]


def test_estimator_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Estimator()


def test_backprop_returns_the_target_and_learns_nothing(signals: Signals) -> None:
    rule = Backprop()
    assert rule.gradient(signals) is signals.target
    assert rule.loss(signals.target, signals) is None
    assert not rule.state_dict()


def test_locks_follow_from_what_an_estimator_needs() -> None:
    assert locks(Backprop()) == {"update", "backward"}
    assert locks(SyntheticGradient(3, 2, generator=seeded())) == set()
    assert locks(SyntheticGradient(3, 2, label_conditioned=False, generator=seeded())) == set()


@pytest.mark.parametrize(("conditioned", "needs"), [(True, {"activation", "labels"}), (False, {"activation"})])
def test_synthetic_gradient_never_needs_the_target(conditioned: bool, needs: set[str], signals: Signals) -> None:
    module = synthetic_gradient(label_conditioned=conditioned)
    assert module.needs == needs
    blind = Signals(signals.activation, signals.labels)
    assert torch.equal(module.gradient(blind), module.gradient(signals))


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("hidden_layers", [0, 1, 3])
def test_synthetic_gradient_starts_at_exactly_zero(hidden_layers: int, conditioned: bool) -> None:
    module = SyntheticGradient(
        WIDTH, CLASSES, hidden_layers=hidden_layers, label_conditioned=conditioned, generator=seeded()
    )
    gradient = module.gradient(Signals(100 * torch.randn(N, WIDTH, generator=seeded()), torch.arange(N) % CLASSES))
    assert gradient.shape == (N, WIDTH)
    assert not gradient.any()
    assert not module.layers[-1].weight.any()
    assert not module.layers[-1].bias.any()


def test_hidden_weights_have_variance_2_over_fan_in_and_the_generator_decides_them() -> None:
    one, same, other = (
        SyntheticGradient(200, 10, hidden_layers=2, hidden_width=300, generator=seeded(seed)) for seed in (1, 1, 2)
    )
    assert [tuple(layer.weight.shape) for layer in one.layers] == [(300, 200), (300, 300), (200, 300)]
    for layer, twin, stranger in zip(one.layers[:-1], same.layers, other.layers, strict=False):
        assert layer.weight.std().item() == pytest.approx(sqrt(2 / layer.in_features), rel=0.02)
        assert not layer.bias.any()
        assert torch.equal(layer.weight, twin.weight)
        assert not torch.equal(layer.weight, stranger.weight)


def test_hidden_width_is_the_boundarys_by_default() -> None:
    module = SyntheticGradient(5, 3, hidden_layers=1, generator=seeded())
    assert [tuple(layer.weight.shape) for layer in module.layers] == [(5, 5), (5, 5)]


def test_linear_synthetic_gradient_draws_nothing() -> None:
    generator = seeded()
    before, everywhere = generator.get_state(), torch.get_rng_state()
    SyntheticGradient(5, 3, generator=generator)
    assert torch.equal(generator.get_state(), before)
    SyntheticGradient(5, 3, hidden_layers=1, generator=generator)
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
