"""Capture on networks of other people's making: residual, transformer, recurrent, compiled, and ones that misbehave."""

import random
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from checkpoints import Capture, Run, SpatialMean, Stimuli, Token, TokenMean, match_layers
from checkpoints.storage.hdf5_files.activation_file import LayerValues
from repsim.learning import mlp
from tests.checkpoints.capture.networks import Lambda, n_hooks

X = torch.linspace(-2, 2, 18).reshape(6, 3)


@pytest.fixture(scope="module")
def transformers() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("HF_HUB_OFFLINE", "1")
        warnings.simplefilter("ignore")
        yield pytest.importorskip("transformers", reason="transformers is not installed")


def record(model: nn.Module, layers: Any, inputs: Any = X, **options: Any) -> dict[str, LayerValues]:
    return Capture(model, layers, **options).record(inputs)


def assert_values(layer: LayerValues, expected: Tensor) -> None:
    """Assert that the layer holds the tensor, bit for bit."""
    assert layer.feature_shape == tuple(expected.shape[1:])
    np.testing.assert_array_equal(layer.values, expected.detach().flatten(1).numpy(), strict=True)


# Residual networks


class BasicBlock(nn.Module):
    """Torchvision's block: one relu, in place, called twice."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        self.downsample = shortcut if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """A small one of torchvision's make."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(BasicBlock(4, 4, 1), BasicBlock(4, 4, 1))
        self.layer2 = nn.Sequential(BasicBlock(4, 8, 2), BasicBlock(8, 8, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.avgpool(self.layer2(self.layer1(x))).flatten(1))


@pytest.fixture
def resnet() -> ResNet:
    model = ResNet()
    model(torch.randn(8, 3, 8, 8))  # so that batch norm has seen something
    return model


IMAGES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(4))


def test_each_call_of_a_relu_is_a_layer(resnet: ResNet) -> None:
    layers = record(resnet, ["layer1.0.**", "relu"], IMAGES)
    chosen = record(resnet, "layer*.*.relu#1", IMAGES)
    resnet.eval()
    block = resnet.layer1[0]
    x = torch.relu(resnet.bn1(resnet.conv1(IMAGES)))
    first = torch.relu(block.bn1(block.conv1(x)))
    second = torch.relu(block.bn2(block.conv2(first)) + x)
    assert_values(layers["relu"], x)
    assert_values(layers["layer1.0.relu#0"], first)
    assert_values(layers["layer1.0.relu#1"], second)
    assert_values(chosen["layer1.0.relu#1"], second)
    inside = ("conv1", "bn1", "relu#0", "conv2", "bn2", "relu#1")
    assert list(layers) == ["relu", *(f"layer1.0.{name}" for name in inside)]
    assert list(chosen) == [f"layer{layer}.{block}.relu#1" for layer in (1, 2) for block in (0, 1)]


def test_operations_in_place_do_not_change_what_was_recorded(resnet: ResNet) -> None:
    layers = record(resnet, ["layer1.0.bn1", "layer1.0.bn2", "layer1.0.conv2:input"], IMAGES)
    resnet.eval()
    block = resnet.layer1[0]
    x = torch.relu(resnet.bn1(resnet.conv1(IMAGES)))
    before = block.bn1(block.conv1(x))
    assert (before < 0).any()
    assert_values(layers["layer1.0.bn1"], before)
    assert_values(layers["layer1.0.conv2:input"], torch.relu(before))
    assert_values(layers["layer1.0.bn2"], block.bn2(block.conv2(torch.relu(before))))


def test_spatial_mean_is_the_mean_over_pixels(resnet: ResNet) -> None:
    maps = record(resnet, ["layer2", "fc"], IMAGES)["layer2"]
    layers = record(resnet, ["layer2", "fc"], IMAGES, reduce={"layer*": SpatialMean()})
    assert (layers["layer2"].feature_shape, layers["layer2"].source_shape) == ((8,), (8, 4, 4))
    assert (layers["layer2"].reduction, layers["fc"].reduction) == ("spatial_mean(channels=first)", "flatten")
    expected = maps.values.reshape(5, 8, 4, 4).mean((2, 3))
    np.testing.assert_allclose(layers["layer2"].values, expected, rtol=1e-5, atol=1e-7)


# Transformers

TOKENS = torch.randint(0, 20, (6, 7), generator=torch.Generator().manual_seed(5))
MASK = (torch.arange(7) < torch.tensor([[7], [3], [5], [1], [7], [6]])).long()
TEXT = {"input_ids": TOKENS, "attention_mask": MASK}


@pytest.fixture
def bert(transformers: ModuleType) -> Any:
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=12
    )
    return transformers.BertModel(config)


@pytest.fixture
def gpt(transformers: ModuleType) -> Any:
    return transformers.GPT2Model(transformers.GPT2Config(vocab_size=20, n_positions=16, n_embd=8, n_layer=3, n_head=2))


def hidden_states(model: nn.Module) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return model.eval()(**TEXT, output_hidden_states=True).hidden_states


def by_module(layers: dict[str, LayerValues], side: str = "output") -> dict[str, LayerValues]:
    """Return layers by module: some versions return the hidden state alone, some in a tuple."""
    kept = {layer.module: layer for layer in layers.values() if layer.side == side and layer.path in ("", "[0]")}
    assert len(kept) == len({layer.module for layer in layers.values()})
    return kept


def test_bert_layers_are_its_hidden_states(bert: Any) -> None:
    assert bert.training
    layers = by_module(record(bert, ["embeddings", "encoder.layer.*"], TEXT))
    assert bert.training
    assert list(layers) == ["embeddings", *(f"encoder.layer.{index}" for index in range(3))]
    for layer, expected in zip(layers.values(), hidden_states(bert), strict=True):
        assert_values(layer, expected)


def test_a_token_mean_leaves_padding_out(bert: Any) -> None:
    reduced = by_module(record(bert, "encoder.layer.*", TEXT, reduce={"**": TokenMean(mask="attention_mask")}))
    for layer, states in zip(reduced.values(), hidden_states(bert)[1:], strict=True):
        assert (layer.feature_shape, layer.source_shape) == ((8,), (7, 8))
        assert layer.reduction.startswith("token_mean(mask=attention_mask")
        expected = torch.stack([state[: keep.sum()].mean(0) for state, keep in zip(states, MASK, strict=True)])
        np.testing.assert_allclose(layer.values, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_token_0_is_the_first_hidden_state(bert: Any) -> None:
    reduced = by_module(record(bert, "encoder.layer.*", TEXT, reduce={"encoder.layer.*": Token(0)}))
    for layer, states in zip(reduced.values(), hidden_states(bert)[1:], strict=True):
        assert_values(layer, states[:, 0])


def test_an_input_that_all_stimuli_share_is_refused(gpt: Any) -> None:
    with pytest.raises(ValueError, match=r"'h\.1:input\[position_ids\]' has shape \(1, 7\) for 6 stimuli, and no axis"):
        record(gpt, "h.1:input[position_ids]", TEXT)
    with pytest.warns(UserWarning, match=r"no axis indexes the stimuli: h\.1:input\[position_ids\] \(1, 7\)"):
        assert "h.1:input[0]" in record(gpt, "h.1:input", TEXT)


class Encoder(nn.Module):
    """Torch's own encoder, which in evaluation mode fuses its layers and packs padded tokens away."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.encoder(x, src_key_padding_mask=padding)


def test_fused_layers_are_recorded_module_by_module() -> None:
    model = Encoder()
    batch = {"x": torch.randn(6, 7, 8), "padding": MASK == 0}
    inside = record(model, ["encoder.layers.*", "encoder.layers.*.norm2"], batch)
    outside = record(model, "encoder", batch)["encoder"]
    assert [layer.source_shape for layer in (*inside.values(), outside)] == [(7, 8)] * 5
    np.testing.assert_array_equal(inside["encoder.layers.1"].values, outside.values)
    np.testing.assert_array_equal(inside["encoder.layers.1.norm2"].values, outside.values)
    fused = model.eval()(**batch).detach()
    tokens = MASK.bool().numpy()
    np.testing.assert_allclose(outside.values.reshape(6, 7, 8)[tokens], fused.numpy()[tokens], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_fastpath_setting_is_restored(enabled: bool) -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        record(nn.Sequential(nn.Identity()), "0")
        with pytest.raises(ArithmeticError):
            record(nn.Sequential(Restless(torch.zeros(3), True)), "0")
        assert torch.backends.mha.get_fastpath_enabled() is enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_nested_tensor_is_refused() -> None:
    ragged = Lambda(lambda x: torch.nested.nested_tensor(list(x)))
    with pytest.raises(ValueError, match=r"Layer 'ragged' .* stimuli in a nested tensor differ in shape"):
        record(Lambda(lambda x: ragged(x), ragged=ragged), "ragged")


# Recurrent networks


class Recurrent(nn.Module):
    """A classifier of sequences by their last hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[1][0][-1])


SEQUENCES = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(6))


def test_lstm_outputs_and_states_have_stimuli_on_the_first_axis() -> None:
    model = Recurrent()
    layers = record(model, ["lstm", "head"], SEQUENCES)
    with torch.no_grad():
        outputs, (hidden, cell) = model.lstm(SEQUENCES)
    assert list(layers) == ["lstm[0]", "lstm[1][0]", "lstm[1][1]", "head"]
    assert layers["lstm[0]"].path == "[0]"
    assert_values(layers["lstm[0]"], outputs)
    assert layers["lstm[1][0]"].source_shape == (2, 4)
    assert_values(layers["lstm[1][0]"], hidden.transpose(0, 1))
    assert_values(layers["lstm[1][1]"], cell.transpose(0, 1))


def last_layer(state: Tensor) -> Tensor:
    """Return the state of the last layer of (n, layers, units)."""
    return state[:, -1]


def test_a_reduction_gets_stimuli_first() -> None:
    model = Recurrent()
    layers = record(model, "lstm[1]", SEQUENCES, reduce={"lstm[1][*]": last_layer})
    with torch.no_grad():
        _, (hidden, _) = model.lstm(SEQUENCES)
    assert (layers["lstm[1][0]"].reduction, layers["lstm[1][0]"].source_shape) == ("custom(last_layer)", (2, 4))
    assert_values(layers["lstm[1][0]"], hidden[-1])


# Compiled networks


class Chain(nn.Sequential):
    """A sequence with a forward of its own: torch does not compile its own one in place."""

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x)
        return x


def plain_network() -> Chain:
    torch.manual_seed(7)
    return Chain(nn.Linear(3, 8), nn.BatchNorm1d(8), Chain(nn.Linear(8, 4), nn.ReLU()))


def compiled_outside() -> nn.Module:
    return torch.compile(plain_network(), backend="eager")


def compiled_inside() -> nn.Module:
    model = plain_network()
    model[2] = torch.compile(model[2], backend="eager")
    return model


def compiled_in_and_out() -> nn.Module:
    return torch.compile(compiled_inside(), backend="eager")


def compiled_in_place() -> nn.Module:
    model = plain_network()
    model.compile(backend="eager")
    model[2].compile(backend="eager")
    return model


COMPILED = [compiled_outside, compiled_inside, compiled_in_and_out, compiled_in_place]


@pytest.fixture
def dynamo() -> Iterator[None]:
    """Forget afterwards what was compiled."""
    import torch._dynamo

    yield
    torch._dynamo.reset()


# The compiler looks at the gradient of what is no leaf, and hides the warning that it gets where that is no error.
hushed = pytest.mark.filterwarnings(r"ignore:The \.grad attribute of a Tensor that is not a leaf:UserWarning")


@hushed
@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize("run_before", [False, True])
@pytest.mark.parametrize("build", COMPILED)
def test_a_compiled_network_gives_the_values_of_the_plain_one(build: Callable[[], nn.Module], run_before: bool) -> None:
    plain, model = plain_network().eval(), build().eval()
    if run_before:
        model(X)
    expected, layers = record(plain, "**"), record(model, "**")
    assert list(layers) == list(expected) == ["0", "1", "2.0", "2.1", "2"]
    for name, layer in expected.items():
        np.testing.assert_array_equal(layers[name].values, layer.values, strict=True)
    assert n_hooks(model) == 0
    np.testing.assert_allclose(model(X).detach().numpy(), plain(X).detach().numpy(), rtol=1e-6)


@hushed
@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize("build", COMPILED)
def test_a_compiled_network_still_trains_compiled_after_it_was_recorded(build: Callable[[], nn.Module]) -> None:
    plain, model = plain_network(), build()
    for network in (plain, model):
        network(X).sum().backward()
    record(model, ["0", "2.*"])
    for network in (plain, model):
        network(X).square().sum().backward()
    gradients = [[weight.grad for weight in network.parameters()] for network in (plain, model)]
    for expected, gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, expected)
    assert all(module.training for module in model.modules())


@hushed
@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize("run_before", [False, True])
@pytest.mark.parametrize("how", ["outside", "inside", "in place"])
def test_recording_compiles_nothing(how: str, run_before: bool) -> None:
    graphs = []

    def backend(graph: Any, example: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model: nn.Module = plain_network()
    if how == "outside":
        model = torch.compile(model, backend=backend)
    elif how == "inside":
        model[2] = torch.compile(model[2], backend=backend)
    else:
        model.compile(backend=backend)
    if run_before:
        model(X)
    before = len(graphs)
    assert bool(before) is run_before
    record(model, "**")
    assert len(graphs) == before
    model(X)
    assert len(graphs) == max(before, 1)


@hushed
@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize("build", COMPILED)
def test_a_compiled_networks_weights_are_saved_under_plain_names(
    build: Callable[[], nn.Module], tmp_path: Path
) -> None:
    model = build()
    stimuli = Stimuli.of(range(6), [0, 0, 0, 1, 1, 1], ["test"] * 6, X.numpy())
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        run.checkpoint(1, model, capture=Capture(model, ["2.*"]))
        weights = run[1].weights()
        assert list(run[1].activations) == ["2.0", "2.1"]
    plain = plain_network()
    assert set(weights) == set(plain.state_dict())
    plain.load_state_dict(weights)
    np.testing.assert_array_equal(record(plain, "2")["2"].values, record(model, "2.1")["2.1"].values)


# What modules return


class Halving(nn.Module):
    """Calls itself until nothing is left to halve."""

    def forward(self, x: Tensor, depth: int = 2) -> Tensor:
        return x if depth == 0 else self(x / 2, depth - 1) + 1


def test_a_module_that_calls_itself_numbers_its_calls_from_the_outside() -> None:
    layers = record(nn.Sequential(Halving()), "0", side="both")
    assert list(layers) == ["0#0:input", "0#1:input[0]", "0#2:input[0]", "0#2", "0#1", "0#0"]
    for call, expected in enumerate([X / 4 + 1 + 1, X / 4 + 1, X / 4]):
        assert_values(layers[f"0#{call}"], expected)


def test_modules_are_chosen_by_expression_and_by_function(resnet: ResNet) -> None:
    assert match_layers(resnet, re.compile(r"layer\d\.\d")) == ("layer1.0", "layer1.1", "layer2.0", "layer2.1")
    assert match_layers(resnet, lambda _, module: isinstance(module, nn.AdaptiveAvgPool2d)) == ("avgpool",)


# Nothing is left behind


class Restless(nn.Module):
    """Draws from three generators, changes buffers in place, replaces, adds and drops some, and perhaps fails."""

    def __init__(self, shared: Tensor, failing: bool) -> None:
        super().__init__()
        self.register_buffer("shared", shared)
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("dropped", torch.zeros(1))
        self.register_buffer("empty", None)
        self.inner = nn.Dropout()
        self.failing = failing

    def forward(self, x: Tensor) -> Tensor:
        self.shared += 1
        self.replaced = self.replaced + 1
        self.register_buffer("created", torch.ones(3))
        self.empty = torch.ones(1)
        if "dropped" in self._buffers:
            del self.dropped
        self.train()
        x = x + torch.randn_like(x) + np.random.standard_normal() + random.random()
        if self.failing:
            raise ArithmeticError("in forward")
        return x + self.shared


@pytest.mark.parametrize("failing", [False, True])
def test_modes_buffers_hooks_and_generators_are_restored(failing: bool) -> None:
    shared = torch.zeros(3)
    model = nn.Sequential(Restless(shared, False), nn.BatchNorm1d(3), Restless(shared, failing))
    model.train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    buffers = [dict(module._buffers) for module in model.modules()]
    values = {name: buffer.clone() for name, buffer in model.named_buffers()}
    states = torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate()
    other_hook = model[1].register_forward_hook(lambda *_: None)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            record(model, "**", side="both", batch_size=2)
        assert not failing
        assert "draws random numbers" in str(caught[0].message)
    except ArithmeticError:
        assert failing
    assert [module.training for module in model.modules()] == modes
    assert set(modes) == {False, True}
    for module, kept in zip(model.modules(), buffers, strict=True):
        assert list(module._buffers) == list(kept)
        assert all(module._buffers[name] is kept[name] for name in kept)
    assert all(torch.equal(buffer, values[name]) for name, buffer in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_equal(np.random.get_state(legacy=False), states[1])
    assert random.getstate() == states[2]
    assert n_hooks(model) == 1
    other_hook.remove()
    assert torch.is_grad_enabled()


def test_modules_that_share_a_buffer_share_it_while_they_are_recorded() -> None:
    writer, reader = Lambda(lambda x: x + writer.shared.add_(1)), Lambda(lambda x: x + reader.shared)
    writer.register_buffer("shared", shared := torch.zeros(3))
    reader.register_buffer("shared", shared)
    layers = record(nn.Sequential(writer, reader), ["0", "1"], torch.zeros(4, 3))
    assert (layers["0"].values == 1).all()
    assert (layers["1"].values == 2).all()
    assert writer.shared is reader.shared is shared
    assert torch.equal(shared, torch.zeros(3))


# Chains of the house


def test_a_chain_is_recorded_by_its_hidden_segments() -> None:
    net = mlp(3, 4, depth=3, width=5, generator=torch.Generator().manual_seed(0))
    net(X)
    layers = record(net, "hidden.*")
    assert list(layers) == ["hidden.1", "hidden.2", "hidden.3"]
    assert list(record(net, "*")) == ["input", "output"]
    h = X
    net.eval()
    for layer, segment in zip(layers.values(), net.segments, strict=False):
        h = segment(h)
        assert_values(layer, h)
    assert_values(record(net, "*")["output"], net(X))
    inner = [f"hidden.1.{name}" for name in ("affine", "norm", "activation", "pool")]
    assert list(record(net, "hidden.1.*")) == inner
