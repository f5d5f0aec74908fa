"""Runs that continue another run: the steps that they share, and who recorded them."""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import nn

from checkpoints import Capture, Damaged, Locked, Run, Stimuli
from checkpoints.metadata import sealed
from checkpoints.storage.manifest import encode_json
from tests.checkpoints.small_runs import assert_same, build, contents, weights


def fork(path: Path, source: Path, stimuli: Stimuli, step: int = 5) -> Run:
    return Run.fork(path, Run.open(source), step, {"mine": 1}, stimuli)


def recorded_after(run: Run, step: int) -> None:
    """Record one more step of another network."""
    model = build()
    run.checkpoint(step, model, torch.optim.Adam(model.parameters()), capture=Capture(model, ["0", "2"]))


def test_a_fork_has_the_steps_and_the_log_of_its_source_up_to_the_step(
    recorded: Path, folder: Path, stimuli: Stimuli
) -> None:
    with Run.resume(recorded, stimuli) as source:
        recorded_after(source, 9)
    before = contents(recorded)
    with fork(folder / "fork", recorded, stimuli) as run:
        assert (run.steps, run.recorded_steps, run.config, run.metrics()) == ([0, 5], [5], {"mine": 1}, [])
        recorded_after(run, 7)
        run.log({"step": 7})
    for step in (0, 5):
        assert contents(run[step].path) == contents(Run.open(recorded)[step].path)
    assert contents(recorded) == before
    opened = Run.open(folder / "fork")
    assert opened.verify() == [0, 5, 7]
    assert opened.info["ancestors"] == [{"uuid": Run.open(recorded).info["uuid"], "step": 5}]
    assert opened.info["uuid"] != Run.open(recorded).info["uuid"]
    restored = build()
    opened[5].restore(restored)
    assert_same(weights(restored), opened[5].weights())


def test_the_log_of_a_fork_ends_where_the_step_was_committed(
    folder: Path, stimuli: Stimuli, network: nn.Module
) -> None:
    with Run.create(folder / "source", {}, stimuli) as run:
        optimizer = torch.optim.Adam(network.parameters())
        for step in (1, 2, 3):
            run.log({"step": step})
            run.checkpoint(step, network, optimizer)
    with fork(folder / "fork", run.path, stimuli, 2) as run:
        assert run.metrics() == [{"step": 1}, {"step": 2}]
        run.cut_metrics(2)
        run.log({"step": 3})
    assert Run.open(run.path).verify() == [1, 2]


def test_activations_of_an_ancestor_are_expected_up_to_the_fork_only(
    recorded: Path, folder: Path, stimuli: Stimuli
) -> None:
    with Run.resume(recorded, stimuli) as source:
        recorded_after(source, 9)
    with fork(folder / "fork", recorded, stimuli) as run:
        pass
    shutil.copytree(source[9].path, run._step_path(9))
    with pytest.raises(Damaged, match=r"step_00000009/activations\.h5 was recorded elsewhere: its run_uuid differs"):
        Run.open(run.path).verify()


def test_a_fork_of_a_fork_knows_who_recorded_each_step(recorded: Path, folder: Path, stimuli: Stimuli) -> None:
    with fork(folder / "first", recorded, stimuli) as first:
        recorded_after(first, 8)
    with fork(folder / "second", first.path, stimuli, 8) as second:
        recorded_after(second, 9)
    assert Run.open(second.path).verify() == [0, 5, 8, 9]
    uuids = [Run.open(path).info["uuid"] for path in (recorded, first.path)]
    assert second.info["ancestors"] == [{"uuid": uuids[0], "step": 5}, {"uuid": uuids[1], "step": 8}]
    with pytest.raises(
        ValueError, match=r"Step 5 of .*first was copied from the run that it was forked from at step 5\. F"
    ):
        fork(folder / "third", first.path, stimuli)


@pytest.mark.parametrize(
    "ancestors", [{}, [1], [{"uuid": "a"}], [{"uuid": 1, "step": 1}], [{"uuid": "a", "step": 1.0}]]
)
def test_a_malformed_list_of_ancestors_is_damage(
    recorded: Path, folder: Path, stimuli: Stimuli, ancestors: object
) -> None:
    with fork(folder / "fork", recorded, stimuli):
        pass
    path = folder / "fork" / "run.json"
    path.write_bytes(encode_json(sealed({**json.loads(path.read_bytes()), "ancestors": ancestors})))
    with pytest.raises(Damaged, match=r"run\.json has a malformed list of ancestors"):
        Run.open(folder / "fork").verify()
    with pytest.raises(Damaged, match=r"run\.json has a malformed list of ancestors"):
        fork(folder / "again", folder / "fork", stimuli)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (7, r"^Step 7 is not among the committed steps 0, 5 of .*recorded\.$"),
        (0, r"^Step 0 of .*recorded holds no weights or no optimizer, which training needs\.$"),
    ],
)
def test_a_step_that_cannot_be_continued_is_refused(
    recorded: Path, folder: Path, stimuli: Stimuli, step: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fork(folder / "fork", recorded, stimuli, step)
    assert [path.name for path in folder.iterdir()] == ["recorded"]


def test_a_step_without_weights_is_refused(recorded: Path, folder: Path, stimuli: Stimuli) -> None:
    model = build()
    with Run.resume(recorded, stimuli) as run:
        run.checkpoint(6, model, torch.optim.Adam(model.parameters()), capture=Capture(model, ["0"]), weights=None)
    with pytest.raises(ValueError, match=r"Step 6 of .*recorded holds no weights or no optimizer"):
        fork(folder / "fork", recorded, stimuli, 6)


def test_a_run_that_is_being_written_is_refused(recorded: Path, folder: Path, stimuli: Stimuli) -> None:
    with Run.resume(recorded, stimuli), pytest.raises(Locked, match=r"recorded is being written\. Fork it once"):
        fork(folder / "fork", recorded, stimuli)


def test_other_stimuli_are_refused(recorded: Path, folder: Path, stimuli: Stimuli) -> None:
    other = Stimuli.of(stimuli.ids, stimuli.labels, stimuli.split, stimuli.first_inputs(6) + 1)
    with pytest.raises(ValueError, match="These 6 stimuli are not the 6 that the run records"):
        fork(folder / "fork", recorded, other)


def test_a_step_is_not_hidden_behind_a_link(recorded: Path, folder: Path, stimuli: Stimuli) -> None:
    weights = recorded / "checkpoints" / "step_00000005" / "weights.safetensors"
    weights.rename(folder / "moved")
    weights.symlink_to(folder / "moved")
    with pytest.raises((Damaged, OSError), match=r"weights\.safetensors"):
        fork(folder / "fork", recorded, stimuli)
    assert not (folder / "fork").exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "state.json", "activations.h5", "MANIFEST.json"])
def test_a_damaged_step_is_not_copied(recorded: Path, folder: Path, stimuli: Stimuli, name: str) -> None:
    path = recorded / "checkpoints" / "step_00000005" / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match=name):
        fork(folder / "fork", recorded, stimuli)
    assert [path.name for path in folder.iterdir()] == ["recorded"]
    path.write_bytes(bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]))
    fork(folder / "fork", recorded, stimuli).close()


def test_a_full_disk_leaves_no_fork(
    recorded: Path, folder: Path, stimuli: Stimuli, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(3000), pytest.raises(OSError, match=r"File too large; .* could not be written"):
        fork(folder / "fork", recorded, stimuli)
    assert [path.name for path in folder.iterdir()] == ["recorded"]
