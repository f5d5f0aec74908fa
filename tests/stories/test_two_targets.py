"""Story: a saved encoder of text, probed for an emotion and for a quantity, with speakers that are not divided."""

import csv
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from analysis.cli import main
from checkpoints import Run

mpl.use("Agg")

N, LENGTH = 48, 6
RECORD = (
    "record --model story_encoder:encoder --weights encoder --data sentences.npz --layers 'encoder.layer.*' "
    "--reduce 'encoder.layer.*=token_mean' --output runs/encoder --quiet"
)

MODEL = """
from transformers import BertConfig, BertModel


def encoder():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertModel(BertConfig(**sizes, vocab_size=30, max_position_embeddings=8), add_pooling_layer=False).eval()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model, its saved weights, tokenized sentences and a table of targets."""
    torch, _ = pytest.importorskip("torch"), pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("story_encoder.py").write_text(MODEL)
    monkeypatch.delitem(sys.modules, "story_encoder", raising=False)
    import story_encoder  # type: ignore[import-not-found]

    torch.manual_seed(0)
    story_encoder.encoder().save_pretrained("encoder")
    rng = np.random.default_rng(0)
    tokens = rng.integers(10, 30, size=(N, LENGTH))
    emotion = np.arange(N) % 2
    tokens[:, 1] = tokens[:, 3] = 4 + emotion
    mask = np.ones((N, LENGTH), dtype=np.int64)
    mask[::3, -2:] = 0
    ids = [f"sentence {k}" for k in range(N)]
    topics = np.array(["sport", "music", "food"])[np.arange(N) // 2 % 3]
    tokens[:, 2] = 6 + np.arange(N) // 2 % 3
    np.savez("sentences.npz", input_ids=tokens, attention_mask=mask, y=topics, ids=ids)
    with Path("targets.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "emotion", "loudness", "speaker"])
        for k in rng.permutation(N):
            loudness = f"{emotion[k] - 0.5 + 0.1 * rng.normal():.3f}"
            writer.writerow([ids[k], ["sad", "happy"][emotion[k]], loudness, f"speaker {k // 4}"])
    return tmp_path


@pytest.fixture
def repsim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Run one command line in this process and return what it printed, or the message of its error."""

    def call(line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["repsim", *shlex.split(line)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        assert stop.value.code in (0, None, 2)
        return said.err if stop.value.code else said.out

    return call


def test_an_encoder_is_probed_for_two_targets_beside_the_label(folder: Path, repsim: Callable[[str], str]) -> None:
    record = f"{RECORD} --targets targets.csv --groups speaker"
    assert "Next: repsim analyze runs/encoder" in repsim(record)
    stimuli = Run.open("runs/encoder").stimuli
    assert stimuli.classes == ("food", "music", "sport")
    assert {name: values.dtype.kind for name, values in stimuli.targets.items()} == {"emotion": "U", "loudness": "f"}
    assert stimuli.groups is not None
    parts = pd.Series(stimuli.split).groupby(stimuli.groups).nunique()
    assert (len(parts), parts.max()) == (12, 1)

    said = repsim("analyze runs/encoder --layers 'encoder.layer.?' --quiet")
    assert "probe of loudness reaches 90 % of the last layer's R²" in said
    probes = pd.read_csv("runs/encoder/analysis/probes.csv")
    assert probes["layer"].tolist() == ["encoder.layer.0"] * 3 + ["encoder.layer.1"] * 3
    assert probes["target"].tolist() == ["label", "emotion", "loudness"] * 2
    assert probes["kind"].tolist() == ["categorical", "categorical", "continuous"] * 2
    assert (probes.loc[probes["target"] == "emotion", "accuracy"] > 0.8).all()
    assert (probes.loc[probes["target"] == "loudness", "r2"] > 0.5).all()
    report = Path("runs/encoder/analysis/report.html").read_text()
    for text in ("Best probe of emotion, accuracy on test", "Best probe of loudness, R² on test", "loudness (R²), "):
        assert text in report
    assert Path("runs/encoder/analysis/figures/probe_targets.png").is_file()
    assert "sport" in report


def test_targets_may_be_given_after_the_recording(folder: Path, repsim: Callable[[str], str]) -> None:
    repsim(RECORD)
    analyze = "analyze runs/encoder --layers encoder.layer.1 --quiet"
    assert "The split divides" in repsim(f"{analyze} --targets targets.csv --groups speaker")
    assert "give the table too, by --targets" in repsim(f"{analyze} --groups speaker")
    Path("targets.csv").write_text(Path("targets.csv").read_text().replace(",speaker\n", ",voice\n"))
    assert "has no column 'speaker' of groups" in repsim(f"{analyze} --targets targets.csv --groups speaker")
    assert "Best probe of loudness" in repsim(f"{analyze} --targets targets.csv")
    text = Path("targets.csv").read_text()
    Path("targets.csv").write_text(text.replace("sentence 7,", "sentence 700,"))
    assert "has no row for 1 of 48 stimuli, such as 'sentence 7'" in repsim(f"{analyze} --targets targets.csv")
    Path("targets.csv").write_text(text.replace("loudness", "volume"))
    assert "Best probe of volume" in repsim(f"{analyze} --targets targets.csv")
