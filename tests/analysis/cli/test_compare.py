"""Comparisons of arms on the command line, and what it says when one is wrong."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Repsim = Callable[..., Any]
Paths = Mapping[str, tuple[Path, ...]]
FEW = "--layers hidden.2 --Cs 1 --smallest-effect cka=0.05 --executor serial"

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture
def place(arm_runs: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the folders of all arms, as symbolic links."""
    monkeypatch.chdir(tmp_path)
    for name, runs in arm_runs.items():
        (tmp_path / name).symlink_to(runs[0].parent)
    return tmp_path


def test_quoted_patterns_are_groups_and_controls(repsim: Repsim, place: Path) -> None:
    said = repsim(f"compare bp/* sg/* --control decoupled=greedy/* --output out {FEW}")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].startswith("By the end of training, sg ")
    assert "beyond decoupling (greedy)" in lines[0]
    total = next(k for k, line in enumerate(lines) if line.startswith("sg against bp (n = 3 seeds): CKA "))
    assert lines[total + 1].startswith("sg beyond decoupling (greedy) (n = 3 seeds): CKA ")
    assert lines[-1] == "Report: out/report.html"
    table = pd.read_csv("out/attribution.csv")
    assert len(table) == 3 * 2  # contrasts and steps
    command = json.loads(Path("out/analysis.json").read_text())["command"]
    assert "--control 'decoupled=greedy/*'" in command
    assert "--align fraction" in command
    assert "--smallest-effect cka=0.05" in command
    again = repsim(f"compare bp/* sg/* --control decoupled=greedy/* --output out {FEW}")
    assert again == (0, said.out, "Nothing has changed since the last analysis.\n")


def test_the_command_that_is_stored_repeats_the_comparison(repsim: Repsim, place: Path) -> None:
    repsim(f"compare bp/* sg/* --control schedule-matched@sg=slow/* --output out --steps last {FEW}")
    before = pd.read_csv("out/attribution.csv")
    words = json.loads(Path("out/analysis.json").read_text())["command"].replace("'", "").split()
    assert words[:2] == ["repsim", "compare"]
    shutil.rmtree("out")
    assert repsim(" ".join(words[1:])).code == 0
    pd.testing.assert_frame_equal(pd.read_csv("out/attribution.csv"), before)


def test_the_summary_is_json_on_request(repsim: Repsim, place: Path) -> None:
    found = json.loads(repsim(f"compare bp/* sg/* --output out --json --quiet {FEW}").out)
    assert found["summary"][0].startswith("By the end of training, sg ")


MISTAKES = {
    "a pattern without runs": ("compare bp/* nothing/*", "No run matches 'nothing/*'."),
    "a control without runs": ("compare bp/* sg/* --control decoupled=nothing/*", "No run matches 'nothing/*'."),
    "a control that is no run": ("compare bp/* sg/* --control decoupled=no", "There is no run no for the control"),
    "a control that is a folder": (
        "compare bp/* sg/* --control decoupled=greedy",
        "greedy is a folder of 3 runs. Name all of them by",
    ),
    "a control without a role": ("compare bp/* sg/* --control greedy/*", "control is 'greedy/*'; expected ROLE=RUNS"),
    "an unknown role": (
        "compare bp/* sg/* --control placebo=greedy/*",
        "Unknown role 'placebo' of a control. Choose one of: schedule-matched, accuracy-matched, decoupled,",
    ),
    "an unknown method": (
        "compare bp/* sg/* --control decoupled@dfa=greedy/*",
        "Arm 'greedy' is a control for 'dfa', which is no method. Choose one of: sg.",
    ),
    "a control that does not hold its role": (
        "compare bp/* sg/* --control schedule-matched=short/*",
        "Arm 'short' is schedule-matched for 'sg', but its learning_rate is 0.01, and that of 'sg' is 0.003.",
    ),
    "one seed": (
        "compare bp/seed-0 sg/seed-0 --control decoupled=greedy/seed-0",
        "Arm 'bp' has 1 network; an effect needs 3 seeds or more per arm. Train more seeds.",
    ),
    "a seed twice": ("compare bp/* sg/* sg/seed-0 --control decoupled=greedy/*", "Arm 'sg' has seed 0 twice"),
    "no method": (
        "compare bp/* --control decoupled=greedy/*",
        "There is no arm with the role 'method'; expected one or more.",
    ),
    "an unknown quantity": (
        "compare bp/* sg/* --smallest-effect hsic=0.1",
        "Unknown quantity 'hsic' in smallest_effects. Choose one of: cka, similarity, class_structure, log_dimension, ",
    ),
    "no size": ("compare bp/* sg/* --smallest-effect cka", "smallest effect is 'cka'; expected QUANTITY=SIZE"),
    "an unknown alignment": ("compare bp/* sg/* --align loss", "Unknown align 'loss'. Choose one of: fraction, step,"),
    "an unknown step": (
        "compare bp/* sg/* --control decoupled=greedy/* --steps 30%",
        "'30%' is not a fraction that all arms recorded. Use first, last, all or any of: 50%, 100%.",
    ),
    "no file": ("compare missing.toml", "missing.toml: No such file or directory."),
    "a file without arms": ("compare plain.toml", "plain.toml has no [arms.NAME]; a comparison needs arms with roles."),
    "a file of an untrained design": (
        "compare design.toml",
        "Arm 'bp': there is no run runs/design/bp/seed-0. Train it by repsim sweep design.toml.",
    ),
    "power of single networks": (
        "power bp/seed-0 sg/seed-0",
        "There are no two arms of three seeds or more; train a pilot of the reference and each method",
    ),
    "power of a missing file": ("power missing.toml", "missing.toml: No such file or directory."),
    "power of an untrained design": ("power design.toml", "Arm 'bp': there is no run runs/design/bp/seed-0."),
    "power with too few seeds": ("power bp/* sg/* --seeds 2,5", "n_seeds has 2; expected 3 or more seeds per arm."),
    "power with seeds of words": ("power bp/* sg/* --seeds few", "seeds is 'few'; expected whole numbers with commas"),
    "power of a small effect": ("power bp/* sg/* --effect 1", "effect is 1.0; expected more than 1 times the smallest"),
    "power by an unknown measure": ("power bp/* sg/* --measures hsik", "Unknown measure 'hsik'. Choose one of: cka"),
    "power into a run": ("power bp/* sg/* --output bp/seed-0", "bp/seed-0 is a run; choose another folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_writes_nothing(repsim: Repsim, place: Path, mistake: str) -> None:
    Path("plain.toml").write_text("[grid]\nseed = [0]\n")
    Path("design.toml").write_text(
        "[grid]\nseed = '0-2'\n[arms.bp]\nrole = 'reference'\n[arms.sg]\nrole = 'method'\nrule = 'noise'\n"
    )
    before = set(place.rglob("*"))
    line, words = MISTAKES[mistake]
    said = repsim(line)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"repsim: {words}")
    assert said.err.count("\n") == 1
    assert set(place.rglob("*")) == before


def test_arms_on_other_stimuli_are_refused(repsim: Repsim, place: Path) -> None:
    for seed in (0, 1, 2):
        line = f"train fewer/seed-{seed} --data digits --depth 2 --width 4 --epochs 1 --batch-size 600 --seed {seed}"
        assert repsim(f"{line} --n-test 20 --quiet").code == 0
    said = repsim("compare bp/* fewer/* --control decoupled=greedy/*")
    assert said.code == 2
    assert said.err.startswith("repsim: Arm 'fewer': fewer/seed-0 and bp/seed-0 recorded different stimuli: ")
    assert said.err.count("\n") == 1


def test_a_control_that_failed_to_train_is_named(repsim: Repsim, place: Path, arm_runs: Paths) -> None:
    shutil.copytree(arm_runs["greedy"][0].parent, "failed")
    info = json.loads(Path("failed/seed-1/run.json").read_text())
    info["status"]["state"] = "diverged"
    Path("failed/seed-1/run.json").write_text(json.dumps(info))
    said = repsim("compare bp/* sg/* --control decoupled=failed/*")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "repsim: Arm 'failed': failed/seed-1 is diverged, not finished. Finish its training, or leave the run out.\n"
    )
