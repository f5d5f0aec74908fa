import copy
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import (
    Diverged,
    Learner,
    Step,
    TrainingConfig,
    build_learner,
    build_optimizer,
    count_steps,
    evaluate,
    gradient_bias_variance,
    load_dataset,
    mlp,
    split_dataset,
    train,
    true_gradients,
)
from repsim.learning.training import diagnosis_rows
from tests.repsim.small_chains import RULES_OF_CHAINS, assert_same_bits

N, FEATURES, CLASSES = 70, 6, 3
BATCH, EPOCHS = 16, 3  # 4 whole batches an epoch, 6 examples left out of each
N_STEPS = 12
SG = "synthetic-gradient:hidden_layers=1"
RULES = [
    *RULES_OF_CHAINS,
    SG,
    "sign-symmetric:magnitude=resampled",
    "noise:observe=true",
    f"{SG},observe=true@1,2 + target-propagation:observe=true@3",
    "noise@1 + target-propagation@2 + sign-symmetric:magnitude=resampled@3",
    "synthetic-gradient@1,2 + synthetic-input@2 + synthetic-input:hidden_layers=1,label_conditioned=true@3",
]


@pytest.fixture(scope="module")
def examples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(N, FEATURES, generator=generator)
    return X, X[:, :CLASSES].argmax(dim=1)


def config(**settings: Any) -> TrainingConfig:
    small = {"depth": 3, "width": 8, "rule": SG, "epochs": EPOCHS, "batch_size": BATCH}
    return TrainingConfig.from_dict(small | {"learning_rate": 0.01} | settings)


def start(settings: TrainingConfig, shape: int | tuple[int, ...] = FEATURES) -> tuple[Learner, torch.optim.Optimizer]:
    learner = build_learner(settings, shape, CLASSES)
    return learner, build_optimizer(learner, settings)


def spoil(learner: Learner) -> None:
    """Change all that a state_dict holds."""
    for value in learner.state_dict().values():
        value.add_(1)


def steps_of(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    examples: tuple[Tensor, Tensor],
    settings: TrainingConfig,
    **keywords: Any,
) -> Iterator[Step]:
    return train(learner, optimizer, *examples, settings, **keywords)


# The records


def test_train_yields_one_record_per_update_computed_before_it(examples: tuple[Tensor, Tensor]) -> None:
    learner, optimizer = start(config())
    batches: list[Tensor] = []
    learner.network.hidden["1"].register_forward_pre_hook(lambda module, args: batches.append(args[0]))
    before = build_learner(config(), FEATURES, CLASSES).network
    count = 0
    for count, step in enumerate(steps_of(learner, optimizer, examples, config()), start=1):
        X = batches[-1]
        logits, y = before(X), X[:, :CLASSES].argmax(dim=1)
        assert (step.step, step.epoch) == (count, 1 + (count - 1) // 4)
        assert step.loss == pytest.approx(F.cross_entropy(logits, y).item(), abs=1e-6)
        assert step.accuracy == pytest.approx((logits.argmax(dim=1) == y).double().mean().item())
        assert list(step.estimator_losses) == [1]
        assert all(type(value) is float for value in (step.loss, step.accuracy, *step.estimator_losses.values()))
        before.load_state_dict(learner.network.state_dict())
    assert count == N_STEPS == len(batches)


def test_records_are_json_ready_numbers(examples: tuple[Tensor, Tensor]) -> None:
    step = next(steps_of(*start(config()), examples, config()))
    assert list(asdict(step)) == [
        "step",
        "epoch",
        "loss",
        "accuracy",
        "estimator_losses",
        "diagnoses",
        "input_losses",
        "line_search",
    ]
    assert 0 <= step.accuracy <= 1


def test_backprop_has_no_estimator_losses(examples: tuple[Tensor, Tensor]) -> None:
    settings = config(rule="backprop")
    assert next(steps_of(*start(settings), examples, settings)).estimator_losses == {}


def test_each_epoch_shows_each_example_at_most_once_in_another_order_and_fills_every_batch() -> None:
    X, y = torch.arange(float(N)).unsqueeze(1), torch.arange(N) % CLASSES
    settings = config(norm="none", learning_rate=1e-9)
    learner = build_learner(settings, 1, CLASSES)
    seen: list[Tensor] = []
    learner.network.hidden["1"].register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten()))
    for _ in steps_of(learner, build_optimizer(learner, settings), (X, y), settings):
        pass
    assert [len(batch) for batch in seen] == [BATCH] * N_STEPS
    epochs = [torch.cat(seen[i : i + 4]) for i in range(0, N_STEPS, 4)]
    assert all(len(epoch.unique()) == 4 * BATCH for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    left_out = [set(X.flatten().tolist()) - set(epoch.tolist()) for epoch in epochs]
    assert left_out[0] != left_out[1]  # not the same examples every time


def test_no_epochs_means_no_updates(examples: tuple[Tensor, Tensor]) -> None:
    assert list(steps_of(*start(config()), examples, config(epochs=0))) == []


@pytest.mark.parametrize(("n", "batch_size", "epochs", "steps"), [(70, 16, 3, 12), (64, 64, 2, 2), (9, 2, 0, 0)])
def test_count_steps_counts_whole_batches(n: int, batch_size: int, epochs: int, steps: int) -> None:
    assert count_steps(n, config(batch_size=batch_size, epochs=epochs)) == steps


def test_a_batch_larger_than_the_data_is_refused(examples: tuple[Tensor, Tensor]) -> None:
    message = r"^batch_size is 71 but there are only 70 training examples; use a smaller batch_size\.$"
    with pytest.raises(ValueError, match=message):
        count_steps(N, config(batch_size=N + 1))
    with pytest.raises(ValueError, match=message):
        next(steps_of(*start(config()), examples, config(batch_size=71)))


# The same run again


@pytest.mark.parametrize("rule", ["backprop", SG])
def test_equal_seeds_give_equal_bits_and_other_seeds_others(rule: str, examples: tuple[Tensor, Tensor]) -> None:
    runs = []
    for seed in (0, 0, 1):
        torch.rand(seed + len(runs))  # the global generator has no say
        settings = config(rule=rule, epochs=8, seed=seed)
        learner, optimizer = start(settings)
        runs.append((learner, list(islice(steps_of(learner, optimizer, examples, settings), 30))))
    (one, steps), (same, same_steps), (other, other_steps) = runs
    assert len(steps) == 30
    assert steps == same_steps
    assert_same_bits(one.state_dict(), same.state_dict())
    assert steps != other_steps
    differing = [name for name, p in one.named_parameters() if not torch.equal(p, other.get_parameter(name))]
    assert len(differing) == len(list(one.parameters()))


def test_the_order_of_examples_depends_on_the_seed(examples: tuple[Tensor, Tensor]) -> None:
    first, other = (next(steps_of(*start(config()), examples, config(seed=seed))) for seed in (0, 1))
    assert first.loss != other.loss


def test_training_can_be_stopped_after_any_update(examples: tuple[Tensor, Tensor]) -> None:
    learner, optimizer = start(config())
    steps = steps_of(learner, optimizer, examples, config())
    assert all(not state for state in optimizer.state.values())  # nothing happens before it is asked for
    assert [step.step for step in islice(steps, 5)] == [1, 2, 3, 4, 5]
    steps.close()
    assert {int(state["step"]) for state in optimizer.state.values()} == {5}


@pytest.mark.parametrize("rule", RULES)
def test_a_run_resumed_at_any_step_is_the_uninterrupted_run_bit_for_bit(
    rule: str, examples: tuple[Tensor, Tensor]
) -> None:
    settings = config(rule=rule, schedule="cosine", estimator_learning_rate=0.003)
    whole, optimizer = start(settings)
    states = [copy.deepcopy((whole.state_dict(), optimizer.state_dict()))]
    records = []
    for step in steps_of(whole, optimizer, examples, settings):
        records.append(step)
        states.append(copy.deepcopy((whole.state_dict(), optimizer.state_dict())))

    for done, (weights, moments) in enumerate(states):
        resumed, resumed_optimizer = start(settings)
        spoil(resumed)
        resumed.load_state_dict(weights)
        resumed_optimizer.load_state_dict(moments)
        assert list(steps_of(resumed, resumed_optimizer, examples, settings, start=done)) == records[done:]
        assert_same_bits(resumed.state_dict(), whole.state_dict())


@pytest.mark.parametrize(
    ("rule", "network"),
    [
        (rule, network)
        for rule, network in itertools.product(RULES, ["conv", "residual", "transformer"])
        if (rule, network) != ("pepita", "transformer")  # which is refused
    ],
)
def test_a_run_of_maps_resumed_half_way_is_the_uninterrupted_run_bit_for_bit(rule: str, network: str) -> None:
    images = torch.randn(N, 64, generator=torch.Generator().manual_seed(0)), torch.arange(N) % CLASSES
    settings = config(rule=rule, network=network, width=4, epochs=1)
    whole, optimizer = start(settings, (1, 8, 8))
    steps = steps_of(whole, optimizer, images, settings)
    next(steps), next(steps)
    weights, moments = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    rest = list(steps)
    resumed, resumed_optimizer = start(settings, (1, 8, 8))
    spoil(resumed)
    resumed.load_state_dict(weights)
    resumed_optimizer.load_state_dict(moments)
    assert list(steps_of(resumed, resumed_optimizer, images, settings, start=2)) == rest
    assert len(rest) == 2
    assert_same_bits(resumed.state_dict(), whole.state_dict())


def test_resuming_at_the_wrong_step_gives_another_run(examples: tuple[Tensor, Tensor]) -> None:
    ends = []
    for first in (0, 1):
        learner, optimizer = start(config())
        list(islice(steps_of(learner, optimizer, examples, config(), start=first), 5))
        ends.append(learner.network.output.weight.detach())
    assert not torch.equal(*ends)


# Diagnoses


@pytest.mark.parametrize("rule", RULES)
def test_diagnosis_does_not_change_the_run(rule: str, examples: tuple[Tensor, Tensor]) -> None:
    settings = config(rule=rule)
    (quiet, quiet_optimizer), (watched, watched_optimizer) = start(settings), start(settings)
    plain = list(steps_of(quiet, quiet_optimizer, examples, settings))
    seen = list(steps_of(watched, watched_optimizer, examples, settings, diagnosed={1, 4, 99}, diagnosis_batches=2))
    assert_same_bits(quiet.state_dict(), watched.state_dict())
    assert [step.step for step in seen if step.diagnoses] == [1, 4]
    assert all(list(seen[i].diagnoses) == [1, 2, 3] for i in (0, 3))
    assert [replace(step, diagnoses={}) for step in seen] == plain


def test_diagnoses_compare_what_was_chosen_before_the_update_with_what_is_true(
    examples: tuple[Tensor, Tensor],
) -> None:
    settings = config(rule="direct-feedback-alignment@2")
    learner, optimizer = start(settings)
    batches: list[Tensor] = []
    learner.network.hidden["1"].register_forward_pre_hook(lambda module, args: batches.append(args[0]))
    before = copy.deepcopy(learner)
    step = next(steps_of(learner, optimizer, examples, settings, diagnosed=[1]))
    X = batches[-1]
    y = X[:, :CLASSES].argmax(dim=1)
    true = true_gradients(before.network, X, y)
    chosen = before.compute_gradients(X, y, watch=True).gradients
    for k, found in step.diagnoses.items():
        g, t = chosen[k].double(), true[k].double()
        assert found.cosine == pytest.approx(F.cosine_similarity(g.flatten(), t.flatten(), dim=0).item(), rel=1e-6)
        assert found.relative_error == pytest.approx(((g - t).norm() / t.norm()).item(), abs=1e-6)
        assert found.norm == pytest.approx((g.square().sum() / BATCH).sqrt().item(), rel=1e-6)
    assert step.diagnoses[3].cosine == pytest.approx(1.0)
    assert abs(step.diagnoses[2].cosine) < 0.9


def test_the_diagnosis_of_a_rule_that_is_observed_is_that_of_its_proposal(examples: tuple[Tensor, Tensor]) -> None:
    settings = config(rule="direct-feedback-alignment:observe=true@2")
    step = next(steps_of(*start(settings), examples, settings, diagnosed=[1]))
    used = config(rule="direct-feedback-alignment@2")
    expected = next(steps_of(*start(used), examples, used, diagnosed=[1])).diagnoses[2]
    assert step.diagnoses[2] == replace(expected, update_cosine=step.diagnoses[2].update_cosine)
    assert step.diagnoses[2].update_cosine == pytest.approx(1.0)  # of the network, which uses backprop
    assert expected.update_cosine < 0.9
    assert step.diagnoses[1].cosine == pytest.approx(1.0)


def test_bias_and_variance_are_those_of_the_learner_before_the_update(examples: tuple[Tensor, Tensor]) -> None:
    settings, (X, y) = config(rule="direct-feedback-alignment@2"), examples
    learner, optimizer = start(settings)
    before = copy.deepcopy(learner)
    step = next(steps_of(learner, optimizer, examples, settings, diagnosed=[1], diagnosis_batches=3))
    rows = list(diagnosis_rows(len(y), settings, 1, 3))
    assert [len(set(each.tolist())) for each in rows] == [BATCH] * 3
    assert not torch.equal(rows[0], rows[1])
    for k, found in gradient_bias_variance(before, [(X[each], y[each]) for each in rows]).items():
        own = step.diagnoses[k]
        size = found.true_norm**2
        expected = (found.squared_bias / size, found.variance / size, found.true_variance / size)
        assert (own.squared_bias, own.variance, own.true_variance) == pytest.approx(expected)
    assert step.diagnoses[2].squared_bias > 0.1
    assert abs(step.diagnoses[3].squared_bias) < 1e-10


# Rates


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_both_learning_rates_follow_the_schedule(schedule: str, examples: tuple[Tensor, Tensor]) -> None:
    settings = config(schedule=schedule, learning_rate=0.02, estimator_learning_rate=0.005)
    learner, optimizer = start(settings)
    for step in steps_of(learner, optimizer, examples, settings):
        factor = 1.0 if schedule == "constant" else math.cos(math.pi / 2 * (step.step - 1) / N_STEPS) ** 2
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02 * factor, 0.005 * factor])


def test_cosine_schedule_is_at_half_the_rate_half_way(examples: tuple[Tensor, Tensor]) -> None:
    """Golden: 1, cos²(π/8) = (2 + √2) / 4, 1/2 and (2 - √2) / 4 at the quarters of the run."""
    settings = config(schedule="cosine", learning_rate=1.0)
    learner, optimizer = start(settings)
    rates = [optimizer.param_groups[0]["lr"] for _ in steps_of(learner, optimizer, examples, settings)]
    assert rates[::3] == pytest.approx([1.0, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4])


@pytest.mark.parametrize(("still", "moving"), [("learning_rate", "estimators"), ("estimator_learning_rate", "network")])
def test_network_and_estimators_have_separate_learning_rates(
    still: str, moving: str, examples: tuple[Tensor, Tensor]
) -> None:
    settings = config(**{"learning_rate": 0.01, "estimator_learning_rate": 0.01, still: 1e-30})
    learner, optimizer = start(settings)
    before = copy.deepcopy(learner)
    list(steps_of(learner, optimizer, examples, settings))
    for name, parameter in learner.named_parameters():
        # a module that stays at zero gives the segments below it no gradient
        starved = moving == "network" and name.startswith("network.hidden.1")
        distance = (parameter - before.get_parameter(name)).abs().max().item()
        assert (distance > 1e-3) is (name.startswith(moving) and not starved), name


# Divergence


def assert_diverges_without_an_update(
    learner: Learner, optimizer: torch.optim.Optimizer, examples: tuple[Tensor, Tensor], first: int = 0
) -> Diverged:
    """Return the error, having seen that parameters stayed finite until it and did not move at its step."""
    done, before = first, copy.deepcopy(dict(learner.named_parameters()))
    with pytest.raises(Diverged) as caught:
        for step in steps_of(learner, optimizer, examples, config(), start=first):
            done, before = step.step, copy.deepcopy(dict(learner.named_parameters()))
            assert math.isfinite(step.loss)
    assert caught.value.step == done + 1
    for name, parameter in learner.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0, equal_nan=True)
    return caught.value


def test_a_huge_learning_rate_raises_diverged_with_its_step(examples: tuple[Tensor, Tensor]) -> None:
    error = assert_diverges_without_an_update(*start(config(norm="none", learning_rate=1e30)), examples)
    assert error.step == 2
    message = r"Training diverged: the loss is (nan|inf) at step 2\. Try a lower learning rate\."
    with pytest.raises(ArithmeticError, match=message):
        raise error


@pytest.mark.parametrize("first", [0, 7])
def test_weights_that_are_not_numbers_raise_diverged_at_once(first: int, examples: tuple[Tensor, Tensor]) -> None:
    learner, optimizer = start(config())
    with torch.no_grad():
        learner.network.output.weight[0, 0] = math.nan
    error = assert_diverges_without_an_update(learner, optimizer, examples, first)
    assert str(error).startswith(f"Training diverged: the loss is nan at step {first + 1}.")


def test_an_estimator_that_diverges_is_caught_before_it_spoils_the_weights(examples: tuple[Tensor, Tensor]) -> None:
    learner, optimizer = start(config(norm="none", rule="synthetic-gradient", estimator_learning_rate=1e25))
    error = assert_diverges_without_an_update(learner, optimizer, examples)
    assert str(error).startswith("Training diverged: the loss of the estimator at boundary 1 is inf at step 2.")
    assert all(parameter.isfinite().all() for parameter in learner.parameters())


# Evaluation


@pytest.mark.parametrize("batch_size", [1, 16, 4096])
def test_evaluate_equals_a_plain_computation_in_evaluation_mode(
    batch_size: int, examples: tuple[Tensor, Tensor]
) -> None:
    learner, optimizer = start(config())
    list(steps_of(learner, optimizer, examples, config()))  # batch-norm statistics that are not the initial ones
    X, y = examples
    result = evaluate(learner.network, X, y, batch_size=batch_size)
    logits = learner.eval()(X)
    assert result.loss == pytest.approx(-logits.log_softmax(1)[torch.arange(N), y].mean().item(), rel=1e-5)
    assert result.accuracy == pytest.approx(sum(map(int, logits.argmax(dim=1) == y)) / N)


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_restores_the_mode_and_changes_nothing(training: bool, examples: tuple[Tensor, Tensor]) -> None:
    learner, _ = start(config())
    learner.train(training)
    before = copy.deepcopy(learner)
    evaluate(learner.network, *examples)
    assert Counter(module.training for module in learner.modules()).keys() == {training}
    assert_same_bits(learner.state_dict(), before.state_dict())
    with pytest.raises(RuntimeError, match="shapes"):
        evaluate(learner.network, examples[0][:, 1:], examples[1])
    assert learner.network.training is training


def test_evaluating_between_updates_does_not_change_the_run(examples: tuple[Tensor, Tensor]) -> None:
    (quiet, quiet_optimizer), (watched, watched_optimizer) = start(config()), start(config())
    list(steps_of(quiet, quiet_optimizer, examples, config()))
    for _ in steps_of(watched, watched_optimizer, examples, config()):
        evaluate(watched.network, *examples)
    assert_same_bits(quiet.state_dict(), watched.state_dict())


def test_evaluation_of_a_network_that_predicts_one_class() -> None:
    """Golden: uniform logits cost ln 3 nats; a third of balanced labels is right."""
    network = mlp(2, 3, depth=1, width=4, norm="none", generator=torch.Generator())
    nn.init.zeros_(network.output.weight)
    result = evaluate(network, torch.ones(30, 2), torch.arange(30) % 3)
    assert (result.loss, result.accuracy) == pytest.approx((1.0986123, 1 / 3))


# It learns


def digits_accuracy(**settings: Any) -> float:
    """Return the test accuracy of a narrow network after six epochs."""
    digits = load_dataset("digits")
    split = split_dataset(digits, seed=0)
    X, y = torch.from_numpy(digits.X), torch.from_numpy(digits.y)
    chosen = config(
        depth=4, width=16, boundaries="3", epochs=6, batch_size=32, **({"rule": "synthetic-gradient"} | settings)
    )
    learner = build_learner(chosen, 64, 10)
    for _ in steps_of(learner, build_optimizer(learner, chosen), (X[split["train"]], y[split["train"]]), chosen):
        pass
    return evaluate(learner.network, X[split["test"]], y[split["test"]]).accuracy


def test_digits_are_learned_by_backprop_and_by_synthetic_gradients_that_learn() -> None:
    assert digits_accuracy(rule="backprop") > 0.92
    assert digits_accuracy(estimator_learning_rate=1e-3) > 0.85
    assert digits_accuracy(estimator_learning_rate=1e-30) < 0.7  # three layers below the boundary stay random
