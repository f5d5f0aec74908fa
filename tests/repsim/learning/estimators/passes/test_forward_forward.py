import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repsim.learning import Chain, ForwardForward, Outcome, Site, compute_gradients, locks, site_of
from tests.repsim.small_chains import (
    CLASSES,
    N,
    assert_close,
    held_gradients,
    randn,
    seeded,
    small_examples,
    small_network,
)
from tests.repsim.small_digits import digits_accuracy

KINDS = ["mlp", "conv", "residual"]
SITE = Site((5,), CLASSES, n_features=6)
LABELS = torch.arange(N) % CLASSES


def build(net: Chain, **options: object) -> dict[int, ForwardForward]:
    return {
        k: ForwardForward(site_of(net, k, n_outputs=CLASSES), generator=seeded(k), **options).double()
        for k in net.boundaries
    }


def step(kind: str, **options: object) -> tuple[Chain, Outcome]:
    net = small_network(kind)
    return net, compute_gradients(net, build(net, **options), *small_examples(kind), watch=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"threshold": 0.4}, {"labels": "added", "scale": 0.5}], ids=str)
def test_every_layer_descends_its_own_log_loss_of_telling_positive_from_negative(
    kind: str, options: dict[str, object]
) -> None:
    """Oracle: automatic differentiation, layer by layer."""
    net, outcome = step(kind, **options)
    twin, (X, y) = small_network(kind), small_examples(kind)
    h = build(twin, **options)[1].inputs_again(twin.input(X), y, None)
    for k, segment in zip(twin.boundaries, twin.segments, strict=False):
        h = segment(h.detach())
        h.retain_grad()
        flat = h.flatten(1)
        margin = flat.square().sum(1) - options.get("threshold", 1.0) * flat.shape[1]
        losses = -F.logsigmoid(margin[:N]) - F.logsigmoid(-margin[N:])  # softplus is inexact above 20
        losses.mean().backward()
        assert_close(held_gradients(net.segments[k - 1]), held_gradients(segment), 1e-11)  # of gradients around 30
        torch.testing.assert_close(outcome.gradients[k], h.grad[:N] * N, rtol=0, atol=1e-12)
        torch.testing.assert_close(outcome.estimator_losses[k], losses.mean().detach(), rtol=0, atol=1e-12)


def labels_in(inputs: Tensor) -> Tensor:
    return inputs[:, :CLASSES].argmax(dim=1)


def test_positive_examples_hold_their_label_and_negative_ones_another() -> None:
    X, rule = randn(N, 6), ForwardForward(SITE).double()
    inputs = rule.inputs_again(X, LABELS, None)
    assert inputs.shape == (2 * N, 6)
    assert torch.equal(inputs[:N, :CLASSES], F.one_hot(LABELS, CLASSES).double())
    assert torch.equal(labels_in(inputs[:N]), LABELS)
    assert (labels_in(inputs[N:]) != LABELS).all()
    assert torch.equal(inputs[:, CLASSES:], torch.cat([X[:, CLASSES:]] * 2))


def test_wrong_labels_are_uniform_and_drawn_anew_for_each_batch() -> None:
    n = 3000
    labels = torch.zeros(n, dtype=torch.int64)
    rule = ForwardForward(Site((5,), 4, n_features=6)).double()
    first, second = (rule.inputs_again(randn(n, 6), labels, None)[n:, :4].argmax(dim=1) for _ in range(2))
    assert not torch.equal(first, second)
    counts = torch.bincount(first, minlength=4)
    assert counts[0] == 0
    assert (counts[1:] - n / 3).abs().max() < 4 * (n * 2 / 9) ** 0.5  # four standard errors


def test_added_labels_are_patterns_that_are_fixed() -> None:
    rule = ForwardForward(SITE, labels="added", scale=2.0, generator=seeded()).double()
    X = randn(N, 6)
    added = rule.inputs_again(X, LABELS, None)[:N] - X
    torch.testing.assert_close(added, rule.patterns[LABELS], rtol=0, atol=1e-12)
    assert rule.patterns.std() == pytest.approx(2.0, rel=0.5)
    assert "patterns" in rule.state_dict()


def test_images_hold_the_label_in_their_first_pixels() -> None:
    rule = ForwardForward(Site((5,), CLASSES, n_features=16)).double()
    X = randn(N, 1, 4, 4)
    inputs = rule.inputs_again(X, LABELS, None)
    assert inputs.shape == (2 * N, 1, 4, 4)
    assert torch.equal(inputs[:N, 0, 0, :CLASSES], F.one_hot(LABELS, CLASSES).double())


def test_forward_forward_is_unlocked() -> None:
    assert locks(ForwardForward(SITE)) == set()


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (Site((5,), 1, n_features=6), r"needs wrong labels, but the network has one output"),
        (Site((5,), 3), r"whose number of features is unknown\. Give Chain\.of an example, such as X\[:2\]"),
        (
            Site((5,), 7, n_features=6),
            r"one of 7 labels into the first 7 features, but examples have 6\. Use labels=added",
        ),
    ],
)
def test_sites_without_room_for_a_label_are_refused(site: Site, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForwardForward(site)


def test_regression_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="Forward-forward needs classes, but the labels are floats"):
        ForwardForward(SITE).inputs_again(randn(N, 6), randn(N, CLASSES), None)


def test_forward_forward_learns_digits_better_than_the_output_layer_alone() -> None:
    alone, learned = (digits_accuracy(rule, depth=3) for rule in ("noise:scale=0", "forward-forward"))
    assert learned > max(0.85, alone + 0.05)
