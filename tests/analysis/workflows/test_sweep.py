"""Trainings of a sweep: which are run, continued or left out, and what the table says of each."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import ExecutionConfig, sweep, train_run
from analysis.config.sweep_file import read_sweep
from analysis.execution.progress import Reporter
from analysis.workflows import sweep as sweeping
from checkpoints import Run

Repsim = Callable[..., Any]
Learned = Callable[[Path], dict[str, Any]]

SERIAL = ExecutionConfig(executor="serial")
SMALL = "[training]\ndata = 'digits'\ndepth = 2\nwidth = 4\nepochs = 1\nbatch_size = 200\n"
FEW = "[recording]\nn_train = 60\nn_validation = 20\nn_test = 40\n"
N_STEPS = 6


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write sweep.toml in an empty working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def to_file(text: str) -> Path:
        path = Path("sweep.toml")
        path.write_text(text)
        return path

    return to_file


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def states(swept: sweeping.Swept) -> dict[str, str]:
    return dict(zip(swept.table["run"], swept.table["state"], strict=True))


# What becomes of the trainings


def test_every_training_equals_that_of_train_run_on_every_executor(
    write: Callable[[str], Path], learned: Learned
) -> None:
    path = write(SMALL + FEW + "[grid]\nseed = '0-1'\n[cases.bp]\n[cases.noise]\nrule = 'noise'\n")
    swept = {
        name: sweep(path, output=name, execution=ExecutionConfig(executor=name, jobs=2))
        for name in ("serial", "processes")
    }
    for run in read_sweep(path).runs:
        alone = train_run(Path("alone") / run.name, run.training, run.recording)
        for name in swept:
            assert learned(Path(name) / run.name) == learned(alone.path)
    for name, each in swept.items():
        assert set(states(each).values()) == {"finished"}
        assert each.summary() == ["4 trainings: 4 finished."]
        table = pd.read_csv(Path(name) / "sweep.csv")
        assert list(table) == [
            *("run", "case", "seed", "state", "step", "n_steps", "test_accuracy", "seconds", "reason")
        ]
        assert table["case"].tolist() == ["bp", "bp", "noise", "noise"]
        assert table["test_accuracy"].tolist() == [
            Run.open(Path(name) / run).status["test_accuracy"] for run in table["run"]
        ]


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_failed_training_is_reported_and_does_not_stop_the_others(
    write: Callable[[str], Path], repsim: Repsim, executor: str
) -> None:
    write(
        f"{SMALL}{FEW}[cases.fine]\n[cases.lost]\ndata = 'missing.npz'\n"
        "[cases.wild]\nnorm = 'none'\nactivation = 'linear'\nlearning_rate = 1e30\n[cases.well]\nseed = 1\n"
    )
    said = repsim(f"sweep sweep.toml --output out --executor {executor} --jobs 2")
    assert said.code == 0
    table = pd.read_csv("out/sweep.csv", keep_default_na=False).set_index("run")
    assert table["state"].to_dict() == {"fine": "finished", "lost": "failed", "wild": "diverged", "well": "finished"}
    assert table["reason"]["lost"] == f"There is no file {Path('missing.npz').absolute()}; expected an .npz file."
    assert table["reason"]["wild"].startswith("Training diverged: the loss is ")
    assert (table["reason"]["fine"], table["reason"]["well"]) == ("", "")
    first, *rest = said.out.splitlines()
    assert first == "4 trainings: 2 finished, 1 failed, 1 diverged."
    assert rest == [
        f"lost: {table['reason']['lost']}",
        f"wild: {table['reason']['wild']}",
        "Table: out/sweep.csv",
    ]
    assert not Path("out/lost").exists()


def test_failed_trainings_are_tried_again_but_diverged_ones_are_not(write: Callable[[str], Path]) -> None:
    path = write(
        f"{SMALL}{FEW}[cases.mine]\ndata = 'mine.npz'\nbatch_size = 8\n"
        "[cases.wild]\nnorm = 'none'\nactivation = 'linear'\nlearning_rate = 1e30\n"
    )
    assert states(sweep(path, output="out", execution=SERIAL)) == {"mine": "failed", "wild": "diverged"}
    wild = Path("out/wild/run.json").read_bytes()
    rng = np.random.default_rng(0)
    np.savez("mine.npz", X=rng.normal(size=(60, 5)), y=np.arange(60) % 3)
    again = sweep(path, output="out", execution=SERIAL)
    assert states(again) == {"mine": "finished", "wild": "diverged"}
    assert Path("out/wild/run.json").read_bytes() == wild
    assert again.summary()[1].startswith("wild: Training diverged")


def test_a_second_call_trains_nothing(write: Callable[[str], Path], repsim: Repsim) -> None:
    write(SMALL + FEW + "[grid]\nseed = '0-1'\n")
    first = repsim("sweep sweep.toml")
    before = contents(Path("runs/sweep"))
    assert {"seed-0/run.json", "seed-1/run.json", "sweep.csv"} <= set(before)
    second = repsim("sweep sweep.toml")
    assert (second.code, second.out) == (0, first.out)
    assert contents(Path("runs/sweep")) == before


def test_a_larger_grid_trains_only_what_is_new(write: Callable[[str], Path]) -> None:
    sweep(write(SMALL + FEW + "[grid]\nseed = '0-1'\n"), execution=SERIAL)
    before = contents(Path("runs/sweep/seed-0"))
    swept = sweep(write(SMALL + FEW + "[grid]\nseed = '0-2'\n"), execution=SERIAL)
    assert states(swept) == dict.fromkeys(("seed-0", "seed-1", "seed-2"), "finished")
    assert contents(Path("runs/sweep/seed-0")) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("width = 4", "width = 5"), "seed-0 was trained with other settings. Choose another folder with --output."),
        (("'digits'", "'xor'"), "seed-0 was trained with other settings. Choose another folder with --output."),
        (("n_test = 40", "n_test = 41"), "seed-0 was recorded with other settings. Choose another folder with --out"),
    ],
)
def test_a_run_with_other_settings_is_rejected_before_anything_is_written(
    write: Callable[[str], Path], repsim: Repsim, change: tuple[str, str], words: str
) -> None:
    text = SMALL + FEW + "[grid]\nseed = [{}]\n"
    sweep(write(text.format(0)), execution=SERIAL)
    before = contents(Path("runs"))
    write(text.format("1, 0").replace(*change))
    said = repsim("sweep sweep.toml")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"repsim: runs/sweep/{words}")
    assert contents(Path("runs")) == before


def test_a_folder_that_is_not_a_run_is_not_written_into(write: Callable[[str], Path], repsim: Repsim) -> None:
    write(SMALL + "[grid]\nseed = [0]\n")
    Path("out/seed-0").mkdir(parents=True)
    said = repsim("sweep sweep.toml --output out")
    assert said == (2, "", "repsim: out/seed-0 exists and is not a run. Choose another folder with --output.\n")
    assert contents(Path("out")) == {}


# Listing


def test_a_list_shows_the_states_and_writes_nothing(
    write: Callable[[str], Path], repsim: Repsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(SMALL + FEW + "[grid]\nseed = '0-2'\n")
    said = repsim("sweep sweep.toml --list")
    assert said.code == 0
    assert [line.split()[:3] for line in said.out.splitlines()[1:4]] == [
        [f"seed-{seed}", str(seed), "waiting"] for seed in range(3)
    ]
    assert said.out.endswith("\nFolder: runs/sweep\n")
    assert not Path("runs").exists()
    (_, asked) = write(""), read_sweep(write(SMALL + FEW + "[grid]\nseed = '0-2'\n"))
    train_run("runs/sweep/seed-1", asked.runs[1].training, asked.runs[1].recording)
    before = contents(Path("runs"))
    listed = json.loads(repsim("sweep sweep.toml --list --json").out)
    assert listed["folder"] == "runs/sweep"
    assert [row["state"] for row in listed["runs"]] == ["waiting", "finished", "waiting"]
    assert listed["runs"][0] == {
        **{"run": "seed-0", "seed": 0, "state": "waiting", "reason": ""},
        **dict.fromkeys(("step", "n_steps", "test_accuracy", "seconds")),
    }
    assert contents(Path("runs")) == before


# Stopping


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch, at_update: Callable[..., Reporter]) -> Callable[..., None]:
    """Let something happen to the second training of a sweep once it has made three updates."""

    def arm(act: Callable[[], Any]) -> None:
        begun: list[Path] = []

        def train(path: Path, *settings: Any, **options: Any) -> Run:
            begun.append(path)
            reporter = at_update(3, act) if len(begun) == 2 else None
            return train_run(path, *settings, **(options | {"progress": reporter}))

        monkeypatch.setattr(sweeping, "train_run", train)

    return arm


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def lose_power() -> None:
    raise RuntimeError("power cut")


def test_the_same_command_continues_after_ctrl_c(
    write: Callable[[str], Path], repsim: Repsim, stop_at: Callable[..., None], learned: Learned
) -> None:
    path = write(SMALL + FEW + "[grid]\nseed = '0-2'\n")
    stop_at(press_ctrl_c)
    said = repsim("sweep sweep.toml --executor serial --quiet")
    assert said == (130, "", "repsim: Stopped; 1 of 3 tasks are done and kept. Continue with the same command.\n")
    table = pd.read_csv("runs/sweep/sweep.csv")
    assert table["state"].tolist() == ["finished", "interrupted", "waiting"]
    assert table["step"].tolist()[:2] == [N_STEPS, 3]
    finished = contents(Path("runs/sweep/seed-0"))
    said = repsim("sweep sweep.toml --executor serial --quiet")
    assert (said.code, said.out.splitlines()[0]) == (0, "3 trainings: 3 finished.")
    assert contents(Path("runs/sweep/seed-0")) == finished
    for run in read_sweep(path).runs:
        alone = train_run(Path("alone") / run.name, run.training, run.recording)
        assert learned(Path("runs/sweep") / run.name) == learned(alone.path)


def test_a_killed_training_continues_from_its_last_commit(
    write: Callable[[str], Path], stop_at: Callable[..., None], learned: Learned
) -> None:
    path = write(SMALL + FEW + "[grid]\nseed = '0-1'\n")
    stop_at(lose_power)
    swept = sweep(path, execution=SERIAL)
    assert states(swept) == {"seed-0": "finished", "seed-1": "stopped"}
    assert swept.summary() == ["2 trainings: 1 finished, 1 stopped.", "seed-1: RuntimeError: power cut"]
    assert states(sweep(path, execution=SERIAL)) == {"seed-0": "finished", "seed-1": "finished"}
    run = read_sweep(path).runs[1]
    assert learned(Path("runs/sweep/seed-1")) == learned(train_run("alone", run.training, run.recording).path)


def test_two_sweeps_cannot_run_in_one_folder(write: Callable[[str], Path], repsim: Repsim) -> None:
    from checkpoints.storage.lock import Lock

    write(SMALL + FEW + "[grid]\nseed = [0]\n")
    Path("runs/sweep").mkdir(parents=True)
    lock = Lock(Path("runs/sweep/lock"))
    try:
        said = repsim("sweep sweep.toml --quiet")
    finally:
        lock.release()
    assert said.code == 2
    assert re.match(rf"repsim: runs/sweep is being written by process {os.getpid()} on ", said.err)
    assert not Path("runs/sweep/seed-0").exists()


# Analyses


@pytest.mark.usefixtures("blank_figures")
def test_only_finished_trainings_are_analyzed(
    write: Callable[[str], Path],
) -> None:
    text = (
        f"{SMALL}{FEW}[cases.fine]\n[cases.wild]\nnorm = 'none'\nactivation = 'linear'\nlearning_rate = 1e30\n"
        "[analysis]\nsteps = 'last'\nlayers = ['hidden.2']\ndistance = 'cosine'\n"
    )
    swept = sweep(write(text), execution=SERIAL)
    assert states(swept) == {"fine": "finished", "wild": "diverged"}
    found = json.loads(Path("runs/sweep/fine/analysis/analysis.json").read_text())
    assert found["config"]["distance"] == "cosine"
    assert [view["step"] for view in found["views"]] == [N_STEPS]
    assert set(pd.read_csv("runs/sweep/fine/analysis/probes.csv")["layer"]) == {"hidden.2"}
    assert not Path("runs/sweep/wild/analysis").exists()
    before = contents(Path("runs/sweep"))
    sweep(write(text), execution=SERIAL)
    assert contents(Path("runs/sweep")) == before


@pytest.mark.usefixtures("blank_figures")
def test_a_failed_analysis_is_reported_apart_from_its_training(write: Callable[[str], Path]) -> None:
    path = write(SMALL + FEW + "[cases.fine]\n[analysis]\nlayers = ['conv.*']\n")
    swept = sweep(path, execution=SERIAL)
    assert states(swept) == {"fine": "finished"}
    assert re.match(r"fine: analysis: No layer matches 'conv\.\*'\. Similar names: hidden\.", swept.summary()[1])
