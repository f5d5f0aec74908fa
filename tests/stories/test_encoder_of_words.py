"""Someone has saved an encoder of text, and asks what its layers know about words, and about whole sentences."""

import csv
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from checkpoints import Run
from tests.conftest import Repsim

MODULE = """
from transformers import BertConfig, BertModel

def build():
    return BertModel(BertConfig.from_pretrained("encoder"), add_pooling_layer=False)
"""
N, LENGTH = 60, 7
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(4, 24, (N, LENGTH))
MASK = (np.arange(LENGTH) < RANDOM.integers(3, LENGTH + 1, N)[:, None]).astype(np.int64)
KINDS = np.where(MASK == 1, np.array(["noun", "verb"])[TOKENS % 2], "")  # padding has no label
FREQUENCY = RANDOM.normal(size=24).round(3)  # of each word
SENTENCES = [f"sentence {k}" for k in range(N)]
RECORD = "record --model my_encoder:build --weights encoder --layers embeddings --layers 'encoder.layer.?' --quiet"


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="transformers is not installed")


def save_encoder(transformers: ModuleType) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 24, "hidden_size": 4 * LENGTH, "num_hidden_layers": 2, "num_attention_heads": LENGTH}
    config = transformers.BertConfig(**sizes, intermediate_size=40, max_position_embeddings=16)
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained("encoder")
    Path("my_encoder.py").write_text(MODULE)


def write_table(path: str, *rows: Iterable[object]) -> None:
    with Path(path).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def hidden_states(transformers: ModuleType) -> np.ndarray:
    model = transformers.BertModel.from_pretrained("encoder", add_pooling_layer=False).eval()
    with torch.no_grad():
        return model(torch.tensor(TOKENS), torch.tensor(MASK)).last_hidden_state.numpy()  # type: ignore[no-any-return]


def scores(run: str, column: str, target: str) -> Sequence[float]:
    probes = pd.read_csv(f"{run}/analysis/probes.csv")
    return probes.loc[probes["target"] == target, column].tolist()


@pytest.mark.usefixtures("place", "blank_figures")
@pytest.mark.filterwarnings("ignore")  # of the other package
def test_words_are_probed_for_their_kind_and_for_two_targets(repsim: Repsim, transformers: ModuleType) -> None:
    save_encoder(transformers)
    np.savez("text.npz", input_ids=TOKENS, attention_mask=MASK, y=KINDS, ids=SENTENCES)
    words = [(f"{SENTENCES[n]}:{t}", TOKENS[n, t]) for n, t in zip(*np.nonzero(MASK), strict=True)]
    rows = [(name, ["alive", "dead"][word // 2 % 2], FREQUENCY[word]) for name, word in words]
    write_table("words.csv", ("id", "animacy", "frequency"), *rows)

    said = repsim(f"{RECORD} --data text.npz --output sentences")
    assert (said.code, "If y has one for each position of a sequence, give --rows tokens" in said.err) == (2, True)
    assert repsim(f"{RECORD} --data text.npz --rows tokens --targets words.csv --output words").code == 0
    run = Run.open("words")
    assert {layer.shape for layer in run.last().activations.values()} == {(len(words), 4 * LENGTH)}
    assert len(set(zip(run.stimuli.groups, run.stimuli.split, strict=True))) == N  # no sentence is divided
    hidden = hidden_states(transformers)
    np.testing.assert_allclose(run.last().activations["encoder.layer.1"][:], hidden[MASK == 1], atol=1e-5)

    said = repsim("analyze words --Cs 1 --quiet")
    assert "probe of frequency reaches 90 % of the last layer's R²" in said.out
    assert scores("words", "accuracy", "label")[0] > 0.95  # the kind of a word follows from its vector
    assert scores("words", "accuracy", "animacy")[0] > 0.8
    assert scores("words", "r2", "frequency")[0] > 0.8
    report = Path("words/analysis/report.html").read_text()
    assert all(text in report for text in ("Best probe of animacy, accuracy on test", "Best probe of frequency, R²"))


@pytest.mark.usefixtures("place", "blank_figures")
@pytest.mark.filterwarnings("ignore")
def test_sentences_are_probed_with_speakers_that_are_not_divided(repsim: Repsim, transformers: ModuleType) -> None:
    save_encoder(transformers)
    np.savez("text.npz", input_ids=TOKENS, attention_mask=MASK, y=KINDS[:, 0], ids=SENTENCES)
    last = TOKENS[np.arange(N), MASK.sum(1) - 1]
    rows = [(SENTENCES[k], FREQUENCY[last[k]], f"speaker {k // 4}") for k in RANDOM.permutation(N)]
    write_table("sentences.csv", ("id", "loudness", "speaker"), *rows)
    line = f"{RECORD} --data text.npz --reduce '**=last_token'"
    targets = "--targets sentences.csv --groups speaker"

    assert repsim(f"{line} {targets} --output grouped").code == 0
    stimuli = Run.open("grouped").stimuli
    parts = pd.Series(stimuli.split).groupby(stimuli.groups).nunique()
    assert (len(parts), parts.max()) == (15, 1)
    expected = dict(zip(SENTENCES, hidden_states(transformers)[np.arange(N), MASK.sum(1) - 1], strict=True))
    found = Run.open("grouped").last().activations["encoder.layer.1"][:]
    np.testing.assert_allclose(found, [expected[each] for each in stimuli.ids], atol=1e-5)

    assert repsim(f"{line} --output plain").code == 0
    assert "The split divides" in repsim(f"analyze plain {targets} --quiet").err
    assert "give the table too, by --targets" in repsim("analyze plain --groups speaker --quiet").err
    assert "Best probe of loudness" in repsim("analyze grouped --Cs 1 --quiet").out
