import itertools

import pytest
import torch
from torch import Tensor, nn

from repsim.learning import (
    Chain,
    EquilibriumNetwork,
    EquilibriumPropagation,
    Learner,
    LocalLearner,
    Site,
    TrainingConfig,
    build_learner,
    build_optimizer,
    compute_gradients,
    gradient_bias_variance,
    locks,
    mlp,
    train,
    train_replicas,
    true_gradients,
)
from repsim.learning.diagnostics import diagnose_step, true_step
from tests.repsim.small_chains import (
    CLASSES,
    N,
    assert_close,
    assert_same_bits,
    held_gradients,
    seeded,
    small_examples,
)
from tests.repsim.small_digits import digits_accuracy

RULE = "equilibrium-propagation"
FITTING = {"norm": "none", "activation": "sigmoid", "loss": "mse"}


def config(rule: str = RULE, depth: int = 1, **settings: object) -> TrainingConfig:
    small = {"depth": depth, "width": 5, "batch_size": N, "epochs": 4}
    return TrainingConfig.from_dict(FITTING | small | settings | {"rule": rule})


def learner(rule: str, depth: int = 1, **settings: object) -> Learner:
    return build_learner(config(rule, depth, **settings), 6, CLASSES).double()


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return sum(float((one[name] - other[name]).square().sum()) for name in other) ** 0.5


def gradients_through_the_relaxation(net: EquilibriumNetwork) -> dict[str, Tensor]:
    """Oracle: backprop of the loss at the free equilibrium, through all sweeps."""
    X, y = small_examples("mlp")
    output = net.relax(X)[-1]
    loss = (output - nn.functional.one_hot(y, CLASSES)).square().sum(dim=1).mean()
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("symmetric", "order"), [("false", 1), ("true", 2)])
def test_the_gradient_tends_to_that_of_backprop_with_the_nudge(symmetric: str, order: int, depth: int) -> None:
    """The error falls in proportion to β, or to β² for the symmetric form, for weights and for g_k."""
    of_weights, of_g = [], []
    for beta in (0.04, 0.02, 0.01):
        each = learner(f"{RULE}:beta={beta},symmetric={symmetric},sweeps=200", depth)
        outcome = each.compute_gradients(*small_examples("mlp"), watch=True)
        of_weights.append(distance(held_gradients(each.network), gradients_through_the_relaxation(each.network)))
        true = true_gradients(each.network, *small_examples("mlp"), loss="mse")
        of_g.append(sum(float((outcome.gradients[k] - true[k]).norm()) for k in each.network.boundaries))
        assert true[1].norm() > 0.01
    for errors in (of_weights, of_g):
        for larger, smaller in itertools.pairwise(errors):
            assert larger / smaller == pytest.approx(2**order, rel=0.05)


def test_diagnoses_compare_with_backprop_through_the_relaxation() -> None:
    each, (X, y) = learner(f"{RULE}:beta=0.01,sweeps=200", 2), small_examples("mlp")
    true = true_step(each, X, y)
    found = diagnose_step(each, each.compute_gradients(X, y, watch=True), true)
    through = gradients_through_the_relaxation(each.network)
    for k, (of_boundary,) in found.items():
        assert of_boundary.update_cosine == pytest.approx(1, abs=1e-4)
        assert of_boundary.cosine == pytest.approx(1, abs=1e-4)
        names = [name for name, _ in each.network.named_parameters() if name.startswith(f"hidden.{k}.")]
        for name, g in zip(names, true.segments[k], strict=True):
            torch.testing.assert_close(g, through[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2])
def test_states_are_an_equilibrium_and_what_the_layers_are_seen_to_compute(depth: int) -> None:
    each, (X, _) = learner(f"{RULE}:sweeps=200", depth), small_examples("mlp")
    seen: dict[str, Tensor] = {}
    for name in [f"hidden.{k}" for k in range(1, depth + 1)]:
        each.network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output})
        )
    output = each.network(X)
    states = each.network.relax(X)
    torch.testing.assert_close(output, states[-1], rtol=0, atol=1e-12)
    W = [affine.weight for affine in each.network.affines()]
    b = [affine.bias for affine in each.network.affines()]
    for k in range(depth):
        below = X if k == 0 else states[k - 1]
        fixed = (below @ W[k].T + b[k] + states[k + 1] @ W[k + 1]).sigmoid()
        torch.testing.assert_close(states[k], fixed, rtol=0, atol=1e-12)
        torch.testing.assert_close(seen[f"hidden.{k + 1}"], states[k], rtol=0, atol=1e-12)
    torch.testing.assert_close(states[-1], states[-2] @ W[-1].T + b[-1], rtol=0, atol=1e-12)


def test_every_sweep_lowers_the_energy() -> None:
    each, (X, _) = learner(RULE, 2), small_examples("mlp")
    network, energies = each.network, []
    for n in range(1, 8):
        network.n_sweeps = n
        *hidden, output = network.relax(X)
        below = [X, *hidden]
        coupling = sum(
            (s * affine(x)).sum() for s, affine, x in zip([*hidden, output], network.affines(), below, strict=True)
        )
        own = sum((s * s.log() + (1 - s) * (1 - s).log()).sum() for s in hidden) + output.square().sum() / 2
        energies.append(float((own - coupling).detach()))
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(energies))
    assert energies[0] > energies[-1]


def test_a_training_that_is_continued_is_the_training_bit_for_bit() -> None:
    X, y = (each.repeat(3, *[1] * (each.ndim - 1)) for each in small_examples("mlp"))
    settings = config()
    whole, parts = learner(RULE), learner(RULE)
    list(train(whole, build_optimizer(whole, settings), X, y, settings))
    optimizer = build_optimizer(parts, settings)
    for record in train(parts, optimizer, X, y, settings):
        if record.step == 5:
            break
    resumed = learner(RULE)
    resumed.load_state_dict(parts.state_dict())
    restored = build_optimizer(resumed, settings)
    restored.load_state_dict(optimizer.state_dict())
    list(train(resumed, restored, X, y, settings, start=5))
    assert_same_bits(whole.state_dict(), resumed.state_dict())


def test_seeds_trained_together_are_seeds_trained_one_by_one() -> None:
    configs, held = [config(seed=seed) for seed in (0, 1)], []
    for how in ("stacked", "loop"):
        several = [build_learner(each, 6, CLASSES).double() for each in configs]
        optimizers = [build_optimizer(*pair) for pair in zip(several, configs, strict=True)]
        training = train_replicas(several, optimizers, [small_examples("mlp")] * 2, configs, how=how, diagnosed={1, 2})
        steps = list(training)
        assert len(steps) == 4
        held.append({f"{i}.{name}": p for i, each in enumerate(several) for name, p in each.named_parameters()})
    assert_close(*held, 1e-10)


def test_it_waits_for_the_output_but_not_for_a_backward_pass() -> None:
    assert locks(EquilibriumPropagation(Site((5,), CLASSES))) == {"update"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "batch"}, r"but segment 1 has a BatchNorm1d\. Use --network mlp --norm none --activation sigmoid"),
        ({"activation": "relu"}, r"but segment 1 has the nonlinearity ReLU\. Use --network mlp"),
        (
            {"loss": "log_loss"},
            r"needs the squared error, but the loss is log_loss, .* Use --network mlp .* --loss mse\.",
        ),
        ({"network": "conv"}, r"but segment 1 is a Conv2d\. Use --network mlp"),
        ({"rule": f"{RULE}@1", "depth": 2}, r"trains all layers together, but boundary 2 has another rule"),
        ({"rule": f"{RULE}@1 + {RULE}:beta=0.2@2", "depth": 2}, r"give its options once, for all boundaries"),
        ({"rule": f"{RULE}:observe=true"}, r"cannot be observed beside backprop: its segments learn in a second"),
        ({"rule": f"{RULE}:beta=0.5"}, r"beta is 0\.5; expected a number above 0 and at most 0\.4\."),
    ],
    ids=str,
)
def test_networks_and_settings_that_it_cannot_serve_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_learner(config(**({"rule": RULE} | settings)), (1, 8, 8), CLASSES)


def test_an_output_segment_that_is_not_linear_is_refused() -> None:
    net = mlp(6, CLASSES, depth=1, width=5, norm="none", activation="tanh", generator=seeded())
    with pytest.raises(ValueError, match=r"^Equilibrium propagation needs a linear output segment, but it is a Sequen"):
        EquilibriumNetwork(Chain(list(net.hidden.values()), nn.Sequential(net.output), net.shapes))


def test_what_needs_a_chain_is_refused_in_a_network_that_relaxes() -> None:
    X, y = small_examples("mlp")
    each = learner(RULE)
    with pytest.raises(
        ValueError, match="Equilibrium propagation trains all layers together, so that the network canno"
    ):
        LocalLearner(each, config())
    with pytest.raises(ValueError, match="The activations of this network are an equilibrium of all layers"):
        gradient_bias_variance(each, [(X, y)] * 2)
    with pytest.raises(ValueError, match="learns by equilibrium-propagation only"):
        compute_gradients(each.network, {}, X, y, loss="mse")
    plain = mlp(6, CLASSES, depth=1, width=5, generator=seeded()).double()
    with pytest.raises(ValueError, match="EquilibriumPropagation trains a network that relaxes to an equilibrium"):
        compute_gradients(plain, {1: EquilibriumPropagation(Site((5,), CLASSES))}, X, y)


def test_equilibrium_propagation_learns_digits() -> None:
    settings = FITTING | {"depth": 1, "learning_rate": 1e-2, "epochs": 5}
    assert digits_accuracy(RULE, **settings) > 0.85
