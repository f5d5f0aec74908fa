import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from checkpoints import Damaged, read_weights

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, float("nan")])}


def same(tensors: dict[str, torch.Tensor]) -> bool:
    return tensors.keys() == WEIGHTS.keys() and all(
        tensors[name].numpy().tobytes() == value.numpy().tobytes() for name, value in WEIGHTS.items()
    )


def test_safetensors_are_read(folder: Path) -> None:
    safetensors.torch.save_file(WEIGHTS, folder / "w.safetensors")
    assert same(read_weights(folder / "w.safetensors"))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
def test_pickles_of_plain_tensors_are_read(folder: Path, suffix: str, wrapper: str | None) -> None:
    torch.save(WEIGHTS if wrapper is None else {wrapper: WEIGHTS, "epoch": 3}, folder / f"w{suffix}")
    assert same(read_weights(folder / f"w{suffix}"))


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("version", ["2.6.0", "2.9.1+cpu", "1.13.0"])
def test_a_torch_that_reads_pickles_unsafely_is_not_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    torch.save(WEIGHTS, folder / "w.pt")
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    with pytest.raises(ValueError, match=r"does not read safely\. Install torch 2\.10 or newer, or convert"):
        read_weights(folder / "w.pt")


@pytest.mark.parametrize("content", [[torch.zeros(1)], {}, {"a": 3}, {3: torch.zeros(1)}, torch.zeros(2)])
def test_anything_but_named_tensors_is_refused(folder: Path, content: Any) -> None:
    torch.save(content, folder / "w.pt")
    with pytest.raises(Damaged, match=r"holds (no dict of tensors|a \w+ at)"):
        read_weights(folder / "w.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_missing_file_is_named(folder: Path, suffix: str) -> None:
    with pytest.raises(Damaged, match=rf"{folder}/w\{suffix} is missing or not a regular file"):
        read_weights(folder / f"w{suffix}")


def test_a_link_of_the_user_is_followed(folder: Path) -> None:
    safetensors.torch.save_file(WEIGHTS, folder / "blob")
    (folder / "w.safetensors").symlink_to(folder / "blob")
    assert same(read_weights(folder / "w.safetensors"))


def test_another_type_of_file_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"w\.npz has an unknown type; expected \.safetensors, or \.pt"):
        read_weights(folder / "w.npz")


@pytest.mark.parametrize(
    "description",
    [
        "no JSON",
        "[1]",
        "{}",
        '{"entries": 3, "versions": {}}',
        '{"entries": {"__items__": []}, "versions": []}',
        '{"entries": {"__items__": [["b", {"__tensor__": "a"}]]}, "versions": {}}',  # a tensor of another entry
        '{"entries": {"__items__": [["b", {"__tensor__": "__packed__.7"}]]}, "versions": {}}',
        '{"entries": {"__items__": [["b", {"__pickle__": "80"}]]}, "versions": {}}',
        '{"entries": ' + "[" * 5000 + "]" * 5000 + ', "versions": {}}',
    ],
    ids=range(9),
)
def test_a_description_of_packed_entries_that_does_not_fit_is_damaged(folder: Path, description: str) -> None:
    tensors = {"a": torch.zeros(1), "__packed__.0": torch.ones(1)}
    safetensors.torch.save_file(tensors, folder / "w.safetensors", {"repsim": description})
    with pytest.raises(Damaged, match=r"w\.safetensors cannot be read"):
        read_weights(folder / "w.safetensors")


def test_metadata_of_others_is_not_read(folder: Path) -> None:
    safetensors.torch.save_file(WEIGHTS, folder / "w.safetensors", {"format": "pt", "note": "[["})
    assert same(read_weights(folder / "w.safetensors"))
