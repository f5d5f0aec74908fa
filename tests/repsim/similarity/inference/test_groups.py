from itertools import combinations, product

import numpy as np
import pytest

from repsim.similarity import MEASURES, Pairwise, compare_groups, pairwise


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


@pytest.mark.parametrize("level", [0.1, 0.9, 1e6])
def test_equal_similarities_are_no_difference(level: float) -> None:
    S = level * np.ones((8, 8))
    test = compare_groups(S, GROUPS, reference="bp", direction="similarity")
    assert (test.p == 1).all()
    assert (test.p_max == 1).all()
    pairs = level * np.ones((10, 10))
    for n_permutations in (20, 32):  # drawn, and all
        paired = compare_groups(
            pairs, ["bp"] * 5 + ["sg"] * 5, reference="bp", seeds=[1, 2, 3, 4, 5] * 2, n_permutations=n_permutations
        )
        assert (paired.p == 1).all()


def test_a_constant_case_does_not_mask_the_others(rng: np.random.Generator) -> None:
    S = similarities(rng, 0.2)
    S[2] = 0.1
    test = compare_groups(S, GROUPS, reference="bp")
    assert test.p[2] == test.p_max[2] == 1
    assert (test.p_max[:2] < 0.05).all()


def test_divisions_that_give_the_same_difference_count_despite_rounding() -> None:
    S = np.full((8, 8), 0.1)
    S[:4, 4:] = S[4:, :4] = 0.3
    S[0, 1] = S[1, 0] = 0.7
    off = 3e5  # far larger than the differences
    for offset in (0.0, off):
        test = compare_groups(offset + S, GROUPS, reference="bp")
        within = [np.mean([S[i, j] for i in c for j in c if i != j]) for c in combinations(range(8), 4)]
        between = [np.mean([S[i, j] for i in c for j in set(range(8)) - set(c)]) for c in combinations(range(8), 4)]
        differences = np.subtract(within, between)
        assert test.p[0] == np.mean(differences >= differences[0] - 1e-6)


def test_a_case_of_large_variance_does_not_mask_the_others(rng: np.random.Generator) -> None:
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
    S = similarities(rng, n=5)
    marked = S.copy()
    for k in range(5):
        marked[:, k, k + 5] = marked[:, k + 5, k] = 1e6
    test = compare_groups(marked, ["bp"] * 5 + ["sg"] * 5, reference="bp", seeds=[0, 1, 2, 3, 4] * 2)
    expected = np.mean([S[:, i, j + 5] for i in range(5) for j in range(5) if i != j], axis=0)
    np.testing.assert_allclose(test.between, expected)


def test_groups_of_paired_seeds_are_permuted_within_seeds(rng: np.random.Generator) -> None:
    S, seeds = similarities(rng, 0.1, n=5, cases=1), np.array([0, 1, 2, 3, 4] * 2)
    test = compare_groups(S, ["bp"] * 5 + ["sg"] * 5, reference="bp", seeds=seeds)
    differences = []
    for swaps in product([0, 5], repeat=5):
        chosen = [k + swap for k, swap in enumerate(swaps)]
        rest = [k + 5 - swap for k, swap in enumerate(swaps)]
        within = np.mean([S[0, i, j] for i in chosen for j in chosen if i != j])
        differences.append(within - np.mean([S[0, i, j] for i in chosen for j in rest if seeds[i] != seeds[j]]))
    assert test.exact
    assert len(test.null) == 32
    assert test.p[0] == pytest.approx(np.mean(np.array(differences) >= differences[0] - 1e-12))
    assert test.p_least == 1 / 32
    many = compare_groups(S, ["bp"] * 5 + ["sg"] * 5, reference="bp", seeds=seeds, n_permutations=30)
    assert (many.exact, len(many.null)) == (False, 30)


def test_p_values_are_uniform_where_equal_seeds_are_alike() -> None:
    p, groups, seeds = [], ["bp"] * 5 + ["sg"] * 5, [0, 1, 2, 3, 4] * 2
    for seed in range(200):
        rng = np.random.default_rng(seed)
        starts = np.tile(rng.normal(size=(5, 12)), (2, 1))
        networks = starts + 0.3 * rng.normal(size=starts.shape)
        p.append(compare_groups(np.corrcoef(networks), groups, reference="bp", seeds=seeds).p[0])
    assert np.mean(np.array(p) <= 0.0626) < 0.11
    assert np.mean(p) == pytest.approx(0.5, abs=0.07)


def test_distances_reverse_the_sign_of_differences(rng: np.random.Generator) -> None:
    S = similarities(rng, 0.1)
    one, other = (
        compare_groups(each, GROUPS, reference="bp", direction=direction)
        for each, direction in ((S, "similarity"), (1 - S, "distance"))
    )
    np.testing.assert_allclose(one.differences, other.differences)
    np.testing.assert_allclose(one.p, other.p)
    np.testing.assert_allclose(one.within, 1 - other.within)


def test_layers_of_networks_in_a_table(rng: np.random.Generator) -> None:
    X = rng.normal(size=(40, 5))
    near = {f"bp {k}": X + 0.3 * rng.normal(size=X.shape) for k in range(4)}
    far = {f"sg {k}": X + 3 * rng.normal(size=X.shape) for k in range(4)}
    for measure in ("cka", "procrustes"):
        layers = [pairwise(near | far, measure=measure)] * 2
        table = compare_groups(layers, GROUPS, reference="bp").frame({"layer": ["hidden.1", "hidden.2"]})
        assert list(table.columns) == ["layer", "within", "between", "difference", "p", "p_max"]
        assert (table["difference"] > 0).all()
        assert table["p"][0] == pytest.approx(1 / 70)


def test_too_few_networks_warn(rng: np.random.Generator) -> None:
    S = similarities(rng, 0.5, n=2)
    with pytest.warns(RuntimeWarning, match=r"^4 networks can be divided in 6 ways, so that no p-value can be below 0"):
        test = compare_groups(S, ["bp", "bp", "sg", "sg"], reference="bp")
    assert test.p_least == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": ["bp"] * 7}, r"^similarities has shape \(3, 8, 8\) and groups \(7,\); expected \(n_networks, n_ne"),
        ({"groups": ["bp"] * 8}, r"^There are groups \{'bp': 8\}; expected 2, each of 2 networks or more\."),
        ({"groups": ["bp"] * 7 + ["sg"]}, r"^There are groups \{'bp': 7, 'sg': 1\}; expected 2"),
        ({"reference": "noise"}, r"^There is no group 'noise'\. Choose one of: bp, sg\.$"),
        ({"seeds": [1, 2]}, r"^seeds has shape \(2,\); expected \(8,\), one per network"),
        ({"seeds": [1] * 8}, r"^No pair of networks within the reference, or between the groups, has different seeds"),
        ({"direction": "closeness"}, r"^Unknown direction 'closeness'\. Choose one of: distance, similarity\.$"),
        ({"n_permutations": 0.5}, r"^n_permutations is 0\.5; expected a whole number of at least 1\.$"),
        ({"similarities": np.ones((8, 8)) - np.eye(8)}, r"^similarities are zero on the diagonal, as distances are\."),
        (
            {
                "similarities": [
                    Pairwise(values=np.eye(8), rows=(), columns=(), measure=m.name, direction=m.direction)
                    for m in (MEASURES["cka"], MEASURES["procrustes"])
                ]
            },
            r"^The cases are of measures \['cka', 'procrustes'\], similarities and distances\.",
        ),
        ({"similarities": np.full((8, 8), np.nan)}, r"^similarities are not symmetric and finite off the diagonal"),
        ({"similarities": np.arange(64.0).reshape(8, 8)}, r"^similarities are not symmetric and finite"),
    ],
)
def test_compare_groups_refuses(rng: np.random.Generator, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_groups(**({"similarities": similarities(rng), "groups": GROUPS, "reference": "bp"} | change))
