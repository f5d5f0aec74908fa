import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from analysis import train_run
from analysis.comparison.view import View, views_of_run, views_of_runs
from analysis.config.recording import RecordingConfig
from checkpoints import Capture, Damaged, Run, Stimuli
from repsim.learning import TrainingConfig


def test_the_steps_of_a_run_are_named_by_their_number(runs: Mapping[str, Path]) -> None:
    views = views_of_run(runs["backprop"], "all")
    assert [(view.label, view.step) for view in views] == [("untrained", 0), ("step 38", 38)]


def test_a_step_that_was_not_recorded_is_refused(runs: Mapping[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"backprop: '20' is not a recorded step\. Use .* all or any of: 0, 38\.$"):
        views_of_run(runs["backprop"], "20")


def test_a_run_without_activations_is_refused(copied: Callable[[str], Path]) -> None:
    path = copied("backprop")
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(FileNotFoundError, match="has no checkpoint with activations yet"):
        views_of_run(path, "last")


def test_runs_are_named_by_their_folders_and_seen_at_their_ends(runs: Mapping[str, Path]) -> None:
    views = views_of_runs(list(runs.values()))
    assert [view.label for view in views] == list(runs)
    assert {view.step for view in views} == {38}


def test_runs_of_one_seed_each_are_named_by_their_method_too(runs: Mapping[str, Path], tmp_path: Path) -> None:
    paths = [tmp_path / "bp" / "seed-0", tmp_path / "sg" / "seed-1"]
    for path, source in zip(paths, (runs["backprop"], runs["synthetic"]), strict=True):
        shutil.copytree(source, path)
    assert [view.label for view in views_of_runs(paths)] == ["bp/seed-0", "sg/seed-1"]


def test_folders_of_one_name_are_told_apart_by_their_parents(
    tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig
) -> None:
    paths = [tmp_path / "a" / "sub" / "run", tmp_path / "b" / "sub" / "run"]
    for path in paths:
        train_run(path, tiny, few)
    assert [view.label for view in views_of_runs(paths)] == ["a/sub/run", "b/sub/run"]


def test_one_run_is_no_comparison(runs: Mapping[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"^1 run was given; a comparison needs two or more\.$"):
        views_of_runs([runs["backprop"]])


def test_a_run_is_known_by_any_of_its_paths(runs: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs["backprop"])
    with pytest.raises(ValueError, match=r"^The same run was given twice; each run can be compared once\.$"):
        views_of_runs([runs["backprop"], runs["synthetic"], "."])


@pytest.mark.parametrize("change", [{"split_seed": 1}, {"n_test": 50}])
def test_runs_on_different_stimuli_are_refused(
    runs: Mapping[str, Path], tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig, change: dict
) -> None:
    other = tmp_path / "other"
    settings = replace(tiny, **change) if "split_seed" in change else tiny
    train_run(other, settings, few if "split_seed" in change else replace(few, **change))
    with pytest.raises(
        ValueError, match=r"other and .*backprop recorded different stimuli: .* Train or record both with the same d"
    ):
        views_of_runs([runs["backprop"], other])


def test_activations_are_verified_before_they_are_read(copied: Callable[[str], Path]) -> None:
    view = views_of_run(copied("backprop"), "last")[0]
    file = view.run.path / "checkpoints/step_00000038/activations.h5"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(Damaged, match=r"step_00000038/activations\.h5 has changed since it was committed"):
        _ = view.activations


def test_rows_are_those_of_one_part(known_view: Callable[..., View]) -> None:
    split = ["train", "test", "validation", "test"]
    view = known_view("x", np.eye(4), [0, 0, 1, 1], [np.eye(4)], split=split)
    assert view.rows("test").tolist() == [1, 3]
    assert view.rows("train").tolist() == [0]


def test_classes_have_the_names_of_the_data_set(runs: Mapping[str, Path]) -> None:
    assert views_of_run(runs["backprop"], "last")[0].classes == {digit: str(digit) for digit in range(10)}


def test_classes_have_the_names_that_the_stimuli_give_them(tmp_path: Path) -> None:
    stimuli = Stimuli.of(["a", "b"], ["owl", "cat"], ["train", "test"], np.ones((2, 2)))
    with Run.create(tmp_path / "run", {"data": {"classes": ["0", "1"]}}, stimuli) as run:
        assert View("run", run, 0).classes == {0: "cat", 1: "owl"}


def test_classes_of_another_trainer_are_named_by_their_labels(known_view: Callable[..., View]) -> None:
    view = known_view("x", np.eye(3), [0, 2, 2], [np.eye(3)], config={"data": "mine", "training": "long"})
    assert view.classes == {0: "0", 2: "2"}


def test_runs_with_the_same_stimuli_but_another_split_are_not_compared(tmp_path: Path) -> None:
    for name, split in (("a", ["train", "test"]), ("b", ["test", "train"])):
        stimuli = Stimuli.of(["x", "y"], [0, 1], split, np.eye(2))
        model = nn.Sequential(nn.Linear(2, 2))
        capture = Capture(model, ["0"])
        with Run.create(tmp_path / name, {}, stimuli) as run:
            run.checkpoint(0, model, capture=capture)
    with pytest.raises(ValueError, match="recorded different stimuli"):
        views_of_runs([tmp_path / "a", tmp_path / "b"])


def test_step_0_of_another_trainer_is_not_called_untrained(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    stimuli = Stimuli.of(["x", "y"], [0, 1], ["train", "test"], np.eye(2))
    capture = Capture(model, ["0"])
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        run.checkpoint(0, model, capture=capture)
    assert [view.label for view in views_of_run(tmp_path / "run", "all")] == ["step 0"]
