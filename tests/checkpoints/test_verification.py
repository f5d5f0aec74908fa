"""Every damaged file of a run is found, and an intact run is never reported as damaged."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import checkpoints.metadata
import checkpoints.run
import checkpoints.verification
from checkpoints import Capture, Damaged, Run, Stimuli
from checkpoints.metadata import sealed
from checkpoints.storage.manifest import encode_json

NAMES = ["é", "日本語", "\U0001f600", "e\u0301", "Ω\u2028x", "a b", "$x_1$"]


def named_stimuli(ids: list[str]) -> Stimuli:
    n = len(ids)
    inputs = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    return Stimuli.of(ids, np.arange(n) % 2, ["train"] * n, inputs)


@pytest.fixture
def run(folder: Path) -> Run:
    """A closed run of two recorded steps and three lines of metrics."""
    with Run.create(folder / "run", {}, named_stimuli(["a", "b", "c"])) as run:
        for step in (1, 2):
            run.log({"step": step})
            network = nn.Sequential(nn.Linear(3, 2))
            run.checkpoint(step, network, capture=Capture(network))
        run.log({"step": 3})
        run.set_status("running")
    return run


@pytest.mark.parametrize("text", NAMES)
def test_texts_in_any_script_are_committed_and_verified(folder: Path, text: str) -> None:
    network = nn.ModuleDict({text: nn.Linear(3, 2)})
    network.forward = network[text].forward  # type: ignore[method-assign]
    config = {text: [text, {text: text}], "n": 0.1}
    ids = sorted(f"{text}{index}" for index in range(4))
    with Run.create(folder / text, config, named_stimuli(ids)) as run:
        run.log({"step": 1, text: text})
        run.checkpoint(1, network, extra={text: text, "nested": [{text: 1.5}]})
        run.set_status("finished", reason=text, **{text: 1})
        assert run.verify() == [1]
    read = Run.open(folder / text)
    assert (read.config, read[1].state["extra"]) == (config, {text: text, "nested": [{text: 1.5}]})
    assert (read.status["reason"], read.metrics()) == (text, [{"step": 1, text: text}])
    assert sorted(read.stimuli.ids) == ids
    assert f"{text}.weight" in read[1].weights()


@pytest.mark.parametrize("text", NAMES)
def test_layers_and_ids_in_any_script_are_recorded_and_verified(folder: Path, text: str) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(text, nn.Linear(3, 2))

        def forward(self, x: torch.Tensor) -> Any:
            return getattr(self, text)(x)

    network = Network()
    ids = [f"{text}{index}" for index in range(4)]
    with Run.create(folder / "run", {}, named_stimuli(ids)) as run:
        run.checkpoint(1, network, capture=Capture(network))
        assert run.verify() == [1]
    assert text in run[1].activations
    assert sorted(run[1].activations.stimulus_ids) == sorted(ids)


@pytest.mark.parametrize("level", ["size", "sha256"])
def test_files_of_operating_systems_are_ignored_in_every_folder_of_a_run(run: Run, level: str) -> None:
    for folder in (run.path, run.path / "checkpoints", run[1].path, run[2].path):
        for name in (".DS_Store", "._step_00000001", ".nfs0001", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"left")
        (folder / "@eaDir").mkdir()
    assert (run.steps, run.recorded_steps, run.verify(level)) == ([1, 2], [1, 2], [1, 2])
    run[2].restore(nn.Sequential(nn.Linear(3, 2)))
    with Run.resume(run.path, named_stimuli(["a", "b", "c"])) as resumed:
        assert resumed.verify(level) == [1, 2]


def meanwhile(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Do something between a reader's look at ``run.json`` and its look at the log; count the looks."""
    real, looks = checkpoints.verification.check_prefixes, []

    def check(*arguments: Any) -> None:
        looks.append(1)
        if len(looks) == 1:
            act()
        real(*arguments)

    monkeypatch.setattr(checkpoints.verification, "check_prefixes", check)
    return looks


def test_a_log_that_a_resumed_run_cuts_meanwhile_is_not_damaged(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with Run.resume(run.path, named_stimuli(["a", "b", "c"])) as writer:
        looks = meanwhile(lambda: writer.cut_metrics(2), monkeypatch)
        assert Run.open(run.path).verify() == [1, 2]
    assert len(looks) == 2


def test_a_log_that_no_run_has_cut_is_damaged(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    log = run.path / "metrics.jsonl"
    looks = meanwhile(lambda: os.truncate(log, log.stat().st_size - 12), monkeypatch)
    with pytest.raises(Damaged, match=r"metrics.jsonl has \d+ bytes; the status was committed after"):
        run.verify()
    assert len(looks) == 1


def alter(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Remove the last two bytes: more than a line break."""
    path.write_bytes(path.read_bytes()[:-2])


STEP_FILES = ["weights.safetensors", "optimizer.safetensors", "state.json", "activations.h5", "MANIFEST.json"]


def test_a_whole_run_passes_at_every_level(recorded: Path) -> None:
    assert Run.open(recorded).verify() == Run.open(recorded).verify("size") == [0, 5]
    Run.open(recorded)[5].verify()


@pytest.mark.parametrize("damage", [alter, cut, Path.unlink])
@pytest.mark.parametrize("name", STEP_FILES)
def test_damage_in_any_file_of_a_step_is_found(recorded: Path, name: str, damage: Callable[[Path], Any]) -> None:
    path = recorded / "checkpoints" / "step_00000005" / name
    damage(path)
    for check in (Run.open(recorded).verify, Run.open(recorded)[5].verify):
        with pytest.raises(Damaged, match=str(path.parent)):
            check()


def test_a_changed_config_is_found(recorded: Path) -> None:
    path = recorded / "run.json"
    run = Run.open(recorded)
    path.write_bytes(path.read_bytes().replace(b'"lr": 0.1', b'"lr": 0.2'))
    with pytest.raises(Damaged, match=f"{path} has changed since it was written"):
        run.verify()


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_damaged_stimuli_are_found(recorded: Path, damage: Callable[[Path], Any]) -> None:
    damage(recorded / "stimuli.h5")
    with pytest.raises(Damaged, match=rf"{recorded}/stimuli\.h5"):
        Run.open(recorded).verify()


@pytest.mark.parametrize("ids", [[f"other{index}" for index in range(6)], ["s0"]])
def test_activations_of_other_stimuli_are_found(recorded: Path, ids: list[str]) -> None:
    labels = np.zeros(len(ids), dtype=np.int64)
    other = Stimuli.of(ids, labels, ["train"] * len(ids), np.zeros((len(ids), 3)))
    (recorded / "stimuli.h5").unlink()
    other.write(recorded / "stimuli.h5")
    with pytest.raises(Damaged, match=r"stimuli\.h5 has changed since the run was created \(SHA-256 differs\)"):
        Run.open(recorded).verify()
    info = json.loads((recorded / "run.json").read_bytes())
    info["stimuli_sha256"] = hashlib.sha256((recorded / "stimuli.h5").read_bytes()).hexdigest()
    (recorded / "run.json").write_bytes(encode_json(sealed(info)))
    with pytest.raises(
        Damaged, match=r"activations\.h5 was recorded elsewhere: its stimulus_hash differs from this run's"
    ):
        Run.open(recorded).verify()


def test_a_step_of_another_run_is_found(recorded: Path, stimuli: Stimuli) -> None:
    other = recorded.with_name("other")
    Run.create(other, {}, stimuli).close()
    shutil.copytree(recorded / "checkpoints", other / "checkpoints", dirs_exist_ok=True)
    with pytest.raises(Damaged, match=r"activations\.h5 was recorded elsewhere: its run_uuid differs from this run's"):
        Run.open(other).verify()


def test_weights_of_a_type_that_torch_does_not_have_are_damaged(recorded: Path) -> None:
    path = recorded / "checkpoints/step_00000005/weights.safetensors"
    header = b'{"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"abc")
    with pytest.raises(Damaged, match=rf"{path} cannot be read \("):
        Run.open(recorded)[5].weights()


def test_a_step_whose_folder_was_renamed_is_found(recorded: Path) -> None:
    (recorded / "checkpoints/step_00000005").rename(recorded / "checkpoints/step_00000006")
    for level in ("size", "sha256"):
        with pytest.raises(Damaged, match="step_00000006 holds step 5; the folder has been renamed"):
            Run.open(recorded)[6].verify(level)


def test_a_step_with_deleted_activations_is_damaged(recorded: Path) -> None:
    (recorded / "checkpoints/step_00000005/activations.h5").unlink()
    run = Run.open(recorded)
    assert run.recorded_steps == [5]
    with pytest.raises(Damaged, match=r"activations\.h5 is missing"):
        run.last().verify()
