"""The settings of one training run, checked once, here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from repsim.learning.checks import check_choice, check_finite, check_integer, check_positive, check_type
from repsim.learning.losses import LOSSES
from repsim.learning.networks import ACTIVATIONS, NETWORKS, NORMS
from repsim.learning.optimizers import OPTIMIZERS
from repsim.learning.rules import Rule, parse_rules
from repsim.learning.schedules import SCHEDULES

__all__ = ["TrainingConfig"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides the numbers of a training run, given the machine.

    Attributes
    ----------
    data : str
        Name of a data set or path of an ``.npz`` file.
    seed : int
        Decides the initial weights, what the rule draws and the order of the examples.
    split_seed : int
        Decides the split into train, validation and test, and the stimuli that are recorded: networks of several seeds
        can be compared.
    network : str
        ``"mlp"``, ``"conv"`` or ``"residual"``.
    depth, width, norm, activation, shift
        Of the network, see ``mlp``, ``conv_net`` and ``residual_net``.
    loss : str
        ``"log_loss"``, or ``"mse"``: the squared error, summed over outputs; classes are then one-hot targets.
    rule : str
        Which estimators act where, with which options: ``"synthetic-gradient:hidden_layers=1"`` or, for a mixed chain,
        ``"direct-feedback-alignment@1,2 + synthetic-gradient@5"``; see ``parse_rules``. Backprop is used at all other
        boundaries.
    boundaries : str or None
        Where rules act that do not say it: ``"middle"``, ``"every:N"``, ``"inner"`` (all between hidden layers),
        ``"all"`` (also the one below the output layer) or numbers such as ``"4,8-12"``. None leaves it to the rule.
    epochs : int
        Passes over the training examples; the last incomplete batch of a pass is left out.
    batch_size : int
    optimizer : str
        ``"adam"``, ``"sgd"`` or ``"momentum"`` (SGD with momentum 0.9).
    learning_rate, estimator_learning_rate : float
        Step sizes for the network, and for what learns in the estimators.
    schedule : str
        ``"constant"`` or ``"cosine"`` (both rates fall to zero along half a cosine).
    device : str
        Where the network is trained: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
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
    split_seed: int = 0
    network: str = "mlp"
    depth: int = 20
    width: int = 128
    norm: str = "batch"
    activation: str = "relu"
    shift: float = 0.0
    loss: str = "log_loss"
    rule: str = "backprop"
    boundaries: str | None = None
    epochs: int = 30
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    estimator_learning_rate: float = 1e-3
    schedule: str = "constant"
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        """Check every field."""
        for name, (lowest, highest) in _RANGES.items():
            check_integer(name, getattr(self, name), lowest, highest)
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        check_finite("shift", self.shift)
        for name in ("learning_rate", "estimator_learning_rate"):
            check_positive(name, getattr(self, name))
        for name in ("data", "rule", "device"):
            check_type(name, getattr(self, name), str, "text")
        if self.boundaries is not None:
            check_type("boundaries", self.boundaries, str, "text")
        if self.batch_size == 1 and self.norm == "batch":
            raise ValueError(
                "batch_size is 1 and norm is 'batch': batch norm cannot normalise a single example. "
                "Use a batch_size of 2 or more, or norm 'layer' or 'none'."
            )
        parse_rules(self.rule, self.boundaries, self.depth)  # raises if they do not fit

    @property
    def rules(self) -> dict[int, Rule]:
        """The rule at each boundary where it is not backprop, ascending."""
        return parse_rules(self.rule, self.boundaries, self.depth)

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


_TOP_SEED = 2**63 - 1  # of generators
_RANGES = {
    "seed": (0, _TOP_SEED),
    "split_seed": (0, _TOP_SEED),
    "depth": (1, 10_000),
    "width": (1, 1_000_000),
    "epochs": (0, 1_000_000_000),
    "batch_size": (1, 1_000_000_000),
    "threads": (1, 1024),
}
_CHOICES = {
    "network": tuple(NETWORKS),
    "norm": tuple(NORMS),
    "activation": tuple(ACTIVATIONS),
    "loss": tuple(LOSSES),
    "optimizer": tuple(OPTIMIZERS),
    "schedule": tuple(SCHEDULES),
}
