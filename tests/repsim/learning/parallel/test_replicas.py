import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from repsim.learning import (
    Choice,
    Diagnosis,
    Diverged,
    Learner,
    Replicas,
    ReplicaTraining,
    Step,
    TrainingConfig,
    build_learner,
    build_optimizer,
    train,
    train_replicas,
)
from repsim.learning.parallel import replica_choice
from repsim.learning.parallel.training_memory import Footprint
from repsim.learning.training import batches
from tests.repsim.small_chains import RULES_OF_CHAINS, assert_same_bits

R, N, BATCH, CLASSES = 3, 40, 8, 3  # 5 updates an epoch
STEPS = 20
SHAPES: dict[str, Any] = {"mlp": 6, "conv": (1, 8, 8), "residual": (1, 8, 8)}
SIGNS = "sign-symmetric:magnitude=resampled"
MIXED = f"synthetic-gradient:hidden_layers=1@1 + {SIGNS}@2 + direct-feedback-alignment@3"
UNLOCKED = "synthetic-gradient@1,2 + synthetic-input@1 + synthetic-input:hidden_layers=1,label_conditioned=true@2"
WATCHED = "synthetic-gradient:observe=true@1,2 + target-propagation:observe=true@3"
CASES: list[tuple[str, dict[str, Any]]] = [
    *[("mlp", {"rule": rule, "boundaries": "all"}) for rule in RULES_OF_CHAINS],
    *[(net, {"rule": rule, "depth": 2}) for net in ("conv", "residual") for rule in ("backprop", SIGNS)],
    ("conv", {"rule": "synthetic-gradient", "boundaries": "all", "depth": 2}),
    ("conv", {"rule": "decoupled-greedy@1 + target-propagation@2", "depth": 2}),
    ("residual", {"rule": "direct-feedback-alignment@1 + feedback-alignment@2", "depth": 2}),
    ("mlp", {"rule": SIGNS}),
    ("mlp", {"rule": MIXED}),
    ("mlp", {"rule": WATCHED}),
    ("mlp", {"rule": UNLOCKED}),
    ("conv", {"rule": "synthetic-gradient@1 + synthetic-input@1", "depth": 2}),
    ("mlp", {"rule": "noise:observe=true + target-propagation@1"}),
    ("mlp", {"rule": "synthetic-gradient:label_conditioned=false,hidden_layers=1", "boundaries": "all"}),
    ("mlp", {"norm": "layer", "loss": "mse", "schedule": "cosine", "rule": "bp-lambda"}),
    ("mlp", {"optimizer": "momentum", "learning_rate": 1e-3, "rule": "adaptive-skipped-backprop"}),
    ("mlp", {"optimizer": "sgd", "norm": "none", "activation": "tanh"}),
]


class Trio:
    """Learners that differ in their seeds, with optimizers and data of their own."""

    def __init__(
        self,
        network: str = "mlp",
        *,
        dtype: torch.dtype = torch.float64,
        together: bool = True,
        n: int = R,
        device: str = "cpu",
        eps: float = 1e-8,
        **settings: Any,
    ) -> None:
        small = {"depth": 3, "width": 5, "learning_rate": 1e-3, "estimator_learning_rate": 1e-3, "batch_size": BATCH}
        small["network"] = network
        self.configs = [TrainingConfig.from_dict(small | settings | {"seed": seed}) for seed in range(n)]
        built = [build_learner(config, SHAPES[network], CLASSES, together=together) for config in self.configs]
        self.learners = [learner.to(device, dtype) for learner in built]
        self.optimizers = [build_optimizer(*pair) for pair in zip(self.learners, self.configs, strict=True)]
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group |= {"eps": eps} if "eps" in group else {}
        self.data = [examples(seed, SHAPES[network], dtype, device) for seed in range(n)]

    def train(self, how: str = "stacked", *, steps: int = STEPS, **keywords: Any) -> ReplicaTraining:
        configs = [replace(config, epochs=epochs(steps)) for config in self.configs]
        return train_replicas(self.learners, self.optimizers, self.data, configs, how=how, **keywords)

    def train_alone(self, i: int, *, steps: int = STEPS, **keywords: Any) -> Iterator[Step]:
        config = replace(self.configs[i], epochs=epochs(steps))
        return train(self.learners[i], self.optimizers[i], *self.data[i], config, **keywords)

    def states(self) -> list[dict[str, Tensor]]:
        """Return copies of all weights, buffers, what estimators hold, and what the optimizers remember, by name."""
        return [self.state(i) for i in range(len(self.learners))]

    def state(self, i: int) -> dict[str, Tensor]:
        moments = {
            f"{number}.{name}": value if isinstance(value, Tensor) else torch.tensor(float(value))
            for number, state in self.optimizers[i].state_dict()["state"].items()
            for name, value in state.items()
            if value is not None
        }
        return copy.deepcopy(self.learners[i].state_dict() | moments)


def examples(seed: int, shape: int | tuple[int, ...], dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(N, math.prod(shape) if isinstance(shape, tuple) else shape, generator=generator, dtype=dtype)
    y = (X @ torch.randn(X.shape[1], CLASSES, generator=generator, dtype=dtype)).argmax(dim=1)
    return X.to(device), y.to(device)


def epochs(steps: int) -> int:
    assert steps % (N // BATCH) == 0
    return steps // (N // BATCH)


def distance(ours: dict[str, Tensor], theirs: dict[str, Tensor], keys: Sequence[str] | None = None) -> float:
    """Return the norm of the difference over the norm, of all tensors as one vector."""
    assert ours.keys() == theirs.keys()
    flat = [torch.cat([state[k].detach().double().flatten() for k in keys or theirs]) for state in (ours, theirs)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


def assert_close_states(ours: Trio, theirs: Trio, tolerance: float) -> None:
    """Compare what is learned, what else is held, and moments, each as one vector."""
    for i, (own, alone) in enumerate(zip(ours.states(), theirs.states(), strict=True)):
        learned = {name for name, _ in theirs.learners[i].named_parameters()}
        held = set(theirs.learners[i].state_dict())
        updates = {name for name in alone if name.endswith("step")}
        assert_same_bits({name: own[name] for name in updates}, {name: alone[name] for name in updates})
        moments = set(alone) - held - updates  # as small as gradients are, and so relatively less exact than weights
        for kind, allowed in ((learned, tolerance), (held - learned, tolerance), (moments, 10 * tolerance)):
            if any(alone[name].count_nonzero() for name in kind):
                assert distance(own, alone, sorted(kind)) <= allowed


def assert_close_steps(ours: Sequence[Step | Diverged], theirs: Sequence[Step], tolerance: float) -> None:
    for own, alone in zip(ours, theirs, strict=True):
        assert isinstance(own, Step)
        assert (own.step, own.epoch) == (alone.step, alone.epoch)
        assert own.loss == pytest.approx(alone.loss, rel=tolerance)
        assert own.estimator_losses == pytest.approx(alone.estimator_losses, rel=tolerance, abs=tolerance)
        assert own.input_losses == pytest.approx(alone.input_losses, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize(("network", "settings"), CASES, ids=str)
def test_a_replica_is_its_single_run(network: str, settings: dict[str, Any]):
    check_a_replica_is_its_single_run(1e-10, network, **settings)


@pytest.mark.parametrize("rule", RULES_OF_CHAINS)
@pytest.mark.parametrize("network", ["conv", "residual"])
def test_a_replica_of_maps_is_its_single_run_under_every_rule(network: str, rule: str):
    check_a_replica_is_its_single_run(1e-10, network, rule=rule, boundaries="all", depth=2)


@pytest.mark.parametrize(("network", "settings"), CASES, ids=str)
def test_a_replica_is_its_single_run_in_single_precision(network: str, settings: dict[str, Any]):
    # Adam makes full steps of gradients that are nothing but rounding (of units that are dead, or carry no error) where
    # these are larger than its eps, so in single precision 1e-8 would measure Adam rather than the stack.
    check_a_replica_is_its_single_run(1e-5, network, dtype=torch.float32, eps=1e-3, **settings)


@pytest.mark.parametrize("rule", ["backprop", "feedback-alignment", "direct-feedback-alignment", "decoupled-greedy"])
def test_a_replica_is_its_single_run_in_single_precision_with_the_usual_eps(rule: str):
    check_a_replica_is_its_single_run(1e-5, "mlp", dtype=torch.float32, rule=rule, boundaries="all")


@pytest.mark.parametrize("rule", ["synthetic-gradient", "noise", "decoupled-greedy", MIXED])
def test_a_replica_is_its_single_run_also_with_estimators_that_are_not_stacked(rule: str):
    places = {} if rule == MIXED else {"boundaries": "inner"}
    check_a_replica_is_its_single_run(1e-10, "mlp", together=False, rule=rule, **places)


def check_a_replica_is_its_single_run(tolerance: float, network: str, **settings: Any) -> None:
    stacked, alone = (Trio(network, **settings) for _ in range(2))
    before = alone.states()
    seen = list(stacked.train())
    single = [list(alone.train_alone(i)) for i in range(R)]
    assert len(seen) == STEPS
    for i in range(R):
        assert_close_steps([each[i] for each in seen], single[i], 100 * tolerance)
        learned = [name for name, _ in alone.learners[i].named_parameters()]
        after = alone.state(i)
        assert distance({name: after[name] for name in learned}, {name: before[i][name] for name in learned}) > 1e-4
    assert_close_states(stacked, alone, tolerance)


@pytest.mark.parametrize("rule", ["synthetic-gradient@1,2,3", UNLOCKED, "feedback-alignment + synthetic-input@2"])
def test_diagnoses_of_a_replica_are_those_of_its_single_run(rule: str):
    stacked, alone, plain = (Trio(rule=rule) for _ in range(3))
    chosen: dict[str, Any] = {"diagnosed": {2, 9}, "diagnosis_batches": 3}
    seen = list(stacked.train(steps=10, **chosen))
    for i in range(R):
        for step, own in zip(alone.train_alone(i, steps=10, **chosen), seen, strict=True):
            ours = own[i]
            assert isinstance(ours, Step)
            assert list(ours.diagnoses) == list(step.diagnoses) == ([1, 2, 3] if step.step in (2, 9) else [])
            for k, diagnosis in step.diagnoses.items():
                assert diagnosis.variance is not None
                assert (diagnosis.weight_angle is not None) is rule.startswith("feedback")
                assert (diagnosis.input_error is not None) is (k in alone.learners[i].placed_inputs())
                assert _known(ours.diagnoses[k]) == pytest.approx(_known(diagnosis), rel=1e-9, abs=1e-9, nan_ok=True)
    list(plain.train(steps=10))
    for diagnosed, undisturbed in zip(stacked.states(), plain.states(), strict=True):
        assert_same_bits(diagnosed, undisturbed)


def _known(diagnosis: Diagnosis) -> dict[str, float]:
    return {name: value for name, value in vars(diagnosis).items() if value is not None}


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize("rule", [MIXED, WATCHED, "noise"])
def test_stopping_saving_and_resuming_changes_nothing(rule: str, optimizer: str):
    settings = {"rule": rule, "optimizer": optimizer, "schedule": "cosine"}
    whole, first, second = (Trio(**settings) for _ in range(3))
    list(whole.train(steps=20))
    training = first.train(steps=20)
    for _ in range(7):  # in the middle of an epoch
        next(training)
    training.write_back()
    for old, new in zip(first.learners, second.learners, strict=True):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    for old, new in zip(first.optimizers, second.optimizers, strict=True):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    seen = list(second.train(steps=20, start=7))
    assert [each[0].step for each in seen] == list(range(8, 21))
    for uninterrupted, resumed in zip(whole.states(), second.states(), strict=True):
        assert_same_bits(resumed, uninterrupted)


def test_a_run_can_be_continued_alone_and_a_single_run_in_a_stack():
    stacked, alone = Trio(rule=MIXED), Trio(rule=MIXED)
    training = stacked.train(steps=20)
    for _ in range(6):
        next(training)
    training.write_back()
    for i in range(R):
        list(stacked.train_alone(i, steps=20, start=6))
        for step in alone.train_alone(i, steps=20):
            if step.step == 6:
                break
    list(alone.train(steps=20, start=6))
    assert_close_states(stacked, alone, 1e-10)


def test_write_back_leaves_the_stack_as_it_is():
    disturbed, undisturbed = Trio(rule=MIXED), Trio(rule=MIXED)
    for _ in (training := disturbed.train(steps=10)):
        training.write_back()
        for learner in disturbed.learners:
            with torch.no_grad():
                next(learner.parameters()).zero_()
    list(undisturbed.train(steps=10))
    for own, other in zip(disturbed.states(), undisturbed.states(), strict=True):
        assert_same_bits(own, other)


def test_learners_change_at_write_back_only():
    trio = Trio()
    before = trio.states()
    training = trio.train(steps=10)
    next(training)
    for state, earlier in zip(trio.states(), before, strict=True):
        assert_same_bits(state, earlier)
    training.write_back()
    assert all(state["network.hidden.1.norm.num_batches_tracked"] == 1 for state in trio.states())


@pytest.mark.parametrize("rule", ["backprop", MIXED, "synthetic-gradient:hidden_layers=1@1,2"])
def test_a_replica_that_diverges_stops_where_its_single_run_would_and_the_others_go_on(rule: str):
    stacked, alone, others = Trio(rule=rule), Trio(rule=rule), Trio(rule=rule)
    for trio in (stacked, alone):
        poison(trio, 1)
    seen = list(stacked.train(steps=20))
    with pytest.raises(Diverged) as diverged:
        list(alone.train_alone(1, steps=20))
    lost = diverged.value.step
    assert 1 < lost < 20
    assert [isinstance(each[1], Diverged) for each in seen] == [step >= lost for step in range(1, 21)]
    assert seen[-1][1].step == lost
    assert str(seen[-1][1]) == str(diverged.value)
    own, single = stacked.state(1), alone.state(1)
    learned = [name for name, _ in alone.learners[1].named_parameters()]
    assert all(own[name].isfinite().all() for name in learned)
    assert distance({n: own[n] for n in learned}, {n: single[n] for n in learned}) <= 1e-10
    torch.testing.assert_close(own, single, rtol=0, atol=1e-8, equal_nan=True)  # running statistics have seen the NaN
    list(others.train(steps=20))
    for i in (0, 2):
        assert distance(stacked.state(i), others.state(i)) <= 1e-12


def test_the_mode_of_the_learners_does_not_matter_after_one_has_diverged():
    states = []
    for mode in (True, False):
        trio = Trio(rule="backprop")
        poison(trio, 1)
        for learner in trio.learners:
            learner.train(mode)
        list(trio.train(steps=20))
        states.append(trio.state(0))
    assert_same_bits(*states)


def poison(trio: Trio, i: int) -> None:
    """Make one example of a replica's data NaN, which it sees in its first epoch, but not at once."""
    X, _ = trio.data[i]
    fourth = next(batches(N, trio.configs[i], start=3))
    X[fourth.rows[0]] = math.nan


def test_training_ends_when_all_have_diverged():
    for how in ("stacked", "loop"):
        trio = Trio()
        for i in range(R):
            poison(trio, i)
        seen = list(trio.train(how, steps=20))
        assert len(seen) == 4
        assert all(isinstance(each, Diverged) and each.step == 4 for each in seen[-1])
        assert all(p.isfinite().all() for learner in trio.learners for p in learner.parameters())


@pytest.mark.parametrize("rule", [*RULES_OF_CHAINS, MIXED])
def test_a_loop_is_the_single_runs_bit_for_bit(rule: str):
    looped, alone = (Trio(rule=rule, dtype=torch.float32) for _ in range(2))
    poison(looped, 1)
    poison(alone, 1)
    seen = list(looped.train("loop", steps=10))
    for i in (0, 2):
        assert [each[i] for each in seen] == list(alone.train_alone(i, steps=10))
    with pytest.raises(Diverged):
        list(alone.train_alone(1, steps=10))
    for own, single in zip(looped.states(), alone.states(), strict=True):
        assert all(torch.equal(own[name].nan_to_num(), single[name].nan_to_num()) for name in single)


# How replicas are trained if nobody says how


@pytest.mark.parametrize("how", ["auto", "stacked", "loop"])
@pytest.mark.parametrize("rule", [MIXED, "noise", WATCHED])
def test_choosing_leaves_everything_as_it_was(rule: str, how: str):
    trio, random = Trio(rule=rule), torch.get_rng_state()
    list(trio.train(steps=5))  # so that optimizers have something to remember
    states, settings = trio.states(), [copy.deepcopy(one.state_dict()) for one in trio.optimizers]
    modes = [module.training for learner in trio.learners for module in learner.eval().modules()]
    data = copy.deepcopy(trio.data)
    trio.train(how, steps=10, start=5)
    for state, earlier in zip(trio.states(), states, strict=True):
        assert_same_bits(state, earlier)
    assert [one.state_dict()["param_groups"] for one in trio.optimizers] == [one["param_groups"] for one in settings]
    assert [module.training for learner in trio.learners for module in learner.modules()] == modes
    assert all(p.grad is None for learner in trio.learners for p in learner.parameters())
    assert all(
        torch.equal(a, b) for own, other in zip(trio.data, data, strict=True) for a, b in zip(own, other, strict=True)
    )
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(("stacked", "loop"), [(0.002, 0.003), (0.003, 0.002)])
def test_the_faster_way_is_chosen(stacked: float, loop: float, monkeypatch: pytest.MonkeyPatch):
    times = iter([loop, stacked])
    monkeypatch.setattr(replica_choice, "_seconds", lambda update: next(times))
    reason = f"batched: {1000 * stacked:g} ms per update; one by one: {1000 * loop:g} ms"
    assert Trio().train("auto").choice == Choice("stacked" if stacked < loop else "loop", reason, stacked, loop)


def test_the_choice_is_timed():
    choice = Trio().train("auto").choice
    assert choice.stacked_seconds is not None
    assert choice.loop_seconds is not None
    assert choice.stacked_seconds > 0
    assert choice.loop_seconds > 0
    assert choice.how == ("stacked" if choice.stacked_seconds < choice.loop_seconds else "loop")


@pytest.mark.parametrize("how", ["stacked", "loop"])
def test_the_requested_way_is_chosen(how: str):
    assert Trio().train(how).choice == Choice(how, "as requested")


def test_one_replica_is_trained_as_a_loop():
    assert Trio(n=1).train("auto").choice == Choice("loop", "there is one replica")


def test_learners_that_cannot_be_stacked_are_trained_as_a_loop():
    mixed, alone = (Trio(dtype=torch.float32) for _ in range(2))
    for trio in (mixed, alone):
        trio.learners[1] = build_learner(TrainingConfig(depth=3, width=4, seed=1), 6, CLASSES)
        trio.optimizers[1] = build_optimizer(trio.learners[1], TrainingConfig())
    with pytest.raises(ValueError, match="Only modules of the same type with equal shapes and settings"):
        mixed.train("stacked")
    training = mixed.train("auto", steps=5)
    assert training.choice.how == "loop"
    assert training.choice.reason.startswith("they cannot be trained together: ")
    assert training.choice.stacked_seconds is None
    list(training)
    for i in range(R):
        list(alone.train_alone(i, steps=5))
        assert_same_bits(mixed.state(i), alone.state(i))


# Memory


@pytest.fixture
def footprint(monkeypatch: pytest.MonkeyPatch) -> Footprint:
    """Learners that take 2.8 GB each; three take 11.4 GB as one, 6 GB one by one."""
    big = Footprint(weights=400_000_000, gradients=400_000_000, moments=1_000_000_000, batch=1_000_000_000)
    monkeypatch.setattr(replica_choice, "measure_footprint", lambda *_: big)
    return big


def limit(available: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_choice, "available_memory", lambda device: available)


SHORT = (
    "Training 3 replicas together needs about 11 GB of memory, and 9 GB is available. "
    "Use how='loop', fewer replicas or a smaller batch_size."
)
TOO_SHORT = (
    r"Training 3 replicas one by one needs about 5.2 GB of memory, and 5 GB is available. Use fewer replicas or a "
    r"smaller batch_size."
)


def test_a_stack_that_does_not_fit_is_refused(footprint: Footprint, monkeypatch: pytest.MonkeyPatch):
    limit(9_000_000_000, monkeypatch)
    with pytest.raises(ValueError, match=SHORT):
        Trio().train("stacked")
    assert Trio().train("loop").choice == Choice("loop", "as requested")


def test_where_a_stack_does_not_fit_a_loop_is_chosen(footprint: Footprint, monkeypatch: pytest.MonkeyPatch):
    limit(9_000_000_000, monkeypatch)
    assert Trio().train("auto").choice == Choice("loop", SHORT)


@pytest.mark.parametrize("how", ["auto", "loop"])
def test_training_is_refused_if_not_even_a_loop_fits(how: str, footprint: Footprint, monkeypatch: pytest.MonkeyPatch):
    limit(5_000_000_000, monkeypatch)
    with pytest.raises(ValueError, match=TOO_SHORT):
        Trio().train(how)


@pytest.mark.parametrize("available", [None, 12_000_000_000])
def test_unknown_or_sufficient_memory_refuses_nothing(
    available: int | None, footprint: Footprint, monkeypatch: pytest.MonkeyPatch
):
    limit(available, monkeypatch)
    for how in ("stacked", "loop"):
        assert Trio().train(how).choice.how == how


# What is refused


def test_numbers_that_do_not_match_are_refused():
    trio = Trio()
    with pytest.raises(ValueError, match="3 learners, 3 optimizers, 3 data sets and 2 configs; expected one of each"):
        train_replicas(trio.learners, trio.optimizers, trio.data, trio.configs[:2])
    with pytest.raises(ValueError, match="There are 0 learners, 0 optimizers, 0 data sets and 0 configs; expected one"):
        train_replicas([], [], [], [])


@pytest.mark.parametrize(("name", "other"), [("epochs", 7), ("batch_size", 4), ("schedule", "cosine")])
def test_configs_of_different_lengths_or_schedules_are_refused(name: str, other: object):
    trio = Trio(epochs=30)
    trio.configs[1] = replace(trio.configs[1], **{name: other})
    usual = getattr(trio.configs[0], name)
    with pytest.raises(ValueError, match=f"^The configs have {name} {usual}, {other} and {usual}; expected the same"):
        train_replicas(trio.learners, trio.optimizers, trio.data, trio.configs)


def test_data_of_different_sizes_are_refused():
    trio = Trio()
    trio.data[2] = tuple(each[:-1] for each in trio.data[2])
    with pytest.raises(ValueError, match="have 40, 40 and 39 training examples; expected the same number"):
        trio.train()


def test_a_batch_that_cannot_be_filled_is_refused():
    with pytest.raises(ValueError, match="batch_size is 41 but there are only 40 training examples"):
        Trio(batch_size=41).train()


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match=r"Unknown how 'vmap'\. Choose one of: auto, stacked, loop"):
        Trio().train("vmap")


def test_optimizers_of_different_settings_are_refused():
    trio = Trio()
    trio.optimizers[1].param_groups[0]["lr"] = 0.1
    with pytest.raises(ValueError, match="optimizers differ in type or settings"):
        trio.train()
    trio.optimizers[1] = torch.optim.SGD(trio.learners[1].parameters(), lr=1e-3)
    with pytest.raises(ValueError, match="optimizers differ in type or settings"):
        trio.train()


def test_optimizers_that_made_different_numbers_of_updates_are_refused():
    trio = Trio()
    list(trio.train(steps=5))
    list(trio.train_alone(2, steps=10, start=5))
    with pytest.raises(ValueError, match=r"optimizers differ in step: 5, 5 and 10; .* Use how='loop'\."):
        trio.train()


def test_replicas_have_a_length():
    trio = Trio()
    together = Replicas(trio.learners, trio.optimizers)
    assert len(together) == R
    assert isinstance(together.stacked, Learner)
    assert all(p.shape[0] == R for group in together.optimizer.param_groups for p in group["params"])


@pytest.mark.cuda
@pytest.mark.parametrize("rule", ["backprop", "synthetic-gradient", MIXED, "decoupled-greedy"])
def test_a_replica_is_its_single_run_on_a_gpu(rule: str):
    check_a_replica_is_its_single_run(1e-9, "mlp", device="cuda", rule=rule, boundaries="all")
