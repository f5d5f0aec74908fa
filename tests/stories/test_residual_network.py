"""Someone trains a residual network of their own under three learning rules, three times each, and compares these."""

from pathlib import Path

import pandas as pd
import pytest

from checkpoints import Run
from tests.conftest import Repsim

MODULE = """
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, maps):
        return maps + self.norm(self.conv(maps)).relu()

def net(channels=4):
    stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1, stride=2), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3))
    return nn.Sequential(stem, Residual(channels), Residual(channels), head)

def images(n=300):
    labels = torch.arange(n) % 3
    X = 0.5 * torch.randn(n, 1, 8, 8)
    for image, label in zip(X[:, 0], labels):
        line = int(torch.randint(8, ()))
        if label < 2:
            (image if label else image.T)[line] += 2
    return X, labels
"""
RULES = {"backprop": "backprop", "synthetic": "synthetic-gradient@2", "greedy": "decoupled-greedy@1,2"}
TRAIN = (
    "--model 'my_net:net(channels=6)' --data my_net:images --epochs 3 --batch-size 32 --learning-rate 0.01 "
    "--record first,last --n-train 45 --n-validation 30 --n-test 45 --diagnose none --quiet --seeds 0-2"
)


@pytest.mark.usefixtures("blank_figures")
def test_a_residual_network_is_trained_under_three_rules_and_compared(place: Path, repsim: Repsim) -> None:
    (place / "my_net.py").write_text(MODULE)
    for name, rule in RULES.items():
        said = repsim(f"train runs/{name} --rule '{rule}' {TRAIN}")
        assert said.code == 0, said.err
    run = Run.open("runs/greedy/seed-1")
    assert run.config["boundaries"] == {"decoupled-greedy": [1, 2]}
    assert {name: layer.shape for name, layer in run.last().activations.items()} == {
        f"hidden.{k}": (120, 6 * 4 * 4) for k in (1, 2, 3)
    }
    assert all(Run.open(f"runs/{name}/seed-0").status["test_accuracy"] > 0.5 for name in RULES)

    said = repsim(
        "compare 'runs/backprop/*' 'runs/synthetic/*' 'runs/greedy/*' --Cs 1 --layers hidden.3 --output rules"
    )
    assert said.code == 0, said.err
    assert "greedy against backprop (n = 3 seeds): CKA " in said.out
    effects = pd.read_csv("rules/attribution.csv")
    assert set(effects["method"] + " against " + effects["base"]) == {
        "synthetic against backprop",
        "greedy against backprop",
    }
    assert set(effects["n_seeds"]) == {3}

    said = repsim(f"train runs/other --rule synthetic-gradient@7 {TRAIN}")
    assert (said.code, "a network with 3 hidden layers has boundaries 1 to 3" in said.err) == (2, True)
