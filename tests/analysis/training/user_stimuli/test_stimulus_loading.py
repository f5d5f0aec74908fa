"""Stimuli as data sets, loaders and text that names them, from Python and from the command line."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import typer.testing
from torch.utils.data import DataLoader

from analysis import record_model
from analysis.cli import app
from analysis.config.recording import ModelConfig
from analysis.config.stimulus_files import StimulusConfig
from analysis.training.user_stimuli.stimulus_loading import load_stimuli
from checkpoints import Run, Stimuli

MODULE = """
import torch
from checkpoints import Stimuli

def net(width=48):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(width, 3))

class Photos(torch.utils.data.Dataset):
    classes = ["cat", "dog", "eel"]
    def __init__(self, n=20):
        self.n = n
    def __len__(self):
        return self.n
    def __getitem__(self, index):
        return torch.full((3, 4, 4), float(index)), index % 3

ready = Photos()
loader = torch.utils.data.DataLoader(ready, batch_size=6, shuffle=True)
number = 3
def complete():
    return Stimuli.of(list("abc"), [0, 1, 1], ["train", "validation", "test"], torch.ones(3, 2))
def shrink(image):
    return image.resize((4, 4))
def shrinker(size):
    return lambda image: image.resize((size, size))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "photo_parts.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("photo_parts", None)


@pytest.mark.parametrize("spec", ["Photos", "Photos(n=20)", "ready", "loader"])
@pytest.mark.usefixtures("place")
def test_a_data_set_may_be_named_by_its_module(spec: str) -> None:
    run = record_model(ModelConfig(model="photo_parts:net"), "new", data=f"photo_parts:{spec}")
    stimuli = run.stimuli
    assert stimuli.ids.tolist() == sorted(stimuli.ids.tolist(), key=lambda name: (int(name) % 3, int(name)))
    weight = run.last().weights()["1.weight"].numpy()
    bias = run.last().weights()["1.bias"].numpy()
    expected = np.outer([int(name) for name in stimuli.ids], weight.sum(1)) + bias
    np.testing.assert_allclose(run.last()["1"][:], expected, rtol=1e-5, atol=1e-5)
    assert run.config["data"]["classes"] == ["cat", "dog", "eel"]


class Odd(torch.utils.data.Dataset[Any]):
    """Pairs of a number and a label that is text."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        return torch.full((4,), float(index)), "odd" if index % 2 else "even"


def test_data_sets_loaders_and_stimuli_may_be_given_themselves(place: Path) -> None:
    for data in (Odd(), DataLoader(Odd(), 3, shuffle=True)):
        loaded = load_stimuli(data)
        assert (loaded.classes, loaded.stimuli.labels.tolist()) == (("even", "odd"), [0] * 5 + [1] * 5)
        assert sorted(set(loaded.stimuli.split.tolist())) == ["test", "train", "validation"]
    stimuli = Stimuli.of(range(10), [0] * 10, ["test"] * 10, torch.zeros(10, 4))
    run = record_model(ModelConfig(model="photo_parts:net(width=4)"), "own", data=stimuli)
    assert run.stimuli.is_same_as(stimuli)
    with pytest.raises(ValueError, match="read from a run, which stores no inputs"):
        load_stimuli(Run.open("own").stimuli)


WRONG: dict[str, tuple[Any, str]] = {
    "array": (np.zeros((3, 2)), "The data are of type ndarray; expected a path, a data set, a loader, or Stimuli.of"),
    "number": ("photo_parts:number", "The data are of type int; expected a path"),
    "nowhere": ("photo_parts:nowhere", r"Data 'photo_parts:nowhere' could not be built \(AttributeError"),
    "no name": ("photo parts:x", "Data 'photo parts:x' is not understood; expected module:factory"),
    "missing": ("nothing.npz", "There is no file nothing.npz; expected an .npz file, another file or folder"),
    "suffix": ("photo_parts.py", "photo_parts.py is no file of stimuli; expected .npz, .npy, .h5, .hdf5, .csv"),
    "no tokenizer": ("texts.txt", "texts.txt holds texts; give the --tokenizer folder that makes tokens of them"),
    "transform": (StimulusConfig(data="x.npy", transform="photo_parts:shrink"), "--transform belongs to a folder"),
    "tokenizer": (StimulusConfig(data="photos", tokenizer="t"), "--tokenizer belongs to a file of texts"),
    "length": (StimulusConfig(data="x.npy", max_length=3), "--max-length belongs to --tokenizer; leave it out"),
    "transform of a data set": (
        StimulusConfig(data="photo_parts:ready", transform="photo_parts:shrink"),
        "--transform belongs to a folder of images, and photo_parts:ready returns what the network takes; leave it out",
    ),
    "tokenizer of a data set": (
        StimulusConfig(data="photo_parts:ready", tokenizer="t"),
        "--tokenizer belongs to a file of texts, and photo_parts:ready",
    ),
    "length of a data set": (StimulusConfig(data="photo_parts:Photos", max_length=3), "--max-length belongs to texts"),
    "divided groups": (
        StimulusConfig(data="photo_parts:complete", targets="targets.csv", groups="who"),
        "Group 'p' is in the parts train and test of the split",
    ),
    "no function": (StimulusConfig(data="photos", transform="photo_parts:number"), "expected a function of an image"),
}


@pytest.mark.parametrize(("data", "message"), WRONG.values(), ids=WRONG)
def test_what_holds_no_stimuli_is_refused(place: Path, data: Any, message: str) -> None:
    np.save("x.npy", np.zeros((3, 2)))
    Path("texts.txt").write_text("a\n")
    Path("targets.csv").write_text("id,who\na,p\nb,q\nc,p\n")
    Path("photos").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_stimuli(data)


def said_by(command: list[str]) -> Any:
    return typer.testing.CliRunner().invoke(app, command)


@pytest.mark.parametrize("transform", ["photo_parts:shrink", "photo_parts:shrinker(size=4)"])
def test_the_command_records_a_folder_of_images(place: Path, transform: str) -> None:
    for label in ("cat", "dog"):
        (place / "photos" / label).mkdir(parents=True)
        for k in range(5):
            PIL.Image.new("RGB", (5 + k, 6), (40 * k, 10, 20)).save(place / "photos" / label / f"{k}.png")
    command = ["record", "--model", "photo_parts:net", "--data", "photos", "--transform", transform]
    assert "Recorded steps 0" in said_by([*command, "--output", "new", "--quiet"]).output
    run = Run.open("new")
    assert (run.stimuli.ids[0], run.stimuli.classes, run.last()["1"].shape) == ("cat/0.png", ("cat", "dog"), (10, 3))
    error = said_by(["record", "new", "--output", "other", "--transform", transform]).exception
    assert str(error) == "--transform belongs to --model; leave it out."


@pytest.mark.usefixtures("place")
def test_values_that_are_not_finite_are_refused() -> None:
    class Infinite(Odd):
        def __getitem__(self, index: int) -> Any:
            return torch.full((4,), np.inf if index == 7 else 0.0), 0

    with pytest.raises(ValueError, match="Infinite: The input of stimulus 7 has values that are NaN or infinite"):
        load_stimuli(Infinite())


def test_nothing_remains_if_inputs_change_before_they_are_recorded(place: Path) -> None:
    class Random(Odd):
        def __getitem__(self, index: int) -> Any:
            return torch.rand(4), 0

    with torch.random.fork_rng(), pytest.raises(ValueError, match="switch random transforms off"):
        record_model(ModelConfig(model="photo_parts:net(width=4)"), "new", data=Random())
    assert not Path("new").exists()
