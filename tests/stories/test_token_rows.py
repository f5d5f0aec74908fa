"""Someone has a pretrained encoder and labels of words, and one network that saw images at two resolutions."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from analysis.cli import main
from checkpoints import Run

ENCODER = """
from transformers import BertConfig, BertModel

def build():
    return BertModel(BertConfig.from_pretrained("encoder"), add_pooling_layer=False)
"""
PICTURES = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    return nn.Sequential(conv, nn.Flatten(), nn.Linear(24, 8))
"""
N, T = 60, 7
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(4, 24, (N, T))
MASK = (np.arange(T) < RNG.integers(3, T + 1, N)[:, None]).astype(np.int64)
WORDS = np.where(MASK == 1, np.array(["noun", "verb"])[TOKENS % 2], "")  # padding has no label


@pytest.fixture
def repsim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run command lines in a folder; figures are empty files, as they take most of the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: Path(path).write_bytes(b""))

    def run(line: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["repsim", *line.split()])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        assert (stop.value.code or 0) == code, said.err
        return said.err if code else said.out

    return run


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="transformers is not installed")


def save_encoder(transformers: ModuleType) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(  # as many heads as tokens
        vocab_size=24,
        hidden_size=4 * T,
        num_hidden_layers=2,
        num_attention_heads=T,
        intermediate_size=40,
        max_position_embeddings=16,
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained("encoder")
    Path("my_encoder.py").write_text(ENCODER)
    np.savez("text.npz", input_ids=TOKENS, attention_mask=MASK, y=WORDS, ids=[f"sentence {k}" for k in range(N)])


@pytest.mark.filterwarnings("ignore")  # of the other package
def test_words_of_a_pretrained_encoder_are_probed(repsim: Callable[..., str], transformers: ModuleType) -> None:
    save_encoder(transformers)
    line = (
        "record --model my_encoder:build --weights encoder --data text.npz --layers embeddings --layers encoder.layer.*"
    )
    repsim(f"{line} --rows tokens --output words --quiet")
    run = Run.open("words")
    n_tokens = int(MASK.sum())
    assert len(run.stimuli) == n_tokens
    assert {layer.shape for layer in run.last().activations.values()} == {(n_tokens, 28)}
    assert len({(group, part) for group, part in zip(run.stimuli.groups, run.stimuli.split, strict=True)}) == N

    repsim("analyze words --Cs 1 --quiet")
    probes = pd.read_csv("words/analysis/probes.csv").set_index("layer")
    assert probes.loc["embeddings", "accuracy"] > 0.95  # the kind of a word follows from its vector
    assert probes["n_train"].iloc[0] + probes["n_validation"].iloc[0] + probes["n_test"].iloc[0] == n_tokens

    model = transformers.BertModel.from_pretrained("encoder", add_pooling_layer=False).eval()
    with torch.no_grad():
        hidden = model(torch.tensor(TOKENS), torch.tensor(MASK)).last_hidden_state
    direct = np.stack([hidden[n, t].numpy() for n in range(N) for t in range(T) if MASK[n, t]])
    name = list(run.last().activations)[-1]
    np.testing.assert_allclose(run.last().activations[name][:], direct, atol=1e-5)

    assert "If y has one for each position of a sequence, give --rows tokens" in repsim(
        f"{line} --output sentences --quiet", code=2
    )
    np.savez("sentences.npz", input_ids=TOKENS, attention_mask=MASK, y=np.arange(N) % 2)
    line = line.replace("text.npz", "sentences.npz")
    repsim(f"{line} --reduce **=last_token --output last --quiet")
    expected = np.stack([hidden[n, MASK[n].sum() - 1].numpy() for n in range(N)])
    order = [int(each) for each in Run.open("last").stimuli.ids]
    np.testing.assert_allclose(Run.open("last").last().activations[name][:], expected[order], atol=1e-5)


def test_images_at_two_resolutions_are_compared_by_id(repsim: Callable[..., str]) -> None:
    Path("my_pictures.py").write_text(PICTURES)
    y = np.arange(40) % 2
    fine = (RNG.normal(size=(40, 1, 16, 16)) + y[:, None, None, None]).astype(np.float32)
    coarse = fine.reshape(40, 1, 8, 2, 8, 2).mean((3, 5))
    names, turned = np.array([f"photo {k}" for k in range(40)]), np.arange(40)[::-1]
    split = np.array(["train", "train", "validation", "test", "test"] * 8)
    np.savez("fine.npz", X=fine, y=y, ids=names, split=split)
    np.savez("coarse.npz", X=coarse[turned], y=y[turned], ids=names[turned], split=split[turned])
    for name in ("fine", "coarse"):
        repsim(f"record --model my_pictures:build --data {name}.npz --layers 2 --output runs/{name} --quiet")
    said = repsim("compare runs/fine runs/coarse --Cs 1 --quiet", code=2)
    assert "the inputs of 40 of 40 ids differ" in said
    assert said.endswith("give --match ids; otherwise train or record both with the same data.\n")
    said = repsim("compare runs/fine runs/coarse --match ids --Cs 1 --quiet")
    assert "Stimuli are matched by id: 40 are compared.\ncoarse saw other inputs than fine.\n" in said
    assert json.loads(Path("runs/comparison/analysis.json").read_text())["stimuli"]["match"] == "ids"
    table = pd.read_csv("runs/comparison/rdm_similarity.csv")
    assert table["pearson"].iloc[0] > 0.9  # one network, and nearly the same means
