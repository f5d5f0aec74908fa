"""What is read from an evaluation: standard errors, intervals, tests against chance, differences of models."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import squareform

from repsim.similarity import COMPARATORS, ModelEvaluation, compare_rdms, evaluate_models, rdm
from repsim.similarity.inference.multiple import ADJUSTMENTS
from tests.repsim.similarity.synthetic import signals


@pytest.fixture
def result(rng: np.random.Generator) -> ModelEvaluation:
    return evaluate_models(*signals(rng), n_samples=200)


def test_an_evaluation_is_a_function_of_its_seed(rng: np.random.Generator) -> None:
    models, data = signals(rng)
    one, same, other = (evaluate_models(models, data, over="both", n_samples=30, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.samples, same.samples)
    assert not np.array_equal(one.samples, other.samples)


def test_the_table_of_models(result: ModelEvaluation) -> None:
    table = result.frame(level=0.9).set_index("model")
    assert list(table.index) == ["true", "classes", "other"]
    np.testing.assert_allclose(table["value"], result.values.mean(axis=1))
    errors = result.samples.std(axis=0, ddof=1)
    np.testing.assert_allclose(table["standard_error"], errors)
    reach = stats.t.ppf(0.95, 13) * errors
    np.testing.assert_allclose(table["low"], table["value"] - reach)
    np.testing.assert_allclose(table["high"], np.minimum(table["value"] + reach, 1))
    above = (result.null >= result.means).sum(axis=0)
    by_t = stats.t.sf(result.means / errors, 13)
    np.testing.assert_allclose(table["p_above_zero"], np.maximum((above + 1) / 1001, by_t))
    assert table["p_above_zero"]["true"] < 0.01
    assert table["p_above_zero"]["other"] > 0.05
    below = result.draws["stimuli"][1][:, 0] - result.samples[:, 2]
    t = (result.noise_ceiling[0] - result.means[2]) / below.std(ddof=1)
    assert table["p_below_ceiling"]["other"] == pytest.approx(stats.t.sf(t, 13))
    assert (result.frame(adjustment="holm")["p_above_zero"] >= result.frame()["p_above_zero"]).all()


def test_the_table_of_differences(result: ModelEvaluation) -> None:
    table = result.compare_models("none")
    assert table[["model", "other"]].to_numpy().tolist() == [
        ["true", "classes"],
        ["true", "other"],
        ["classes", "other"],
    ]
    np.testing.assert_allclose(table["difference"][1], result.means[0] - result.means[2])
    differences = result.samples[:, 0] - result.samples[:, 2]
    assert table["standard_error"][1] == pytest.approx(differences.std(ddof=1))
    assert table["p"][1] == pytest.approx(2 * stats.t.sf(table["difference"][1] / table["standard_error"][1], 13))
    assert (table["p"] <= 1).all()
    largest = result.compare_models("max_t")["p_adjusted"]
    assert (largest >= table["p"]).all()
    assert largest[1] < 0.05


def test_max_t_of_one_pair_is_students_t(rng: np.random.Generator) -> None:
    models, data = signals(rng)
    del models["classes"]
    table = evaluate_models(models, data, n_samples=200).compare_models("max_t")
    assert table["p_adjusted"][0] == pytest.approx(table["p"][0], abs=0.005)


def test_max_t_counts_correlated_differences_once(rng: np.random.Generator) -> None:
    models, data = signals(rng)
    others = {str(k): models["other"] + 1e-3 * rng.uniform(size=91) for k in range(4)}
    result = evaluate_models({"true": models["true"]} | others, data, n_samples=200)
    largest, bonferroni = (result.compare_models(method)["p_adjusted"][:4] for method in ("max_t", "bonferroni"))
    assert (result.compare_models("none")["p"][:4] <= largest).all()
    assert (largest < 0.7 * bonferroni).all()


def test_a_difference_of_unrelated_models_is_no_finding(rng: np.random.Generator) -> None:
    # On these stimuli the networks, all alike, agree with one unrelated model more than with the other.
    Y = rng.normal(size=(10, 4))
    data = {str(k): rdm(Y + 0.01 * rng.normal(size=Y.shape), "sqeuclidean") for k in range(6)}
    models = {name: rdm(rng.normal(size=(10, 4)), "sqeuclidean") for name in "ab"}
    result = evaluate_models(models, data, over="networks", n_samples=200)
    table = result.compare_models("none")
    assert abs(table["difference"][0]) > 10 * table["standard_error"][0]
    assert table["p"][0] > 0.05
    assert (result.frame()["p_above_zero"] > 0.05).all()


@pytest.mark.parametrize("method", COMPARATORS)
def test_chance_is_the_value_of_unrelated_rdms(rng: np.random.Generator, method: str) -> None:
    models, data = signals(rng, n=5, networks=2)
    result = evaluate_models(models, data, method=method, over="networks", n_samples=10, ceilings=False)
    square = {name: squareform(each) for name, each in data.items()}
    values = [
        np.mean([compare_rdms(models["true"], each[np.ix_(order, order)], method) for each in square.values()])
        for order in permutations(range(5))
    ]
    assert result.is_exact_null
    assert result.chance[0] == pytest.approx(np.mean(values), abs=1e-10)
    table = result.frame()
    is_zero = method not in ("cosine", "cosine_whitened", "bures", "riemannian")
    assert (result.chance == 0).all() == is_zero
    assert table["p_above_zero"].isna().all() != is_zero
    assert np.isfinite(table["p_above_chance"]).all()


def test_intervals_end_at_the_range_of_the_method(rng: np.random.Generator) -> None:
    models, data = signals(rng, n=6)
    table = evaluate_models(models | data, data, method="cosine", n_samples=50).frame(level=0.999)
    assert table["high"].max() == 1
    assert table["low"].min() >= -1


def test_the_standard_error_is_the_spread_over_other_stimuli() -> None:
    spread, estimated = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(40, 5))
        models, data = {"m": rdm(X, "euclidean")}, {"d": rdm(X + rng.normal(size=X.shape), "euclidean")}
        result = evaluate_models(models, data, n_samples=60, n_permutations=1)
        spread.append(result.means[0])
        estimated.append(result.standard_errors[0])
    assert np.mean(estimated) == pytest.approx(np.std(spread), rel=0.3)


def test_over_networks_errors_and_p_values_are_those_of_students_t(rng: np.random.Generator) -> None:
    models, data = signals(rng, networks=4)
    result = evaluate_models(models, data, over="networks", n_samples=4000)
    table, values = result.frame(), result.values
    np.testing.assert_allclose(table["standard_error"], values.std(axis=1, ddof=1) / 2, rtol=0.05)
    expected = stats.ttest_1samp(values[2], 0, alternative="greater")
    above = ((result.null[:, 2] >= result.means[2]).sum() + 1) / 1001
    assert table["p_above_zero"][2] == pytest.approx(max(expected.pvalue, above), rel=0.1)
    interval = stats.ttest_1samp(values[2], 0).confidence_interval(0.95)
    assert (table["low"][2], table["high"][2]) == pytest.approx(tuple(interval), rel=0.1)
    paired = stats.ttest_rel(values[1], values[2])
    assert result.compare_models("none")["p"][2] == pytest.approx(max(paired.pvalue, 4 / 1001), rel=0.15)


@pytest.mark.parametrize("networks", [2, 3, 6])
def test_few_networks_do_not_make_findings(networks: int) -> None:
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        models = {"model": rng.uniform(size=45)}
        data = {str(k): rng.uniform(size=45) for k in range(networks)}
        p.append(
            evaluate_models(models, data, over="networks", n_samples=100, n_permutations=99).frame()["p_above_zero"][0]
        )
    assert np.mean(np.array(p) <= 0.05) < 0.1


def test_resampling_both_is_corrected_for_counting_noise_thrice(rng: np.random.Generator) -> None:
    models, data = signals(rng)
    result = evaluate_models(models, data, over="both", n_samples=400)
    stimuli, networks, both = (result.draws[name][0][:, 0].var(ddof=1) for name in ("stimuli", "networks", "both"))
    networks *= 4 / 3
    single = max(stimuli, networks)
    expected = np.clip(2 * (stimuli + networks) - both, single, max(single, both))
    assert result.standard_errors[0] ** 2 == pytest.approx(expected, rel=1e-9)
    np.testing.assert_array_equal(
        result.draws["stimuli"][0], evaluate_models(models, data, over="stimuli", n_samples=400).samples
    )


def test_resampling_networks_uses_the_values_of_all_stimuli(rng: np.random.Generator) -> None:
    models, data = signals(rng)
    result = evaluate_models(models, data, over="networks", n_samples=50)
    low, high = result.values.min(axis=1), result.values.max(axis=1)
    assert ((result.samples >= low - 1e-9) & (result.samples <= high + 1e-9)).all()


def test_without_resampling_there_are_only_values(rng: np.random.Generator) -> None:
    result = evaluate_models(*signals(rng), over="none")
    assert result.samples.shape == (0, 3)
    assert result.frame()[["standard_error", "low", "high", "p_above_zero"]].isna().all(axis=None)
    with pytest.raises(ValueError, match=r"^Comparing models needs at least 2 models and resampling"):
        result.compare_models()


# Models that cannot be distinguished

FEW = {"n_samples": 40, "n_permutations": 20, "ceilings": False}


@pytest.mark.parametrize("method", COMPARATORS)
def test_models_that_are_equal_for_the_comparator_do_not_differ(rng: np.random.Generator, method: str) -> None:
    for over in ["stimuli", "networks", "both"]:
        for dtype in [np.float64, np.float32]:
            models, data = signals(rng, n=7, networks=3)
            M = models["true"].astype(dtype)
            ignores = COMPARATORS[method].ignores
            equal = {"itself": M.copy(), "scaled": dtype(3.7) * M}
            equal |= {"shifted": dtype(0.01) * M + dtype(3)} if "offset" in ignores else {}
            equal |= {"cubed": M**3} if "monotone maps" in ignores else {}
            result = evaluate_models({"m": M} | equal, data, method=method, over=over, **FEW)
            adjustments = [*ADJUSTMENTS, "max_t"] if over == "stimuli" else ADJUSTMENTS
            for adjustment in adjustments:
                table = result.compare_models(adjustment)
                assert (table["difference"] == 0).all()
                assert (table["standard_error"] == 0).all()
                assert (table["p"] == 1).all()
                assert (table["p_adjusted"] == 1).all()


def test_equal_models_leave_the_others_as_they_are(rng: np.random.Generator) -> None:
    for over in ["stimuli", "networks"]:
        models, data = signals(rng)
        alone = evaluate_models(models, data, over=over, n_samples=50)
        twice = evaluate_models({"copy": 2 * models["true"] + 1, **models}, data, over=over, n_samples=50)
        np.testing.assert_allclose(twice.samples[:, 1:], alone.samples, atol=1e-12)
        np.testing.assert_allclose(twice.frame()["p_above_zero"][1:], alone.frame()["p_above_zero"])
        pairs = twice.compare_models("none").set_index(["model", "other"])
        np.testing.assert_allclose(pairs.loc[("copy", "other"), "p"], pairs.loc[("true", "other"), "p"])


def test_identical_networks_do_not_make_a_difference_certain(rng: np.random.Generator) -> None:
    models, data = signals(rng, networks=1)
    same = {str(k): data["seed 0"] for k in range(4)}
    result = evaluate_models(models, same, over="networks", n_samples=50)
    assert (result.compare_models("none")["p"] >= 2 / 1001).all()
    assert (result.frame()["p_above_zero"] >= 1 / 1001).all()


# Unrelated RDMs


@pytest.mark.parametrize("method", COMPARATORS)
def test_unrelated_models_are_no_findings_however_few_the_stimuli(method: str) -> None:
    draws = 40 if COMPARATORS[method].together else 15  # those are slower
    hits = dict.fromkeys(("stimuli", "networks", "both"), 0)
    different = dict(hits)
    for seed in range(draws):
        rng = np.random.default_rng([seed, 8])
        Y, *unrelated = rng.normal(size=(3, 8, 5))
        data = {str(k): rdm(Y + rng.normal(size=Y.shape), "sqeuclidean") for k in range(3)}
        models = {name: rdm(X, "sqeuclidean") for name, X in zip("ab", unrelated, strict=True)}
        settings = {"n_samples": 30, "n_permutations": 99, "ceilings": False}
        result = evaluate_models(models, data, method=method, over="both", seed=seed, **settings)
        for over in hits:
            each = replace(result, over=over, draws=result.draws if over == "both" else {over: result.draws[over]})
            hits[over] += each.frame()["p_above_chance"][0] <= 0.05
            different[over] += each.compare_models("none")["p"][0] <= 0.05
    most = stats.binom.ppf(0.99, draws, 0.05)
    assert max(hits.values()) <= most, hits
    assert max(different.values()) <= most, different


def test_unrelated_networks_do_not_put_a_model_below_the_ceiling() -> None:
    draws, hits = 120, 0
    for seed in range(draws):
        rng = np.random.default_rng([seed, 6])
        data = {str(k): rng.uniform(size=28) for k in range(5)}
        models = {"m": rng.uniform(size=28)}
        result = evaluate_models(models, data, over="networks", n_samples=60, n_permutations=1, seed=seed)
        hits += result.frame()["p_below_ceiling"][0] <= 0.05
    assert hits <= stats.binom.ppf(0.99, draws, 0.05)
