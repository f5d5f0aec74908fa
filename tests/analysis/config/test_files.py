"""Settings from a TOML file, and what is said of every mistake in one."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from analysis.cli import main
from analysis.config.files import read_config
from analysis.config.recording import RecordingConfig
from checkpoints import Run
from repsim.learning import TrainingConfig

Write = Callable[[str], Path]

TRAINING = {
    "data": "digits",
    "seed": 3,
    "split_seed": 4,
    "network": "conv",
    "depth": 2,
    "width": 8,
    "norm": "layer",
    "activation": "tanh",
    "shift": 0.5,
    "loss": "mse",
    "rule": "direct-feedback-alignment:scale=0.5@1 + synthetic-gradient:hidden_layers=1",
    "boundaries": "2",
    "epochs": 1,
    "batch_size": 64,
    "optimizer": "momentum",
    "learning_rate": 0.01,
    "estimator_learning_rate": 2,
    "schedule": "cosine",
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
    "diagnose": "none",
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


def test_every_field_of_both_tables_is_read(write: Write) -> None:
    assert set(TRAINING) == {field.name for field in fields(TrainingConfig)}
    assert set(RECORDING) == {field.name for field in fields(RecordingConfig)}
    path = write(f"[training]\n{as_toml(TRAINING)}\n[recording]\n{as_toml(RECORDING)}")
    training, recording = read_config(path, {}, {})
    assert training.to_dict() == TRAINING
    assert recording.to_dict() == RECORDING


@pytest.mark.parametrize("text", ["", "[training]\n", "# nothing yet\n[recording]\n[training]\n"])
def test_what_a_file_leaves_out_has_its_default(write: Write, text: str) -> None:
    assert read_config(write(text), {}, {}) == (TrainingConfig(), RecordingConfig())


def test_without_a_file_there_are_the_options_alone() -> None:
    settings = read_config(None, {"depth": 3}, {"steps": "last"})
    assert settings == (TrainingConfig(depth=3), RecordingConfig(steps="last"))


def test_options_win_over_the_file_and_only_theirs(write: Write) -> None:
    path = write("[training]\ndepth = 4\nwidth = 32\n[recording]\nsteps = 'last'\nlayers = 'output'\n")
    training, recording = read_config(path, {"depth": 3}, {"layers": ("hidden.1",)})
    assert (training.depth, training.width) == (3, 32)
    assert (recording.steps, recording.layers) == ("last", ("hidden.1",))


def test_an_option_mends_what_is_wrong_in_the_file(write: Write) -> None:
    path = write("[training]\nrule = 'direct-feedback-alignment@25'\nepochs = -1\n")
    training, _ = read_config(path, {"depth": 30, "epochs": 2}, {})
    assert list(training.rules) == [25]


def test_the_file_is_not_blamed_for_an_option(write: Write) -> None:
    path = write("[training]\ndepth = 4\n")
    with pytest.raises(ValueError, match=r"^boundaries '9' names boundary 9; a network with 4 hidden layers"):
        read_config(path, {"rule": "noise", "boundaries": "9"}, {})


MISTAKES = {
    "not TOML": ("training: depth", "mine.toml is not a TOML file (Expected"),
    "twice": ("[training]\ndepth = 3\ndepth = 4", "mine.toml is not a TOML file (Cannot overwrite a value"),
    "unknown table": ("[trianing]\ndepth = 3", "mine.toml: 'trianing' is none of its tables; put settings under"),
    "outside of a table": ("depth = 3", "mine.toml: 'depth' is none of its tables; put settings under [training] or"),
    "a table that is none": ("training = 3", "mine.toml: 'training' is none of its tables"),
    "unknown setting": ("[training]\nlr = 0.1", "mine.toml, [training]: Unknown setting 'lr'. Choose from: data,"),
    "unknown recording": ("[recording]\nn = 1", "mine.toml, [recording]: Unknown recording setting 'n'. Choose from"),
    "misplaced": ("[training]\nsteps = 'last'", "mine.toml, [training]: Unknown setting 'steps'."),
    "text for a number": ("[training]\ndepth = 'x'", "[training]: depth is 'x'; expected a whole number of 1 or more."),
    "fraction for a count": ("[training]\nwidth = 8.5", "[training]: width is 8.5; expected a whole number of 1"),
    "truth for a count": ("[training]\nepochs = true", "[training]: epochs is True; expected a whole number of 0"),
    "text for a rate": ("[training]\nlearning_rate = '1e-3'", "[training]: learning_rate is '1e-3'; expected a number"),
    "list for a choice": ("[training]\nnorm = ['batch']", "[training]: Unknown norm '['batch']'. Choose one of: batch"),
    "number for text": ("[training]\nboundaries = 3", "mine.toml, [training]: boundaries is 3; expected text."),
    "list for text": ("[training]\nrule = ['noise']", "mine.toml, [training]: rule is ['noise']; expected text."),
    "date for a path": (
        "[training]\ndata = 2020-01-01",
        "[training]: data is datetime.date(2020, 1, 1); expected text",
    ),
    "out of range": (
        "[training]\nbatch_size = 0",
        "[training]: batch_size is 0; expected a whole number of 1 or more.",
    ),
    "endless": ("[training]\nlearning_rate = inf", "[training]: learning_rate is inf; expected a number above 0."),
    "numbers for layers": ("[recording]\nlayers = [1]", "[recording]: layers is 1; expected names or patterns."),
    "number for layers": ("[recording]\nlayers = 1", "[recording]: layers is 1; expected names or patterns."),
    "no layers": ("[recording]\nlayers = []", "[recording]: No layers are to be recorded; name at least one"),
    "number for truth": ("[recording]\ncompress = 1", "[recording]: compress is 1; expected true or false."),
    "number for steps": ("[recording]\nsteps = 10", "[recording]: steps is 10; expected text."),
    "unknown step": ("[recording]\ndiagnose = 'often'", "[recording]: diagnose 'often': 'often' is not understood."),
    "no stimulus": ("[recording]\nn_test = 0", "[recording]: n_test is 0; expected a whole number of 1 or more."),
    "unknown rule": (
        "[training]\nrule = 'hebb'",
        "[training]: Unknown rule 'hebb'. Choose one of: backprop",
    ),
    "unknown option": (
        "[training]\nrule = 'noise:volume=1'",
        "mine.toml, [training]: Rule noise has no option 'volume'. Choose from: scale, observe.",
    ),
    "option out of range": ("[training]\nrule = 'bp-lambda:lam=1.5'", "mine.toml, [training]: bp-lambda: lam is 1.5;"),
    "boundary out of range": (
        "[training]\nrule = 'noise@21'",
        "mine.toml, [training]: boundaries '21' names boundary 21; a network with 20 hidden layers has boundaries 1",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_file_is_one_sentence_with_its_place_and_writes_nothing(
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    mistake: str,
) -> None:
    text, words = MISTAKES[mistake]
    write(text)
    code, said = train(monkeypatch, capsys, tmp_path, "--config mine.toml")
    assert code == 2
    assert said.startswith("repsim: mine.toml")
    assert words in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("name", "words"), [("missing.toml", "missing.toml: No such file or directory."), (".", ".: Is a directory.")]
)
def test_a_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, words: str
) -> None:
    assert train(monkeypatch, capsys, tmp_path, f"--config {name}") == (2, f"repsim: {words}\n")
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_text_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_bytes(b"[training]\ndata = '\xff'")
    code, said = train(monkeypatch, capsys, tmp_path, "--config mine.toml")
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("repsim: mine.toml is not a TOML file ('utf-8' codec can't decode")


def test_a_run_is_trained_with_the_settings_of_a_file_and_the_options_that_win(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write("[training]\ndata = 'digits'\ndepth = 2\nwidth = 8\nepochs = 1\nrule = 'noise'\n[recording]\nsteps = 'first'")
    code, _ = train(monkeypatch, capsys, tmp_path, "--config mine.toml --width 4 --record last --diagnose none")
    assert code == 0
    run = Run.open(tmp_path / "new")
    expected = TrainingConfig(data="digits", depth=2, width=4, epochs=1, rule="noise")
    assert run.config["training"] == expected.to_dict()
    assert run.recorded_steps == [9]


def train(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, options: str
) -> tuple[int, str]:
    """Give a command in a folder; its exit code and what it says on standard error."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["repsim", "train", "new", *options.split()])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code or 0, capsys.readouterr().err
