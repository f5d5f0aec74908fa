"""What holds of every estimator: it reads what it declares and nothing else, and its locks follow."""

import itertools
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from repsim.learning import (
    ESTIMATORS,
    NETWORKS,
    Chain,
    Estimator,
    Signals,
    Site,
    compute_gradients,
    locks,
    parse_rules,
    site_of,
)
from tests.repsim.small_chains import (
    CLASSES,
    DEPTH,
    RULES_OF_CHAINS,
    N,
    build_estimator,
    randn,
    seeded,
    small_examples,
    small_network,
)

K = 2  # a boundary with segments below it and boundaries above it
KINDS = ["mlp", "residual"]  # vectors and maps; a residual net begins with the segment of a conv net
ABOVE = ["direct-random-target", "noise:scale=3", "feedback-alignment"]  # other backward passes than backprop's

FREE = [
    "truncated",
    "noise",
    "direct-random-target",
    "synthetic-gradient",
    "synthetic-gradient:hidden_layers=1",
    "synthetic-gradient:label_conditioned=false",
    "bp-lambda:lam=0",
    "decoupled-greedy",
    "decoupled-greedy:hidden_layers=1",
    "forward-forward",
    "forward-forward:labels=added",
]
UPDATE_LOCKED = ["direct-feedback-alignment", "adaptive-skipped-backprop", "kickback", "pepita"]
AGAIN = ["forward-forward", "forward-forward:labels=added", "pepita"]  # segments learn in a second forward pass
BACKWARD_LOCKED = [
    "backprop",
    "feedback-alignment",
    "sign-symmetric",
    "sign-symmetric:magnitude=fixed",
    "sign-symmetric:magnitude=resampled",
    "adaptive-random-backprop",
    "synthetic-gradient-prop",
    "bp-lambda",
    "bp-lambda:lam=1",
    "control-variate",
    "least-error-mixture",
    "target-propagation",
    "target-propagation:hidden_layers=1",
]
OF_THE_TRUE_GRADIENT = ["disturbed-gradient", "predictive-coding:rate=0.5"]  # whatever rules act above
OF_THE_TARGET = ["bp-lambda:lam=1", "least-error-mixture"]  # λ is 1, in the latter at the first update
RULES = FREE + UPDATE_LOCKED + BACKWARD_LOCKED + OF_THE_TRUE_GRADIENT


def signals_at(site: Site) -> Signals:
    """Return every signal, as random numbers."""
    above = site.shape_above or (site.n_outputs,)
    return Signals(
        activation=randn(N, *site.shape, seed=10),
        labels=torch.arange(N) % CLASSES,
        target=randn(N, *site.shape, seed=11),
        error=randn(N, CLASSES, seed=12),
        influence=randn(N, *site.shape, seed=13),
        activation_above=randn(N, *above, seed=14),
        gradient_above=randn(N, *above, seed=15),
        true_gradient=randn(N, *site.shape, seed=16),
        again=randn(N, *site.shape, seed=17),
    )


def other_values(signals: Signals, name: str) -> Signals:
    value = getattr(signals, name)
    return replace(signals, **{name: (value + 1) % CLASSES if name == "labels" else randn(*value.shape, seed=20)})


# The protocol


def test_estimator_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Estimator(Site((3,), 2))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_rule_has_a_formula_and_a_reference(name: str) -> None:
    rule = ESTIMATORS[name]
    assert rule.formula
    assert rule.learns
    assert rule.reference
    assert rule.places in ("all", "middle")
    assert rule.__doc__


def test_every_rule_is_tested_here() -> None:
    assert {rule.partition(":")[0] for rule in RULES} == set(RULES_OF_CHAINS)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_unknown_option_is_refused(name: str) -> None:
    net = small_network("mlp")
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        ESTIMATORS[name](site_of(net, 1, n_outputs=CLASSES), generator=seeded(), colour="red")


def test_an_option_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^label_conditioned is 'no'; expected true or false\.$"):
        ESTIMATORS["synthetic-gradient"](Site((3,), CLASSES), label_conditioned="no")


@pytest.mark.parametrize("k", [K, DEPTH])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_gradient_reads_no_signal_that_is_not_declared(rule: str, kind: str, k: int) -> None:
    net = small_network(kind)
    everything = signals_at(site_of(net, k, n_outputs=CLASSES))
    needs = build_estimator(rule, net, k).needs
    assert needs <= {field.name for field in fields(Signals)}
    undeclared = {field.name: None for field in fields(Signals) if field.name not in needs}
    undeclared |= {} if "activation" in needs else {"activation": randn(*everything.activation.shape, seed=21)}
    one, other = (build_estimator(rule, net, k).gradient(s) for s in (everything, replace(everything, **undeclared)))
    assert torch.equal(one, other)
    assert one.shape == everything.activation.shape
    assert one.dtype == torch.float64
    assert one.any() or rule == "truncated"


@pytest.mark.parametrize("k", [K, DEPTH])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", sorted(set(RULES) - {*OF_THE_TARGET, "target-propagation"}))
def test_gradient_reads_every_signal_that_is_declared(rule: str, kind: str, k: int) -> None:
    """Left out: λ = 1, with which S is multiplied by 0; affine inverses, in whose differences h_{k+1} cancels; labels
    and errors that make the input of a second pass."""
    net = small_network(kind)
    everything = signals_at(site_of(net, k, n_outputs=CLASSES))
    reference = build_estimator(rule, net, k).gradient(everything)
    left_out = {"activation"} if rule.startswith(("direct", "adaptive-skipped")) else set()
    left_out |= {"labels", "error"} if rule in AGAIN else set()
    for name in build_estimator(rule, net, k).needs - left_out:
        assert not torch.equal(build_estimator(rule, net, k).gradient(other_values(everything, name)), reference), name


@pytest.mark.parametrize("rule", sorted(set(RULES) - {*OF_THE_TRUE_GRADIENT, *AGAIN}))  # which treat a batch as one
def test_gradient_of_an_example_is_its_own(rule: str) -> None:
    net = small_network("conv")
    everything = signals_at(site_of(net, K, n_outputs=CLASSES))
    first = Signals(
        **{f.name: v[:3] if (v := getattr(everything, f.name)) is not None else None for f in fields(Signals)}
    )
    whole, part = (build_estimator(rule, net, K).gradient(s) for s in (everything, first))
    torch.testing.assert_close(whole[:3], part, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_an_estimator_holds_nothing_of_the_network(rule: str, kind: str) -> None:
    net = small_network(kind)
    estimator = build_estimator(rule, net, K)
    assert estimator.site.above is None
    held = {value.data_ptr() for value in estimator.state_dict().values()}
    assert not held & {value.data_ptr() for value in net.state_dict().values()}


# Locks


U, B = "update", "backward"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [(FREE, set()), (UPDATE_LOCKED, {U}), (BACKWARD_LOCKED + OF_THE_TRUE_GRADIENT, {U, B})],
    ids=["free", "U", "U+B"],
)
def test_locks_are_those_of_the_unified_table(rules: list[str], expected: set[str]) -> None:
    """Golden: the table of rules; SG + prop reads t_k here, so that it waits as backprop does."""
    for rule in rules:
        for k in (1, K, DEPTH):
            assert locks(build_estimator(rule, small_network("mlp"), k)) == expected, rule


def chosen(rule: str, kind: str, perturb: bool = False, above: str = "backprop") -> Tensor:
    """Return g_K under a rule, with weights above changed on request, and with other rules above it."""
    net, (X, y) = small_network(kind), small_examples(kind)
    estimators = {K: build_estimator(rule, net, K)} | {
        k: build_estimator(above, net, k) for k in range(K + 1, DEPTH + 1)
    }
    if perturb:
        with torch.no_grad():
            for i, parameter in enumerate(p for segment in net.segments[K:] for p in segment.parameters()):
                parameter.add_(0.3 * randn(*parameter.shape, seed=i))
    return compute_gradients(net, estimators, X, y, watch=True).gradients[K]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", FREE)
def test_unlocked_rules_do_not_depend_on_the_weights_above(rule: str, kind: str) -> None:
    assert torch.equal(chosen(rule, kind), chosen(rule, kind, perturb=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", UPDATE_LOCKED + BACKWARD_LOCKED + OF_THE_TRUE_GRADIENT)
def test_locked_rules_depend_on_the_weights_above(rule: str, kind: str) -> None:
    before, after = chosen(rule, kind), chosen(rule, kind, perturb=True)
    assert (before - after).abs().max() > 1e-3 * before.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", FREE + UPDATE_LOCKED + OF_THE_TRUE_GRADIENT)
def test_only_rules_that_read_what_is_passed_down_depend_on_the_rules_above(rule: str, kind: str) -> None:
    before = chosen(rule, kind)
    for above in ABOVE:
        assert torch.equal(before, chosen(rule, kind, above=above)), above


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", BACKWARD_LOCKED)
def test_backward_locked_rules_depend_on_the_backward_pass_above(rule: str, kind: str) -> None:
    before = chosen(rule, kind)
    for above in ABOVE:
        assert (before - chosen(rule, kind, above=above)).abs().max() > 1e-3 * before.abs().max(), above


@pytest.mark.parametrize("rule", RULES)
def test_rules_see_labels_only_if_they_declare_it(rule: str) -> None:
    net = small_network("mlp")
    everything = signals_at(site_of(net, K, n_outputs=CLASSES))  # the error stays as it is
    one, other = (build_estimator(rule, net, K).gradient(s) for s in (everything, other_values(everything, "labels")))
    reads = "labels" in build_estimator(rule, net, K).needs and rule not in OF_THE_TARGET + AGAIN
    assert torch.equal(one, other) is not reads


# In a step


def below_and_at(net: Chain, X: Tensor) -> list[Tensor]:
    h = [net.input(X)]
    for segment in net.segments:
        h.append(segment(h[-1].detach().requires_grad_()))
    return h


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (kind, rule)
        for kind, rule in itertools.product(NETWORKS, sorted(set(RULES) - set(AGAIN)))
        if kind not in ("residual", "transformer") or not rule.startswith(("feedback", "sign", "adaptive-random"))
    ],
)
def test_the_weights_below_a_boundary_get_the_chain_rule_of_what_was_chosen_there(rule: str, kind: str) -> None:
    """Oracle: each segment's own vector-Jacobian product of g_k / N, and of the true loss at the output.

    Left out: blocks of several affine maps with feedback matrices, which also act between these maps.
    """
    net, (X, y) = small_network(kind), small_examples(kind)
    twin = small_network(kind)
    outcome = compute_gradients(net, {k: build_estimator(rule, net, k) for k in net.boundaries}, X, y, watch=True)
    assert list(outcome.gradients) == list(net.boundaries)
    activations = below_and_at(twin, X)
    for k in net.boundaries:
        activations[k].backward(outcome.gradients[k] / N)
    torch.nn.functional.cross_entropy(activations[-1], y).backward()
    for (name, ours), theirs in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12, msg=name)
    for (name, ours), theirs in zip(net.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12, msg=name)  # statistics are updated once


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_watching_changes_no_bit_of_the_update(rule: str, kind: str) -> None:
    held = []
    for watch in (False, True):
        net, (X, y) = small_network(kind), small_examples(kind)
        estimators = {k: build_estimator(rule, net, k) for k in net.boundaries}
        outcome = compute_gradients(net, estimators, X, y, watch=watch)
        parts = [net, *estimators.values()]
        grads = [p.grad for part in parts for p in part.parameters()]
        state = [value for part in parts for value in part.state_dict().values()]
        held.append((grads + state + list(outcome.estimator_losses.values()), outcome.gradients))
    (quiet, nothing), (watched, _) = held
    assert nothing == {}
    assert all(torch.equal(one, other) for one, other in zip(quiet, watched, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_everything_that_learns_gets_a_finite_gradient(rule: str, kind: str) -> None:
    net, (X, y) = small_network(kind), small_examples(kind)
    estimators = {k: build_estimator(rule, net, k) for k in net.boundaries}
    outcome = compute_gradients(net, estimators, X, y)
    for part in [net, *estimators.values()]:
        for name, parameter in part.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any() or (rule == "truncated" and "hidden" in name), name
    assert all(loss.isfinite() and not loss.requires_grad for loss in outcome.estimator_losses.values())


@pytest.mark.parametrize("rule", RULES)
def test_rules_train_a_network_of_one_hidden_layer(rule: str) -> None:
    net = NETWORKS["mlp"]((6,), CLASSES, depth=1, width=5, generator=seeded()).double()
    X, y = small_examples("mlp")
    outcome = compute_gradients(net, {1: build_estimator(rule, net, 1)}, X, y, watch=True)
    assert outcome.gradients[1].shape == (N, 5)
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.startswith(("kickback", "forward"))])  # of classes
def test_rules_train_on_regression_targets(rule: str) -> None:
    net, (X, _) = small_network("mlp"), small_examples("mlp")
    parsed = parse_rules(rule, "all", DEPTH)
    estimators = {k: each.build(site_of(net, k, n_outputs=CLASSES, loss="mse")).double() for k, each in parsed.items()}
    outcome = compute_gradients(net, estimators, X, randn(N, CLASSES, seed=3), loss="mse")
    assert outcome.loss.isfinite()
    assert all(p.grad.isfinite().all() for part in [net, *estimators.values()] for p in part.parameters())
