"""Someone trains a network in a loop of their own, with and without noise, and compares its layers in Python."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from analysis import AnalysisConfig, compare_runs
from checkpoints import Capture, Run, Stimuli

CENTRES = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
LAST = 40
OTHERS = ("quiet-1", "noisy-0")  # networks that differ from the first in the seed, and in the condition


def points(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return points around one centre per class, and their classes."""
    y = torch.arange(n) % 3
    return CENTRES[y] + torch.randn(n, 20, generator=torch.Generator().manual_seed(seed)), y


def train(path: str, noise: float, seed: int) -> None:
    """Train a network and record its layers before and after."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    X, y = points(90, seed=1)
    split = np.repeat(["train", "validation", "test"], 30)
    stimuli = Stimuli.of([f"point {k}" for k in range(90)], y, split, X)
    capture = Capture(net, ["1", "3"])
    with Run.create(path, {"noise": noise, "seed": seed}, stimuli) as run:
        for step, (X, y) in enumerate(batches(seed)):
            if step in (0, LAST):
                run.checkpoint(step, net, optimizer, capture=capture)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(X + noise * torch.randn_like(X)), y)
            loss.backward()
            optimizer.step()
            run.log({"step": step, "loss": loss.item()})


def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(LAST + 1):
        yield points(32, seed=1000 * (seed + 1) + step)


@pytest.fixture
def runs(place: Path) -> list[Path]:
    """Two networks trained without noise, and two with noise."""
    conditions = {"quiet": 0.0, "noisy": 3.0}
    paths = [place / "runs" / f"{name}-{seed}" for name in conditions for seed in (0, 1)]
    for path in paths:
        name, seed = path.name.split("-")
        train(str(path), conditions[name], int(seed))
    return paths


@pytest.mark.usefixtures("blank_figures")
def test_runs_of_an_own_loop_are_compared_in_python(runs: list[Path]) -> None:
    every = AnalysisConfig(steps="all", layers=("3",), Cs=(1.0,))
    result = compare_runs(runs, config=every)
    probes = result.tables["probes"].set_index(["view", "layer"])["accuracy"]
    assert all(probes[f"{path.name}, step {LAST}", "3"] > 0.9 for path in runs)
    similarity = result.tables["similarity"].set_index(["view_a", "view_b", "layer_a", "layer_b"])["cka"]
    seeds, conditions = (similarity[f"quiet-0, step {LAST}", f"{other}, step {LAST}", "3", "3"] for other in OTHERS)
    assert seeds > conditions
    assert f"CKA to the same layer of {runs[0].name}" in "\n".join(result.summary())
    with pytest.raises(ValueError, match=r"There is no figure 'histogram'\. Choose one of: .*probe_accuracy"):
        result.plot("histogram")
    assert result.plot().figure is not None
    (result.report.parent / "notes.txt").write_text("mine")

    written = result.report.stat().st_mtime_ns
    again = compare_runs(runs, config=every, exists="resume")
    assert again.report.stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(again.tables["probes"], result.tables["probes"])
    with pytest.raises(FileExistsError, match=r"comparison holds another analysis .*in Python exists='replace'"):
        compare_runs(runs[:2])
    other = compare_runs(runs[:2], config=AnalysisConfig(Cs=(1.0,)), exists="replace")
    assert set(other.tables["probes"]["view"]) == {"quiet-0", "quiet-1"}
    assert (other.report.parent / "notes.txt").read_text() == "mine"
