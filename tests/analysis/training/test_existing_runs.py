import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis import Interrupted, RecordingConfig, fork_run, train_run, train_seeds
from analysis.training.existing_runs import existing_run, remove_replaced
from checkpoints import Run
from checkpoints.storage.lock import Lock, Locked
from repsim.learning import TrainingConfig

Copied = Callable[[str], Path]


def contents(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def test_a_finished_run_of_the_same_settings_is_returned_unchanged(
    copied: Copied, tiny: TrainingConfig, few: RecordingConfig
) -> None:
    path = copied("backprop")
    before = contents(path)
    assert train_run(path, tiny, few, exists="resume").status["state"] == "finished"
    assert contents(path) == before


def test_an_unfinished_run_is_continued_to_the_same_end(
    copied: Copied,
    tiny: TrainingConfig,
    few: RecordingConfig,
    learned: Callable[[Path], dict[str, Any]],
    at_update: Callable[..., Any],
    tmp_path: Path,
) -> None:
    with pytest.raises(Interrupted):
        train_run(tmp_path / "run", tiny, few, progress=at_update(10))
    train_run(tmp_path / "run", tiny, few, exists="resume")
    assert learned(tmp_path / "run") == learned(copied("backprop"))


def test_a_run_of_other_settings_is_not_continued(copied: Copied, tiny: TrainingConfig, few: RecordingConfig) -> None:
    path = copied("backprop")
    expected = (
        r"backprop was made with other settings \(training\.depth 3 there, 5 here\)\. Choose another name, or give"
    )
    with pytest.raises(ValueError, match=expected):
        train_run(path, replace(tiny, depth=5), few, exists="resume")
    with pytest.raises(ValueError, match=r"other settings \(recording\.n_test 60 there, 61 here\)"):
        train_run(path, tiny, replace(few, n_test=61), exists="resume")


def test_settings_that_an_older_run_does_not_state_are_not_compared(copied: Copied) -> None:
    path = copied("backprop")
    assert existing_run(path, "resume", {"training": {"depth": 3, "later": 1}}) is not None
    with pytest.raises(ValueError, match="source null there"):
        existing_run(path, "resume", {"source": {"model": "my:net"}})


def test_a_replaced_run_is_trained_anew(copied: Copied, tiny: TrainingConfig, few: RecordingConfig) -> None:
    path = copied("backprop")
    (path / ".DS_Store").write_text("system")
    run = train_run(path, replace(tiny, depth=2, epochs=1), few, exists="replace")
    assert run.config["training"]["depth"] == 2
    assert sorted(each.name for each in path.parent.iterdir()) == ["backprop"]
    assert not (path / ".DS_Store").exists()


@pytest.mark.parametrize(
    "name", ["notes.txt", "checkpoints/mine.txt", "checkpoints/step_00000038/mine.txt", "analysis/probes.csv"]
)
def test_a_run_that_holds_files_of_the_user_is_not_replaced(
    copied: Copied, tiny: TrainingConfig, few: RecordingConfig, name: str
) -> None:
    path = copied("backprop")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text("mine")
    before = contents(path)
    with pytest.raises(
        FileExistsError, match=f"backprop holds {name}, which is no file of the run.* Move that file away"
    ):
        train_run(path, tiny, few, exists="replace")
    assert contents(path) == before


def test_only_run_directories_are_replaced(tmp_path: Path, copied: Copied) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(copied("backprop"))
    for name in ("mine", "file", "link"):
        with pytest.raises(FileExistsError, match=f"{name} is not a run directory, so it is not replaced"):
            existing_run(tmp_path / name, "replace", {})
        with pytest.raises(
            FileExistsError, match=f"{name} exists already. Choose another name, or give --exists resume"
        ):
            existing_run(tmp_path / name, "error", {})
    assert existing_run(tmp_path / "absent", "replace", {}) is None


def test_a_run_that_is_being_written_is_not_replaced(copied: Copied) -> None:
    path = copied("backprop")
    lock = Lock(path / "run.lock")
    try:
        with pytest.raises(Locked, match="backprop is being written or analyzed by a process, so it is not replaced"):
            existing_run(path, "replace", {})
        with pytest.raises(Locked):
            remove_replaced(path, "replace")
    finally:
        lock.release()
    remove_replaced(path, "resume")
    assert path.is_dir()
    remove_replaced(path, "replace")
    assert list(path.parent.iterdir()) == []


def test_a_new_run_that_fails_leaves_the_old_one(copied: Copied, tiny: TrainingConfig, few: RecordingConfig) -> None:
    path = copied("backprop")
    before = contents(path)
    with pytest.raises(ValueError, match="absent"):
        train_run(path, tiny, replace(few, layers=("absent",)), exists="replace")
    assert contents(path) == before


def test_an_unknown_choice_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="error, resume, replace"):
        existing_run(tmp_path / "run", "overwrite", {})


def test_seeds_are_continued_added_or_replaced(tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig) -> None:
    training = replace(tiny, epochs=1)
    first = train_seeds(tmp_path, training, few, seeds="1", how="loop")
    runs = train_seeds(tmp_path, training, few, seeds="0-1", how="loop", exists="resume")
    assert [run.path.name for run in runs] == ["seed-0", "seed-1"]
    assert runs[1].info["uuid"] == first[0].info["uuid"]
    again = train_seeds(tmp_path, training, few, seeds="0-1", how="loop", exists="replace")
    assert {run.info["uuid"] for run in again}.isdisjoint(run.info["uuid"] for run in runs)
    with pytest.raises(ValueError, match=r"seed-0 was made with other settings \(training\.width 16 there, 8 here"):
        train_seeds(tmp_path, replace(training, width=8), few, seeds="0-1", exists="resume")


def test_a_fork_is_continued_only_from_its_own_source(copied: Copied, tmp_path: Path, few: RecordingConfig) -> None:
    source = copied("backprop")
    fork = fork_run(tmp_path / "fork", source, 0)
    assert fork_run(fork.path, source, 0, exists="resume").info["uuid"] == fork.info["uuid"]
    training = TrainingConfig.from_dict(fork.config["training"])
    with pytest.raises(ValueError, match=r"fork was made with other settings \(forked_from"):
        train_run(fork.path, training, RecordingConfig.from_dict(fork.config["recording"]), exists="resume")
    with pytest.raises(ValueError, match="other settings"):
        fork_run(shutil.copytree(source, tmp_path / "plain"), source, 0, exists="resume")
    assert Run.open(fork_run(fork.path, source, 0, exists="replace").path).info["uuid"] != fork.info["uuid"]


@pytest.mark.parametrize("changes", [{"clip_norm": 0.5}, {"warmup": 3}, {"weight_decay": 0.1}])
def test_settings_that_a_run_leaves_out_at_their_defaults_are_compared(
    copied: Copied, tiny: TrainingConfig, few: RecordingConfig, tmp_path: Path, changes: dict[str, Any]
) -> None:
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=rf"made with other settings \(training\.{name} \S+ there, {value} here\)"):
        train_run(copied("backprop"), replace(tiny, **changes), few, exists="resume")
    train_run(tmp_path / "run", replace(tiny, epochs=1, **changes), few)
    with pytest.raises(ValueError, match=rf"made with other settings \(training\.{name} {value} there, \S+ here\)"):
        train_run(tmp_path / "run", replace(tiny, epochs=1), few, exists="resume")


@pytest.mark.parametrize("signals", [False, True])
def test_a_run_without_signals_is_not_continued_as_one_with_them(
    tiny: TrainingConfig, few: RecordingConfig, tmp_path: Path, signals: bool
) -> None:
    training = replace(tiny, epochs=1)
    train_run(tmp_path / "run", training, replace(few, record_signals=signals))
    with pytest.raises(ValueError, match=r"made with other settings \(recording\.record_signals "):
        train_run(tmp_path / "run", training, replace(few, record_signals=not signals), exists="resume")
