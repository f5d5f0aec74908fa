"""Settings of recordings: which steps and layers of a run, and how a model is captured."""

import math
from dataclasses import dataclass
from typing import Any

from repsim.settings import Settings, setting

__all__ = ["CaptureConfig", "ModelConfig", "RecordingConfig", "choose_steps"]

_MOST_STEPS = 10_000_000


@dataclass(frozen=True, kw_only=True)
class RecordingConfig(Settings):
    """What each checkpoint of a training run records.

    The help text of each field says what it is; the page on commands, under ``repsim train``, lists them all.

    Raises
    ------
    ValueError
        If a setting is out of range; the message names it.
    """

    steps: str = setting(
        "first,last",
        help="Steps to record: first (step 0, before training), last, every:N, log:N (N steps spaced evenly on a "
        "logarithmic scale), numbers, shares of the training such as 25%; joined by commas.",
        flags=("--record",),
    )
    layers: tuple[str, ...] = setting(
        ("hidden.*",),
        help="Layers or patterns to record.",
        flags=("--layers", "--layer"),
        singular="layer",
    )
    n_train: int = setting(
        2000, help="Largest number of recorded training stimuli; balanced over classes where possible.", lowest=1
    )
    n_validation: int = setting(500, help="Largest number of recorded validation stimuli.", lowest=1)
    n_test: int = setting(1000, help="Largest number of recorded test stimuli.", lowest=1)
    compress: bool = setting(False, help="Compress the activations with gzip.")
    record_signals: bool = setting(
        False,
        help="Also record, at the same steps and for the same stimuli, the gradient that the rule chooses at each "
        "boundary and the true one.",
    )
    diagnose: str = setting(
        "1,every:50,last",
        help="Steps at which the log compares the rule's gradients with the true ones, "
        "written like those to record, or none. Each costs one more forward and backward pass.",
    )
    diagnose_batches: int = setting(
        0,
        help="Number B of batches over which the log also measures bias and variance of the rule's gradients at these "
        "steps, 2 or more; 0 for none. Each step then costs 2 B more forward and backward passes.",
        lowest=0,
        highest=10_000,
    )

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        choose_steps(self.steps, n_steps=0, check_range=False)
        self.diagnosed_steps(n_steps=1)
        if self.diagnose_batches == 1:
            raise ValueError(
                "diagnose_batches is 1; a variance over batches needs two or more. Use 2 or more, or 0 for none."
            )

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
        return {"record_signals": False, "diagnose_batches": 0}

    def diagnosed_steps(self, n_steps: int) -> tuple[int, ...]:
        """Return the steps of a training of ``n_steps`` updates whose gradients are compared with the true ones."""
        if self.diagnose == "none" or n_steps == 0:
            return ()
        chosen = choose_steps(self.diagnose, n_steps, check_range=False, name="diagnose")
        if 0 in chosen:
            raise ValueError(f"diagnose '{self.diagnose}' names step 0; gradients are chosen from step 1 on. Use 1.")
        return chosen

    @property
    def sizes(self) -> dict[str, int]:
        """The largest number of stimuli of each part of the split."""
        return {"train": self.n_train, "validation": self.n_validation, "test": self.n_test}


@dataclass(frozen=True, kw_only=True)
class CaptureConfig(Settings):
    """How the layers of a network that was trained elsewhere are captured.

    The help text of each field says what it is; the page on commands, under ``repsim record``, lists them all. See
    ``checkpoints.Capture`` for details.

    Raises
    ------
    ValueError
        If a setting is out of range; the message names it.
    """

    layers: tuple[str, ...] = setting(
        ("**",),
        help="Layers or patterns to record.",
        flags=("--layers", "--layer"),
        singular="layer",
        shown="hidden.* of RUN, ** of a model",
    )
    reduce: tuple[str, ...] = setting(
        (),
        help="Reductions of the model's layers: PATTERN=REDUCTION, e.g. conv*=spatial_mean or h.*=token(0). By the "
        "input attention_mask: first_token, last_token, masked_mean.",
        singular="reduction",
    )
    side: str = setting(
        "output",
        help="Tensors of each of the model's modules: output, input or both.",
        choices=("output", "input", "both"),
    )
    dtype: str = setting(
        "float32",
        help="Stored type of the model's activations: float32, float16 or float64.",
        choices=("float32", "float16", "float64"),
    )
    batch_size: int | None = setting(
        None, help="Stimuli in a forward pass of the model.", lowest=1, shown="by memory, at most 512"
    )
    device: str = setting("cpu", help="Device where the model runs, e.g. cuda.")
    compress: bool = setting(False, help="Compress the model's activations with gzip.")
    save_weights: bool = setting(True, help="Record activations alone, without the weights.", flags=("--no-weights",))


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """A network that was trained elsewhere, as ``record_model`` takes it; each field is described by its help text."""

    model: str | None = setting(
        None,
        help="A network of yours: module:factory or 'module:factory(width=64)', with literal arguments. The module is "
        "imported, so its code runs.",
    )
    weights: tuple[str, ...] = setting(
        (),
        help="The model's weights: a .safetensors, .pt, .pth, .bin, .ckpt or .tar file, the .index.json of several, or "
        "a folder that save_pretrained or accelerate wrote; or a series of them, by a pattern in quotes such as "
        "'ckpt/epoch_*.pt'. No code in the files runs.",
    )
    key: str | None = setting(
        None,
        help="Where the file holds the weights, with dots for dicts within dicts, e.g. ema.model; or the prefix of "
        "their names.",
        shown="the only weights that fit the model",
    )
    step: int | None = setting(None, help="Training step of the weights, if they are one file.", lowest=0, shown="0")
    steps_from: str = setting(
        "name",
        help="Where the steps of a series are: name (the number in which the names differ, or of several that after "
        "step), key:NAME (a number in each file, with dots for dicts within dicts), or a regular expression with one "
        r"group, such as 'epoch_(\d+)'.",
    )


def choose_steps(text: str, n_steps: int, *, check_range: bool = True, name: str = "steps") -> tuple[int, ...]:
    """Return the steps of a training run of ``n_steps`` updates that a description names.

    The result ascends. A number above ``n_steps`` is an error, or left out without ``check_range``.

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
