from itertools import combinations

import numpy as np
import pytest

from repsim.similarity import compare_groups, pairwise


def similarities(rng: np.random.Generator, shift: float = 0.0, n: int = 4, cases: int = 3) -> np.ndarray:
    """Similarities among 2 n networks, lower by a shift between the first n and the others."""
    S = rng.normal(0.7, 0.05, size=(cases, 2 * n, 2 * n))
    S = (S + S.swapaxes(1, 2)) / 2
    S[:, :n, n:] -= shift
    S[:, n:, :n] -= shift
    return S


GROUPS = ["bp"] * 4 + ["sg"] * 4


def test_the_p_value_is_that_of_all_divisions(rng: np.random.Generator) -> None:
    S = similarities(rng, 0.03)
    test = compare_groups(S, GROUPS, reference="bp")
    differences = []
    for chosen in combinations(range(8), 4):
        rest = [k for k in range(8) if k not in chosen]
        within = np.mean([S[:, i, j] for i in chosen for j in chosen if i != j], axis=0)
        differences.append(within - S[:, chosen][:, :, rest].mean(axis=(1, 2)))
    expected = np.mean(np.array(differences) >= differences[0] - 1e-12, axis=0)
    np.testing.assert_allclose(test.differences, differences[0], atol=1e-12)
    np.testing.assert_allclose(test.p, expected)
    assert test.exact
    assert (test.p_max >= test.p).all()
    assert (test.reference, test.other) == ("bp", "sg")


def test_a_case_that_varies_much_does_not_drown_the_others(rng: np.random.Generator) -> None:
    S = similarities(rng, 0.2)
    S[1:] = 100 * rng.normal(size=S[1:].shape)
    S[1:] += S[1:].swapaxes(1, 2)
    test = compare_groups(S, GROUPS, reference="bp")
    assert test.p[0] < 0.05
    assert test.p_max[0] < 0.1


def test_many_networks_are_divided_at_random(rng: np.random.Generator) -> None:
    S = similarities(rng, 0.2, n=10)
    groups = ["bp"] * 10 + ["sg"] * 10
    test = compare_groups(S, groups, reference="bp", n_permutations=199)
    assert not test.exact
    assert (test.p <= 3 / 200).all()
    assert (test.p >= 1 / 200).all()
    np.testing.assert_array_equal(test.null, compare_groups(S, groups, reference="bp", n_permutations=199).null)


def test_p_values_are_uniform_without_a_difference() -> None:
    p = [
        compare_groups(similarities(np.random.default_rng(seed), cases=1), GROUPS, reference="bp").p[0]
        for seed in range(300)
    ]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_pairs_of_equal_seeds_are_left_out(rng: np.random.Generator) -> None:
    S = similarities(rng)
    marked = S.copy()
    for k in range(4):
        marked[:, k, k + 4] = marked[:, k + 4, k] = 1e6
    test = compare_groups(marked, GROUPS, reference="bp", seeds=[0, 1, 2, 3] * 2)
    expected = np.mean([S[:, i, j + 4] for i in range(4) for j in range(4) if i != j], axis=0)
    np.testing.assert_allclose(test.between, expected)


def test_layers_of_networks_in_a_table(rng: np.random.Generator) -> None:
    X = rng.normal(size=(40, 5))
    near = {f"bp {k}": X + 0.3 * rng.normal(size=X.shape) for k in range(4)}
    far = {f"sg {k}": X + 3 * rng.normal(size=X.shape) for k in range(4)}
    table = compare_groups(pairwise(near | far).values, GROUPS, reference="bp").frame({"layer": ["hidden.1"]})
    assert list(table.columns) == ["layer", "within", "between", "difference", "p", "p_max"]
    assert table["within"][0] > table["between"][0]
    assert table["p"][0] == pytest.approx(1 / 70)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"groups": ["bp"] * 7},
            r"^similarities has shape \(3, 8, 8\) and groups \(7,\); expected \(n_networks, n_networks\)",
        ),
        ({"groups": ["bp"] * 8}, r"^There are groups \{'bp': 8\}; expected 2, each of 2 networks or more\.$"),
        ({"groups": ["bp"] * 7 + ["sg"]}, r"^There are groups \{'bp': 7, 'sg': 1\}; expected 2"),
        ({"reference": "noise"}, r"^There is no group 'noise'\. Choose one of: bp, sg\.$"),
        ({"seeds": [1, 2]}, r"^seeds has shape \(2,\); expected \(8,\), one a network\.$"),
        (
            {"seeds": [1] * 8},
            r"^No pair of networks within the reference, or between the groups, has different seeds\.$",
        ),
        (
            {"similarities": np.full((8, 8), np.nan)},
            r"^similarities are not symmetric and finite beside the diagonal\.",
        ),
        ({"similarities": np.arange(64.0).reshape(8, 8)}, r"^similarities are not symmetric and finite"),
    ],
)
def test_compare_groups_refuses(rng: np.random.Generator, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_groups(**({"similarities": similarities(rng), "groups": GROUPS, "reference": "bp"} | change))
