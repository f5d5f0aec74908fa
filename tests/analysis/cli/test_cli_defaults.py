"""Settings of commands from repsim.toml, --config and the command line, and the answers to mistakes in files."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis.config.recording import CaptureConfig
from analysis.execution import EXECUTORS
from analysis.execution.serial import SerialExecutor
from checkpoints import Run
from repsim.learning import TrainingConfig

Repsim = Callable[..., Any]

SMALL = "[training]\ndata = 'digits'\ndepth = 2\nwidth = 4\nepochs = 1\nbatch_size = 200\n"
FEW = "[recording]\nn_train = 60\nn_validation = 20\nn_test = 40\n"


@pytest.fixture
def defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write repsim.toml in an empty working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return lambda text: Path("repsim.toml").write_text(text) and None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Return a setting that the last command line would hand to its workflow, without running it."""
    heard: dict[str, Any] = {}

    def hear(*arguments: Any, **options: Any) -> None:
        heard.clear()
        heard.update(options)
        raise ValueError("enough")

    for name in (
        "workflows.analyze.analyze_runs",
        "workflows.comparisons.compare_runs",
        "workflows.sweep.sweep",
        "reproduction.reproduce.reproduce",
    ):
        monkeypatch.setattr(f"analysis.{name}", hear)
    return lambda name: next(
        (vars(each)[name] for each in heard.values() if name in getattr(each, "__dict__", ())), None
    )


# What they are used for


def test_train_uses_defaults_and_the_command_line_overrides_them(
    defaults: Callable[[str], None], repsim: Repsim
) -> None:
    defaults(SMALL + FEW + "diagnose = 'none'\n")
    assert repsim("train a --quiet").code == repsim("train b --width 8 --diagnose last --quiet").code == 0
    first, second = Run.open("a").config, Run.open("b").config
    small = TrainingConfig(data="digits", depth=2, width=4, epochs=1, batch_size=200)
    assert first["training"] == small.to_dict()
    assert second["training"] == {**small.to_dict(), "width": 8}
    assert (first["recording"]["n_test"], first["recording"]["diagnose"]) == (40, "none")
    assert second["recording"]["n_test"] == 40


def test_defaults_of_built_in_networks_do_not_apply_to_a_model(
    defaults: Callable[[str], None], repsim: Repsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults(SMALL + "norm = 'layer'\n" + FEW)
    Path("net_of_defaults.py").write_text(
        "from torch import nn\ndef net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 10))\n"
    )
    monkeypatch.syspath_prepend(".")
    said = repsim("train a --model net_of_defaults:net --quiet")
    assert (said.code, said.err) == (0, "")
    assert Run.open("a").config["training"]["epochs"] == 1
    Path("mine.toml").write_text("[training]\nwidth = 5\n")
    said = repsim("train b --model net_of_defaults:net --config mine.toml --quiet")
    assert said.code == 2
    assert "width is 5 and model is 'net_of_defaults:net', which decides that itself." in said.err


def test_a_config_file_overrides_defaults_and_the_command_line_overrides_both(
    defaults: Callable[[str], None], repsim: Repsim
) -> None:
    defaults(SMALL + FEW)
    Path("mine.toml").write_text("[training]\nwidth = 5\ndepth = 3\n[recording]\nn_test = 30\n")
    assert repsim("train a --config mine.toml --depth 1 --quiet").code == 0
    config = Run.open("a").config
    training = config["training"]
    assert (training["data"], training["width"], training["depth"]) == ("digits", 5, 1)
    assert (config["recording"]["n_train"], config["recording"]["n_test"]) == (60, 30)


@pytest.mark.parametrize("line", ["analyze run", "compare run other"])
def test_analyses_use_defaults_and_the_command_line_overrides_them(
    defaults: Callable[[str], None], repsim: Repsim, asked: Callable[[str], Any], line: str
) -> None:
    table = "[analysis]\nsteps = 'all'\nlayers = ['hidden.1']\ndistance = 'cosine'\nmeasures = ['rsa']\nCs = [1]\n"
    defaults(table + "[execution]\nexecutor = 'processes'\njobs = 3\n")
    assert repsim(line).err == "repsim: enough\n"
    assert (asked("steps"), asked("layers"), asked("distance")) == ("all", ("hidden.1",), "cosine")
    assert (asked("measures"), asked("Cs"), asked("executor"), asked("jobs")) == (("rsa",), (1.0,), "processes", 3)
    repsim(f"{line} --steps last --measures cka,procrustes --Cs 0.1")
    assert (asked("steps"), asked("measures"), asked("Cs")) == ("last", ("cka", "procrustes"), (0.1,))
    assert (asked("layers"), asked("distance")) == (("hidden.1",), "cosine")
    repsim(f"{line} --layers hidden.2 --distance euclidean")
    assert (asked("layers"), asked("distance"), asked("steps")) == (("hidden.2",), "euclidean", "all")


def test_comparisons_of_arms_use_defaults_and_the_command_line_overrides_them(
    defaults: Callable[[str], None], repsim: Repsim, asked: Callable[[str], Any]
) -> None:
    defaults("[comparison]\nalign = 'step'\nsmallest_effects = ['cka=0.1']\ncontrols = ['decoupled=greedy/*']\n")
    assert repsim("compare run other").err == "repsim: enough\n"
    assert (asked("align"), asked("smallest_effects")) == ("step", ("cka=0.1",))
    assert asked("controls") == ("decoupled=greedy/*",)
    repsim("compare run other --align epoch --smallest-effect rsa=0.2 --smallest-effect cka=0.3")
    assert (asked("align"), asked("smallest_effects")) == ("epoch", ("rsa=0.2", "cka=0.3"))


@pytest.mark.parametrize("line", ["analyze run", "compare run other", "sweep sweep.toml", "reproduce rdm"])
@pytest.mark.parametrize(
    ("options", "place"),
    [
        ("", {"executor": "processes", "jobs": 3}),
        ("--jobs 2", {"jobs": 2}),
        ("--executor serial", {"executor": "serial"}),
        ("--scheduler tcp://x:1", {"scheduler": "tcp://x:1"}),
        ("--executor dask --jobs 1", {"executor": "dask", "jobs": 1}),
    ],
)
def test_any_execution_option_replaces_the_whole_execution_table(
    defaults: Callable[[str], None],
    repsim: Repsim,
    asked: Callable[[str], Any],
    line: str,
    options: str,
    place: Mapping[str, Any],
) -> None:
    defaults("[execution]\nexecutor = 'processes'\njobs = 3\n")
    repsim(f"{line} {options}")
    found = {name: asked(name) for name in ("executor", "jobs", "scheduler")}
    assert {name: value for name, value in found.items() if value is not None} == place


def test_a_sweep_uses_defaults_and_its_file_overrides_them(defaults: Callable[[str], None], repsim: Repsim) -> None:
    defaults(SMALL + FEW + "[execution]\nexecutor = 'serial'\n")
    Path("sweep.toml").write_text("[training]\nwidth = 5\n[grid]\ndepth = [1, 2]\n")
    assert repsim("sweep sweep.toml --output out --quiet").code == 0
    configs = [Run.open(f"out/depth-{depth}").config for depth in (1, 2)]
    assert [(each["training"]["depth"], each["training"]["width"]) for each in configs] == [(1, 5), (2, 5)]
    assert all((each["training"]["data"], each["recording"]["n_test"]) == ("digits", 40) for each in configs)


def test_recording_a_model_uses_the_defaults_of_capture(
    defaults: Callable[[str], None], repsim: Repsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults("[capture]\ndtype = 'float16'\nlayers = ['conv*']\nsave_weights = false\n")
    captured = []
    monkeypatch.setattr(
        "analysis.training.record_models.record_model", lambda *_, capture, **__: captured.append(capture)
    )
    repsim("record --model mine:net --data mine.npz --output new --layers head")
    assert captured == [CaptureConfig(dtype="float16", layers=("head",), save_weights=False)]


def test_resuming_a_run_ignores_defaults(defaults: Callable[[str], None], repsim: Repsim) -> None:
    defaults(SMALL + FEW)
    repsim("train a --quiet")
    for text in ("[training]\nwidth = 9\n", "[training]\nwidth = -9\n"):
        defaults(text)
        said = repsim("train a --resume --quiet")
        assert (said.code, said.err) == (0, "")
        assert Run.open("a").config["training"]["width"] == 4


def test_defaults_are_read_from_the_working_directory_only(
    defaults: Callable[[str], None], repsim: Repsim, asked: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults("[analysis]\ndistance = 'cosine'\n")
    Path("below").mkdir()
    monkeypatch.chdir("below")
    repsim("analyze ../run")
    assert asked("distance") == "correlation"


# Mistakes

MISTAKES = {
    "not TOML": ("analysis: x", "analyze run", "repsim.toml is not a TOML file (Expected"),
    "beside an option": ("[training]\ndepth = 0", "train new --width 3", "repsim.toml, [training]: depth is 0;"),
    "beside a file": ("[training]\ndepth = 0", "train new --config mine.toml", "repsim.toml, [training]: depth is 0;"),
    "in the file": ("", "train new --config bad.toml", "bad.toml, [training]: depth is 0;"),
    "a file that is none": ("", "train new --config missing.toml", "missing.toml: No such file or directory."),
    "a folder": ("", "train new --config .", ".: Is a directory."),
    "in a sweep": ("[training]\ndepth = 0", "sweep sweep.toml", "repsim.toml, [training]: depth is 0;"),
    "unknown executor": (
        "[execution]\nexecutor = 'slurm'",
        "analyze run",
        "repsim.toml, [execution]: Unknown executor 'slurm'. Choose one of: serial, ",
    ),
    "of a comparison": (
        "[analysis]\nCs = [0]",
        "compare run other",
        "repsim.toml, [analysis]: Cs is 0; expected a num",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_that_names_the_file_and_writes_nothing(
    defaults: Callable[[str], None], repsim: Repsim, mistake: str
) -> None:
    text, line, words = MISTAKES[mistake]
    defaults(text)
    files = {"mine": "[training]\nwidth = 3\n", "bad": "[training]\ndepth = 0\n", "sweep": "[grid]\nseed = [0]\n"}
    for name, content in files.items():
        Path(f"{name}.toml").write_text(content)
    said = repsim(line)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"repsim: {words}")
    assert said.err.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["bad.toml", "mine.toml", "repsim.toml", "sweep.toml"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("distance = 'city'", "analyze a", "Unknown distance 'city'. Choose one of: correlation, "),
        ("measures = ['hsik']", "compare a b", "Unknown measure 'hsik'. Choose one of: cka, "),
    ],
)
def test_an_unknown_choice_that_an_analysis_finds_is_named_with_its_file(
    defaults: Callable[[str], None], repsim: Repsim, runs: Mapping[str, Path], text: str, line: str, words: str
) -> None:
    defaults(f"[analysis]\n{text}\n")
    for name, run in zip("ab", ("backprop", "synthetic"), strict=True):
        shutil.copytree(runs[run], name)
    said = repsim(line)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"repsim: repsim.toml, [analysis]: {words}")


@pytest.mark.parametrize("line", ["info run", "verify run"])
def test_commands_without_settings_do_not_read_defaults(
    defaults: Callable[[str], None], repsim: Repsim, runs: Mapping[str, Path], line: str
) -> None:
    defaults("no TOML")
    Path("run").symlink_to(runs["backprop"])
    assert repsim(line).code == 0


@pytest.mark.usefixtures("blank_figures")
def test_an_analysis_uses_the_defaults(
    defaults: Callable[[str], None], repsim: Repsim, copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults(
        "[analysis]\nsteps = 'last'\nlayers = ['hidden.1']\ndistance = 'cosine'\n[execution]\nexecutor = 'serial'\n"
    )
    used: list[str] = []
    monkeypatch.setitem(EXECUTORS, "serial", lambda given: used.append("serial") or SerialExecutor(given))
    path = copied("backprop")
    assert repsim("analyze --quiet", path).code == 0
    found = json.loads((path / "analysis/analysis.json").read_text())
    assert (found["config"]["distance"], [view["step"] for view in found["views"]], used) == (
        "cosine",
        [38],
        ["serial"],
    )
