import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from checkpoints import Capture, Run, Stimuli, Token
from checkpoints.callbacks import check_steps, is_due, metrics_record

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


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with run_with(torch.linspace(-1, 1, 24).reshape(6, 4).numpy(), tmp_path) as run:
        yield run


@pytest.fixture
def text_run(tmp_path: Path) -> Iterator[Run]:
    with run_with({"input_ids": TOKENS[:6].numpy(), "attention_mask": MASK[:6].numpy()}, tmp_path) as run:
        yield run


def assert_recorded_as(run: Run, step: int, model: nn.Module, layers: str, **options: Any) -> None:
    """Assert that the step holds what a Capture of a model with the step's weights gives."""
    model.load_state_dict(run[step].weights())
    expected = Capture(model, layers, **options).record(run.stimuli.inputs)
    assert list(run[step].activations) == list(expected)
    for name, layer in expected.items():
        np.testing.assert_array_equal(run[step][name][:], layer.values, strict=True)


def assert_same_weights(model: nn.Module, other: nn.Module) -> None:
    weights, others = model.state_dict(), other.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


# When


@pytest.mark.parametrize(
    ("steps", "due"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), ({1, 3}, [1, 3]), ([4, 0], [0, 4]), (range(2, 4), [2, 3])]
)
def test_steps_are_an_interval_or_numbers(steps: int | Collection[int], due: list[int]) -> None:
    assert [step for step in range(5) if is_due(steps, step)] == due
    assert [step for step in range(5) if is_due(check_steps(steps), step)] == due


@pytest.mark.parametrize("steps", [0, -2])
def test_an_interval_below_1_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=rf"steps is {steps}; expected 1 or more, or a collection of step numbers"):
        check_steps(steps)


@pytest.mark.parametrize(("steps", "listed"), [((), r"\[\]"), ({3, -1}, r"\[-1, 3\]")])
def test_no_step_or_one_below_0_is_refused(steps: Collection[int], listed: str) -> None:
    with pytest.raises(ValueError, match=rf"steps holds {listed}; expected one step or more, each 0 or more"):
        check_steps(steps)


def test_single_numbers_are_logged_and_nothing_else() -> None:
    metrics = {
        "loss": torch.tensor(0.5),
        "n": 3,
        "step": 9,
        "text": "a",
        "values": torch.ones(2),
        "z": torch.tensor(1j),
    }
    assert metrics_record(1, metrics) == {"step": 1, "loss": 0.5, "n": 3}


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


@pytest.mark.parametrize(("steps", "committed"), [(2, [0, 2, 4]), ({1, 4}, [1, 4]), ({0}, [0])])
def test_lightning_commits_the_steps_that_are_due(
    lightning: ModuleType, run: Run, tmp_path: Path, steps: Any, committed: list[int]
) -> None:
    from checkpoints.callbacks.lightning import RecordActivations

    fit(lightning, tmp_path, [RecordActivations(run, steps)])
    assert run.steps == run.recorded_steps == run.verify() == committed


def test_lightning_records_what_the_committed_weights_compute(lightning: ModuleType, run: Run, tmp_path: Path) -> None:
    from checkpoints.callbacks.lightning import RecordActivations

    trained = fit(lightning, tmp_path, [RecordActivations(run, 2, "network.*", dtype="float64")])
    for step in (0, 2, 4):
        assert_recorded_as(run, step, lightning_module(lightning), "network.*", dtype="float64")
    untrained = lightning_module(lightning)
    assert all(torch.equal(weight, run[0].weights()[name]) for name, weight in untrained.state_dict().items())
    assert all(torch.equal(weight, run[4].weights()[name]) for name, weight in trained.state_dict().items())
    assert not torch.equal(run[2].weights()["network.0.weight"], run[4].weights()["network.0.weight"])


def test_lightning_trains_to_the_same_bits_with_and_without_recording(
    lightning: ModuleType, run: Run, tmp_path: Path
) -> None:
    from checkpoints.callbacks.lightning import RecordActivations

    assert_same_weights(fit(lightning, tmp_path, []), fit(lightning, tmp_path, [RecordActivations(run, 1, "**")]))


def test_lightning_metrics_are_logged_with_the_step(lightning: ModuleType, run: Run, tmp_path: Path) -> None:
    from checkpoints.callbacks.lightning import RecordActivations

    fit(lightning, tmp_path, [RecordActivations(run, 2)])
    untrained, *trained = run.metrics()
    assert untrained == {"step": 0}
    assert [(line["step"], line["batch"]) for line in trained] == [(2, 1.0), (4, 3.0)]
    assert all(0 < line["loss"] < 10 for line in trained)


def test_lightning_commits_a_step_once_while_gradients_accumulate(
    lightning: ModuleType, run: Run, tmp_path: Path
) -> None:
    from checkpoints.callbacks.lightning import RecordActivations

    fit(lightning, tmp_path, [RecordActivations(run, 1)], accumulate_grad_batches=2)
    assert run.steps == [0, 1, 2]
    assert [line["step"] for line in run.metrics()] == [0, 1, 2]


def test_lightning_optimizers_can_be_restored(lightning: ModuleType, run: Run, tmp_path: Path) -> None:
    from checkpoints.callbacks.lightning import RecordActivations

    fit(lightning, tmp_path, [RecordActivations(run, {4})])
    module = lightning_module(lightning)
    optimizer = module.configure_optimizers()
    with torch.random.fork_rng(devices=[]):
        run[4].restore(module, optimizer)
    assert {float(state["step"]) for state in optimizer.state.values()} == {4.0}


def test_lightning_leaves_a_committed_step_as_it_is(lightning: ModuleType, run: Run, tmp_path: Path) -> None:
    from checkpoints.callbacks.lightning import RecordActivations

    run.checkpoint(2, nn.Linear(1, 1))
    fit(lightning, tmp_path, [RecordActivations(run, 2)])
    assert (run.steps, run.recorded_steps) == ([0, 2, 4], [0, 4])


def test_lightning_fails_at_the_start_where_a_pattern_matches_nothing(
    lightning: ModuleType, run: Run, tmp_path: Path
) -> None:
    from checkpoints.callbacks.lightning import RecordActivations

    with pytest.raises(ValueError, match=r"No layer matches 'net\.\*'"):
        fit(lightning, tmp_path, [RecordActivations(run, {10**6}, "net.*")])


def test_lightning_records_on_one_process_only(lightning: ModuleType, run: Run) -> None:
    from checkpoints.callbacks.lightning import RecordActivations

    other = SimpleNamespace(is_global_zero=False, global_step=0, callback_metrics={}, optimizers=[])
    RecordActivations(run, 1).on_train_start(other, lightning_module(lightning))
    assert (run.steps, run.metrics()) == ([], [])


def test_lightning_metrics_that_forward_logs_are_those_of_the_training(
    lightning: ModuleType, run: Run, tmp_path: Path
) -> None:
    from checkpoints.callbacks.lightning import RecordActivations

    plain = fit(lightning, tmp_path, [], logging=True).logged
    beside = fit(lightning, tmp_path, [RecordActivations(run, 1, "network.*")], logging=True).logged
    assert plain.keys() == beside.keys() == {"loss", "batch", "output", "largest", "batch_size"}
    assert all(torch.equal(plain[name], beside[name]) for name in plain)
    assert plain["batch_size"] == 4


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_lightning_records_in_the_precision_of_the_training(
    lightning: ModuleType, run: Run, tmp_path: Path, precision: str
) -> None:
    from checkpoints.callbacks.lightning import RecordActivations

    module = fit(lightning, tmp_path, [RecordActivations(run, {2}, "network.*")], precision=precision)
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


@pytest.mark.parametrize(
    ("steps", "committed", "options"),
    [(2, [0, 2], {}), ({1, 3}, [1, 3], {}), (1, [0, 1, 2, 3], {"gradient_accumulation_steps": 2})],
)
def test_transformers_commits_the_steps_that_are_due(
    transformers: ModuleType, text_run: Run, tmp_path: Path, steps: Any, committed: list[int], options: dict[str, Any]
) -> None:
    from checkpoints.callbacks.transformers import RecordActivations

    train(transformers, tmp_path, [RecordActivations(text_run, steps, LAYERS, reduce=FIRST_TOKEN)], **options)
    assert text_run.steps == text_run.recorded_steps == text_run.verify() == committed


def test_transformers_records_what_the_committed_weights_compute(
    transformers: ModuleType, text_run: Run, tmp_path: Path
) -> None:
    from checkpoints.callbacks.transformers import RecordActivations

    trained = train(transformers, tmp_path, [RecordActivations(text_run, {0, 3}, LAYERS, reduce=FIRST_TOKEN)])
    for step in (0, 3):
        assert_recorded_as(text_run, step, bert(transformers), LAYERS, reduce=FIRST_TOKEN)
    first, last = text_run[0].weights(), text_run[3].weights()
    assert all(torch.equal(weight, first[name]) for name, weight in bert(transformers).state_dict().items())
    assert all(torch.equal(weight, last[name]) for name, weight in trained.state_dict().items())
    assert text_run[3][f"{LAYERS[:-1]}1"].shape == (6, 8)


def test_transformers_trains_to_the_same_bits_with_and_without_recording(
    transformers: ModuleType, text_run: Run, tmp_path: Path
) -> None:
    from checkpoints.callbacks.transformers import RecordActivations

    plain = train(transformers, tmp_path, [])
    assert_same_weights(plain, train(transformers, tmp_path, [RecordActivations(text_run, 1, "**.output")]))


def test_transformers_records_in_the_precision_of_the_training(
    transformers: ModuleType, text_run: Run, tmp_path: Path
) -> None:
    from checkpoints.callbacks.transformers import RecordActivations

    train(transformers, tmp_path, [RecordActivations(text_run, {2}, "**.intermediate.dense")], bf16=True)
    assert {layer.source_dtype for layer in text_run[2].activations.values()} == {"torch.bfloat16"}


def test_transformers_logs_what_the_trainer_logs(transformers: ModuleType, text_run: Run, tmp_path: Path) -> None:
    from checkpoints.callbacks.transformers import RecordActivations

    train(transformers, tmp_path, [RecordActivations(text_run, {3}, LAYERS)])
    *updates, end = text_run.metrics()
    assert [line["step"] for line in updates] == [1, 2, 3]
    assert all(line.keys() >= {"loss", "learning_rate", "grad_norm"} for line in updates)
    assert end["step"] == 3
    assert "train_runtime" in end


def test_transformers_fails_at_the_start_where_a_pattern_matches_nothing(
    transformers: ModuleType, text_run: Run, tmp_path: Path
) -> None:
    from checkpoints.callbacks.transformers import RecordActivations

    with pytest.raises(ValueError, match=r"No layer matches 'encoder\.\*'"):
        train(transformers, tmp_path, [RecordActivations(text_run, {10**6}, "encoder.*")])


def test_transformers_records_on_one_process_only(transformers: ModuleType, text_run: Run) -> None:
    from checkpoints.callbacks.transformers import RecordActivations

    other = SimpleNamespace(is_world_process_zero=False, global_step=0)
    callback: Any = RecordActivations(text_run, 1, LAYERS)
    callback.on_train_begin(None, other, None, model=bert(transformers), optimizer=None)
    callback.on_log(None, other, None, logs={"loss": 1.0})
    assert (text_run.steps, text_run.metrics()) == ([], [])


def test_transformers_optimizer_can_be_restored(transformers: ModuleType, text_run: Run, tmp_path: Path) -> None:
    from checkpoints.callbacks.transformers import RecordActivations

    train(transformers, tmp_path, [RecordActivations(text_run, {3}, LAYERS)], weight_decay=0.0)
    model = bert(transformers)
    decayed = [weight for name, weight in model.named_parameters() if weight.ndim > 1]
    rest = [weight for name, weight in model.named_parameters() if weight.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": rest}])
    with torch.random.fork_rng(devices=[]):
        text_run[3].restore(model, optimizer)
    assert {float(state["step"]) for state in optimizer.state.values()} == {3.0}
