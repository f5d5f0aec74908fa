"""A run that nobody has harmed is never reported as damaged, whatever its names are and whoever looks when."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import checkpoints.verification
from checkpoints import Capture, Damaged, Run, Stimuli

NAMES = ["é", "日本語", "\U0001f600", "e\u0301", "Ω\u2028x", "a b", "$x_1$"]


def stimuli(ids: list[str]) -> Stimuli:
    n = len(ids)
    inputs = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    return Stimuli.of(ids, np.arange(n) % 2, ["train"] * n, inputs)


@pytest.fixture
def run(folder: Path) -> Run:
    """A closed run of two recorded steps and three lines of metrics."""
    with Run.create(folder / "run", {}, stimuli(["a", "b", "c"])) as run:
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
    with Run.create(folder / text, config, stimuli(ids)) as run:
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
    with Run.create(folder / "run", {}, stimuli(ids)) as run:
        run.checkpoint(1, network, capture=Capture(network))
        assert run.verify() == [1]
    assert text in run[1].activations
    assert sorted(run[1].activations.stimulus_ids) == sorted(ids)


@pytest.mark.parametrize("level", ["size", "sha256"])
def test_what_operating_systems_leave_everywhere_harms_nothing(run: Run, level: str) -> None:
    for folder in (run.path, run.path / "checkpoints", run[1].path, run[2].path):
        for name in (".DS_Store", "._step_00000001", ".nfs0001", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"left")
        (folder / "@eaDir").mkdir()
    assert (run.steps, run.recorded_steps, run.verify(level)) == ([1, 2], [1, 2], [1, 2])
    run[2].restore(nn.Sequential(nn.Linear(3, 2)))
    with Run.resume(run.path, stimuli(["a", "b", "c"])) as resumed:
        assert resumed.verify(level) == [1, 2]


def test_a_file_that_somebody_else_added_is_damage(run: Run) -> None:
    (run[1].path / "notes.txt").write_bytes(b"")
    with pytest.raises(Damaged, match=r"notes\.txt is not in its manifest"):
        run.verify()


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


def test_a_log_that_a_resumed_run_cuts_meanwhile_is_no_damage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with Run.resume(run.path, stimuli(["a", "b", "c"])) as writer:
        looks = meanwhile(lambda: writer.cut_metrics(2), monkeypatch)
        assert Run.open(run.path).verify() == [1, 2]
    assert len(looks) == 2


def test_a_log_that_was_cut_by_nobody_is_damage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    log = run.path / "metrics.jsonl"
    looks = meanwhile(lambda: os.truncate(log, log.stat().st_size - 12), monkeypatch)
    with pytest.raises(Damaged, match=r"metrics.jsonl has \d+ bytes; the status was committed after"):
        run.verify()
    assert len(looks) == 1


def test_steps_verify_from_the_moment_that_they_are_seen(folder: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 2))
    done, found = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            found.append(len(Run.open(folder / "run").verify()))

    with Run.create(folder / "run", {}, stimuli(["a", "b", "c"])) as run:
        reader = threading.Thread(target=read)
        reader.start()
        for step in range(1, 11):
            run.log({"step": step})
            run.checkpoint(step, network)
            run.set_status("running", step=step)
        done.set()
        reader.join()
    found.append(len(run.verify()))
    assert found == sorted(found)
    assert found[-1] == 10
