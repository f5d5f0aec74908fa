import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from checkpoints import read_weights
from checkpoints.storage.weight_paths import weight_digest, weight_path

A, B = {"a": torch.zeros(2)}, {"b": torch.ones(3)}


def write(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        torch.save(A, folder / name) if Path(name).suffix != ".safetensors" else safetensors.torch.save_file(
            A, folder / name
        )


def write_shards(folder: Path, suffix: str, weight_map: Any = None) -> Path:
    """Write two files of weights and their index."""
    first, second = f"model-1{suffix}", f"model-2{suffix}"
    write(folder, first)
    torch.save({**B, "more": B["b"]}, folder / second) if suffix == ".bin" else safetensors.torch.save_file(
        B, folder / second
    )
    index = folder / f"pytorch_model{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": weight_map or {"a": first, "b": second}}))
    return index


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_shards_are_joined_by_their_index_or_folder(folder: Path, suffix: str) -> None:
    index = write_shards(folder / "x", suffix)
    for path in (index, folder / "x"):
        weights = read_weights(path)
        assert list(weights) == ["a", "b"]
        assert torch.equal(weights["b"], B["b"])


def test_links_to_the_files_of_a_cache_are_followed(folder: Path) -> None:
    index = write_shards(folder / "blobs", ".safetensors")
    (folder / "snapshot").mkdir()
    for number, file in enumerate(sorted((folder / "blobs").iterdir())):
        target = file.rename(folder / "blobs" / str(number))
        (folder / "snapshot" / file.name).symlink_to(target)
    assert list(read_weights(folder / "snapshot")) == ["a", "b"]
    assert list(read_weights(folder / "snapshot" / index.name)) == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.safetensors", "optimizer.bin", "scheduler.bin"], "model.safetensors"),
        (["pytorch_model.bin", "optimizer.pt", "training_args.bin"], "pytorch_model.bin"),
        (["model.safetensors", "pytorch_model.bin"], "model.safetensors"),
        (["epoch_3.ckpt"], "epoch_3.ckpt"),
    ],
)
def test_the_weights_of_a_folder_are_found(folder: Path, names: list[str], expected: str) -> None:
    write(folder / "x", *names)
    assert weight_path(folder / "x").name == expected


FOLDERS = {
    "none": ([], r"x holds no weights; expected \.safetensors"),
    "a series": (
        [f"epoch_{number}.pt" for number in range(8)],
        r"several files of weights; give one: epoch_0\.pt, .*, epoch_5\.pt and 2 more\. "
        r"To record them as a series, give the pattern '.*x/\*\.pt'\.$",
    ),
    "several models": (
        ["model.safetensors", "model_1.safetensors"],
        r"model\.safetensors, model_1\.safetensors\.",
    ),
    "an old index": (["model.safetensors", "model.safetensors.index.json"], r"give one: model\.safetensors, model\.s"),
}


@pytest.mark.parametrize(("names", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_without_one_file_that_is_meant_is_refused(folder: Path, names: list[str], message: str) -> None:
    write(folder / "x", *names)
    with pytest.raises(ValueError, match=message):
        read_weights(folder / "x")


INDEXES: dict[str, tuple[Any, str]] = {
    "a missing shard": (
        {"a": "model-1.bin", "b": "model-9.bin"},
        r"names model-9\.bin, which is missing \(1 of 2",
    ),
    "a folder above": ({"a": "../model-1.bin"}, r"names '\.\./model-1\.bin'; expected the name of a file"),
    "an absolute path": ({"a": "/etc/model.bin"}, r"names '/etc/model\.bin'; expected the name"),
    "another system's path": ({"a": "..\\model.bin"}, r"expected the name of a file"),
    "another type": ({"a": "config.json"}, r"names 'config\.json'; expected the name of a file of weights"),
    "a number": ({"a": 3}, r"is not the index of several files of weights \(weight_map names no file"),
    "a list": ([["a", "b"]], r"is not the index of several files of weights"),
    "text": ("model", r"is not the index of several files of weights"),
    "an entry that is not there": ({"c": "model-1.bin"}, r"model-1\.bin does not hold 'c', which pytorch_model\.bin"),
}


@pytest.mark.parametrize(("weight_map", "message"), INDEXES.values(), ids=INDEXES)
def test_an_index_that_is_wrong_is_refused(folder: Path, weight_map: Any, message: str) -> None:
    index = write_shards(folder / "x", ".bin", weight_map)
    with pytest.raises(ValueError, match=message):
        read_weights(index)


def test_the_digest_is_that_of_the_file_or_of_the_list_of_files(folder: Path) -> None:
    index = write_shards(folder / "x", ".bin")
    names = [index.name, "model-1.bin", "model-2.bin"]
    digests = [hashlib.sha256((folder / "x" / name).read_bytes()).hexdigest() for name in names]
    assert weight_digest(folder / "x" / "model-1.bin") == digests[1]
    listed = "".join(f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True))
    assert weight_digest(folder / "x") == weight_digest(index) == hashlib.sha256(listed.encode()).hexdigest()
