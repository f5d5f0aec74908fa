from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probes.statistics import example_interval


def slow_interval(hits: NDArray, n_samples: int) -> NDArray:
    """Return the percentile interval of accuracies of examples drawn one by one."""
    rng = np.random.default_rng(0)
    n = hits.shape[-1]
    return np.quantile([hits[..., rng.integers(n, size=n)].mean() for _ in range(n_samples)], [0.05, 0.95])


def test_example_interval_is_that_of_examples_drawn_one_by_one() -> None:
    rng = np.random.default_rng(1)
    ability = rng.random(300)  # of examples, which makes networks alike
    networks = rng.random((4, 300)) < ability
    for hits in (networks[0], networks):
        interval = example_interval(hits, level=0.9, n_samples=20_000)
        assert interval.mean == pytest.approx(hits.mean())
        np.testing.assert_allclose([interval.low, interval.high], slow_interval(hits, 4000), atol=0.004)


def test_networks_are_drawn_on_the_same_examples() -> None:
    hits = np.random.default_rng(2).random(200) < 0.6
    one, equal, opposite = (example_interval(each) for each in (hits, np.stack([hits, hits]), np.stack([hits, ~hits])))
    assert equal == pytest.approx(one)
    assert opposite == pytest.approx((0.5, 0.5, 0.5))


def test_example_interval_covers_the_accuracy_on_other_examples() -> None:
    hits = np.random.default_rng(3).random((400, 200)) < 0.7
    intervals = np.array([example_interval(each, n_samples=500) for each in hits])
    assert 0.9 < np.mean((intervals[:, 1] <= 0.7) & (intervals[:, 2] >= 0.7)) < 0.98


def test_example_interval_follows_from_its_seed() -> None:
    hits = np.random.default_rng(4).random((3, 1000)) < 0.5
    assert example_interval(hits, seed=1) == example_interval(hits, seed=1) != example_interval(hits, seed=2)


def test_perfect_network_has_an_interval_of_zero_width() -> None:
    assert example_interval([True] * 5) == (1.0, 1.0, 1.0)


def test_whole_groups_are_drawn() -> None:
    """Groups that are hit or missed as a whole are as few examples as there are groups."""
    by_group = np.random.default_rng(5).random(20) < 0.6
    alike = example_interval(np.repeat(by_group, 50), groups=np.repeat(np.arange(20), 50), n_samples=20_000)
    single = example_interval(by_group, n_samples=20_000)
    assert alike == pytest.approx(single, abs=0.01)
    hits = np.random.default_rng(6).random(100) < 0.6
    alone = example_interval(hits, groups=[f"g{k}" for k in range(100)], n_samples=20_000)
    assert alone == pytest.approx(example_interval(hits, n_samples=20_000), abs=0.011)


@pytest.mark.parametrize(
    ("hits", "changes", "message"),
    [
        ([0.5, 1.0], {}, r"hits has shape \(2,\) and dtype float64; expected bool of shape \(n,\) or"),
        (np.ones((2, 2, 2), dtype=bool), {}, r"hits has shape \(2, 2, 2\) and dtype bool; expected bool"),
        (np.ones((2, 0), dtype=bool), {}, r"hits has shape \(2, 0\) and dtype bool; expected bool"),
        ([True], {"level": 0.0}, r"level is 0\.0; expected a number between 0 and 1"),
        ([True], {"n_samples": 0}, "n_samples is 0; expected a positive integer"),
        ([True], {"groups": ["a", "b"]}, r"groups has shape \(2,\) for 1 examples; expected one group per example"),
    ],
)
def test_invalid_hits_are_an_error(hits: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        example_interval(hits, **changes)
