"""Texts as stimuli: token ids and attention masks by the tokenizer in a folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.training.user_stimuli.stimulus_columns import GivenStimuli
from checkpoints.stimulus_inputs.input_source import Arrays, InputSource
from repsim.learning import read_npz

__all__ = ["TEXT_FORMATS", "Tokens", "text_stimuli"]

_COLUMNS = {"text": "text", "label": "y", "y": "y", "id": "ids", "ids": "ids", "split": "split"}
_AT_ONCE = 512  # texts
_UNLIMITED = 10**9  # tokenizers without a limit state a larger number


class Tokens(InputSource):
    """Token ids and attention masks of texts, padded to the longest of them.

    Parameters
    ----------
    texts : sequence of str
    tokenizer : transformers tokenizer
    max_length : int, optional
        Number of tokens after which a text is cut.

    Attributes
    ----------
    length : int
        Number of tokens of every row.
    n_cut : int
        Number of texts that are cut.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Any, max_length: int | None) -> None:
        self._texts, self._tokenizer = texts, tokenizer
        lengths = [
            len(ids) for start in range(0, len(texts), _AT_ONCE) for ids in self._ids(texts[start : start + _AT_ONCE])
        ]
        self.n_cut = 0 if max_length is None else sum(length > max_length for length in lengths)
        self.length = min(max(lengths), max_length or max(lengths))

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self._texts)

    def take(self, rows: Sequence[int]) -> Arrays:
        """Return ``input_ids`` and ``attention_mask`` of some texts, shape (n, length)."""
        encoded = self._tokenizer(
            [self._texts[row] for row in rows],
            padding="max_length",
            truncation=True,
            max_length=self.length,
            return_attention_mask=True,
            return_token_type_ids=False,
        )
        return {name: np.array(encoded[name], dtype=np.int64) for name in ("input_ids", "attention_mask")}

    def _ids(self, texts: Sequence[str]) -> Any:
        return self._tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]


def text_stimuli(path: Path, folder: str, max_length: int | None, say: Callable[[str], None]) -> GivenStimuli:
    """Return the texts of a file as stimuli.

    Parameters
    ----------
    path : path
        ``.csv`` with a header, ``.jsonl`` with one object per line, or ``.npz``: ``text``, and optionally ``label`` (or
        ``y``), ``id`` (or ``ids``) and ``split``. Or ``.txt``, with one text per line.
    folder : str
        A tokenizer that ``save_pretrained`` wrote. Nothing is downloaded, and no code in it runs.
    max_length : int, optional
        Number of tokens after which texts are cut.
    say : callable

    Raises
    ------
    ValueError, OSError
        If the file has no texts, values that are no text, or two columns of one meaning; if the tokenizer cannot be
        loaded or has no padding token; or if texts are longer than it allows.
    """
    if path.suffix.lower() not in TEXT_FORMATS:
        raise ValueError(f"{path} holds no texts for a tokenizer; expected {', '.join(TEXT_FORMATS)}.")
    tokenizer = _tokenizer(folder)
    found = TEXT_FORMATS[path.suffix.lower()](path)
    columns = _known_columns(path, found)
    if not len(columns.get("text", ())):
        raise ValueError(f"{path} has no column 'text' with one text or more (found: {', '.join(found) or 'nothing'}).")
    if others := [name for name in found if name not in _COLUMNS]:
        say(f"Of {path} only texts, labels, ids and split are used; {', '.join(others)} are left out.")
    texts = [_text(path, number, value) for number, value in enumerate(columns.pop("text"), start=1)]
    inputs = Tokens(texts, tokenizer, max_length)
    if max_length is None and inputs.length > min(tokenizer.model_max_length, _UNLIMITED):
        raise ValueError(
            f"The longest text in {path} has {inputs.length} tokens, and the tokenizer allows "
            f"{tokenizer.model_max_length}. Give --max-length {tokenizer.model_max_length} to cut longer texts."
        )
    if inputs.n_cut:
        say(f"{inputs.n_cut} of {len(texts)} texts have more than {max_length} tokens and are cut.")
    return GivenStimuli(inputs, columns, str(path))


def _known_columns(path: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that are used, by meaning; raise ValueError if two have the same."""
    meanings = [_COLUMNS[name] for name in found if name in _COLUMNS]
    if same := [name for name in found if name in _COLUMNS and meanings.count(_COLUMNS[name]) > 1]:
        raise ValueError(f"{path} has columns of the same meaning: {', '.join(same)}. Keep one of them.")
    return {_COLUMNS[name]: values for name, values in found.items() if name in _COLUMNS}


def _text(path: Path, number: int, value: Any) -> str:
    """Return a text of a file; raise ValueError if it is none, such as null."""
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise ValueError(f"Text {number} of {path} is {value!r:.40}; expected text. Fill it in, or leave it out.")
    return str(value)


def _tokenizer(folder: str) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise ValueError("--tokenizer needs transformers: pip install 'repsim-sg[transformers]'.") from None
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f"There is no folder {folder} with a tokenizer. Nothing is downloaded; save it with "
            "tokenizer.save_pretrained(folder)."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a folder of something else makes transformers raise almost anything
        described = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{folder} holds no tokenizer that can be loaded ({described}).") from error
    if tokenizer.pad_token is None:
        raise ValueError(
            f"The tokenizer in {folder} has no padding token; set tokenizer.pad_token, for example to its eos_token, "
            "and save it again."
        )
    return tokenizer


def _csv(path: Path) -> Mapping[str, Any]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            return _columns(path, header, ((number, row) for number, row in enumerate(rows, start=2) if row))
    except csv.Error as error:  # a quotation mark that is not closed, for example, makes the rest one value
        raise ValueError(
            f"{path} is not a table of comma-separated values ({error}). Correct it, or give texts as .jsonl."
        ) from error


def _columns(path: Path, header: Sequence[str], rows: Iterator[tuple[int, Sequence[Any]]]) -> dict[str, list[Any]]:
    if len(set(header)) != len(header):
        raise ValueError(f"{path} has two columns of one name; expected names that differ.")
    columns: dict[str, list[Any]] = {name: [] for name in header}
    for number, row in rows:
        if len(row) != len(header):
            raise ValueError(f"Line {number} of {path} has {len(row)} values; expected {len(header)}.")
        for name, value in zip(header, row, strict=True):
            columns[name].append(value)
    return columns


def _json_lines(path: Path) -> Mapping[str, Any]:
    columns: dict[str, list[Any]] = {}
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            if not isinstance(entry, dict) or (columns and set(columns) != set(entry)):
                names = f" with {', '.join(columns)}" if columns else ""
                raise ValueError(f"Line {number} of {path} is not understood; expected a JSON object{names}.")
            for name, value in entry.items():
                columns.setdefault(name, []).append(value)
    return columns


def _lines(path: Path) -> Mapping[str, Any]:
    with path.open(encoding="utf-8-sig") as file:  # whose lines, unlike those of splitlines, end at line feeds only
        return {"text": [line.rstrip("\n") for line in file if line.strip()]}


def _npz(path: Path) -> Mapping[str, Any]:
    return read_npz(path)[1]


TEXT_FORMATS: dict[str, Callable[[Path], Mapping[str, Any]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".npz": _npz,
    ".txt": _lines,
}
