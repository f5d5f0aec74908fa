"""Someone has trained a network of their own twice, with a file after each epoch, and asks how its layers changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from checkpoints import Run
from tests.conftest import Repsim

MODULE = """
from torch import nn

class SmallCNN(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(4)
        self.head = nn.Linear(4 * width, 3)

    def forward(self, images):
        maps = self.pool(self.norm(self.conv(images)).relu())
        return self.head(maps.flatten(1))
"""
CLASSES = ("across", "both", "down")
RECORD = "record --model 'their_models:SmallCNN(width=6)' --data photos --layers conv --layers head"
ONLY_SOME = "--weights 'seed1/epoch_[147].pt' --weights seed1/epoch_10.pt"


def bars(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images of 8 x 8 bytes, each with a bar across, one down, or both, and its class."""
    random = np.random.default_rng(seed)
    images, labels = random.normal(80, 30, (n, 8, 8)), np.arange(n) % 3
    for image, label in zip(images, labels, strict=True):
        if label != 2:
            image[random.integers(8)] += 100
        if label != 0:
            image[:, random.integers(8)] += 100
    return images.clip(0, 255).astype(np.uint8), labels


def save_photos() -> None:
    """Save one folder of images per class."""
    for index, (image, label) in enumerate(zip(*bars(60, seed=0), strict=True)):
        folder = Path("photos", CLASSES[label])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:02d}.png")


def train(seed: int) -> None:
    """Train the network as its author would, and save a file after each epoch."""
    import their_models  # type: ignore[import-not-found]

    folder = Path(f"seed{seed}")
    folder.mkdir()
    torch.manual_seed(seed)
    model = nn.DataParallel(their_models.SmallCNN(width=6))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    images, labels = map(torch.from_numpy, bars(120, seed=1))
    images = (images / 255)[:, None].repeat(1, 3, 1, 1)
    for epoch in range(1, 11):
        for rows in torch.randperm(120).split(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
        content: dict[str, Any] = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**content, "epoch": epoch}, folder / f"epoch_{epoch}.pt")


def press_ctrl_c_at(step: int, patch: pytest.MonkeyPatch) -> None:
    checkpoint = Run.checkpoint

    def interrupted(run: Run, at: int, *arguments: Any, **options: Any) -> Any:
        if at == step:
            raise KeyboardInterrupt
        return checkpoint(run, at, *arguments, **options)

    patch.setattr(Run, "checkpoint", interrupted)


@pytest.mark.usefixtures("place", "blank_figures")
def test_ten_checkpoints_are_recorded_continued_analyzed_and_compared(
    repsim: Repsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("their_models.py").write_text(MODULE)
    save_photos()
    for seed in (0, 1):
        train(seed)
    record = f"{RECORD} --weights 'seed0/epoch_*.pt' --output runs/seed0"
    with monkeypatch.context() as patch:
        press_ctrl_c_at(7, patch)
        said = repsim(record)
    assert said.code == 130
    assert "Stopped; runs/seed0 holds steps 1, 2, 3, 4, 5, 6. Continue with the same command." in said.err
    assert "seed0/epoch_1.pt and 9 more: the weights fit without the prefix 'module.'." in said.err

    said = repsim(record)
    assert said.out == "Recorded steps 1, 2, 3, 4, 5, 6, 7, 8, 9, 10. Next: repsim analyze runs/seed0\n"
    assert repsim("verify runs/seed0").out == "runs/seed0: 10 checkpoints intact (sha256).\n"
    run = Run.open("runs/seed0")
    assert (run.stimuli.classes, run.stimuli.ids[0]) == (CLASSES, "across/00.png")
    for step in (1, 10):
        saved = torch.load(f"seed0/epoch_{step}.pt", weights_only=True)["state_dict"]
        assert all(torch.equal(value, saved[f"module.{name}"]) for name, value in run[step].weights().items())

    assert repsim("analyze runs/seed0 --steps all --Cs 1").code == 0
    probes = pd.read_csv("runs/seed0/analysis/probes.csv")
    assert sorted(set(probes["step"])) == list(range(1, 11))

    assert repsim(f"{RECORD} {ONLY_SOME} --output runs/seed1").code == 0
    said = repsim("compare runs/seed0 runs/seed1 --steps 1,10 --Cs 1 --output both")
    assert "Lowest CKA to the same layer of seed0 at the same step: seed1" in said.out
    similarity = pd.read_csv("both/similarity.csv").set_index(["view_a", "view_b", "layer_a", "layer_b"])["cka"]
    for step in (1, 10):
        for layer in ("conv", "head"):
            assert similarity[f"seed0, step {step}", f"seed1, step {step}", layer, layer] < 0.9999
