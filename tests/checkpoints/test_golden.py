"""A run directory of format version 1, written once and never again: every later version must read it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from checkpoints import Run, Stimuli

GOLDEN = Path(__file__).parent / "golden" / "run-v1"


def images() -> np.ndarray:
    return (np.arange(96).reshape(6, 1, 4, 4) % 7 - 3).astype(np.float32)


def fill(*shape: int) -> np.ndarray:
    return ((np.arange(np.prod(shape)) % 5 - 2) / 8).reshape(shape)


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.open(GOLDEN)


def test_it_is_whole(run: Run) -> None:
    assert run.verify("sha256") == run.steps == run.recorded_steps == [0, 1]
    assert run.status["state"] == "finished"
    assert run.config == {"name": "golden", "rate": 0.5}
    assert run.metrics() == [{"step": 1, "loss": 0.125}]


def test_its_stimuli_are_read(run: Run) -> None:
    assert run.stimuli.ids.tolist() == [f"image {index}" for index in (0, 2, 4, 1, 3, 5)]
    assert run.stimuli.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert run.stimuli.split.tolist() == ["train", "validation", "test"] * 2
    split = ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert run.stimuli.is_same_as(Stimuli.of([f"image {index}" for index in range(6)], [0, 1] * 3, split, images()))


def test_its_layers_are_described(run: Run) -> None:
    layers = run[0].activations
    said = [
        (layer.name, layer.module, layer.call_index, layer.path, layer.feature_shape, layer.source_shape)
        for layer in layers.values()
    ]
    assert said == [
        ("conv", "conv", 0, "", (2,), (2, 3, 3)),
        ("relu#0", "relu", 0, "", (2, 3, 3), (2, 3, 3)),
        ("split[0]", "split", 0, "[0]", (18,), (18,)),
        ("split[1][half]", "split", 0, "[1][half]", (18,), (18,)),
        ("head", "head", 0, "", (3,), (3,)),
        ("relu#1", "relu", 1, "", (3,), (3,)),
    ]
    assert {layer.reduction for layer in layers.values()} == {"spatial_mean", "flatten"}
    assert layers["split[1][half]"].source_dtype == "torch.bfloat16"
    assert {layer.side for layer in layers.values()} == {"output"}


def test_its_values_are_those_of_the_network(run: Run) -> None:
    inputs = images()[[0, 2, 4, 1, 3, 5], 0]
    kernels, bias = fill(2, 2, 2), fill(2)
    patches = np.lib.stride_tricks.sliding_window_view(inputs, (2, 2), axis=(1, 2))
    maps = np.einsum("nijab,cab->ncij", patches, kernels) + bias[:, None, None]
    hidden = np.maximum(maps, 0).reshape(6, -1)
    output = hidden @ fill(3, 18).T + fill(3)
    layers = run[0].activations
    np.testing.assert_allclose(layers["conv"][:], maps.mean((2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(layers["relu#0"][:], hidden)
    np.testing.assert_array_equal(layers["split[0]"][:], hidden)
    np.testing.assert_allclose(layers["split[1][half]"][:], hidden, rtol=2**-8)
    np.testing.assert_array_equal(layers["head"][:], output)
    np.testing.assert_array_equal(layers["relu#1"][:], np.maximum(output, 0))


def test_its_weights_and_optimizer_are_restored(run: Run) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 2), nn.Linear(18, 3)

    network = Network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.5)
    with torch.random.fork_rng(devices=[]):
        run[1].restore(network, optimizer)
    np.testing.assert_array_equal(network.head.weight.detach(), fill(3, 18) - 0.5)  # one step of 0.5 along ones
    assert all(torch.equal(state["momentum_buffer"], torch.ones_like(p)) for p, state in optimizer.state.items())
    assert run[1].state["extra"] == {"epoch": 1}


def test_it_can_be_written_on(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "run")
    split = ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    stimuli = Stimuli.of([f"image {index}" for index in range(6)], [0, 1] * 3, split, images())
    with Run.resume(tmp_path / "run", stimuli) as run:
        run.log({"step": 2, "loss": 0.0625})
        run.checkpoint(2, nn.Identity())
    assert Run.open(tmp_path / "run").verify() == [0, 1, 2]
