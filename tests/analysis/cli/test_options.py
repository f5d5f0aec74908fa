"""Options of commands, which follow from the fields of settings: a new field is an option everywhere at once."""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
import typer.testing

from analysis import analyze_run
from analysis.cli import app
from analysis.cli.options import Display, Given, with_options
from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.json_schema import json_schema
from analysis.config.recording import CaptureConfig, RecordingConfig
from analysis.config.toml_files import TABLES, read_settings
from repsim.learning import ARTIFICIAL, DATASETS, TrainingConfig
from repsim.settings import Setting, Settings, setting
from repsim.similarity import DISTANCES
from repsim.similarity.distances import scipy_metrics

COMMANDS = typer.main.get_command(app).commands
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("command", "config"),
    [
        ("train", TrainingConfig),
        ("train", RecordingConfig),
        ("record", CaptureConfig),
        *[(command, AnalysisConfig) for command in ("analyze", "compare", "power")],
        *[(command, DesignConfig) for command in ("compare", "power")],
        *[(command, ExecutionConfig) for command in ("analyze", "compare", "sweep", "reproduce")],
    ],
)
def test_every_setting_is_an_option_with_its_help_and_default(command: str, config: type[Settings]) -> None:
    options = {option.name: option for option in COMMANDS[command].params}
    for each in config.settings():
        option = options[each.name]
        assert option.help.startswith(each.help)
        assert option.default is None
        assert set(option.opts) == set(each.flags or (f"--{each.name.replace('_', '-')}",))
        if isinstance(each.default, str | int | float) and not isinstance(each.default, bool):
            assert option.help.endswith(f"[default: {each.default}]")
    promised = {name: option.help.partition("[default: ")[2] for name, option in options.items()}
    if config is AnalysisConfig:
        assert promised["Cs"] == "0.001,0.01,0.1,1,10]"
        assert (promised["layers"], promised["measures"]) == ("all]", "cka]")
        assert promised["steps"] == ("first,last]" if command == "analyze" else "last; of arms with controls, all]")


@pytest.mark.parametrize("config", TABLES.values())
def test_help_names_every_choice(config: type[Settings]) -> None:
    chosen = [
        each for each in config.settings() if each.choices is not None and each.name not in ("measures", "distance")
    ]
    for each in chosen:
        assert each.choices is not None
        choices = set(each.choices() if callable(each.choices) else each.choices)
        assert choices <= set(re.findall(r"[\w-]+", each.help)), each.name
        assert each.default in choices or each.default is None


def test_help_names_every_data_set_and_distance() -> None:
    texts = {each.name: each.help for config in TABLES.values() for each in config.settings()}
    assert {*DATASETS, *ARTIFICIAL} <= set(re.findall(r"[\w-]+", texts["data"]))
    named = texts["distance"].partition(": ")[2].partition(", or ")[0].split(", ")
    of_scipy = {distance.name for distance in scipy_metrics.FAMILY}
    assert named == [name for name, each in DISTANCES.items() if not each.needs and name not in of_scipy]


# Values


def given_to(line: str, annotation: Any) -> Any:
    """Return the settings that a command gets for a parameter with this annotation."""
    received = []

    def compare(settings: Any) -> None:
        received.append(settings)

    compare.__annotations__["settings"] = annotation
    application = typer.Typer()
    application.command()(with_options(compare))
    application(line.split(), standalone_mode=False)
    return received.pop()


@pytest.mark.parametrize(
    ("line", "config", "values"),
    [
        ("", TrainingConfig, {}),
        ("--rule noise@1 --rule kickback --depth 0", TrainingConfig, {"rule": "noise@1 + kickback", "depth": 0}),
        ("--layer a --layers b* --compress", RecordingConfig, {"layers": ("a", "b*"), "compress": True}),
        ("--record last --n-test 3", RecordingConfig, {"steps": "last", "n_test": 3}),
        ("--measures cka,rsa --Cs 0.1,2", AnalysisConfig, {"measures": ("cka", "rsa"), "Cs": (0.1, 2.0)}),
        ("--no-weights --batch-size 2", CaptureConfig, {"save_weights": False, "batch_size": 2}),
        ("--depth deep --shift up", TrainingConfig, {"depth": "deep", "shift": "up"}),  # as the check will find
    ],
)
def test_a_command_gets_the_values_that_were_given(line: str, config: type[Settings], values: dict[str, Any]) -> None:
    given = given_to(line, Given[config])
    assert (given.config, given.values) == (config, values)


NUMBERS = [(config, each) for config in TABLES.values() for each in config.settings() if each.type in (int, float)]


@pytest.mark.parametrize(("config", "number"), NUMBERS)
def test_an_option_that_is_no_number_is_answered_by_the_check_of_its_setting(
    config: type[Settings], number: Setting
) -> None:
    option = f"--{number.name.replace('_', '-')}"
    with pytest.raises(ValueError, match=rf"^{number.name} is 'many'; expected a (whole |finite )?number.*\.$"):
        given_to(f"{option} many", config)


def test_a_parameter_of_settings_gets_them_with_their_defaults() -> None:
    assert given_to("--quiet", Display) == Display(quiet=True, json=False)


# A new setting


@dataclass(frozen=True, kw_only=True)
class Extended(AnalysisConfig):
    """An analysis with one more setting: nothing but this field is written for it."""

    folds: int = setting(5, help="Folds of a cross-validation.", lowest=2)


def test_a_new_field_appears_wherever_settings_do(tmp_path: Path) -> None:
    application = typer.Typer(rich_markup_mode=None)
    application.callback()(lambda: None)

    @application.command()
    @with_options
    def analyze(run: Annotated[str, typer.Argument()], analysis: Given[Extended], display: Display) -> None:
        config = analysis.merged([read_settings(path, ("analysis",))])
        typer.echo(f"{run} {config.folds} {config.distance}")

    path = tmp_path / "repsim.toml"
    path.write_text("[analysis]\nfolds = 3\ndistance = 'cosine'\n")
    run = typer.testing.CliRunner().invoke
    assert run(application, ["analyze", "a"]).output == "a 3 cosine\n"
    assert run(application, ["analyze", "a", "--folds", "7"]).output == "a 7 cosine\n"

    page = runpy.run_path(str(ROOT / "docs/generate.py"))["commands"](application)
    for text in (run(application, ["analyze", "--help"], terminal_width=80).output, page):
        assert re.search(r"--folds <int>\s+Folds of a cross-validation\. \[default: 5\]", text)

    described = json_schema({**TABLES, "analysis": Extended})["properties"]["analysis"]["properties"]["folds"]
    assert described == {"type": "integer", "minimum": 2, "description": "Folds of a cross-validation.", "default": 5}

    with pytest.raises(ValueError, match=r"^folds is 1; expected a whole number of 2 or more\.$"):
        Extended(folds=1)
    assert Extended().to_dict()["folds"] == 5


@pytest.mark.usefixtures("blank_figures")
def test_a_new_field_is_stored_with_an_analysis_and_listed_in_its_report(copied: Callable[[str], Path]) -> None:
    path = copied("backprop")
    config = Extended(steps="last", layers=("hidden.1",), folds=7)
    analyze_run(path, config=config, execution=ExecutionConfig(executor="serial"))
    assert json.loads((path / "analysis/analysis.json").read_text())["config"]["folds"] == 7
    assert re.search(r"<th>folds</th>\s*<td>7</td>", (path / "analysis/report.html").read_text())


# What is imported


@pytest.mark.parametrize("line", ["--help", "info RUN", "verify RUN", "analyze --help", "train --help"])
def test_light_commands_import_no_heavy_packages(line: str, runs: dict[str, Path]) -> None:
    script = (
        "import sys; from analysis.cli import main; sys.argv[0] = 'repsim'\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "sys.exit(', '.join({'torch', 'pandas', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    words = [str(runs["backprop"]) if word == "RUN" else word for word in line.split()]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
