import pytest
import torch

from repsim.learning import Chain, Observed, Outcome, compute_gradients, parse_rules, site_of
from tests.repsim.small_chains import (
    CLASSES,
    DEPTH,
    assert_close,
    assert_same_bits,
    held_gradients,
    small_examples,
    small_network,
)

KINDS = ["mlp", "conv", "residual"]
AGAIN = ["forward-forward", "pepita"]


def step(kind: str, rule: str) -> tuple[Chain, Outcome]:
    net = small_network(kind)
    rules = parse_rules(rule, "all" if "@" not in rule else None, DEPTH)
    estimators = {k: each.build(site_of(net, k, n_outputs=CLASSES)).double() for k, each in rules.items()}
    return net, compute_gradients(net, estimators, *small_examples(kind), watch=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", AGAIN)
def test_a_second_pass_updates_no_statistics_and_leaves_the_output_to_the_true_loss(rule: str, kind: str) -> None:
    (net, outcome), (twin, expected) = step(kind, rule), step(kind, "backprop")
    assert_same_bits(dict(net.named_buffers()), dict(twin.named_buffers()))
    assert torch.equal(outcome.logits, expected.logits)
    assert_close(held_gradients(net.output), held_gradients(twin.output))


@pytest.mark.parametrize("rule", AGAIN)
def test_below_a_segment_that_learns_again_the_first_pass_counts(rule: str) -> None:
    """Oracle: backprop at boundaries 1 and 2 gets the pull-back of g_3 through segment 3 in the first pass."""
    net, outcome = step("mlp", f"{rule}@3,4")
    twin, (X, y) = small_network("mlp"), small_examples("mlp")
    h3 = twin.segments[2](h2 := twin.segments[1](twin.segments[0](X)))
    torch.testing.assert_close(
        outcome.gradients[2],
        torch.autograd.grad(h3, h2, outcome.gradients[3], retain_graph=True)[0],
        rtol=0,
        atol=1e-12,
    )
    h2.backward(outcome.gradients[2] / len(y))
    for k in (0, 1):
        assert_close(held_gradients(net.segments[k]), held_gradients(twin.segments[k]))


@pytest.mark.parametrize("rule", AGAIN)
@pytest.mark.parametrize("below", ["synthetic-gradient", "feedback-alignment", "target-propagation", "bp-lambda"])
def test_segments_that_learn_again_do_not_depend_on_the_rule_below(rule: str, below: str) -> None:
    net, _ = step("mlp", f"{rule}@3,4 + {below}@2")
    twin, _ = step("mlp", f"{rule}@3,4")
    for k in (2, 3):
        assert_close(held_gradients(net.segments[k]), held_gradients(twin.segments[k]))
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_two_rules_that_learn_again_have_passes_of_their_own() -> None:
    net, _ = step("mlp", "forward-forward@1,2 + pepita@3,4")
    for rule, segments in (("forward-forward", (0, 1)), ("pepita", (2, 3))):
        twin, _ = step("mlp", f"{rule}@{segments[0] + 1},{segments[1] + 1}")
        for k in segments:
            assert_close(held_gradients(net.segments[k]), held_gradients(twin.segments[k]))


@pytest.mark.parametrize("rule", AGAIN)
def test_a_rule_that_learns_again_cannot_be_observed(rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{rule} cannot be observed beside backprop: its segments learn in a second"):
        parse_rules(f"{rule}:observe=true", "all", DEPTH)
    net = small_network("mlp")
    with pytest.raises(ValueError, match=r"cannot be observed beside backprop: its segments learn in a second"):
        Observed(parse_rules(rule, "1", DEPTH)[1].build(site_of(net, 1, n_outputs=CLASSES)))
