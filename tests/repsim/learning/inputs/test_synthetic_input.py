"""Synthetic inputs: what the segments above train on, what they no longer depend on, and how the module learns."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from repsim.learning import (
    Chain,
    Learner,
    Outcome,
    Signals,
    Site,
    SyntheticInput,
    TrainingConfig,
    build_learner,
    build_optimizer,
    evaluate,
    locks_above,
    train,
)
from tests.repsim.small_chains import CLASSES, DEPTH, N, assert_close, assert_same_bits, randn, seeded, small_examples

INPUT = "synthetic-input"
RULES = [
    "backprop",
    "synthetic-gradient:hidden_layers=1@1-4",
    "bp-lambda@2",
    "direct-feedback-alignment@1-4",
    "feedback-alignment@1-4",
    "kickback@2,3",
    "target-propagation@1-3",
    "decoupled-greedy@2 + synthetic-gradient@3",
]


def learner_of(rule: str, kind: str = "mlp", **settings: object) -> Learner:
    config = TrainingConfig.from_dict({"network": kind, "depth": DEPTH, "width": 5, "rule": rule} | settings)
    learner = build_learner(config, 6 if kind == "mlp" else (1, 8, 8), CLASSES).double()
    with torch.no_grad():
        for i, parameter in enumerate(learner.parameters()):
            if not parameter.any():
                parameter.copy_(0.3 * randn(*parameter.shape, seed=50 + i))
    return learner


def step(learner: Learner, kind: str = "mlp") -> Outcome:
    learner.zero_grad(set_to_none=True)
    return learner.compute_gradients(*small_examples(kind), watch=True)


def gradients_above(learner: Learner, k: int) -> dict[str, Tensor]:
    parts = {f"segment {i}": each for i, each in enumerate(learner.network.segments, start=1) if i > k}
    return {
        f"{name}: {of}": parameter.grad for name, part in parts.items() for of, parameter in part.named_parameters()
    }


def make_perfect(learner: Learner, k: int) -> None:
    """Set the synthetic input at boundary k to the affine map that linear segments below compute."""
    with torch.no_grad():
        weight, bias = torch.eye(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
        for segment in learner.network.segments[:k]:
            weight, bias = segment.affine.weight @ weight, segment.affine.weight @ bias + segment.affine.bias
        (layer,) = learner.placed_inputs()[k].layers
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


# What the segments above train on


@pytest.mark.parametrize("rule", RULES)
def test_a_perfect_prediction_gives_the_update_of_the_true_input(rule: str) -> None:
    linear = {"activation": "linear", "norm": "none"}
    plain, predicted = learner_of(rule, **linear), learner_of(f"{rule} + {INPUT}@2", **linear)
    assert_close(dict(plain.network.state_dict()), dict(predicted.network.state_dict()), 0)
    make_perfect(predicted, 2)
    expected, outcome = step(plain), step(predicted)
    assert_close(gradients_above(predicted, 0), gradients_above(plain, 0))
    torch.testing.assert_close(outcome.logits, expected.logits, rtol=0, atol=1e-12)
    assert float(outcome.input_losses[2]) < 1e-24
    assert float(outcome.input_errors[2]) < 1e-12
    before = gradients_above(predicted, 2)
    with torch.no_grad():
        predicted.placed_inputs()[2].layers[0].bias.add_(0.1)
    step(predicted)
    assert any(not torch.allclose(each, before[name]) for name, each in gradients_above(predicted, 2).items())


@pytest.mark.parametrize("kind", ["mlp", "conv", "residual"])
@pytest.mark.parametrize("rule", RULES)
def test_the_step_of_the_segments_above_does_not_depend_on_those_below(rule: str, kind: str) -> None:
    one = learner_of(f"{rule} + {INPUT}@2", kind)
    other = copy.deepcopy(one)
    with torch.no_grad():
        for segment in other.network.segments[:2]:
            for parameter in segment.parameters():
                parameter.add_(0.1)
    expected, outcome = step(one, kind), step(other, kind)
    assert_same_bits(gradients_above(other, 2), gradients_above(one, 2))
    assert torch.equal(outcome.logits, expected.logits)
    assert not torch.equal(outcome.input_losses[2], expected.input_losses[2])
    without = (learner_of(rule, kind) for _ in range(2))
    first, second = without
    with torch.no_grad():
        second.network.segments[0].load_state_dict(other.network.segments[0].state_dict())
    assert not torch.equal(step(first, kind).logits, step(second, kind).logits)


def test_the_segments_below_a_backprop_boundary_get_the_gradient_at_the_prediction() -> None:
    learner = learner_of(f"backprop + {INPUT}@2")
    (X, y), network = small_examples("mlp"), copy.deepcopy(learner.network)
    step(learner)
    predicted = learner.placed_inputs()[2](X).detach().requires_grad_()
    h = predicted
    for segment in network.segments[2:]:
        h = segment(h)
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(h, y), predicted)
    nn.Sequential(*network.segments[:2])(X).backward(gradient)
    for ours, theirs in zip(learner.network.segments[:2], network.segments[:2], strict=True):
        assert_close(
            {name: each.grad for name, each in ours.named_parameters()},
            {name: each.grad for name, each in theirs.named_parameters()},
        )


def test_the_estimator_at_the_boundary_sees_the_activation_from_below() -> None:
    learner = learner_of(f"synthetic-gradient@2 + {INPUT}@2")
    X, y = small_examples("mlp")
    module = copy.deepcopy(learner.placed()[2,])
    h = nn.Sequential(*copy.deepcopy(learner.network).segments[:2])(X).detach()
    outcome = step(learner)
    torch.testing.assert_close(outcome.gradients[2], module.gradient(Signals(h, y)), rtol=0, atol=1e-12)


def test_batch_norm_learns_its_statistics_once_from_the_input_on_which_it_trains() -> None:
    learner = learner_of(f"synthetic-gradient@2 + {INPUT}@2")
    X, _ = small_examples("mlp")
    norm = copy.deepcopy(learner.network.segments[2].norm)
    predicted = learner.placed_inputs()[2](X)
    norm(learner.network.segments[2].affine(predicted))
    step(learner)
    assert_close(dict(learner.network.segments[2].norm.named_buffers()), dict(norm.named_buffers()))
    assert int(norm.num_batches_tracked) == 1


def test_evaluation_is_the_true_forward_pass() -> None:
    learner, plain = learner_of(f"synthetic-gradient + {INPUT}"), learner_of("synthetic-gradient")
    X, y = small_examples("mlp")
    assert torch.equal(learner(X), plain(X))
    assert evaluate(learner.network, X, y) == evaluate(plain.network, X, y)


# How the module learns


@pytest.mark.parametrize("options", ["", ":hidden_layers=2,hidden_width=4", ":label_conditioned=true,hidden_layers=1"])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_the_module_descends_on_the_squared_distance_alone(kind: str, options: str) -> None:
    learner = learner_of(f"synthetic-gradient@2 + {INPUT}{options}@2", kind)
    module, (X, y) = copy.deepcopy(learner.placed_inputs()[2]), small_examples(kind)
    h = nn.Sequential(learner.network.input, *copy.deepcopy(learner.network).segments[:2])(X).detach()
    predicted = module(X, y)
    assert predicted.shape == h.shape
    loss = sum(((one - two) ** 2).sum() for one, two in zip(predicted, h, strict=True)) / N
    loss.backward()
    outcome = step(learner, kind)
    torch.testing.assert_close(outcome.input_losses[2], loss.detach())
    error = (predicted - h).norm() / h.norm()
    torch.testing.assert_close(outcome.input_errors[2], error.detach())
    named = dict(learner.placed_inputs()[2].named_parameters())
    assert_close({name: each.grad for name, each in named.items()}, {n: p.grad for n, p in module.named_parameters()})
    assert all(each.grad.any() for each in named.values())


def test_a_module_reads_the_label_only_if_it_is_conditioned_on_it() -> None:
    X, y = small_examples("mlp")
    for conditioned, needs in ((False, {"stimulus"}), (True, {"stimulus", "labels"})):
        module = SyntheticInput(Site((5,), CLASSES), 6, generator=seeded(), label_conditioned=conditioned).double()
        if conditioned:
            nn.init.ones_(module.label_vectors.weight[0])
        assert module.needs == needs
        assert torch.equal(module(X, y), module(X, (y + 1) % CLASSES)) is not conditioned


def test_training_reduces_the_error_of_the_predictions() -> None:
    config = TrainingConfig(depth=3, width=16, rule=f"synthetic-gradient@1,2 + {INPUT}@1,2", epochs=40, batch_size=20)
    generator = seeded()
    X = torch.randn(80, 6, generator=generator)
    learner = build_learner(config, 6, CLASSES)
    steps = list(train(learner, build_optimizer(learner, config), X, X[:, :CLASSES].argmax(dim=1), config))
    for k in (1, 2):
        assert steps[-1].input_losses[k] < 0.6 * steps[0].input_losses[k]
    assert steps[-1].loss < 0.5 * steps[0].loss


def test_the_lock_of_the_segments_above_follows_from_what_they_need() -> None:
    assert locks_above(None) == {"forward"}
    assert locks_above(SyntheticInput(Site((5,), CLASSES), 6)) == frozenset()

    class Waiting(SyntheticInput):
        def __init__(self, site: Site, n_inputs: int) -> None:
            super().__init__(site, n_inputs)
            self.needs = self.needs | {"activation"}

    assert locks_above(Waiting(Site((5,), CLASSES), 6)) == {"forward"}


def test_initial_values_follow_from_the_seed_and_the_boundary() -> None:
    one, again = (learner_of(f"{INPUT}@1,2").synthetic_inputs.state_dict() for _ in range(2))
    assert_same_bits(one, again)
    other = learner_of(f"{INPUT}@2", seed=1).synthetic_inputs.state_dict()
    weights = [one["2.layers.0.weight"], other["2.layers.0.weight"], one["1.layers.0.weight"][:, :5]]
    assert all(not torch.equal(a[:, :5], b[:, :5]) for a, b in pairwise(weights))


def test_a_chain_that_was_measured_needs_nothing_else() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    learner = Learner.with_rule(Chain.of(net, example=torch.zeros(2, 6)), f"synthetic-gradient@1 + {INPUT}@1")
    outcome = learner.compute_gradients(torch.ones(4, 6), torch.tensor([0, 1, 2, 0]))
    assert outcome.input_losses.keys() == {1}


# Bad input


def test_labels_that_are_missing_are_named() -> None:
    module = SyntheticInput(Site((5,), CLASSES, 4), 6, label_conditioned=True)
    with pytest.raises(
        ValueError, match="The synthetic input at boundary 4 is conditioned on the label, but y is None"
    ):
        module(torch.zeros(2, 6))


def test_tokens_are_no_numbers_to_predict_from() -> None:
    module = SyntheticInput(Site((5,), CLASSES, 4), 6)
    with pytest.raises(ValueError, match=r"boundary 4 is predicted from the numbers .* whole numbers .*int64"):
        module(torch.zeros(2, 6, dtype=torch.int64))


def test_a_boundary_that_does_not_exist_is_refused() -> None:
    network = learner_of("backprop").network
    with pytest.raises(ValueError, match="There is no boundary 9; this network has boundaries 1 to 4"):
        Learner(network, synthetic_inputs={9: SyntheticInput(Site((5,), CLASSES, 9), 6)})
    with pytest.raises(ValueError, match="boundaries '9' names boundary 9; a network with 4 hidden layers"):
        TrainingConfig(depth=4, rule=f"{INPUT}@9")


def test_a_chain_that_was_not_measured_does_not_know_its_inputs() -> None:
    chain = Chain([nn.Linear(6, 8)], nn.Linear(8, CLASSES), shapes=[8])
    chain._n_outputs = CLASSES
    with pytest.raises(ValueError, match=r"The number of inputs is unknown; give Chain\.of an example"):
        Learner.with_rule(chain, f"{INPUT}@1")


@pytest.mark.parametrize("rule", ["pepita", "forward-forward", "equilibrium-propagation"])
def test_rules_with_a_second_pass_refuse_synthetic_inputs(rule: str) -> None:
    options = {"depth": 1, "width": 5, "norm": "none", "activation": "sigmoid", "loss": "mse"}
    config = TrainingConfig(rule=f"{rule} + {INPUT}@1", **options)
    with pytest.raises(ValueError, match=r"a rule here compares two passes\. Leave out the synthetic input"):
        build_learner(config, 6, CLASSES)
