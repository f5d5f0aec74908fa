import copy

import pytest
import torch
import torch.nn.functional as F

from repsim.learning import Backprop, Learner, SyntheticGradient, TrainingConfig, build_learner, build_optimizer, mlp

N_FEATURES, N_CLASSES = 7, 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def config(**settings: object) -> TrainingConfig:
    return TrainingConfig.from_dict({"depth": 4, "width": 5, "rule": "synthetic-gradient"} | settings)


@pytest.mark.parametrize("boundary", [0, 4, -1])
def test_learner_refuses_a_boundary_that_its_network_lacks(boundary: int) -> None:
    network = mlp(N_FEATURES, N_CLASSES, depth=3, width=5, generator=seeded())
    with pytest.raises(ValueError, match=rf"There is no boundary {boundary}; this network has boundaries 1 to 3\."):
        Learner(network, {2: Backprop(), boundary: Backprop()})


def test_learner_without_estimators_is_its_network() -> None:
    network = mlp(N_FEATURES, N_CLASSES, depth=3, width=5, generator=seeded()).eval()
    X = torch.randn(6, N_FEATURES, generator=seeded(1))
    assert torch.equal(Learner(network)(X), network(X))
    assert list(Learner(network).state_dict()) == [f"network.{key}" for key in network.state_dict()]


def test_state_dict_holds_network_and_estimators_and_restores_both() -> None:
    learner, other = (build_learner(config(seed=seed, sg_hidden_layers=1), N_FEATURES, N_CLASSES) for seed in (0, 1))
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


@pytest.mark.parametrize(("boundaries", "chosen"), [("middle", "2"), ("inner", "123"), ("all", "1234"), ("4,1", "14")])
def test_build_learner_puts_an_estimator_at_each_chosen_boundary(boundaries: str, chosen: str) -> None:
    learner = build_learner(config(boundaries=boundaries), N_FEATURES, N_CLASSES)
    assert list(learner.estimators) == list(chosen)
    assert all(isinstance(module, SyntheticGradient) for module in learner.estimators.values())


def test_build_learner_follows_the_settings() -> None:
    settings = config(depth=6, width=9, norm="layer", activation="tanh", sg_hidden_layers=2, sg_hidden_width=11)
    learner = build_learner(settings, N_FEATURES, N_CLASSES)
    shapes = {name: tuple(parameter.shape) for name, parameter in learner.named_parameters()}
    assert len(learner.network.segments) == 7
    assert shapes["network.hidden.1.affine.weight"] == (9, N_FEATURES)
    assert shapes["network.output.weight"] == (N_CLASSES, 9)
    assert [shapes[f"estimators.3.layers.{i}.weight"] for i in range(3)] == [(11, 9), (11, 11), (9, 11)]
    assert shapes["estimators.3.label_vectors.weight"] == (N_CLASSES, 11)
    assert isinstance(learner.network.hidden["2"].norm, torch.nn.LayerNorm)
    assert isinstance(learner.network.hidden["2"].activation, torch.nn.Tanh)
    blind = build_learner(config(sg_label_conditioned=False), N_FEATURES, N_CLASSES)
    assert not any("label" in name for name in blind.state_dict())


def test_networks_of_one_seed_start_equal_whatever_the_rule() -> None:
    variants = [
        config(),
        config(rule="backprop"),
        config(boundaries="all", sg_hidden_layers=2, sg_label_conditioned=False),
    ]
    reference, *others = (build_learner(settings, N_FEATURES, N_CLASSES).network.state_dict() for settings in variants)
    for other in others:
        assert all(torch.equal(reference[key], other[key]) for key in reference)
    stranger = build_learner(config(seed=1), N_FEATURES, N_CLASSES).network
    assert not torch.equal(reference["output.weight"], stranger.output.weight)


def test_estimators_at_different_boundaries_start_differently_and_do_not_depend_on_one_another() -> None:
    several, alone = (
        build_learner(config(boundaries=where, sg_hidden_layers=1), N_FEATURES, N_CLASSES).estimators
        for where in ("1,3", "3")
    )
    weights = {k: module.layers[0].weight for k, module in several.items()}
    assert not torch.equal(weights["1"], weights["3"])
    assert torch.equal(weights["3"], alone["3"].layers[0].weight)


def test_build_learner_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    build_learner(config(sg_hidden_layers=1), N_FEATURES, N_CLASSES)
    assert torch.equal(torch.get_rng_state(), before)


def test_optimizer_moves_every_parameter_once_at_the_rate_of_its_group() -> None:
    settings = config(learning_rate=0.01, sg_learning_rate=0.2)
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
    settings = config(activation="tanh", norm="none", learning_rate=0.01, sg_learning_rate=0.2)
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
