"""Someone trains a transformer of their own with synthetic gradients between its blocks, to count zeros."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.training.rebuilding import learner_at
from analysis.training.recorder import RunRecorder
from checkpoints import Run
from tests.conftest import Repsim

MODULE = """
import torch
from torch import nn

class Embedding(nn.Module):
    def __init__(self, n_tokens, length, width):
        super().__init__()
        self.token = nn.Embedding(n_tokens, width)
        self.position = nn.Parameter(0.1 * torch.randn(length, width))

    def forward(self, tokens):
        return self.token(tokens) + self.position

class Head(nn.Module):
    def __init__(self, width, n_classes):
        super().__init__()
        self.linear = nn.Linear(width, n_classes)

    def forward(self, h):
        return self.linear(h.mean(dim=1))

def transformer(width=16, dropout=0.1):
    def block():
        return nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=dropout, batch_first=True)

    return {"embed": Embedding(6, 8, width), "block1": block(), "block2": block(), "block3": block(),
            "head": Head(width, 3)}

def sequences():
    tokens = torch.randint(0, 6, (300, 8))
    return tokens, (tokens == 0).sum(dim=1).clamp(max=2)
"""
TRAIN = (
    "--model my_transformer:transformer --data my_transformer:sequences --rule synthetic-gradient@2,3 --epochs 6 "
    "--batch-size 32 --learning-rate 0.005 --weight-decay 0.01 --clip-norm 1 --warmup 0.1 --schedule cosine "
    "--record first,last --n-train 90 --n-validation 30 --n-test 30 --quiet"
)


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C once the given number of updates is made."""
    follow = RunRecorder.follow

    def followed(self: RunRecorder, update: Any) -> str:
        if update.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return follow(self, update)

    monkeypatch.setattr(RunRecorder, "follow", followed)


@pytest.mark.usefixtures("blank_figures")
def test_a_transformer_of_the_user_learns_stops_continues_and_is_analyzed(
    place: Path, repsim: Repsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "my_transformer.py").write_text(MODULE)
    assert repsim(f"train runs/whole {TRAIN}").code == 0
    with monkeypatch.context() as patch:
        stop_at(17, patch)
        assert repsim(f"train runs/stopped {TRAIN}").code == 130
    torch.manual_seed(99)  # nothing depends on the global generators
    assert repsim("train runs/stopped --resume --quiet").code == 0
    whole, stopped = Run.open("runs/whole"), Run.open("runs/stopped")
    for name in ("weights.safetensors", "optimizer.safetensors"):
        ours, theirs = ((run.last().path / name).read_bytes() for run in (whole, stopped))
        assert ours == theirs
    for name, layer in whole.last().activations.items():
        assert layer[:].tobytes() == stopped.last().activations[name][:].tobytes()
    assert Path("runs/whole/metrics.jsonl").read_bytes() == Path("runs/stopped/metrics.jsonl").read_bytes()
    assert whole.config["training"]["depth"] == 4
    assert whole.config["boundaries"] == {"synthetic-gradient": [2, 3]}
    assert whole.status["test_accuracy"] > 0.5
    rebuilt = learner_at(whole, whole.steps[-1]).state_dict()
    assert all(torch.equal(rebuilt[name], each) for name, each in whole.last().weights().items())
    said = repsim("analyze runs/whole --steps last --Cs 0.1 --layer hidden.2 --layer hidden.3 --quiet")
    assert "First layer whose probe reaches 90 % of the last layer's accuracy" in said.out


def test_a_changed_model_is_not_taken_for_the_one_that_was_trained(
    place: Path, repsim: Repsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "my_transformer.py").write_text(MODULE)
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        assert repsim(f"train runs/stopped {TRAIN}").code == 130
    (place / "my_transformer.py").write_text(MODULE.replace("2 * width", "3 * width"))
    sys.modules.pop("my_transformer")
    said = repsim("train runs/stopped --resume --quiet")
    assert said.code == 2
    assert "is not the network that runs/stopped was trained with: it has n parameters" in said.err
    assert "Restore the code of the model." in said.err
