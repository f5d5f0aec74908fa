from collections.abc import Callable

import numpy as np
import pytest

from repsim.similarity import Pairwise, group_effect
from tests.repsim.similarity.inference.test_groups import similarities

GROUPS = ["bp"] * 4 + ["sg"] * 4
SEEDS = [0, 1, 2, 3] * 2


def effect_by_loops(S: np.ndarray, reference: list[int], other: list[int], seeds: list[int]) -> float:
    """The definition, pair by pair."""

    def mean(first: list[int], second: list[int]) -> float:
        return float(np.mean([S[i, j] for i in first for j in second if i != j and seeds[i] != seeds[j]]))

    return (mean(reference, reference) + mean(other, other)) / 2 - mean(reference, other)


def networks(
    rng: np.random.Generator, n: int, effect: float, layers: int = 6, size: int = 40, shared: float = 0.5
) -> np.ndarray:
    """Inner products of 2 n networks in pairs of equal seed, whose mean representations differ by an effect."""
    mean, way = rng.standard_normal((2, layers, size)) / np.sqrt(size)
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    noise = rng.standard_normal((3, n, layers, size)) / np.sqrt(size)
    own = [shared * noise[0] + np.sqrt(1 - shared**2) * each for each in noise[1:]]
    X = np.concatenate([mean + 0.6 * own[0], mean + np.sqrt(2 * effect) * way + 0.6 * own[1]])
    return np.einsum("ilp,jlp->lij", X, X)


def test_effects_are_those_of_the_definition(rng: np.random.Generator) -> None:
    S = similarities(rng, 0.1)
    found = group_effect(S, GROUPS, reference="bp", seeds=SEEDS)
    expected = [effect_by_loops(case, [0, 1, 2, 3], [4, 5, 6, 7], SEEDS) for case in S]
    np.testing.assert_allclose(found.effects, expected)
    mean = (found.within_reference + found.within_other) / 2
    np.testing.assert_allclose(found.effects, mean - found.between)
    assert (found.reference, found.other, found.n_replicates) == ("bp", "sg", 4)


def test_errors_are_those_of_leaving_out_each_seed_from_both_groups(rng: np.random.Generator) -> None:
    S = similarities(rng, 0.1)
    found = group_effect(S, GROUPS, reference="bp", seeds=SEEDS)
    left_out = np.array(
        [
            [
                effect_by_loops(case, [i for i in range(4) if i != k], [i for i in range(4, 8) if i != k + 4], SEEDS)
                for case in S
            ]
            for k in range(4)
        ]
    )
    assert found.units == (0, 1, 2, 3)
    np.testing.assert_allclose(found.standard_errors**2, 3 / 4 * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))


@pytest.mark.parametrize("seeds", [None, [0, 1, 2, 3, 10, 11, 12, 13], [0, 1, 2, 3, 3, 4, 5, 6]])
def test_groups_of_other_seeds_are_independent_samples(rng: np.random.Generator, seeds: list[int] | None) -> None:
    S = similarities(rng, 0.1)
    found = group_effect(S, GROUPS, reference="bp", seeds=seeds)
    used = seeds or list(range(8))
    variance = 0.0
    for group in ([0, 1, 2, 3], [4, 5, 6, 7]):
        left_out = []
        for k in group:
            sides = ([i for i in range(4) if i != k], [i for i in range(4, 8) if i != k])
            left_out.append([effect_by_loops(case, *sides, used) for case in S])
        variance = variance + 3 / 4 * ((np.array(left_out) - np.mean(left_out, axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(found.standard_errors**2, variance)
    assert len(found.units) == 8
    assert found.units[0] == ("bp", used[0])
    assert found.n_replicates == 4


def test_distances_have_the_effects_of_similarities(rng: np.random.Generator) -> None:
    S = similarities(rng, 0.1)
    D = 1 - S
    D[:, range(8), range(8)] = 0
    far = group_effect(D, GROUPS, reference="bp", seeds=SEEDS, direction="distance")
    near = group_effect(S, GROUPS, reference="bp", seeds=SEEDS)
    np.testing.assert_allclose(far.effects, near.effects)
    np.testing.assert_allclose(far.standard_errors, near.standard_errors)


def test_exchanging_the_groups_changes_nothing(rng: np.random.Generator) -> None:
    S = similarities(rng, 0.1)
    forth, back = (group_effect(S, GROUPS, reference=name, seeds=SEEDS) for name in ("bp", "sg"))
    np.testing.assert_allclose(forth.effects, back.effects)
    np.testing.assert_allclose(forth.within_reference, back.within_other)
    np.testing.assert_allclose(forth.standard_errors, back.standard_errors)


def test_a_group_that_only_varies_less_has_no_effect(rng: np.random.Generator) -> None:
    S = np.mean([networks(rng, 5, 0.0, layers=1) for _ in range(400)], axis=0)
    S[:, 5:, 5:] += 0.2  # networks of the other group are more alike, as they are nearer to the common mean
    S[:, :5, 5:] += 0.1
    S[:, 5:, :5] += 0.1
    found = group_effect(S, ["bp"] * 5 + ["sg"] * 5, reference="bp", seeds=[0, 1, 2, 3, 4] * 2)
    assert abs(found.effects[0]) < 0.01
    assert found.between[0] > found.within_reference[0] + 0.08


@pytest.mark.parametrize("effect", [0.0, 0.1, 0.4])
def test_the_effect_of_inner_products_is_half_the_squared_distance_of_the_means(
    rng: np.random.Generator, effect: float
) -> None:
    drawn = [
        group_effect(networks(rng, 5, effect), ["bp"] * 5 + ["sg"] * 5, reference="bp", seeds=[0, 1, 2, 3, 4] * 2)
        for _ in range(200)
    ]
    means = np.array([each.effects for each in drawn])
    errors = means.std(axis=0) / np.sqrt(200)
    assert (np.abs(means.mean(axis=0) - effect) < 4 * errors).all()


@pytest.mark.parametrize(("effect", "least", "most"), [(0.0, 0.0, 0.03), (0.1, 0.01, 0.06), (0.4, 0.02, 0.07)])
def test_intervals_cover_the_effect(rng: np.random.Generator, effect: float, least: float, most: float) -> None:
    missed = []
    for _ in range(300):
        S = networks(rng, 6, effect)
        table = group_effect(S, ["bp"] * 6 + ["sg"] * 6, reference="bp", seeds=list(range(6)) * 2).frame()
        missed.append((table["low"] > effect) | (table["high"] < effect))
    assert least <= np.mean(missed) <= most


def test_pairwise_results_are_cases(rng: np.random.Generator) -> None:
    S = similarities(rng)
    names = tuple(map(str, range(8)))
    tables = [Pairwise(values=case, measure="cka", direction="similarity", rows=names, columns=names) for case in S]
    found = group_effect(tables, GROUPS, reference="bp")
    np.testing.assert_array_equal(found.effects, group_effect(S, GROUPS, reference="bp").effects)
    assert list(found.frame()) == [
        *("within_reference", "within_other", "between", "effect", "standard_error", "low", "high"),
    ]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda S: group_effect(S, GROUPS, reference="nn"), "no group 'nn'.*bp, sg"),
        (lambda S: group_effect(S[:, :4, :4], ["bp", "bp", "sg", "sg"], reference="bp"), "2 networks; .*3 or more"),
        (lambda S: group_effect(S, GROUPS, reference="bp", seeds=[0, 0, 1, 2] * 2), "several networks of one seed"),
        (lambda S: group_effect(S, GROUPS, reference="bp", seeds=[0, 1]), r"\(2,\); expected \(8,\)"),
        (lambda S: group_effect(S, GROUPS, reference="bp").frame(level=95), "level is 95"),
    ],
)
def test_wrong_calls_are_explained(rng: np.random.Generator, call: Callable[[np.ndarray], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(similarities(rng))
