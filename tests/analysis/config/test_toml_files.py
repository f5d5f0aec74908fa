"""Settings in TOML files: which file overrides which, and the sentence that answers a mistake in one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.config.analysis import AnalysisConfig
from analysis.config.toml_files import DEFAULTS_FILE, TABLES, SettingsFile, merge, read_defaults, read_settings
from repsim.learning import TrainingConfig

Write = Callable[[str], Path]

TRAINING = {
    "data": "digits",
    "seed": 3,
    "split_seed": 4,
    "network": "transformer",
    "depth": 2,
    "width": 8,
    "norm": "layer",
    "activation": "tanh",
    "shift": 0.5,
    "heads": 2,
    "patch": 7,
    "loss": "mse",
    "rule": "direct-feedback-alignment:scale=0.5@1 + synthetic-gradient:hidden_layers=1",
    "boundaries": "2",
    "epochs": 1,
    "batch_size": 64,
    "optimizer": "momentum",
    "learning_rate": 0.01,
    "estimator_learning_rate": 2,
    "schedule": "cosine",
    "warmup": 0.25,
    "weight_decay": 0.01,
    "clip_norm": 2.5,
    "device": "cpu",
    "threads": 2,
}
RECORDING = {
    "steps": "first,every:5",
    "layers": ["hidden.1", "output"],
    "n_train": 30,
    "n_validation": 20,
    "n_test": 10,
    "compress": True,
    "record_signals": True,
    "diagnose": "none",
    "diagnose_batches": 3,
}
CAPTURE = {
    "layers": ["conv*"],
    "reduce": ["conv*=spatial_mean"],
    "side": "both",
    "dtype": "float16",
    "batch_size": 8,
    "device": "cuda",
    "compress": True,
    "save_weights": False,
}
ANALYSIS = {
    "steps": "all",
    "layers": ["hidden.1"],
    "distance": "cosine",
    "measures": ["rsa", "cka"],
    "Cs": [0.5, 2.0],
    "targets": "targets.csv",
    "groups": "speaker",
}
COMPARISON = {
    "controls": ["decoupled=runs/greedy/*"],
    "match": "ids",
    "align": "step",
    "smallest_effects": ["cka=0.1", "accuracy=0.01"],
}
EXECUTION = {"executor": "processes", "jobs": 3, "scheduler": "tcp://x:1"}
VALUES = {
    "training": TRAINING,
    "recording": RECORDING,
    "capture": CAPTURE,
    "analysis": ANALYSIS,
    "comparison": COMPARISON,
    "execution": EXECUTION,
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a settings file."""

    def to_file(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return to_file


def as_toml(table: dict[str, Any]) -> str:
    return "".join(
        f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n" for name, value in table.items()
    )


def of_file(path: Path, table: str, **given: Any) -> Any:
    return merge(TABLES[table], [read_settings(path, TABLES)], given)


@pytest.mark.parametrize("table", TABLES)
def test_every_field_is_read(write: Write, table: str) -> None:
    values = VALUES[table]
    of_other_networks = ("model", "window", "updates")
    assert list(values) == [each.name for each in TABLES[table].settings() if each.name not in of_other_networks]
    assert of_file(write(f"[{table}]\n{as_toml(values)}"), table).to_dict() == values


@pytest.mark.parametrize("text", ["", "[training]\n", "# nothing yet\n[recording]\n[training]\n"])
def test_settings_that_a_file_leaves_out_have_their_defaults(write: Write, text: str) -> None:
    assert of_file(write(text), "training") == TrainingConfig()


def test_the_command_line_overrides_the_file_which_overrides_the_defaults(write: Write) -> None:
    defaults = SettingsFile(DEFAULTS_FILE, {"training": {"depth": 5, "width": 7, "epochs": 2}})
    file = read_settings(write("[training]\ndepth = 4\nwidth = 32\n"), ("training",))
    config = merge(TrainingConfig, [defaults, file], {"depth": 3})
    assert config == TrainingConfig(depth=3, width=32, epochs=2)
    assert merge(TrainingConfig, [], {"depth": 3}) == TrainingConfig(depth=3)


def test_defaults_of_a_project_for_built_in_networks_do_not_concern_a_model() -> None:
    defaults = SettingsFile(DEFAULTS_FILE, {"training": {"depth": 5, "width": 7, "network": "conv", "epochs": 2}})
    file = SettingsFile(Path("mine.toml"), {"training": {"model": "my:net"}})
    expected = TrainingConfig(model="my:net", epochs=2)
    assert merge(TrainingConfig, [defaults], {"model": "my:net"}) == expected
    assert merge(TrainingConfig, [defaults, file], {}) == expected
    assert merge(TrainingConfig, [defaults], {"model": "my:net", "depth": 3}).depth == 3


def test_defaults_of_a_project_for_feed_forward_networks_do_not_concern_a_recurrent_one(write: Write) -> None:
    defaults = SettingsFile(DEFAULTS_FILE, {"training": {"depth": 5, "norm": "layer", "width": 7, "shift": 1.0}})
    assert merge(TrainingConfig, [defaults], {"network": "gru"}) == TrainingConfig(network="gru", width=7)
    file = read_settings(write("[training]\nnetwork = 'rnn'\nwindow = 5\nupdates = 'window'\n"), ("training",))
    expected = TrainingConfig(network="rnn", width=7, window=5, updates="window")
    assert merge(TrainingConfig, [defaults, file], {}) == expected


@pytest.mark.parametrize("name", ["repsim.toml", "mine.toml"])
def test_settings_of_built_in_networks_are_refused_beside_a_model_of_the_same_file(name: str) -> None:
    file = SettingsFile(Path(name), {"training": {"model": "my:net", "width": 7}})
    with pytest.raises(ValueError, match=rf"^{name}, \[training\]: width is 7 and model is 'my:net'"):
        merge(TrainingConfig, [file], {})


def test_settings_of_built_in_networks_in_a_given_file_are_refused_beside_a_model() -> None:
    file = SettingsFile(Path("mine.toml"), {"training": {"width": 7}})
    with pytest.raises(ValueError, match=r"^width is 7 and model is 'my:net'"):
        merge(TrainingConfig, [file], {"model": "my:net"})


def test_an_option_overrides_an_invalid_setting_of_a_file(write: Write) -> None:
    path = write("[training]\nrule = 'direct-feedback-alignment@25'\nepochs = -1\n")
    assert list(of_file(path, "training", depth=30, epochs=2).rules) == [25]


def test_the_first_file_with_an_error_is_named_and_none_for_an_option(write: Write) -> None:
    good, bad = SettingsFile(Path("a.toml"), {"training": {"depth": 4}}), {"training": {"depth": 0}}
    with pytest.raises(ValueError, match=r"^b\.toml, \[training\]: depth is 0; expected"):
        merge(TrainingConfig, [good, SettingsFile(Path("b.toml"), bad)], {"width": 3})
    with pytest.raises(ValueError, match=r"^boundaries '9' names boundary 9; a network with 4 hidden layers"):
        merge(TrainingConfig, [good], {"rule": "noise", "boundaries": "9"})


@pytest.mark.parametrize(("name", "value"), [("distance", "city"), ("measures", ["hsik"])])
def test_choices_that_are_slow_to_import_are_checked_on_request(name: str, value: Any) -> None:
    files = [SettingsFile(Path("a.toml"), {"analysis": {name: value}})]
    assert merge(AnalysisConfig, files, {}).to_dict()[name] == value
    with pytest.raises(ValueError, match=r"^a\.toml, \[analysis\]: Unknown (distance|measure) '(city|hsik)'\. Choose"):
        merge(AnalysisConfig, files, {}, check_choices=True)
    assert merge(AnalysisConfig, files, {name: ("cosine" if name == "distance" else ("cka",))}, check_choices=True)


def test_without_a_file_there_are_no_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_defaults() == SettingsFile(DEFAULTS_FILE)
    DEFAULTS_FILE.mkdir()
    assert read_defaults() == SettingsFile(DEFAULTS_FILE)


MISTAKES = {
    "not TOML": ("training: depth", "mine.toml is not a TOML file (Expected"),
    "not text": ("[training]\ndata = '\udcff'", "mine.toml is not a TOML file ('utf-8' codec can't decode"),
    "unknown table": ("[trianing]\ndepth = 3", "mine.toml: 'trianing' is not one of its tables; put settings under ["),
    "outside of a table": ("depth = 3", "mine.toml: 'depth' is not one of its tables; put settings under [training]"),
    "a table that is none": ("training = 3", "mine.toml: 'training' is not one of its tables"),
    "unknown setting": ("[training]\nlr = 0.1", "[training]: Unknown setting 'lr'. Choose one of: data,"),
    "text for a number": ("[training]\ndepth = 'x'", "[training]: depth is 'x'; expected a whole number of 1 or more."),
    "unknown rule": ("[training]\nrule = 'hebb'", "[training]: Unknown rule 'hebb'. Choose one of: backprop"),
    "boundary out of range": ("[training]\nrule = 'noise@21'", "[training]: boundaries '21' names boundary 21; a net"),
    "unknown step": ("[recording]\ndiagnose = 'often'", "[recording]: diagnose 'often': 'often' is not understood."),
    "unknown side": ("[capture]\nside = 'top'", "[capture]: Unknown side 'top'. Choose one of: output, input, both."),
    "unknown in an analysis": ("[analysis]\nlayer = 'a'", "[analysis]: Unknown setting 'layer'. Choose one of: steps,"),
    "unknown in execution": ("[execution]\ncores = 3", "[execution]: Unknown setting 'cores'. Choose one of: executor"),
    "progress": ("[execution]\nprogress = 'no'", "[execution]: Unknown setting 'progress'."),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_that_names_the_file_and_the_table(
    write: Write, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    text, words = MISTAKES[mistake]
    monkeypatch.chdir(write("").parent)
    Path("mine.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"^mine\.toml") as caught:
        for table in TABLES:
            of_file(Path("mine.toml"), table)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# Files with the user's own parts


def test_imports_are_files_beside_the_settings_and_names_of_modules(tmp_path: Path) -> None:
    path = tmp_path / "repsim.toml"
    path.write_text("import = ['my_parts.py', 'package.parts']\n[training]\ndepth = 3\n")
    defaults = read_defaults(path)
    assert defaults.imports == (str(tmp_path / "my_parts.py"), "package.parts")
    assert defaults.tables == {"training": {"depth": 3}}
    assert read_defaults(tmp_path / "missing.toml").imports == ()


@pytest.mark.parametrize("given", ["'my_parts.py'", "[1]", "{}"])
def test_imports_of_another_form_are_refused(tmp_path: Path, given: str) -> None:
    path = tmp_path / "repsim.toml"
    path.write_text(f"import = {given}\n")
    with pytest.raises(ValueError, match=r"repsim\.toml: import is .*; expected a list of files or modules, such"):
        read_defaults(path)


def test_other_settings_files_import_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text("import = ['my_parts.py']\n")
    with pytest.raises(ValueError, match=r"sweep\.toml: 'import' is not one of its tables"):
        read_settings(path, TABLES)
