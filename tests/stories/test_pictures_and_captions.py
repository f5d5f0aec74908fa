"""Someone has photos in two sizes, with a caption for each, and compares networks that saw one of these forms."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from checkpoints import Run
from tests.conftest import Repsim

MODULE = """
import torch
from torch import nn

def of_pictures():
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    return nn.Sequential(conv, nn.Flatten(), nn.Linear(24, 8))

class OfCaptions(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.words = nn.Embedding(30, 12)
        self.gru = nn.GRU(12, 8, batch_first=True)

    def forward(self, tokens):
        return self.gru(self.words(tokens))[0][:, -1]
"""
N = 40
NAMES = np.array([f"photo {k}" for k in range(N)])
SPLIT = np.array(["train", "train", "validation", "test", "test"] * 8)
Y = np.arange(N) % 2


def save_photos() -> None:
    """Save photos, the same at half the size in another order, and captions of all but the first five."""
    random = np.random.default_rng(0)
    fine = (random.normal(size=(N, 1, 16, 16)) + Y[:, None, None, None]).astype(np.float32)
    coarse = fine.reshape(N, 1, 8, 2, 8, 2).mean((3, 5))
    captions = 15 * Y[:, None] + random.integers(0, 15, (N, 5))
    rows = np.arange(N)
    for name, inputs, order in (("fine", fine, rows), ("coarse", coarse, rows[::-1]), ("captions", captions, rows[5:])):
        about = {"y": Y[order], "ids": NAMES[order], "split": SPLIT[order]}
        np.savez(f"{name}.npz", **{"tokens" if name == "captions" else "X": inputs[order]}, **about)


@pytest.fixture
def recorded(place: Path, repsim: Repsim) -> Path:
    (place / "my_networks.py").write_text(MODULE)
    save_photos()
    for name in ("fine", "coarse"):
        line = f"record --model my_networks:of_pictures --data {name}.npz --layers 2 --output runs/{name}"
        assert repsim(line).code == 0
    assert repsim("record --model my_networks:OfCaptions --data captions.npz --output runs/captions").code == 0
    return place


@pytest.mark.usefixtures("recorded", "blank_figures")
def test_photos_of_two_sizes_are_compared_by_id(repsim: Repsim) -> None:
    said = repsim("compare runs/fine runs/coarse --Cs 1 --quiet")
    assert said.code == 2
    assert "the inputs of 40 of 40 ids differ" in said.err
    assert said.err.endswith("give --match ids; otherwise train or record both with the same data.\n")
    said = repsim("compare runs/fine runs/coarse --match ids --Cs 1 --quiet")
    assert "Stimuli are matched by id: 40 are compared.\ncoarse saw other inputs than fine.\n" in said.out
    assert json.loads(Path("runs/comparison/analysis.json").read_text())["stimuli"]["match"] == "ids"
    assert pd.read_csv("runs/comparison/rdm_similarity.csv")["pearson"].iloc[0] > 0.9  # nearly the same means


@pytest.mark.usefixtures("recorded", "blank_figures")
def test_a_network_of_photos_is_compared_with_one_of_captions(repsim: Repsim) -> None:
    said = repsim("compare runs/fine runs/captions --match ids --Cs 1 --quiet")
    assert said.code == 0, said.err
    assert "Stimuli are matched by id: 35 are compared" in said.out
    assert "captions saw other inputs than fine." in said.out
    table = pd.read_csv("runs/comparison/similarity.csv")
    between = table[(table["view_a"] == "fine") & (table["view_b"] == "captions")]
    layers = set(Run.open("runs/captions").last().activations)
    assert set(between["layer_b"]) == layers
    assert between["cka"].between(0, 1).all()
    probes = pd.read_csv("runs/comparison/probes.csv").groupby("view")["accuracy"].max()
    assert probes.min() > 0.6  # both know something of the class
