"""Someone has a rule and a measure of their own in a file, the example of the page, and works with many processes."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from analysis import AnalysisConfig, ExecutionConfig, RecordingConfig, import_parts, train_run
from analysis.execution import run_tasks
from analysis.execution.interruption import Interrupted
from analysis.execution.progress import Reporter
from analysis.own_parts import importing
from analysis.workflows.analyze import plan_run
from checkpoints import Run
from repsim.learning import TrainingConfig
from tests.conftest import Repsim, Said

pytestmark = pytest.mark.usefixtures("own")

PAGE = Path(__file__).parents[2] / "docs" / "own-parts.md"


class StopAtFifth(Reporter):
    """Presses Ctrl-C after five updates."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.done = 0

    @contextmanager
    def task(self, name: str, amount: object = None) -> Iterator["StopAtFifth"]:
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        if self.done == 5:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def repsim(repsim: Repsim) -> Repsim:
    """Run a command line as a new process would: without parts that were imported before."""

    def call(line: str) -> Said:
        for module in importing.imported_by_request():
            importing.forget(module.name)
        importing._IMPORTED.clear()
        return repsim(line)

    return call


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    Path("my_parts.py").write_text(example)
    return tmp_path / "my_parts.py"


@pytest.fixture
def interrupted(parts: Path) -> Path:
    """A training by the user's rule that was stopped after five of its nine updates."""
    import_parts(parts)
    training = TrainingConfig(data="digits", depth=3, width=16, epochs=1, rule="half-backprop@2")
    with pytest.raises(Interrupted):
        train_run("run", training, RecordingConfig(n_train=100, n_validation=50, n_test=60), progress=StopAtFifth())
    return parts.with_name("run")


@pytest.mark.filterwarnings("default")
def test_a_rule_is_listed_trained_and_resumed(interrupted: Path, parts: Path, repsim: Repsim) -> None:
    assert "formula: t_k / 2" in repsim("rules half-backprop --import my_parts.py").out
    said = repsim("train --import my_parts.py --help").out
    assert re.search(r"Your own parts: rule half-backprop\s+\(.*measure\s+gap", said, flags=re.DOTALL)

    code, _, said = repsim("train run --resume")
    assert code == 2
    assert "Unknown rule 'half-backprop'. Choose one of: backprop, " in said
    assert f"It was trained with --import {parts}, whose code runs when it is imported" in said
    parts.write_text(parts.read_text() + "# as it was\n")
    said = repsim("train run --resume --quiet --import my_parts.py").err
    assert said == f"repsim: warning: {parts} has changed since run was started with it.\n"
    assert Run.open(interrupted).status["state"] == "finished"


@pytest.mark.usefixtures("interrupted", "blank_figures")
def test_a_measure_is_computed_in_processes_and_computed_anew_on_dask_when_it_changes(
    parts: Path, repsim: Repsim
) -> None:
    pytest.importorskip("distributed")
    first = gaps("processes")
    assert max(first) > 0

    parts.write_text(parts.read_text().replace("return abs(", "return 2 * abs("))
    import_parts(parts)
    assert gaps("dask") == pytest.approx([2 * value for value in first])

    Path("repsim.toml").write_text('import = ["my_parts.py"]\n')
    line = "analyze run --steps last --layers hidden.* --measures gap --distance farthest --executor serial"
    assert repsim(line).code == 0
    assert sorted(pd.read_csv("run/analysis/similarity.csv")["gap"]) == gaps("serial")
    report = Path("run/analysis/report.html").read_text()
    assert "Differences in mean activation, for all pairs of layers." in report
    assert "Best layer of each network" in report
    assert f"--import {parts}" in re.sub("</?span>", "", report)  # words of the command may break
    assert "Nothing has changed since the last analysis." in repsim(line).err
    parts.write_text(parts.read_text().replace("return 2 * abs(", "return 3 * abs("))
    assert "Nothing has changed" not in repsim(line).err
    assert sorted(pd.read_csv("run/analysis/similarity.csv")["gap"]) == pytest.approx([3 * value for value in first])


def gaps(executor: str) -> list[float]:
    """Compute the user's measure for all pairs of layers, on one worker."""
    config = AnalysisConfig(steps="last", layers=("hidden.*",), measures=("gap",), distance="farthest")
    tasks = [task for task in plan_run("run", config).tasks if task.name == "similarity"]
    assert run_tasks(tasks, ExecutionConfig(executor=executor, jobs=1)) == {}
    return sorted(value for task in tasks for value in task.result().arrays["forth"].ravel())
