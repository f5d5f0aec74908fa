"""Weights as each framework itself writes them, for the plain model; and weights that do not fit."""

import argparse
import copy
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

from checkpoints.storage.weights import WeightFile
from checkpoints.training_state.weight_fitting import fit_weights


class Net(nn.Module):
    def __init__(self, width: int = 8, classes: int = 3, depth: int = 2, inputs: int = 4) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.head.weight = self.embed.weight


def trained(model: nn.Module) -> nn.Module:
    """Return the model with other weights, and optimizer state where somebody wants it."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape)) if tensor.is_floating_point() else tensor.fill_(7)
    return model


def load(path: Path, model: nn.Module, key: str | None = None) -> str:
    return " ".join(fit_weights(model, WeightFile.read(path), key))


def assert_fits(path: Path, source: nn.Module, target: nn.Module, key: str | None = None) -> str:
    said = load(path, target, key)
    held = target.state_dict()
    for name, value in source.state_dict().items():
        assert torch.equal(held[name], value), name
    return said


def adam(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def write_plain(model: nn.Module, folder: Path) -> Path:
    torch.save(model.state_dict(), folder / "w.pt")
    return folder / "w.pt"


def write_legacy(model: nn.Module, folder: Path) -> Path:
    torch.save({"model": model.state_dict()}, folder / "w.tar", _use_new_zipfile_serialization=False)
    return folder / "w.tar"


def write_parallel(model: nn.Module, folder: Path) -> Path:
    torch.save({"state_dict": nn.DataParallel(model).state_dict(), "epoch": 3}, folder / "w.pth.tar")
    return folder / "w.pth.tar"


def compiled(module: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch itself at its first use
        return torch.compile(module)


def write_compiled(model: nn.Module, folder: Path) -> Path:
    torch.save(compiled(model).state_dict(), folder / "w.pth")
    return folder / "w.pth"


def write_compiled_part(model: nn.Module, folder: Path) -> Path:
    model = copy.deepcopy(model)
    model.blocks = compiled(model.blocks)
    torch.save(nn.DataParallel(model).state_dict(), folder / "w.pth")
    return folder / "w.pth"


def write_averaged(model: nn.Module, folder: Path) -> Path:
    averaged = torch.optim.swa_utils.AveragedModel(model)
    torch.save({"ema": averaged.state_dict(), "step": torch.tensor(5)}, folder / "w.pt")
    return folder / "w.pt"


def write_training(model: nn.Module, folder: Path) -> Path:
    state = copy.deepcopy(model.state_dict())
    content = {
        "network": state,
        "optimizer": adam(copy.deepcopy(model)).state_dict(),
        "args": argparse.Namespace(lr=0.1, path=Path("x")),
        "accuracy": np.float64(0.5),
        "history": np.ones(3),
        "best": torch.tensor(0.5),
        "step": 100,
    }
    torch.save(content, folder / "w.ckpt")
    return folder / "w.ckpt"


def write_scalars_among_them(model: nn.Module, folder: Path) -> Path:
    torch.save({**model.state_dict(), "epoch": 3, "args": argparse.Namespace()}, folder / "w.pt")
    return folder / "w.pt"


def write_safetensors(model: nn.Module, folder: Path) -> Path:
    safetensors.torch.save_file(model.state_dict(), folder / "w.safetensors")
    return folder / "w.safetensors"


def write_model_of_safetensors(model: nn.Module, folder: Path) -> Path:
    safetensors.torch.save_model(model, str(folder / "w.safetensors"))
    return folder / "w.safetensors"


def write_by_accelerate(**options: Any) -> Callable[[nn.Module, Path], Path]:
    def write(model: nn.Module, folder: Path) -> Path:
        accelerator = pytest.importorskip("accelerate").Accelerator(cpu=True)
        accelerator.save_model(model, str(folder / "saved"), **options)
        return folder / "saved"

    return write


def write_state_by_accelerate(**options: Any) -> Callable[[nn.Module, Path], Path]:
    def write(model: nn.Module, folder: Path) -> Path:
        accelerator = pytest.importorskip("accelerate").Accelerator(cpu=True)
        model = copy.deepcopy(model)
        accelerator.prepare(model, torch.optim.Adam(model.parameters()))
        accelerator.save_state(str(folder / "saved"), **options)
        return folder / "saved"

    return write


def write_by_lightning(model: nn.Module, folder: Path) -> Path:
    lightning = pytest.importorskip("lightning")

    class Lit(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, options: Any) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = copy.deepcopy(model)
            self.loss = nn.CrossEntropyLoss(weight=torch.ones(3))

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return self.loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        silence = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(
            max_epochs=1, accelerator="cpu", enable_checkpointing=False, default_root_dir=folder, **silence
        )
        data = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.arange(8) % 3)
        lit = Lit(argparse.Namespace(lr=np.float64(0.1)))
        trainer.fit(lit, torch.utils.data.DataLoader(data, batch_size=4))
        trainer.save_checkpoint(folder / "w.ckpt")
    model.load_state_dict(lit.net.state_dict())  # batch norm has counted
    return folder / "w.ckpt"


PLAIN = {
    "torch.save": (write_plain, ""),
    "torch.save before 1.6": (write_legacy, ""),
    "DataParallel": (write_parallel, r"^the weights fit without the prefix 'module\.'\."),
    "torch.compile": (write_compiled, r"^the weights fit without the prefix '_orig_mod\.'\."),
    "torch.compile of a part": (write_compiled_part, "without '_orig_mod' in the names, without 'module' in the names"),
    "AveragedModel": (
        write_averaged,
        r"^the weights fit without the prefix 'module\.'\..*left out 1 entry .*: n_averaged\.",
    ),
    "a training": (write_training, ""),
    "scalars": (write_scalars_among_them, r"left out 2 entries that the model does not have: epoch, args\."),
    "safetensors": (write_safetensors, ""),
    "safetensors save_model": (write_model_of_safetensors, ""),
    "accelerate save_model": (write_by_accelerate(), ""),
    "accelerate save_model, bin": (write_by_accelerate(safe_serialization=False), ""),
    "accelerate save_state": (write_state_by_accelerate(), ""),
    "accelerate save_state, bin": (write_state_by_accelerate(safe_serialization=False), ""),
    "Lightning": (write_by_lightning, r"without the prefix 'net\.'\..*left out 1 entry that .*: loss\.weight\."),
}


@pytest.mark.parametrize(("write", "said"), PLAIN.values(), ids=PLAIN)
def test_weights_of_each_framework_fit_the_plain_model(
    folder: Path, write: Callable[[nn.Module, Path], Path], said: str
) -> None:
    source = trained(Net())
    path = write(source, folder)
    notes = assert_fits(path, source, Net())
    assert re.search(said, notes) if said else notes == ""


@pytest.mark.parametrize("safe", [True, False])
def test_shards_of_accelerate_are_joined(folder: Path, safe: bool) -> None:
    source = trained(Net(width=40))
    path = write_by_accelerate(max_shard_size="3KB", safe_serialization=safe)(source, folder)
    assert len(list(path.iterdir())) > 3
    assert assert_fits(path, source, Net(width=40)) == ""


@pytest.mark.parametrize("write", [write_plain, write_model_of_safetensors, write_by_accelerate()])
def test_tied_weights_fit_from_one_name(folder: Path, write: Callable[[nn.Module, Path], Path]) -> None:
    source, target = trained(Tied()), Tied()
    assert assert_fits(write(source, folder), source, target) == ""
    assert target.head.weight is target.embed.weight


def bert(model: str, **options: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(**sizes, vocab_size=20, max_position_embeddings=16)
    return trained(getattr(transformers, model)(config, **options))


@pytest.mark.parametrize("shards", ["1GB", "2KB"])
def test_a_folder_of_save_pretrained_fits_its_model_and_the_base_of_it(folder: Path, shards: str) -> None:
    source = bert("BertForMaskedLM")
    source.save_pretrained(folder / "saved", max_shard_size=shards)
    assert (len(list((folder / "saved").glob("*.safetensors"))) > 1) == (shards == "2KB")
    assert assert_fits(folder / "saved", source, bert("BertForMaskedLM")) == ""
    said = assert_fits(folder / "saved", source.bert, bert("BertModel", add_pooling_layer=False))
    assert "the weights fit without the prefix 'bert.'" in said
    assert "entries that the model does not have: cls.predictions." in said


def test_a_prefix_that_the_model_has_is_added(folder: Path) -> None:
    source = trained(Net())
    outer = nn.ModuleDict({"inner": nn.ModuleDict({"net": Net()})})
    assert load(write_plain(source, folder), outer).endswith("the weights fit with the prefix 'inner.net.' added.")
    assert torch.equal(outer.state_dict()["inner.net.stem.weight"], source.state_dict()["stem.weight"])
    torch.save({f"student.{name}": value for name, value in source.state_dict().items()}, folder / "s.pt")
    assert "without the prefix 'student.', with the prefix 'inner.net.' added" in load(folder / "s.pt", outer)
    parallel = nn.DataParallel(Net())
    load(write_plain(source, folder), parallel)
    assert torch.equal(parallel.module.stem.weight, source.stem.weight)


def test_an_attribute_named_like_a_wrapper_is_no_wrapper(folder: Path) -> None:
    model = nn.ModuleDict({"module": Net(), "other": Net()})
    assert assert_fits(write_plain(trained(copy.deepcopy(model)), folder), model, model) == ""


def test_the_key_chooses_among_weights_that_fit(folder: Path) -> None:
    source, ema = trained(Net()), trained(Net())
    torch.save({"model": source.state_dict(), "ema": {"shadow": ema.state_dict()}}, folder / "w.pt")
    with pytest.raises(
        ValueError, match=r"holds several weights that fit the model; choose one with --key: model, ema\.s"
    ):
        load(folder / "w.pt", Net())
    assert_fits(folder / "w.pt", source, Net(), "model")
    assert_fits(folder / "w.pt", ema, Net(), "ema.shadow")


def test_the_only_weights_that_fit_are_taken(folder: Path) -> None:
    source, teacher = trained(Net()), trained(Net(width=16))
    torch.save({"teacher": teacher.state_dict(), "student": source.state_dict()}, folder / "w.pt")
    said = assert_fits(folder / "w.pt", source, Net())
    assert said == "the weights are those at 'student'; those at teacher do not fit."


def test_the_key_chooses_among_prefixes_that_fit(folder: Path) -> None:
    source, teacher = trained(Net()), trained(Net())
    both = {f"student.{name}": value for name, value in source.state_dict().items()}
    both |= {f"teacher.{name}": value for name, value in teacher.state_dict().items()}
    torch.save({"state_dict": both}, folder / "w.pt")
    with pytest.raises(ValueError, match=r"choose one with --key: state_dict\.student, state_dict\.teacher\."):
        load(folder / "w.pt", Net())
    assert_fits(folder / "w.pt", teacher, Net(), "state_dict.teacher")
    safetensors.torch.save_file(both, folder / "w.safetensors")
    assert_fits(folder / "w.safetensors", source, Net(), "student")


def test_files_of_old_versions_of_torch_fit(folder: Path) -> None:
    source = trained(Net())
    state = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}
    torch.save(state, folder / "w.pt")
    target = Net()
    load(folder / "w.pt", target)
    assert torch.equal(target.norm.running_mean, source.norm.running_mean)
    assert target.norm.num_batches_tracked == 0


def test_names_that_the_model_translates_itself_fit(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(3, 2)))  # of older versions of torch
    target = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    torch.save(source.state_dict(), folder / "w.pt")
    assert load(folder / "w.pt", target) == "the names of the weights were translated by the model."
    torch.testing.assert_close(target[0].weight, source[0].weight)


UNFIT: dict[str, tuple[Callable[[], Any], str]] = {
    "classes": (
        lambda: Net(classes=10).state_dict(),
        r"w\.pt does not fit the model: of 13 entries, 2 of another shape or type \('head\.weight': \(10, 8\) in the "
        r"file, \(3, 8\) in the model; 'head\.bias': .*\)\. Probably another number of classes: the last layer 'head' "
        r"has 10 outputs in the file and 3 in the model; build the model with 10\.$",
    ),
    "inputs": (lambda: Net(inputs=5).state_dict(), r"1 of another shape .*another number of input features"),
    "width": (
        lambda: Net(width=16).state_dict(),
        r"11 of another shape or type \(.*; .*; .*; \.\.\.\)\. Probably another w",
    ),
    "kernels": (
        lambda: {**Net().state_dict(), "stem.weight": torch.zeros(8, 4, 1)},
        r"1 of another shape .*Probably another architecture",
    ),
    "depth": (
        lambda: Net(depth=5).state_dict(),
        r"6 unexpected \('blocks\.2\.weight'; .*Probably another number of layers",
    ),
    "less depth": (lambda: Net(depth=1).state_dict(), r"2 missing \('blocks\.1\.weight'; .*another number of layers"),
    "a part": (lambda: Net().blocks.state_dict(), r"of 13 entries, 12 missing .* 4 unexpected"),
    "without head": (
        lambda: {name: value for name, value in Net().state_dict().items() if "head" not in name},
        r"of 13 entries, 2 missing \('head\.weight'; 'head\.bias'\)\. The file holds a part of the model only",
    ),
    "more": (
        lambda: {**Net().state_dict(), "aux.weight": torch.ones(1)},
        r"1 unexpected \('aux\.weight'\)\. The file has everything and more: remove",
    ),
    "another architecture": (
        lambda: {"x.weight": torch.ones(2)},
        r"No name is the same: probably another architecture",
    ),
    "some names": (
        lambda: {"stem.weight": torch.zeros(8, 4), "body.x": torch.ones(1)},
        r"11 missing .*1 unexpected .*Probably another architecture; give",
    ),
    "other names": (
        lambda: {name.replace(".", "_"): value for name, value in Net().state_dict().items()},
        r"12 missing .* 13 unexpected .*The shapes are the same under other names: rename",
    ),
    "quantized": (
        lambda: {**Net().state_dict(), "stem.weight": torch.zeros(8, 4, dtype=torch.int8)},
        r"'stem\.weight': int8 \(8, 4\) in the file, float32 \(8, 4\) in the model\)\. Probably quantized or packed",
    ),
    "complex": (
        lambda: {**Net().state_dict(), "stem.weight": torch.zeros(8, 4, dtype=torch.complex64)},
        r"complex64 \(8, 4\) in the file, float32",
    ),
    "an object": (
        lambda: {**Net().state_dict(), "stem.weight": np.zeros((8, 4))},
        r"'stem\.weight': a numpy.*_reconstruct in the file, \(8, 4\) in the model",
    ),
    "a prefix": (
        lambda: {f"net.{name}": value for name, value in Net(classes=5).state_dict().items()},
        r"of 13 entries \(compared without the prefix 'net\.'\), 2 of another shape .*another number of classes",
    ),
    "an optimizer": (lambda: adam(Net()).state_dict(), r"holds no dict of tensors, but the state of an optimizer\."),
    "more inside the prefix": (
        lambda: {f"net.{name}": value for name, value in {**Net().state_dict(), "aux": torch.ones(1)}.items()},
        r"\(compared without the prefix 'net\.'\), 1 unexpected \('net\.aux'\)",
    ),
    "under a key": (lambda: {"net": Net(classes=5).state_dict()}, r"does not fit the model at 'net': of 13 entries"),
}


@pytest.mark.parametrize(("content", "message"), UNFIT.values(), ids=UNFIT)
def test_weights_that_do_not_fit_are_summarised(folder: Path, content: Callable[[], Any], message: str) -> None:
    torch.save(content(), folder / "w.pt")
    model = Net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message) as raised:
        load(folder / "w.pt", model)
    assert "\n" not in str(raised.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_values_for_tied_weights_are_refused(folder: Path) -> None:
    torch.save({"embed.weight": torch.zeros(64, 64), "head.weight": torch.ones(64, 64)}, folder / "w.pt")
    model = Tied()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"w\.pt does not fit the model: The weights give .* different values"):
        load(folder / "w.pt", model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_in_another_format_that_are_not_read_are_named(folder: Path) -> None:
    source = trained(Net())
    safetensors.torch.save_file(source.state_dict(), folder / "model.safetensors")
    torch.save(Net().state_dict(), folder / "pytorch_model.bin")
    said = assert_fits(folder, source, Net())
    assert said == "read model.safetensors, not pytorch_model.bin, which is there too."


def test_tensors_that_claim_more_than_they_store_are_refused(folder: Path) -> None:
    torch.save({"net": {"weight": torch.zeros(1).expand(2, 3), "bias": torch.zeros(2)}}, folder / "w.pt")
    with pytest.raises(ValueError, match="claims more values at 'weight' than it stores"):
        load(folder / "w.pt", nn.Linear(3, 2))
