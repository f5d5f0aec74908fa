"""Differences between the weights of a file and those of a model, with their likely cause, as one message."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["Mismatch"]

_MOST_NAMES = 3


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """How weights differ from a model; the text says how many entries, the first three of each kind, and why.

    Attributes
    ----------
    held : mapping of str to object
        The entries of the model.
    given : mapping of str to object
        Entries of the file, by the model's name for them.
    missing : list of str
        Entries of the model that the file does not give.
    unexpected : mapping of str to object
        Entries of the file that the model does not have, by their names in the file.
    misshapen : list of str
        Names whose shape or kind of numbers differs.
    names : str
        What was done to the names of the file before they were compared, or nothing.
    """

    held: Mapping[str, Any]
    given: Mapping[str, Any]
    missing: list[str]
    unexpected: Mapping[str, Any]
    misshapen: list[str]
    names: str

    @property
    def is_none(self) -> bool:
        """Whether the weights fit."""
        return not (self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        """Return the message."""
        parts = [
            f"{len(names)} {kind} ({_listed(shown)})"
            for kind, names, shown in (
                ("missing", self.missing, (f"'{name}'" for name in self.missing)),
                ("unexpected", self.unexpected, (f"'{name}'" for name in self.unexpected)),
                ("of another shape or type", self.misshapen, map(self._shapes, self.misshapen)),
            )
            if names
        ]
        compared = f" (compared {self.names})" if self.names else ""
        return f"of {len(self.held)} entries{compared}, {', '.join(parts)}. {self.cause}"

    @property
    def cause(self) -> str:
        """The likely cause, and what to do."""
        if self.misshapen and not self.missing and not self.unexpected:
            return self._cause_of_shapes()
        if not self.given:
            if _shapes_of(self.held) == _shapes_of(self.unexpected):
                return "The shapes are the same under other names: rename the entries as the model names them."
            return "No name is the same: probably another architecture; give the model that the weights are from."
        if self._differs_in_depth():
            return "Probably another number of layers: build the model with the depth that the weights are from."
        if not self.missing and not self.misshapen:
            return "The file has everything and more: remove the unexpected entries, or build the model with them."
        if not self.unexpected and not self.misshapen:
            return "The file holds a part of the model only; give one that holds all of it."
        return "Probably another architecture; give the model that the weights are from."

    def _cause_of_shapes(self) -> str:
        modules = list(dict.fromkeys(name.rpartition(".")[0] for name in self.held))
        concerned = {name.rpartition(".")[0] for name in self.misshapen}
        pairs = [(_shape(self.given[name]), _shape(self.held[name])) for name in self.misshapen]
        if any(given == held for given, held in pairs):
            return "Probably quantized or packed weights; give the weights as floating point numbers."
        if concerned == {modules[-1]} and all(given[1:] == held[1:] and given and held for given, held in pairs):
            given, held = pairs[0]
            return (
                f"Probably another number of classes: the last layer '{modules[-1]}' has {given[0]} outputs in the "
                f"file and {held[0]} in the model; build the model with {given[0]}."
            )
        if concerned == {modules[0]} and all(_differ_in_inputs(given, held) for given, held in pairs):
            return "Probably another number of input features or channels; build the model with that of the file."
        if all(len(given) == len(held) for given, held in pairs):
            return "Probably another width; build the model with that of the file."
        return "Probably another architecture; give the model that the weights are from."

    def _differs_in_depth(self) -> bool:
        known = {_without_numbers(name) for name in self.given}
        extra = [*self.missing, *self.unexpected]
        one_sided = not self.missing or not self.unexpected
        return one_sided and any(map(_has_number, extra)) and all(self._is_numbered(name, known) for name in extra)

    @staticmethod
    def _is_numbered(name: str, known: set[str]) -> bool:
        return any(_without_numbers(name).endswith(each) for each in known if "#" in each)

    def _shapes(self, name: str) -> str:
        given, held = self.given[name], self.held[name]
        same = _shape(given) == _shape(held)
        return f"'{name}': {_described(given, same)} in the file, {_described(held, same)} in the model"


def _listed(texts: Iterable[str]) -> str:
    texts = list(texts)
    return "; ".join(texts[:_MOST_NAMES]) + ("; ..." if len(texts) > _MOST_NAMES else "")


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) and not nn.parameter.is_lazy(value) else ()


def _described(value: Any, with_type: bool) -> str:
    if not isinstance(value, Tensor):
        return f"a {getattr(value, 'name', type(value).__name__)}"
    return f"{str(value.dtype).removeprefix('torch.')} {_shape(value)}" if with_type else str(_shape(value))


def _shapes_of(state: Mapping[str, Any]) -> Counter[tuple[int, ...]]:
    return Counter(map(_shape, state.values()))


def _differ_in_inputs(given: tuple[int, ...], held: tuple[int, ...]) -> bool:
    return len(given) == len(held) > 1 and given[0] == held[0] and given[2:] == held[2:]


def _has_number(name: str) -> bool:
    return _without_numbers(name) != name


def _without_numbers(name: str) -> str:
    return re.sub(r"(?<![^.])\d+(?![^.])", "#", name)
