"""Runs are created, opened, resumed and listed."""

import json
import os
import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import checkpoints.metadata
import checkpoints.run
from checkpoints import Capture, Damaged, Locked, Run, Stimuli
from checkpoints.storage.lock import Lock
from tests.checkpoints.small_runs import CONFIG, contents


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


def test_a_new_run_can_be_opened_by_a_reader_while_it_is_written(run: Run, stimuli: Stimuli) -> None:
    reader = Run.open(str(run.path))
    assert reader.config == run.config == CONFIG
    assert reader.info == run.info
    assert reader.status == {"state": "created"}
    assert (reader.steps, reader.recorded_steps, reader.metrics()) == ([], [], [])
    assert reader.stimuli.ids.tolist() == stimuli.ids.tolist()
    assert reader.stimuli.inputs is None
    assert run.stimuli is stimuli


def test_parents_are_made(folder: Path, stimuli: Stimuli) -> None:
    Run.create(folder / "deep" / "er" / "run", {}, stimuli).close()
    assert Run.open(folder / "deep" / "er" / "run").config == {}


def test_the_config_is_kept_as_a_reader_will_see_it(folder: Path, stimuli: Stimuli) -> None:
    config: dict[str, Any] = {"sizes": (3, 4), "nested": {"names": ["a"]}}
    with Run.create(folder / "run", config, stimuli) as run:
        config["nested"]["names"].append("b")
        run.set_status("running")
        assert run.config == Run.open(run.path).config == {"sizes": [3, 4], "nested": {"names": ["a"]}}
        run.verify()


def test_run_json_holds_config_and_environment(run: Run) -> None:
    info = json.loads((run.path / "run.json").read_bytes())
    assert list(info) == [
        "format",
        "format_version",
        "uuid",
        "created",
        "config",
        "config_hash",
        "environment",
        "status",
        "stimuli_sha256",
        "metrics",
        "sha256",
    ]
    assert (info["format"], info["format_version"], info["config"]) == ("repsim-run", 1, CONFIG)
    assert info["environment"].keys() == {"python", "platform", "processor", "threads", "device", "packages"}
    assert info["environment"]["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert re.fullmatch(r"[0-9a-f]{64}", info["config_hash"])


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(checkpoints.metadata, "version", absent)
    assert set(checkpoints.metadata.environment()["packages"].values()) == {None}


def test_config_hash_and_uuid_tell_runs_apart(folder: Path, stimuli: Stimuli) -> None:
    infos = []
    for name, config in {"a": {"x": 1, "y": 2}, "b": {"y": 2, "x": 1}, "c": {"x": 1, "y": 3}}.items():
        with Run.create(folder / name, config, stimuli) as run:
            infos.append(run.info)
    a, b, c = (info["config_hash"] for info in infos)
    assert a == b != c
    assert len({info["uuid"] for info in infos}) == 3


@pytest.mark.parametrize("kind", ["file", "folder", "run"])
def test_create_rejects_an_existing_path_and_leaves_it_alone(folder: Path, stimuli: Stimuli, kind: str) -> None:
    path = folder / "run"
    if kind == "file":
        path.write_bytes(b"old")
    elif kind == "folder":
        path.mkdir()
    else:
        Run.create(path, CONFIG, stimuli).close()
    before = contents(folder)
    with pytest.raises(FileExistsError, match=f"{path} exists already; committed files are never replaced"):
        Run.create(path, {}, stimuli)
    assert contents(folder) == before


@pytest.mark.parametrize("inner", ["run", "deep/er/run"])
def test_create_refuses_a_parent_that_is_a_file(folder: Path, stimuli: Stimuli, inner: str) -> None:
    (folder / "file").write_bytes(b"old")
    path = folder / "file" / inner
    with pytest.raises(NotADirectoryError, match=f"{folder}/file is a file; {path} cannot be made inside it"):
        Run.create(path, {}, stimuli)
    assert contents(folder) == {"file": b"old"}


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (float("nan"), ValueError, "not JSON compliant"),
        (float("inf"), ValueError, "not JSON compliant"),
        (object(), TypeError, "not JSON serializable"),
    ],
)
def test_a_config_that_is_not_json_is_refused_before_anything_is_made(
    folder: Path, stimuli: Stimuli, value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Run.create(folder / "deep" / "run", {"a": [value]}, stimuli)
    assert list(folder.iterdir()) == []


def test_only_old_staging_directories_of_the_same_run_are_removed(folder: Path, stimuli: Stimuli) -> None:
    left = {name: folder / name for name in (".tmp-new-old", ".tmp-new-young", ".tmp-new-held", ".tmp-newer-old")}
    for path in left.values():
        path.mkdir()
        (path / "run.lock").touch()
    for name in (".tmp-new-old", ".tmp-new-held", ".tmp-newer-old"):
        os.utime(left[name], (0, 0))
    lock = Lock(left[".tmp-new-held"] / "run.lock")
    Run.create(folder / "new", {}, stimuli).close()
    lock.release()
    assert {path.name for path in folder.iterdir()} == {"new", ".tmp-new-young", ".tmp-new-held", ".tmp-newer-old"}


def test_open_rejects_a_path_without_a_run(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"There is no run at {folder}/absent"):
        Run.open(folder / "absent")
    (folder / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=f"{folder}/file is a file; expected the directory of a run"):
        Run.open(folder / "file")
    with pytest.raises(FileNotFoundError, match=rf"{folder} is not a run directory: it has no run\.json\.$"):
        Run.open(folder)


def test_open_names_the_runs_that_a_folder_holds(folder: Path) -> None:
    for name in ("seed-0", "seed-1"):
        (folder / name).mkdir()
        (folder / name / "run.json").write_text("{}")
    message = rf"no run\.json\. It holds 2 runs; name one of them, such as {folder}/seed-0\.$"
    with pytest.raises(FileNotFoundError, match=message):
        Run.open(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, r"run\.json is not of the format 'repsim-run'"),
        ({"format_version": 2}, r"recorded has format version 2; this version of repsim reads 1"),
        ({"format_version": None}, r"recorded has format version None; this version of repsim reads 1"),
        ({"config": [1]}, r"run\.json has no config"),
        ({"uuid": None}, r"run\.json has no uuid"),
        ({"status": "running"}, r"run\.json has no status"),
    ],
)
def test_open_refuses_a_run_that_it_does_not_understand(recorded: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(recorded / "run.json", **changes)
    with pytest.raises(Damaged, match=message):
        Run.open(recorded)


def test_steps_ignore_staging_and_odd_names(recorded: Path) -> None:
    folder = recorded / "checkpoints"
    odd = [".tmp-step_00000002-ab", "step_2", "step_000000002", "step_-0000002", "step_", "step_abc", "step_0000000²"]
    for name in [*odd, "00000005", "step_00000005.old", "step_٠٠٠٠٠٠٠٢"]:
        (folder / name).mkdir()
        (folder / name / "activations.h5").touch()
    (folder / "step_00000009").write_bytes(b"a file")
    run = Run.open(recorded)
    assert (run.steps, run.recorded_steps, run.last().step) == ([0, 5], [5], 5)


def test_last_is_the_last_step_with_activations(recorded: Path, stimuli: Stimuli, network: nn.Module) -> None:
    with Run.resume(recorded, stimuli) as run:
        run.checkpoint(9, network)
        assert (run.steps, run.recorded_steps, run.last().step) == ([0, 5, 9], [5], 5)


def test_last_of_a_run_without_activations_is_an_error(run: Run, network: nn.Module) -> None:
    run.checkpoint(0, network)
    with pytest.raises(FileNotFoundError, match=f"{run.path} has no checkpoint with activations yet"):
        run.last()


def test_the_error_for_an_absent_step_lists_the_committed_steps(recorded: Path, run: Run) -> None:
    with pytest.raises(KeyError, match=f"{recorded} has no checkpoint of step 3; committed are: 0, 5"):
        Run.open(recorded)[3]
    with pytest.raises(KeyError, match="has no checkpoint of step 0; committed are: none"):
        run[0]


def test_a_resumed_run_is_written_on(recorded: Path, stimuli: Stimuli, network: nn.Module) -> None:
    before = contents(recorded)
    capture = Capture(network, ["0"])
    with Run.resume(recorded, stimuli) as run:
        assert run.stimuli is stimuli
        run.checkpoint(9, network, capture=capture)
    after = contents(recorded)
    assert {name: after[name] for name in before if name != "run.lock"} == {
        name: content for name, content in before.items() if name != "run.lock"
    }
    assert Run.open(recorded).verify() == [0, 5, 9]


@pytest.mark.parametrize("part", ["ids", "labels", "split", "inputs"])
def test_a_run_is_not_resumed_with_other_stimuli(recorded: Path, stimuli: Stimuli, part: str) -> None:
    parts = {name: getattr(stimuli, name).copy() for name in ("ids", "labels", "split", "inputs")}
    parts[part] = np.roll(parts[part], 1, axis=0)
    before = contents(recorded)
    with pytest.raises(ValueError, match="These 6 stimuli are not the 6 that the run records"):
        Run.resume(recorded, Stimuli.of(**parts))
    assert contents(recorded) == before
    Run.resume(recorded, stimuli).close()


def test_a_run_that_is_being_written_is_not_resumed_but_read(run: Run, stimuli: Stimuli, network: nn.Module) -> None:
    run.checkpoint(1, network)
    staging = run.path / "checkpoints" / ".tmp-step_00000002-ab"
    staging.mkdir()
    with pytest.raises(Locked, match=f"{run.path} is being written by process {os.getpid()} on "):
        Run.resume(run.path, stimuli)
    assert staging.is_dir()
    assert Run.open(run.path).verify() == [1]
    run.checkpoint(2, network)


def test_unfinished_writes_of_a_crashed_writer_are_removed_on_resume(recorded: Path, stimuli: Stimuli) -> None:
    before = contents(recorded)
    left = recorded / "checkpoints" / ".tmp-step_00000009-ab"
    left.mkdir()
    (left / "weights.safetensors").write_bytes(b"half")
    (recorded / ".tmp-run.json-cd").write_bytes(b"half")
    assert Run.open(recorded).verify() == [0, 5]
    assert left.is_dir()
    Run.resume(recorded, stimuli).close()
    assert contents(recorded).keys() == before.keys()
    assert not left.exists()


def test_a_resume_that_fails_does_not_keep_the_lock(
    recorded: Path, stimuli: Stimuli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise OSError(13, "Permission denied", str(folder))

    with monkeypatch.context() as patch, pytest.raises(OSError, match=f"Permission denied: '{recorded}'"):
        patch.setattr(checkpoints.run, "remove_staging", fail)
        Run.resume(recorded, stimuli)
    Run.resume(recorded, stimuli).close()


def test_a_forked_child_that_closes_the_run_leaves_the_lock_to_its_parent(run: Run, stimuli: Stimuli) -> None:
    if (child := os.fork()) == 0:
        run.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(Locked, match=f"is being written by process {os.getpid()}"):
        Run.resume(run.path, stimuli)


def test_repr_of_runs_and_steps_gives_their_paths(recorded: Path) -> None:
    run = Run.open(recorded)
    assert repr(run) == f"Run('{recorded}')"
    assert repr(run[5]) == f"Checkpoint('{recorded}/checkpoints/step_00000005')"
    assert repr(run[5].activations) == "Activations(6 stimuli; 0: 8, 2: 8)"
