import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import checkpoints
from checkpoints.capture.reductions import (
    Custom,
    FirstToken,
    Flatten,
    LastToken,
    MaskedMean,
    Reduction,
    SparseProjection,
    SpatialMean,
    SpatialPool,
    Token,
    TokenMean,
    as_reduction,
    parse_reduction,
)

MAPS = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
TOKENS = torch.arange(2 * 5 * 3.0).reshape(2, 5, 3)


def double(values: Tensor) -> Tensor:
    return 2 * values


def test_the_spatial_mean_is_one_number_a_channel() -> None:
    torch.testing.assert_close(SpatialMean()(MAPS, None), MAPS.mean((2, 3)))
    torch.testing.assert_close(SpatialMean()(MAPS[:, :, 0], None), MAPS[:, :, 0].mean(2))


@pytest.mark.parametrize("ndim", [3, 4, 5])
def test_spatial_pooling_means_over_a_grid(ndim: int) -> None:
    values = torch.randn(2, 3, *[4] * (ndim - 2))
    cells = values
    for axis in range(2, ndim):
        cells = torch.stack([half.mean(axis) for half in cells.split(2, axis)], axis)
    torch.testing.assert_close(SpatialPool(2)(values, None), cells)


def test_a_token_is_one_of_the_second_axis() -> None:
    assert torch.equal(Token(0)(TOKENS, None), TOKENS[:, 0])
    assert torch.equal(Token(-1)(TOKENS, None), TOKENS[:, 4])


def test_the_mean_over_tokens_leaves_out_masked_padding() -> None:
    torch.testing.assert_close(TokenMean()(TOKENS, None), TOKENS.mean(1))
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    padded = TOKENS.clone()
    padded[0, 2:] = float("nan")
    expected = torch.stack([TOKENS[0, :2].mean(0), TOKENS[1].mean(0)])
    torch.testing.assert_close(TokenMean("mask")(padded, {"mask": mask}), expected)


MASKS = {
    "right": [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]],
    "left": [[0, 0, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]],
    "holes": [[0, 1, 0, 1, 0], [1, 0, 0, 0, 1], [0, 0, 1, 0, 0]],
}


@pytest.mark.parametrize("side", MASKS)
@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("channels", ["first", "last"])
def test_masked_reductions_take_what_a_loop_over_tokens_takes(side: str, kind: torch.dtype, channels: str) -> None:
    values = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    kept = [[values[n, t] for t in range(5) if MASKS[side][n][t]] for n in range(3)]
    inputs = {"attention_mask": torch.tensor(MASKS[side]).to(kind)}
    given = values.movedim(1, 2) if channels == "first" else values
    expected = {
        LastToken: [tokens[-1] for tokens in kept],
        FirstToken: [tokens[0] for tokens in kept],
        MaskedMean: [sum(tokens) / len(tokens) for tokens in kept],
    }
    for make, rows in expected.items():
        torch.testing.assert_close(make(channels=channels)(given, inputs), torch.stack(rows))


def test_a_token_that_is_padding_is_warned_of() -> None:
    inputs = {side: {"attention_mask": torch.tensor(mask[:2])} for side, mask in MASKS.items()}
    with pytest.warns(
        UserWarning, match=r"^token\(-1\) takes padding of some stimuli, as attention_mask is 0 there\. Use"
    ):
        Token(-1)(TOKENS, inputs["right"])
    assert torch.equal(Token(-1)(TOKENS, inputs["left"]), TOKENS[:, -1])
    assert torch.equal(Token(0)(TOKENS, inputs["right"]), TOKENS[:, 0])


def test_a_mask_may_be_on_another_device_than_the_network() -> None:
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    reduced = TokenMean("mask")(TOKENS.to("meta"), {"mask": mask})  # as tokens on a GPU and stimuli on the CPU
    assert reduced.is_meta
    assert reduced.shape == TOKENS[:, 0].shape


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (Token, (0.5,)),
        (SpatialPool, ("a",)),
        (SparseProjection, (3, "x")),
        (SparseProjection, (True,)),
        (TokenMean, (3,)),
    ],
)
def test_arguments_of_another_type_are_refused(make: type[Reduction], arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match=r"; expected (a whole number|the name of an input)"):
        make(*arguments)


@pytest.mark.parametrize("d", [1, 10, 2000])
def test_a_sparse_projection_adds_up_root_d_features_with_signs(d: int) -> None:
    projection = SparseProjection(7, seed=3)(torch.eye(d, dtype=torch.float64), None)
    assert projection.shape == (d, 7)
    chosen = int(np.sqrt(d))
    assert ((projection != 0).sum(0) == chosen).all()
    sizes = projection[projection != 0].abs()
    torch.testing.assert_close(sizes, torch.full_like(sizes, np.sqrt(d / (chosen * 7))))


def test_a_sparse_projection_keeps_squared_lengths_on_average() -> None:
    x = torch.randn(200, 400, dtype=torch.float64)
    ratio = SparseProjection(300)(x, None).square().sum(1) / x.square().sum(1)
    assert abs(ratio.mean() - 1) < 0.05
    assert ratio.std() < 0.2


def test_equal_seeds_project_equally_and_others_do_not() -> None:
    x = torch.randn(4, 50)
    assert torch.equal(SparseProjection(5, seed=1)(x, None), SparseProjection(5, seed=1)(x.reshape(4, 5, 10), None))
    assert not torch.equal(SparseProjection(5, seed=1)(x, None), SparseProjection(5, seed=2)(x, None))


def test_the_sparse_projection_of_the_format_does_not_change() -> None:
    """Checkpoints of years apart are compared: these columns and signs are part of the format."""
    projection = SparseProjection(2, seed=0)(torch.eye(9), None).T.sign().int().tolist()
    assert projection == [[1, 0, 0, 0, 0, 0, 1, -1, 0], [-1, 0, 1, 0, 0, 0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("reduction", "values", "message"),
    [
        (SpatialMean(), TOKENS[:, 0], r"Activations of shape \(2, 3\) have no spatial axes"),
        (SpatialPool(2), torch.zeros(1, 1, 1, 1, 1, 1), "have more than three spatial axes"),
        (Token(5), TOKENS, "There is no token 5 among 5"),
        (Token(-6), TOKENS, "There is no token -6 among 5"),
        (Token(0), TOKENS[:, 0], r"Activations of shape \(2, 3\) have no tokens"),
        (TokenMean(), TOKENS[:, 0], r"Activations of shape \(2, 3\) have no tokens"),
        (Token(0, channels="first"), MAPS, r"shape \(2, 3, 4, 6\), channels first, have no single axis of tokens"),
        (TokenMean(channels="first"), MAPS, "have no single axis of tokens"),
        (TokenMean("mask"), TOKENS, r"There is no mask 'mask' among the inputs \(one tensor without a name\)"),
    ],
)
def test_values_that_cannot_be_reduced_are_an_error(reduction: Reduction, values: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reduction(values, torch.zeros(2))


@pytest.mark.parametrize("mask", [torch.ones(2, 4), torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])])
def test_a_mask_that_does_not_fit_is_an_error(mask: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"Mask 'mask' (has shape \(2, 4\) for tokens \(2, 5\)|leaves a stimulus no token)"
    ):
        TokenMean("mask")(TOKENS, {"mask": mask})


def test_a_mask_that_is_not_there_is_an_error_that_lists_the_inputs() -> None:
    with pytest.raises(ValueError, match=r"There is no mask 'mask' among the inputs \(ids, other\)"):
        TokenMean("mask")(TOKENS, {"ids": TOKENS, "other": TOKENS})


@pytest.mark.parametrize(
    ("make", "message"), [(SpatialPool, "0 cells along an axis"), (SparseProjection, "n_components is 0")]
)
def test_sizes_are_one_or_more(make: Callable[..., Reduction], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(0)


def test_a_function_becomes_a_reduction_with_its_name() -> None:
    reduction = as_reduction(double)
    assert isinstance(reduction, Custom)
    assert str(reduction) == "custom(double)"
    assert torch.equal(reduction(TOKENS, None), 2 * TOKENS)
    assert as_reduction(reduction) is reduction


@dataclass(frozen=True)
class Maximum(Reduction):
    """A reduction from outside the package."""

    smallest: int = 0

    def __call__(self, values: Tensor, inputs: object) -> Tensor:
        return values.flatten(2).amax(2).clamp_min(self.smallest)

    def __str__(self) -> str:
        return f"maximum({self.smallest})"


def test_a_reduction_from_outside_the_package_is_recorded_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checkpoints.REDUCTIONS, "maximum", Maximum)
    network, images = nn.Sequential(nn.Conv2d(1, 3, 3)), torch.randn(5, 1, 6, 6)
    layer = checkpoints.Capture(network, "0", reduce="maximum(1)").record(images)["0"]
    assert (layer.reduction, layer.feature_shape) == ("maximum(1)", (3,))
    np.testing.assert_array_equal(layer.values, network(images).detach().amax((2, 3)).clamp_min(1).numpy())
    assert parse_reduction("maximum") == Maximum()
    with pytest.raises(ValueError, match=r"Reduction 'maximum\(1, 2\)' is not understood; expected e.g. maximum"):
        parse_reduction("maximum(1, 2)")


def test_a_function_that_writes_over_its_values_leaves_those_of_the_network_alone() -> None:
    values = TOKENS.clone()
    assert torch.equal(Custom(lambda own: own.mul_(2))(values, None), 2 * TOKENS)
    assert torch.equal(values, TOKENS)


REDUCTIONS = [
    Flatten(),
    SpatialMean(),
    SpatialPool(4),
    Token(-1),
    TokenMean(),
    TokenMean("attention_mask"),
    SparseProjection(100, seed=3),
    SpatialMean(channels="first"),
    SpatialMean(channels="last"),
    SpatialPool(2, channels="last"),
    Token(3, channels="first"),
    TokenMean(channels="last"),
    TokenMean("attention_mask", channels="first"),
    FirstToken(),
    LastToken("mask", channels="first"),
    MaskedMean(),
]


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=str)
def test_a_reduction_is_read_from_how_it_is_written(reduction: Reduction) -> None:
    assert parse_reduction(str(reduction)) == reduction


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean", "Unknown reduction 'mean'. Choose one of: flatten, spatial_mean, spatial_pool, token,"),
        ("token(", "Unknown reduction"),
        ("token", "Reduction 'token' is not understood"),
        ("token(0, 1)", "is not understood"),
        ("token(which=0)", "is not understood; expected e.g. token(0)."),
        ("spatial_pool(x)", "is not understood; expected e.g. spatial_pool(4)."),
        ("spatial_pool(0)", "0 cells along an axis"),
        ("spatial_mean(channels=3)", "Unknown channels 3. Choose one of: auto, first, last."),
        ("token_mean(channels=middle)", "Unknown channels 'middle'. Choose one of: auto, first, last."),
        ("spatial_mean(last)", "is not understood; expected e.g. spatial_mean or spatial_mean(channels=last)."),
        ("last_token(mask=3)", "is not understood; expected e.g. last_token or last_token(mask=attention_mask)."),
        ("masked_mean(mask=3)", "is not understood; expected e.g. masked_mean or"),
        ("flatten(channels=last)", "is not understood; expected e.g. flatten."),
    ],
)
def test_a_reduction_that_is_not_understood_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_reduction(text)


AXED: list[Callable[[str], Reduction]] = [
    lambda channels: SpatialMean(channels=channels),
    lambda channels: SpatialPool(2, channels=channels),
    lambda channels: Token(1, channels=channels),
    lambda channels: TokenMean(channels=channels),
    lambda channels: TokenMean("mask", channels=channels),
]


@pytest.mark.parametrize("make", AXED)
def test_channels_may_be_first_or_last(make: Callable[[str], Reduction]) -> None:
    last, inputs = torch.randn(2, 4, 3), {"mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])}
    torch.testing.assert_close(make("last")(last, inputs), make("first")(last.movedim(-1, 1), inputs))


@pytest.mark.parametrize("ndim", [3, 4, 5])
def test_space_is_every_axis_but_those_of_stimuli_and_channels(ndim: int) -> None:
    values = torch.randn(2, *range(4, 4 + ndim - 2), 3)
    expected = values.mean(tuple(range(1, ndim - 1)))
    torch.testing.assert_close(SpatialMean(channels="last")(values, None), expected)
    torch.testing.assert_close(SpatialPool(1, channels="last")(values, None).flatten(1), expected)


@pytest.mark.parametrize("make", AXED)
def test_a_reduction_whose_axis_is_stated_is_not_inferred_again(make: Callable[[str], Reduction]) -> None:
    for channels in ("first", "last"):
        for module in (nn.Conv2d(1, 1, 1), nn.Linear(1, 1), nn.ReLU()):
            assert make(channels).resolved(module, (2, 5, 5, 3)) == make(channels)


@pytest.mark.parametrize(
    ("module", "shape", "written"),
    [
        (nn.Conv2d(3, 8, 1), (2, 8, 5, 5), "spatial_mean(channels=first)"),
        (nn.Linear(3, 8), (2, 5, 5, 8), "spatial_mean(channels=last)"),
    ],
)
def test_an_inferred_axis_is_written_down(module: nn.Module, shape: tuple[int, ...], written: str) -> None:
    resolved = SpatialMean().resolved(module, shape)
    assert str(resolved) == written
    assert parse_reduction(written) == resolved


@pytest.mark.parametrize("reduction", [Flatten(), SparseProjection(3), Custom(double)], ids=str)
def test_a_reduction_without_an_axis_resolves_to_itself(reduction: Reduction) -> None:
    assert reduction.resolved(nn.Linear(3, 8), (2, 5, 5, 8)) is reduction


def test_a_warning_says_how_to_state_an_uncertain_axis() -> None:
    said = (
        r"^spatial_mean takes the second axis of the activations of ReLU, shape \(n, 8, 8, 12\), as the features "
        r"\(channels\), which could not be verified\. Give channels='first' or channels='last'"
    )
    with pytest.warns(UserWarning, match=said):
        assert SpatialMean().resolved(nn.ReLU(), (2, 8, 8, 12)) == SpatialMean(channels="first")
    with pytest.warns(UserWarning, match=r"token\(0\) takes the last axis of the activations of ReLU"):
        assert Token(0).resolved(nn.ReLU(), (2, 12, 8, 8)) == Token(0, channels="last")


def test_activations_without_further_axes_are_left_to_the_reduction() -> None:
    assert SpatialMean().resolved(nn.ReLU(), (2, 8)) == SpatialMean()


LARGE = {torch.float16: 20.0, torch.bfloat16: 3.0}
AVERAGES = [SpatialMean(channels="last"), SpatialPool(1, channels="last"), TokenMean(), TokenMean("mask")]


@pytest.mark.parametrize("dtype", LARGE, ids=str)
@pytest.mark.parametrize("reduction", AVERAGES, ids=str)
def test_half_floats_are_averaged_in_single_precision(reduction: Reduction, dtype: torch.dtype) -> None:
    values = torch.full((1, 8192, 2), LARGE[dtype], dtype=dtype)  # the sum overflows a float16, and rounds a bfloat16
    values[:, ::2] += 2
    mean = reduction(values, {"mask": torch.ones(1, 8192)})
    assert mean.dtype == torch.float32
    assert mean.flatten().tolist() == [LARGE[dtype] + 1] * 2


TYPES = [torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("reduction", [*AVERAGES, SparseProjection(3)], ids=str)
def test_every_type_is_reduced_as_its_double_precision_value(reduction: Reduction, dtype: torch.dtype) -> None:
    values, inputs = (torch.randn(2, 4, 3) * 3).to(dtype), {"mask": torch.ones(2, 4)}
    torch.testing.assert_close(reduction(values, inputs).double(), reduction(values.double(), inputs))


COMPLEX = [*AVERAGES, SpatialPool(2), SpatialMean(), Token(1)]


@pytest.mark.parametrize("conjugated", [False, True])
@pytest.mark.parametrize("reduction", COMPLEX, ids=str)
def test_complex_values_are_reduced_by_real_and_imaginary_part(reduction: Reduction, conjugated: bool) -> None:
    values, inputs = torch.randn(2, 4, 3, dtype=torch.complex64), {"mask": torch.ones(2, 4)}
    values = values.conj() if conjugated else values
    parts = [reduction(part.resolve_neg(), inputs) for part in (values.real, values.imag)]
    torch.testing.assert_close(reduction(values, inputs).resolve_conj(), torch.complex(*parts))


def test_the_parts_of_a_complex_number_are_two_features_of_a_projection() -> None:
    values = torch.randn(4, 5, 3, dtype=torch.complex64)
    features = torch.stack([values.real, values.imag], -1).flatten(1)
    assert torch.equal(SparseProjection(6)(values, None), SparseProjection(6)(features, None))
    assert not torch.equal(SparseProjection(6)(values, None), SparseProjection(6)(values.conj(), None))
