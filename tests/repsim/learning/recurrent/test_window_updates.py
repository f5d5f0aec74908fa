import copy
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from repsim.learning import (
    Learner,
    TrainingConfig,
    build_learner,
    build_optimizer,
    gradient_bias_variance,
    sequence_task,
    train,
)
from repsim.learning.diagnostics import diagnose_step, true_step
from repsim.learning.parallel import train_replicas
from repsim.learning.recurrent import update_after_windows
from repsim.learning.training import batches, diagnosis_rows
from tests.repsim.small_chains import randn

N, STEPS, WINDOW, RATE = 5, 8, 3, 0.1
TASK = sequence_task("copy", 4, n_examples=60)


def learner(rule: str, seed: int = 0) -> tuple[Learner, TrainingConfig]:
    config = TrainingConfig(
        network="gru",
        width=6,
        window=WINDOW,
        updates="window",
        rule=rule,
        optimizer="sgd",
        learning_rate=RATE,
        estimator_learning_rate=RATE,
        batch_size=20,
        epochs=2,
        seed=seed,
    )
    return build_learner(config, TASK.shape, TASK.n_outputs, scored=TASK.scored).double(), config


X, Y = torch.from_numpy(TASK.X[:N]).double(), torch.from_numpy(TASK.learned[:N])


def by_hand(one: Learner, conditioned: bool) -> list[torch.Tensor]:
    """Update by plain torch: for each window, its loss plus ⟨h, S(h)⟩ / N at its end, and S to the pull-back."""
    net: Any = one.network
    parameters = list(net.parameters())
    module = one.placed()[WINDOW,].layers[0] if conditioned else None
    state, losses = X.new_zeros(N, net.state_size), []
    inputs = X.unflatten(-1, (STEPS, -1))
    for start in range(0, STEPS, WINDOW):
        h = entering = state.detach().requires_grad_()
        outputs = []
        for t in range(start, min(start + WINDOW, STEPS)):
            h = net.cell(net.cell.of_inputs(inputs[:, t]), h)
            if t >= 4:
                outputs.append(F.cross_entropy(net.output(h), Y[:, t - 4]) / 4)
        total = sum(outputs) if outputs else h.sum() * 0
        losses.append(torch.as_tensor(total).detach())
        if module is not None and start + WINDOW < STEPS:
            total = total + (h * module(h.detach()).detach()).sum() / N
        *gradients, pulled = torch.autograd.grad(total, [*parameters, entering], allow_unused=True)
        if module is not None and start > 0:
            loss = (module(entering.detach()) - N * pulled).square().sum(dim=1).mean()
            for p, g in zip(module.parameters(), torch.autograd.grad(loss, list(module.parameters())), strict=True):
                p.data -= RATE * g
        for p, g in zip(parameters, gradients, strict=True):
            p.data -= 0 if g is None else RATE * g
        state = h
    return losses


@pytest.mark.parametrize("rule", ["truncated", "synthetic-gradient"])
def test_updates_after_each_window_equal_those_by_hand(rule: str) -> None:
    one, config = learner(rule)
    plain, optimizer = copy.deepcopy(one), build_optimizer(one, config)
    for _ in range(3):
        optimizer.zero_grad()

        def update() -> None:
            optimizer.step()
            optimizer.zero_grad()

        loss, logits, _ = update_after_windows(one.network, one.placed(), X, Y, update)
        optimizer.step()
        expected = sum(by_hand(plain, rule != "truncated"))
        torch.testing.assert_close(loss, torch.as_tensor(expected), rtol=0, atol=1e-12)
    assert logits.shape == (N, 4, 8)
    for (name, ours), theirs in zip(one.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("rule", ["truncated", "synthetic-gradient"])
def test_an_online_training_resumes_bit_for_bit_and_diagnoses_change_nothing(rule: str) -> None:
    data = torch.from_numpy(TASK.X), torch.from_numpy(TASK.learned)
    whole, config = learner(rule)
    whole = whole.float()
    list(train(whole, build_optimizer(whole, config), *data, config))
    half = learner(rule)[0].float()
    optimizer = build_optimizer(half, config)
    steps = list(itertools.islice(train(half, optimizer, *data, config, diagnosed=(2,)), 3))
    assert list(steps[1].diagnoses) == [3, 6]
    list(train(half, optimizer, *data, config, start=3))
    for ours, theirs in zip(whole.parameters(), half.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_updates_after_each_window_clip_each_of_them() -> None:
    data = torch.from_numpy(TASK.X), torch.from_numpy(TASK.learned)
    moved = {}
    for clip in (None, 1e-6):
        one, config = learner("truncated")
        config = TrainingConfig.from_dict(config.to_dict() | {"clip_norm": clip, "epochs": 1})
        one = one.float()
        before = one.network.output.bias.detach().clone()
        list(train(one, build_optimizer(one, config), *data, config))
        moved[clip] = float((one.network.output.bias.detach() - before).norm())
    assert moved[1e-6] <= 3 * 3 * RATE * 1e-6 < moved[None]


def test_networks_that_are_updated_after_each_window_are_trained_one_by_one() -> None:
    pairs = [learner("truncated", seed) for seed in (0, 1)]
    learners, configs = [one.float() for one, _ in pairs], [config for _, config in pairs]
    optimizers = [build_optimizer(*pair) for pair in zip(learners, configs, strict=True)]
    data = [(torch.from_numpy(TASK.X), torch.from_numpy(TASK.learned))] * 2
    assert train_replicas(learners, optimizers, data, configs).choice.how == "loop"
    with pytest.raises(ValueError, match="cannot be trained together: their parameters are updated after each window"):
        train_replicas(learners, optimizers, data, configs, how="stacked")


def test_without_a_loss_of_later_windows_the_module_learns_towards_zero() -> None:
    config = TrainingConfig(network="rnn", width=3, window=2, updates="window", rule="synthetic-gradient")
    one = build_learner(config, (6, 2), 2, scored=(1,)).double()
    _, _, losses = update_after_windows(one.network, one.placed(), randn(4, 12), Y[:4, :1] % 2, lambda: None)
    assert losses == {2: torch.zeros(()).double()}


def test_an_online_training_is_diagnosed_before_the_first_window_is_updated() -> None:
    data = torch.from_numpy(TASK.X), torch.from_numpy(TASK.learned)
    one, config = learner("synthetic-gradient")
    one.placed()[3,].layers[0].weight.data.copy_(randn(6, 6))
    one = one.float()
    (batch, *_), before = batches(len(TASK.y), config, 0), copy.deepcopy(one).train()
    step = next(train(one, build_optimizer(one, config), *data, config, diagnosed=(1,), diagnosis_batches=2))
    drawn = [(data[0][rows], data[1][rows]) for rows in diagnosis_rows(len(TASK.y), config, 1, 2)]
    spread = gradient_bias_variance(before, drawn)
    rows = data[0][batch.rows], data[1][batch.rows]
    true = true_step(before, *rows)
    found = diagnose_step(before, before.compute_gradients(*rows, watch=True), true)
    assert list(step.diagnoses) == [3, 6]
    for t, (expected,) in found.items():
        assert step.diagnoses[t] == expected.with_spread(spread[t])
