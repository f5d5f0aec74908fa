"""Weights of other programs for a model: which state dict of a file fits, under which names, and why none does."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from checkpoints.capture.modules import plain_name
from checkpoints.storage.pickled_files import StandIn
from checkpoints.storage.weight_paths import standard_files
from checkpoints.storage.weights import WeightFile, listed_keys
from checkpoints.training_state.model_state import is_covered, load_weights, memory_groups
from checkpoints.training_state.weight_mismatch import Mismatch
from checkpoints.training_state.weight_names import Renaming, renamings

__all__ = ["fit_weights"]

_COUNTER = "num_batches_tracked"  # torch starts it at 0 where a file of its older versions lacks it
_MOST_NAMES = 3


def fit_weights(model: nn.Module, file: WeightFile, key: str | None = None) -> tuple[str, ...]:
    """Load the weights of a file into a model, if they fit completely.

    The names of the file may have a prefix, or parts that wrappers such as ``DistributedDataParallel`` and
    ``torch.compile`` add, which those of the model lack, or the reverse. Entries outside the prefix are left out.

    Parameters
    ----------
    model : nn.Module
    file : WeightFile
    key : str, optional
        Dotted key of the state dict in the file, or prefix of its names; by default the only one that fits.

    Returns
    -------
    tuple of str
        One sentence for each thing that was chosen, renamed or left out; they do not name the file.

    Raises
    ------
    ValueError
        If no state dict fits the model, several do, tied weights differ, or the model is offloaded; the model is as
        before then.
    """
    return (*_folder_notes(file), *_fit(model, file, key))


def _folder_notes(file: WeightFile) -> list[str]:
    """Return a sentence that names the weights in other formats that a folder holds too."""
    names = standard_files(file.path) if file.path.is_dir() else []
    return [f"read {names[0]}, not {' or '.join(names[1:])}, which is there too."] if len(names) > 1 else []


def _fit(model: nn.Module, file: WeightFile, key: str | None) -> tuple[str, ...]:
    target = _Target({plain_name(name): value for name, value in model.state_dict().items()})
    states = file.state_dicts(key)
    fits = [_Fit(at, state, each) for at, state in states.items() for each in target.fitting(state)]
    if len(fits) > 1:
        choices = listed_keys({fit.full_key: None for fit in fits})
        raise ValueError(f"{file.path} holds several weights that fit the model; choose one with --key: {choices}.")
    if not fits:
        return _try_as_they_are(model, file, target, states)
    fit = fits[0]
    file.check_stored(fit.state)
    try:
        load_weights(model, fit.renamed)
    except Exception as error:  # torch's message has several lines, and the user's module may raise anything
        raise ValueError(f"{file.path} does not fit the model: {' '.join(str(error).split())}") from error
    others = [at for at, state in states.items() if at != fit.key and not _is_of_scalars(state)]
    return tuple(fit.notes(others))


def _try_as_they_are(
    model: nn.Module, file: WeightFile, target: _Target, states: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Load weights whose names the model itself may translate, or raise ValueError that summarises the mismatch."""
    mismatches = {at: target.mismatch(state) for at, state in states.items()}
    nearest = max(states, key=lambda at: (len(mismatches[at].given), len(mismatches[at].unexpected)))
    state, mismatch = states[nearest], mismatches[nearest]
    if mismatch.missing and mismatch.unexpected and not mismatch.misshapen and not mismatch.names:
        file.check_stored(state)
        before = copy.deepcopy(model.state_dict())
        try:
            load_weights(model, state)
        except Exception:  # the summary says more than torch's message
            model.load_state_dict(before)
        else:
            return ("the names of the weights were translated by the model.",)
    where = f" at '{nearest}'" if nearest else ""
    raise ValueError(f"{file.path} does not fit the model{where}: {mismatch}")


@dataclass(frozen=True)
class _Fit:
    key: str
    state: Mapping[str, Any]
    renaming: Renaming

    @property
    def full_key(self) -> str:
        return ".".join(filter(None, (self.key, self.renaming.removed)))

    @property
    def renamed(self) -> Mapping[str, Any]:
        names = self.renaming.names
        if list(names) == list(self.state) == list(names.values()):
            return self.state  # with the versions of its modules, which a run's own file holds
        return {name: self.state[given] for given, name in names.items()}

    def notes(self, others: list[str]) -> list[str]:
        done = []
        if others:
            unfit = listed_keys(dict.fromkeys(others))
            done.append(f"the weights are those at '{self.key}'; those at {unfit} do not fit.")
        if how := str(self.renaming):
            done.append(f"the weights fit {how}.")
        if left := [str(name) for name in self.state if name not in self.renaming.names]:
            named = ", ".join(left[:_MOST_NAMES]) + (", ..." if len(left) > _MOST_NAMES else "")
            entries = "1 entry" if len(left) == 1 else f"{len(left)} entries"
            done.append(f"left out {entries} that the model does not have: {named}.")
        return done


@dataclass(frozen=True)
class _Target:
    """The entries of a model, by their plain names."""

    entries: Mapping[str, Any]

    @cached_property
    def groups(self) -> dict[int, dict[str, Tensor]]:
        return memory_groups(self.entries)

    @cached_property
    def n_required(self) -> int:
        """The least number of entries that a file has: one of each group of tied weights."""
        tied = sum(len(group) - 1 for group in self.groups.values())
        return len(self.entries) - tied - sum(name.endswith(_COUNTER) for name in self.entries)

    def fitting(self, state: Mapping[str, Any]) -> list[Renaming]:
        """Return the correspondences with which a state dict fits: the names as they are, or all others."""
        found: dict[frozenset[tuple[str, str]], Renaming] = {}
        for index, each in enumerate(renamings(_texts(state), self.entries)):
            if len(each.names) >= self.n_required and self._mismatch(state, each).is_none:
                found.setdefault(frozenset(each.names.items()), each)
                if index == 0:
                    break
        return list(found.values())

    def mismatch(self, state: Mapping[str, Any]) -> Mismatch:
        """Return how the names that correspond best differ; names as they are come first."""
        best = max(renamings(_texts(state), self.entries), key=lambda each: len(each.names))
        return self._mismatch(state, best)

    def _mismatch(self, state: Mapping[str, Any], renaming: Renaming) -> Mismatch:
        names = renaming.names
        given = {name: state[original] for original, name in names.items()}
        return Mismatch(
            held=self.entries,
            given=given,
            missing=[name for name in self.entries if name not in given and not self._is_optional(name, given)],
            unexpected={
                name: value
                for name, value in state.items()
                if isinstance(value, Tensor) and name not in names and renaming.is_inside(name)
            },
            misshapen=[name for name, value in given.items() if not _agrees(value, self.entries[name])],
            names=str(renaming),
        )

    def _is_optional(self, name: str, given: Mapping[str, Any]) -> bool:
        return name.endswith(f".{_COUNTER}") or is_covered(self.entries[name], self.groups, given)


def _texts(state: Mapping[str, Any]) -> list[str]:
    return [name for name in state if isinstance(name, str)]


def _is_of_scalars(state: Mapping[str, Any]) -> bool:
    return all(value.ndim == 0 for value in state.values() if isinstance(value, Tensor))


def _agrees(value: Any, target: Any) -> bool:
    """Return whether torch would load a value into an entry of the model without changing what it means."""
    if isinstance(value, StandIn) or isinstance(value, Tensor) != isinstance(target, Tensor):
        return False
    if not isinstance(value, Tensor):
        return True
    whole = not (value.is_floating_point() or value.is_complex())
    if (whole and target.dtype.is_floating_point) or (value.is_complex() and not target.is_complex()):
        return False  # such as quantized numbers without their scale
    if nn.parameter.is_lazy(target) or value.shape == target.shape:
        return True
    return value.shape == (1,) and target.ndim == 0  # which files of old versions of torch have
