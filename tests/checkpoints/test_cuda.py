"""Capture and restoring on a GPU; skipped if there is none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from checkpoints import Capture, Run, SparseProjection, SpatialMean, Stimuli, TokenMean

pytestmark = pytest.mark.cuda

X = np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32)


def build(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(), nn.Linear(144, 3)
    return nn.Sequential(*layers).to("cuda", dtype)


def test_activations_are_those_of_the_network_on_the_cpu() -> None:
    network = build()
    reduce = {"0": SpatialMean(), "1": SparseProjection(5), "2": lambda values: values[:, :2]}
    on_gpu = Capture(network, "**", reduce=reduce).record(X)
    on_cpu = Capture(network.cpu(), "**", reduce=reduce).record(X)
    assert list(on_gpu) == list(on_cpu)
    for name, layer in on_gpu.items():
        np.testing.assert_allclose(layer.values, on_cpu[name].values, atol=1e-3)  # convolutions may use TF32
        assert (layer.feature_shape, layer.source_dtype) == (on_cpu[name].feature_shape, "torch.float32")


def test_a_mask_among_the_inputs_reaches_the_network_on_the_gpu() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(7, 4)

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.embedding(tokens)

    generator = np.random.default_rng(0)
    inputs = {"tokens": generator.integers(0, 7, (6, 5)), "mask": np.tri(6, 5, dtype=np.int64)}
    network = Encoder().cuda()
    on_gpu = Capture(network, "embedding", reduce=TokenMean("mask")).record(inputs)["embedding"]
    on_cpu = Capture(network.cpu(), "embedding", reduce=TokenMean("mask")).record(inputs)["embedding"]
    np.testing.assert_allclose(on_gpu.values, on_cpu.values, atol=1e-6)


def test_half_precision_is_stored_as_it_was() -> None:
    network = build(torch.bfloat16)
    layer = Capture(network, "0").record(X)["0"]
    assert layer.source_dtype == "torch.bfloat16"
    assert np.array_equal(torch.from_numpy(layer.values).bfloat16().float().numpy(), layer.values)


def test_the_generator_of_the_gpu_is_restored(tmp_path: Path) -> None:
    network = build().train()
    optimizer = torch.optim.Adam(network.parameters())
    stimuli = Stimuli.of(np.arange(20).astype(str), np.arange(20) % 2, ["test"] * 20, X)
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        network(torch.from_numpy(X).cuda()).sum().backward()
        optimizer.step()
        before = torch.cuda.get_rng_state()
        run.checkpoint(1, network, optimizer, capture=Capture(network, "**"))
        assert torch.equal(torch.cuda.get_rng_state(), before)
        drawn = torch.rand(5, device="cuda")
        run[1].restore(network, optimizer)
        assert torch.equal(torch.rand(5, device="cuda"), drawn)
        assert next(network.parameters()).is_cuda
