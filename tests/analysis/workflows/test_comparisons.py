"""Comparisons of arms: what a first call, a second and one after Ctrl-C compute; and the number of seeds to train."""

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import AnalysisConfig, ExecutionConfig, Interrupted, compare_runs, sweep
from analysis.comparison.attribution.arms import Arm
from analysis.comparison.result import ComparisonResult
from analysis.config.comparison_design import DesignConfig
from analysis.execution import Task
from analysis.execution.serial import SerialExecutor
from analysis.workflows.comparisons import compare_arms, compare_design, plan_arms, plan_comparison
from analysis.workflows.pilots import describe_power, power_of
from checkpoints import Damaged

Paths = Mapping[str, tuple[Path, ...]]
ONE_LAYER = AnalysisConfig(layers=("hidden.2",), Cs=(1.0,))
SERIAL = ExecutionConfig(executor="serial")
SIMILARITY = DesignConfig(smallest_effects=("cka=0.05",))

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the tasks that run; press Ctrl-C when there are as many as "stop"."""
    kinds: Counter[str] = Counter()
    completed = SerialExecutor.completed

    def noting(executor: SerialExecutor, tasks: Sequence[Task]) -> Iterator[Any]:
        for task, error in completed(executor, tasks):
            kinds[task.name] += 1
            yield task, error
            if kinds["stop"] and sum(kinds.values()) - kinds["stop"] == kinds["stop"]:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(SerialExecutor, "completed", noting)
    return kinds


def arms(paths: Paths, *controls: Arm) -> list[Arm]:
    return [Arm("bp", "reference", paths["bp"]), Arm("sg", "method", paths["sg"]), *controls]


def compared(paths: Paths, folder: Path, **settings: Any) -> ComparisonResult:
    options: dict[str, Any] = {"config": ONE_LAYER, "design": SIMILARITY, "execution": SERIAL}
    return compare_arms(arms(paths), output=folder, **(options | settings))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_call_computes_and_changes_nothing(arm_runs: Paths, tmp_path: Path, done: Counter[str]) -> None:
    first = compared(arm_runs, tmp_path)
    assert done["arms"] == 2
    before = files(tmp_path)
    done.clear()
    again = compared(arm_runs, tmp_path)
    assert (done, files(tmp_path)) == ({}, before)
    assert again.summary() == first.summary()
    pd.testing.assert_frame_equal(again.tables["attribution"], first.tables["attribution"])


def test_another_smallest_effect_changes_verdicts_and_measures_nothing(
    arm_runs: Paths, tmp_path: Path, done: Counter[str]
) -> None:
    first = compared(arm_runs, tmp_path).tables["attribution"]
    done.clear()
    design = DesignConfig(smallest_effects=("cka=10",))
    other = compared(arm_runs, tmp_path, design=design, exists="replace").tables["attribution"]
    assert done == {"tables": 1, "figures": 2, "page": 1, "report": 1}
    assert set(first["verdict"]) != {"equivalent"}
    assert set(other["verdict"]) == {"equivalent"}
    pd.testing.assert_series_equal(first["difference"], other["difference"])


@pytest.mark.parametrize("stop", [1, 3])
def test_a_comparison_continues_after_ctrl_c(arm_runs: Paths, tmp_path: Path, done: Counter[str], stop: int) -> None:
    whole = compared(arm_runs, tmp_path / "whole")
    n_tasks = sum(done.values())
    done.clear()
    done["stop"] = stop
    with pytest.raises(Interrupted, match="Continue with the same command"):
        compared(arm_runs, tmp_path / "parts")
    assert sum(done.values()) - stop == stop
    done.clear()
    parts = compared(arm_runs, tmp_path / "parts")
    assert sum(done.values()) == n_tasks - stop
    for name, table in whole.tables.items():
        pd.testing.assert_frame_equal(parts.tables[name], table)


def test_runs_of_a_command_line_and_arms_give_the_same_numbers(arm_runs: Paths, tmp_path: Path) -> None:
    given = [*arm_runs["bp"], *arm_runs["sg"]]
    design = DesignConfig(smallest_effects=("cka=0.05",), controls=(f"decoupled={arm_runs['greedy'][0].parent}/*",))
    line = compare_runs(given, config=ONE_LAYER, design=design, output=tmp_path / "line", execution=SERIAL)
    greedy = Arm("greedy", "decoupled", arm_runs["greedy"])
    plain = compare_arms(
        arms(arm_runs, greedy), config=ONE_LAYER, design=SIMILARITY, output=tmp_path / "arms", execution=SERIAL
    )
    pd.testing.assert_frame_equal(line.tables["attribution"], plain.tables["attribution"])
    assert [view.label for view in line.tables.views] == ["bp", "sg", "greedy"]


def test_groups_without_controls_are_compared_at_the_chosen_steps_and_shown_whole(
    arm_runs: Paths, tmp_path: Path
) -> None:
    given = [*arm_runs["bp"], *arm_runs["sg"]]
    result = compare_runs(given, config=ONE_LAYER, design=SIMILARITY, output=tmp_path, execution=SERIAL)
    assert len(result.tables.views) == 6
    assert set(result.tables["attribution"]["at"]) == {"100 %"}
    assert result.summary()[0].startswith("By the end of training, sg ")


def test_two_seeds_are_compared_as_single_networks(arm_runs: Paths, tmp_path: Path, recwarn: Any) -> None:
    given = [*arm_runs["bp"][:2], *arm_runs["sg"][:2]]
    result = compare_runs(given, config=ONE_LAYER, output=tmp_path, execution=SERIAL)
    assert all(result.tables[name].empty for name in ("attribution", "arms", "similarity_tests"))
    assert not list(tmp_path.glob("figures/attribution*"))
    assert result.summary()[0].startswith("sg/seed-0 and sg/seed-1 differ from bp/seed-0 in more than the rule: ")
    assert "epochs 3 (2), learning_rate 0.003 (0.01)" in result.summary()[0]
    assert "(in parentheses: bp/seed-0)" in result.summary()[0]


def test_runs_that_differ_in_the_rule_only_are_not_remarked_upon(runs: Mapping[str, Path], comparison: Any) -> None:
    more = [each for each in comparison.summary() if "in more than the rule" in each]
    assert len(more) == 1  # of the third run, which has another schedule
    assert "schedule cosine (constant)" in more[0]
    assert "synthetic differ" not in more[0]


def test_arms_that_cannot_be_compared_are_named_and_the_networks_shown(arm_runs: Paths, tmp_path: Path) -> None:
    config = AnalysisConfig(layers=("hidden.2",), Cs=(1.0,), steps="first")  # step 0, which is not trained
    with pytest.warns(
        RuntimeWarning, match=r"^Arms are not compared as groups: .*recorded no step of trained networks"
    ):
        plan = plan_comparison([*arm_runs["bp"], *arm_runs["slow"]], config, DesignConfig(align="step"), tmp_path)
    assert plan.design is None


def test_an_unknown_quantity_is_refused_whatever_the_runs(arm_runs: Paths, tmp_path: Path) -> None:
    design = DesignConfig(smallest_effects=("cak=0.1",))
    for given in ([*arm_runs["bp"], *arm_runs["sg"]], [arm_runs["bp"][0], arm_runs["sg"][0]]):
        with pytest.raises(ValueError, match="Unknown quantity 'cak' in smallest_effects"):
            plan_comparison(given, AnalysisConfig(), design, tmp_path)
    with pytest.raises(ValueError, match="Unknown quantity 'cak' in smallest_effects"):
        plan_arms(arms(arm_runs), AnalysisConfig(), design, tmp_path)


# Design files


DESIGN = """
[training]
data = "digits"
depth = 2
width = 4
epochs = 1
batch_size = 500
activation = "tanh"
[recording]
steps = "50%,100%"
n_train = 60
n_validation = 30
n_test = 40
[grid]
seed = "0-2"
[arms.bp]
role = "reference"
[arms.noise]
role = "method"
rule = "noise@1"
[analysis]
layers = ["hidden.2"]
Cs = [1.0]
[comparison]
smallest_effects = ["cka=0.05"]
"""


@pytest.fixture
def design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("small.toml")
    path.write_text(DESIGN)
    return path


def test_a_design_is_trained_and_compared_by_its_file(design: Path) -> None:
    with pytest.raises(ValueError, match=r"Arm 'bp': there is no run runs/small/bp/seed-0\. Train it by repsim sweep"):
        compare_design(design)
    assert not Path("runs").exists()
    assert set(sweep(design, execution=SERIAL).table["state"]) == {"finished"}
    result = compare_design(design, execution=SERIAL)
    assert result.tables.folder == Path("runs/small/comparison").absolute()
    table = result.tables["attribution"]
    assert set(table["at"]) == {"50 %", "100 %"}
    assert set(table["layer"]) == {"hidden.2"}
    assert set(table["quantity"]) == {"cka"}
    given = {"steps": "last", "smallest_effects": ("cka=0.2",)}
    last = compare_design(design, given=given, exists="replace", execution=SERIAL)
    assert set(last.tables["attribution"]["at"]) == {"100 %"}
    assert set(last.tables["attribution"]["smallest"]) == {0.2}


@pytest.mark.parametrize("state", ["diverged", "interrupted"])
def test_a_run_that_did_not_finish_is_named(design: Path, state: str) -> None:
    sweep(design, execution=SERIAL)
    info = Path("runs/small/noise/seed-1/run.json")
    content = json.loads(info.read_text())
    content["status"]["state"] = state
    info.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"^Arm 'noise': runs/small/noise/seed-1 is {state}, not finished"):
        compare_design(design)


# Power


def test_power_says_how_many_seeds_are_needed(arm_runs: Paths, tmp_path: Path, done: Counter[str]) -> None:
    plan = plan_arms(arms(arm_runs, Arm("slow", "schedule-matched", arm_runs["slow"])), ONE_LAYER, SIMILARITY, tmp_path)
    table = power_of(plan, n_seeds=(3, 10, 3000), effect=2.0, execution=SERIAL)
    assert done == {"arms": 2}
    assert set(table["contrast"]) == {"total", "beyond", "alone"}
    assert (table.loc[table["n_seeds"] == 3000, ["different", "equivalent"]] > 0.99).all(axis=None)
    done.clear()
    assert power_of(plan, n_seeds=(3, 10, 3000), effect=2.0, execution=SERIAL).equals(table)
    assert done == {}
    said = describe_power(table, 2.0)
    assert said[0].startswith("An effect of 2 times the smallest of interest is called different, and no effect equiv")
    assert [each.partition(":")[0] for each in said[1:]] == ["sg in total, cka", "sg beyond slow, cka"]
    for sentence, kind in zip(said[1:], ("total", "beyond"), strict=True):
        rows = table[table["contrast"] == kind]
        for name in ("different", "equivalent"):
            fewest = min(rows.loc[rows[name] >= 0.8, "n_seeds"])
            assert f"{name} {fewest}" in sentence


def test_power_that_no_number_reaches_is_said(arm_runs: Paths, tmp_path: Path) -> None:
    plan = plan_arms(arms(arm_runs), ONE_LAYER, SIMILARITY, tmp_path)
    said = describe_power(power_of(plan, n_seeds=[3], effect=1.1, execution=SERIAL), 1.1)
    assert "different more than 3; equivalent more than 3." in said[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"n_seeds": [2, 5]}, "n_seeds has 2; expected 3"), ({"effect": 1.0}, "effect is 1.0; expected more than 1")],
)
def test_a_wrong_question_writes_nothing(arm_runs: Paths, tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    plan = plan_arms(arms(arm_runs), ONE_LAYER, SIMILARITY, tmp_path / "new")
    with pytest.raises(ValueError, match=words):
        power_of(plan, **settings)
    assert not (tmp_path / "new").exists()


def test_power_needs_a_pilot_of_three_seeds(arm_runs: Paths, tmp_path: Path) -> None:
    plan = plan_comparison([arm_runs["bp"][0], arm_runs["sg"][0]], ONE_LAYER, SIMILARITY, tmp_path / "new")
    with pytest.raises(ValueError, match="There are no two arms of three seeds or more; train a pilot"):
        power_of(plan)


def test_damaged_runs_are_named(arm_runs: Paths, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(arm_runs["sg"][2], tmp_path / "seed-2"))
    last = sorted(copy.glob("checkpoints/*/activations.h5"))[-1]
    content = bytearray(last.read_bytes())
    content[-100] ^= 1
    last.write_bytes(content)
    given = {**arm_runs, "sg": (*arm_runs["sg"][:2], copy)}
    with pytest.raises(Damaged, match=r"seed-2/checkpoints/step_.*activations\.h5"):
        compared(given, tmp_path / "out")
