from math import sqrt

import pytest
import torch
from torch import Tensor, nn

from repsim.learning import Chain, Segment, mlp
from repsim.learning.networks import ACTIVATIONS, NORMS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_chain_passes_a_batch_through_its_segments_in_order() -> None:
    first, second, output = nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)
    chain = Chain([first, second], output, widths=[4, 4])
    X = torch.randn(5, 3, generator=seeded())
    assert chain.segments == (first, second, output)
    assert torch.equal(chain(X), output(second(first(X))))


@pytest.mark.parametrize("depth", [1, 2, 12])
def test_chain_names_hidden_segments_from_1_and_has_a_boundary_after_each(depth: int) -> None:
    chain = mlp(3, 2, depth=depth, width=4, generator=seeded())
    expected = [f"hidden.{k}" for k in range(1, depth + 1)]
    assert [name for name, module in chain.named_modules() if isinstance(module, Segment)] == expected
    assert list(chain.boundaries) == list(range(1, depth + 1))
    assert chain.widths == (4,) * depth
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


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_gives_finite_logits_and_moves_every_parameter(norm: str, activation: str) -> None:
    net = mlp(6, 3, depth=4, width=8, norm=norm, activation=activation, generator=seeded())
    logits = net(torch.randn(20, 6, generator=seeded(1)))
    assert logits.shape == (20, 3)
    logits.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


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


def test_mlp_is_decided_by_its_generator_and_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (mlp(5, 3, depth=2, width=4, generator=seeded(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["hidden.1.affine.weight"], other["hidden.1.affine.weight"])
