"""Quality of gradients over batches and implied losses, against oracles in the run's own precision and in float64."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from analysis import train_run
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.tasks import AnalysisTasks
from analysis.comparison.tasks.gradient_quality import N_BATCHES
from analysis.comparison.view import views_of_run
from analysis.config.recording import RecordingConfig
from analysis.training.setup import TrainingSetup, configurations, prepare
from checkpoints import Run
from repsim.learning import TrainingConfig, stream

STEP, SIZE = 12, 200


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Synthetic gradients at boundaries 1 and 2, which are stacked in the learner, and none at boundary 3."""
    training = TrainingConfig(
        data="digits",
        depth=3,
        width=8,
        norm="none",
        activation="tanh",
        epochs=2,
        batch_size=SIZE,
        learning_rate=0.01,
        estimator_learning_rate=0.01,
        rule="synthetic-gradient@1,2",
    )
    recording = RecordingConfig(n_train=20, n_validation=10, n_test=50)
    return train_run(tmp_path_factory.mktemp("quality") / "run", training, recording)


@pytest.fixture(scope="module")
def setup(run: Run) -> TrainingSetup:
    setup = prepare(*configurations(run))
    setup.learner.load_state_dict(run[STEP].weights())
    return setup


@pytest.fixture
def row(run: Run, computed: Callable[..., AnalysisTasks]) -> Callable[[int], dict[str, float]]:
    table = TABLES["signals"].build(computed(views_of_run(run.path, "last")), {})
    by_boundary = {each["boundary"]: each for each in table.to_dict("records")}
    return lambda k: {str(name): value for name, value in by_boundary[k].items()}


def module_at(setup: TrainingSetup, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return W, b and V of S(h, y) = W h + b + V[y] at a boundary."""
    state = {name.partition(".")[2]: value.double() for name, value in setup.learner.estimators.state_dict().items()}
    return state["layers.0.weight"][k - 1], state["layers.0.bias"][k - 1], state["label_vectors.weight"][k - 1]


def activations(setup: TrainingSetup, X: Tensor) -> list[Tensor]:
    """Return h_1, h_2, h_3 and the logits, from weights in float64."""
    weights = {name: value.double() for name, value in setup.learner.network.state_dict().items()}
    h, found = X.double(), []
    for k in (1, 2, 3):
        h = torch.tanh(h @ weights[f"hidden.{k}.affine.weight"].T + weights[f"hidden.{k}.affine.bias"])
        found.append(h)
    names = sorted(name for name in weights if name.startswith("output"))
    bias, weight = (weights[name] for name in names)
    return [*found, h @ weight.T + bias]


def training_batches(setup: TrainingSetup) -> list[tuple[Tensor, Tensor]]:
    X, y = setup.part("train")
    orders = [torch.randperm(len(y), generator=stream(0, "signals", STEP, index)) for index in range(N_BATCHES)]
    return [(X[order[:SIZE]], y[order[:SIZE]]) for order in orders]


def true_gradients_of(setup: TrainingSetup, X: Tensor, y: Tensor) -> list[Tensor]:
    with torch.enable_grad():
        *hidden, logits = activations(setup, X.requires_grad_())
        return list(torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), hidden))


@pytest.mark.parametrize("k", [1, 2])
def test_errors_are_means_over_batches(setup: TrainingSetup, row: Callable[[int], dict[str, float]], k: int) -> None:
    angles, errors = [], []
    W, b, V = module_at(setup, k)
    for X, y in training_batches(setup):
        t, h = true_gradients_of(setup, X, y)[k - 1], activations(setup, X)[k - 1].detach()
        g = h @ W.T + b + V[y]
        angles.append(np.degrees(np.arccos(float((g * t).sum() / g.norm() / t.norm()))))
        errors.append(float((g - t).norm() / t.norm()))
    assert row(k)["angle"] == pytest.approx(np.mean(angles), abs=1e-3)
    assert row(k)["relative_error"] == pytest.approx(np.mean(errors), rel=1e-4)


@pytest.mark.parametrize("k", [1, 2])
def test_bias_and_variance_are_of_the_weights(
    setup: TrainingSetup, row: Callable[[int], dict[str, float]], k: int
) -> None:
    """The gradient of [W_k, b_k] is the mean of (g_k ⊙ tanh′) [h_{k-1}, 1]ᵀ."""
    W, b, V = module_at(setup, k)
    chosen: list[NDArray[np.float64]] = []
    true: list[NDArray[np.float64]] = []
    for X, y in training_batches(setup):
        t, h = true_gradients_of(setup, X, y)[k - 1], activations(setup, X)[k - 1].detach()
        below = torch.cat([X.double() if k == 1 else activations(setup, X)[k - 2], torch.ones(SIZE, 1)], dim=1).detach()
        for gradients, at_h in ((chosen, h @ W.T + b + V[y]), (true, t)):
            gradients.append(((at_h * (1 - h**2)).T @ below / SIZE).flatten().numpy())
    G, T = np.array(chosen), np.array(true)
    size = (T**2).sum(axis=1).mean()
    bias = ((G.mean(axis=0) - T.mean(axis=0)) ** 2).sum() - (G - T).var(axis=0, ddof=1).sum() / N_BATCHES
    assert row(k)["squared_bias"] == pytest.approx(bias / size, rel=1e-4)
    assert row(k)["variance"] == pytest.approx(G.var(axis=0, ddof=1).sum() / size, rel=1e-4)
    assert row(k)["true_variance"] == pytest.approx(T.var(axis=0, ddof=1).sum() / size, rel=1e-4)


@pytest.mark.parametrize("k", [1, 2])
def test_implied_losses_are_those_of_the_closed_form(
    run: Run, setup: TrainingSetup, row: Callable[[int], dict[str, float]], k: int
) -> None:
    """Of S = W h + b + V[y] the line integral from h₀ is (b + V[y] + W (h + h₀) / 2) · (h − h₀)."""
    W, b, V = module_at(setup, k)
    rows = np.flatnonzero(run.stimuli.split == "test")
    X = torch.from_numpy(np.asarray(setup.stimuli.inputs)[rows])
    y = torch.from_numpy(run.stimuli.labels[rows])
    h = activations(setup, X)[k - 1]
    trained = torch.cat([each for each, _ in training_batches(setup)])
    start = activations(setup, trained)[k - 1].mean(dim=0)
    implied = ((b + V[y] + (h + start) @ W.T / 2) * (h - start)).sum(dim=1)
    true = F.cross_entropy(activations(setup, X)[-1], y, reduction="none")
    a, c = (centred(each.detach().numpy(), y.numpy()) for each in (implied, true))
    assert row(k)["implied_correlation"] == pytest.approx(np.corrcoef(a, c)[0, 1], abs=1e-8)
    assert row(k)["implied_slope"] == pytest.approx(a @ c / (c @ c), abs=1e-8)


def centred(values: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    means = {label: values[labels == label].mean() for label in np.unique(labels)}
    return values - np.array([means[label] for label in labels])


def test_nothing_on_disk_and_no_generator_changes(run: Run, computed: Callable[..., AnalysisTasks]) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}

    before, state = content(), torch.get_rng_state()
    computed(views_of_run(run.path, "all"))
    assert content() == before
    assert torch.equal(torch.get_rng_state(), state)
