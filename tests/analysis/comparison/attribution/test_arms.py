import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from analysis import fork_run, train_seeds
from analysis.comparison.attribution.arms import Arm, differing_settings, open_arms
from analysis.comparison.attribution.contrasts import Member
from analysis.training.setup import configurations
from checkpoints import Run

Paths = Mapping[str, tuple[Path, ...]]


def design(paths: Paths, *controls: Arm) -> list[Arm]:
    return [Arm("bp", "reference", paths["bp"]), Arm("sg", "method", paths["sg"]), *controls]


def test_members_have_the_seeds_and_splits_of_their_runs(arm_runs: Paths) -> None:
    reference, method = open_arms(design(arm_runs))
    assert reference.members == tuple(Member("bp", seed, 0) for seed in (0, 1, 2))
    assert method.training is not None
    assert method.training["rule"] == "synthetic-gradient"


@pytest.mark.parametrize(
    ("name", "role"), [("slow", "schedule-matched"), ("greedy", "decoupled"), ("short", "truncated")]
)
def test_controls_that_hold_their_role_are_accepted(arm_runs: Paths, name: str, role: str) -> None:
    assert len(open_arms(design(arm_runs, Arm(name, role, arm_runs[name], "sg")))) == 3


@pytest.mark.parametrize(
    ("name", "role", "words"),
    [
        ("bp", "schedule-matched", r"learning_rate is 0\.01, and that of 'sg' is 0\.003"),
        ("greedy", "schedule-matched", "rule is decoupled-greedy, and that of 'bp' is backprop"),
        ("short", "decoupled", "learning_rate"),
        ("greedy", "truncated", "rule"),
        ("slow", "reseeded", "learning_rate"),
    ],
)
def test_controls_that_do_not_hold_their_role_are_refused(arm_runs: Paths, name: str, role: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"Arm 'control' is {role} for 'sg', but its {words}"):
        open_arms(design(arm_runs, Arm("control", role, arm_runs[name])))


def test_networks_of_an_arm_may_differ_in_seeds_only(arm_runs: Paths) -> None:
    mixed = Arm("mixed", "schedule-matched", (*arm_runs["slow"][:2], arm_runs["bp"][2]))
    with pytest.raises(ValueError, match=r"differ in epochs \(2 and 3\), learning_rate \(0\.01 and 0\.003\)"):
        open_arms(design(arm_runs, mixed))


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        (lambda p: [Arm("bp", "reference", p["bp"])], "no arm with the role 'method'"),
        (lambda p: [Arm("sg", "method", p["sg"])], "0 arms with the role 'reference'; expected one"),
        (lambda p: [*design(p), Arm("bp2", "reference", p["bp"])], "2 arms with the role 'reference'"),
        (lambda p: design(p, Arm("bp", "reseeded", p["bp"])), "Two arms are called 'bp'"),
        (lambda p: design(p, Arm("x", "placebo", p["bp"])), "'x': unknown role 'placebo'. Choose one of: reference"),
        (lambda p: design(p, Arm("x", "decoupled", ())), r"'x' \(decoupled\) has no runs"),
        (lambda p: design(p, Arm("x", "reseeded", p["bp"], "no")), "control for 'no', which is no method.*one of: sg"),
        (lambda p: design(p, Arm("x", "reseeded", p["bp"][:1])), "'x' has 1 network; an effect needs 3 seeds"),
        (lambda p: design(p, Arm("x", "reseeded", (*p["bp"], p["bp"][0]))), "'x' has seed 0 twice"),
    ],
)
def test_wrong_designs_are_explained(arm_runs: Paths, arms: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_arms(arms(arm_runs))  # type: ignore[operator]


def test_a_control_that_failed_to_train_is_named(arm_runs: Paths, tmp_path: Path) -> None:
    failed = tmp_path / "seed-0"
    shutil.copytree(arm_runs["slow"][0], failed)
    info = json.loads((failed / "run.json").read_text())
    info["status"]["state"] = "diverged"
    (failed / "run.json").write_text(json.dumps(info))
    arm = Arm("slow", "schedule-matched", (failed, *arm_runs["slow"][1:]))
    with pytest.raises(ValueError, match=r"Arm 'slow': .*seed-0 is diverged, not finished"):
        open_arms(design(arm_runs, arm))


def test_arms_on_other_stimuli_are_refused(arm_runs: Paths, tmp_path: Path) -> None:
    training, recording = configurations(Run.open(arm_runs["sg"][0]))
    fewer = train_seeds(tmp_path / "sg", training, replace(recording, n_test=50), seeds=[0, 1, 2])
    arms = [Arm("bp", "reference", arm_runs["bp"]), Arm("sg", "method", tuple(run.path for run in fewer))]
    with pytest.raises(ValueError, match=r"Arm 'sg': .*seed-0 and .* recorded different stimuli"):
        open_arms(arms)


def test_settings_that_differ_are_listed_with_both_values(arm_runs: Paths) -> None:
    first, second = (Run.open(arm_runs[name][0]).config for name in ("bp", "slow"))
    assert differing_settings(first, second) == {"epochs": (2, 3), "learning_rate": (0.01, 0.003)}


def test_a_fork_is_not_one_of_the_networks_trained_with_its_rule(arm_runs: Paths, tmp_path: Path) -> None:
    source = Run.open(arm_runs["bp"][0])
    fork = fork_run(tmp_path / "fork", source.path, source.steps[-2])
    assert differing_settings(source.config, fork.config) == {"fork_step": (None, source.steps[-2])}
    paths = (fork.path, *arm_runs["bp"][1:])
    with pytest.raises(ValueError, match=r"differ in fork_step .*; networks of one arm may differ in their seeds only"):
        open_arms([Arm("bp", "reference", paths), Arm("sg", "method", arm_runs["sg"])])
