import math

import pytest
import torch
from torch import Tensor

from repsim.learning import (
    Chain,
    Outcome,
    PredictiveCoding,
    Signals,
    Site,
    TrainingConfig,
    build_learner,
    compute_gradients,
    locks,
    parse_rules,
    site_of,
)
from repsim.learning.estimators.passes.predictive_coding import inferred_share
from tests.repsim.small_chains import (
    CLASSES,
    DEPTH,
    N,
    assert_close,
    held_gradients,
    randn,
    small_examples,
    small_network,
)
from tests.repsim.small_digits import digits_accuracy

KINDS = ["mlp", "conv", "residual"]


def step(kind: str, rule: str, depth: int = DEPTH) -> tuple[Chain, Outcome]:
    net, (X, y) = small_network(kind, depth), small_examples(kind)
    rules = parse_rules(rule, "all", depth)
    estimators = {k: each.build(site_of(net, k, n_outputs=CLASSES)).double() for k, each in rules.items()}
    return net, compute_gradients(net, estimators, X, y, watch=True)


def inferred(net: Chain, X: Tensor, y: Tensor, steps: int, rate: float) -> dict[int, Tensor]:
    """Oracle: values that descend the energy in steps, with predictions and Jacobians of the forward pass.

    Adds the gradients of the weights to ``.grad``, and returns the errors μ − v by boundary.
    """
    leaves, predictions = [net.input(X)], []
    for segment in net.segments:
        predictions.append(segment(leaves[-1]))
        leaves.append(predictions[-1].detach().requires_grad_())
    loss = torch.nn.functional.cross_entropy(leaves[-1], y, reduction="sum")
    (at_output,) = torch.autograd.grad(loss, leaves[-1])
    values = [prediction.detach().clone() for prediction in predictions[:-1]]
    for _ in range(steps):
        errors = [mu.detach() - v for mu, v in zip(predictions, values, strict=False)] + [at_output]
        sent = [  # from each segment to the values below it
            torch.autograd.grad(predictions[k], leaves[k], errors[k], retain_graph=True)[0]
            for k in range(1, len(predictions))
        ]
        values = [v + rate * (mu.detach() - v - back) for v, mu, back in zip(values, predictions, sent, strict=False)]
    errors = [mu.detach() - v for mu, v in zip(predictions, values, strict=False)]
    for prediction, error in zip(predictions, [*errors, at_output], strict=True):
        prediction.backward(error / len(y), inputs=list(net.parameters()), retain_graph=True)
    return dict(enumerate(errors, start=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("steps", "rate"), [(1, 1.0), (3, 1.0), (4, 0.5), (7, 0.3), (40, 0.9)])
def test_errors_and_updates_are_those_of_inference_step_by_step(kind: str, steps: int, rate: float) -> None:
    net, outcome = step(kind, f"predictive-coding:steps={steps},rate={rate}")
    twin = small_network(kind)
    errors = inferred(twin, *small_examples(kind), steps, rate)
    for k in net.boundaries:
        torch.testing.assert_close(outcome.gradients[k], errors[k], rtol=0, atol=1e-12)
    assert_close(held_gradients(net), held_gradients(twin))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, DEPTH])
def test_with_rate_1_and_as_many_steps_as_hidden_layers_the_update_is_that_of_backprop(kind: str, depth: int) -> None:
    net, _ = step(kind, "predictive-coding", depth)
    twin, _ = step(kind, "backprop", depth)
    assert_close(held_gradients(net), held_gradients(twin), 1e-10)
    assert_close(held_gradients(step(kind, f"predictive-coding:steps={depth}", depth)[0]), held_gradients(net), 0.0)


def test_with_fewer_steps_the_lowest_layers_do_not_learn() -> None:
    net, _ = step("mlp", "predictive-coding:steps=2")
    learning = [any(p.grad.any() for p in segment.parameters()) for segment in net.segments]
    assert learning == [False, False, True, True, True]


@pytest.mark.parametrize(("distance", "steps", "rate"), [(1, 1, 0.2), (2, 5, 0.2), (4, 9, 0.6), (3, 2, 0.9)])
def test_the_share_is_a_tail_of_the_binomial_distribution(distance: int, steps: int, rate: float) -> None:
    tail = sum(math.comb(steps, b) * rate**b * (1 - rate) ** (steps - b) for b in range(distance, steps + 1))
    assert inferred_share(distance, steps, rate) == pytest.approx(tail, abs=1e-14)


def test_a_slow_inference_reaches_backprop_with_more_steps() -> None:
    shares = [inferred_share(4, steps, 0.1) for steps in (4, 20, 60, 400)]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(1e-4)
    assert shares[-1] == pytest.approx(1.0, abs=1e-10)


def test_the_share_at_a_boundary_depends_on_the_segments_above_it() -> None:
    rule = PredictiveCoding(Site((3,), CLASSES, boundary=2, n_above=3), steps=3, rate=0.5)
    g = rule.gradient(Signals(randn(N, 3), true_gradient=torch.ones(N, 3)))
    assert torch.equal(g, torch.full((N, 3), 0.125))


def test_predictive_coding_waits_as_backprop_does() -> None:
    assert locks(PredictiveCoding(Site((3,), CLASSES))) == {"update", "backward"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.5}, r"^rate is 1\.5; expected a number above 0 and at most 1\.$"),
        ({"rate": 0.0}, r"^rate is 0\.0; expected a number above 0 and at most 1\.$"),
        ({"steps": 0}, r"^steps is 0; expected a whole number of 1 or more\.$"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictiveCoding(Site((3,), CLASSES), **options)


def test_boundaries_computed_together_have_shares_of_their_own() -> None:
    config = TrainingConfig(depth=3, width=5, rule="predictive-coding:rate=0.4", boundaries="all")
    learners = [build_learner(config, 6, CLASSES, together=together).double() for together in (True, False)]
    chosen = [learner.compute_gradients(*small_examples("mlp"), watch=True).gradients for learner in learners]
    for k in chosen[0]:
        torch.testing.assert_close(chosen[0][k], chosen[1][k], rtol=0, atol=1e-12)
    shares = [float(estimator.share) for estimator in learners[1].placed().values()]
    assert shares == sorted(shares)
    assert len(set(shares)) == 3


def test_predictive_coding_learns_digits() -> None:
    assert digits_accuracy("predictive-coding:steps=10,rate=0.5") > 0.9
