import pytest
import torch

from repsim.learning import ControlVariate, Signals, Site, compute_gradients, locks, parse_rules, site_of
from tests.repsim.small_chains import (
    CLASSES,
    DEPTH,
    N,
    assert_close,
    build_estimator,
    held_gradients,
    randn,
    small_examples,
    small_network,
)
from tests.repsim.small_digits import digits_accuracy

DRAWS = 2000
LABELS = torch.arange(N) % CLASSES


def module(**options: object) -> ControlVariate:
    rule = ControlVariate(Site((5,), CLASSES), **options).double()
    with torch.no_grad():
        for i, parameter in enumerate(rule.parameters()):
            parameter.copy_(0.3 * randn(*parameter.shape, seed=i))
    return rule


@pytest.mark.parametrize("per", ["example", "batch"])
@pytest.mark.parametrize("p", [0.2, 0.7])
def test_mean_and_variance_over_draws_are_the_target_and_the_formula(p: float, per: str) -> None:
    """Five standard errors of the mean, and 15 % of the variance."""
    rule = module(probability=p, per=per)
    signals = Signals(randn(N, 5, seed=8), LABELS, target=randn(N, 5, seed=9))
    drawn = torch.stack([rule.gradient(signals) for _ in range(DRAWS)])
    distance = (rule.traced(signals) - signals.target).detach()
    error = (drawn.mean(dim=0) - signals.target).abs()
    assert (error <= 5 * distance.abs() * ((1 - p) / p / DRAWS) ** 0.5).all()
    variance = drawn.var(dim=0).sum(dim=1)
    torch.testing.assert_close(variance, (1 - p) / p * distance.square().sum(dim=1), rtol=0.15, atol=0)
    mean = rule.loss(drawn[0], signals).detach() * (1 - p) / p
    torch.testing.assert_close(variance.mean(), mean, rtol=0.1, atol=0)


@pytest.mark.parametrize("per", ["example", "batch"])
def test_z_is_drawn_for_each_example_or_for_the_batch(per: str) -> None:
    rule = module(per=per)
    signals = Signals(randn(N, 5, seed=8), LABELS, target=randn(N, 5, seed=9))
    distance = signals.target - rule.traced(signals).detach()
    z = torch.stack([(rule.gradient(signals) - rule.traced(signals).detach()) / distance / 2 for _ in range(20)])
    torch.testing.assert_close(z, z.round(), rtol=0, atol=1e-10)
    assert (z.round() == z.round()[..., :1]).all()  # of an example, all units or none
    assert (z.round() == z.round()[:, :1]).all() == (per == "batch")
    assert 0 < z.mean() < 1


def test_the_expected_gradient_of_every_weight_is_that_of_backprop() -> None:
    """Over 1000 draws of the z of all boundaries, within five standard errors of the mean for every weight."""
    net, (X, y) = small_network("mlp"), small_examples("mlp")
    estimators = {k: build_estimator("control-variate", net, k) for k in net.boundaries}
    drawn: dict[str, list[torch.Tensor]] = {name: [] for name, _ in net.named_parameters()}
    for _ in range(1000):
        net.zero_grad(set_to_none=True)
        compute_gradients(net, estimators, X, y)
        for name, gradient in held_gradients(net).items():
            drawn[name].append(gradient)
    twin = small_network("mlp")
    compute_gradients(twin, {}, X, y)
    for name, expected in held_gradients(twin).items():
        several = torch.stack(drawn[name])
        error = several.std(dim=0) / len(several) ** 0.5
        assert ((several.mean(dim=0) - expected).abs() <= 5 * error + 1e-12).all(), name
    assert several.var(dim=0).sum() == pytest.approx(0.0, abs=1e-20)  # the output segment has the true gradient
    assert torch.stack(drawn["hidden.1.affine.weight"]).var(dim=0).sum() > 0


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_with_probability_1_it_is_backprop(kind: str) -> None:
    held = []
    for rule in ("control-variate:probability=1", "backprop"):
        net = small_network(kind)
        rules = parse_rules(rule, "all", DEPTH)
        estimators = {k: each.build(site_of(net, k, n_outputs=CLASSES)).double() for k, each in rules.items()}
        compute_gradients(net, estimators, *small_examples(kind))
        held.append(held_gradients(net))
    assert_close(*held, 1e-10)


def test_it_waits_as_backprop_does() -> None:
    assert locks(module()) == {"update", "backward"}


def test_a_probability_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^probability is 0\.0; expected a number above 0 and at most 1\.$"):
        module(probability=0.0)


def test_it_learns_digits() -> None:
    assert digits_accuracy("control-variate:probability=0.3") > 0.9
