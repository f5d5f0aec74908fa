import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis import Interrupted, analyze_run, compare_runs, fork_run, record_model, record_run, resume_run, train_run
from analysis.comparison.view import View
from analysis.config.recording import CaptureConfig, ModelConfig, RecordingConfig
from checkpoints import Run
from checkpoints.storage.manifest import encode_json
from repsim.learning import TrainingConfig


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def own_data(path: Path, n_features: int = 64) -> str:
    X = np.random.default_rng(0).normal(size=(60, n_features))
    np.savez(path / "mine.npz", X=X, y=np.resize(["cat", "dog", "eel"], 60))
    return str(path / "mine.npz")


def test_recording_a_run_again_gives_equal_activations(runs: Mapping[str, Path], tmp_path: Path) -> None:
    source, new = Run.open(runs["synthetic"]), record_run(runs["synthetic"], tmp_path / "new")
    assert new.verify() == source.steps == new.recorded_steps
    for step in source.steps:
        for name, layer in source[step].activations.items():
            np.testing.assert_array_equal(new[step][name][:], layer[:])
        assert all(torch.equal(new[step].weights()[name], value) for name, value in source[step].weights().items())


def test_ctrl_c_between_two_steps_names_those_that_are_recorded(
    runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted_checkpoint(run: Run, step: int, *arguments: Any, **options: Any) -> None:
        if step > 0:
            raise KeyboardInterrupt
        checkpoint(run, step, *arguments, **options)

    checkpoint = Run.checkpoint
    monkeypatch.setattr(Run, "checkpoint", interrupted_checkpoint)
    with pytest.raises(Interrupted, match=r"^Stopped; .*new holds steps 0\. Continue with the same command\.$"):
        record_run(runs["synthetic"], tmp_path / "new")
    assert Run.open(tmp_path / "new").status["state"] == "interrupted"
    monkeypatch.undo()
    assert record_run(runs["synthetic"], tmp_path / "new").verify() == [0, 38]
    whole = record_run(runs["synthetic"], tmp_path / "whole")
    np.testing.assert_array_equal(whole[38]["hidden.1"][:], Run.open(tmp_path / "new")[38]["hidden.1"][:])


def test_a_recording_is_continued_with_the_same_settings_only(runs: Mapping[str, Path], tmp_path: Path) -> None:
    record_run(runs["backprop"], tmp_path / "new", steps="first")
    assert record_run(runs["backprop"], tmp_path / "new", steps="all").steps == [0, 38]
    for options in ({"capture": CaptureConfig(layers=("output",))}, {"data": own_data(tmp_path)}):
        with pytest.raises(ValueError, match=r"made with other settings|are not the"):
            record_run(runs["backprop"], tmp_path / "new", **options)
    with pytest.raises(ValueError, match=r"made with other settings \(training\.rule"):
        record_run(runs["synthetic"], tmp_path / "new")
    with pytest.raises(FileExistsError, match="new exists already"):
        record_run(runs["backprop"], tmp_path / "new", exists="error")
    replaced = record_run(
        runs["backprop"], tmp_path / "new", capture=CaptureConfig(layers=("output",)), exists="replace"
    )
    assert list(replaced.last().activations) == ["output"]


def test_a_run_is_not_replaced_by_its_own_recording_or_fork(copied: Callable[[str], Path], tmp_path: Path) -> None:
    path = copied("backprop")
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    weights = str(path / "checkpoints/step_00000038/weights.safetensors")
    np.savez(tmp_path / "x.npz", X=np.zeros((4, 2)))
    calls: list[Callable[[], Any]] = [
        lambda: record_run(path, path, exists="replace"),
        lambda: record_run(path, path.parent / "." / path.name, exists="replace"),
        lambda: fork_run(path, path, 0, {"epochs": 3}, exists="replace"),
        lambda: record_model(
            ModelConfig(model="torch.nn:Identity()", weights=(weights,)),
            path,
            data=str(tmp_path / "x.npz"),
            exists="replace",
        ),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"backprop is not replaced, because .*backprop.* is read for the new run"):
            call()
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_layers_of_a_run_are_reduced_and_stored_like_those_of_a_model(runs: Mapping[str, Path], tmp_path: Path) -> None:
    capture = CaptureConfig(layers=("hidden.*",), reduce=("hidden.*=sparse_projection(5)",), dtype="float16")
    layer = record_run(runs["backprop"], tmp_path / "new", steps="last", capture=capture).last()["hidden.1"]
    assert (layer.shape[1], layer[:].dtype) == (5, np.float16)
    with pytest.raises(ValueError, match="device is 'cuda', but a trained run is recorded on the CPU"):
        record_run(runs["backprop"], tmp_path / "other", capture=CaptureConfig(device="cuda"))


def test_a_run_on_artificial_data_is_recorded_again_from_their_name(tmp_path: Path) -> None:
    training = TrainingConfig(data="xor:5", depth=2, width=8, epochs=1)
    source = train_run(tmp_path / "run", training, RecordingConfig(steps="last"))
    assert source.config["data"]["name"] == "xor:5"
    new = record_run(source.path, tmp_path / "new")
    np.testing.assert_array_equal(new.last()["hidden.2"][:], source.last()["hidden.2"][:])


def test_the_source_is_named_and_not_changed(copied: Callable[[str], Path], tmp_path: Path) -> None:
    path = copied("backprop")
    before = files(path)
    new = record_run(path, tmp_path / "new", steps="last", capture=CaptureConfig(layers=("output",)))
    assert files(path) == before
    assert new.config["source"] == {"path": str(path), "uuid": Run.open(path).info["uuid"]}
    assert (new.status["state"], new.status["step"]) == ("finished", 38)


def test_other_layers_and_steps_are_recorded(runs: Mapping[str, Path], tmp_path: Path) -> None:
    new = record_run(
        runs["backprop"], tmp_path / "new", steps="last", capture=CaptureConfig(layers=("output", "hidden.2.*"))
    )
    assert new.steps == [38]
    parts = ("affine", "norm", "activation", "pool")
    assert list(new.last().activations) == [f"hidden.2.{part}" for part in parts] + ["output"]
    source = Run.open(runs["backprop"])
    np.testing.assert_array_equal(new.last()["hidden.2.activation"][:], source.last()["hidden.2"][:])


def test_a_step_saved_without_activations_can_be_recorded(copied: Callable[[str], Path], tmp_path: Path) -> None:
    path = copied("backprop")
    folder, whole = path / "checkpoints/step_00000038", Run.open(path).last()["hidden.1"][:]
    (folder / "activations.h5").unlink()
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    del manifest["files"]["activations.h5"]
    (folder / "MANIFEST.json").write_bytes(encode_json(manifest))
    assert Run.open(path).recorded_steps == [0]
    np.testing.assert_array_equal(record_run(path, tmp_path / "new")[38]["hidden.1"][:], whole)


@pytest.mark.usefixtures("blank_figures")
def test_other_stimuli_with_as_many_features_are_recorded(runs: Mapping[str, Path], tmp_path: Path) -> None:
    new = record_run(runs["backprop"], tmp_path / "new", steps="last", data=own_data(tmp_path))
    assert len(new.stimuli) == 60
    assert new.config["data"]["classes"] == ["cat", "dog", "eel"]
    assert View("x", new, 38).classes == {0: "cat", 1: "dog", 2: "eel"}
    assert (analyze_run(new.path).tables.folder / "report.html").is_file()


def test_a_network_of_maps_records_images_of_its_own_shape_only(
    tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig
) -> None:
    train_run(tmp_path / "conv", replace(tiny, network="conv", width=4, epochs=1), few)
    X, y = np.random.default_rng(0).random((60, 8, 8)), np.resize([0, 1, 2], 60)
    for name, values in {"images": X, "wide": X.reshape(60, 4, 16), "rows": X.reshape(60, 64)}.items():
        np.savez(tmp_path / f"{name}.npz", X=values, y=y)
    new = record_run(tmp_path / "conv", tmp_path / "new", steps="last", data=str(tmp_path / "images.npz"))
    assert {name: layer.shape for name, layer in new.last().activations.items()} == {
        f"hidden.{k}": (60, 4 * 4 * 4) for k in (1, 2, 3)
    }
    for name, shape in {"wide": r"\(1, 4, 16\)", "rows": r"\(64,\)"}.items():
        message = rf"^The examples of {name}\.npz have shape {shape}; the network of .*conv takes \(1, 8, 8\)\.$"
        with pytest.raises(ValueError, match=message):
            record_run(tmp_path / "conv", tmp_path / "other", data=str(tmp_path / f"{name}.npz"))
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("blank_figures")
def test_recordings_of_two_runs_can_be_compared(runs: Mapping[str, Path], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path, source in zip(paths, runs.values(), strict=False):
        record_run(source, path, capture=CaptureConfig(layers=("output",)), data=own_data(tmp_path))
    result = compare_runs(paths, output=tmp_path / "both")
    assert set(result.tables["similarity"]["view_a"]) == {"a", "b"}
    assert result.summary()[-1].startswith("Lowest CKA to the same layer of a: b ")


def test_a_recording_cannot_be_resumed(runs: Mapping[str, Path], tmp_path: Path) -> None:
    record_run(runs["backprop"], tmp_path / "new", steps="first")
    with pytest.raises(ValueError, match=r"new holds recordings of .*backprop; there is nothing to train\.$"):
        resume_run(tmp_path / "new")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capture": CaptureConfig(layers=("hidden.1#1",))}, r"^'hidden\.1#1' .*no tensor"),
        ({"data": "birds"}, "^Unknown data set 'birds'"),
    ],
)
def test_an_invalid_recording_writes_nothing(
    runs: Mapping[str, Path], tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        record_run(runs["backprop"], tmp_path / "new", **options)
    assert list(tmp_path.iterdir()) == []


def test_activations_alone_are_recorded_of_a_run_and_not_recorded_again(
    runs: Mapping[str, Path], tmp_path: Path
) -> None:
    new = record_run(
        runs["backprop"],
        tmp_path / "new",
        steps="last",
        capture=CaptureConfig(layers=("hidden.*",), save_weights=False),
    )
    assert new.verify() == [38]
    assert not new.last().has_weights
    np.testing.assert_array_equal(new.last()["hidden.1"][:], Run.open(runs["backprop"]).last()["hidden.1"][:])
    with pytest.raises(ValueError, match=r"^Step 38 of .*new was recorded without weights, so it cannot be recorded"):
        record_run(tmp_path / "new", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_a_run_without_steps_has_nothing_to_record(copied: Callable[[str], Path], tmp_path: Path) -> None:
    path = copied("backprop")
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(ValueError, match=r"has no committed step to record\.$"):
        record_run(path, tmp_path / "new")


def test_a_run_of_another_trainer_is_refused(known_view: Callable[..., View], tmp_path: Path) -> None:
    view = known_view("mine", np.eye(4), [0, 0, 1, 1], [np.eye(4)], config={"data": "my birds"})
    with pytest.raises(ValueError, match="was not trained by repsim train, so it cannot be retrained, forked or"):
        record_run(view.run.path, tmp_path / "new")


def test_a_built_in_network_trained_on_whole_numbers_is_recorded_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import numpy\nX = numpy.arange(240).reshape(60, 4) % 7\ndata = lambda: (X, X[:, 0] % 2)\n"
    (tmp_path / "whole_numbers.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    training = TrainingConfig(data="whole_numbers:data", depth=1, width=4, epochs=1, batch_size=32)
    source = train_run(tmp_path / "source", training, RecordingConfig(steps="last"))
    new = record_run(source.path, tmp_path / "new")
    np.testing.assert_array_equal(new.last()["hidden.1"][:], source.last()["hidden.1"][:])
