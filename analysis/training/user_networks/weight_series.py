"""Series of weights: which files a command names, and the training step of each."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from analysis.config.recording import ModelConfig
from checkpoints.storage.weight_paths import weight_digest
from checkpoints.storage.weights import WeightFile

__all__ = ["StepWeights", "weight_series"]

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
_STEP_WORD = re.compile(r"(?<![a-z])(steps?|iters?|iterations?)[^a-z]*$", re.IGNORECASE)
_SHARD = re.compile(r"\d{5}-of-\d{5}")
_KEY = "key:"
_TOO_LARGE = 2**63  # which no integer of a file of activations holds
_ADVICE = r"Say where the steps are, such as --steps-from 'epoch_(\d+)' or --steps-from key:global_step."


@dataclass(frozen=True)
class StepWeights:
    """The weights of one training step: a file or folder, or None for those that the network is built with."""

    step: int
    path: Path | None = None

    @cached_property
    def digest(self) -> str | None:
        """SHA-256 of the file, when this was first asked for."""
        return None if self.path is None else weight_digest(self.path)

    @property
    def described(self) -> dict[str, str]:
        """What a run stores of the file; empty if there is none."""
        if self.path is None or self.digest is None:
            return {}
        return {"weights": str(self.path.absolute()), "weights_sha256": self.digest}


def weight_series(source: ModelConfig) -> list[StepWeights]:
    """Return the weights that paths and patterns name, each with its step, in the order of the steps.

    A path that exists is that file or folder, even if it looks like a pattern. One file without ``steps_from`` is of
    ``step``, or of step 0. Without weights, the only step is that of the weights that the network is built with.

    Raises
    ------
    ValueError
        If a pattern names no file; if a step is not found, is too large, or could be one of several numbers; if two
        files are of the same step; or if ``step`` is given with several files, or ``steps_from`` without any.
    """
    paths = list({path.absolute(): path for text in source.weights for path in _named(text)}.values())
    if not paths:
        return [_without_file(source)]
    if len(paths) == 1 and source.steps_from == "name":
        return [_only_file(source, paths[0])]
    if source.step is not None:
        raise ValueError(
            f"step {source.step} was given, but the steps of {_counted(paths)} are read from "
            f"{'their names' if source.steps_from == 'name' else source.steps_from}; leave --step out."
        )
    steps = _steps(paths, source.steps_from)
    series = [StepWeights(step, path) for step, path in sorted(zip(steps, paths, strict=True))]
    if series[-1].step >= _TOO_LARGE:
        raise ValueError(f"{series[-1].path} is of step {series[-1].step}; expected less than 2**63. {_ADVICE}")
    for one, other in pairwise(series):
        if one.step == other.step:
            raise ValueError(f"{one.path} and {other.path} are both of step {one.step}; leave one out. {_ADVICE}")
    return series


def _without_file(source: ModelConfig) -> StepWeights:
    if source.steps_from != "name":
        raise ValueError(f"--steps-from '{source.steps_from}' was given without --weights; give the files too.")
    return StepWeights(source.step or 0)


def _only_file(source: ModelConfig, path: Path) -> StepWeights:
    if source.step is None and not any(Path(text).exists() or not glob.has_magic(text) for text in source.weights):
        raise ValueError(
            f"Only {path} matches {source.weights[0]}, so there are no names that differ in the step. Give --step, or "
            r"say where the step is, such as --steps-from 'epoch_(\d+)'."
        )
    return StepWeights(source.step or 0, path)


def _counted(paths: Sequence[Path]) -> str:
    return "one file" if len(paths) == 1 else f"{len(paths)} files"


def _named(text: str) -> list[Path]:
    """Return the paths that a pattern names, or the path itself."""
    if Path(text).exists() or not glob.has_magic(text):
        return [Path(text)]
    found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (patterns may be absolute)
    if not found:
        raise ValueError(f"No file matches {text}. Give paths of weights, or a pattern in quotes such as 'epoch_*.pt'.")
    return list(map(Path, found))


def _steps(paths: Sequence[Path], steps_from: str) -> list[int]:
    if steps_from == "name":
        return _numbers_of_names(paths)
    if steps_from.startswith(_KEY):
        key = steps_from.removeprefix(_KEY)
        return [WeightFile.read(path).number(key) for path in paths]
    return list(map(_search(steps_from), paths))


def _search(text: str) -> Callable[[Path], int]:
    """Return a function that finds the number of the group of a regular expression in a path."""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"--steps-from '{text}' is not a regular expression ({error}). {_ADVICE}") from error
    if pattern.groups != 1:
        raise ValueError(
            f"--steps-from '{text}' has {pattern.groups} groups in parentheses; expected name, key:NAME, or a regular "
            r"expression with one group, such as 'epoch_(\d+)'."
        )

    def found(path: Path) -> int:
        match = pattern.search(path.as_posix())
        if match is None or not (match[1] or "").isdecimal():
            raise ValueError(f"--steps-from '{text}' finds no whole number in {path}. {_ADVICE}")
        return int(match[1])

    return found


def _numbers_of_names(paths: Sequence[Path]) -> list[int]:
    """Return the number in which the names differ; of several, the one after the word step or iteration."""
    if any(_SHARD.search(path.name) for path in paths):
        raise ValueError(f"{paths[0]} and {paths[1]} are parts of one network; give their .index.json, or the folder.")
    parts = [_NUMBER.split(name) for name in _below_common_folder(paths)]  # texts and numbers in turn
    if other := [path for path, each in zip(paths, parts, strict=True) if each[::2] != parts[0][::2]]:
        raise ValueError(
            f"The steps do not follow from the names: {paths[0]} and {other[0]} differ in more than numbers. Leave out "
            f"files of another kind. {_ADVICE}"
        )
    columns = list(zip(parts[0][::2], zip(*(each[1::2] for each in parts), strict=True), strict=False))
    varying = {numbers for _, numbers in columns if len(set(numbers)) > 1}
    after_step = {numbers for text, numbers in columns if numbers in varying and _STEP_WORD.search(text)}
    found = varying if len(varying) == 1 else after_step
    if len(found) != 1:
        raise ValueError(
            f"The steps do not follow from the names: {paths[0]} and {paths[-1]} differ in {len(varying)} numbers. "
            f"{_ADVICE}"
        )
    (numbers,) = found
    if fractions := [number for number in numbers if not number.isdecimal()]:
        raise ValueError(f"The names differ in {fractions[0]}, but steps are whole numbers. {_ADVICE}")
    return list(map(int, numbers))


def _below_common_folder(paths: Sequence[Path]) -> list[str]:
    """Return the paths below the folder that all share."""
    parts = [path.absolute().parts for path in paths]
    shared = 0
    while all(len(each) > shared + 1 and each[shared] == parts[0][shared] for each in parts):
        shared += 1
    return ["/".join(each[shared:]) for each in parts]
