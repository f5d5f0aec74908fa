"""Whatever a command line or a file of settings says, the answer is work or one sentence, never a traceback.

REPSIM_FUZZ=1000 tries that many cases of each property.
"""

import contextlib
import io
import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime, time
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
import typer
from hypothesis import strategies as st

from analysis.cli import app, main
from analysis.config.analysis import AnalysisConfig
from analysis.config.recording import RecordingConfig
from analysis.execution.processes import ProcessExecutor
from analysis.execution.serial import SerialExecutor
from analysis.export import FORMATS
from repsim.learning import DATASETS, ESTIMATORS, TrainingConfig
from repsim.similarity import DISTANCES, MEASURES

COMMANDS: Mapping[str, Any] = typer.main.get_command(app).commands
CASES = hypothesis.settings(
    max_examples=int(os.environ.get("REPSIM_FUZZ", "25")), deadline=None, derandomize=True, database=None
)

SWEEP = "[training]\ndata = 'digits'\ndepth = 2\nwidth = 4\nepochs = 1\n[grid]\nseed = '0-1'\n"
CLUSTER = "[cluster]\nkind = 'LocalCluster'\njobs = 1\nmemory = '1 GB'\n"
MODEL = "import torch\n\ndef make():\n    return torch.nn.Linear(5, 3)\n\nnumber = 3\n"


class Workplace:
    """A folder with runs and files of all kinds, put back as it was after each case that wrote."""

    def __init__(self, pristine: Path, folder: Path) -> None:
        self.pristine, self.folder = pristine, folder
        self.restore()

    def restore(self) -> None:
        for path in self.folder.iterdir():  # the folder itself is the working directory
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(self.pristine, self.folder, dirs_exist_ok=True)

    def listing(self) -> dict[str, Any]:
        paths = [path for path in sorted(self.folder.rglob("*")) if "__pycache__" not in path.parts]
        stats = {str(path): path.lstat() for path in paths}
        return {name: None if Path(name).is_dir() else (s.st_size, s.st_mtime_ns) for name, s in stats.items()}


class Said(NamedTuple):
    code: int
    out: str
    err: str


def say(words: Sequence[str]) -> Said:
    """Run one command line in this process; what cannot be written to a terminal cannot be written here."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("default")
        patch.setattr(sys, "argv", ["repsim", *words])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
            main()
    return Said(stop.value.code or 0, *(stream.buffer.getvalue().decode(errors="replace") for stream in (out, err)))


@pytest.fixture(scope="module")
def place(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A workplace in which trainings and analyses are interrupted as soon as they begin."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    pristine = Path(shutil.copytree(workplace, tmp_path_factory.mktemp("fuzz") / "pristine"))
    files = {"sweep.toml": SWEEP, "cluster.toml": CLUSTER, "my_models.py": MODEL, "settings.toml": "[training]\n"}
    for name, text in files.items():
        (pristine / name).write_text(text)
    folder = pristine.parent / "place"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("REPSIM_TRACEBACK", raising=False)
        for executor in (SerialExecutor, ProcessExecutor):
            patch.setattr(executor, "completed", stop)
        for module, name in (("train", "run_to_the_end"), ("fork", "run_to_the_end"), ("seed_runs", "_run_to_the_end")):
            patch.setattr(import_module(f"analysis.training.{module}"), name, stop)
        patch.setitem(DATASETS, "mnist5k", DATASETS["digits"])  # which is read in no time
        with contextlib.suppress(ValueError):  # where distributed is not installed, to ask for it is a mistake
            dask = import_module("analysis.execution.dask")
            for name in ("completed", "__enter__"):  # a cluster of random settings is described, and never started
                patch.setattr(dask.DaskExecutor, name, stop)
            patch.setattr(dask, "_CONNECT_SECONDS", 0.1)
        yield Workplace(pristine, folder)


def check(place: Workplace, words: Sequence[str]) -> None:
    """Give a command line, and see to it that the answer is one that a person can use."""
    before = place.listing()
    try:
        said = say(words)
        assert said.code in (0, 1, 2, 130)
        assert "Traceback" not in said.out + said.err
        assert "repsim: Unexpected" not in said.err
        if said.code == 2:
            assert said.out == ""
            assert re.fullmatch(r"repsim: \S[^\n]*\n|Usage: .*\n\nError: .+\n", said.err, re.S)
            assert place.listing() == before
        elif said.code == 130:
            assert re.search(r"^repsim: (Stopped|Interrupted)", said.err, re.M)
    finally:
        if place.listing() != before:
            place.restore()


# Words

NASTY = (
    *("", *" ,-=:@0*[ä🦀\u0661", "-1", "2.5", "1e999", "nan", "inf", "true", "**.", "a,,b", "0-", "5-2", "a\nb"),
    *("%s{}$HOME", "9" * 5, "9" * 10, "9" * 19, "9" * 25, "9" * 5000, "x" * 300, "\udcff"),
)
PATHS = (
    *("file", "file/x", "missing", "new", "new/deep", "run", "./run", "other", "elsewhere", "recorded", "damaged"),
    *(".", "lightweight", "garbled", "future", "narrow.npz", "nan.npz", "torn.npz", "objects.npz", "one-class.npz"),
    *("run/checkpoints", "run/run.json", "sweep.toml", "cluster.toml", "settings.toml", "/dev/null", "new.mat"),
)
NUMBERS = ("0", "-1", "1", "300", "9" * 10, "9" * 15, "9" * 25, "-9999999999", "nan", "inf", "1e308", "1e-320")
OF_NUMBERS = {"depth", "width", "epochs", "batch_size", "seed", "split_seed", "threads", "jobs", "step"}
OF_NUMBERS |= {"shift", "learning_rate", "estimator_learning_rate", "n_train", "n_validation", "n_test"}
SENSIBLE: dict[str, Sequence[str]] = {
    "data": ("digits", "xor", "linear:5", "noisy-linear", "narrow.npz", "one-class.npz"),
    "rule": (*ESTIMATORS, "noise:scale=2@1", "noise + synthetic-input@1", "noise:scale=x", "hebb", "noise@99"),
    "boundaries": ("middle", "all", "inner", "every:2", "1", "1-2", "4,21"),
    "loss": ("log_loss", "mse"),
    "network": ("mlp", "conv", "residual", "transformer"),
    "norm": ("batch", "layer", "none"),
    "activation": ("relu", "tanh"),
    "schedule": ("cosine", "constant"),
    "optimizer": ("adam", "sgd"),
    **dict.fromkeys(
        ("depth", "width", "epochs", "batch_size", "seed", "split_seed", "threads", "jobs"), ("1", "2", "5")
    ),
    **dict.fromkeys(("shift", "learning_rate", "estimator_learning_rate"), ("0.1", "1e-300", "1e300")),
    "device": ("cpu", "meta", "cuda:99"),
    **dict.fromkeys(("steps", "record", "diagnose"), ("first", "last", "all", "first,last", "38", "every:5", "12.5%")),
    **dict.fromkeys(("layer", "layers"), ("hidden.*", "hidden.1", "output", "**", "#", "hidden.1:input")),
    "seeds": ("0-1", "0,3", "0-3"),
    "how": ("auto", "stacked", "loop"),
    "distance": (*list(DISTANCES)[:8], "city"),
    "kind": ("SLURMCluster", "LocalCluster", "Cluster"),
    "measures": (*list(MEASURES)[:8], "cka,procrustes", "cka,cka"),
    "Cs": ("0.1", "0.1,1", "0"),
    "executor": ("serial", "processes", "dask"),
    "scheduler": ("cluster.toml", "nowhere", "tcp://127.0.0.1:1"),
    "model": ("my_models:make", "my_models:number", "my_models:none", "no_such_module:make"),
    "weights": ("run/checkpoints/step_00000038/weights.safetensors", "narrow.npz"),
    "reduce": ("*=mean", "**=spatial_mean", "*=token(-1)", "*=token(9)"),
    "side": ("output", "input", "both"),
    "dtype": ("float32", "float16", "int8"),
    "step": ("0", "7"),
    "format": tuple(FORMATS),
    "claims": ("critical-points", "depth", "rdm", "all"),
    "scale": ("quick", "full"),
    "level": ("size", "sha256"),
    "name": ("noise", "hebb"),
    "config": ("settings.toml", "sweep.toml"),
    "file": ("sweep.toml",),
    "runs": ("run", "other", "recorded"),
    "run": ("new", "run", "recorded"),
    "source": ("run", "recorded"),
    "output": ("new", "new.npz", "new.mat", "new.h5"),
}

texts = st.text(max_size=8).filter(
    lambda text: "\0" not in text and ".." not in text and not text.startswith(("/", "~"))
)


def values_of(option: Any, *, odd: bool) -> st.SearchStrategy[str]:
    sensible = st.sampled_from(SENSIBLE.get(str(option.name), PATHS))
    if not odd:
        return sensible
    if option.name in OF_NUMBERS:
        return st.one_of(st.sampled_from(NUMBERS), st.sampled_from(NASTY))
    return st.one_of(st.sampled_from(NASTY), st.sampled_from(PATHS), texts, sensible)


SMALL = "train new --data digits --depth 2 --width 4"
GOOD = (
    *(SMALL, f"{SMALL} --seeds 0-1", f"{SMALL} --rule noise", "train new", "train run --resume", "sweep sweep.toml"),
    *("record run --output new", "record --model my_models:make --data narrow.npz --output new", "analyze run"),
    *("analyze run other", "compare run other", "reproduce rdm", "rules", "info run", "verify run", "demo"),
    *("export run --format npz --output new.npz", "export recorded --format csv --output new"),
    "sweep sweep.toml --list",
)


def given(option: Any, *, odd: bool) -> st.SearchStrategy[list[str]]:
    """Return the words by which an option is given."""
    value = st.just([]) if getattr(option, "is_flag", False) else values_of(option, odd=odd).map(lambda word: [word])
    if option.param_type_name == "argument":
        return value
    return st.tuples(st.sampled_from(option.opts), value).map(lambda parts: [parts[0], *parts[1]])


@st.composite
def varied_lines(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[str]:
    """A good command line, and one to three options more, of which the last is odd."""
    first, *others = draw(st.sampled_from([line for line in GOOD for _ in COMMANDS[line.split()[0]].params])).split()
    options = [each for each in COMMANDS[first].params if each.param_type_name == "option"] or COMMANDS[first].params
    chosen = draw(st.lists(st.sampled_from(options), min_size=1, max_size=3))
    groups = [draw(given(option, odd=number == 0)) for number, option in enumerate(chosen)]
    return [first, *others, *(word for group in reversed(groups) for word in group)]


@st.composite
def any_lines(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[str]:
    """A command with what it needs or without, in any order, and words that it does not know."""
    command = draw(st.sampled_from(OFTEN))
    groups = []
    for option in COMMANDS[command].params:
        if draw(st.integers(0, 9)) < (8 if option.required else 3):
            groups.append(draw(given(option, odd=draw(st.booleans()))))
    if draw(st.integers(0, 9)) == 0:
        groups.append([draw(st.one_of(texts, st.sampled_from(NASTY), st.just("--nonsense")))])
    return [command, *(word for group in draw(st.permutations(groups)) for word in group)]


OFTEN = [name for name, command in COMMANDS.items() for _ in command.params]


@CASES
@hypothesis.given(line=st.one_of(varied_lines(), varied_lines(), any_lines()))
def test_any_command_line_is_done_or_refused_in_a_sentence(place: Workplace, line: list[str]) -> None:
    check(place, line)


# Files


def mostly(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return the usual nine times in ten."""
    return st.sampled_from(range(10)).flatmap(lambda number: other if number == 9 else usual)


scalars = st.one_of(
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**63, 2**64, 10**30, 10**400, -(10**30)]),
    st.floats(),
    st.sampled_from([*NASTY[:-1], *PATHS, "\0"]),
    st.text(max_size=6),
    st.dates(),
    st.datetimes(),
    st.times(),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)


def settings_of(name: str) -> st.SearchStrategy[Any]:
    """Return values that a setting may have, and others."""
    if name in ("layers", "measures"):
        sensible: st.SearchStrategy[Any] = st.lists(st.sampled_from(SENSIBLE[name]), max_size=3)
    elif name == "Cs":
        sensible = st.lists(st.sampled_from([0, -1, 0.1, 1, 10**400, float("nan")]), max_size=3)
    elif name in OF_NUMBERS:
        sensible = st.one_of(st.integers(0, 5), st.sampled_from([0.1, 1e-300, 1e300]))
    else:
        sensible = st.sampled_from(SENSIBLE.get(name, ["true", "first"]))
    return mostly(sensible, anything)


def tables(names: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    keys = mostly(st.sampled_from(names), st.text(max_size=4))
    return st.lists(keys, max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({key: settings_of(key) for key in chosen})
    )


TRAINING = [field.name for field in fields(TrainingConfig)]
KNOWN = {
    "training": tables(TRAINING),
    "recording": tables([field.name for field in fields(RecordingConfig)]),
    "analysis": tables(["steps", "layers", *(field.name for field in fields(AnalysisConfig))]),
    "execution": tables(["executor", "jobs", "scheduler"]),
    "grid": st.lists(st.sampled_from(TRAINING), min_size=1, max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries(
            {name: mostly(st.lists(settings_of(name), min_size=1, max_size=2), anything) for name in names}
        )
    ),
    "cases": st.dictionaries(
        st.one_of(st.sampled_from(["a", "b.c"]), st.text(max_size=4)), tables(TRAINING), max_size=2
    ),
    "cluster": tables(["kind", "jobs", "queue", "cores", "memory"]),
}
JUNK = st.text(st.sampled_from("[]{}=\"'.,#\n\\ 0123456789abtT:-+_eux\0é"), max_size=60)


def documents(names: Sequence[str]) -> st.SearchStrategy[str]:
    """Return TOML with some of the tables, or with something else in their place; now and then no TOML."""
    some = st.fixed_dictionaries({}, optional={name: mostly(KNOWN[name], anything) for name in names})
    other = st.dictionaries(st.text(max_size=5), anything, max_size=1)
    whole = st.tuples(some, mostly(st.just({}), other)).map(lambda parts: as_toml({**parts[0], **parts[1]}))
    return mostly(whole, JUNK)


def as_toml(table: Mapping[str, Any]) -> str:
    return "".join(f"{key(name)} = {written(value)}\n" for name, value in table.items())


def key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


def written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key(name)} = {written(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else key(value) if isinstance(value, str) else str(value)


KINDS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "repsim.toml": (
        ("training", "recording", "analysis", "execution"),
        [
            *(SMALL, "train new", "train new --config settings.toml", "analyze run", "analyze run --executor serial"),
            *("compare run other", "sweep sweep.toml", "reproduce rdm"),
        ],
    ),
    "mine.toml": (("training", "recording"), ("train new --config mine.toml", f"{SMALL} --config mine.toml")),
    "swept.toml": (
        ("training", "recording", "grid", "cases", "analysis"),
        ("sweep swept.toml", "sweep swept.toml --list", "sweep swept.toml --output new --json --quiet"),
    ),
    "queue.toml": (("cluster",), ("analyze run --scheduler queue.toml", "sweep sweep.toml --scheduler queue.toml")),
}


@CASES
@hypothesis.given(
    case=st.sampled_from(list(KINDS)).flatmap(
        lambda name: st.tuples(st.just(name), documents(KINDS[name][0]), st.sampled_from(KINDS[name][1]))
    )
)
def test_any_file_of_settings_is_used_or_refused_in_a_sentence(place: Workplace, case: tuple[str, str, str]) -> None:
    name, text, line = case
    path = place.folder / name
    try:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        check(place, line.split())
    finally:
        path.unlink(missing_ok=True)
