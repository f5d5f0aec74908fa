"""Steps are committed completely or not at all, with or without weights, and restored exactly."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from checkpoints import Capture, Damaged, Run, SparseProjection, SpatialMean, Stimuli
from checkpoints.storage.manifest import encode_json
from tests.checkpoints.small_runs import assert_same, build, contents, train, weights


def test_the_layout_on_disk_is_as_documented(recorded: Path) -> None:
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


def test_activations_state_their_origin(recorded: Path, stimuli: Stimuli) -> None:
    run = Run.open(recorded)
    manifest = json.loads((run[5].path / "MANIFEST.json").read_bytes())
    with h5py.File(run[5].path / "activations.h5") as file:
        attributes = dict(file.attrs)
    assert attributes["run_uuid"].decode() == run.info["uuid"]
    assert attributes["step"] == 5
    assert attributes["stimulus_hash"].decode() == stimuli.content_hash == run.stimuli.content_hash
    assert attributes["weights_hash"].decode() == manifest["files"]["weights.safetensors"]["sha256"]


def test_activations_can_be_compressed(run: Run, network: nn.Module) -> None:
    capture = Capture(network, ["2"])
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


def test_training_continues_bit_for_bit_from_a_restored_step(run: Run, network: nn.Module) -> None:
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


def test_a_step_may_be_any_whole_number_and_steps_are_in_order(run: Run, network: nn.Module) -> None:
    for step in (10, 123_456_789, np.int64(7), 0):
        run.checkpoint(step, network)
    assert run.steps == [0, 7, 10, 123_456_789]
    assert run[7].state["step"] == 7


def test_a_capture_that_fails_leaves_nothing_behind(run: Run, network: nn.Module) -> None:
    capture = Capture(network, ["0"], reduce={"0": SpatialMean()})
    with pytest.raises(ValueError, match=r"Layer '0' cannot be reduced by spatial_mean: .* have no spatial axes"):
        run.checkpoint(1, network, capture=capture)
    assert list((run.path / "checkpoints").iterdir()) == []


def test_activations_need_stimuli_with_inputs(recorded: Path, network: nn.Module) -> None:
    stored = Stimuli.read(recorded / "stimuli.h5")
    capture = Capture(network, ["0"])
    with Run.resume(recorded, stored) as run:
        with pytest.raises(ValueError, match="The stimuli of this run have no inputs; give Stimuli with inputs"):
            run.checkpoint(9, network, capture=capture)
        assert run.checkpoint(9, network).step == 9


def test_a_capture_of_another_model_is_refused(run: Run, network: nn.Module) -> None:
    with pytest.raises(ValueError, match="The capture records another model than the one whose weights are saved"):
        run.checkpoint(1, network, capture=Capture(build(), "0"))
    whole = nn.Sequential(network)
    assert run.checkpoint(1, whole, capture=Capture(network, "0")).step == 1  # a part of what is saved
    assert run.steps == [1]


@pytest.mark.parametrize("wrap", [lambda scheduler: scheduler, lambda scheduler: [scheduler]])
def test_only_optimizers_are_saved_as_optimizers(run: Run, network: nn.Module, wrap: Callable[[Any], Any]) -> None:
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


def test_the_module_inside_a_data_parallel_wrapper_is_saved(run: Run, network: nn.Module) -> None:
    wrapped = nn.DataParallel(network)
    run.checkpoint(1, wrapped, capture=Capture(wrapped, "0"))
    assert set(run[1].weights()) == set(network.state_dict())
    assert list(run[1].activations) == ["0"]


@pytest.fixture
def unweighted(run: Run, network: nn.Module) -> Run:
    """Step 1 has weights, step 2 activations alone."""
    capture = Capture(network, ["0", "2"])
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


def test_a_step_with_deleted_weights_is_damaged(unweighted: Run) -> None:
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


# Gradients


def gradients_of(model: nn.Module) -> Capture:
    return Capture(model, ["0", "2"], side="gradient", loss=summed)


def summed(output: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output, labels, reduction="sum")


def test_gradients_are_committed_beside_activations(run: Run, network: nn.Sequential, stimuli: Stimuli) -> None:
    run.checkpoint(1, network, capture=Capture(network, ["0", "2"]), gradients=gradients_of(network), compress=True)
    run.checkpoint(2, network, gradients=gradients_of(network))
    opened = Run.open(run.path)
    assert opened.verify() == [1, 2]
    assert opened.recorded_steps == [1]
    assert opened[1].manifest.keys() - opened[2].manifest.keys() == {"activations.h5"}
    assert opened[1].gradients.header == opened[1].activations.header
    expected = gradients_of(network).record(stimuli.first_inputs(6), stimuli.labels)
    for step in (1, 2):
        assert list(opened[step].gradients) == ["0", "2"]
        for name, layer in opened[step].gradients.items():
            np.testing.assert_array_equal(layer[:], expected[name].values)
            assert layer.side == "gradient"
            assert layer.stimuli is not None
    with h5py.File(opened[1].path / "gradients.h5") as file:
        assert file["layers/0000/data"].compression == "gzip"


def test_a_step_without_gradients_says_so(recorded: Path) -> None:
    with pytest.raises(
        ValueError, match=r"step_00000005 was recorded without gradients\. Train with --record-signals, or"
    ):
        _ = Run.open(recorded)[5].gradients


def test_captures_are_given_for_what_they_record(run: Run, network: nn.Module) -> None:
    with pytest.raises(
        ValueError, match="The capture records gradients; give it as gradients, beside a capture of act"
    ):
        run.checkpoint(1, network, capture=gradients_of(network))
    with pytest.raises(
        ValueError, match="gradients records the side 'output'; expected a capture with side 'gradient'"
    ):
        run.checkpoint(1, network, gradients=Capture(network))
    with pytest.raises(ValueError, match="The capture records another model than the one whose weights are saved"):
        run.checkpoint(1, network, gradients=gradients_of(build()))
    with pytest.raises(ValueError, match="There is nothing to save"):
        run.checkpoint(1, network, gradients=gradients_of(network), weights=None)
    assert run.steps == []


@pytest.mark.parametrize("damage", ["activations", "another step", "a bit"])
def test_damaged_gradients_are_found(run: Run, network: nn.Module, damage: str) -> None:
    for step in (1, 2):
        run.checkpoint(step, network, capture=Capture(network, "0"), gradients=gradients_of(network))
    path = run[1].path / "gradients.h5"
    if damage == "a bit":
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
        message = r"gradients\.h5 has changed since it was committed"
    else:
        other = run[1].path / "activations.h5" if damage == "activations" else run[2].path / "gradients.h5"
        path.write_bytes(other.read_bytes())
        manifest = json.loads((run[1].path / "MANIFEST.json").read_bytes())
        entry = {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        manifest["files"]["gradients.h5"] = entry
        (run[1].path / "MANIFEST.json").write_bytes(encode_json(manifest))
        message = r"gradients\.h5 (holds other tensors than gradients|was recorded elsewhere: its step differs)"
    with pytest.raises(Damaged, match=message):
        Run.open(run.path).verify()


def test_a_gradient_that_cannot_be_had_leaves_nothing_behind(run: Run, network: nn.Module) -> None:
    gradients = Capture(network, "0", side="gradient", loss=lambda output, labels: output)
    with pytest.raises(ValueError, match="The loss returned a tensor of shape"):
        run.checkpoint(1, network, capture=Capture(network), gradients=gradients)
    assert list((run.path / "checkpoints").iterdir()) == []
