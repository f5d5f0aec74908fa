"""Ten checkpoints of a user's own network, from the files of its training to a comparison, by command lines alone."""

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from analysis.cli import main
from checkpoints import Run

mpl.use("Agg")

MODULE = """
from torch import nn

class SmallCNN(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(4)
        self.head = nn.Linear(4 * width, 3)

    def forward(self, images):
        maps = self.pool(self.norm(self.conv(images)).relu())
        return self.head(maps.flatten(1))
"""
RECORD = "record --model 'their_models:SmallCNN(width=6)' --data images.npz --layers conv --layers head"
N_EPOCHS = 10


class Said(NamedTuple):
    code: int
    out: str
    err: str


Repsim = Callable[[str], Said]


@pytest.fixture
def repsim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Repsim:
    """Run one command line in this process."""

    def call(line: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["repsim", *shlex.split(line)])
        with pytest.raises(SystemExit) as stop:
            main()
        return Said(stop.value.code or 0, *capsys.readouterr())  # type: ignore[arg-type]

    return call


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with a module, its training's files of two seeds, and stimuli."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("their_models.py").write_text(MODULE)
    images, labels = bars(60, seed=0)
    np.savez("images.npz", X=images, y=np.array(["across", "down", "both"])[labels])
    for seed in (0, 1):
        train(seed, Path(f"seed{seed}"))
    yield tmp_path
    sys.modules.pop("their_models", None)


def bars(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images of a bar across, a bar down, or both, and which of these they show."""
    random = np.random.default_rng(seed)
    images, labels = random.normal(0, 0.3, (n, 1, 8, 8)).astype(np.float32), np.arange(n) % 3
    for image, label in zip(images[:, 0], labels, strict=True):
        if label != 1:
            image[random.integers(8)] += 1
        if label != 0:
            image[:, random.integers(8)] += 1
    return images, labels


def train(seed: int, folder: Path) -> None:
    """Train the network as its author would, and save a file after each epoch."""
    import their_models  # type: ignore[import-not-found]

    folder.mkdir()
    torch.manual_seed(seed)
    model = nn.DataParallel(their_models.SmallCNN(width=6))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    images, labels = map(torch.from_numpy, bars(120, seed=1))
    for epoch in range(1, N_EPOCHS + 1):
        for rows in torch.randperm(120).split(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
        content: dict[str, Any] = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**content, "epoch": epoch}, folder / f"epoch_{epoch}.pt")


@pytest.mark.usefixtures("place")
def test_ten_checkpoints_are_recorded_continued_analyzed_and_compared(
    repsim: Repsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = f"{RECORD} --weights 'seed0/epoch_*.pt' --output runs/seed0"
    with monkeypatch.context() as patch:
        press_ctrl_c_at(7, patch)
        said = repsim(record)
    assert said.code == 130
    assert "Stopped; runs/seed0 holds steps 1, 2, 3, 4, 5, 6. Continue with the same command." in said.err
    assert "seed0/epoch_1.pt and 9 more: the weights fit without the prefix 'module.'." in said.err

    said = repsim(record)
    assert (said.code, said.out) == (
        0,
        "Recorded steps 1, 2, 3, 4, 5, 6, 7, 8, 9, 10. Next: repsim analyze runs/seed0\n",
    )
    assert repsim("verify runs/seed0").out == "runs/seed0: 10 checkpoints intact (sha256).\n"
    run = Run.open("runs/seed0")
    for step in (1, 10):
        saved = torch.load(f"seed0/epoch_{step}.pt", weights_only=True)["state_dict"]
        assert all(torch.equal(value, saved[f"module.{name}"]) for name, value in run[step].weights().items())

    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: Path(path).write_bytes(b""))  # which is slow
    assert repsim("analyze runs/seed0 --steps all --Cs 1 --executor serial").code == 0
    probes = pd.read_csv("runs/seed0/analysis/probes.csv")
    assert sorted(set(probes["step"])) == list(range(1, 11))

    assert (
        repsim(f"{RECORD} --weights 'seed1/epoch_[147].pt' --weights seed1/epoch_10.pt --output runs/seed1").code == 0
    )
    said = repsim("compare runs/seed0 runs/seed1 --steps 1,4,7,10 --Cs 1 --executor serial --output both")
    assert said.code == 0
    assert "Lowest CKA to the same layer of seed0 at the same step: seed1" in said.out
    similarity = pd.read_csv("both/similarity.csv").set_index(["view_a", "view_b", "layer_a", "layer_b"])["cka"]
    for step in (1, 4, 7, 10):
        for layer in ("conv", "head"):
            assert similarity[f"seed0, step {step}", f"seed1, step {step}", layer, layer] < 0.9999


def press_ctrl_c_at(step: int, patch: pytest.MonkeyPatch) -> None:
    checkpoint = Run.checkpoint

    def interrupted(run: Run, at: int, *arguments: Any, **options: Any) -> Any:
        if at == step:
            raise KeyboardInterrupt
        return checkpoint(run, at, *arguments, **options)

    patch.setattr(Run, "checkpoint", interrupted)
