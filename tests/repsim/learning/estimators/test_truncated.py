import torch

from repsim.learning import Signals, Site, TrainingConfig, build_learner
from repsim.learning.estimators import Truncated
from tests.repsim.small_chains import randn


def test_truncation_passes_nothing_and_learns_nothing() -> None:
    rule, signals = Truncated(Site((4,), 3)), Signals(randn(5, 4), target=randn(5, 4, seed=1))
    assert torch.equal(rule.gradient(signals), torch.zeros(5, 4).double())
    assert rule.loss(rule.gradient(signals), signals) is None
    assert not rule.state_dict()


def test_segments_below_a_truncation_get_no_gradient() -> None:
    learner = build_learner(TrainingConfig(depth=3, width=4, norm="none", rule="truncated@2"), 6, 3)
    learner.compute_gradients(torch.ones(5, 6), torch.arange(5) % 3)
    moved = {name: bool(each.grad.any()) for name, each in learner.named_parameters() if "affine.weight" in name}
    assert list(moved.values()) == [False, False, True]
