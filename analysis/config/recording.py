"""What is recorded of a run, and which of its steps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from repsim.learning.checks import check_integer, check_type

__all__ = ["RecordingConfig", "choose_steps"]

_MOST_STEPS = 10_000_000


@dataclass(frozen=True, kw_only=True)
class RecordingConfig:
    """What each checkpoint of a run records.

    Attributes
    ----------
    steps : str
        Any of ``first``, ``last``, ``every:N``, ``log:N`` (N steps spaced evenly on a logarithmic scale), step numbers
        and shares of the training such as ``12.5%``, joined by commas. ``first`` is step 0, before training.
    layers : tuple of str
        Module names or patterns of the network.
    n_train, n_validation, n_test : int
        At most so many stimuli of each part of the split, the same number of each class where there are enough.
    compress : bool
        Gzip the activations.
    diagnose : str
        The steps at which the log compares the gradients that the rule chose with the true ones, as ``steps`` or
        ``none``. Each costs a forward and a backward pass more.

    Raises
    ------
    ValueError
        If a field is out of range or no layer is named.
    """

    steps: str = "first,last"
    layers: tuple[str, ...] = ("hidden.*",)
    n_train: int = 2000
    n_validation: int = 500
    n_test: int = 1000
    compress: bool = False
    diagnose: str = "1,every:50,last"

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("n_train", "n_validation", "n_test"):
            check_integer(name, getattr(self, name), 1)
        check_type("layers", self.layers, tuple, "a tuple of names or patterns")
        if not self.layers:
            raise ValueError("No layers are to be recorded; name at least one, such as 'hidden.*'.")
        for layer in self.layers:
            check_type("layers", layer, str, "names or patterns")
        check_type("compress", self.compress, bool, "true or false")
        for name in ("steps", "diagnose"):
            check_type(name, getattr(self, name), str, "text")
        choose_steps(self.steps, n_steps=0, check_range=False)
        self.diagnosed_steps(n_steps=1)

    def diagnosed_steps(self, n_steps: int) -> tuple[int, ...]:
        """Return the steps of a training of ``n_steps`` updates whose gradients are compared with the true ones."""
        if self.diagnose == "none" or n_steps == 0:
            return ()
        chosen = choose_steps(self.diagnose, n_steps, check_range=False, name="diagnose")
        if 0 in chosen:
            raise ValueError(f"diagnose '{self.diagnose}' names step 0; gradients are chosen from step 1 on. Use 1.")
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return {**asdict(self), "layers": list(self.layers)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RecordingConfig:
        """Return the settings held in a dictionary.

        Raises
        ------
        ValueError
            If a key is unknown or a value is out of range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"Unknown recording setting '{unknown[0]}'. Choose from: {', '.join(sorted(known))}.")
        layers = values.get("layers", cls.layers)
        return cls(**{**values, "layers": tuple(layers) if isinstance(layers, list | tuple) else (layers,)})

    @property
    def sizes(self) -> dict[str, int]:
        """The largest number of stimuli of each part of the split."""
        return {"train": self.n_train, "validation": self.n_validation, "test": self.n_test}


def choose_steps(text: str, n_steps: int, *, check_range: bool = True, name: str = "steps") -> tuple[int, ...]:
    """Return the steps of a training run of ``n_steps`` updates that a description names.

    Parameters
    ----------
    text : str
        See ``RecordingConfig.steps``.
    n_steps : int
        0 or more.
    check_range : bool, default True
        Whether a number above ``n_steps`` is an error (otherwise it is left out).
    name : str, default "steps"
        What errors call the setting.

    Returns
    -------
    tuple of int
        Ascending, each in 0 … n_steps.

    Raises
    ------
    ValueError
        If a part is not understood or out of range.

    Examples
    --------
    >>> choose_steps("first,log:4,last", n_steps=1000)
    (0, 1, 10, 100, 1000)
    >>> choose_steps("12.5%,50%", n_steps=1000)
    (125, 500)
    """
    chosen: set[int] = set()
    for part in text.split(","):
        chosen.update(_steps_of(part.strip(), f"{name} '{text}'", n_steps))
    too_large = [step for step in sorted(chosen) if step > n_steps]
    if too_large and check_range:
        raise ValueError(f"{name} '{text}' name step {too_large[0]}; this training ends at step {n_steps}.")
    return tuple(sorted(chosen - set(too_large)))


def _steps_of(part: str, setting: str, n_steps: int) -> list[int]:
    if part == "first":
        return [0]
    if part == "last":
        return [n_steps]
    if part.isdecimal():
        return [int(part)]
    if part.endswith("%") and part[:-1].replace(".", "", 1).isdecimal() and float(part[:-1]) <= 100:
        return [round(float(part[:-1]) / 100 * n_steps)]
    kind, _, number = part.partition(":")
    if kind in ("every", "log") and number.isdecimal() and int(number) > 0:
        count = n_steps // int(number) if kind == "every" else int(number)
        if count > _MOST_STEPS:
            raise ValueError(f"{setting}: '{part}' names {count} steps; at most {_MOST_STEPS} are taken.")
        return _every(int(number), n_steps) if kind == "every" else _logarithmic(int(number), n_steps)
    raise ValueError(
        f"{setting}: '{part}' is not understood. Use first, last, every:N, log:N, numbers and shares such as 25%, "
        "joined by commas."
    )


def _every(interval: int, n_steps: int) -> list[int]:
    return list(range(interval, n_steps + 1, interval))


def _logarithmic(count: int, n_steps: int) -> list[int]:
    if n_steps < 1:
        return []
    exponents = [math.log(n_steps) * index / max(count - 1, 1) for index in range(count)]
    return [min(n_steps, round(math.exp(exponent))) for exponent in exponents]
