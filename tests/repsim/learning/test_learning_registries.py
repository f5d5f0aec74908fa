"""Adding a thing from outside the package: one entry in a registry, and a ``TrainingConfig`` names it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from repsim.learning import (
    ACTIVATIONS,
    ARTIFICIAL,
    BATCHED,
    DATASETS,
    ESTIMATORS,
    LOSSES,
    NETWORKS,
    NORMS,
    OPTIMIZERS,
    SCHEDULES,
    Activation,
    Batched,
    Chain,
    Dataset,
    Estimator,
    Norm,
    Signals,
    TrainingConfig,
    build_learner,
    build_optimizer,
    catalogue,
    evaluate,
    load_dataset,
    stack,
    train,
)


class HalfBackprop(Estimator):
    """g_k = t_k / 2."""

    formula = "t_k / 2"
    reference = "a test"
    needs = frozenset({"target"})

    def gradient(self, signals: Signals) -> Tensor:
        assert signals.target is not None
        return signals.target / 2


class Doubled(nn.Module):
    """An elementwise layer that the package does not have."""

    def forward(self, X: Tensor) -> Tensor:
        return 2 * X.relu()


def two_layers(shape: tuple[int, ...], n_outputs: int, *, width: int, generator: Generator, **settings: Any) -> Chain:
    layers = nn.Linear(shape[0], width), nn.Linear(width, n_outputs)
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.3, generator=generator)
    return Chain([nn.Sequential(layers[0], nn.Tanh())], layers[1], shapes=[width])


def squared_margin(output: Tensor, y: Tensor) -> Tensor:
    return (1 - output.gather(-1, y.unsqueeze(-1)).squeeze(-1)).square()


def blobs(data_dir: object) -> Dataset:
    random, y = np.random.default_rng(0), np.arange(60) % 3
    X = (np.eye(3)[y] + 0.1 * random.standard_normal((60, 3))).astype(np.float32)
    return Dataset("blobs", X, y, ("a", "b", "c"))


def split_by_sign(a: Any, b: Any, random: np.random.Generator) -> Any:
    return a * b > 0


ADDED: dict[str, tuple[dict[str, Any], Any]] = {
    "rule": (ESTIMATORS, HalfBackprop),
    "network": (NETWORKS, two_layers),
    "loss": (LOSSES, squared_margin),
    "data": (DATASETS, blobs),
    "optimizer": (OPTIMIZERS, lambda groups: torch.optim.RMSprop(groups)),
    "schedule": (SCHEDULES, lambda progress: 1 - progress),
    "activation": (ACTIVATIONS, Activation(Doubled, 0.7)),
    "norm": (NORMS, Norm(lambda width: nn.LayerNorm(width, eps=0.1), lambda channels: nn.GroupNorm(2, channels))),
}


@pytest.mark.parametrize("setting", ADDED)
def test_what_is_added_from_outside_is_trained_with_by_its_name(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, added = ADDED[setting]
    monkeypatch.setitem(registry, "own", added)
    settings: dict[str, Any] = {"data": "digits", "depth": 1, "width": 8, "norm": "none", setting: "own"}
    config = TrainingConfig(**settings, epochs=2, batch_size=20)
    data = load_dataset(config.data)
    X, y = torch.from_numpy(data.X)[:200], torch.from_numpy(data.y)[:200]
    learner = build_learner(config, data.X.shape[1], len(data.classes))
    before = evaluate(learner.network, X, y, loss=config.loss)
    optimizer = build_optimizer(learner, config)
    steps = list(train(learner, optimizer, X, y, config))
    assert len(steps) == 2 * (len(y) // 20)
    assert evaluate(learner.network, X, y, loss=config.loss).loss < before.loss


def test_a_rule_from_outside_is_listed_with_what_it_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, "own", HalfBackprop)
    entry = catalogue()[-1]
    assert (entry.name, entry.formula, entry.needs, entry.locks) == (
        "own",
        "t_k / 2",
        ("target",),
        ("backward", "update"),
    )


def test_artificial_data_from_outside_have_a_name_with_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARTIFICIAL, "own", split_by_sign)
    data = load_dataset("own:5")
    assert data.X.shape == (1000, 5)
    assert np.array_equal(data.y, 1 - load_dataset("xor:5").y)


def test_a_layer_from_outside_gets_a_batched_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BATCHED, Doubled, Batched(lambda layers: layers[0]))
    X = torch.randn(3, 4, 2, generator=Generator().manual_seed(0))
    together = stack([Doubled() for _ in range(3)])
    assert isinstance(together, Doubled)
    assert torch.equal(together(X), 2 * X.relu())
