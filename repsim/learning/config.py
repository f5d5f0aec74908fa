"""Settings of one training run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from repsim.settings import Settings, setting

if TYPE_CHECKING:
    from repsim.learning.rules import InputRule, Rule

__all__ = ["OF_BUILT_IN", "OF_NETWORK", "TrainingConfig"]

_LARGEST_SEED = 2**63 - 1  # of random generators
_DEPTH, _LARGEST_DEPTH = 20, 10_000  # of the built-in networks
OF_BUILT_IN = ("network", "width", "norm", "activation", "shift", "heads", "patch")
_LATER = ("model", "heads", "patch", "warmup", "weight_decay", "clip_norm")
OF_NETWORK = {"transformer": ("heads", "patch")}  # settings that only some networks have
_NORMS = {"transformer": "layer"}  # the default norm, where it is not batch norm


def _keys_of(module: str, registry: str) -> Callable[[], Iterable[str]]:
    """Return a function that imports a registry and returns its keys."""
    return lambda: tuple(getattr(import_module(f"repsim.learning.{module}"), registry))


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """Everything that determines the numbers of a training run, given the machine.

    The help text of each field says what it is; the page on commands, under ``repsim train``, lists them all.

    Raises
    ------
    ValueError
        If a setting is out of range, or if rule, boundaries and depth are inconsistent; the message names the setting
        and what was expected.
    """

    data: str = setting(
        "mnist5k",
        help="Data set: mnist5k, digits, mnist, the path of an .npz file with X and y, synthetic data: linear, "
        "noisy-linear, random-labels, xor, in 2 dimensions or in as many as xor:100 names; or module:factory, which "
        "returns (X, y), a dict of them or a torch Dataset.",
    )
    seed: int = setting(
        0, help="Seed of the initial weights and the order of the examples.", lowest=0, highest=_LARGEST_SEED
    )
    split_seed: int = setting(
        0,
        help="Seed of the data split and of the choice of stimuli; runs with equal ones can be compared.",
        lowest=0,
        highest=_LARGEST_SEED,
    )
    model: str | None = setting(
        None,
        help="A network of yours in place of --network: module:factory or 'module:factory(width=64)'. The factory "
        "returns an nn.Sequential, a Chain, or a list or dict of blocks. Its code runs.",
    )
    network: str = setting(
        "mlp", help="Network: mlp, conv, residual or transformer.", choices=_keys_of("networks", "NETWORKS")
    )
    depth: int | None = setting(
        None, help="Number of hidden layers.", lowest=1, highest=_LARGEST_DEPTH, shown="20, or that of the model"
    )
    width: int = setting(128, help="Units (or channels) of each hidden layer.", lowest=1, highest=1_000_000)
    norm: str | None = setting(
        None,
        help="Normalization: batch, layer or none.",
        choices=_keys_of("networks", "NORMS"),
        shown="batch, or layer in a transformer",
    )
    activation: str = setting(
        "relu", help="Nonlinearity: relu, tanh, sigmoid or linear.", choices=_keys_of("networks", "ACTIVATIONS")
    )
    shift: float = setting(
        0.0,
        help="Initial value of the shifts of the norms, or of the biases if there is no norm; 1 helps very deep relu "
        "networks.",
    )
    heads: int = setting(4, help="Attention heads of a transformer; they divide its width.", lowest=1, highest=10_000)
    patch: int | None = setting(
        None,
        help="Side length in pixels of the patches that a transformer cuts images into.",
        lowest=1,
        highest=1_000_000,
        shown="a quarter of the height",
    )
    loss: str = setting(
        "log_loss",
        help="Loss: log_loss or mse (squared error, summed over outputs, with one-hot targets).",
        choices=_keys_of("losses", "LOSSES"),
    )
    rule: str = setting(
        "backprop",
        help="Learning rule: NAME[:option=value,...][@boundaries], see `repsim rules`. Several rules are joined by "
        "' + ', or the option is repeated; where two name the same boundary, the later one applies, except that "
        "synthetic-input combines with any rule.",
        joined=" + ",
    )
    boundaries: str | None = setting(
        None,
        help="Boundaries for rules given without @: middle, every:N, inner, all or numbers such as 4,8-12.",
        shown="the rule's own",
    )
    epochs: int = setting(30, help="Passes over the training examples.", lowest=0, highest=1_000_000_000)
    batch_size: int = setting(128, help="Examples per update.", lowest=1, highest=1_000_000_000)
    optimizer: str = setting(
        "adam",
        help="Optimizer: adam, sgd, momentum (SGD with momentum 0.9), line-search (SGD whose steps are halved until "
        "the loss of the batch falls enough) or tracked-line-search (which also leaves the network where it is while "
        "the error of its gradient exceeds what convergence allows).",
        choices=_keys_of("optimizers", "OPTIMIZERS"),
    )
    learning_rate: float = setting(1e-3, help="Step size for the network.", positive=True)
    estimator_learning_rate: float = setting(1e-3, help="Step size for the rule's own parameters.", positive=True)
    schedule: str = setting(
        "constant",
        help="Schedule of both step sizes: constant or cosine (half a cosine, down to 0).",
        choices=_keys_of("schedules", "SCHEDULES"),
    )
    warmup: float = setting(
        0.0,
        help="Both step sizes rise linearly over so many updates at first, or, below 1, over this share of all "
        "updates.",
        lowest=0,
    )
    weight_decay: float = setting(
        0.0,
        help="Decay of the network's parameters, not of the rule's own: decoupled with adam (as in AdamW), an L2 "
        "penalty with sgd and momentum.",
        lowest=0,
    )
    clip_norm: float | None = setting(
        None,
        help="Largest norm of all gradients of the network's parameters together, per update and network; larger "
        "ones are scaled down. Those of the rule's own parameters are not.",
        positive=True,
    )
    device: str = setting("cpu", help="Device: cpu, cuda, cuda:1 ...")
    threads: int = setting(
        1,
        help="Processor threads; more than one is faster for wide networks and many seeds.",
        lowest=1,
        highest=1024,
    )

    def __post_init__(self) -> None:
        """Check every setting, and whether rule, boundaries and depth are consistent."""
        if self.model is None and self.depth is None:
            object.__setattr__(self, "depth", _DEPTH)
        if self.norm is None:
            object.__setattr__(self, "norm", self._default_norm)
        super().__post_init__()
        self.check_choices()
        if self.warmup >= 1 and self.warmup % 1:
            raise ValueError(
                f"warmup is {self.warmup}; expected a whole number of updates, or a share of the training below 1."
            )
        if self.model is not None:
            self._check_model()
        else:
            self._check_network()
        _ = self.rules_at(_LARGEST_DEPTH if self.depth is None else self.depth)

    @property
    def _default_norm(self) -> str:
        return _NORMS.get(self.network, "batch")

    def _check_network(self) -> None:
        """Raise ValueError if settings are given that the built-in network lacks, or the batch has a single example."""
        for network, names in OF_NETWORK.items():
            for each in self.settings():
                if each.name in names and network != self.network and getattr(self, each.name) != each.default:
                    raise ValueError(
                        f"{each.name} is {getattr(self, each.name)}, which network '{self.network}' does not have. "
                        f"Leave it out, or use network '{network}'."
                    )
        if self.batch_size == 1 and self.norm == "batch":
            raise ValueError(
                "batch_size is 1 and norm is 'batch': batch norm cannot normalise a single example. "
                "Use a batch_size of 2 or more, or norm 'layer' or 'none'."
            )

    def _check_model(self) -> None:
        """Raise ValueError if settings of the built-in networks are given beside a model."""
        for each in self.settings():
            default = self._default_norm if each.name == "norm" else each.default
            if each.name in OF_BUILT_IN and getattr(self, each.name) != default:
                raise ValueError(
                    f"{each.name} is {getattr(self, each.name)!r} and model is '{self.model}', which decides that "
                    f"itself. Leave {each.name} out, or give it to the factory, as in 'my:net(width=64)'."
                )

    @property
    def n_hidden(self) -> int:
        """The depth, which of a model is known once it is built."""
        if self.depth is None:
            raise ValueError(
                f"The boundaries of model '{self.model}' are known when it is built; give its number of hidden "
                "segments as depth."
            )
        return self.depth

    @property
    def rules(self) -> "dict[int, Rule]":
        """The rule at each boundary where it is not backprop, ascending."""
        return self.rules_at(self.n_hidden)

    def rules_at(self, depth: int) -> "dict[int, Rule]":
        """Return ``rules`` in a network of ``depth`` hidden segments."""
        from repsim.learning.rules import parse_rules

        return parse_rules(self.rule, self.boundaries, depth)

    @property
    def synthetic_inputs(self) -> "dict[int, InputRule]":
        """The synthetic input at each boundary that has one, ascending."""
        return self.synthetic_inputs_at(self.n_hidden)

    def synthetic_inputs_at(self, depth: int) -> "dict[int, InputRule]":
        """Return ``synthetic_inputs`` in a network of ``depth`` hidden segments."""
        from repsim.learning.rules import parse_inputs

        return parse_inputs(self.rule, self.boundaries, depth)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values.

        Settings that did not exist in earlier versions are left out where they have their default, as in runs that
        were described before.
        """
        later = self.later_defaults()
        return {name: value for name, value in super().to_dict().items() if name not in later or value != later[name]}

    @classmethod
    def later_defaults(cls) -> dict[str, Any]:
        """Return the settings that ``to_dict`` leaves out where they have these values."""
        return {each.name: each.default for each in cls.settings() if each.name in _LATER}
