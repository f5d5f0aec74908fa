import re
from collections.abc import Callable
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import NETWORKS, Chain, Readout, ResidualBlock, Segment, conv_net, mlp, residual_net
from repsim.learning.networks import ACTIVATIONS, NORMS
from tests.repsim.small_chains import seeded


def test_chain_passes_a_batch_through_its_segments_in_order() -> None:
    first, second, output = nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)
    chain = Chain([first, second], output, shapes=[4, (4,)])
    X = torch.randn(5, 3, generator=seeded())
    assert chain.segments == (first, second, output)
    assert chain.shapes == ((4,), (4,))
    assert torch.equal(chain(X), output(second(first(X))))


@pytest.mark.parametrize("depth", [1, 2, 12])
def test_chain_names_hidden_segments_from_1_and_has_a_boundary_after_each(depth: int) -> None:
    chain = mlp(3, 2, depth=depth, width=4, generator=seeded())
    expected = [f"hidden.{k}" for k in range(1, depth + 1)]
    assert [name for name, module in chain.named_modules() if isinstance(module, Segment)] == expected
    assert list(chain.boundaries) == list(range(1, depth + 1))
    assert chain.shapes == ((4,),) * depth
    assert len(chain.segments) == depth + 1


def test_activation_at_boundary_k_is_the_output_of_hidden_k() -> None:
    chain = mlp(3, 2, depth=3, width=4, norm="none", generator=seeded())
    seen: dict[str, Tensor] = {}
    for name in ("1", "2", "3"):
        chain.hidden[name].register_forward_hook(lambda module, args, out, name=name: seen.update({name: out}))
    h = torch.randn(6, 3, generator=seeded(1))
    chain(h)
    for k in chain.boundaries:
        h = chain.segments[k - 1](h)
        assert torch.equal(seen[str(k)], h)


def test_segment_is_activation_of_norm_of_affine() -> None:
    affine, norm, activation = nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU()
    X = torch.randn(5, 3, generator=seeded())
    assert torch.equal(Segment(affine, norm, activation)(X), activation(norm(affine(X))))


@pytest.mark.parametrize(
    ("activation", "gain"), [("relu", sqrt(2)), ("tanh", 5 / 3), ("sigmoid", 1.0), ("linear", 1.0)]
)
def test_mlp_draws_weights_of_variance_gain_squared_over_fan_in(activation: str, gain: float) -> None:
    net = mlp(300, 100, depth=2, width=200, activation=activation, generator=seeded())
    first, second = (net.hidden[k].affine.weight.double() for k in "12")
    for weight, std in ((first, gain / sqrt(300)), (second, gain / sqrt(200)), (net.output.weight, 1 / sqrt(200))):
        n_errors = abs(weight.std().item() - std) / (std / sqrt(2 * weight.numel()))  # in standard errors
        assert n_errors < 4
        assert abs(weight.mean().item()) < 4 * std / sqrt(weight.numel())


def test_deep_relu_chain_keeps_the_mean_square_of_its_activations() -> None:
    """What the initialisation is for: He et al. (2015), equation 10. With gain 1 it would fall by 2¹⁰."""
    net = mlp(400, 10, depth=10, width=400, norm="none", generator=seeded())
    h = torch.randn(50, 400, generator=seeded(1))
    with torch.no_grad():
        for segment in net.hidden.values():
            h = segment(h)
    assert 0.5 < float(h.square().mean()) < 2.0


@pytest.mark.parametrize("norm", NORMS)
def test_affine_maps_have_a_bias_of_zero_except_under_batch_norm(norm: str) -> None:
    net = mlp(3, 2, depth=2, width=4, norm=norm, generator=seeded())
    for segment in net.hidden.values():
        if norm == "batch":
            assert segment.affine.bias is None
        else:
            assert not segment.affine.bias.any()
    assert not net.output.bias.any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_shift_starts_the_norms_or_without_them_the_biases_and_draws_the_same_weights(kind: str, norm: str) -> None:
    plain, shifted = (
        NETWORKS[kind]((1, 8, 8), 3, depth=3, width=4, norm=norm, shift=shift, generator=seeded()).state_dict()
        for shift in (0.0, 0.5)
    )
    moved = [name for name in plain if not torch.equal(plain[name], shifted[name])]
    assert moved
    for name in moved:
        assert name.endswith(".affine.bias" if norm == "none" else "norm.bias"), name
        assert (shifted[name] == 0.5).all()
    shifts = [name for name in plain if name.endswith(moved[0][-9:]) and (name.startswith("hidden") or norm != "none")]
    assert len(moved) == len(shifts)


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 1.17, 1.25), (1.0, 1.04, 1.08)])
def test_gradients_grow_by_a_fifth_a_relu_segment_under_batch_norm_and_hardly_with_a_shift(
    shift: float, least: float, most: float
) -> None:
    """Yang et al. (2019): their squared norms grow by π / (π - 1) a segment, their norms by 1.21."""
    net = mlp(64, 10, depth=50, width=128, shift=shift, generator=seeded())
    h, hs = torch.randn(256, 64, generator=seeded(1)), []
    for segment in net.hidden.values():
        hs.append(h := segment(h))
    first, last = torch.autograd.grad(net.output(h).square().sum(), [hs[0], hs[-1]])
    assert least < float(first.norm() / last.norm()) ** (1 / 49) < most


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("name", "value"), [("depth", 0), ("depth", 1.5), ("shift", float("nan"))])
def test_sizes_out_of_range_are_refused(kind: str, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {value}; expected "):
        NETWORKS[kind]((1, 8, 8), 3, **{name: value}, generator=seeded())


@pytest.mark.parametrize("kind", NETWORKS)
def test_unknown_norms_and_activations_are_refused(kind: str) -> None:
    shape = (1, 8, 8)
    with pytest.raises(ValueError, match=r"^Unknown norm 'group'\. Choose one of: batch, layer, none\.$"):
        NETWORKS[kind](shape, 3, norm="group", generator=seeded())
    message = r"^Unknown activation 'swish'\. Choose one of: relu, tanh, sigmoid, linear\.$"
    with pytest.raises(ValueError, match=message):
        NETWORKS[kind](shape, 3, activation="swish", generator=seeded())


def test_an_mlp_flattens_images() -> None:
    net = NETWORKS["mlp"]((2, 3, 4), 5, depth=1, width=6, generator=seeded())
    assert net.hidden["1"].affine.weight.shape == (6, 24)


# Networks of maps


@pytest.mark.parametrize("make", [conv_net, residual_net])
@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((1, 28, 28), [(14, 14), (7, 7), (7, 7)]),
        ((3, 32, 17), [(16, 8), (8, 4), (8, 4)]),
        ((2, 7, 40), [(7, 40), (7, 40), (7, 40)]),  # it halves both sides or none
        ((1, 1, 1), [(1, 1), (1, 1), (1, 1)]),
    ],
)
def test_maps_are_halved_while_they_are_eight_wide_or_more(
    make: Callable[..., Chain], shape: tuple[int, int, int], sides: list[tuple[int, int]]
) -> None:
    net = make(shape, 4, depth=3, width=5, generator=seeded())
    assert net.shapes == tuple((5, *side) for side in sides)
    X = torch.randn(6, *shape, generator=seeded(1))
    h = X
    for segment, expected in zip(net.hidden.values(), net.shapes, strict=True):
        h = segment(h)
        assert h.shape == (6, *expected)
    assert net(X.flatten(1)).shape == (6, 4)


@pytest.mark.parametrize("make", [conv_net, residual_net])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_networks_of_maps_have_a_boundary_after_each_hidden_segment(make: Callable[..., Chain], depth: int) -> None:
    net = make((1, 8, 8), 3, depth=depth, width=2, generator=seeded())
    assert list(net.boundaries) == list(range(1, depth + 1))
    assert list(net.hidden) == [str(k) for k in net.boundaries]
    blocks = [isinstance(segment, ResidualBlock) for segment in net.hidden.values()]
    assert blocks == ([False] + [True] * (depth - 1) if make is residual_net else [False] * depth)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_gives_finite_logits_and_moves_every_parameter(kind: str, activation: str, norm: str) -> None:
    net = NETWORKS[kind]((2, 8, 8), 3, depth=3, width=4, norm=norm, activation=activation, generator=seeded())
    logits = net(torch.randn(9, 128, generator=seeded(1)))
    assert logits.shape == (9, 3)
    logits.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_a_conv_net_is_the_composition_that_its_docstring_names() -> None:
    net = conv_net((1, 8, 9), 3, depth=2, width=4, generator=seeded()).double()
    X = torch.randn(5, 72, generator=seeded(1), dtype=torch.float64)
    h = X.view(5, 1, 8, 9)
    for k, halved in (("1", True), ("2", False)):
        h = F.conv2d(h, net.hidden[k].affine.weight, padding=1)
        mean, var = h.mean(dim=(0, 2, 3), keepdim=True), h.var(dim=(0, 2, 3), keepdim=True, correction=0)
        h = ((h - mean) / (var + 1e-5).sqrt()).relu()
        h = F.max_pool2d(h, 2) if halved else h
    expected = F.linear(h.flatten(1), net.output.affine.weight, net.output.affine.bias)
    torch.testing.assert_close(net(X), expected, rtol=0, atol=1e-12)


def test_a_residual_net_is_the_composition_that_its_docstring_names() -> None:
    net = residual_net((1, 6, 8), 3, depth=2, width=4, norm="none", activation="tanh", generator=seeded()).double()
    X = torch.randn(5, 48, generator=seeded(1), dtype=torch.float64)
    first, block = net.hidden.values()
    h = F.conv2d(X.view(5, 1, 6, 8), first.affine.weight, first.affine.bias, padding=1).tanh()
    inner = F.conv2d(h, block.first.affine.weight, block.first.affine.bias, padding=1).tanh()
    h = (h + F.conv2d(inner, block.affine.weight, block.affine.bias, padding=1)).tanh()
    expected = F.linear(h.mean(dim=(2, 3)), net.output.affine.weight, net.output.affine.bias)
    torch.testing.assert_close(net(X), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [conv_net, residual_net])
def test_convolutions_are_drawn_with_variance_gain_squared_over_fan_in(make: Callable[..., Chain]) -> None:
    net = make((3, 8, 8), 3, depth=3, width=60, norm="layer", generator=seeded())
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.std().item() == pytest.approx(sqrt(2 / (9 * layer.in_channels)), rel=0.05)
            assert not layer.bias.any()


@pytest.mark.parametrize("kind", NETWORKS)
def test_weights_depend_on_the_generator_alone(kind: str) -> None:
    before, make = torch.get_rng_state(), NETWORKS[kind]
    one, same, other = (make((1, 8, 8), 3, depth=2, width=4, generator=seeded(s)).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one)
    weight = next(name for name in one if name.startswith("hidden.1.") and name.endswith(".weight"))
    assert not torch.equal(one[weight], other[weight])


@pytest.mark.parametrize("make", [conv_net, residual_net])
@pytest.mark.parametrize("shape", [(64,), (8, 8), (1, 1, 8, 8)])
def test_networks_of_maps_reject_inputs_that_are_not_images(make: Callable[..., Chain], shape: tuple[int, ...]) -> None:
    message = (
        r"^A convolutional network needs images, of shape \(channels, height, width\); these examples have shape "
        rf"{re.escape(str(shape))}\. Use network 'mlp', or give X as \(n, height, width\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        make(shape, 3, generator=seeded())


def test_every_segment_hands_its_affine_maps_to_apply() -> None:
    """What feedback rules rest on: no affine map is called behind their back."""
    for net in (conv_net((1, 8, 8), 3, generator=seeded()), residual_net((1, 8, 8), 3, generator=seeded())):
        h = torch.randn(4, 1, 8, 8, generator=seeded(1))
        for segment in net.segments:
            handed: list[nn.Module] = []

            def apply(affine: nn.Module, X: Tensor, handed: list[nn.Module] = handed) -> Tensor:
                handed.append(affine)
                return affine(X)

            h = segment(h, apply)
            assert handed == [part for part in segment.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
        assert isinstance(net.output, Readout)
