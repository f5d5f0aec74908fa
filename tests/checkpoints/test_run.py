import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import checkpoints.metadata
import checkpoints.run
from checkpoints import Capture, Damaged, Locked, Run, SparseProjection, SpatialMean, Stimuli
from checkpoints.metadata import sealed
from checkpoints.storage.lock import Lock
from checkpoints.storage.manifest import encode_json

CONFIG = {"lr": 0.1, "layers": [1, 2], "note": "é"}


@pytest.fixture
def run(folder: Path, stimuli: Stimuli) -> Iterator[Run]:
    """A new run, being written."""
    with Run.create(folder / "run", CONFIG, stimuli) as run:
        yield run


@pytest.fixture
def recorded(folder: Path, original: Path) -> Path:
    """Return the path of a run with steps 0 (weights), 5 (recorded) and two lines of metrics; nobody holds its lock."""
    return shutil.copytree(original, folder / "recorded")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run that ``recorded`` copies."""
    path = tmp_path_factory.mktemp("original") / "run"
    model = build()
    optimizer = torch.optim.Adam(model.parameters())
    with Run.create(path, CONFIG, build_stimuli()) as run, Capture(model, ["0", "2"]) as capture:
        run.checkpoint(0, model)
        train(model, optimizer, 2)
        run.checkpoint(5, model, optimizer, capture=capture, extra={"epoch": 1})
        run.log({"step": 1, "loss": 0.5})
        run.log({"step": 5, "loss": 0.25})
    return path


def build() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


def build_stimuli() -> Stimuli:
    inputs = np.random.default_rng(0).normal(size=(6, 3))
    return Stimuli.of([f"s{index}" for index in range(6)], [1, 0] * 3, ["train", "validation", "test"] * 2, inputs)


@pytest.fixture
def network() -> nn.Sequential:
    return build()


@pytest.fixture
def stimuli() -> Stimuli:
    return build_stimuli()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Batches and dropout are drawn from torch's global generator."""
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(16, 3)).square().mean().backward()
        optimizer.step()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(tensors: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == others[name].dtype
        assert torch.equal(tensor, others[name]), name


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


# Creating and opening


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


def test_run_json_says_what_was_run_and_where(run: Run) -> None:
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
def test_create_refuses_a_path_where_something_stands_and_leaves_it_alone(
    folder: Path, stimuli: Stimuli, kind: str
) -> None:
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


def test_a_run_that_does_not_fit_on_the_disk_is_not_made(folder: Path, stimuli: Stimuli, full_disk: Any) -> None:
    with pytest.raises(OSError, match=rf"File too large; {folder}/.*could not be written"), full_disk(100):
        Run.create(folder / "run", CONFIG, stimuli)
    assert list(folder.iterdir()) == []


def test_what_a_dead_process_left_of_the_same_run_is_removed_and_nothing_else(folder: Path, stimuli: Stimuli) -> None:
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


def test_open_refuses_what_is_not_a_run(folder: Path) -> None:
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not readable JSON"),
        (b'{"format"', "is not readable JSON"),
        (b"[]", "is not of the format 'repsim-run'"),
    ],
)
def test_open_refuses_a_broken_run_json(recorded: Path, content: bytes, message: str) -> None:
    (recorded / "run.json").write_bytes(content)
    with pytest.raises(Damaged, match=rf"{recorded}/run\.json {message}"):
        Run.open(recorded)


# Committing


def test_the_layout_on_disk_is_the_documented_one(recorded: Path) -> None:
    step = {"weights.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"}
    assert contents(recorded).keys() == {
        "run.json",
        "run.lock",
        "metrics.jsonl",
        "stimuli.h5",
        *(f"checkpoints/step_00000000/{name}" for name in step),
        *(f"checkpoints/step_00000005/{name}" for name in step | {"activations.h5"}),
    }
    state = json.loads((recorded / "checkpoints/step_00000005/state.json").read_bytes())
    assert list(state) == ["step", "optimizer", "rng", "metrics", "extra"]
    assert (state["step"], state["extra"]) == (5, {"epoch": 1})


def test_other_readers_find_the_weights(run: Run, network: nn.Module) -> None:
    path = run.checkpoint(5, network).path / "weights.safetensors"
    assert_same(safetensors.torch.load_file(path), weights(network))


def test_weights_are_read_back_to_the_bit(run: Run) -> None:
    model = nn.ModuleDict({"linear": nn.Linear(3, 2, dtype=torch.bfloat16), "norm": nn.BatchNorm1d(2)})
    model["tied"] = model["linear"]
    model.register_buffer("special", torch.tensor([float("nan"), -0.0, float("inf"), 1e-45]))
    model.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)
    checkpoint = run.checkpoint(3, model)
    read = Run.open(run.path)[3].weights()
    assert list(read) == sorted(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert bytes(read[name].reshape(-1).view(torch.uint8)) == bytes(tensor.reshape(-1).view(torch.uint8))
    assert (checkpoint.step, checkpoint.path) == (3, run.path / "checkpoints" / "step_00000003")


def test_activations_are_those_of_the_committed_weights_on_the_stimuli(
    recorded: Path, network: nn.Sequential, stimuli: Stimuli
) -> None:
    checkpoint = Run.open(recorded).last()
    network.load_state_dict(checkpoint.weights())
    network.eval()
    expected = network[:3](torch.from_numpy(stimuli.inputs)).detach().numpy()
    assert list(checkpoint.activations) == ["0", "2"]
    np.testing.assert_array_equal(checkpoint["2"][:], expected, strict=True)
    assert checkpoint.activations.stimulus_ids.tolist() == stimuli.ids.tolist()


def test_activations_say_whence_they_come(recorded: Path, stimuli: Stimuli) -> None:
    run = Run.open(recorded)
    manifest = json.loads((run[5].path / "MANIFEST.json").read_bytes())
    with h5py.File(run[5].path / "activations.h5") as file:
        attributes = dict(file.attrs)
    assert attributes["run_uuid"].decode() == run.info["uuid"]
    assert attributes["step"] == 5
    assert attributes["stimulus_hash"].decode() == stimuli.content_hash == run.stimuli.content_hash
    assert attributes["weights_hash"].decode() == manifest["files"]["weights.safetensors"]["sha256"]


def test_activations_can_be_compressed(run: Run, network: nn.Module) -> None:
    with Capture(network, ["2"]) as capture:
        run.checkpoint(0, network, capture=capture)
        run.checkpoint(1, network, capture=capture, compress=True)
    with h5py.File(run[1].path / "activations.h5") as file:
        assert file["layers/0000/data"].compression == "gzip"
    np.testing.assert_array_equal(run[1]["2"][:], run[0]["2"][:])


def test_weights_after_200_steps_are_the_same_bits_with_and_without_recording(folder: Path, stimuli: Stimuli) -> None:
    def trained(record: bool) -> dict[str, Tensor]:
        torch.manual_seed(3)
        model = build()
        optimizer = torch.optim.Adam(model.parameters())
        capture = Capture(model, ["*"], side="both", reduce={"0": SparseProjection(2)})
        with Run.create(folder / str(record), {}, stimuli) as run:
            for step in range(20):
                train(model, optimizer, 10)
                if record:
                    run.checkpoint(step, model, optimizer, capture=capture)
        return weights(model)

    assert_same(trained(record=True), trained(record=False))


def test_training_goes_on_bit_for_bit_from_a_restored_step(run: Run, network: nn.Module) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    train(network, optimizer, 4)
    run.checkpoint(4, network, optimizer)
    train(network, optimizer, 4)
    other = build()
    resumed = torch.optim.Adam(other.parameters(), lr=0.7)
    Run.open(run.path)[4].restore(other, resumed)
    train(other, resumed, 4)
    assert_same(weights(other), weights(network))


def test_a_step_without_optimizer_is_restored_without_one_only(recorded: Path, network: nn.Module) -> None:
    checkpoint = Run.open(recorded)[0]
    before = weights(network)
    with pytest.raises(ValueError, match="step_00000000 was saved without an optimizer; restore it without one"):
        checkpoint.restore(network, torch.optim.Adam(network.parameters()))
    assert_same(weights(network), before)
    checkpoint.restore(network)
    assert_same(weights(network), checkpoint.weights())


def test_weights_of_another_model_are_not_restored(recorded: Path) -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        Run.open(recorded)[0].restore(nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2)))


def test_a_damaged_step_is_not_restored(recorded: Path, network: nn.Module) -> None:
    checkpoint = Run.open(recorded)[5]
    before = weights(network)
    path = checkpoint.path / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(Damaged, match=f"{path} has changed since it was committed"):
        checkpoint.restore(network)
    assert_same(weights(network), before)


def test_a_committed_step_is_immutable(run: Run, network: nn.Module) -> None:
    run.checkpoint(3, network)
    before = contents(run.path)
    with pytest.raises(FileExistsError, match="step_00000003 exists already; committed files are never replaced"):
        run.checkpoint(3, nn.Linear(1, 1))
    assert contents(run.path) == before


@pytest.mark.parametrize(
    ("step", "extra", "error", "message"),
    [
        (
            4,
            {"loss": float("nan")},
            ValueError,
            r"extra cannot be written as JSON \(.*not JSON compliant",
        ),
        (4, {"model": object()}, TypeError, r"extra cannot be written as JSON \(.*not JSON serializable"),
        (-1, {}, ValueError, "Step is -1; expected 0 or more"),
        (1.0, {}, TypeError, r"Step is 1\.0; expected a whole number"),
        (True, {}, TypeError, "Step is True; expected a whole number"),
    ],
)
def test_a_step_that_cannot_be_written_leaves_nothing_behind(
    run: Run, network: nn.Module, step: Any, extra: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run.checkpoint(step, network, extra=extra)
    assert list((run.path / "checkpoints").iterdir()) == []
    run.checkpoint(4, network)


def test_a_step_may_be_any_whole_number(run: Run, network: nn.Module) -> None:
    run.checkpoint(np.int64(7), network)
    run.checkpoint(123_456_789, network)
    assert run.steps == [7, 123_456_789]
    assert run[7].state["step"] == 7


def test_a_step_that_does_not_fit_on_the_disk_is_absent_and_the_next_one_works(
    run: Run, network: nn.Module, full_disk: Any
) -> None:
    run.checkpoint(1, network)
    with pytest.raises(OSError, match=rf"File too large; {run.path}/checkpoints/.*could not be written"), full_disk(50):
        run.checkpoint(2, network)
    assert [entry.name for entry in (run.path / "checkpoints").iterdir()] == ["step_00000001"]
    run.checkpoint(2, network)
    assert run.verify() == [1, 2]


def test_a_capture_that_fails_leaves_nothing_behind(run: Run, network: nn.Module) -> None:
    capture = Capture(network, ["0"], reduce={"0": SpatialMean()})
    with pytest.raises(ValueError, match=r"Layer '0' cannot be reduced by spatial_mean: .* have no spatial axes"):
        run.checkpoint(1, network, capture=capture)
    assert list((run.path / "checkpoints").iterdir()) == []


def test_activations_need_stimuli_with_inputs(recorded: Path, network: nn.Module) -> None:
    stored = Stimuli.read(recorded / "stimuli.h5")
    with Run.resume(recorded, stored) as run, Capture(network, ["0"]) as capture:
        with pytest.raises(ValueError, match="The stimuli of this run have no inputs; give Stimuli with inputs"):
            run.checkpoint(9, network, capture=capture)
        assert run.checkpoint(9, network).step == 9


# Finding steps


def test_steps_ignore_staging_and_odd_names(recorded: Path) -> None:
    folder = recorded / "checkpoints"
    odd = [".tmp-step_00000002-ab", "step_2", "step_000000002", "step_-0000002", "step_", "step_abc", "step_0000000²"]
    for name in [*odd, "00000005", "step_00000005.old", "step_٠٠٠٠٠٠٠٢"]:
        (folder / name).mkdir()
        (folder / name / "activations.h5").touch()
    (folder / "step_00000009").write_bytes(b"a file")
    run = Run.open(recorded)
    assert (run.steps, run.recorded_steps, run.last().step) == ([0, 5], [5], 5)


def test_steps_are_in_order_of_number(run: Run, network: nn.Module) -> None:
    for step in (10, 200_000_000, 9, 0):
        run.checkpoint(step, network)
    assert run.steps == [0, 9, 10, 200_000_000]


def test_last_is_the_last_step_with_activations(recorded: Path, stimuli: Stimuli, network: nn.Module) -> None:
    with Run.resume(recorded, stimuli) as run:
        run.checkpoint(9, network)
        assert (run.steps, run.recorded_steps, run.last().step) == ([0, 5, 9], [5], 5)


def test_last_of_a_run_without_activations_is_an_error(run: Run, network: nn.Module) -> None:
    run.checkpoint(0, network)
    with pytest.raises(FileNotFoundError, match=f"{run.path} has no checkpoint with activations yet"):
        run.last()


def test_an_absent_step_is_an_error_that_lists_those_there_are(recorded: Path, run: Run) -> None:
    with pytest.raises(KeyError, match=f"{recorded} has no checkpoint of step 3; committed are: 0, 5"):
        Run.open(recorded)[3]


def test_an_absent_step_of_an_empty_run_is_an_error(run: Run) -> None:
    with pytest.raises(KeyError, match="has no checkpoint of step 0; committed are: none"):
        run[0]


# Metrics and status


def test_metrics_come_back_as_they_were_logged(run: Run) -> None:
    records = [{"step": step, "loss": 1 / (step + 1), "note": "é\n", "inner": {"a": [1, None]}} for step in range(3)]
    for record in records:
        run.log(record)
    assert run.metrics() == Run.open(run.path).metrics() == records


def test_numbers_that_are_not_finite_become_null_at_any_depth(run: Run) -> None:
    bad = [float("nan"), float("inf"), -float("inf"), np.float64("nan")]
    run.log({"step": 1, "loss": bad[0], "losses": {"10": bad, "20": (1.5, bad[0])}})
    assert run.metrics() == [{"step": 1, "loss": None, "losses": {"10": [None] * 4, "20": [1.5, None]}}]


def test_what_is_not_json_is_not_logged(run: Run) -> None:
    run.log({"step": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        run.log({"step": 2, "losses": torch.ones(2)})
    run.log({"step": 3})
    assert run.metrics() == [{"step": 1}, {"step": 3}]


def test_a_torn_last_line_is_ignored_and_gone_once_the_run_is_resumed(recorded: Path, stimuli: Stimuli) -> None:
    whole = Run.open(recorded).metrics()
    with (recorded / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    assert Run.open(recorded).metrics() == whole
    Run.open(recorded).verify()
    with Run.resume(recorded, stimuli) as run:
        run.log({"step": 6})
        assert run.metrics() == [*whole, {"step": 6}]


def test_a_run_without_its_log_is_damaged(recorded: Path, stimuli: Stimuli) -> None:
    (recorded / "metrics.jsonl").unlink()
    for act in (Run.metrics, Run.verify):
        with pytest.raises(Damaged, match=rf"{recorded}/metrics\.jsonl is missing or not a regular file"):
            act(Run.open(recorded))
    with pytest.raises(Damaged, match=rf"{recorded}/metrics\.jsonl is missing"):
        Run.resume(recorded, stimuli)


@pytest.mark.parametrize("line", [b"{", b"", b"[1]", b"3", b"\xff", b"[" * 100_000])
def test_any_other_damaged_line_is_found(recorded: Path, line: bytes) -> None:
    lines = (recorded / "metrics.jsonl").read_bytes().splitlines()
    (recorded / "metrics.jsonl").write_bytes(b"\n".join([lines[0], line, lines[1], b""]))
    with pytest.raises(Damaged, match=rf"Line 2 of {recorded}/metrics\.jsonl is not a JSON object"):
        Run.open(recorded).metrics()


def test_metrics_are_cut_after_a_step(recorded: Path, stimuli: Stimuli) -> None:
    with Run.resume(recorded, stimuli) as run:
        run.cut_metrics(5)
        assert [record["step"] for record in run.metrics()] == [1, 5]
        with pytest.raises(ValueError, match="has a checkpoint of step 5; move it out of the run before"):
            run.cut_metrics(4)
        shutil.rmtree(run.path / "checkpoints" / "step_00000005")
        run.cut_metrics(4)
        assert [record["step"] for record in run.metrics()] == [1]
        assert run.verify() == [0]
        with pytest.raises(TypeError, match="The step of a metric is None; expected a whole number"):
            run.log({"note": "no step"})
        run.log({"step": 5, "loss": 0.2})
        assert run.metrics()[-1] == {"step": 5, "loss": 0.2}


def test_the_status_is_what_was_last_set(run: Run) -> None:
    for state in ("running", "interrupted", "running", "finished"):
        run.set_status(state, step=3)
        for seen in (run.status, Run.open(run.path).status):
            assert (seen["state"], seen["step"]) == (state, 3)
    run.set_status("diverged", loss=float("nan"))
    assert run.status.keys() == {"state", "time", "loss"}
    assert run.status["loss"] is None


def test_a_status_that_is_not_json_changes_nothing(run: Run) -> None:
    run.set_status("running")
    before = contents(run.path)
    with pytest.raises(TypeError, match="not JSON serializable"):
        run.set_status("finished", model=object())
    assert contents(run.path) == before
    assert run.info["status"] == run.status
    assert run.status["state"] == "running"


def test_a_run_that_says_it_is_running_but_is_not_is_stopped(run: Run, stimuli: Stimuli) -> None:
    run.set_status("running")
    run.close()
    assert Run.open(run.path).status["state"] == "stopped"
    with Run.resume(run.path, stimuli) as resumed:
        assert resumed.status["state"] == Run.open(run.path).status["state"] == "running"
        resumed.set_status("finished")
    assert Run.open(run.path).status["state"] == "finished"


def test_a_run_that_finishes_at_this_instant_is_not_called_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def finish_meanwhile(path: Path) -> bool:
        run.set_status("finished")
        run.close()
        return False

    run.set_status("running")
    monkeypatch.setattr(checkpoints.run, "is_locked", finish_meanwhile)
    assert Run.open(run.path).status["state"] == "finished"


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.checkpoint(9, nn.Linear(1, 1)),
        lambda run: run.log({"step": 9}),
        lambda run: run.cut_metrics(0),
        lambda run: run.set_status("finished"),
    ],
)
def test_a_run_that_was_opened_for_reading_is_not_written(recorded: Path, write: Callable[[Run], Any]) -> None:
    before = contents(recorded)
    message = f"{recorded} was opened for reading; use Run.create or Run.resume to write"
    with pytest.raises(PermissionError, match=message):
        write(Run.open(recorded))
    assert contents(recorded) == before


def test_a_closed_run_is_not_written(run: Run) -> None:
    run.close()
    run.close()
    with pytest.raises(PermissionError, match="was opened for reading"):
        run.log({"step": 1})


# Verifying


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


@pytest.mark.parametrize("name", [name for name in STEP_FILES if name != "MANIFEST.json"])
def test_another_size_is_found_without_reading_every_byte(recorded: Path, name: str) -> None:
    path = recorded / "checkpoints" / "step_00000005" / name
    cut(path)
    with pytest.raises(Damaged, match=rf"{path} has \d+ bytes; \d+ were committed"):
        Run.open(recorded).verify("size")


def test_an_unknown_level_is_refused(recorded: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown level 'md5'\. Choose one of: size, sha256"):
        Run.open(recorded).verify("md5")


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


def test_a_changed_label_is_found(recorded: Path) -> None:
    with h5py.File(recorded / "stimuli.h5") as file:
        start = file["label"].id.get_chunk_info(0).byte_offset
    content = bytearray((recorded / "stimuli.h5").read_bytes())
    content[start] ^= 1
    (recorded / "stimuli.h5").write_bytes(content)
    with pytest.raises(Damaged, match=rf"{recorded}/stimuli\.h5 has changed since"):
        Run.open(recorded).verify()


def test_a_damaged_line_of_metrics_is_found(recorded: Path) -> None:
    path = recorded / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[1:])
    with pytest.raises(Damaged, match=f"Line 1 of {path} is not a JSON object"):
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


@pytest.mark.parametrize("content", [b"", b"\x02\x00\x00\x00\x00\x00\x00\x00{", b"\xff" * 100])
def test_weights_that_cannot_be_read_are_damaged(recorded: Path, content: bytes) -> None:
    path = recorded / "checkpoints/step_00000005/weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=rf"{path} cannot be read \("):
        Run.open(recorded)[5].weights()
    path.unlink()
    with pytest.raises(Damaged, match=rf"{path} is missing or not a regular file"):
        Run.open(recorded)[5].weights()


def test_weights_of_a_type_that_torch_does_not_have_are_damaged(recorded: Path) -> None:
    path = recorded / "checkpoints/step_00000005/weights.safetensors"
    header = b'{"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"abc")
    with pytest.raises(Damaged, match=rf"{path} cannot be read \("):
        Run.open(recorded)[5].weights()


def test_a_state_that_is_not_an_object_is_damaged(recorded: Path) -> None:
    path = recorded / "checkpoints/step_00000005/state.json"
    path.write_text("[1]")
    with pytest.raises(Damaged, match=f"{path} is not a JSON object"):
        _ = Run.open(recorded)[5].state


# Resuming


def test_a_resumed_run_is_written_on(recorded: Path, stimuli: Stimuli, network: nn.Module) -> None:
    before = contents(recorded)
    with Run.resume(recorded, stimuli) as run, Capture(network, ["0"]) as capture:
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


def test_what_a_crashed_writer_left_is_removed_on_resume(recorded: Path, stimuli: Stimuli) -> None:
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


def train_and_commit(path: Path, n_steps: int) -> None:
    """Train and commit every step, from the last committed one if there is any."""
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)
    model = build()
    optimizer = torch.optim.Adam(model.parameters())
    run = Run.resume(path, build_stimuli()) if path.exists() else Run.create(path, {}, build_stimuli())
    start = run.steps[-1] if run.steps else 0
    if start:
        run[start].restore(model, optimizer)
        run.cut_metrics(start)
    with run, Capture(model, ["*"]) as capture:
        run.set_status("running")
        for step in range(start + 1, n_steps + 1):
            train(model, optimizer, 1)
            run.log({"step": step, "drawn": [torch.rand(()).item(), np.random.rand(), random.random()]})
            run.checkpoint(step, model, optimizer, capture=capture)
        run.set_status("finished")


DIE = """
import os, pathlib, runpy, signal, sys
train_and_commit = runpy.run_path(sys.argv[1])["train_and_commit"]
sync = os.fsync
def dying(descriptor):
    if sys.argv[4] in os.readlink(f"/proc/self/fd/{descriptor}"):
        os.kill(os.getpid(), signal.SIGKILL)
    sync(descriptor)
os.fsync = dying
train_and_commit(pathlib.Path(sys.argv[2]), int(sys.argv[3]))
"""


def test_a_killed_and_resumed_run_is_the_uninterrupted_one_bit_for_bit(folder: Path) -> None:
    train_and_commit(folder / "whole", 4)
    command = [sys.executable, "-c", DIE, __file__, str(folder / "killed"), "4", ".tmp-step_00000003"]
    assert subprocess.run(command, timeout=120, check=False).returncode == -signal.SIGKILL
    whole, killed = Run.open(folder / "whole"), Run.open(folder / "killed")
    assert killed.status["state"] == "stopped"
    assert killed.verify() == [1, 2]
    assert killed.metrics() == whole.metrics()[:3]
    assert any(path.name.startswith(".tmp-step_00000003") for path in (killed.path / "checkpoints").iterdir())
    train_and_commit(folder / "killed", 4)
    assert killed.status["state"] == whole.status["state"] == "finished"
    assert killed.verify() == whole.verify() == [1, 2, 3, 4]
    assert killed.metrics() == whole.metrics()
    for step in whole.steps:
        assert_same(killed[step].weights(), whole[step].weights())
        assert killed[step].state == whole[step].state
        assert all((killed[step][name][:] == layer[:]).all() for name, layer in whole[step].activations.items())


# Whose weights, whose activations


def test_a_capture_of_another_model_is_refused(run: Run, network: nn.Module) -> None:
    with pytest.raises(ValueError, match="The capture records another model than the one whose weights are saved"):
        run.checkpoint(1, network, capture=Capture(build(), "0"))
    whole = nn.Sequential(network)
    assert run.checkpoint(1, whole, capture=Capture(network, "0")).step == 1  # a part of what is saved
    assert run.steps == [1]


def test_a_step_whose_folder_was_renamed_is_found(recorded: Path) -> None:
    (recorded / "checkpoints/step_00000005").rename(recorded / "checkpoints/step_00000006")
    for level in ("size", "sha256"):
        with pytest.raises(Damaged, match="step_00000006 holds step 5; the folder has been renamed"):
            Run.open(recorded)[6].verify(level)


def test_a_step_whose_activations_were_deleted_is_not_taken_for_one_without(recorded: Path) -> None:
    (recorded / "checkpoints/step_00000005/activations.h5").unlink()
    run = Run.open(recorded)
    assert run.recorded_steps == [5]
    with pytest.raises(Damaged, match=r"activations\.h5 is missing"):
        run.last().verify()


@pytest.mark.parametrize("wrap", [lambda scheduler: scheduler, lambda scheduler: [scheduler]])
def test_what_is_no_optimizer_is_not_saved_as_one(run: Run, network: nn.Module, wrap: Callable[[Any], Any]) -> None:
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(network.parameters()), 1)
    with pytest.raises(TypeError, match=r"StepLR is not an optimizer; expected one or several torch\.optim\.Optimizer"):
        run.checkpoint(1, network, wrap(scheduler))


def test_several_optimizers_are_saved_and_restored(run: Run, network: nn.Sequential) -> None:
    def optimizers() -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(network[0].parameters()), torch.optim.SGD(network[4].parameters(), 0.1, momentum=0.9)]

    first = optimizers()
    network(torch.randn(4, 3)).sum().backward()
    for each in first:
        each.step()
    run.checkpoint(1, network, first)
    second = optimizers()
    run[1].restore(network, second)
    for one, other in zip(first, second, strict=True):
        assert one.state_dict()["param_groups"] == other.state_dict()["param_groups"]
        assert [len(state) for state in one.state.values()] == [len(state) for state in other.state.values()]
    before = weights(network)
    with pytest.raises(ValueError, match="was saved with 2 optimizers; 1 were given"):
        run[1].restore(network, first[0])
    with torch.no_grad():
        network[0].weight.add_(1)
    changed = weights(network)
    with pytest.raises(ValueError, match=r"has an optimizer with \[2\] parameters per group; the given one has \[6\]"):
        run[1].restore(network, [torch.optim.SGD(network.parameters()), second[1]])
    assert_same(weights(network), changed)  # nothing was restored
    run[1].restore(network)
    assert_same(weights(network), before)


def test_a_model_with_a_compiled_part_is_restored(run: Run) -> None:
    network = build()
    network[0] = torch.compile(network[0], backend="eager")
    run.checkpoint(1, network)
    assert set(run[1].weights()) == set(build().state_dict())
    before = weights(network)
    with torch.no_grad():
        network[4].weight.zero_()
    run[1].restore(network)
    assert_same(weights(network), before)


def test_the_module_inside_a_data_parallel_one_is_what_is_saved(run: Run, network: nn.Module) -> None:
    wrapped = nn.DataParallel(network)
    run.checkpoint(1, wrapped, capture=Capture(wrapped, "0"))
    assert set(run[1].weights()) == set(network.state_dict())
    assert list(run[1].activations) == ["0"]


def test_what_was_logged_before_a_commit_is_never_cut(recorded: Path, stimuli: Stimuli, network: nn.Module) -> None:
    with Run.resume(recorded, stimuli) as run:
        run.log({"step": 10})
        run.checkpoint(9, network)
        run.log({"step": 11})
        run.cut_metrics(9)
        assert [record["step"] for record in run.metrics()][-1] == 10
        assert run.verify() == [0, 5, 9]


def test_numbers_of_numpy_and_torch_are_logged(run: Run) -> None:
    run.log({"step": np.int64(3), "loss": torch.tensor(0.5), "parts": [np.float32(0.25), torch.tensor(float("nan"))]})
    assert run.metrics() == [{"step": 3, "loss": 0.5, "parts": [0.25, None]}]


def test_threads_may_log_at_once(run: Run) -> None:
    def log(first: int) -> None:
        for step in range(first, first + 100):
            run.log({"step": step})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(log, [0, 100, 200, 300]))
    assert sorted(record["step"] for record in run.metrics()) == list(range(400))
    run.set_status("finished")
    assert run.verify() == []


def test_a_forked_child_that_closes_the_run_leaves_the_lock_to_its_parent(run: Run, stimuli: Stimuli) -> None:
    if (child := os.fork()) == 0:
        run.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(Locked, match=f"is being written by process {os.getpid()}"):
        Run.resume(run.path, stimuli)


def test_runs_and_steps_say_where_they_are(recorded: Path) -> None:
    run = Run.open(recorded)
    assert repr(run) == f"Run('{recorded}')"
    assert repr(run[5]) == f"Checkpoint('{recorded}/checkpoints/step_00000005')"
    assert repr(run[5].activations) == "Activations(6 stimuli; 0: 8, 2: 8)"


# Without weights


@pytest.fixture
def unweighted(run: Run, network: nn.Module) -> Run:
    """Step 1 has weights, step 2 activations alone."""
    with Capture(network, ["0", "2"]) as capture:
        run.checkpoint(1, network, capture=capture)
        run.checkpoint(2, network, capture=capture, weights=None)
    return run


def test_activations_are_recorded_without_weights(unweighted: Run) -> None:
    step = unweighted[2].path
    assert {path.name for path in step.iterdir()} == {
        "activations.h5",
        "optimizer.safetensors",
        "state.json",
        "MANIFEST.json",
    }
    run = Run.open(unweighted.path)
    assert run.verify() == run.verify("size") == run.recorded_steps == [1, 2]
    assert [run[step].has_weights for step in run.steps] == [True, False]
    assert run[2].activations.header["weights_hash"] == "none"
    for layer in run[1].activations:
        np.testing.assert_array_equal(run[2][layer][:], run[1][layer][:])
    assert "0" in run._repr_html_()


def test_a_step_without_weights_is_not_restored(unweighted: Run, network: nn.Module) -> None:
    before = weights(network)
    message = f"{unweighted[2].path} was recorded without weights, which loading and restoring need"
    with pytest.raises(ValueError, match=message):
        unweighted[2].weights()
    with pytest.raises(ValueError, match=message):
        unweighted[2].restore(network)
    assert_same(weights(network), before)


def test_a_network_whose_weights_cannot_be_stored_is_recorded_without_them(run: Run, network: nn.Sequential) -> None:
    network.register_buffer("graph", torch.eye(3).to_sparse())
    capture = Capture(network, ["2"])
    with pytest.raises(TypeError, match=r"'graph' is stored as sparse_coo.*; give weights=None to record activations"):
        run.checkpoint(0, network, capture=capture)
    run.checkpoint(0, network, torch.optim.Adam(network.parameters()), capture=capture, weights=None)
    assert run.verify() == [0]


def test_weights_that_were_deleted_are_not_taken_for_none(unweighted: Run) -> None:
    (unweighted[1].path / "weights.safetensors").unlink()
    with pytest.raises(Damaged, match=r"weights\.safetensors is missing"):
        unweighted.verify()
    with pytest.raises(Damaged, match=r"weights\.safetensors is missing or not a regular file"):
        unweighted[1].weights()


def test_weights_that_were_added_are_noticed(unweighted: Run) -> None:
    for name in ("weights.safetensors", "MANIFEST.json"):
        shutil.copyfile(unweighted[1].path / name, unweighted[2].path / name)
    manifest = json.loads((unweighted[2].path / "MANIFEST.json").read_bytes())
    for name in manifest["files"]:
        content = (unweighted[2].path / name).read_bytes()
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (unweighted[2].path / "MANIFEST.json").write_bytes(encode_json(manifest))
    with pytest.raises(Damaged, match="was recorded elsewhere: its weights_hash differs from this run's"):
        unweighted.verify()


def test_there_must_be_something_to_save(run: Run, network: nn.Module) -> None:
    with pytest.raises(ValueError, match="nothing to save: give a capture to record, or save the weights"):
        run.checkpoint(0, network, weights=None)
    with pytest.raises(ValueError, match=r"Unknown weights 'some'\. Choose 'all' or None"):
        run.checkpoint(0, network, weights="some")
    assert run.steps == []
