"""Texts with a tokenizer of a folder: ids and masks of one length, labels of the file, and nothing downloaded."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from analysis.config.stimulus_files import StimulusConfig
from analysis.training.user_stimuli.stimulus_loading import load_stimuli

WORDS = ["[PAD]", "[UNK]", "the", "cat", "sat", "dog", "ran"]
TEXTS = ["the cat sat", "dog", "the, dog", "a cat ran"]
LABELS = list("xyyx")


def save_tokenizer(folder: Path, **options: Any) -> str:
    inner = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", **options).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tokenizer(tmp_path_factory.mktemp("made") / "tokenizer", pad_token="[PAD]", model_max_length=3)


def as_csv(path: Path) -> None:
    lines = [f'"{text}",{label}' for text, label in zip(TEXTS, LABELS, strict=True)]
    path.write_text("\n".join(["text,label", *lines]))


def as_json(path: Path) -> None:
    entries = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
    path.write_text("\n\n".join(map(json.dumps, entries)))


def as_npz(path: Path) -> None:
    np.savez(path, text=TEXTS, y=LABELS)


def as_lines(path: Path) -> None:
    path.write_text("\n".join(TEXTS) + "\n\n")


def load(path: Path, tokenizer: str, **options: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    config = StimulusConfig(data=str(path), tokenizer=tokenizer, **options)
    return load_stimuli(config, said.append).stimuli, said


FORMATS: dict[str, Callable[[Path], None]] = {"csv": as_csv, "jsonl": as_json, "npz": as_npz, "txt": as_lines}


@pytest.mark.parametrize("suffix", FORMATS)
def test_texts_become_ids_and_masks_padded_to_the_longest(tmp_path: Path, tokenizer: str, suffix: str) -> None:
    FORMATS[suffix](tmp_path / f"t.{suffix}")
    stimuli, _ = load(tmp_path / f"t.{suffix}", tokenizer)
    rows = dict(zip(stimuli.ids.tolist(), range(4), strict=True))
    inputs = dict(stimuli.first_inputs(4))
    assert inputs["input_ids"][rows["00000001"]].tolist() == [5, 0, 0]
    assert inputs["attention_mask"][rows["00000001"]].tolist() == [1, 0, 0]
    assert inputs["input_ids"][rows["00000003"]].tolist() == [1, 3, 6]
    assert stimuli.classes == (() if suffix == "txt" else ("x", "y"))


def test_only_line_feeds_separate_texts_of_a_text_file(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "t.txt").write_text("the\u2028cat\ndog\x0cran\r\n", encoding="utf-8")
    ids = dict(load(tmp_path / "t.txt", tokenizer)[0].first_inputs(9))["input_ids"]
    assert ids.tolist() == [[2, 3], [5, 6]]


def test_bytes_in_an_npz_file_are_text(tmp_path: Path, tokenizer: str) -> None:
    np.savez(tmp_path / "t.npz", text=np.array([b"the cat", b"dog ran"]))
    ids = dict(load(tmp_path / "t.npz", tokenizer)[0].first_inputs(9))["input_ids"]
    assert ids.tolist() == [[2, 3], [5, 6]]


def test_longer_texts_are_cut_only_on_request(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "t.txt").write_text("the cat sat\nthe cat sat the dog\n")
    with pytest.raises(ValueError, match=r"has 5 tokens, and the tokenizer allows 3\. Give --max-length 3 to cut"):
        load(tmp_path / "t.txt", tokenizer)
    stimuli, said = load(tmp_path / "t.txt", tokenizer, max_length=2)
    assert np.asarray(dict(stimuli.first_inputs(2))["input_ids"]).tolist() == [[2, 3], [2, 3]]
    assert said[0] == "2 of 2 texts have more than 2 tokens and are cut."


def test_other_columns_are_named_and_left_out(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "t.csv").write_text("id,text,length,split\nb,dog,3,test\n")
    stimuli, said = load(tmp_path / "t.csv", tokenizer)
    assert (stimuli.ids.tolist(), stimuli.split.tolist()) == (["b"], ["test"])
    assert "only texts, labels, ids and split are used; length are left out" in said[0]


WRONG: dict[str, tuple[str, str, str]] = {
    "no column": ("t.csv", "words\na\n", r"has no column 'text' with one text or more \(found: words\)"),
    "nothing": ("t.txt", "\n", r"has no column 'text'"),
    "empty": ("t.csv", "", r"has no column 'text' with one text or more \(found: nothing\)"),
    "short row": ("t.csv", "text,label\na\n", "Line 2 of .*t.csv has 1 values; expected 2"),
    "twice": ("t.csv", "text,text\na,b\n", "has two columns of one name"),
    "no object": ("t.jsonl", '{"text": "a"}\n[1]\n', "Line 2 of .*t.jsonl is not understood; expected a JSON object w"),
    "no json": ("t.jsonl", "text\n", "Line 1 of .*t.jsonl is not understood; expected a JSON object"),
    "two labels": ("t.csv", "text,label,y\ndog,a,b\n", "has columns of the same meaning: label, y. Keep one of them"),
    "empty label": ("t.csv", "text,label\ndog,a\ncat,\n", "1 of 2 labels are empty; leave out these stimuli"),
    "null": ("t.jsonl", '{"text": "a"}\n{"text": null}\n', "Text 2 of .*t.jsonl is None; expected text"),
    "long": ("t.csv", f"text\n{'a' * 2**18}\n", r"t.csv is not a table of comma-separated values .* as \.jsonl"),
    "other format": ("t.md", "text\n", r"t.md holds no texts for a tokenizer; expected .csv, .jsonl, .npz, .txt"),
}


@pytest.mark.parametrize(("name", "content", "message"), WRONG.values(), ids=WRONG)
def test_files_without_texts_are_refused(tmp_path: Path, tokenizer: str, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / name, tokenizer)


def test_a_folder_without_a_tokenizer_that_pads_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_lines(tmp_path / "t.txt")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere with a tokenizer\. Nothing is downloaded"):
        load(tmp_path / "t.txt", str(tmp_path / "nowhere"))
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="other holds no tokenizer that can be loaded"):
        load(tmp_path / "t.txt", str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"has no padding token; set tokenizer\.pad_token"):
        load(tmp_path / "t.txt", save_tokenizer(tmp_path / "unpadded"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match="--tokenizer needs transformers: pip install"):
        load(tmp_path / "t.txt", "any")
