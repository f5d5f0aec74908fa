"""Files of the user that have the names of the packages."""

import subprocess
import sys
from pathlib import Path

import pytest

from analysis import RecordingConfig, train_run
from analysis.training.user_networks.model_spec import build_model
from repsim.learning import TrainingConfig

ROOT = Path(__file__).parents[3]
NAMES = ("analysis", "checkpoints", "probes", "repsim")
MINE = 'raise SystemExit("a file of the user was imported")\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with scripts of the names of the packages, and a command outside of it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "repsim").write_text("from analysis.cli import main\n\nmain()\n")
    (tmp_path / "work").mkdir()
    for name in NAMES:
        (tmp_path / "work" / f"{name}.py").write_text(MINE)
    return tmp_path / "work"


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder), "MPLBACKEND": "agg"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_scripts_of_the_names_of_the_packages_do_not_break_the_command_and_its_processes(folder: Path) -> None:
    few = RecordingConfig(n_train=60, n_validation=30, n_test=30)
    train_run(folder / "run", TrainingConfig(data="digits", depth=1, width=8, epochs=1), few)
    options = "--steps last --layers hidden.1 --Cs 1 --executor processes --jobs 1"
    analyzed = call(folder, str(folder.parent / "bin" / "repsim"), "analyze", "run", *options.split())
    assert analyzed.returncode == 0, analyzed.stderr
    assert (folder / "run/analysis/report.html").is_file()


def test_they_are_not_imported_once_the_working_directory_comes_first(folder: Path) -> None:
    code = """
import sys
import analysis
sys.path.insert(0, "")
import probes
from analysis.execution.processes import ProcessExecutor
from analysis.execution.task import Task
from analysis import ExecutionConfig
task = Task("exists", print, {})
assert [error for _, error in ProcessExecutor(ExecutionConfig(jobs=1)).completed([task])] == [None]
"""
    done = call(folder, "-P", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_script_that_was_imported_in_the_place_of_a_package_is_named(folder: Path) -> None:
    (folder / "probes.py").write_text("mine = 1\n")
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import probes; del sys.path[0]; import analysis"
    done = call(folder, "-P", "-c", code)
    assert done.returncode == 1
    assert f"'probes' was imported from {folder}/probes.py, which hides a package of repsim" in done.stderr


def test_a_model_of_the_user_is_not_sought_in_a_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    expected = (
        r"Model 'probes:Net' is not imported from probes\.py, as probes is the name of a package of repsim\. Rename "
        r"it, for example to my_probes\.py\."
    )
    with pytest.raises(ValueError, match=expected):
        build_model("probes:Net")
