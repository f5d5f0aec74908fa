"""Callbacks of training frameworks record without affecting training; so does one written outside the package."""

import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from checkpoints import Capture, Run, Stimuli, Token
from checkpoints.callbacks import StepRecorder

TOKENS = torch.randint(0, 20, (12, 6), generator=torch.Generator().manual_seed(1))
MASK = (torch.arange(6) < torch.tensor([[6], [4], [5]]).repeat(4, 1)).long()


@pytest.fixture(scope="module")
def lightning() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")


@pytest.fixture(scope="module")
def transformers() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("HF_HUB_OFFLINE", "1")
        warnings.simplefilter("ignore")
        module = pytest.importorskip("transformers", reason="transformers is not installed")
        pytest.importorskip("accelerate", reason="accelerate is not installed")
        yield module


def run_with(inputs: Any, path: Path) -> Run:
    n = len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
    return Run.create(path / "run", {}, Stimuli.of(np.arange(n), np.arange(n) // 3, ["test"] * n, inputs))


# The recorder that all callbacks call


@pytest.mark.parametrize(
    ("steps", "due"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), ({1, 3}, [1, 3]), ([4, 0], [0, 4]), (range(2, 4), [2, 3])]
)
def test_steps_are_an_interval_or_numbers(run: Run, steps: int | Collection[int], due: list[int]) -> None:
    assert [step for step in range(5) if StepRecorder(run, steps).is_due(step)] == due


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (0, "steps is 0; expected 1 or more, or a collection of step numbers"),
        (-2, "steps is -2; expected 1 or more"),
        ((), r"steps holds \[\]; expected one step or more, each 0 or more"),
        ({3, -1}, r"steps holds \[-1, 3\]; expected one step or more"),
    ],
)
def test_steps_below_their_range_are_refused(run: Run, steps: int | Collection[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StepRecorder(run, steps)


def test_single_real_numbers_are_logged(run: Run) -> None:
    several = {"text": "a", "values": torch.ones(2), "z": torch.tensor(1j)}
    StepRecorder(run, 1).log(1, {"loss": torch.tensor([0.5]), "n": 3, "step": 9, **several})
    assert run.metrics() == [{"step": 1, "loss": 0.5, "n": 3}]


# Every framework


@dataclass
class Framework:
    """One of the frameworks, a run for it, and the training that its callback records."""

    run: Run
    n_steps: int
    layers: str
    options: dict[str, Any]
    callback: Callable[..., Any]
    new_model: Callable[[], Any]
    train: Callable[..., Any]
    optimizer: Callable[[Any], torch.optim.Optimizer]

    def record(self, steps: Any, layers: str | None = None, training: dict[str, Any] | None = None) -> Any:
        """Train with the callback and return the model."""
        callback = self.callback(self.run, steps, layers or self.layers, **self.options)
        return self.train([callback], **(training or {}))


@pytest.fixture
def on_lightning(lightning: ModuleType, tmp_path: Path) -> Iterator[Framework]:
    from checkpoints.callbacks.lightning import RecordActivations

    with run_with(torch.linspace(-1, 1, 24).reshape(6, 4).numpy(), tmp_path) as run:
        new, train = partial(lightning_module, lightning), partial(fit, lightning, tmp_path)
        yield Framework(
            run,
            4,
            "network.*",
            {"dtype": "float64"},
            RecordActivations,
            new,
            train,
            lambda module: module.configure_optimizers(),
        )


@pytest.fixture
def on_transformers(transformers: ModuleType, tmp_path: Path) -> Iterator[Framework]:
    from checkpoints.callbacks.transformers import RecordActivations

    with run_with({"input_ids": TOKENS[:6].numpy(), "attention_mask": MASK[:6].numpy()}, tmp_path) as run:
        new, training = partial(bert, transformers), partial(train, transformers, tmp_path)
        yield Framework(run, 3, LAYERS, {"reduce": FIRST_TOKEN}, RecordActivations, new, training, grouped_adamw)


class RecordFromOutside:
    """A callback for the training loop below, as users may write one for theirs."""

    def __init__(self, run: Run, steps: int | Collection[int], layers: str, **capture_options: Any) -> None:
        self.recorder = StepRecorder(run, steps, layers, **capture_options)

    def begin(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.recorder.check(model)
        self.recorder.record(0, model, optimizer)

    def end_of_update(self, update: int, model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        self.recorder.log(update, {"loss": loss})
        self.recorder.record(update, model, optimizer)


def small_network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 2))


def loop(callbacks: list[RecordFromOutside]) -> nn.Module:
    """Train for three updates of seeded noise and return the network."""
    network = small_network()
    optimizer = torch.optim.Adam(network.parameters())
    for each in callbacks:
        each.begin(network, optimizer)
    for update in (1, 2, 3):
        loss = network(torch.randn(8, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for each in callbacks:
            each.end_of_update(update, network, optimizer, loss)
    return network


@pytest.fixture
def from_outside(tmp_path: Path) -> Iterator[Framework]:
    def adam(network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(network.parameters())

    with run_with(torch.linspace(-1, 1, 24).reshape(6, 4).numpy(), tmp_path) as run:
        yield Framework(run, 3, "*", {"dtype": "float64"}, RecordFromOutside, small_network, loop, adam)


@pytest.fixture(params=["on_lightning", "on_transformers", "from_outside"])
def framework(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(("steps", "due"), [(2, [0, 2, 4]), ({1, 3}, [1, 3]), ({0}, [0]), (1, [0, 1, 2, 3, 4])])
def test_the_steps_that_are_due_are_committed(framework: Framework, steps: Any, due: list[int]) -> None:
    framework.record(steps)
    due = [step for step in due if step <= framework.n_steps]
    assert framework.run.steps == framework.run.recorded_steps == framework.run.verify() == due


def test_activations_are_those_of_the_committed_weights(framework: Framework) -> None:
    run, last = framework.run, framework.n_steps
    trained = framework.record({0, last})
    for step in (0, last):
        model = framework.new_model()
        model.load_state_dict(run[step].weights())
        expected = Capture(model, framework.layers, **framework.options).record(run.stimuli.inputs)
        assert list(run[step].activations) == list(expected)
        for name, layer in expected.items():
            np.testing.assert_array_equal(run[step][name][:], layer.values, strict=True)
    for model, step in ((framework.new_model(), 0), (trained, last)):
        weights = run[step].weights()
        assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


def test_training_gives_the_same_bits_with_and_without_recording(framework: Framework) -> None:
    weights, others = framework.train([]).state_dict(), framework.record(1).state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_committed_step_is_left_alone(framework: Framework) -> None:
    framework.run.checkpoint(2, nn.Linear(1, 1))
    framework.record(1)
    assert framework.run.steps == list(range(framework.n_steps + 1))
    assert framework.run.recorded_steps == [step for step in framework.run.steps if step != 2]


def test_a_pattern_that_matches_nothing_fails_at_the_start(framework: Framework) -> None:
    with pytest.raises(ValueError, match=r"No layer matches 'net\.\*'"):
        framework.record({10**6}, "net.*")


def test_optimizers_can_be_restored(framework: Framework) -> None:
    framework.record({framework.n_steps})
    model = framework.new_model()
    optimizer = framework.optimizer(model)
    with torch.random.fork_rng(devices=[]):
        framework.run[framework.n_steps].restore(model, optimizer)
    assert {float(state["step"]) for state in optimizer.state.values()} == {float(framework.n_steps)}


# Lightning


def lightning_module(lightning: ModuleType, *, logging: bool = False) -> Any:
    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.computed_in: set[torch.dtype] = set()
            self.network = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 2))

        def forward(self, x: Tensor) -> Tensor:
            h = self.network(x)
            if logging:
                self.log("output", h.float().mean(), on_step=False, on_epoch=True)
                self.log_dict({"largest": h.float().max(), "batch_size": float(len(x))}, on_step=False, on_epoch=True)
            if self.training:
                self.computed_in.add(h.dtype)
            return h

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            loss = nn.functional.cross_entropy(self(batch[0]).float(), batch[1])
            self.log("loss", loss)
            self.log("batch", float(index))
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=0.1)

    torch.manual_seed(3)
    return Classifier()


def fit(lightning: ModuleType, folder: Path, callbacks: list[Any], *, logging: bool = False, **options: Any) -> Any:
    """Train for four batches of seeded noise, shuffled by the global generator, and return the module."""
    module = lightning_module(lightning, logging=logging)
    draw = torch.Generator().manual_seed(2)
    data = TensorDataset(torch.randn(16, 4, generator=draw), torch.randint(0, 2, (16,), generator=draw))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.|torch\.")  # advice on workers, log intervals, devices
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            **options,
        )
        trainer.fit(module, DataLoader(data, batch_size=4, shuffle=True))
    module.logged = dict(trainer.callback_metrics)
    return module


def test_lightning_metrics_are_logged_with_the_step(on_lightning: Framework) -> None:
    on_lightning.record(2)
    untrained, *trained = on_lightning.run.metrics()
    assert untrained == {"step": 0}
    assert [(line["step"], line["batch"]) for line in trained] == [(2, 1.0), (4, 3.0)]
    assert all(0 < line["loss"] < 10 for line in trained)


def test_lightning_commits_a_step_once_while_gradients_accumulate(on_lightning: Framework) -> None:
    on_lightning.record(1, training={"accumulate_grad_batches": 2})
    assert on_lightning.run.steps == [line["step"] for line in on_lightning.run.metrics()] == [0, 1, 2]


def test_lightning_records_on_one_process_only(on_lightning: Framework) -> None:
    other = SimpleNamespace(is_global_zero=False, global_step=0, callback_metrics={}, optimizers=[])
    on_lightning.callback(on_lightning.run, 1).on_train_start(other, on_lightning.new_model())
    assert (on_lightning.run.steps, on_lightning.run.metrics()) == ([], [])


def test_lightning_metrics_that_forward_logs_are_those_of_the_training(on_lightning: Framework) -> None:
    plain = on_lightning.train([], logging=True).logged
    recorded = on_lightning.record(1, training={"logging": True}).logged
    assert plain.keys() == recorded.keys() == {"loss", "batch", "output", "largest", "batch_size"}
    assert all(torch.equal(plain[name], recorded[name]) for name in plain)
    assert plain["batch_size"] == 4


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_lightning_records_in_the_precision_of_the_training(on_lightning: Framework, precision: str) -> None:
    module, run = on_lightning.record({2}, training={"precision": precision}), on_lightning.run
    assert {layer.source_dtype for layer in run[2].activations.values()} >= set(map(str, module.computed_in))
    assert run[2]["network.0"].source_dtype == str(module.network[0](torch.zeros(1, 4).to(module.dtype)).dtype) or (
        precision == "bf16-mixed" and run[2]["network.0"].source_dtype == "torch.bfloat16"
    )


# Transformers

LAYERS = "bert.encoder.layer.*"
FIRST_TOKEN = {"**": Token(0)}


def bert(transformers: ModuleType) -> Any:
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12
    )
    torch.manual_seed(3)
    return transformers.BertForSequenceClassification(config)


def grouped_adamw(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that the Trainer makes, which has a group of weights that decay."""
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    return torch.optim.AdamW([{"params": decayed}, {"params": [w for w in model.parameters() if w.ndim <= 1]}])


def train(transformers: ModuleType, folder: Path, callbacks: list[Any], **options: Any) -> Any:
    """Train for three updates and return the model."""
    model = bert(transformers)
    examples = [
        {"input_ids": ids, "attention_mask": mask, "labels": index % 2}
        for index, (ids, mask) in enumerate(zip(TOKENS, MASK, strict=True))
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"transformers\.|accelerate\.|torch\.")
        arguments = transformers.TrainingArguments(
            output_dir=str(folder / "trainer"),
            max_steps=3,
            per_device_train_batch_size=4,
            logging_steps=1,
            learning_rate=0.01,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            **options,
        )
        trainer = transformers.Trainer(model, arguments, train_dataset=examples, callbacks=callbacks)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return model


def test_transformers_commits_a_step_once_while_gradients_accumulate(on_transformers: Framework) -> None:
    on_transformers.record(1, training={"gradient_accumulation_steps": 2})
    assert on_transformers.run.steps == [0, 1, 2, 3]


def test_transformers_records_in_the_precision_of_the_training(on_transformers: Framework) -> None:
    on_transformers.options = {}
    on_transformers.record({2}, "**.intermediate.dense", training={"bf16": True})
    assert {layer.source_dtype for layer in on_transformers.run[2].activations.values()} == {"torch.bfloat16"}


def test_transformers_metrics_are_those_of_the_trainer(on_transformers: Framework) -> None:
    on_transformers.record({3})
    *updates, end = on_transformers.run.metrics()
    assert [line["step"] for line in updates] == [1, 2, 3]
    assert all(line.keys() >= {"loss", "learning_rate", "grad_norm"} for line in updates)
    assert end["step"] == 3
    assert "train_runtime" in end


def test_transformers_records_on_one_process_only(on_transformers: Framework) -> None:
    other = SimpleNamespace(is_world_process_zero=False, global_step=0)
    callback = on_transformers.callback(on_transformers.run, 1, LAYERS)
    callback.on_train_begin(None, other, None, model=on_transformers.new_model(), optimizer=None)
    callback.on_log(None, other, None, logs={"loss": 1.0})
    assert (on_transformers.run.steps, on_transformers.run.metrics()) == ([], [])
