"""Bootstrap of RDM comparisons, against resampling that is really done, and against another package."""

import warnings
from types import ModuleType

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import squareform

from repsim.similarity import COMPARATORS, compare_rdms, evaluate_models, rdm
from repsim.similarity.inference.bootstrap import Evaluation
from repsim.similarity.inference.weighted import _by_resampling, resampled_values

WEIGHTED = ("pearson", "cosine", "spearman", "rho-a")


def signals(rng: np.random.Generator, n: int = 14, networks: int = 4) -> tuple[dict, dict]:
    """Model RDMs, one of them with ties, and noisy data RDMs that agree with the first."""
    X = rng.normal(size=(n, 6))
    labels = np.arange(n) % 3
    models = {
        "true": rdm(X, "sqeuclidean"),
        "classes": squareform((labels[:, None] != labels).astype(float)),
        "other": rdm(rng.normal(size=(n, 6)), "sqeuclidean"),
    }
    data = {f"seed {k}": rdm(X + rng.normal(size=X.shape), "sqeuclidean") for k in range(networks)}
    return models, data


def drawn(rng: np.random.Generator, n: int, samples: int = 12) -> np.ndarray:
    counts = rng.multinomial(n, np.full(n, 1 / n), size=samples)
    counts[0] = 1
    return counts


def stacked(rdms: dict) -> np.ndarray:
    return np.stack(list(rdms.values()))


# Weights against resampling


@pytest.mark.parametrize("memory", [1, 2**30])
@pytest.mark.parametrize("method", WEIGHTED)
def test_weights_give_what_resampling_gives(rng: np.random.Generator, method: str, memory: int) -> None:
    models, data = map(stacked, signals(rng))
    counts = drawn(rng, 14)
    weighted = resampled_values(models, data, counts, method, memory=memory)
    resampled = _by_resampling(COMPARATORS[method], np.concatenate([models, data]), counts, len(models))
    np.testing.assert_allclose(weighted.values, resampled.values, atol=1e-10)
    np.testing.assert_allclose(weighted.upper, resampled.upper, atol=1e-10)
    np.testing.assert_allclose(weighted.lower, resampled.lower, atol=1e-10)


@pytest.mark.parametrize("method", COMPARATORS)
def test_every_stimulus_drawn_once_is_the_comparison_itself(rng: np.random.Generator, method: str) -> None:
    models, data = signals(rng)
    once = resampled_values(stacked(models), stacked(data), np.ones((1, 14), dtype=int), method).values[0]
    expected = [[compare_rdms(model, each, method) for each in data.values()] for model in models.values()]
    np.testing.assert_allclose(once, expected, atol=1e-10)


@pytest.mark.parametrize(("method", "theirs"), [("pearson", "corr"), ("cosine", "cosine"), ("spearman", "spearman")])
def test_resampled_stimuli_give_what_rsatoolbox_gives(
    rng: np.random.Generator, rsatoolbox: ModuleType, method: str, theirs: str
) -> None:
    models, data = signals(rng)
    counts = drawn(rng, 14)
    ours = resampled_values(stacked(models), stacked(data), counts, method).values
    both = [rsatoolbox.rdm.RDMs(stacked(rdms)) for rdms in (models, data)]
    for count, value in zip(counts, ours, strict=True):
        chosen = np.repeat(np.arange(14), count)
        samples = [rdms.subsample_pattern("index", chosen) for rdms in both]
        np.testing.assert_allclose(value, rsatoolbox.rdm.compare(*samples, method=theirs), atol=1e-10)


def test_weights_survive_offsets_and_scales(rng: np.random.Generator) -> None:
    models, data = map(stacked, signals(rng))
    counts = drawn(rng, 14)
    plain = resampled_values(models, data, counts, "pearson").values
    np.testing.assert_allclose(
        resampled_values(1e-200 * models, 1e6 + data, counts, "pearson").values, plain, atol=1e-7
    )


def test_a_sample_of_one_stimulus_has_no_value_and_is_left_out(rng: np.random.Generator) -> None:
    models, data = map(stacked, signals(rng, n=4))
    counts = np.array([[4, 0, 0, 0], [1, 1, 1, 1]])
    assert np.isnan(resampled_values(models, data, counts, "pearson").values[0]).all()
    with pytest.warns(RuntimeWarning, match=r"^\d+ of 400 bootstrap samples of 4 stimuli have no value") as caught:
        result = evaluate_models(*signals(rng, n=4), n_samples=400)
    assert caught[0].filename == __file__
    assert 200 < len(result.samples) < 400  # two stimuli have one distance, which nothing correlates with
    assert np.isfinite(result.samples).all()


# Ceilings


@pytest.mark.parametrize(("method", "theirs"), [("pearson", "corr"), ("cosine", "cosine"), ("spearman", "spearman")])
def test_the_noise_ceiling_is_that_of_rsatoolbox(
    rng: np.random.Generator, rsatoolbox: ModuleType, method: str, theirs: str
) -> None:
    models, data = signals(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = rsatoolbox.inference.boot_noise_ceiling(
            rsatoolbox.rdm.RDMs(stacked(data)), method=theirs, rdm_descriptor="index"
        )
    result = evaluate_models(models, data, method=method, over="none")
    np.testing.assert_allclose(result.noise_ceiling, expected, atol=1e-10)


@pytest.mark.parametrize("method", COMPARATORS)
def test_every_comparator_has_a_noise_ceiling_above_the_models(rng: np.random.Generator, method: str) -> None:
    models, data = signals(rng)
    result = evaluate_models(models, data, method=method, over="none")
    lower, upper = result.noise_ceiling
    assert lower < upper
    assert (result.means <= upper + 1e-9).all()


def test_one_data_rdm_has_no_lower_ceiling(rng: np.random.Generator) -> None:
    models, data = signals(rng, networks=1)
    result = evaluate_models(models, data, n_samples=20)
    assert np.isnan(result.noise_ceiling[0])
    assert result.noise_ceiling[1] == pytest.approx(1)
    assert result.frame()["p_below_ceiling"].isna().all()


# What is read from the samples


@pytest.fixture
def result(rng: np.random.Generator) -> Evaluation:
    return evaluate_models(*signals(rng), n_samples=200)


def test_an_evaluation_is_a_function_of_its_seed(rng: np.random.Generator) -> None:
    models, data = signals(rng)
    one, same, other = (evaluate_models(models, data, over="both", n_samples=30, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.samples, same.samples)
    assert not np.array_equal(one.samples, other.samples)


def test_the_table_of_models(result: Evaluation) -> None:
    table = result.frame(level=0.9).set_index("model")
    assert list(table.index) == ["true", "classes", "other"]
    np.testing.assert_allclose(table["value"], result.values.mean(axis=1))
    np.testing.assert_allclose(table["standard_error"], result.samples.std(axis=0, ddof=1))
    low, high = np.percentile(result.samples, [5, 95], axis=0)
    np.testing.assert_allclose(table["low"], low)
    np.testing.assert_allclose(table["high"], high)
    assert table["p_above_zero"]["true"] == 1 / 201
    assert table["p_above_zero"]["other"] > 0.05
    above = result.samples[:, 2] - result.draws["stimuli"][1][:, 0]
    assert table["p_below_ceiling"]["other"] == ((above >= 0).sum() + 1) / 201
    assert (result.frame(adjustment="holm")["p_above_zero"] >= result.frame()["p_above_zero"]).all()


def test_the_table_of_differences(result: Evaluation) -> None:
    table = result.compare_models("none")
    assert table[["model", "other"]].to_numpy().tolist() == [
        ["true", "classes"],
        ["true", "other"],
        ["classes", "other"],
    ]
    np.testing.assert_allclose(table["difference"][1], result.means[0] - result.means[2])
    differences = result.samples[:, 0] - result.samples[:, 2]
    assert table["standard_error"][1] == pytest.approx(differences.std(ddof=1))
    assert table["p"][1] == pytest.approx(2 * ((differences <= 0).sum() + 1) / 201)
    assert (table["p"] <= 1).all()
    largest = result.compare_models("max_t")["p_adjusted"]
    assert (largest >= 1 / 201).all()
    assert largest[1] < 0.05


def test_max_t_of_one_pair_is_its_own_studentised_test(rng: np.random.Generator) -> None:
    models, data = signals(rng)
    del models["classes"]
    result = evaluate_models(models, data, n_samples=200)
    samples = result.samples[:, 0] - result.samples[:, 1]
    hits = (abs(samples - samples.mean()) >= abs(result.means[0] - result.means[1])).sum()
    assert result.compare_models("max_t")["p_adjusted"][0] == pytest.approx((hits + 1) / 201)


def test_the_standard_error_is_the_spread_over_other_stimuli() -> None:
    spread, estimated = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(40, 5))
        models, data = {"m": rdm(X, "euclidean")}, {"d": rdm(X + rng.normal(size=X.shape), "euclidean")}
        result = evaluate_models(models, data, n_samples=60)
        spread.append(result.means[0])
        estimated.append(result.standard_errors[0])
    assert np.mean(estimated) == pytest.approx(np.std(spread), rel=0.3)


def test_over_networks_errors_and_p_values_are_those_of_students_t(rng: np.random.Generator) -> None:
    models, data = signals(rng, networks=4)
    result = evaluate_models(models, data, over="networks", n_samples=4000)
    table, values = result.frame(), result.values
    np.testing.assert_allclose(table["standard_error"], values.std(axis=1, ddof=1) / 2, rtol=0.05)
    expected = stats.ttest_1samp(values[2], 0, alternative="greater")
    assert table["p_above_zero"][2] == pytest.approx(expected.pvalue, rel=0.1)
    interval = stats.ttest_1samp(values[2], 0).confidence_interval(0.95)
    assert (table["low"][2], table["high"][2]) == pytest.approx(tuple(interval), rel=0.1)
    paired = stats.ttest_rel(values[1], values[2])
    assert result.compare_models("none")["p"][2] == pytest.approx(paired.pvalue, rel=0.15)


@pytest.mark.parametrize("networks", [2, 3, 6])
def test_few_networks_do_not_make_findings(networks: int) -> None:
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        models = {"model": rng.uniform(size=45)}
        data = {str(k): rng.uniform(size=45) for k in range(networks)}
        p.append(evaluate_models(models, data, over="networks", n_samples=100).frame()["p_above_zero"][0])
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


def test_nothing_resampled_has_values_and_no_more(rng: np.random.Generator) -> None:
    result = evaluate_models(*signals(rng), over="none")
    assert result.samples.shape == (0, 3)
    assert result.frame()[["standard_error", "low", "high", "p_above_zero"]].isna().all(axis=None)
    with pytest.raises(ValueError, match=r"^Comparing models needs at least 2 of them, and samples"):
        result.compare_models()


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "kendall"}, r"^Unknown method 'kendall'\. Choose one of: bures, cosine"),
        ({"over": "subjects"}, r"^Unknown resampling 'subjects'\. Choose one of: both, networks, none, stimuli\.$"),
        ({"n_samples": 1}, r"^n_samples is 1; expected a whole number of at least 2\.$"),
        ({"models": {}}, r"^There are no models; expected at least 1 RDM\.$"),
        ({"data": {"d": np.arange(3.0)}}, r"^models has 14 samples and data has 3; both must come"),
        ({"data": {"d": np.full(91, np.nan)}}, r"^data\['d'\] has 91 pairs that are NaN\. Leave those stimuli out"),
        ({"data": {"d": np.ones(91)}}, r"^data\['d'\] has no two distances that differ; pearson is not defined for it"),
        (
            {"data": {"d": np.arange(91.0)}, "over": "networks"},
            r"^Resampling networks needs at least 2 data RDMs; there is 1",
        ),
    ],
)
def test_evaluate_models_refuses(rng: np.random.Generator, change: dict, message: str) -> None:
    models, data = signals(rng)
    with pytest.raises(ValueError, match=message):
        evaluate_models(**({"models": models, "data": data} | change))


def test_tables_refuse(result: Evaluation, rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"^level is 95; expected a number between 0 and 1, such as 0\.95\.$"):
        result.frame(level=95)
    with pytest.raises(ValueError, match=r"^max_t goes by samples of stimuli; choose another adjustment"):
        evaluate_models(*signals(rng), over="networks", n_samples=9).compare_models("max_t")


def test_evaluate_models_refuses_a_single_array() -> None:
    with pytest.raises(TypeError, match=r"^models is a ndarray; expected a mapping from names to RDMs\.$"):
        evaluate_models(np.ones(3), {"d": np.arange(3.0)})
