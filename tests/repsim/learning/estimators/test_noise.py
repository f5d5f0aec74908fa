import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from repsim.learning import Noise, Signals, Site, compute_gradients, mlp
from tests.repsim.small_chains import randn

N, WIDTH, CLASSES = 7, 5, 3
SITE = Site((WIDTH,), CLASSES)


def signals(target: Tensor | None = None) -> Signals:
    return Signals(randn(N, WIDTH), target=target)


def test_noise_is_normal_with_the_declared_deviation() -> None:
    g = Noise(Site((200,), CLASSES), scale=3.0).double().gradient(Signals(randn(500, 200)))
    assert g.std().item() == pytest.approx(3.0, rel=0.01)
    assert abs(g.mean().item()) < 0.05
    assert (g / 3.0).pow(4).mean().item() == pytest.approx(3.0, rel=0.05)  # the fourth moment of a normal


@pytest.mark.parametrize("shape", [(WIDTH,), (2, 3, 4)])
def test_noise_has_the_size_of_the_first_target_that_is_not_zero(shape: tuple[int, ...]) -> None:
    rule, h = Noise(Site(shape, CLASSES)).double(), Signals(randn(N, *shape))
    targets = [torch.zeros(N, *shape).double(), randn(N, *shape, seed=1), 9 * randn(N, *shape, seed=2)]
    scales = []
    for target in targets:
        g = rule.gradient(h)
        assert bool(g.any()) is bool(scales and scales[-1])  # silent until it knows its size
        assert rule.loss(g, replace(h, target=target)) is None
        scales.append(rule.scale.item())
    expected = targets[1].square().mean().sqrt().item()
    assert scales == pytest.approx([0.0, expected, expected])


def test_noise_calibrates_itself_on_the_target_of_its_first_step() -> None:
    X, y = randn(N, 6, seed=1), torch.arange(N) % CLASSES
    nets = [mlp(6, CLASSES, depth=2, width=WIDTH, generator=torch.Generator().manual_seed(0)).double() for _ in "ab"]
    rule = Noise(SITE).double()
    outcome = compute_gradients(nets[0], {1: rule}, X, y)
    assert outcome.estimator_losses == {}
    t = compute_gradients(nets[1], {}, X, y, watch=True).gradients[1]
    assert rule.scale.item() == pytest.approx(t.square().mean().sqrt().item(), rel=1e-12)
    assert not nets[0].hidden["1"].affine.weight.grad.any()
    nets[0].zero_grad()
    compute_gradients(nets[0], {1: rule}, X, y)
    assert nets[0].hidden["1"].affine.weight.grad.any()


@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_a_declared_deviation_is_kept(scale: float) -> None:
    rule = Noise(SITE, scale=scale).double()
    rule.loss(rule.gradient(signals()), signals(randn(N, WIDTH, seed=1)))
    assert rule.scale.item() == scale


def test_noise_is_drawn_anew_each_step_and_continued_from_a_state_dict() -> None:
    rule = Noise(SITE, scale=1.0).double()
    first, second = rule.gradient(signals()), rule.gradient(signals())
    assert not torch.equal(first, second)
    saved = copy.deepcopy(rule.state_dict())
    third = rule.gradient(signals())
    resumed = Noise(SITE, scale=1.0).double()
    resumed.load_state_dict(saved)
    assert torch.equal(resumed.gradient(signals()), third)


def test_noise_differs_between_boundaries_and_seeds() -> None:
    sites = [SITE, replace(SITE, boundary=2), replace(SITE, seed=1), replace(SITE, boundary=2, seed=1)]
    drawn = [Noise(site, scale=1.0).gradient(signals()) for site in sites]
    assert len({g.numpy().tobytes() for g in drawn}) == 4
    assert torch.equal(Noise(SITE, scale=1.0).gradient(signals()), drawn[0])


def test_noise_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    Noise(SITE, scale=1.0).gradient(signals())
    assert torch.equal(torch.get_rng_state(), before)
