import copy
from math import prod

import pytest
import torch
import torch.nn.functional as F

from repsim.learning import (
    NETWORKS,
    Backprop,
    Learner,
    Site,
    SyntheticGradient,
    TrainingConfig,
    build_learner,
    build_optimizer,
    mlp,
    site_of,
    unstack,
)
from tests.repsim.small_chains import RULES_OF_CHAINS, seeded

N_FEATURES, N_CLASSES = 7, 3
SG = "synthetic-gradient"
SITE = Site((5,), N_CLASSES)
RULES = [
    *RULES_OF_CHAINS,
    "sign-symmetric:magnitude=resampled",
    "synthetic-gradient:hidden_layers=1",
    "synthetic-gradient:label_conditioned=false",
    "decoupled-greedy:hidden_layers=1",
    "bp-lambda:lam=0",
]
STACKED = {
    "truncated",
    "noise",
    "disturbed-gradient",
    "direct-feedback-alignment",
    "adaptive-skipped-backprop",
    "direct-random-target",
    "synthetic-gradient",
    "decoupled-greedy",
    "bp-lambda:lam=0",
    "predictive-coding",
}


def config(**settings: object) -> TrainingConfig:
    return TrainingConfig.from_dict({"depth": 4, "width": 5, "rule": SG} | settings)


@pytest.mark.parametrize("boundary", [0, 4, -1])
def test_learner_refuses_a_boundary_that_its_network_does_not_have(boundary: int) -> None:
    network = mlp(N_FEATURES, N_CLASSES, depth=3, width=5, generator=seeded())
    with pytest.raises(ValueError, match=rf"There is no boundary {boundary}; this network has boundaries 1 to 3\."):
        Learner(network, {2: Backprop(SITE), boundary: Backprop(SITE)})


def test_learner_without_estimators_is_its_network() -> None:
    network = mlp(N_FEATURES, N_CLASSES, depth=3, width=5, generator=seeded()).eval()
    X = torch.randn(6, N_FEATURES, generator=seeded(1))
    assert torch.equal(Learner(network)(X), network(X))
    assert list(Learner(network).state_dict()) == [f"network.{key}" for key in network.state_dict()]


def test_state_dict_holds_network_and_estimators_and_restores_both() -> None:
    learner, other = (
        build_learner(config(seed=seed, rule=f"{SG}:hidden_layers=1"), N_FEATURES, N_CLASSES) for seed in (0, 1)
    )
    assert {key.split(".")[0] for key in learner.state_dict()} == {"network", "estimators"}
    assert "estimators.2.label_vectors.weight" in learner.state_dict()
    other.load_state_dict(learner.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(learner.parameters(), other.parameters(), strict=True))


def test_a_copied_learner_steps_with_its_own_estimators() -> None:
    learner = build_learner(config(), N_FEATURES, N_CLASSES)
    twin = copy.deepcopy(learner)
    twin.compute_gradients(torch.randn(8, N_FEATURES, generator=seeded()), torch.arange(8) % N_CLASSES)
    assert all(parameter.grad is not None for parameter in twin.parameters())
    assert all(parameter.grad is None for parameter in learner.parameters())


def test_learner_uses_the_estimator_at_its_boundary() -> None:
    learner = build_learner(config(boundaries="1,3"), N_FEATURES, N_CLASSES)
    outcome = learner.compute_gradients(torch.randn(8, N_FEATURES, generator=seeded()), torch.arange(8) % N_CLASSES)
    assert list(outcome.estimator_losses) == [1, 3]
    assert not any(parameter.grad.any() for parameter in learner.network.hidden["1"].parameters())  # S starts at zero
    assert learner.network.hidden["4"].affine.weight.grad.any()


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("boundaries", "chosen"), [("middle", "2"), ("inner", "123"), ("all", "1234"), ("4,1", "14")])
def test_build_learner_puts_an_estimator_at_each_chosen_boundary(boundaries: str, chosen: str, together: bool) -> None:
    learner = build_learner(config(boundaries=boundaries), N_FEATURES, N_CLASSES, together=together)
    assert list(learner.estimators) == (["_".join(chosen)] if together else list(chosen))
    assert [k for ks in learner.placed() for k in ks] == [int(k) for k in chosen]
    assert all(isinstance(module, SyntheticGradient) for module in learner.estimators.values())


def test_only_estimators_that_started_together_are_stacked() -> None:
    learner = build_learner(config(boundaries="all"), N_FEATURES, N_CLASSES, started={2: 10, 4: 10})
    assert list(learner.estimators) == ["1_3", "2_4"]
    whole = build_learner(config(boundaries="all"), N_FEATURES, N_CLASSES)
    for name, value in whole.estimators["1_2_3_4"].state_dict().items():  # initial values are those of the boundary
        assert torch.equal(learner.estimators["1_3"].state_dict()[name], value[[0, 2]])


def test_build_learner_follows_the_settings() -> None:
    settings = config(depth=6, width=9, norm="layer", activation="tanh", rule=f"{SG}:hidden_layers=2,hidden_width=11")
    learner = build_learner(settings, N_FEATURES, N_CLASSES)
    shapes = {name: tuple(parameter.shape) for name, parameter in learner.named_parameters()}
    assert len(learner.network.segments) == 7
    assert shapes["network.hidden.1.affine.weight"] == (9, N_FEATURES)
    assert shapes["network.output.weight"] == (N_CLASSES, 9)
    assert [shapes[f"estimators.3.layers.{i}.weight"] for i in range(3)] == [(11, 9), (11, 11), (9, 11)]
    assert shapes["estimators.3.label_vectors.weight"] == (N_CLASSES, 11)
    assert isinstance(learner.network.hidden["2"].norm, torch.nn.LayerNorm)
    assert isinstance(learner.network.hidden["2"].activation, torch.nn.Tanh)
    blind = build_learner(config(rule=f"{SG}:label_conditioned=false"), N_FEATURES, N_CLASSES)
    assert not any("label" in name for name in blind.state_dict())


def test_networks_of_one_seed_start_equal_whatever_the_rule() -> None:
    variants = [
        config(),
        config(rule="backprop"),
        config(boundaries="all", rule=f"{SG}:hidden_layers=2,label_conditioned=false"),
    ]
    reference, *others = (build_learner(settings, N_FEATURES, N_CLASSES).network.state_dict() for settings in variants)
    for other in others:
        assert all(torch.equal(reference[key], other[key]) for key in reference)
    stranger = build_learner(config(seed=1), N_FEATURES, N_CLASSES).network
    assert not torch.equal(reference["output.weight"], stranger.output.weight)


def test_estimators_at_different_boundaries_start_differently_and_do_not_depend_on_one_another() -> None:
    several, alone = (
        build_learner(
            config(boundaries=where, rule=f"{SG}:hidden_layers=1"), N_FEATURES, N_CLASSES, together=False
        ).estimators
        for where in ("1,3", "3")
    )
    weights = {k: module.layers[0].weight for k, module in several.items()}
    assert not torch.equal(weights["1"], weights["3"])
    assert torch.equal(weights["3"], alone["3"].layers[0].weight)


def test_build_learner_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    build_learner(config(rule=f"{SG}:hidden_layers=1"), N_FEATURES, N_CLASSES)
    assert torch.equal(torch.get_rng_state(), before)


def test_optimizer_moves_every_parameter_once_at_the_rate_of_its_group() -> None:
    settings = config(learning_rate=0.01, estimator_learning_rate=0.2)
    learner = build_learner(settings, N_FEATURES, N_CLASSES)
    network, estimators = build_optimizer(learner, settings).param_groups
    assert (network["lr"], estimators["lr"]) == (0.01, 0.2)
    assert [id(p) for p in network["params"]] == [id(p) for p in learner.network.parameters()]
    assert [id(p) for p in estimators["params"]] == [id(p) for p in learner.estimators.parameters()]


def test_optimizer_of_backprop_has_one_group() -> None:
    settings = config(rule="backprop")
    assert len(build_optimizer(build_learner(settings, N_FEATURES, N_CLASSES), settings).param_groups) == 1


def test_first_adam_update_moves_each_weight_by_its_groups_rate() -> None:
    """Golden: Adam's first update is rate · g / (|g| + ε), that is ± the rate wherever g ≫ ε = 1e-8."""
    settings = config(activation="tanh", norm="none", learning_rate=0.01, estimator_learning_rate=0.2)
    learner = build_learner(settings, N_FEATURES, N_CLASSES).double()
    optimizer = build_optimizer(learner, settings)
    before = copy.deepcopy(learner.state_dict())
    X, y = torch.randn(8, N_FEATURES, generator=seeded(), dtype=torch.float64), torch.arange(8) % N_CLASSES
    outcome = learner.compute_gradients(X, y)
    assert outcome.loss.item() == pytest.approx(F.cross_entropy(learner(X), y).item())
    optimizer.step()
    for name, rate in (("network.output.weight", 0.01), ("estimators.2.layers.0.bias", 0.2)):
        moved = (learner.state_dict()[name] - before[name]).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, rate), rtol=1e-4, atol=0)


# Alike estimators as one


def randomise(estimators: dict[int, torch.nn.Module]) -> None:
    """Make what starts at zero random, and alike whether or not estimators are stacked."""
    with torch.no_grad():
        for k, estimator in estimators.items():
            for i, parameter in enumerate(estimator.parameters()):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=seeded(10 * k + i), dtype=torch.float64))


def by_boundary(learner: Learner, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return values named by the parameters or buffers of a learner's estimators, one boundary at a time."""
    found = {}
    for ks in learner.placed():
        name = "_".join(map(str, ks))
        mine = {key.removeprefix(f"{name}."): v for key, v in values.items() if key.startswith(f"{name}.")}
        for i, k in enumerate(ks):
            found |= {f"{k}.{key}": v for key, v in (unstack(mine, i) if len(ks) > 1 else mine).items()}
    return found


@pytest.mark.parametrize(("kind", "loss"), [("mlp", "log_loss"), ("mlp", "mse"), ("residual", "log_loss")])
@pytest.mark.parametrize("rule", RULES)
def test_estimators_evaluated_together_equal_separate_ones(rule: str, loss: str, kind: str) -> None:
    """Three updates: gradients, losses, state, and what is watched."""
    shape = (N_FEATURES,) if kind == "mlp" else (1, 8, 8)
    settings = config(rule=rule, boundaries="all", network=kind, loss=loss)
    apart = build_learner(settings, shape, N_CLASSES, together=False).double()
    randomise({int(k): estimator for k, estimator in apart.estimators.items()})
    together = Learner(
        copy.deepcopy(apart.network), {int(k): copy.deepcopy(e) for k, e in apart.estimators.items()}, loss=loss
    )
    X = torch.randn(9, 7 if kind == "mlp" else 64, generator=seeded(), dtype=torch.float64)
    y = torch.arange(9) % N_CLASSES
    optimizers = [torch.optim.SGD(learner.parameters(), lr=0.01) for learner in (apart, together)]
    for _ in range(3):
        outcomes = []
        for learner in (apart, together):
            learner.zero_grad()
            outcomes.append(learner.compute_gradients(X, y, watch=True))
        one, other = outcomes
        for k in apart.network.boundaries:
            torch.testing.assert_close(one.gradients[k], other.gradients[k], rtol=0, atol=1e-11)
        assert list(one.estimator_losses) == list(other.estimator_losses)
        for k, value in one.estimator_losses.items():
            torch.testing.assert_close(value, other.estimator_losses[k], rtol=1e-11, atol=1e-11)
        for ours, theirs in zip(apart.network.parameters(), together.network.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-11)
        grads = [
            by_boundary(learner, {name: p.grad for name, p in learner.estimators.named_parameters()})
            for learner in (apart, together)
        ]
        torch.testing.assert_close(*grads, rtol=0, atol=1e-11)
        for optimizer in optimizers:
            optimizer.step()
    states = [by_boundary(learner, learner.estimators.state_dict()) for learner in (apart, together)]
    torch.testing.assert_close(*states, rtol=0, atol=1e-11)


@pytest.mark.parametrize("rule", RULES)
def test_estimators_that_need_nothing_from_above_are_stacked(rule: str) -> None:
    learner = build_learner(config(rule=rule, boundaries="all"), N_FEATURES, N_CLASSES)
    stacked = rule in STACKED or rule.partition(":")[0] in {"synthetic-gradient", "decoupled-greedy"}
    assert list(learner.estimators) == ([] if rule == "backprop" else ["1_2_3_4"] if stacked else list("1234"))


def test_only_estimators_that_are_alike_are_stacked() -> None:
    rule = f"{SG}@1,3 + {SG}:hidden_layers=1@2,4 + noise@5,6 + decoupled-greedy@7"
    learner = build_learner(config(rule=rule, depth=7), N_FEATURES, N_CLASSES)
    assert list(learner.estimators) == ["1_3", "2_4", "5_6", "7"]
    conv = build_learner(config(rule=SG, boundaries="all", network="conv", depth=4), (1, 32, 32), N_CLASSES)
    assert [tuple(conv.network.shapes[k - 1][1:]) for k in (1, 2, 3, 4)] == [(16, 16), (8, 8), (4, 4), (4, 4)]
    assert list(conv.estimators) == ["1", "2", "3_4"]


def test_a_learner_copies_the_estimators_that_it_stacks_and_keeps_those_that_it_does_not() -> None:
    network = mlp(N_FEATURES, N_CLASSES, depth=2, width=5, generator=seeded())
    several = {k: SyntheticGradient(Site((5,), N_CLASSES, k)) for k in (1, 2)}
    assert not any(module in several.values() for module in Learner(network, several).modules())
    assert Learner(network, several, together=False).estimators["1"] is several[1]


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_site_tells_what_lies_at_and_above_a_boundary(kind: str) -> None:
    network = NETWORKS[kind]((1, 8, 8), N_CLASSES, depth=3, width=8, generator=seeded())
    for k in network.boundaries:
        site = site_of(network, k, loss="mse", seed=4, n_outputs=N_CLASSES)
        assert site.shape == network.shapes[k - 1]
        assert site.above is network.segments[k]
        assert site.shape_above == (network.shapes[k] if k < 3 else ())
        assert site.is_last is (k == 3)
        assert (site.boundary, site.loss, site.seed, site.n_outputs) == (k, "mse", 4, N_CLASSES)
        assert site.size == prod(network.shapes[k - 1])


def test_learner_uses_its_loss() -> None:
    learner = build_learner(config(rule="backprop", loss="mse"), N_FEATURES, N_CLASSES).double()
    X, y = torch.randn(8, N_FEATURES, generator=seeded(), dtype=torch.float64), torch.arange(8) % N_CLASSES
    expected = (learner(X) - F.one_hot(y, N_CLASSES)).square().sum(dim=1).mean().item()
    assert learner.compute_gradients(X, y).loss.item() == pytest.approx(expected)
