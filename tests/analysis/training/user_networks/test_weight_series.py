"""Series of weights: patterns; steps from names, keys and regular expressions; and what is refused."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from analysis.config.recording import ModelConfig
from analysis.training.user_networks.weight_series import StepWeights, weight_series

W = {"w": torch.zeros(2)}


def series(*weights: Any, **settings: Any) -> list[StepWeights]:
    return weight_series(ModelConfig(weights=tuple(map(str, weights)), **settings))


def touched(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return [folder / name for name in names]


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["epoch_1.pt", "epoch_10.pt", "epoch_9.pt"], [1, 10, 9]),
        (["resnet18_epoch3.pth.tar", "resnet18_epoch12.pth.tar"], [3, 12]),
        (["checkpoint-500/model.safetensors", "checkpoint-1000/model.safetensors"], [500, 1000]),
        (["checkpoint-500/net-500.pt", "checkpoint-1000/net-1000.pt"], [500, 1000]),
        (["epoch=0-step=100.ckpt", "epoch=1-step=200.ckpt"], [100, 200]),
        (["epoch=0-step=100-loss=0.25.ckpt", "epoch=1-step=200-loss=0.125.ckpt"], [100, 200]),
        (["e1_global_step7.pt", "e2_global_step9.pt"], [7, 9]),
        (["1-iteration-300.pt", "2-iteration-400.pt"], [300, 400]),
        (["v1.5_0001.pt", "v1.5_0020.pt"], [1, 20]),
        (["run2/ckpt/3.pt", "run2/ckpt/7.pt"], [3, 7]),
    ],
)
def test_the_step_is_the_number_in_which_names_differ(tmp_path: Path, names: list[str], steps: list[int]) -> None:
    paths = touched(tmp_path / "2024-12", *names)
    assert [(each.step, each.path) for each in series(*paths)] == sorted(zip(steps, paths, strict=True))


def test_patterns_and_paths_are_one_series_without_repetitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touched(tmp_path, "a_1.pt", "a_2.pt", "a_3.pt", "b_4.pt")
    found = series("a_*.pt", tmp_path / "a_2.pt", "a_3.pt")
    assert [(each.step, each.path and each.path.name) for each in found] == [
        (1, "a_1.pt"),
        (2, "a_2.pt"),
        (3, "a_3.pt"),
    ]


def test_folders_match_a_pattern(tmp_path: Path) -> None:
    touched(tmp_path, "checkpoint-5/model.safetensors", "checkpoint-10/model.safetensors")
    assert [each.step for each in series(tmp_path / "checkpoint-*")] == [5, 10]
    assert [each.step for each in series(tmp_path / "**/*.safetensors")] == [5, 10]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    paths = touched(tmp_path, "net[1].pt", "net[2].pt", "net1.pt")
    assert [each.path for each in series(*paths[:2])] == paths[:2]
    assert [(each.step, each.path) for each in series(paths[0])] == [(0, paths[0])]


def test_a_regular_expression_says_where_the_step_is(tmp_path: Path) -> None:
    paths = touched(tmp_path, "run7/epoch=0-step=100.ckpt", "run7/epoch=1-step=200.ckpt")
    assert [each.step for each in series(*paths, steps_from=r"epoch=(\d+)")] == [0, 1]
    with pytest.raises(
        ValueError, match=r"ckpt and .*ckpt are both of step 7; leave one out\. Say where the steps are"
    ):
        series(*paths, steps_from=r"run(\d)/")


@pytest.mark.parametrize("last", [200, 200.0, torch.tensor(200), torch.tensor([200.0]), np.int64(200), np.float32(200)])
def test_a_key_of_each_file_holds_the_step(tmp_path: Path, last: Any) -> None:
    for name, step in (("best.pt", 30), ("last.pt", last), ("first.pt", 10)):
        torch.save({"model": W, "trainer": {"global_step": step}, "note": "x"}, tmp_path / name)
    found = series(tmp_path / "*.pt", steps_from="key:trainer.global_step")
    assert [(each.step, each.path and each.path.name) for each in found] == [
        (10, "first.pt"),
        (30, "best.pt"),
        (200, "last.pt"),
    ]


def test_a_tensor_of_safetensors_holds_the_step(tmp_path: Path) -> None:
    safetensors.torch.save_file({**W, "step": torch.tensor(4)}, tmp_path / "a.safetensors")
    assert [each.step for each in series(tmp_path / "a.safetensors", steps_from="key:step")] == [4]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("epoch", r"one\.pt holds no number at key 'epoch'; it holds: model, note, half, negative, yes, several\."),
        ("model", r"holds no number at key 'model'"),
        ("note", r"holds 'x' at key 'note'; expected a whole number of 0 or more"),
        ("half", r"holds 0\.5 at key 'half'"),
        ("negative", r"holds -1 at key 'negative'"),
        ("yes", r"holds True at key 'yes'"),
        ("inner.step", r"holds 2 values at key 'inner\.step'; expected one\. Give another key"),
        ("several", r"holds tensor\(\[0\., 0\.\]\) at key 'several'"),
    ],
)
def test_a_key_that_is_no_step_is_refused(tmp_path: Path, key: str, reason: str) -> None:
    others = {"note": "x", "half": 0.5, "negative": -1, "yes": True, "several": W["w"]}
    if key == "inner.step":
        others = {"inner.step": 1, "inner": {"step": 2}}
    torch.save({"model": W, **others}, tmp_path / "one.pt")
    with pytest.raises(ValueError, match=reason):
        series(tmp_path / "one.pt", steps_from=f"key:{key}")


@pytest.mark.parametrize(
    ("names", "steps_from", "message"),
    [
        (["init.pt", "epoch_1.pt"], "name", "differ in more than numbers"),
        (["epoch_1_best.pt", "epoch_2.pt"], "name", "differ in more than numbers"),
        (["epoch_1.pt", "epoch_1.safetensors"], "name", "differ in more than numbers"),
        (["run1/epoch_1.pt", "run2/epoch_2.pt", "run1/epoch_2.pt"], "name", r"differ in 2 numbers\. Say where"),
        (["loss_0.5.pt", "loss_0.25.pt"], "name", r"The names differ in 0\.5, but steps are whole numbers"),
        (["epoch_1.pt", "epoch_01.pt"], "name", "are both of step 1"),
        (["epoch_1.pt", f"epoch_{2**63}.pt"], "name", r"epoch_9223372036854775808\.pt is of step 922.*; expected less"),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            "name",
            r"00002-of-00002\.safetensors are parts of one network; give their \.index\.json, or the folder",
        ),
        (["epoch_1.pt", "epoch_2.pt"], r"epoch_\d+", "has 0 groups in parentheses; expected name, key:NAME, or"),
        (["epoch_1.pt", "epoch_2.pt"], "epoch_(", "is not a regular expression"),
        (["epoch_1.pt", "epoch_2.pt"], r"step_(\d+)", "finds no whole number in .*epoch_1"),
        (["epoch_1.pt", "epoch_2.pt"], "epoch(_)", "finds no whole number in .*epoch_1"),
        ([], r"epoch_(\d+)", r"--steps-from 'epoch_\(\\d\+\)' was given without --weights"),
    ],
)
def test_what_leaves_the_steps_open_is_refused(tmp_path: Path, names: list[str], steps_from: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        series(*touched(tmp_path, *names), steps_from=steps_from)


def test_one_file_has_the_given_step(tmp_path: Path) -> None:
    (path,) = touched(tmp_path, "epoch_3.pt")
    assert [each.step for each in series(path)] == [0]
    assert [each.step for each in series(path, step=7)] == [7]
    assert [each.step for each in series(tmp_path / "epoch_*.pt", step=7)] == [7]
    assert [each.step for each in series(path, steps_from=r"epoch_(\d+)")] == [3]
    with pytest.raises(
        ValueError, match=r"Only .*epoch_3\.pt matches .*epoch_\*\.pt, so .*\. Give --step, or say where"
    ):
        series(tmp_path / "epoch_*.pt")


def test_the_step_of_several_files_is_refused(tmp_path: Path) -> None:
    paths = touched(tmp_path, "epoch_1.pt", "epoch_2.pt")
    with pytest.raises(ValueError, match="step 3 was given, but the steps of 2 files are read from their names; leave"):
        series(*paths, step=3)
    with pytest.raises(
        ValueError, match=re.escape(r"the steps of one file are read from epoch_(\d+); leave --step out")
    ):
        series(paths[0], step=3, steps_from=r"epoch_(\d+)")


def test_a_pattern_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No file matches .*epoch_\*\.pt\. Give paths"):
        series(tmp_path / "epoch_*.pt")


# Names that frameworks give


def saved_by_lightning(folder: Path) -> str:
    lightning = pytest.importorskip("lightning")

    class Lit(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(2, 1)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return self.net(batch[0]).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saving = lightning.pytorch.callbacks.ModelCheckpoint(folder, save_top_k=-1)
        silence = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", callbacks=[saving], **silence)
        data = torch.utils.data.TensorDataset(torch.randn(6, 2))
        trainer.fit(Lit(), torch.utils.data.DataLoader(data, batch_size=2))
    return "*.ckpt"


def saved_by_transformers(folder: Path) -> str:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    model = transformers.BertModel(transformers.BertConfig(**sizes, vocab_size=5, max_position_embeddings=4))
    for step in (3, 6):
        model.save_pretrained(folder / f"checkpoint-{step}")
    return "checkpoint-*"


def saved_by_accelerate(folder: Path) -> str:
    accelerate = pytest.importorskip("accelerate")
    naming = accelerate.utils.ProjectConfiguration(project_dir=str(folder), automatic_checkpoint_naming=True)
    accelerator = accelerate.Accelerator(cpu=True, project_config=naming)
    accelerator.prepare(nn.Linear(2, 1))
    for _ in range(2):
        accelerator.save_state()
    return "checkpoints/checkpoint_*"


@pytest.mark.parametrize(
    ("save", "steps"), [(saved_by_lightning, [3, 6]), (saved_by_transformers, [3, 6]), (saved_by_accelerate, [0, 1])]
)
def test_names_that_frameworks_give_hold_the_step(
    tmp_path: Path, save: Callable[[Path], str], steps: list[int]
) -> None:
    found = series(tmp_path / save(tmp_path))
    assert [each.step for each in found] == steps
    assert all(len(each.digest or "") == 64 for each in found)
    if save is saved_by_lightning:
        assert [each.step for each in series(tmp_path / "*.ckpt", steps_from="key:global_step")] == steps
