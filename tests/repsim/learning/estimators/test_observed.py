import itertools

import pytest
import torch

from repsim.learning import (
    ESTIMATORS,
    NETWORKS,
    Chain,
    Observed,
    Outcome,
    TrainingConfig,
    build_learner,
    compute_gradients,
    locks,
    parse_rules,
    site_of,
)
from repsim.learning.estimators import FeedbackAlignment
from tests.repsim.small_chains import randn, small_examples, small_network

N, CLASSES, DEPTH = 7, 3, 4
SHAPES = {"mlp": (6,), "conv": (1, 8, 8), "residual": (1, 8, 8), "transformer": (1, 8, 8)}
FAMILY = [name for name, rule in ESTIMATORS.items() if issubclass(rule, FeedbackAlignment)]
AGAIN = [name for name, rule in ESTIMATORS.items() if rule.learns_again]
WATCHED = sorted(set(ESTIMATORS) - {*FAMILY, *AGAIN, "backprop"})


def step(kind: str, rule: str | None, where: str = "all", n: int = N) -> tuple[Chain, dict, Outcome]:
    """Make one step; what the estimators hold at zero is made random."""
    net, (X, y) = small_network(kind), small_examples(kind, n)
    rules = parse_rules(rule, where, DEPTH) if rule else {}
    estimators = {k: each.build(site_of(net, k, n_outputs=CLASSES)).double() for k, each in rules.items()}
    with torch.no_grad():
        for estimator in estimators.values():
            for i, parameter in enumerate(estimator.parameters()):
                parameter.copy_(0.3 * randn(*parameter.shape, seed=i))
    return net, estimators, compute_gradients(net, estimators, X, y, watch=True)


@pytest.mark.parametrize("kind", ["mlp", "residual"])
@pytest.mark.parametrize("rule", WATCHED)
@pytest.mark.parametrize(("n", "tolerance"), [(7, 1e-13), (8, 0.0)])  # N · (x / N) is x where N is a power of two
def test_a_network_whose_rule_is_only_observed_learns_by_backprop(
    n: int, tolerance: float, rule: str, kind: str
) -> None:
    (net, estimators, ours), (twin, _, theirs) = step(kind, f"{rule}:observe=true", n=n), step(kind, None, n=n)
    assert all(isinstance(estimator, Observed) for estimator in estimators.values())
    assert torch.equal(ours.logits, theirs.logits)
    for (name, one), other in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=tolerance, msg=name)
    for one, other in zip(net.buffers(), twin.buffers(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("one", "other"), list(itertools.pairwise(WATCHED)))
def test_which_rule_is_observed_changes_no_bit_of_the_network(one: str, other: str) -> None:
    nets = [step("mlp", f"{rule}:observe=true")[0] for rule in (one, other)]
    for ours, theirs in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("rule", WATCHED)
def test_an_observed_estimator_proposes_and_learns_as_if_it_were_used(rule: str, kind: str) -> None:
    """At one boundary, what arrives from above does not depend on what is chosen there."""
    (_, used, ours), (_, observed, theirs) = step(kind, rule, "2"), step(kind, f"{rule}:observe=true", "2")
    torch.testing.assert_close(ours.gradients[2], theirs.gradients[2], rtol=0, atol=1e-12)
    assert ours.estimator_losses.keys() == theirs.estimator_losses.keys()
    for one, other in zip(used[2].parameters(), observed[2].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", WATCHED)
def test_an_observed_rule_has_the_locks_of_backprop(rule: str) -> None:
    _, estimators, _ = step("mlp", f"{rule}:observe=true")
    assert all(locks(estimator) == {"update", "backward"} for estimator in estimators.values())


@pytest.mark.parametrize("rule", FAMILY)
def test_rules_that_change_the_backward_pass_cannot_be_observed(rule: str) -> None:
    name = ESTIMATORS[rule].__name__
    message = rf"^{name} cannot be observed beside backprop: .* segment 3\. Use the rule itself"
    estimators = build_learner(TrainingConfig(rule=f"{rule}@2", depth=3), 6, CLASSES).placed()
    with pytest.raises(ValueError, match=message):
        Observed(estimators[2,])
    with pytest.raises(ValueError, match=rf"^{rule} cannot be observed beside backprop: .* Remove observe=true"):
        TrainingConfig(rule=f"{rule}:observe=true@2", depth=3)
