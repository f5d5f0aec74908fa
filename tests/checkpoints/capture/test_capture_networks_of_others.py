"""Small networks of different make: each recorded row is what the network computes of that stimulus alone.

Every network is recorded of as many stimuli as each of its internal sizes, so that no size tells which axis is which.
"""

from __future__ import annotations

import copy
import random
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from checkpoints import Capture
from checkpoints.storage.hdf5_files.activation_file import LayerValues

Build = Callable[[], nn.Module]
Draw = Callable[[int, torch.Generator], Any]


class Function(nn.Module):
    """A module that computes a function of its input and of its parts."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def numbers(*shape: int) -> Draw:
    """Return a function that draws n stimuli of a shape."""
    return lambda n, generator: torch.randn(n, *shape, generator=generator)


def tokens(length: int, vocabulary: int = 7) -> Draw:
    return lambda n, generator: torch.randint(0, vocabulary, (n, length), generator=generator)


def lengths_and_values(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    lengths = torch.randint(1, 5, (n,), generator=generator)
    return {"x": torch.randn(n, 4, 3, generator=generator), "lengths": lengths}


def normalised_maps() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4),
        nn.LocalResponseNorm(2),
        nn.PixelUnshuffle(2),
        nn.PixelShuffle(2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.LayerNorm(16),
        nn.RMSNorm(16),
    )


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(3, 5, 2), nn.MaxPool2d(2), nn.Unfold(2), nn.Fold((2, 2), 2), nn.Upsample(scale_factor=2)
    )


def volumes() -> nn.Module:
    return nn.Sequential(nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), nn.AvgPool3d(2), nn.Flatten(), nn.Linear(3, 2))


def sequences_of_maps() -> nn.Module:
    return nn.Sequential(nn.Conv1d(3, 4, 2), nn.BatchNorm1d(4), nn.GLU(1), nn.CircularPad1d(1), nn.AdaptiveMaxPool1d(2))


def activations() -> nn.Module:
    kinds = [
        nn.PReLU(6),
        nn.RReLU(),
        nn.SELU(),
        nn.Softmax(-1),
        nn.Softmin(-1),
        nn.Hardtanh(),
        nn.AlphaDropout(),
        nn.Tanh(),
    ]
    return nn.Sequential(nn.Linear(4, 6), *kinds, nn.Dropout(), nn.Unflatten(1, (2, 3)), nn.Softplus())


def bags() -> nn.Module:
    return Function(
        lambda self, x: self.out(torch.cat([self.bag(x), self.embedding(x).mean(1)], 1)),
        bag=nn.EmbeddingBag(7, 3),
        embedding=nn.Embedding(7, 3, max_norm=0.5),
        out=nn.Linear(6, 2),
    )


def bilinear() -> nn.Module:
    return Function(
        lambda self, x: self.form(self.a(x), self.b(x)), a=nn.Linear(4, 3), b=nn.Linear(4, 5), form=nn.Bilinear(3, 5, 2)
    )


def recurrent(batch_first: bool) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(x if batch_first else x.transpose(0, 1))
        return self.out(hidden[-1])

    return Function(
        run, lstm=nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=batch_first), out=nn.Linear(4, 2)
    )


def packed() -> nn.Module:
    def run(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.out(self.gru(packed)[1][-1])

    return Function(run, gru=nn.GRU(3, 5, batch_first=True), out=nn.Linear(5, 2))


def cells() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for step in x.unbind(1):
            h = self.cell(step, h)
        return self.out(h)

    return Function(run, cell=nn.GRUCell(3, 4), out=nn.Linear(4, 2))


def encoder(batch_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=batch_first)

    def run(self: Any, x: Tensor) -> Tensor:
        return self.encoder(x if batch_first else x.transpose(0, 1))

    return Function(run, encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


def decoder() -> nn.Module:
    return Function(
        lambda self, x: self.decoder(x, self.memory(x)),
        memory=nn.Linear(4, 4),
        decoder=nn.TransformerDecoderLayer(4, 2, 6, batch_first=True),
    )


def positions() -> nn.Module:
    """Absolute position embeddings, and a bias for every pair of positions, as modules of their own."""

    def run(self: Any, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[1])
        h = self.word(x) + self.place(place)
        bias = self.bias(place[:, None] - place[None] + 4)[..., 0]
        attended, weights = self.attention(h, h, h, attn_mask=bias)
        return self.out(self.gate(attended)) + 0 * weights.sum()

    return Function(
        run,
        word=nn.Embedding(7, 4),
        place=nn.Embedding(4, 4),
        bias=nn.Embedding(9, 1),
        attention=nn.MultiheadAttention(4, 2, batch_first=True),
        gate=nn.SiLU(),
        out=nn.Linear(4, 3),
    )


def windows() -> nn.Module:
    """Attention inside windows, which are put beside one another along the first axis, as in Swin."""

    def run(self: Any, x: Tensor) -> Tensor:
        cut = x.reshape(len(x) * 2, 2, 4)
        inside = self.inside(cut)
        return self.outside(inside.reshape(len(x), 4, 4))

    return Function(run, inside=nn.Linear(4, 4), outside=nn.Linear(4, 3))


def routed(choice: str) -> nn.Module:
    """Two experts: a token chooses its expert, or an expert chooses as many tokens as there are stimuli."""

    def run(self: Any, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        scores = self.router(flat)
        result = torch.zeros_like(flat)
        for index, expert in enumerate((self.first, self.second)):
            if choice == "tokens":
                chosen = torch.nonzero(scores.argmax(1) == index)[:, 0]
            else:
                chosen = scores[:, index].topk(len(x)).indices
            if len(chosen):
                result = result.index_add(0, chosen, expert(flat[chosen]))
        return self.out(result.reshape(x.shape))

    parts = {"router": nn.Linear(4, 2), "first": nn.Linear(4, 4), "second": nn.Linear(4, 4), "out": nn.Linear(4, 3)}
    return Function(run, **parts)


def ordered() -> nn.Module:
    """Runs stimuli sorted by their norm, and puts them back in order."""

    def run(self: Any, x: Tensor) -> Tensor:
        order = x.norm(dim=1).argsort()
        h = self.inside(x[order])
        return self.out(h[order.argsort()])

    return Function(run, inside=nn.Linear(4, 5), out=nn.Linear(5, 4))


def contrastive() -> nn.Module:
    return Function(
        lambda self, x: (self.similarity(h := self.inside(x)), self.out(h))[1],
        inside=nn.Linear(4, 5),
        similarity=Function(lambda _, h: h @ h.T),
        out=nn.Linear(5, 2),
    )


def tied() -> nn.Module:
    net = Function(
        lambda self, x: self.decode(torch.tanh(self.encode(x))),
        encode=nn.Linear(4, 4, bias=False),
        decode=nn.Linear(4, 4, bias=False),
    )
    net.decode.weight = net.encode.weight
    net.again = net.encode
    return net


def parametrised() -> nn.Module:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 5)),
        parametrizations.spectral_norm(nn.Linear(5, 5)),
        parametrizations.orthogonal(nn.Linear(5, 5)),
        nn.Linear(5, 3),
    )


def hyper() -> nn.Module:
    """Weights that depend on the stimulus: one matrix for each."""
    return Function(
        lambda self, x: torch.bmm(self.weights(x), x[:, :, None])[..., 0],
        weights=Function(lambda self, x: self.make(x).unflatten(1, (3, 4)), make=nn.Linear(4, 12)),
    )


def spectrum() -> nn.Module:
    return Function(
        lambda self, x: self.out(self.back(self.fourier(x))),
        fourier=Function(lambda _, x: torch.fft.rfft(x)),
        back=Function(lambda _, z: torch.cat([z.real, z.imag], -1)),
        out=nn.Linear(6, 2),
    )


class Dense(nn.ModuleDict):
    """A dense block: a container with a forward method of its own."""

    def __init__(self) -> None:
        super().__init__({"a": nn.Linear(4, 4), "b": nn.Linear(8, 4)})

    def forward(self, x: Tensor) -> Tensor:
        for part in self.values():
            x = torch.cat([x, part(x)], 1)
        return x


class Keeping(nn.Module):
    """Keeps its last state, a counter and a history in plain attributes, and renormalises its weights in place."""

    counts: dict[str, int] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.step, self.out = nn.Linear(4, 4), nn.Linear(4, 3)
        self.state: Any = 0
        self.calls = 0
        self.history: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(3)
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.counts["all"] = self.counts.get("all", 0) + 1
        self.total += 1
        with torch.no_grad():
            self.step.weight.data.mul_(0.9)
            self.step.bias.clamp_(-0.1, 0.1)
        self.state = torch.tanh(self.step(x) + self.state)
        self.history.append(self.state)
        torch.rand(3, generator=self.generator)
        return self.out(self.state)


def transformer(kind: str) -> Build:
    """Return a builder of a small network of the transformers package."""

    def build() -> nn.Module:
        import transformers as package

        small = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "bert":
                return package.BertModel(package.BertConfig(vocab_size=7, max_position_embeddings=8, **small))
            if kind == "gpt":
                return package.GPT2Model(
                    package.GPT2Config(vocab_size=7, n_positions=8, n_embd=8, n_layer=2, n_head=2, use_cache=False)
                )
            if kind == "vit":
                return package.ViTModel(package.ViTConfig(image_size=8, patch_size=4, **small))
            return package.MixtralModel(
                package.MixtralConfig(
                    vocab_size=7,
                    num_key_value_heads=2,
                    num_local_experts=3,
                    num_experts_per_tok=2,
                    use_cache=False,
                    **small,
                )
            )

    return build


def images(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(n, 3, 8, 8, generator=generator)}


def words(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(0, 7, (n, 5), generator=generator)}


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(8, 3))


def squeezed() -> nn.Module:
    return Function(lambda self, x: self.out(self.inside(x).squeeze()), inside=nn.Linear(4, 5), out=nn.Softmax(-1))


def interpolated() -> nn.Module:
    return Function(
        lambda self, x: self.out(functional.interpolate(self.inside(x), size=4, mode="bilinear").mean((2, 3))),
        inside=nn.Conv2d(3, 5, 2),
        out=nn.Linear(5, 2),
    )


ZOO: dict[str, tuple[Build, Draw]] = {
    "perceptron": (perceptron, numbers(4)),
    "normalised maps": (normalised_maps, numbers(3, 4, 4)),
    "convolutions": (convolutions, numbers(3, 3, 3)),
    "volumes": (volumes, numbers(2, 3, 3, 3)),
    "sequences of maps": (sequences_of_maps, numbers(3, 5)),
    "activations": (activations, numbers(4)),
    "embedding bags": (bags, tokens(4)),
    "bilinear": (bilinear, numbers(4)),
    "recurrent, stimuli first": (lambda: recurrent(True), numbers(5, 3)),
    "recurrent, time first": (lambda: recurrent(False), numbers(5, 3)),
    "packed": (packed, lengths_and_values),
    "cells": (cells, numbers(5, 3)),
    "encoder, stimuli first": (lambda: encoder(True), numbers(3, 4)),
    "encoder, tokens first": (lambda: encoder(False), numbers(3, 4)),
    "decoder": (decoder, numbers(3, 4)),
    "positions": (positions, tokens(4)),
    "windows": (windows, numbers(4, 4)),
    "tokens choose experts": (lambda: routed("tokens"), numbers(2, 4)),
    "experts choose tokens": (lambda: routed("experts"), numbers(2, 4)),
    "sorted stimuli": (ordered, numbers(4)),
    "contrastive": (contrastive, numbers(4)),
    "tied": (tied, numbers(4)),
    "parametrised": (parametrised, numbers(4)),
    "weights of each stimulus": (hyper, numbers(4)),
    "spectrum": (spectrum, numbers(4)),
    "dense block": (lambda: nn.Sequential(nn.Linear(3, 4), Dense(), nn.Linear(12, 2)), numbers(3)),
    "keeping": (Keeping, numbers(4)),
    "squeezed": (squeezed, numbers(4)),
    "interpolated": (interpolated, numbers(3, 3, 3)),
    "Bert": (transformer("bert"), words),
    "GPT-2": (transformer("gpt"), words),
    "ViT": (transformer("vit"), images),
    "Mixtral": (transformer("mixtral"), words),
}

SIZES = (1, 2, 3, 4, 5, 6, 8)  # most internal sizes of these networks
SHARED = {  # layers that have no row per stimulus, and are left out
    "positions": {"place", "bias"},
    "windows": {"inside"},
    "tokens choose experts": {"router", "first", "second"},
    "experts choose tokens": {"router", "first", "second"},
    "sorted stimuli": {"inside"},
    "contrastive": {"similarity"},
}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of what these networks' modules return, by path."""
    if isinstance(value, PackedSequence):
        value, lengths = pad_packed_sequence(value, batch_first=True, total_length=4)
        yield f"{path}[lengths]", lengths
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, tuple | list | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from leaves(part, f"{path}[{key}]")


def computed_alone(network: nn.Module, stimulus: Any) -> dict[tuple[str, int, str], Tensor]:
    """Return what every module gives for one stimulus, by name, call and path, from a copy of the network."""
    network = copy.deepcopy(network).eval()
    found: dict[tuple[str, int, str], Tensor] = {}
    calls: Counter[str] = Counter()

    def listen(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for path, tensor in leaves(output):
                found[name, calls[name], path] = tensor.detach().clone()
            calls[name] += 1

        return hook

    for name, module in network.named_modules(remove_duplicate=True):
        module.register_forward_hook(listen(name))
    with torch.no_grad():
        network(**stimulus) if isinstance(stimulus, dict) else network(stimulus)
    return found


def first(inputs: Any, rows: slice) -> Any:
    return {name: part[rows] for name, part in inputs.items()} if isinstance(inputs, dict) else inputs[rows]


def state_of(network: nn.Module) -> dict[str, Any]:
    """Return everything that a pass could change, as values that can be compared."""
    state: dict[str, Any] = {"modes": [module.training for module in network.modules()]}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        state[name] = (id(tensor), tensor.detach().clone().numpy().tobytes())
    for index, module in enumerate(network.modules()):
        for key, value in vars(module).items():
            held = [id(each) for each in value] if isinstance(value, list | dict) else []
            state[f"{index}.{key}"] = (id(value), held)
            if isinstance(value, torch.Generator):
                state[f"{index}.{key} state"] = value.get_state().numpy().tobytes()
        state[f"{index} hooks"] = len(module._forward_hooks) + len(module._forward_pre_hooks)
    state["counts"] = dict(Keeping.counts)
    generators = (torch.get_rng_state().numpy().tobytes(), random.getstate(), np.random.get_state()[1].tobytes())
    return {**state, "generators": generators}


def recorded(network: nn.Module, inputs: Any, **options: Any) -> tuple[dict[str, LayerValues], str]:
    """Return the recorded layers and the text of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layers = Capture(network, ["**", "(network)"], **options).record(inputs)
    return layers, " ".join(str(each.message) for each in caught)


def assert_rows(network: nn.Module, inputs: Any, layers: dict[str, LayerValues], n: int) -> None:
    """Assert that each row is what the network computes of that stimulus alone."""
    for row in range(n):
        alone = computed_alone(network, first(inputs, slice(row, row + 1)))
        for name, layer in layers.items():
            module = "" if layer.module == "(network)" else layer.module
            expected = alone[module, layer.call_index, layer.path]
            expected = torch.view_as_real(expected.resolve_conj()) if expected.is_complex() else expected
            found = layer.values[row]
            assert found.size == expected.numel(), f"{name}: {found.size} values, {tuple(expected.shape)} alone"
            np.testing.assert_allclose(
                found, expected.flatten().float().numpy(), rtol=1e-3, atol=1e-4, err_msg=f"row {row} of {name}"
            )


@pytest.mark.parametrize("name", ZOO)
def test_each_row_is_what_the_network_computes_of_that_stimulus_alone(name: str, monkeypatch: Any) -> None:
    if name in ("Bert", "GPT-2", "ViT", "Mixtral"):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        pytest.importorskip("transformers", reason="transformers is not installed")
    build, draw = ZOO[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = build()
    generator = torch.Generator().manual_seed(2)
    inputs = draw(max(SIZES), generator)
    if name == "squeezed":  # takes no single stimulus
        inputs = torch.cat([inputs, inputs])
    for n in SIZES[1:] if name == "squeezed" else SIZES:
        before = state_of(network)
        try:
            layers, said = recorded(network, first(inputs, slice(0, n)))
        except ValueError as error:  # its own output mixes stimuli
            assert name == "experts choose tokens"
            assert re.search("rows differ from those of the same stimuli|no axis|none of them", str(error))
            continue
        assert state_of(network) == before
        assert "(network)" in {layer.module for layer in layers.values()}
        if n > 1:  # of one stimulus alone, every row is its own
            missing = SHARED.get(name, set())
            assert not missing & {layer.module for layer in layers.values()}
            assert all(module in said for module in missing)
        assert "draws random numbers" not in said
        mixed = said.partition("depend on the other stimuli of its batch, and thus on batch_size, in: ")[2]
        assert not mixed or n == 1 or name == "experts choose tokens"
        kept = {name: layer for name, layer in layers.items() if name not in mixed}
        if name != "squeezed":
            assert_rows(network, first(inputs, slice(0, n)), kept, n)


def test_weights_that_are_left_out_do_not_make_batches_smaller() -> None:
    seen = []

    def run(self: Any, x: Tensor) -> Tensor:
        seen.append(len(x))
        return self.weights(self.large.weight)[:3] @ x.T

    network = Function(run, weights=nn.Identity(), large=nn.Linear(3, 2**19))
    network = nn.Sequential(nn.Linear(3, 3), network)
    with pytest.warns(UserWarning, match="Not recorded"):
        list(Capture(network, "**").blocks(torch.randn(64, 3)))
    assert max(seen) == 64


@pytest.mark.parametrize("name", ["perceptron", "recurrent, time first", "encoder, tokens first", "keeping"])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_rows_are_the_same_in_batches_of_every_size(name: str, batch_size: int) -> None:
    build, draw = ZOO[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = build()
    inputs = draw(7, torch.Generator().manual_seed(2))
    layers, _ = recorded(network, inputs, batch_size=batch_size)
    assert {len(layer) for layer in layers.values()} == {7}
    assert_rows(network, inputs, layers, 7)


@pytest.mark.parametrize("name", ["keeping", "embedding bags", "perceptron", "packed"])
def test_two_recordings_are_the_same_bits(name: str) -> None:
    build, draw = ZOO[name]
    network, inputs = build(), draw(6, torch.Generator().manual_seed(2))
    one, two = (recorded(network, inputs)[0] for _ in range(2))
    assert list(one) == list(two)
    for layer in one:
        np.testing.assert_array_equal(one[layer].values, two[layer].values)
