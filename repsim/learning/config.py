"""Settings of one training run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from repsim.settings import Setting, Settings, setting

if TYPE_CHECKING:
    from repsim.learning.rules import InputRule, Rule

__all__ = ["OF_BUILT_IN", "OF_FEED_FORWARD", "OF_NETWORK", "TrainingConfig", "is_recurrent"]

_LARGEST_SEED = 2**63 - 1  # of random generators
_DEPTH, _LARGEST_DEPTH = 20, 10_000  # of the built-in networks
OF_BUILT_IN = ("network", "width", "norm", "activation", "shift", "heads", "patch")
OF_FEED_FORWARD = ("depth", "norm", "activation", "shift")  # which recurrent networks do not have as settings
_LATER = ("window", "updates", "model", "heads", "patch", "warmup", "weight_decay", "clip_norm")
OF_NETWORK = {"transformer": ("heads", "patch")}  # settings that only some networks have
_NORMS = {"transformer": "layer"}  # the default norm, where it is not batch norm


def _keys_of(module: str, *registries: str) -> Callable[[], Iterable[str]]:
    """Return a function that imports registries and returns their keys."""
    return lambda: tuple(
        key for each in registries for key in getattr(import_module(f"repsim.learning.{module}"), each)
    )


def is_recurrent(network: object) -> bool:
    """Return whether a value is the name of a recurrent network."""
    return isinstance(network, str) and network in import_module("repsim.learning.networks").CELLS


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
        "noisy-linear, random-labels, xor, in 2 dimensions or in as many as xor:100 names; sequences: characters, "
        "copy:N, repeat-copy:N, adding:N; or module:factory, which returns (X, y), a dict of them or a torch Dataset.",
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
        "mlp",
        help="Network: mlp, conv, residual or transformer, or for sequences rnn, gru or lstm, which norm, activation "
        "and shift do not concern.",
        choices=_keys_of("networks", "NETWORKS", "CELLS"),
    )
    depth: int | None = setting(
        None,
        help="Number of hidden layers.",
        lowest=1,
        highest=_LARGEST_DEPTH,
        shown="20, or that of the model or the sequences",
    )
    width: int = setting(128, help="Units (or channels) of each hidden layer.", lowest=1, highest=1_000_000)
    window: int | None = setting(
        None,
        help="Of a recurrent network: time steps per window. The rule chooses the gradient between windows.",
        lowest=1,
        highest=_LARGEST_DEPTH,
        shown="the whole sequence",
    )
    updates: str = setting(
        "sequence",
        help="When the parameters of a recurrent network are updated: sequence (after each batch of sequences, by the "
        "sum of the gradients of all windows) or window (after each window).",
        choices=("sequence", "window"),
    )
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
        if self.model is None and self.depth is None and not self.is_recurrent:
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
        elif self.is_recurrent:
            self._check_settings_of_others()
            self._check_recurrent()
        else:
            self._check_network()
        if not self.is_recurrent and (self.window is not None or self.updates == "window"):
            name = "updates" if self.window is None else "window"
            raise ValueError(
                f"{name} is {getattr(self, name)!r} and the network is not recurrent, so that it has no windows. Leave "
                f"{name} out, or use network rnn, gru or lstm."
            )
        _ = self.rules_at(_LARGEST_DEPTH if self.depth is None else self.depth)

    @property
    def _default_norm(self) -> str:
        return _NORMS.get(self.network, "batch")

    def _default_of(self, each: Setting) -> Any:
        return self._default_norm if each.name == "norm" else each.default

    def _check_network(self) -> None:
        """Raise ValueError if settings are given that the built-in network lacks, or the batch has a single example."""
        self._check_settings_of_others()
        if self.batch_size == 1 and self.norm == "batch":
            raise ValueError(
                "batch_size is 1 and norm is 'batch': batch norm cannot normalise a single example. "
                "Use a batch_size of 2 or more, or norm 'layer' or 'none'."
            )

    def _check_settings_of_others(self) -> None:
        for network, names in OF_NETWORK.items():
            for each in self.settings():
                if each.name in names and network != self.network and getattr(self, each.name) != each.default:
                    raise ValueError(
                        f"{each.name} is {getattr(self, each.name)}, which network '{self.network}' does not have. "
                        f"Leave it out, or use network '{network}'."
                    )

    def _check_model(self) -> None:
        """Raise ValueError if settings of the built-in networks are given beside a model."""
        for each in self.settings():
            if each.name in OF_BUILT_IN and getattr(self, each.name) != self._default_of(each):
                raise ValueError(
                    f"{each.name} is {getattr(self, each.name)!r} and model is '{self.model}', which decides that "
                    f"itself. Leave {each.name} out, or give it to the factory, as in 'my:net(width=64)'."
                )

    def _check_recurrent(self) -> None:
        """Raise ValueError if settings are given that recurrent networks do not have, or a rule without windows."""
        for each in self.settings():
            if each.name in OF_FEED_FORWARD[1:] and getattr(self, each.name) != self._default_of(each):
                raise ValueError(
                    f"{each.name} is {getattr(self, each.name)!r}, but the cell of network '{self.network}' is fixed. "
                    f"Leave {each.name} out."
                )
        if self.boundaries is not None or "@" in self.rule or " + " in self.rule:
            raise ValueError(
                "The boundaries of a recurrent network lie between its windows, where one rule acts. Give one rule "
                "without boundaries, and the length of a window as window."
            )
        if self.window is None and self.rule != "backprop":
            raise ValueError(
                f"Rule '{self.rule}' acts between the windows of a recurrent network; give their number of time steps "
                "as window, such as 5."
            )

    @property
    def is_recurrent(self) -> bool:
        """Whether the network is one of the built-in recurrent networks."""
        return self.model is None and is_recurrent(self.network)

    @property
    def n_hidden(self) -> int:
        """The depth, which of a model, and of a network for sequences, is known once it is built."""
        if self.depth is None and self.is_recurrent:
            raise ValueError(
                f"The depth of network '{self.network}' is the number of time steps, which is known once the data are "
                "loaded; give it as depth."
            )
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

        if not self.is_recurrent:
            return parse_rules(self.rule, self.boundaries, depth)
        window = depth if self.window is None else self.window
        between = parse_rules(self.rule, f"every:{min(window, depth)}", depth + 1)
        return {k: rule for k, rule in between.items() if k < depth}

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
