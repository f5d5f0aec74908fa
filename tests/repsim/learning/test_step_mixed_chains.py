"""Any rule next to any other: a chain is its boundaries, and none of them knows what stands at the next."""

import itertools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from repsim.learning import (
    NETWORKS,
    Chain,
    Estimator,
    Learner,
    Outcome,
    TrainingConfig,
    build_optimizer,
    compute_gradients,
    train,
)
from tests.repsim.small_chains import (
    CLASSES,
    DEPTH,
    RULES_OF_CHAINS,
    N,
    build_estimator,
    cut_at_all,
    randn,
    small_examples,
    small_network,
)

RULES = [
    *RULES_OF_CHAINS,
    "sign-symmetric:magnitude=resampled",
    "synthetic-gradient:hidden_layers=1",
    "bp-lambda:lam=0",
]
PATTERNS = [  # one rule for each way of joining, or cutting, the segments on both sides
    "backprop",
    "feedback-alignment",
    "direct-feedback-alignment",
    "kickback",
    "synthetic-gradient",
    "target-propagation",
]
BELOW_ABOVE = sorted({*itertools.product(RULES, PATTERNS), *itertools.product(PATTERNS, RULES)})
PAIRS = [
    *(("mlp", *pair) for pair in BELOW_ABOVE),
    *(("conv", *pair) for pair in itertools.product(PATTERNS, PATTERNS)),
]


def step(kind: str, rules: dict[int, str], everywhere: bool = False) -> tuple[Chain, dict[int, Estimator], Outcome]:
    net, (X, y) = small_network(kind), small_examples(kind)
    estimators = {k: build_estimator(rule, net, k) for k, rule in rules.items()}
    if everywhere:
        cut_at_all(estimators)
    return net, estimators, compute_gradients(net, estimators, X, y, watch=True)


def segment_gradients(net: Chain, k: int) -> list[Tensor]:
    return [parameter.grad for parameter in net.segments[k - 1].parameters()]


def assert_close(one: list[Tensor], other: list[Tensor], tolerance: float = 1e-12) -> None:
    for ours, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("kind", "below", "above"), PAIRS)
def test_a_rule_does_not_depend_on_the_rule_below_it(kind: str, below: str, above: str) -> None:
    """Above boundary 2, no bit depends on the rule at 2; segment 3 itself, which rule 2 may cut or send another way
    back through, gets the same gradient up to rounding."""
    net, estimators, outcome = step(kind, {2: below, 3: above})
    plain, others, expected = step(kind, {3: above})
    for part in [net, *estimators.values()]:
        for name, parameter in part.named_parameters():
            assert parameter.grad.isfinite().all(), name
    for k in (4, 5):
        assert all(map(torch.equal, segment_gradients(net, k), segment_gradients(plain, k)))
    assert_close(segment_gradients(net, 3), segment_gradients(plain, 3))
    for k in (3, 4):
        assert torch.equal(outcome.gradients[k], expected.gradients[k])
    assert all(
        torch.equal(a.grad, b.grad) for a, b in zip(estimators[3].parameters(), others[3].parameters(), strict=True)
    )
    assert torch.equal(outcome.logits, expected.logits)


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(st.tuples(*[st.sampled_from(RULES)] * DEPTH), st.sampled_from(list(NETWORKS)))
def test_cutting_a_mixed_chain_everywhere_changes_nothing(rules: tuple[str, ...], kind: str) -> None:
    assume(kind != "transformer" or "pepita" not in rules)  # which is refused
    chosen = dict(enumerate(rules, start=1))
    (net, ours, outcome), (twin, theirs, expected) = (step(kind, chosen, everywhere=cut) for cut in (False, True))
    assert_close([p.grad for p in net.parameters()], [p.grad for p in twin.parameters()], 1e-11)
    for k in chosen:
        assert_close([outcome.gradients[k]], [expected.gradients[k]], 1e-11)
        assert_close([p.grad for p in ours[k].parameters()], [p.grad for p in theirs[k].parameters()], 1e-9)


@settings(derandomize=True, database=None, deadline=None, max_examples=40)
@given(st.tuples(*[st.sampled_from(RULES)] * DEPTH), st.sampled_from(["mlp", "conv"]))
def test_a_mixed_chain_trains(rules: tuple[str, ...], kind: str) -> None:
    """A few updates in single precision, with the norms that keep random feedback in range."""
    net = small_network(kind).float()
    learner = Learner(net, {k: build_estimator(rule, net, k).float() for k, rule in enumerate(rules, start=1)})
    X, y = randn(3 * N, 6 if kind == "mlp" else 64, seed=1).float(), torch.arange(3 * N) % CLASSES
    before = [parameter.detach().clone() for parameter in learner.parameters()]
    config = TrainingConfig(learning_rate=1e-3, epochs=2, batch_size=N)
    records = list(train(learner, build_optimizer(learner, config), X, y, config))
    assert len(records) == 6
    for parameter, start in zip(learner.parameters(), before, strict=True):
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, start)
