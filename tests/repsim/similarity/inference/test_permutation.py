import math
from importlib import import_module
from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.distance import squareform

from repsim.similarity import COMPARATORS, compare_rdms, mantel_test, rdm


def rdms(rng: np.random.Generator, n: int = 12, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A data RDM, one that agrees with it and one that does not."""
    X = rng.normal(size=(n, 4))
    others = X + noise * rng.normal(size=X.shape), rng.normal(size=X.shape)
    return tuple(rdm(each, "sqeuclidean") for each in (X, *others))


@pytest.mark.parametrize("method", COMPARATORS)
def test_values_are_the_comparisons_and_the_null_is_of_permuted_stimuli(rng: np.random.Generator, method: str) -> None:
    data, agrees, other = rdms(rng, n=7)
    test = mantel_test({"agrees": agrees, "other": other}, data, method=method, n_permutations=5, seed=3)
    np.testing.assert_allclose(test.values, [compare_rdms(each, data, method) for each in (agrees, other)], atol=1e-10)
    generator = np.random.default_rng(3)
    for row in test.null:
        order = generator.permutation(7)
        permuted = squareform(data)[np.ix_(order, order)]
        np.testing.assert_allclose(row, [compare_rdms(each, permuted, method) for each in (agrees, other)], atol=1e-10)


def share_of_permutations(model: np.ndarray, data: np.ndarray, method: str, alternative: str) -> float:
    """P-value from a loop over all permutations of the stimuli."""
    square, hits = squareform(data), []
    value = extremity(compare_rdms(model, data, method), alternative)
    for order in permutations(range(len(square))):
        permuted = extremity(compare_rdms(model, square[np.ix_(order, order)], method), alternative)
        hits.append(permuted >= value - 1e-9)
    return float(np.mean(hits))


def extremity(value: float, alternative: str) -> float:
    return {"greater": value, "less": -value, "two-sided": abs(value)}[alternative]


@pytest.mark.parametrize("method", COMPARATORS)
def test_few_stimuli_have_the_p_value_of_all_permutations(rng: np.random.Generator, method: str) -> None:
    for alternative in ["greater", "less", "two-sided"]:
        for n in [5, 6]:
            data, agrees, _ = rdms(rng, n=n, noise=2.0)
            test = mantel_test({"m": agrees}, data, method=method, alternative=alternative, n_permutations=100)
            assert test.exact
            assert len(test.null) == math.factorial(n)
            assert test.p[0] == share_of_permutations(agrees, data, method, alternative)


@pytest.mark.parametrize("method", COMPARATORS)
def test_permutations_that_give_the_same_value_count_despite_rounding(rng: np.random.Generator, method: str) -> None:
    # Distances of few different values, so that many permutations give the same RDM, or one that sums up otherwise.
    labels = np.array([0, 0, 1, 1, 2])
    classes = squareform((labels[:, None] != labels) * 0.1)
    data = squareform(np.abs(labels[:, None] - labels) * 0.1 + (labels[:, None] != labels) * 0.7)
    for scale in (1, 1e-150, 1e150):
        p = mantel_test({"m": scale * classes}, data, method=method).p[0]
        assert p == share_of_permutations(classes, data, method, "greater")
        assert p >= 4 / 120


def test_all_permutations_are_enumerated_if_they_are_few_enough(rng: np.random.Generator) -> None:
    data, agrees, _ = rdms(rng, n=7)
    assert mantel_test({"m": agrees}, data, n_permutations=5040).exact
    few = mantel_test({"m": agrees}, data, n_permutations=5039)
    assert not few.exact
    assert len(few.null) == 5039


def test_permutations_within_classes_count_as_equal() -> None:
    data = np.array(squareform(np.abs(np.subtract.outer(np.arange(8) // 4, np.arange(8) // 4)) * 0.1))
    test = mantel_test({"m": 3 * data + 0.7}, data, n_permutations=999)
    same = 2 * math.factorial(4) ** 2 / math.factorial(8)  # within the classes, or of the classes
    assert test.p[0] == pytest.approx(same, abs=0.015)
    assert test.p[0] > 1 / 1000


def test_p_values_are_uniform_without_agreement() -> None:
    p = []
    for seed in range(150):
        data, _, other = rdms(np.random.default_rng(seed), n=8)
        p.append(mantel_test({"other": other}, data, n_permutations=99, seed=seed).p[0])
    assert 0.02 < np.mean(np.array(p) <= 0.05) + 0.02 < 0.13
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_agreement_has_the_smallest_p_value_there_is(rng: np.random.Generator) -> None:
    data, agrees, other = rdms(rng, noise=0.1)
    test = mantel_test({"agrees": agrees, "other": other}, data, n_permutations=199)
    assert test.p[0] == 1 / 200
    assert test.p[1] > 0.02
    assert (test.p_max >= test.p).all()
    table = test.frame()
    assert list(table.columns) == ["model", "value", "p", "p_max", "p_adjusted"]
    assert table["p_adjusted"][0] == pytest.approx(2 / 200)


def test_alternatives(rng: np.random.Generator) -> None:
    data, agrees, _ = rdms(rng, noise=0.1)
    p = {
        alternative: mantel_test({"m": agrees}, data.max() - data, alternative=alternative, n_permutations=99).p[0]
        for alternative in ("greater", "less", "two-sided")
    }
    assert p == {"greater": 1.0, "less": 0.01, "two-sided": 0.01}


def test_many_permutations_go_in_several_parts(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    data, agrees, _ = rdms(rng)
    whole = mantel_test({"m": agrees}, data, n_permutations=25).null
    monkeypatch.setattr(import_module("repsim.similarity.inference.permutation"), "PAIRS_AT_ONCE", 7 * len(data))
    np.testing.assert_allclose(mantel_test({"m": agrees}, data, n_permutations=25).null, whole, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "tau"}, r"^Unknown method 'tau'\."),
        ({"alternative": "both"}, r"^Unknown alternative 'both'\. Choose one of: greater, less, two-sided\.$"),
        ({"n_permutations": 0}, r"^n_permutations is 0; expected a whole number of at least 1\.$"),
        ({"data": np.arange(3.0)}, r"^models has 12 samples and data has 3; both must come"),
        ({"data": np.full(66, np.nan)}, r"^data\['data'\] has 66 pairs that are NaN"),
    ],
)
def test_mantel_test_refuses(rng: np.random.Generator, change: dict, message: str) -> None:
    data, agrees, _ = rdms(rng)
    with pytest.raises(ValueError, match=message):
        mantel_test(**({"models": {"m": agrees}, "data": data} | change))
