"""Networks of the user learn like the built-in ones; decay, clipping and warm-up are those of torch."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import (
    ESTIMATORS,
    OPTIMIZERS,
    Chain,
    Estimator,
    Learner,
    LocalLearner,
    Signals,
    Step,
    TrainingConfig,
    build_learner,
    build_optimizer,
    clip_gradients,
    gradient_bias_variance,
    stream,
    train,
    train_pipeline,
    train_replicas,
)

RULES = (
    "backprop",
    "synthetic-gradient@2",
    "synthetic-gradient:hidden_layers=1@all",
    "decoupled-greedy",
    "direct-feedback-alignment",
    "feedback-alignment",
    "sign-symmetric:magnitude=resampled",
    "adaptive-random-backprop",
    "target-propagation",
    "kickback",
    "bp-lambda@1",
)
X = torch.randn(64, 6, generator=stream(0, "test"))
y = torch.arange(64) % 3
SEQUENCES = torch.randn(64, 5, 6, generator=stream(1, "test"))


def settings(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**({"depth": 3, "width": 8, "epochs": 3, "batch_size": 16, "learning_rate": 0.01} | changes))


def own_copy(network: Chain) -> Chain:
    """Return a built-in network as a chain of plain layers, with equal weights."""
    layers: list[nn.Module] = []
    for segment in list(network.segments)[:-1]:
        layers += [segment.affine, segment.norm, segment.activation]
    return Chain.of(copy.deepcopy(nn.Sequential(*layers, network.output)), example=X[:4])


@pytest.mark.parametrize("rule", RULES)
def test_a_sequential_network_learns_like_the_built_in_one(rule: str) -> None:
    config = settings(rule=rule)
    built_in = build_learner(config, 6, 3)
    network = own_copy(built_in.network)
    own = build_learner(settings(rule=rule, depth=None, width=128, model="my:net"), 6, 3, network=network)
    for learner in (built_in, own):
        assert len(list(train(learner, build_optimizer(learner, config), X, y, config))) == 12
    for ours, theirs in zip(own.parameters(), built_in.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.linear(self.norm(h)).relu()


class Mean(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, h: Tensor) -> Tensor:
        return self.linear(h.mean(dim=1))


def sequence_net(seed: int = 0, drop: float = 0.0) -> Chain:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        blocks = [nn.Linear(6, 8), Residual(8), nn.Sequential(Residual(8), nn.Dropout(drop)), Mean(8)]
    return Chain.of(blocks, example=SEQUENCES[:4])


@pytest.mark.parametrize("rule", [*RULES[:1], "synthetic-gradient:link=softmax@all", *RULES[2:]])
def test_boundaries_with_sequences_work_with_every_rule(rule: str) -> None:
    learner = Learner.with_rule(sequence_net(), rule)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        outcome = learner.compute_gradients(SEQUENCES, y, watch=True)
        optimizer.step()
    assert {k: g.shape[1:] for k, g in outcome.gradients.items()} == dict.fromkeys((1, 2, 3), (5, 8))
    assert all(parameter.grad is not None for parameter in learner.network.parameters())


def test_feedback_equal_to_the_weights_is_backprop_in_blocks_of_the_user() -> None:
    learner = Learner.with_rule(sequence_net(), "feedback-alignment")
    for (k,), estimator in learner.placed().items():
        linear = [m for m in learner.network.segments[k].modules() if isinstance(m, nn.Linear)]
        for i, layer in enumerate(linear):
            getattr(estimator, f"feedback_{i}").copy_(layer.weight.detach())
    exact = Learner.with_rule(sequence_net(), "backprop")
    for each in (learner, exact):
        each.compute_gradients(SEQUENCES, y)
    for ours, theirs in zip(learner.network.parameters(), exact.network.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


class Functional(Residual):
    def forward(self, h: Tensor) -> Tensor:
        return h + F.linear(h, self.linear.weight, self.linear.bias)


def test_feedback_alignment_is_refused_where_it_would_be_backprop() -> None:
    attention = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    chain = Chain.of([nn.Linear(6, 8), attention, Mean(8)], example=SEQUENCES[:4])
    with pytest.raises(ValueError, match=r"has the weight 'self_attn\.in_proj_weight' outside of such layers"):
        Learner.with_rule(chain, "feedback-alignment@1")
    learner = Learner.with_rule(
        Chain.of([nn.Linear(6, 8), Functional(8), Mean(8)], example=SEQUENCES[:4]), "feedback-alignment"
    )
    with pytest.raises(
        ValueError, match=r"^Functional does not call 'linear', so its backward pass cannot be replaced"
    ):
        learner.compute_gradients(SEQUENCES, y)


@pytest.mark.parametrize("rule", ["synthetic-gradient@1", "decoupled-greedy", "target-propagation@1"])
def test_shapes_that_a_rule_cannot_take_are_refused(rule: str) -> None:
    blocks = [
        nn.Sequential(nn.Linear(6, 8), nn.Unflatten(1, (2, 2, 2, 1))),
        nn.Sequential(nn.Flatten(), nn.Linear(8, 3)),
    ]
    blocks.insert(1, nn.Conv3d(2, 2, 1))
    with pytest.raises(ValueError, match=r"\(2, 2, 2, 1\)"):
        Learner.with_rule(Chain.of(blocks, example=X[:4]), rule)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_decay_clipping_and_warmup_are_those_of_a_plain_loop(name: str, kind: Any) -> None:
    config = settings(optimizer=name, weight_decay=0.1, clip_norm=0.05, warmup=5)
    learner = build_learner(config, 6, 3)
    network = copy.deepcopy(learner.network)
    list(train(learner, build_optimizer(learner, config), X, y, config))
    optimizer = kind(network.parameters(), lr=0.01, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))
    for epoch in range(3):
        for rows in torch.randperm(64, generator=stream(0, "order", epoch)).split(16):
            optimizer.zero_grad()
            F.cross_entropy(network(X[rows]), y[rows]).backward()
            assert nn.utils.clip_grad_norm_(network.parameters(), 0.05) > 0.05
            optimizer.step()
            schedule.step()
    for ours, theirs in zip(learner.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_parameters_of_rules_neither_decay_nor_are_clipped() -> None:
    learner = build_learner(config := settings(rule="synthetic-gradient", weight_decay=0.5), 6, 3)
    network, of_rule = build_optimizer(learner, config).param_groups
    assert (network["weight_decay"], of_rule["weight_decay"]) == (0.5, 0.0)


def test_a_stack_is_clipped_network_by_network() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.grad, layer.bias.grad = torch.tensor([[3.0, 0.0], [0.3, 0.0]]), torch.tensor([4.0, 0.4])
    clip_gradients(layer, 1.0, lead=1)
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[0.6, 0.0], [0.3, 0.0]]))
    torch.testing.assert_close(layer.bias.grad, torch.tensor([0.8, 0.4]))


def test_warmup_is_a_number_of_updates_or_a_share() -> None:
    rates = {}
    for warmup in (3, 0.25):
        learner = build_learner(config := settings(warmup=warmup, schedule="cosine"), 6, 3)
        optimizer = build_optimizer(learner, config)
        rates[warmup] = [optimizer.param_groups[0]["lr"] for _ in train(learner, optimizer, X, y, config)]
    assert rates[3] == rates[0.25]
    assert rates[3][0] == pytest.approx(0.01 / 3)
    with pytest.raises(ValueError, match=r"^warmup is 1\.5; expected a whole number of updates, or a share"):
        settings(warmup=1.5)
    with pytest.raises(ValueError, match=r"^warmup is 13 updates, but the training has 12"):
        next(train(learner, optimizer, X, y, settings(warmup=13)))


def test_seeds_train_together_with_decay_clipping_and_warmup_as_alone() -> None:
    configs = [
        settings(
            seed=s,
            rule="synthetic-gradient@2",
            weight_decay=0.1,
            clip_norm=0.1,
            warmup=4,
            depth=None,
            width=128,
            model="my:net",
        )
        for s in (0, 1)
    ]
    results = {}
    for how in ("stacked", "loop"):
        learners = [build_learner(each, 6, 3, network=sequence_net(each.seed)) for each in configs]
        optimizers = [build_optimizer(*pair) for pair in zip(learners, configs, strict=True)]
        training = train_replicas(learners, optimizers, [(SEQUENCES, y)] * 2, configs, how=how)
        list(training)
        results[how] = [p.detach() for learner in learners for p in learner.network.parameters()]
    for together, alone in zip(*results.values(), strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_networks_with_dropout_train_one_by_one_and_each_as_alone() -> None:
    configs = [settings(seed=s, depth=None, width=128, model="my:net") for s in (0, 1)]

    def built() -> tuple[list[Learner], list[torch.optim.Optimizer]]:
        learners = [build_learner(each, 6, 3, network=sequence_net(each.seed, drop=0.5)) for each in configs]
        return learners, [build_optimizer(*pair) for pair in zip(learners, configs, strict=True)]

    learners, optimizers = built()
    with pytest.raises(ValueError, match=r"cannot be trained together: their blocks draw random numbers"):
        train_replicas(learners, optimizers, [(SEQUENCES, y)] * 2, configs, how="stacked")
    training = train_replicas(learners, optimizers, [(SEQUENCES, y)] * 2, configs)
    assert training.choice.how == "loop"
    list(training)
    alone, own = built()
    list(train(alone[1], own[1], SEQUENCES, y, configs[1]))
    for ours, theirs in zip(learners[1].parameters(), alone[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


class MixesReplicas(nn.Module):
    """A block that takes the axis of replicas for that of examples."""

    stacks_by_parts = True

    def forward(self, h: Tensor) -> Tensor:
        return h - h.mean(dim=0)


def with_dropout() -> Chain:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3)]
    return Chain.of(nn.Sequential(*layers), example=X[:4])


def trained_with_dropout(rule: str, diagnosed: Any = ()) -> tuple[list[Step], dict[str, Tensor]]:
    learner, config = Learner.with_rule(with_dropout(), rule), settings()
    steps = list(train(learner, build_optimizer(learner, config), X, y, config, diagnosed=diagnosed))
    return steps, learner.network.state_dict()


def test_true_gradients_are_those_of_the_dropout_of_the_update() -> None:
    plain, weights = trained_with_dropout("synthetic-gradient@1")
    steps, same = trained_with_dropout("synthetic-gradient@1", diagnosed=range(100))
    assert [step.loss for step in steps] == [step.loss for step in plain]  # the comparison draws nothing
    torch.testing.assert_close(same, weights, rtol=0, atol=0)
    assert max(step.diagnoses[2].relative_error for step in steps) < 1e-6  # backprop
    assert min(step.diagnoses[1].relative_error for step in steps) > 0.1


def test_a_rule_that_is_given_the_true_gradient_gets_that_of_the_dropout_of_the_update() -> None:
    _, expected = trained_with_dropout("backprop")
    _, found = trained_with_dropout("disturbed-gradient:angle=0,norm=1@1")
    torch.testing.assert_close(found, expected)


def test_backprop_has_no_bias_in_networks_with_dropout() -> None:
    learner = Learner.with_rule(with_dropout(), "synthetic-gradient@1").train()
    found = gradient_bias_variance(learner, [(X[:32], y[:32]), (X[32:], y[32:])])
    assert found[2].bias < 1e-6 * found[2].true_norm
    assert found[1].bias > 0.1 * found[1].true_norm


def test_blocks_that_cannot_be_stacked_are_noticed() -> None:
    configs = [settings(seed=s, depth=None, width=128, model="my:net") for s in (0, 1)]
    networks = [Chain.of([nn.Linear(6, 8), MixesReplicas(), nn.Linear(8, 3)], example=X[:4]) for _ in configs]
    learners = [build_learner(c, 6, 3, network=n) for c, n in zip(configs, networks, strict=True)]
    optimizers = [build_optimizer(*pair) for pair in zip(learners, configs, strict=True)]
    training = train_replicas(learners, optimizers, [(X, y)] * 2, configs)
    assert "the gradient of network.hidden.1.0.weight is another one in a stack" in training.choice.reason


class Centered(Estimator):
    """A rule that takes the first axis for that of examples, which it is for one network and one boundary."""

    formula, reference, needs = "t_k less its mean", "a test", frozenset({"activation"})

    def gradient(self, signals: Signals) -> Tensor:
        return signals.activation - signals.activation.mean(0)


def test_rules_of_the_user_get_the_signals_of_one_boundary_of_one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, "centered", Centered)
    config = settings(rule="centered@all", norm="none")
    learners = [build_learner(config, 6, 3, together=together) for together in (True, False)]
    for learner in learners:
        learner.compute_gradients(X, y)
    for ours, theirs in zip(*(learner.parameters() for learner in learners), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    optimizers = [build_optimizer(learner, config) for learner in learners]
    with pytest.raises(ValueError, match=r"cannot be trained together: the gradient of \S+ is another one in a stack"):
        train_replicas(learners, optimizers, [(X, y)] * 2, [config] * 2, how="stacked")


class Normalized(torch.optim.SGD):
    """An optimizer that scales the gradient of each tensor, as LARS does."""


def test_optimizers_that_may_not_be_elementwise_train_one_by_one() -> None:
    config = settings()
    learners = [build_learner(config, 6, 3) for _ in range(2)]
    optimizers = [Normalized(learner.parameters(), lr=0.1) for learner in learners]
    with pytest.raises(ValueError, match=r"cannot be trained together: Normalized is not known to update every number"):
        train_replicas(learners, optimizers, [(X, y)] * 2, [config] * 2, how="stacked")
    assert train_replicas(learners, optimizers, [(X, y)] * 2, [config] * 2).choice.how == "loop"


def test_local_updates_train_networks_of_the_user_and_refuse_clipping() -> None:
    config = TrainingConfig(depth=3, learning_rate=0.01)
    learner = Learner.with_rule(sequence_net(), "synthetic-gradient@2")
    one_by_one = copy.deepcopy(learner)
    list(train(learner, build_optimizer(learner, config), SEQUENCES, y, settings(epochs=1, batch_size=64)))
    order = torch.randperm(64, generator=stream(0, "order", 0))
    LocalLearner(one_by_one, config).step(SEQUENCES[order], y[order])
    for ours, theirs in zip(one_by_one.parameters(), learner.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"^clip_norm is 1\.0, the norm of the gradients of the whole network"):
        LocalLearner(one_by_one, TrainingConfig(clip_norm=1.0))


def test_settings_of_built_in_networks_are_refused_beside_a_model() -> None:
    with pytest.raises(
        ValueError, match=r"^width is 64 and model is 'my:net', which decides that itself\. Leave width"
    ):
        TrainingConfig(model="my:net", width=64)
    with pytest.raises(ValueError, match=r"^The boundaries of model 'my:net' are known when it is built"):
        _ = TrainingConfig(model="my:net").rules
    with pytest.raises(ValueError, match=r"^Unknown rule 'magic'"):
        TrainingConfig(model="my:net", rule="magic@2")
    with pytest.raises(ValueError, match=r"^model is 'my:net' and a network was not given"):
        build_learner(TrainingConfig(model="my:net"), 6, 3)
    assert TrainingConfig.from_dict(TrainingConfig(model="my:net", depth=3).to_dict()).depth == 3


def test_a_pipeline_refuses_clipping_and_dropout() -> None:
    learner = Learner.with_rule(sequence_net(drop=0.5), "synthetic-gradient@1")
    with pytest.raises(ValueError, match=r"^The network draws random numbers, such as those of dropout, which the"):
        train_pipeline(learner, SEQUENCES, y, settings())
    with pytest.raises(ValueError, match=r"^clip_norm is 1\.0, the norm of the gradients of the whole network"):
        train_pipeline(learner.eval(), SEQUENCES, y, settings(clip_norm=1.0))


def test_optimizers_without_weight_decay_and_networks_without_parameters_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(OPTIMIZERS, "rprop", lambda groups: torch.optim.Rprop(groups))
    learner = build_learner(config := settings(optimizer="rprop", weight_decay=0.1), 6, 3)
    with pytest.raises(ValueError, match=r"^weight_decay is 0\.1, but optimizer 'rprop' has no weight decay"):
        build_optimizer(learner, config)
    empty = Learner(Chain([nn.Identity()], nn.Identity(), [3]))
    with pytest.raises(ValueError, match=r"^The network has no parameters, so there is nothing to train"):
        build_optimizer(empty, settings())
