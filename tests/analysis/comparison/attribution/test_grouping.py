"""Runs of a command line as arms."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from analysis.comparison.attribution.grouping import arms_of, expand, groups_of
from analysis.comparison.view import View
from analysis.config.comparison_design import DesignConfig

Paths = Mapping[str, tuple[Path, ...]]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("seed-10", "seed-2", "seed-1", "other", "a[1]"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize("absolute", [True, False])
def test_a_pattern_is_expanded_in_the_order_of_its_numbers(folders: Path, absolute: bool) -> None:
    start = folders if absolute else Path()
    assert expand(start / "seed-*") == [start / f"seed-{k}" for k in (1, 2, 10)]


def test_a_path_is_itself_even_if_it_looks_like_a_pattern(folders: Path) -> None:
    assert expand("a[1]") == [Path("a[1]")]
    assert expand("missing") == [Path("missing")]


def test_a_pattern_without_a_match_is_refused(folders: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No run matches 'seeds-\*'\."):
        expand("seeds-*")


@pytest.mark.parametrize("written", ["analysis.json", "cache/lock"])
def test_a_pattern_leaves_out_an_analysis_beside_the_runs(folders: Path, written: str) -> None:
    file = folders / "other" / written
    file.parent.mkdir(exist_ok=True)
    file.write_text("{}")
    assert expand("[os]*") == [Path(f"seed-{k}") for k in (1, 2, 10)]
    assert expand("oth*") == [Path("other")]


def test_an_analysis_named_as_a_run_is_refused(folders: Path) -> None:
    (folders / "other" / "analysis.json").write_text("{}")
    with pytest.raises(
        FileNotFoundError, match=r"^other is the folder of an analysis and not a run\. Leave it out; .*'\*'"
    ):
        groups_of(["other"])


def test_a_folder_of_runs_names_the_pattern_of_all(folders: Path) -> None:
    for name in ("seed-1", "seed-2"):
        (folders / name / "run.json").write_text("{}")
    message = rf"{folders} is a folder of 2 runs\. Name all of them by the pattern '{folders}/\*', or one, such as"
    with pytest.raises(FileNotFoundError, match=message):
        expand(folders)
    assert expand(folders / "seed-1") == [folders / "seed-1"]


def test_runs_that_differ_in_their_seeds_only_are_a_group_in_the_given_order(arm_runs: Paths) -> None:
    mixed = [arm_runs["sg"][0], arm_runs["bp"][1], arm_runs["sg"][2], arm_runs["bp"][0]]
    assert groups_of(mixed) == {
        "sg": (arm_runs["sg"][0], arm_runs["sg"][2]),
        "bp": (arm_runs["bp"][1], arm_runs["bp"][0]),
    }


def test_a_group_has_the_name_of_the_folder_of_its_runs(arm_runs: Paths, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(arm_runs["slow"][0], tmp_path / "alone"))
    again = [Path(shutil.copytree(arm_runs["greedy"][k], tmp_path / "bp" / f"seed-{k}")) for k in (0, 1)]
    groups = groups_of([*arm_runs["bp"], arm_runs["sg"][0], alone, *again])
    assert list(groups) == ["bp", "sg", "alone", "bp (2)"]
    assert groups["bp (2)"] == tuple(again)


def test_runs_that_were_trained_elsewhere_are_grouped_by_their_folder(
    known_view: Callable[..., View], tmp_path: Path
) -> None:
    maps = [np.eye(4)]
    for name in ("a/1", "b/1", "a/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        known_view(name, np.eye(4), [0, 1, 0, 1], maps, config={"mine": name})
    paths = [tmp_path / name for name in ("a/1", "b/1", "a/2")]
    assert groups_of(paths) == {"a": (paths[0], paths[2]), "1": (paths[1],)}


def test_the_first_group_is_the_reference_and_others_are_methods(arm_runs: Paths) -> None:
    arms = arms_of([*arm_runs["bp"], *arm_runs["sg"], *arm_runs["slow"]], DesignConfig())
    assert [(arm.name, arm.role) for arm in arms] == [("bp", "reference"), ("sg", "method"), ("slow", "method")]


def test_without_controls_small_groups_are_no_arms(arm_runs: Paths) -> None:
    arms = arms_of([*arm_runs["bp"], *arm_runs["sg"], *arm_runs["slow"][:2]], DesignConfig())
    assert [arm.name for arm in arms] == ["bp", "sg"]
    assert arms_of([*arm_runs["bp"], *arm_runs["sg"][:2]], DesignConfig()) == []
    assert arms_of(arm_runs["bp"], DesignConfig()) == []


def test_controls_are_arms_with_a_role_and_a_method(arm_runs: Paths) -> None:
    patterns = [arm_runs[name][0].parent / "seed-*" for name in ("slow", "greedy", "bp")]
    config = DesignConfig(
        controls=(
            f"schedule-matched={patterns[0]}",
            f"decoupled@sg={patterns[1]}",
            f"reseeded={patterns[2]}",
            f"accuracy-matched={patterns[2]}",
            f"accuracy-matched={patterns[2]}",
        )
    )
    arms = arms_of([*arm_runs["bp"], *arm_runs["sg"]], config)[2:]
    assert [(arm.name, arm.role, arm.method) for arm in arms] == [
        ("slow", "schedule-matched", ""),
        ("greedy", "decoupled", "sg"),
        ("reseeded", "reseeded", ""),
        ("accuracy-matched", "accuracy-matched", ""),
        ("bp (accuracy-matched)", "accuracy-matched", ""),
    ]
    assert arms[0].paths == arm_runs["slow"]


@pytest.mark.parametrize(
    ("pattern", "words"), [("no/*", "No run matches 'no/*'"), ("no", "There is no run no for the")]
)
def test_a_control_without_runs_is_refused(arm_runs: Paths, pattern: str, words: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        arms_of([*arm_runs["bp"], *arm_runs["sg"]], DesignConfig(controls=(f"decoupled={pattern}",)))
    assert words in str(caught.value)
