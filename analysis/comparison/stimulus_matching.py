"""Matching of the stimuli of runs that are compared: the same ones in any order, or, on request, the same ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from checkpoints import Layer, Run, Stimuli
from checkpoints.storage.regular_files import check_unchanged, sha256

__all__ = [
    "MatchedLayer",
    "Matching",
    "StimulusFile",
    "class_names",
    "compare_inputs",
    "match_stimuli",
    "stimulus_file",
]

_PARTS = ("train", "validation", "test")
_MOST_NAMED = 3


class StimulusFile(NamedTuple):
    """The ``stimuli.h5`` of a run, and its SHA-256."""

    path: str
    sha256: str

    def read(self) -> Stimuli:
        """Return the stimuli, after comparing the file with its hash."""
        return _read(self)


@dataclass(frozen=True)
class Matching:
    """The stimuli that several runs have in common, in the order of the first run.

    Attributes
    ----------
    by : str
        ``"inputs"``: all runs saw the same stimuli, in different orders. ``"ids"``: they saw stimuli of the same ids,
        whose inputs may differ; ids that not all runs have are left out.
    files : tuple of StimulusFile
        One for each different set of stimuli; the first is that of the first run.
    """

    by: str
    files: tuple[StimulusFile, ...]

    @property
    def stimuli(self) -> Stimuli:
        """The common stimuli, as the first run describes them."""
        first = self.files[0].read()
        return _taken(first, self.rows(first))

    def rows(self, stimuli: Stimuli) -> NDArray[np.int64]:
        """Return the rows of the common stimuli in the files of a run with these stimuli, in the order of the first."""
        places = {each: row for row, each in enumerate(stimuli.ids.tolist())}
        return np.array([places[each] for each in self._common()], dtype=np.int64)

    def keeps(self, stimuli: Stimuli) -> bool:
        """Return whether a run with these stimuli is compared with all of them in the order of its files."""
        rows = self.rows(stimuli)
        return len(rows) == len(stimuli) and bool((rows == np.arange(len(rows))).all())

    def _common(self) -> list[str]:
        first, *others = (file.read().ids.tolist() for file in self.files)
        kept = set(first).intersection(*others)
        return [each for each in first if each in kept]


@dataclass(frozen=True)
class MatchedLayer(Layer):
    """Some rows of a recorded layer, in another order; they are read from disk when the layer is indexed."""

    whole: Layer = field(kw_only=True, repr=False)
    rows: NDArray[np.int64] = field(kw_only=True, repr=False, compare=False)

    @classmethod
    def of(cls, layer: Layer, rows: NDArray[np.int64]) -> MatchedLayer:
        """Return the layer with these rows."""
        values = {each.name: getattr(layer, each.name) for each in fields(layer)}
        values |= {"shape": (len(rows), layer.shape[1]), "stimulus_ids": layer.stimulus_ids[rows]}
        return cls(**values, whole=layer, rows=rows)

    def __getitem__(self, selection: Any) -> Any:
        """Read the selected rows (and columns), as ``Layer`` does."""
        rows, *columns = (selection if isinstance(selection, tuple) else (selection,)) or (...,)
        return self.whole[(self.rows[rows], *columns)]


def match_stimuli(runs: Sequence[Run], by: str = "inputs") -> Matching | None:
    """Return how the stimuli of runs are matched; None if all recorded the same stimuli in the same order.

    Parameters
    ----------
    runs : sequence of Run
        The order of the stimuli is that of the first.
    by : {"inputs", "ids"}, default "inputs"
        ``"inputs"`` refuses runs that saw different inputs. ``"ids"`` compares stimuli of the same ids whatever their
        inputs, and leaves out ids that not all runs have.

    Raises
    ------
    ValueError
        If runs saw different stimuli; the message names ids that differ. Labels and parts of the split have to be the
        same for each id, also with ``"ids"``.
    """
    first = runs[0]
    others = [run for run in runs[1:] if not _is_same(run, first)]
    for run in others:
        _check(run, first, by)
    if not others:
        return None
    matching = Matching(by, tuple(dict.fromkeys(stimulus_file(run) for run in (first, *others))))
    if by == "ids":
        _check_parts(matching, first, others)
    return matching


def stimulus_file(run: Run) -> StimulusFile:
    """Return the file of the stimuli of a run."""
    path = run.path.absolute() / "stimuli.h5"
    return StimulusFile(str(path), str(run.info.get("stimuli_sha256") or sha256(path)))


def class_names(run: Run) -> dict[int, str] | None:
    """Return the name of each class of a run by its label; None if the run does not name its classes."""
    if run.stimuli.classes:
        return dict(enumerate(run.stimuli.classes))
    data = run.config.get("data")
    classes = data.get("classes") if isinstance(data, dict) else None
    labels = run.stimuli.labels
    if isinstance(classes, list) and len(labels) and labels.min() >= 0 and labels.max() < len(classes):
        return dict(enumerate(map(str, classes)))
    return None


def compare_inputs(run: Run, first: Run, matching: Matching | None) -> str:
    """Return whether a run saw the inputs of the common stimuli that the first saw: "same", "other" or "unknown"."""
    if matching is None or _is_same(run, first):
        return "same"
    mine, theirs = (_taken(each.stimuli, matching.rows(each.stimuli)) for each in (run, first))
    different = _different_inputs(mine, theirs)
    return "unknown" if different is None else "other" if len(different) else "same"


@lru_cache(maxsize=64)
def _read(file: StimulusFile) -> Stimuli:
    path = Path(file.path)
    check_unchanged(path, file.sha256)
    return Stimuli.read(path)


def _taken(stimuli: Stimuli, rows: NDArray[np.int64]) -> Stimuli:
    """Return some stimuli, in the order of the rows, without inputs."""
    n = len(stimuli)
    names = {each.name for each in fields(stimuli)} - {"inputs", "mask"}
    columns: dict[str, Any] = {name: getattr(stimuli, name) for name in names}
    taken: dict[str, Any] = {
        name: value[rows] for name, value in columns.items() if isinstance(value, np.ndarray) and len(value) == n
    }
    for name, value in columns.items():
        if isinstance(value, Mapping):
            taken[name] = {key: part[rows] for key, part in value.items()}
    return replace(stimuli, **taken, inputs=None, mask=None)


def _is_same(run: Run, first: Run) -> bool:
    """Return whether two runs recorded the same stimuli in the same order."""
    if run.info.get("stimuli_sha256") == first.info.get("stimuli_sha256") is not None:
        return True
    return run.stimuli.is_same_as(first.stimuli)


def _check(run: Run, first: Run, by: str) -> None:
    """Raise ValueError unless the stimuli of a run can be matched with those of the first run."""
    mine, theirs = run.stimuli.ids.tolist(), first.stimuli.ids.tolist()
    for each, ids in ((run, mine), (first, theirs)):
        if len(set(ids)) < len(ids):
            raise ValueError(f"{each.path} has stimuli of the same id, so it cannot be matched with other runs by id.")
    known, recorded = set(theirs), set(mine)
    common = [each for each in theirs if each in recorded]
    a, b = (_taken(each.stimuli, _rows(each.stimuli, common)) for each in (run, first))
    conflict = _conflict(run, first, a, b)
    extra = [each for each in mine if each not in known], [each for each in theirs if each not in recorded]
    if not common or (by == "inputs" and any(extra)):
        said = [
            f"{len(ids)} of {len(whole)} ids are only in {each.path} ({_named(ids)})"
            for ids, whole, each in zip(extra, (mine, theirs), (run, first), strict=True)
            if ids
        ]
        rest = "" if conflict or not common else f" To compare the {len(common)} ids that both have, give --match ids."
        raise ValueError(f"{_different(run, first)}: {' and '.join(said)}. {_SAME_DATA}{rest}")
    if conflict:
        raise ValueError(f"{_different(run, first)}: {conflict} {_SAME_DATA}")
    different = None if by == "ids" else _different_inputs(a, b)
    if by == "inputs" and (different is None or len(different)):
        raise ValueError(_why_other_inputs(run, first, b, different))


def _conflict(run: Run, first: Run, a: Stimuli, b: Stimuli) -> str:
    """Return for which of the common stimuli two runs have other labels or parts of the split; empty if for none."""
    mine, theirs = class_names(run), class_names(first)
    if mine is None or theirs is None:
        labels = [a.labels.astype(str), b.labels.astype(str)]
    else:
        labels = [np.array([mine[each] for each in a.labels]), np.array([theirs[each] for each in b.labels])]
    columns: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {
        "label": (labels[0], labels[1]),
        "part of the split": (a.split, b.split),
    }
    for what, (own, known) in columns.items():
        other = np.flatnonzero(own != known)
        if len(other):
            k = other[0]
            return (
                f"the {what} differs for {len(other)} of {len(b)} common ids ({_named(b.ids[other].tolist())}); "
                f"'{b.ids[k]}' has '{own[k]}' in {run.path} and '{known[k]}' in {first.path}."
            )
    return ""


def _different_inputs(a: Stimuli, b: Stimuli) -> NDArray[np.int64] | None:
    """Return the positions of stimuli whose inputs differ; None if that is not known, as inputs have no digests."""
    if a.digests is None or b.digests is None:
        return None
    return np.flatnonzero(a.digests != b.digests)


def _why_other_inputs(run: Run, first: Run, stimuli: Stimuli, different: NDArray[np.int64] | None) -> str:
    if different is None:
        return (
            f"{_different(run, first)}: they have the same ids, labels and split, but their inputs differ in order or "
            "in content; it is not known in which, as an earlier version stored no hash of each input. If these are "
            "the same things in another order or form, give --match ids."
        )
    return (
        f"{_different(run, first)}: the inputs of {len(different)} of {len(stimuli)} ids differ "
        f"({_named(stimuli.ids[different].tolist())}). If these are the same things in another form, such as another "
        "resolution, give --match ids; otherwise train or record both with the same data."
    )


def _check_parts(matching: Matching, first: Run, others: Sequence[Run]) -> None:
    """Raise ValueError if a part of the split that the first run has is empty among the common stimuli."""
    whole, kept = first.stimuli, matching.stimuli
    lost = [part for part in _PARTS if (whole.split == part).any() and not (kept.split == part).any()]
    if lost or not len(kept):
        lack = f"for {' or '.join(lost)}" if len(kept) else "at all"
        raise ValueError(
            f"{', '.join(str(run.path) for run in (first, *others))} have {len(kept)} stimulus ids in common, and none "
            f"{lack}. Record them with more of the same stimuli."
        )


def _rows(stimuli: Stimuli, ids: Sequence[str]) -> NDArray[np.int64]:
    places = {each: row for row, each in enumerate(stimuli.ids.tolist())}
    return np.array([places[each] for each in ids], dtype=np.int64)


def _different(run: Run, first: Run) -> str:
    return f"{run.path} and {first.path} recorded different stimuli"


def _named(ids: Sequence[str]) -> str:
    """Return the first ids as text."""
    rest = ", …" if len(ids) > _MOST_NAMED else ""
    return ", ".join(f"'{each}'" for each in ids[:_MOST_NAMED]) + rest


_SAME_DATA = "Train or record both with the same data, split seed and numbers of stimuli."
