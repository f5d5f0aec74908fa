"""The settings of one training run, checked once, here."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from repsim.learning.estimators import ESTIMATORS
from repsim.learning.networks import ACTIVATIONS, NORMS
from repsim.learning.schedules import SCHEDULES

__all__ = ["TrainingConfig", "choose_boundaries"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides the numbers of a training run, given the machine.

    Attributes
    ----------
    data : str
        Name of a data set or path of an ``.npz`` file.
    seed : int
        Decides the split, the initial weights and the order of the examples.
    depth, width, norm, activation
        The network, see ``mlp``.
    rule : str
        The estimator used at ``boundaries``; backprop is used at all others.
    boundaries : str
        ``"middle"``, ``"every:N"``, ``"inner"`` (all between hidden layers), ``"all"`` (also the one below the output
        layer) or numbers such as ``"4,8,12"``. Ignored by the rule ``"backprop"``.
    sg_hidden_layers : int
        Hidden layers of each synthetic-gradient module; 0 makes it linear.
    sg_hidden_width : int or None
        Their units; the boundary's width if None.
    sg_label_conditioned : bool
        Whether the modules see the label.
    epochs : int
        Passes over the training examples; the last incomplete batch of a pass is left out.
    batch_size : int
    learning_rate, sg_learning_rate : float
        Adam's step sizes for the network and for the modules.
    schedule : str
        ``"constant"`` or ``"cosine"`` (both rates fall to zero along half a cosine).
    threads : int
        Processor threads of each product. They change the last bits of the numbers, and pay for networks much wider
        than the default's only.

    Raises
    ------
    ValueError
        If a setting is out of range; the message names it and what was expected.
    """

    data: str = "mnist5k"
    seed: int = 0
    depth: int = 20
    width: int = 128
    norm: str = "batch"
    activation: str = "relu"
    rule: str = "backprop"
    boundaries: str = "middle"
    sg_hidden_layers: int = 0
    sg_hidden_width: int | None = None
    sg_label_conditioned: bool = True
    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 1e-3
    sg_learning_rate: float = 1e-3
    schedule: str = "constant"
    threads: int = 1

    def __post_init__(self) -> None:
        """Check every field."""
        for name, lowest in _LOWEST.items():
            _check_integer(name, getattr(self, name), lowest)
        for name, choices in _CHOICES.items():
            _check_choice(name, getattr(self, name), choices)
        for name in ("learning_rate", "sg_learning_rate"):
            _check_positive(name, getattr(self, name))
        for name in ("data", "boundaries"):
            _check_type(name, getattr(self, name), str, "text")
        _check_type("sg_label_conditioned", self.sg_label_conditioned, bool, "True or False")
        if self.sg_hidden_width is not None:
            _check_integer("sg_hidden_width", self.sg_hidden_width, 1)
        if self.batch_size == 1 and self.norm == "batch":
            raise ValueError(
                "batch_size is 1 and norm is 'batch': batch norm cannot normalise a single example. "
                "Use a batch_size of 2 or more, or norm 'layer' or 'none'."
            )
        choose_boundaries(self.boundaries, self.depth)  # raises if they do not fit, for backprop too: it may be a typo

    @property
    def cut_boundaries(self) -> tuple[int, ...]:
        """The boundaries at which ``rule`` replaces backprop, ascending; none for backprop itself."""
        return () if self.rule == "backprop" else choose_boundaries(self.boundaries, self.depth)

    @property
    def rule_options(self) -> dict[str, Any]:
        """The settings that belong to the rule alone, by the names that its estimator knows."""
        prefix = {"synthetic-gradient": "sg_"}.get(self.rule)
        return {
            name.removeprefix(prefix): value
            for name, value in self.to_dict().items()
            if prefix is not None and name.startswith(prefix) and name != "sg_learning_rate"
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """Return the settings held in a dictionary.

        Raises
        ------
        ValueError
            If a key is unknown or a value is out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            known = ", ".join(field.name for field in fields(cls))
            raise ValueError(f"Unknown setting '{unknown[0]}'. Choose from: {known}.")
        return cls(**values)


def choose_boundaries(text: str, depth: int) -> tuple[int, ...]:
    """Return the boundaries that a description names in a network of ``depth`` hidden layers.

    Boundary k lies after hidden layer k. ``"middle"`` is depth // 2, or 1; ``"every:N"`` is N, 2N, … below depth;
    ``"inner"`` is 1 … depth - 1, all that lie between hidden layers; ``"all"`` adds the boundary below the output
    layer.

    Parameters
    ----------
    text : str
    depth : int
        1 or more.

    Returns
    -------
    tuple of int
        Ascending, without repeats, never empty.

    Raises
    ------
    ValueError
        If the text is not understood or names no boundary, or one outside 1 … depth.

    Examples
    --------
    >>> choose_boundaries("every:5", depth=20)
    (5, 10, 15)
    """
    if text == "all":
        return tuple(range(1, depth + 1))
    if text == "middle":
        chosen = [max(1, depth // 2)]
    elif text == "inner":
        chosen = list(range(1, depth))
    elif text.startswith("every:"):
        chosen = list(range(step, depth, step)) if (step := _number(text.removeprefix("every:"), text)) > 0 else []
    else:
        chosen = [_number(part, text) for part in text.split(",")]
    outside = [k for k in chosen if not 1 <= k <= depth]
    if outside or not chosen:
        what = f"names boundary {outside[0]}" if outside else "names no boundary"
        raise ValueError(
            f"boundaries '{text}' {what}; a network with {depth} hidden layers has boundaries 1 to {depth} "
            "(boundary k lies after hidden layer k)."
        )
    return tuple(sorted(set(chosen)))


def _number(part: str, text: str) -> int:
    try:
        return int(part)
    except ValueError:
        raise ValueError(
            f"boundaries '{text}' is not understood. Use middle, inner, all, every:N or numbers such as 4,8,12."
        ) from None


def _check_integer(name: str, value: object, lowest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
        raise ValueError(f"{name} is {value!r}; expected a whole number of {lowest} or more.")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Unknown {name} '{value}'. Choose one of: {', '.join(choices)}.")


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}; expected a number above 0.")


def _check_type(name: str, value: object, expected: type, what: str) -> None:
    if not isinstance(value, expected):
        raise ValueError(f"{name} is {value!r}; expected {what}.")


_LOWEST = {"seed": 0, "depth": 1, "width": 1, "sg_hidden_layers": 0, "epochs": 0, "batch_size": 1, "threads": 1}
_CHOICES = {
    "norm": tuple(NORMS),
    "activation": tuple(ACTIVATIONS),
    "rule": tuple(ESTIMATORS),
    "schedule": tuple(SCHEDULES),
}
