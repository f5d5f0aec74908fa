"""Random tensors, small chains, and estimators with random parameters, for tests of learning and theory."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from repsim.learning import ESTIMATORS, NETWORKS, Chain, Estimator, Rule, parse_rules, site_of

N, CLASSES, DEPTH = 7, 3, 4
RULES_OF_CHAINS = [name for name in ESTIMATORS if name != "equilibrium-propagation"]  # which has a network of its own
SHAPES = {"mlp": (6,), "conv": (1, 8, 8), "residual": (1, 8, 8), "transformer": (1, 8, 8)}


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def small_network(kind: str, depth: int = DEPTH) -> Chain:
    return NETWORKS[kind](
        SHAPES[kind], CLASSES, depth=depth, width=4 if kind == "transformer" else 5, generator=seeded()
    ).double()


def small_examples(kind: str, n: int = N) -> tuple[Tensor, Tensor]:
    return randn(n, 6 if kind == "mlp" else 64, seed=1), torch.arange(n) % CLASSES


def build_estimator(rule: str, net: Chain, k: int, seed: int = 0) -> Estimator:
    """Return a rule's estimator at boundary k without zeros in its state, so that no missing term goes unnoticed."""
    parsed = parse_rules(rule, str(k), DEPTH).get(k, Rule("backprop", {}))
    estimator = parsed.build(site_of(net, k, n_outputs=CLASSES, seed=seed)).double()
    with torch.no_grad():
        for i, (name, value) in enumerate(estimator.state_dict().items()):
            if not value.any() and not name.endswith("count"):
                value.copy_(0.3 * randn(*value.shape, seed=100 + i).abs() + 0.1)
    return estimator


def assert_close(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float = 1e-12) -> None:
    """Assert that tensors of the same names differ by at most the tolerance."""
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=tolerance, msg=name)


def assert_same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Assert that tensors of the same names are equal, bit for bit."""
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def held_gradients(module: nn.Module) -> dict[str, Tensor]:
    """Return the gradients of the parameters by name."""
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def cut_at_all(estimators: dict[int, Estimator]) -> dict[int, Estimator]:
    """Return the estimators after cutting the chain even where they pass the gradient from above unchanged."""
    for estimator in estimators.values():
        estimator.passes_target_unchanged = False
    return estimators
