"""The axis of the features is inferred from the module, with a warning if it is uncertain."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from checkpoints import Capture, SpatialMean, SpatialPool, Token, TokenMean
from checkpoints.capture.feature_axis import feature_axis


class LayerNorm2d(nn.LayerNorm):
    """Normalises the channels of (n, channels, height, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Across(nn.LayerNorm):
    """The same by a name that does not say so."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Scale(nn.Module):
    """A value per feature, in axis 1 or the last."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(n_features))


class Stated(Scale):
    data_format = "channels_first"


class Patches(nn.Module):
    """A convolution whose result is tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(2).transpose(1, 2)


class Shifted(nn.Module):
    """A block of (n, height, width, channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(12), nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class Permuting(Shifted):
    """A block of (n, channels, height, width) whose norm and linear layers have the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(self.conv(x).movedim(1, -1)).movedim(-1, 1)


def layer() -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


FIRST = [
    (nn.Conv1d(3, 8, 3), (2, 3, 9)),
    (nn.Conv2d(3, 8, 3), (2, 3, 8, 8)),
    (nn.Conv3d(3, 8, 3), (2, 3, 8, 8, 8)),
    (nn.ConvTranspose2d(3, 8, 3), (2, 3, 8, 8)),
    (nn.MaxPool2d(2), (2, 3, 8, 8)),
    (nn.AvgPool1d(2), (2, 3, 8)),
    (nn.AdaptiveAvgPool2d(2), (2, 3, 8, 9)),
    (nn.AdaptiveMaxPool2d(2), (2, 3, 8, 9)),
    (nn.BatchNorm1d(3), (2, 3, 8)),
    (nn.BatchNorm2d(3), (2, 3, 3, 3)),
    (nn.InstanceNorm2d(3), (2, 3, 8, 8)),
    (nn.GroupNorm(1, 3), (2, 3, 8)),
    (nn.PixelShuffle(2), (2, 8, 3, 3)),
    (nn.Upsample(scale_factor=2), (2, 3, 4, 4)),
    (nn.ReflectionPad2d(1), (2, 3, 4, 4)),
    (nn.ZeroPad2d(1), (2, 3, 4, 4)),
    (nn.Dropout2d(), (2, 3, 4, 4)),
    (nn.PReLU(3), (2, 3, 3)),
    (nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 1)), (2, 3, 8, 8)),
    (LayerNorm2d(3), (2, 3, 4, 4)),
    (LayerNorm2d(4), (2, 4, 4, 4)),
    (Across(3), (2, 3, 4, 4)),
    (Scale(3), (2, 3, 4)),
    (Stated(3), (2, 3, 3, 3)),
    (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), (2, 3, 8, 8)),
    (nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU()), (2, 3, 9)),
    (nn.Sequential(nn.Conv2d(3, 8, 3, bias=False)), (2, 8, 6, 5)),
    (Permuting(), (2, 12, 6, 6)),
    (nn.ReLU(), (2, 12, 8, 8)),
    (nn.ReLU(), (2, 3, 4, 8, 8)),
]
LAST = [
    (nn.Linear(5, 5), (2, 4, 5)),
    (nn.Linear(5, 5), (2, 4, 4, 5)),
    (nn.Linear(5, 5), (2, 5, 5, 5)),
    (nn.LayerNorm(5), (2, 4, 5)),
    (nn.RMSNorm(5), (2, 5, 5, 5)),
    (nn.Embedding(9, 5), (2, 9, 5)),
    (nn.MultiheadAttention(4, 2), (2, 7, 4)),
    (nn.LSTM(3, 4, batch_first=True), (2, 7, 4)),
    (nn.GRU(3, 4, batch_first=True), (2, 7, 4)),
    (layer(), (2, 7, 8)),
    (nn.TransformerEncoder(layer(), 1, enable_nested_tensor=False), (2, 7, 8)),
    (nn.utils.parametrizations.weight_norm(nn.Linear(3, 5)), (2, 5, 5)),
    (Scale(3), (2, 4, 3)),
    (Shifted(), (2, 6, 6, 12)),
    (Shifted(), (2, 12, 12, 12)),
    (nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Dropout()), (2, 4, 5)),
]


@pytest.mark.parametrize(
    ("module", "shape", "axis"),
    [(*each, "first") for each in FIRST] + [(*each, "last") for each in LAST],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_the_axis_follows_from_the_module(module: nn.Module, shape: tuple[int, ...], axis: str) -> None:
    assert feature_axis(module, shape, "first") == (axis, True)
    if any(True for _ in module.parameters()):
        assert feature_axis(module, shape, "last") == (axis, True)


@pytest.mark.parametrize(
    ("module", "shape", "axis"),
    [
        (nn.ReLU(), (2, 8, 8, 12), "first"),  # looks like channels last
        (nn.ReLU(), (2, 8, 8, 8), "first"),
        (nn.ReLU(), (2, 40, 101, 32), "first"),
        (nn.Dropout(), (2, 7, 8), "first"),  # tokens, or a sequence of channels
        (nn.LayerNorm((3, 8, 5)), (2, 3, 8, 5), "first"),
        (Across(4), (2, 4, 5, 4), "first"),
        (Patches(), (2, 16, 8), "last"),
        (nn.Sequential(nn.Conv2d(3, 8, 3, bias=False)), (2, 6, 6, 8), "first"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_an_ambiguous_axis_is_not_certain(module: nn.Module, shape: tuple[int, ...], axis: str) -> None:
    assert feature_axis(module, shape, "first") == (axis, False)


def test_tokens_are_the_usual_layout_of_three_axes() -> None:
    assert feature_axis(nn.Dropout(), (2, 7, 8), "last") == ("last", True)
    assert feature_axis(Patches(), (2, 16, 8), "last") == ("last", True)
    assert feature_axis(nn.Dropout(), (2, 3, 8, 8), "last") == ("last", False)
    assert feature_axis(nn.Dropout(), (2, 8, 8, 8), "last") == ("last", False)


def test_uninitialized_parameters_indicate_no_axis() -> None:
    assert feature_axis(nn.Sequential(nn.LazyConv2d(8, 1), nn.ReLU()), (2, 8, 5, 5), "first") == ("first", True)


def test_a_block_with_a_scripted_part_has_the_axis_of_its_other_parts() -> None:
    with pytest.warns(DeprecationWarning):
        part = torch.jit.script(nn.ReLU())
    assert feature_axis(nn.Sequential(nn.Linear(3, 5), part), (2, 4, 4, 5), "first") == ("last", True)


class Mixed(nn.Module):
    """Maps with the channels first, then last, then tokens before stimuli."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 8, 3), nn.ReLU()
        self.block, self.norm = Shifted8(), nn.LayerNorm(8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=False)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.norm(self.block(self.relu(self.conv(x)).permute(0, 2, 3, 1)))
        return self.encoder(maps.flatten(1, 2).transpose(0, 1))


class Shifted8(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(x)


@pytest.mark.parametrize("n", [2, 5, 8, 25])  # as many stimuli as channels and tokens, too
def test_every_layer_of_a_network_is_averaged_over_its_own_space(n: int) -> None:
    model, x = Mixed().eval(), torch.randn(n, 3, 7, 7)
    layers = Capture(model, "*", reduce=SpatialMean()).record(x)
    with torch.no_grad():
        conv = model.conv(x)
        block = model.block(conv.relu().movedim(1, -1))
        norm = model.norm(block)
        expected = {
            "conv": conv.mean((2, 3)),
            "relu": conv.relu().mean((2, 3)),
            "block": block.mean((1, 2)),
            "norm": norm.mean((1, 2)),
            "encoder": model.encoder(norm.flatten(1, 2).transpose(0, 1)).mean(0),
        }
    assert list(layers) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(torch.from_numpy(layers[name].values), values)
    stated = {
        name: layer.reduction.removeprefix("spatial_mean(channels=").rstrip(")") for name, layer in layers.items()
    }
    assert stated == {"conv": "first", "relu": "first", "block": "last", "norm": "last", "encoder": "last"}


def test_tokens_before_stimuli_are_averaged_and_chosen_per_stimulus() -> None:
    model, x = Mixed().eval(), torch.randn(4, 3, 7, 7)
    whole = torch.from_numpy(Capture(model, "encoder").record(x)["encoder"].values).reshape(4, 25, 8)
    for reduction, expected in ((TokenMean(), whole.mean(1)), (Token(-1), whole[:, -1])):
        layer = Capture(model, "encoder", reduce=reduction).record(x)["encoder"]
        torch.testing.assert_close(torch.from_numpy(layer.values), expected)


def test_a_stated_axis_is_used_for_any_module() -> None:
    model, x = nn.Sequential(nn.Linear(6, 6)), torch.randn(4, 3, 5, 6)
    for channels, axes in (("first", (2, 3)), ("last", (1, 2))):
        layer = Capture(model, "0", reduce=SpatialMean(channels=channels)).record(x)["0"]
        torch.testing.assert_close(torch.from_numpy(layer.values), model(x).mean(axes).detach())
        assert layer.reduction == f"spatial_mean(channels={channels})"
    pooled = Capture(model, "0", reduce=SpatialPool(1, channels="last")).record(x)["0"]
    assert (pooled.feature_shape, pooled.reduction) == ((6, 1, 1), "spatial_pool(1, channels=last)")


def test_a_recording_warns_of_an_axis_that_is_not_certain() -> None:
    model = nn.Sequential(nn.Identity())
    with pytest.warns(UserWarning, match=r"takes the second axis of the activations of Identity, shape \(n, 5, 5, 3\)"):
        Capture(model, "0", reduce=SpatialMean()).record(torch.randn(4, 5, 5, 3))


def networks() -> list[tuple[nn.Module, dict[str, Tensor], set[int]]]:
    """Return networks whose widths are no lengths of space or of a sequence, their inputs, and the widths."""
    from transformers import (
        ConvNextConfig,
        ConvNextModel,
        GPT2Config,
        GPT2Model,
        SegformerConfig,
        SegformerModel,
        ViTConfig,
        ViTModel,
        Wav2Vec2Config,
        Wav2Vec2Model,
    )

    images = {"pixel_values": torch.randn(2, 3, 64, 64)}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_hidden_layers": 1}
    convnext = ConvNextConfig(hidden_sizes=[12, 24], depths=[1, 1], num_stages=2)
    vit = ViTConfig(hidden_size=12, intermediate_size=20, image_size=64, **heads)
    segformer = SegformerConfig(hidden_sizes=[12, 24], num_encoder_blocks=2, depths=[1, 1], num_attention_heads=[1, 2])
    wav = Wav2Vec2Config(
        hidden_size=12, intermediate_size=20, conv_dim=(24, 24), conv_stride=(5, 2), conv_kernel=(10, 3)
    )
    for name, value in {**heads, "num_feat_extract_layers": 2, "num_conv_pos_embedding_groups": 2}.items():
        setattr(wav, name, value)
    gpt2 = GPT2Config(n_embd=12, n_layer=1, n_head=2, vocab_size=50)
    return [
        (ConvNextModel(convnext), images, {3, 12, 24, 48, 96}),
        (ViTModel(vit), images, {3, 12, 20}),
        (SegformerModel(segformer), images, {3, 12, 24, 48, 96}),
        (Wav2Vec2Model(wav), {"input_values": torch.randn(2, 2000)}, {12, 20, 24}),
        (GPT2Model(gpt2), {"input_ids": torch.arange(14).reshape(2, 7)}, {12, 36, 48}),
    ]


@pytest.mark.parametrize("index", range(5), ids=["ConvNext", "ViT", "Segformer", "Wav2Vec2", "GPT2"])
def test_certain_axes_of_published_networks_are_right(index: int) -> None:
    pytest.importorskip("transformers")
    model, inputs, widths = networks()[index]
    certain = []

    def check(module: nn.Module, args: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim < 3 or len(output) != 2:
            return
        shape = tuple(output.shape)
        axis, is_certain = feature_axis(module, shape, "first")
        assert (shape[1] in widths) != (shape[-1] in widths), shape
        if is_certain:
            certain.append(module)
            assert axis == ("first" if shape[1] in widths else "last"), (type(module), shape)

    for module in model.modules():
        module.register_forward_hook(check)
    with torch.no_grad():
        model.eval()(**inputs)
    assert len(certain) >= 8
