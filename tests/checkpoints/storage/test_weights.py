import argparse
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
    with pytest.raises(ValueError, match=r"w\.npz has an unknown type; expected \.safetensors, \.pt, \.pth"):
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


@pytest.mark.parametrize(
    ("key", "content"),
    [
        (None, {"net": WEIGHTS, "epoch": 3}),
        (None, {"state_dict": WEIGHTS, "ema": {"a.weight": torch.zeros(2, 3)}, "best": torch.tensor(0.5)}),
        (None, {"optimizer": {"state": {"a.weight": {"exp_avg": torch.zeros(2)}}, "param_groups": []}, "net": WEIGHTS}),
        (None, {"state_dict": {"model": WEIGHTS}}),
        ("ema", {"state_dict": {"a": torch.zeros(1)}, "ema": WEIGHTS}),
        ("deep.er", {"a": torch.zeros(1), "deep": {"er": WEIGHTS}}),
        ("dotted.key", {"a": torch.zeros(1), "dotted.key": WEIGHTS}),
        ("net.inner", {"net": {**{f"inner.{name}": value for name, value in WEIGHTS.items()}, "loss": torch.ones(1)}}),
    ],
)
def test_the_dict_of_tensors_is_found_under_any_key(folder: Path, key: str | None, content: Any) -> None:
    torch.save(content, folder / "w.pth.tar")
    assert same(read_weights(folder / "w.pth.tar", key))


REFUSED: dict[str, tuple[Any, str | None, str]] = {
    "several": (
        {"a": WEIGHTS, "b": WEIGHTS},
        None,
        r"w\.pt holds several dicts of tensors; .* with key: a, b\.",
    ),
    "several usual": ({"model": WEIGHTS, "state_dict": WEIGHTS}, None, r"choose one with key: model, state_dict\."),
    "no such key": ({"a": WEIGHTS}, "b", r"w\.pt holds no dict of tensors at key 'b'; .* of tensors are: a\."),
    "no such key, none": ({"a": 1}, "b", r"at key 'b'; its dicts of tensors are: none\."),
    "a scalar at the key": ({"a": WEIGHTS, "step": 3}, "step", r"holds no dict of tensors at key 'step'"),
    "key and prefix": ({"a": WEIGHTS, "a.b": torch.ones(1)}, "a", r"holds 'a' both as a key and as the prefix"),
    "an optimizer": (
        torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]).state_dict(),
        None,
        r"w\.pt holds no dict of tensors, but the state of an optimizer\. Save model\.state_dict\(\)\.",
    ),
    "a model": (
        torch.nn.Linear(2, 2),
        None,
        r"but a whole torch\.nn\..*\.Linear, which .* Save model\.state",
    ),
    "a model inside": (
        {"model": torch.nn.ReLU(), "n": 1},
        None,
        r"a whole torch\..*\.ReLU at 'model', which can",
    ),
    "scalars": ({"a": 1, "b": 2.0}, None, r"holds no dict of tensors, but a dict with a, b\. Save"),
    "many keys": (dict.fromkeys("abcdefghijklmnop", 1), None, r"a dict with a, b, .*, l and 4 more\."),
    "nothing": ({}, None, r"a dict with no keys"),
    "an object among them": (
        {**WEIGHTS, "args": argparse.Namespace()},
        None,
        r"holds a argparse\.Namespace at 'args'",
    ),
}


@pytest.mark.parametrize(("content", "key", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_ambiguous_or_no_state_dict_is_refused(
    folder: Path, content: Any, key: str | None, message: str
) -> None:
    torch.save(content, folder / "w.pt")
    with pytest.raises(ValueError, match=message):
        read_weights(folder / "w.pt", key)


def test_a_prefix_of_a_safetensors_file_is_a_key(folder: Path) -> None:
    tensors = {f"net.{name}": value for name, value in WEIGHTS.items()}
    safetensors.torch.save_file({**tensors, "head": torch.ones(1)}, folder / "w.safetensors")
    assert same(read_weights(folder / "w.safetensors", "net"))
