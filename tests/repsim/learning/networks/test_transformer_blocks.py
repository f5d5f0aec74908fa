import re
from math import sqrt
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import NORMS, Chain, compute_gradients, stack, transformer
from repsim.learning.networks.transformer_blocks import Patches, TransformerBlock
from tests.repsim.small_chains import assert_close, build_estimator, held_gradients, randn, seeded

N, CLASSES, DEPTH, WIDTH = 7, 3, 4, 8


def network(shape: tuple[int, ...] = (2, 6, 4), **settings: Any) -> Chain:
    settings = {"depth": DEPTH, "width": WIDTH, "heads": 2, "patch": 2, "generator": seeded()} | settings
    return transformer(shape, CLASSES, **settings).double()


def randomised(net: Chain) -> Chain:
    """Return the network with random shifts and biases too, so that no term is zero."""
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.add_(0.1 * randn(*parameter.shape, seed=50 + i))
    return net


def test_patches_are_squares_row_by_row_with_all_their_channels() -> None:
    X = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    patches = Patches(2)(X)
    assert patches.shape == (2, 6, 12)
    for row in range(2):
        for column in range(3):
            square = X[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(patches[:, 3 * row + column], square.flatten(1))
    assert torch.equal(Patches(2)(X.view(1, 2, 3, 4, 6))[0], patches)


def as_torch_layer(block: Any) -> nn.TransformerEncoderLayer:
    """Return torch's layer with the weights of a block."""
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True).double()
    attention, feed = block.attention, block.feed_forward
    values = {
        layer.self_attn.in_proj_weight: attention.to_qkv.weight,
        layer.self_attn.in_proj_bias: attention.to_qkv.bias,
        layer.self_attn.out_proj.weight: attention.merge.weight,
        layer.self_attn.out_proj.bias: attention.merge.bias,
        layer.linear1.weight: feed.affine.weight,
        layer.linear1.bias: feed.affine.bias,
        layer.linear2.weight: feed.contract.weight,
        layer.linear2.bias: feed.contract.bias,
        layer.norm1.weight: block.attention_norm.norm.weight,
        layer.norm1.bias: block.attention_norm.norm.bias,
        layer.norm2.weight: block.feed_norm.norm.weight,
        layer.norm2.bias: block.feed_norm.norm.bias,
    }
    with torch.no_grad():
        for parameter, value in values.items():
            parameter.copy_(value)
    return layer


def plain_activations(net: Chain, X: Tensor) -> list[Tensor]:
    """Return h_1 … h_{K-1} and the logits, from torch's own layers and slices of the images."""
    first: Any = net.hidden["1"]
    images = X.view(N, 2, 6, 4)
    squares = [images[:, :, i : i + 2, j : j + 2].flatten(1) for i in (0, 2, 4) for j in (0, 2)]
    linear = first.embedding.linear
    h = F.linear(torch.stack(squares, dim=1), linear.weight, linear.bias) + first.embedding.position
    activations = []
    for block in (first.block, *list(net.hidden.values())[1:]):
        h = as_torch_layer(block)(h)
        activations.append(h)
    output: Any = net.output
    normal = F.layer_norm(h, (WIDTH,), output.norm.norm.weight, output.norm.norm.bias)
    return [*activations, F.linear(normal.mean(dim=1), output.affine.weight, output.affine.bias)]


def test_a_transformer_is_torchs_encoder_and_its_boundary_gradients_are_those_of_autograd() -> None:
    net, X, y = randomised(network()), randn(N, 48, seed=1), torch.arange(N) % CLASSES
    *expected, logits = plain_activations(net, X)
    torch.testing.assert_close(net(X), logits, rtol=0, atol=1e-12)
    assert net.shapes == ((6, WIDTH),) * DEPTH
    true = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), expected)
    outcome = compute_gradients(net, {}, X, y, watch=True)
    for k, gradient in enumerate(true, start=1):
        torch.testing.assert_close(outcome.gradients[k], gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_feedback_that_is_the_weights_makes_a_transformer_learn_by_backprop(norm: str) -> None:
    X, y = randn(N, 48, seed=1), torch.arange(N) % CLASSES
    net, twin = randomised(network(norm=norm)), randomised(network(norm=norm))
    estimators = {k: build_estimator("feedback-alignment", net, k) for k in net.boundaries}
    for k, estimator in estimators.items():
        weights = [part.weight for part in net.segments[k].modules() if isinstance(part, nn.Linear)]
        assert len(weights) == (4 if k < DEPTH else 1)
        for i, weight in enumerate(weights):
            estimator.get_buffer(f"feedback_{i}").copy_(weight.detach())
    compute_gradients(net, estimators, X, y)
    compute_gradients(twin, {}, X, y)
    assert_close(held_gradients(net), held_gradients(twin), 1e-10)


@pytest.mark.parametrize("rule", ["synthetic-gradient", "decoupled-greedy"])
def test_below_a_rule_a_block_learns_from_the_gradient_that_the_rule_chose(rule: str) -> None:
    X, y = randn(N, 48, seed=1), torch.arange(N) % CLASSES
    net = randomised(network(norm="layer"))
    estimator = build_estimator(rule, net, 2)
    outcome = compute_gradients(net, {2: estimator}, X, y, watch=True)
    activations = plain_activations(net, X)
    below = [*net.hidden["1"].parameters(), *net.hidden["2"].parameters()]
    by_hand = torch.autograd.grad(net.hidden["2"](net.hidden["1"](net.input(X))), below, outcome.gradients[2] / N)
    for parameter, gradient in zip(below, by_hand, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-10)
    (target,) = torch.autograd.grad(F.cross_entropy(activations[-1], y, reduction="sum"), activations[1])
    if rule == "synthetic-gradient":
        error = (outcome.gradients[2] - target).square().sum(dim=(1, 2)).mean()
        assert outcome.estimator_losses[2].item() == pytest.approx(error.item(), rel=1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_a_stack_of_transformers_does_what_each_does(norm: str) -> None:
    nets, y = [randomised(network(norm=norm, generator=seeded(i))) for i in range(3)], torch.arange(N) % CLASSES
    X, together = randn(3, N, 48, seed=1), stack(nets)
    outcome = compute_gradients(together, {}, X, y.expand(3, N), watch=True)
    for i, net in enumerate(nets):
        alone = compute_gradients(net, {}, X[i], y, watch=True)
        torch.testing.assert_close(outcome.logits[i], alone.logits, rtol=0, atol=1e-12)
        for k in net.boundaries:
            torch.testing.assert_close(outcome.gradients[k][i], alone.gradients[k], rtol=0, atol=1e-12)
    for name, parameter in together.named_parameters():
        each = torch.stack([net.get_parameter(name).grad for net in nets])
        torch.testing.assert_close(parameter.grad, each, rtol=0, atol=1e-12, msg=name)


def test_sequences_are_not_cut_into_patches() -> None:
    net = network((5, 3), patch=None)
    assert net.shapes == ((5, WIDTH),) * DEPTH
    first: Any = net.hidden["1"]
    X = randn(N, 15)
    h = F.linear(X.view(N, 5, 3), first.embedding.linear.weight, first.embedding.linear.bias)
    torch.testing.assert_close(first(net.input(X)), first.block(h + first.embedding.position), rtol=0, atol=1e-12)


def test_without_a_patch_the_side_is_a_quarter_of_the_height() -> None:
    for side, patch, n in ((8, 2, 16), (28, 7, 16), (3, 1, 9)):
        net = network((1, side, side), patch=None, depth=1)
        assert net.shapes == ((n, WIDTH),)
        assert net.hidden["1"].embedding.linear.in_features == patch**2


def test_the_last_map_of_each_branch_starts_smaller_by_the_root_of_twice_the_depth() -> None:
    net = transformer((1, 8, 8), CLASSES, depth=8, width=64, generator=seeded())
    for block in [part for part in net.modules() if isinstance(part, TransformerBlock)]:
        attention: Any = block.attention
        feed: Any = block.feed_forward
        for linear, std in (
            (attention.to_qkv, sqrt(1 / 64)),
            (attention.merge, sqrt(1 / 64) / 4),
            (feed.affine, sqrt(2 / 64)),
            (feed.contract, sqrt(1 / 256) / 4),
        ):
            assert linear.weight.std().item() == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        (
            (1, 8, 8),
            {"width": 6, "heads": 4},
            "width is 6 and heads is 4; expected a width that is a multiple of heads.",
        ),
        ((1, 8, 8), {"heads": 0}, "heads is 0; expected a whole number of 1 or more"),
        ((1, 8, 6), {"patch": 4}, "An image of 8 × 6 pixels cannot be cut into patches of 4 × 4; give a patch that"),
        ((1, 9, 9), {"patch": None, "width": 4}, "patches of 2 × 2, a quarter of its height; give a patch"),
        ((1, 8, 8), {"patch": 0}, "patch is 0; expected a whole number of 1 or more"),
        ((12,), {}, "A transformer needs images, of shape (channels, height, width), or sequences"),
        ((5, 3), {"patch": 2}, "patch is 2, but sequences of shape (5, 3) are not cut into patches; leave it out."),
    ],
)
def test_shapes_and_settings_that_do_not_fit_are_refused(
    shape: tuple[int, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        network(shape, **settings)
