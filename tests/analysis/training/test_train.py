import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from rich.console import Console

from analysis import Interrupted, analyze_run, compare_runs, resume_run, train_run
from analysis.config.recording import RecordingConfig
from analysis.execution.progress import Reporter
from analysis.training import recorder
from analysis.training.setup import choose_stimuli
from checkpoints import Locked, Run
from repsim.learning import Diverged, TrainingConfig, load_dataset, split_dataset

AtUpdate = Callable[..., Reporter]
Learned = Callable[[Path], dict[str, Any]]

LAST = 38  # two epochs of 19 updates


def crash() -> None:
    raise RuntimeError("power cut")


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# What a run directory holds


def test_a_run_directory_is_as_documented(runs: Mapping[str, Path], tiny: TrainingConfig, few: RecordingConfig) -> None:
    path = runs["synthetic"]
    step = {"MANIFEST.json", "activations.h5", "optimizer.safetensors", "state.json", "weights.safetensors"}
    assert set(files(path)) == {"run.json", "run.lock", "metrics.jsonl", "stimuli.h5"} | {
        f"checkpoints/step_{number:08d}/{name}" for number in (0, LAST) for name in step
    }
    info = json.loads((path / "run.json").read_text())
    assert (info["format"], info["format_version"]) == ("repsim-run", 1)
    rule = {"rule": "synthetic-gradient", "boundaries": "middle"}
    assert info["config"]["training"] == tiny.to_dict() | rule
    assert info["config"]["boundaries"] == {"synthetic-gradient": [1]}
    assert info["config"]["recording"] == few.to_dict()
    assert info["config"]["data"] == {
        "name": "digits",
        "data_dir": None,
        "n_features": 64,
        "shape": [1, 8, 8],
        "classes": list("0123456789"),
        "sha256": load_dataset("digits").sha256,
        "n_train": 1259,
        "n_validation": 179,
        "n_test": 359,
    }
    assert {"threads", "python", "packages"} <= set(info["environment"])
    status = info["status"]
    assert (status["state"], status["step"], status["n_steps"], status["n_test"]) == ("finished", LAST, LAST, 359)
    assert 0.2 < status["test_accuracy"] <= 1
    assert Run.open(path).verify() == [0, LAST]
    assert list(Run.open(path).last().activations) == ["hidden.1", "hidden.2", "hidden.3"]


def test_every_update_is_logged_and_every_epoch_validated(runs: Mapping[str, Path]) -> None:
    records = Run.open(runs["synthetic"]).metrics()
    assert [record["step"] for record in records] == list(range(1, LAST + 1))
    assert [record["epoch"] for record in records] == [1] * 19 + [2] * 19
    assert [record["step"] for record in records if "validation_accuracy" in record] == [19, LAST]
    assert all(list(record["estimator_losses"]) == ["1"] for record in records)
    assert not any("estimator_losses" in record for record in Run.open(runs["backprop"]).metrics())


def test_the_loss_falls_during_training(runs: Mapping[str, Path]) -> None:
    for path in runs.values():
        first, *_, last = Run.open(path).metrics()
        assert last["loss"] < first["loss"]


@pytest.mark.parametrize(
    ("steps", "recorded"),
    [("last", [LAST]), ("first,log:3", [0, 1, 6, LAST]), ("every:15,7", [7, 15, 30]), ("19", [19])],
)
def test_the_steps_asked_for_are_recorded(
    tmp_path: Path, tiny: TrainingConfig, steps: str, recorded: list[int]
) -> None:
    run = train_run(tmp_path / "run", tiny, RecordingConfig(steps=steps, layers=("output",), n_train=20, compress=True))
    assert run.recorded_steps == recorded
    assert run.steps == sorted({*recorded, LAST})  # the last weights are always kept
    assert list(run.last().activations) == ["output"]
    with h5py.File(run.last().path / "activations.h5") as file:
        assert file["layers/0000/data"].compression == "gzip"


@pytest.mark.usefixtures("blank_figures")
def test_no_epochs_make_an_untrained_network(tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig) -> None:
    run = train_run(tmp_path / "run", replace(tiny, epochs=0), few)
    assert run.steps == [0]
    assert run.status["state"] == "finished"
    assert analyze_run(run.path).tables["training"].empty


# Stimuli


def test_stimuli_are_balanced_over_classes_and_belong_to_their_parts() -> None:
    dataset = load_dataset("digits")
    split = split_dataset(dataset, seed=3)
    stimuli = choose_stimuli(dataset, split, {"train": 100, "validation": 20, "test": 9999}, seed=3)
    for part, size in {"train": 100, "validation": 20, "test": 359}.items():
        chosen = np.flatnonzero(stimuli.split == part)
        assert len(chosen) == size
        assert {int(stimuli.ids[row]) for row in chosen} <= set(split[part].tolist())
        if part != "test":
            assert np.bincount(stimuli.labels[chosen]).tolist() == [size // 10] * 10
    indices = stimuli.ids.astype(int)
    assert (np.diff(stimuli.labels) >= 0).all()
    np.testing.assert_array_equal(stimuli.labels, dataset.y[indices])
    np.testing.assert_array_equal(stimuli.inputs, dataset.X[indices])


def test_stimuli_are_a_function_of_the_seed() -> None:
    dataset = load_dataset("digits")
    sizes = {"train": 30, "validation": 10, "test": 10}
    first, again, other = (
        choose_stimuli(dataset, split_dataset(dataset, 0), sizes, seed).content_hash for seed in (0, 0, 1)
    )
    assert first == again != other


# The same numbers again


@pytest.mark.parametrize("name", ["backprop", "synthetic"])
def test_the_same_seed_gives_the_same_bits(
    runs: Mapping[str, Path], tmp_path: Path, few: RecordingConfig, name: str, learned: Learned
) -> None:
    settings = TrainingConfig.from_dict(Run.open(runs[name]).config["training"])
    train_run(tmp_path / "again", settings, few)
    assert learned(tmp_path / "again") == learned(runs[name])


def test_another_seed_gives_other_weights(
    runs: Mapping[str, Path], tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig, learned: Learned
) -> None:
    train_run(tmp_path / "other", replace(tiny, seed=1), few)
    assert learned(tmp_path / "other")["weights"] != learned(runs["backprop"])["weights"]


def test_training_uses_its_own_number_of_threads_and_restores_that_of_the_caller(
    tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig, at_update: AtUpdate
) -> None:
    seen, before = [], torch.get_num_threads()
    settings = replace(tiny, threads=before + 1, batch_size=600, epochs=1)
    watch = at_update(1, lambda: seen.append(torch.get_num_threads()))
    run = train_run(tmp_path / "run", settings, few, progress=watch)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
    assert run.config["training"]["threads"] == before + 1


@pytest.mark.parametrize("layers", [("hidden",), ("hidden.1#1",), ("hidden.9",), ("hidden.*", "nothing")])
def test_a_layer_that_cannot_be_recorded_is_found_before_anything_is_written(
    tmp_path: Path, tiny: TrainingConfig, layers: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r"'hidden\.1#1' .*no tensor|No layer matches"):
        train_run(tmp_path / "run", tiny, RecordingConfig(layers=layers))
    assert list(tmp_path.iterdir()) == []


# Interruption


@pytest.mark.parametrize("update", [1, 19, 25, LAST])
def test_an_interrupted_and_resumed_run_equals_the_uninterrupted_one(
    runs: Mapping[str, Path], tmp_path: Path, few: RecordingConfig, update: int, at_update: AtUpdate, learned: Learned
) -> None:
    settings = TrainingConfig.from_dict(Run.open(runs["synthetic"]).config["training"])
    path = tmp_path / "run"
    with pytest.raises(Interrupted, match=rf"^Stopped at step {update}, which is committed\. Continue with: repsim tr"):
        train_run(path, settings, few, progress=at_update(update))
    stopped = Run.open(path)
    assert (stopped.status["state"], stopped.status["step"]) == ("interrupted", update)
    assert stopped.steps == sorted({0, update})
    assert len(stopped.metrics()) == update
    assert resume_run(path).status["state"] == "finished"
    assert learned(path) == learned(runs["synthetic"])


def test_ctrl_c_before_the_first_update_stops_after_it(
    runs: Mapping[str, Path],
    tmp_path: Path,
    few: RecordingConfig,
    monkeypatch: pytest.MonkeyPatch,
    learned: Learned,
) -> None:
    def interrupted_create(*arguments: Any) -> Run:
        os.kill(os.getpid(), signal.SIGINT)
        return create(*arguments)

    settings, create = TrainingConfig.from_dict(Run.open(runs["synthetic"]).config["training"]), Run.create
    path = tmp_path / "run"
    with (
        monkeypatch.context() as patch,
        pytest.raises(Interrupted, match=r"^Stopped at step 1, .* repsim train .+ --r"),
    ):
        patch.setattr(Run, "create", interrupted_create)
        train_run(path, settings, few)
    resume_run(path)
    assert learned(path) == learned(runs["synthetic"])


def test_a_scheduled_rate_continues_after_resuming(
    tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig, at_update: AtUpdate, learned: Learned
) -> None:
    settings = replace(tiny, schedule="cosine", rule="synthetic-gradient:hidden_layers=1", boundaries="all")
    train_run(tmp_path / "whole", settings, few)
    for update in (10, 20):
        with pytest.raises(Interrupted):
            (train_run if update == 10 else resume_run)(
                tmp_path / "parts", *([settings, few] if update == 10 else []), progress=at_update(update)
            )
    resume_run(tmp_path / "parts")
    assert learned(tmp_path / "parts") == learned(tmp_path / "whole")


@pytest.mark.parametrize(("steps", "committed"), [("last", []), ("5,last", [5])])
def test_a_run_that_crashed_starts_again_from_its_last_commit(
    tmp_path: Path, tiny: TrainingConfig, steps: str, committed: list[int], at_update: AtUpdate, learned: Learned
) -> None:
    recording = RecordingConfig(steps=steps, n_train=20, n_validation=10, n_test=10)
    train_run(tmp_path / "whole", tiny, recording)
    with pytest.raises(RuntimeError, match="power cut"):
        train_run(tmp_path / "run", tiny, recording, progress=at_update(9, crash))
    crashed = Run.open(tmp_path / "run")
    assert (crashed.status["state"], crashed.steps, len(crashed.metrics())) == ("stopped", committed, 9)
    resume_run(tmp_path / "run")
    assert learned(tmp_path / "run") == learned(tmp_path / "whole")


def test_the_time_of_every_part_of_a_run_is_counted(
    tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig, monkeypatch: pytest.MonkeyPatch, at_update: AtUpdate
) -> None:
    clock = itertools.count(0.0, 100.0)  # every look at it takes 100 seconds
    monkeypatch.setattr(recorder, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(Interrupted):
        train_run(tmp_path / "run", tiny, few, progress=at_update(9))
    assert Run.open(tmp_path / "run").status["seconds"] == 100.0
    assert resume_run(tmp_path / "run").status["seconds"] == 200.0


def test_own_data_are_found_again_from_any_folder(
    tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig, monkeypatch: pytest.MonkeyPatch, at_update: AtUpdate
) -> None:
    np.savez(tmp_path / "mine.npz", X=np.random.default_rng(0).normal(size=(300, 5)), y=np.arange(300) % 3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Interrupted):
        train_run("run", replace(tiny, data="mine.npz"), few, progress=at_update(2))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resume_run("../run").status["state"] == "finished"


def test_resuming_a_finished_run_changes_nothing(copied: Callable[[str], Path]) -> None:
    path = copied("backprop")
    before = files(path)
    assert resume_run(path).status["state"] == "finished"
    assert files(path) == before


def test_a_run_is_not_continued_on_other_data_even_if_no_recorded_stimulus_differs(
    tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig, at_update: AtUpdate
) -> None:
    X, y = np.random.default_rng(0).normal(size=(300, 5)), np.arange(300) % 3
    np.savez(tmp_path / "mine.npz", X=X, y=y)
    settings = replace(tiny, data=str(tmp_path / "mine.npz"))
    with pytest.raises(Interrupted):
        train_run(tmp_path / "run", settings, few, progress=at_update(1))
    recorded = {int(each) for each in Run.open(tmp_path / "run").stimuli.ids}
    changed = X.copy()
    changed[min(set(range(300)) - recorded)] += 1
    np.savez(tmp_path / "mine.npz", X=changed, y=y)
    with pytest.raises(
        ValueError, match=r"^The data set .*mine\.npz has changed since .*run was trained on it\. Restore"
    ):
        resume_run(tmp_path / "run")
    np.savez(tmp_path / "mine.npz", X=X, y=y)
    assert resume_run(tmp_path / "run").status["state"] == "finished"


def test_a_run_that_is_being_written_is_not_continued(copied: Callable[[str], Path], few: RecordingConfig) -> None:
    path = copied("backprop")
    dataset = load_dataset("digits")
    sizes = {"train": few.n_train, "validation": few.n_validation, "test": few.n_test}
    with Run.resume(path, choose_stimuli(dataset, split_dataset(dataset, 0), sizes, 0)) as writer:
        writer.set_status("running")
        with pytest.raises(Locked, match="is being written by process"):
            resume_run(path)


@pytest.mark.usefixtures("blank_figures")
def test_an_interrupted_run_can_be_analyzed(tmp_path: Path, tiny: TrainingConfig, at_update: AtUpdate) -> None:
    recording = RecordingConfig(steps="first,10", n_train=100, n_validation=50, n_test=50)
    for name, update in (("a", 12), ("b", 25)):
        with pytest.raises(Interrupted):
            train_run(tmp_path / name, tiny, recording, progress=at_update(update))
    alone = analyze_run(tmp_path / "a")
    assert [view.step for view in alone.tables.views] == [0, 10]
    assert (tmp_path / "a" / "analysis" / "report.html").is_file()
    both = compare_runs([tmp_path / "a", tmp_path / "b"]).summary()
    assert [sentence for sentence in both if "training is" in sentence] == [
        f"{name} is shown at step 10 of {LAST}; its training is interrupted." for name in "ab"
    ]


# Other processes

LONG = TrainingConfig(
    data="digits", depth=2, width=8, epochs=45, batch_size=64, rule="synthetic-gradient", schedule="cosine"
)
COMMAND = (
    "train --data digits --depth 2 --width 8 --epochs 45 --batch-size 64 --rule synthetic-gradient --schedule cosine "
    "--record first,100,last"
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("long") / "run", LONG, RecordingConfig(steps="first,100,last")).path


def stopped_after(updates: int, number: signal.Signals, path: Path) -> tuple[int, str]:
    """Train in another process, send it a signal once it has logged so many updates; its exit code and last words."""
    command = [sys.executable, "-m", "analysis", *COMMAND.split(), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            log, deadline = path / "metrics.jsonl", time.monotonic() + 60
            while not log.is_file() or log.read_bytes().count(b"\n") < updates:
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline, "nothing was logged for a minute"
                time.sleep(0.005)
            process.send_signal(number)
            _, words = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, words


def test_ctrl_c_in_a_terminal_stops_at_a_step_that_is_kept(
    uninterrupted: Path, tmp_path: Path, learned: Learned
) -> None:
    path = tmp_path / "run"
    code, words = stopped_after(50, signal.SIGINT, path)
    step = Run.open(path).status["step"]
    assert 50 <= step < 855
    assert code == 130
    assert words.splitlines()[-1] == (
        f"repsim: Stopped at step {step}, which is committed. Continue with: repsim train {path} --resume"
    )
    assert Run.open(path).verify()[-1] == step
    resume_run(path)
    assert learned(path) == learned(uninterrupted)


def test_a_killed_run_continues_from_its_last_commit(uninterrupted: Path, tmp_path: Path, learned: Learned) -> None:
    path = tmp_path / "run"
    code, _ = stopped_after(150, signal.SIGKILL, path)
    killed = Run.open(path)
    assert (code, killed.status["state"]) == (-signal.SIGKILL, "stopped")
    assert killed.verify()[:2] == [0, 100]
    said = Console(file=io.StringIO(), width=1000)
    resume_run(path, progress=Reporter(said))
    assert re.match(
        r".*/run was being written by process \d+ on .*, which died; it is taken over\.", said.file.getvalue()
    )
    assert learned(path) == learned(uninterrupted)


# Divergence

WILD = {"norm": "none", "activation": "linear", "learning_rate": 1e30}


@pytest.mark.parametrize(("batch_size", "step"), [(64, 2), (1000, 1)])
def test_diverging_training_stops_with_an_error(
    tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig, batch_size: int, step: int
) -> None:
    with pytest.raises(
        Diverged,
        match=rf"^Training diverged: the loss( on the validation examples)? is (nan|inf) at step {step}\.",
    ):
        train_run(tmp_path / "run", replace(tiny, **WILD, batch_size=batch_size), few)
    run = Run.open(tmp_path / "run")
    assert (run.status["state"], run.status["step"]) == ("diverged", step)
    assert "Try a lower learning rate" in run.status["message"]
    assert run.verify() == [0]
    assert all(np.isfinite(record["loss"]) for record in run.metrics())


def test_divergence_is_one_line_and_exit_code_2(repsim: Callable[..., Any], tmp_path: Path) -> None:
    said = repsim("train --data digits --norm none --activation linear --learning-rate 1e30 --quiet", tmp_path / "run")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert said.err.startswith("repsim: Training diverged: the loss is ")
    assert Run.open(tmp_path / "run").status["state"] == "diverged"


@pytest.mark.usefixtures("blank_figures")
def test_a_diverged_run_can_be_analyzed(tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig) -> None:
    with pytest.raises(Diverged):
        train_run(tmp_path / "run", replace(tiny, **WILD), few)
    assert analyze_run(tmp_path / "run").summary()[0] == "run is shown at step 0 of 38; its training is diverged."


def test_a_recording_that_names_no_step_is_rejected(tmp_path: Path, tiny: TrainingConfig) -> None:
    with pytest.raises(
        ValueError, match=f"steps 'every:1000' name no step of this training, which ends at step {LAST}"
    ):
        train_run(tmp_path / "run", tiny, RecordingConfig(steps="every:1000"))
    assert list(tmp_path.iterdir()) == []
