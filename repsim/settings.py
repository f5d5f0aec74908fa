"""Settings: fields of frozen dataclasses with their help text, choices and range.

A setting is declared once, as a field. The check of its value, the option on the command line, the key in a TOML file,
the reference page and the schema for editors all follow from that field.
"""

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

__all__ = ["Setting", "Settings", "UnknownChoice", "setting"]

Choices = tuple[str, ...] | Callable[[], Iterable[str]]


class UnknownChoice(ValueError):
    """Error of a setting that is none of its choices."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a class of settings.

    Attributes
    ----------
    name : str
        Name of the field, which is also its key in TOML files.
    type : type
        ``str``, ``int``, ``float`` or ``bool``; of each value, if the setting is a list.
    is_list : bool
        Whether the setting holds several values, as a tuple.
    is_optional : bool
        Whether None is allowed.
    default : object
    help : str
        One or two sentences, or a list of the choices.
    choices : tuple of str, or function that returns them, or None
        All allowed values. A function is called when choices are checked, so that it may import what it lists.
    lowest, highest : int or None
        Range of a number.
    positive : bool
        Whether a number must be above 0.
    unique : bool
        Whether a list must not hold a value twice.
    singular : str or None
        Name of one value of a list, for error messages.
    flags : tuple of str
        Names of the option on the command line; ``--name`` if empty.
    shown : str, mapping of str to str, or None
        Default value as the help text gives it, by command if it depends on that, where it differs from the value.
    commas : bool
        Whether the option takes a list as one text with commas; otherwise it is repeated.
    joined : str or None
        Separator of the values of a repeated option, if the setting is one text.
    """

    name: str
    type: type
    is_list: bool
    is_optional: bool
    default: Any
    help: str
    choices: Choices | None = None
    lowest: int | None = None
    highest: int | None = None
    positive: bool = False
    unique: bool = False
    singular: str | None = None
    flags: tuple[str, ...] = ()
    shown: str | Mapping[str, str] | None = None
    commas: bool = False
    joined: str | None = None

    def read(self, value: Any) -> Any:
        """Return a value as the setting holds it: a list as a tuple, a single value of a list as a tuple of one."""
        if value is None and self.is_optional:
            return None
        if not self.is_list:
            self._check(value)
            return value
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not values and self.default:
            raise ValueError(f"No {self.name} were given; expected one or more, such as {self.default[0]}.")
        for each in values:
            self._check(each)
        if self.unique and len(set(values)) < len(values):
            raise ValueError(f"{self.name} are {', '.join(map(str, values))}; expected each once.")
        return tuple(map(float, values)) if self.type is float else values

    def _check(self, value: Any) -> None:
        if not self._is_valid(value):
            raise ValueError(f"{self.name} is {value!r}; expected {self._expected(value)}.")
        if isinstance(self.choices, tuple):
            self.check_choice(value)

    def _is_valid(self, value: Any) -> bool:
        if self.type is float:
            return _is_finite(value) and (not self.positive or value > 0) and self._is_in_range(value)
        if self.type is int:
            return _is_integer(value) and self._is_in_range(value)
        return isinstance(value, self.type)

    def _is_in_range(self, value: float) -> bool:
        return _or(self.lowest, -math.inf) <= value <= _or(self.highest, math.inf)

    def _expected(self, value: Any) -> str:
        if self.type is float and self.lowest is not None:
            return (
                f"a number of {self.lowest} or more"
                if self.highest is None
                else f"a number from {self.lowest} to {self.highest}"
            )
        if self.type is not int:
            most = "" if self.highest is None else f" and at most {self.highest}"
            return f"a number above 0{most}" if self.positive else _IN_WORDS[self.type]
        if self.highest is not None and _is_integer(value) and value > self.highest:
            return f"a whole number of {self.highest} or less"
        return "a whole number" + (f" of {self.lowest} or more" if self.lowest is not None else "")

    def check_choice(self, value: Any) -> None:
        """Raise UnknownChoice unless a value, or each of a list, is one of the choices, as the default is."""
        if self.choices is None or value == self.default:
            return
        known = list(self.choices() if callable(self.choices) else self.choices)
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and each not in known:
                message = f"Unknown {self.singular or self.name} '{each}'. Choose one of: {', '.join(known)}."
                raise UnknownChoice(message)


_IN_WORDS = {str: "text", bool: "true or false", float: "a finite number"}


def setting(default: Any, *, help: str, **properties: Any) -> Any:  # noqa: A002 (the word of command lines)
    """Return a dataclass field that declares a setting, with further ``properties`` as in ``Setting``."""
    return field(default=default, metadata={"help": help, **properties})


class Settings:
    """Base of frozen, keyword-only dataclasses whose fields are made by ``setting``.

    Examples
    --------
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Noise(Settings):
    ...     scale: float = setting(1.0, help="Standard deviation.", positive=True)
    >>> Noise(scale=-1)
    Traceback (most recent call last):
    ValueError: scale is -1; expected a number above 0.
    """

    def __post_init__(self) -> None:
        """Check the type and range of every setting, and hold lists as tuples."""
        for each in self.settings():
            object.__setattr__(self, each.name, each.read(getattr(self, each.name)))

    @classmethod
    @cache
    def settings(cls) -> tuple[Setting, ...]:
        """Return the settings in the order in which they are declared."""
        hints: Mapping[str, Any] = {}
        found = []
        for each in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            if "help" in each.metadata:
                if isinstance(each.type, str) and not hints:
                    hints = get_type_hints(cls)
                kind = _kind(each.name, hints.get(each.name, each.type))
                found.append(Setting(name=each.name, default=each.default, **kind, **each.metadata))
        return tuple(found)

    def check_choices(self) -> None:
        """Raise UnknownChoice if a setting is none of its choices.

        This may import the modules that define the choices, so constructors of light classes leave it to the caller.
        """
        for each in self.settings():
            each.check_choice(getattr(self, each.name))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        values = {each.name: getattr(self, each.name) for each in self.settings()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings held in a dictionary; those left out have their defaults.

        Raises
        ------
        ValueError
            If a key is unknown, or a value has another type or is out of range.
        """
        known = [each.name for each in cls.settings()]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"Unknown setting '{unknown[0]}'. Choose one of: {', '.join(known)}.")
        return cls(**values)


def _kind(name: str, hint: Any) -> dict[str, Any]:
    """Return the properties of a setting that its annotation determines."""
    is_optional = get_origin(hint) in (Union, UnionType)
    if is_optional:
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    is_list = get_origin(hint) is tuple
    if is_list:
        hint = get_args(hint)[0]
    if hint not in (str, int, float, bool):
        raise TypeError(f"{name} is annotated as {hint}; expected str, int, float, bool or a tuple of one of these.")
    return {"type": hint, "is_list": is_list, "is_optional": is_optional}


def _or(bound: int | None, otherwise: float) -> float:
    return otherwise if bound is None else bound


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    """Return whether a value is a number that a float can hold."""
    if isinstance(value, float):
        return math.isfinite(value)
    return _is_integer(value) and abs(value) <= sys.float_info.max
