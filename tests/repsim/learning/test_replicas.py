import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from repsim.learning import (
    ESTIMATORS,
    Choice,
    Diverged,
    Learner,
    Replicas,
    ReplicaTraining,
    Step,
    TrainingConfig,
    build_learner,
    build_optimizer,
    replicas,
    train,
    train_replicas,
)
from repsim.learning.memory import Footprint

R, N, BATCH, CLASSES = 3, 40, 8, 3  # 5 updates an epoch
STEPS = 50
SHAPES: dict[str, Any] = {"mlp": 6, "conv": (1, 8, 8), "residual": (1, 8, 8)}
SIGNS = "sign-symmetric:magnitude=resampled"
MIXED = f"synthetic-gradient:hidden_layers=1@1 + {SIGNS}@2 + direct-feedback-alignment@3"
WATCHED = "synthetic-gradient:observe=true@1,2 + target-propagation:observe=true@3"
CASES: list[tuple[str, dict[str, Any]]] = [
    *[("mlp", {"rule": rule, "boundaries": "all"}) for rule in ESTIMATORS],
    *[(net, {"rule": rule, "depth": 2}) for net in ("conv", "residual") for rule in ("backprop", SIGNS)],
    ("conv", {"rule": "synthetic-gradient", "boundaries": "all", "depth": 2}),
    ("conv", {"rule": "decoupled-greedy@1 + target-propagation@2", "depth": 2}),
    ("residual", {"rule": "direct-feedback-alignment@1 + feedback-alignment@2", "depth": 2}),
    ("mlp", {"rule": SIGNS}),
    ("mlp", {"rule": MIXED}),
    ("mlp", {"rule": WATCHED}),
    ("mlp", {"rule": "noise:observe=true + target-propagation@1"}),
    ("mlp", {"rule": "synthetic-gradient:label_conditioned=false,hidden_layers=1", "boundaries": "all"}),
    ("mlp", {"norm": "layer", "loss": "mse", "schedule": "cosine", "rule": "bp-lambda"}),
    ("mlp", {"optimizer": "momentum", "learning_rate": 1e-3, "rule": "adaptive-skipped-backprop"}),
    ("mlp", {"optimizer": "sgd", "norm": "none", "activation": "tanh"}),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These networks are too small to share between threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
        **settings: Any,
    ) -> None:
        small = {"depth": 3, "width": 5, "learning_rate": 1e-3, "estimator_learning_rate": 1e-3, "network": network}
        configs = [TrainingConfig.from_dict(small | settings | {"seed": seed}) for seed in range(n)]
        built = [build_learner(config, SHAPES[network], CLASSES, together=together) for config in configs]
        self.learners = [learner.to(device, dtype) for learner in built]
        self.optimizers = [build_optimizer(*pair) for pair in zip(self.learners, configs, strict=True)]
        self.data = [examples(seed, SHAPES[network], dtype, device) for seed in range(n)]
        self.settings: dict[str, Any] = {"batch_size": BATCH, "schedule": configs[0].schedule}

    def train(self, how: str = "stacked", *, steps: int = STEPS, **settings: Any) -> ReplicaTraining:
        learners, optimizers, data = self.learners, self.optimizers, self.data
        settings = {"epochs": epochs(steps), "seeds": range(len(learners))} | self.settings | settings
        return train_replicas(learners, optimizers, data, how=how, **settings)

    def train_alone(self, i: int, *, steps: int = STEPS, **settings: Any) -> Iterator[Step]:
        settings = {"epochs": epochs(steps), "seed": i} | self.settings | settings
        return train(self.learners[i], self.optimizers[i], *self.data[i], **settings)

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


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different


def assert_close_states(ours: Trio, theirs: Trio, tolerance: float) -> None:
    """Compare what is learned, running statistics, fixed feedback and moments, each as one vector."""
    for i, (own, alone) in enumerate(zip(ours.states(), theirs.states(), strict=True)):
        learned = {name for name, _ in theirs.learners[i].named_parameters()}
        held = set(theirs.learners[i].state_dict())
        for kind in (learned, held - learned, set(alone) - held):
            if kind and any(alone[name].count_nonzero() for name in kind):
                assert distance(own, alone, sorted(kind)) <= tolerance


def assert_close_steps(ours: Sequence[Step | Diverged], theirs: Sequence[Step], tolerance: float) -> None:
    for own, alone in zip(ours, theirs, strict=True):
        assert isinstance(own, Step)
        assert (own.step, own.epoch) == (alone.step, alone.epoch)
        assert own.loss == pytest.approx(alone.loss, rel=tolerance)
        assert own.estimator_losses == pytest.approx(alone.estimator_losses, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("network", "settings"), CASES, ids=str)
def test_a_replica_is_its_single_run(network: str, settings: dict[str, Any], dtype: torch.dtype, tolerance: float):
    stacked, alone = (Trio(network, dtype=dtype, **settings) for _ in range(2))
    before = alone.states()
    seen = list(stacked.train())
    single = [list(alone.train_alone(i)) for i in range(R)]
    assert len(seen) == STEPS
    for i in range(R):
        assert_close_steps([each[i] for each in seen], single[i], tolerance * 100)
    assert_close_states(stacked, alone, tolerance)
    assert distance(alone.learners[0].state_dict(), {k: before[0][k] for k in alone.learners[0].state_dict()}) > 1e-3
