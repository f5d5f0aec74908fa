"""Bootstrap of RDM comparisons, against resampling that is really done, and against another package."""

import warnings
from itertools import combinations
from types import ModuleType

import numpy as np
import pytest
from scipy.spatial.distance import squareform

from repsim.similarity import COMPARATORS, compare_rdms, evaluate_models, rdm
from repsim.similarity.inference.resampling import by_resampling, resampled_values
from tests.repsim.similarity.synthetic import signals

WEIGHTED = [name for name, comparator in COMPARATORS.items() if comparator.weighted is not None]


def drawn(rng: np.random.Generator, n: int, samples: int = 12) -> np.ndarray:
    counts = rng.multinomial(n, np.full(n, 1 / n), size=samples)
    counts[0] = 1
    return counts


def stacked(rdms: dict) -> np.ndarray:
    return np.stack(list(rdms.values()))


# Weights against resampling


@pytest.mark.parametrize("method", WEIGHTED)
def test_weights_are_equivalent_to_resampling(
    rng: np.random.Generator, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for memory in [1, 2**30]:
        monkeypatch.setattr("repsim.similarity.comparators.resampled.MEMORY", memory)
        models, data = map(stacked, signals(rng))
        counts = drawn(rng, 14)
        weighted = resampled_values(models, data, counts, COMPARATORS[method])
        resampled = by_resampling(COMPARATORS[method], np.concatenate([models, data]), counts, len(models))
        np.testing.assert_allclose(weighted.values, resampled.values, atol=1e-10)
        np.testing.assert_allclose(weighted.upper, resampled.upper, atol=1e-10)
        np.testing.assert_allclose(weighted.lower, resampled.lower, atol=1e-10)


@pytest.mark.parametrize("method", COMPARATORS)
def test_every_stimulus_drawn_once_is_the_comparison_itself(rng: np.random.Generator, method: str) -> None:
    models, data = signals(rng)
    once = resampled_values(stacked(models), stacked(data), np.ones((1, 14), dtype=int), COMPARATORS[method]).values[0]
    expected = [[compare_rdms(model, each, method) for each in data.values()] for model in models.values()]
    np.testing.assert_allclose(once, expected, atol=1e-10)


@pytest.mark.parametrize(("method", "theirs"), [("pearson", "corr"), ("cosine", "cosine"), ("spearman", "spearman")])
def test_resampled_values_equal_rsatoolbox(
    rng: np.random.Generator, rsatoolbox: ModuleType, method: str, theirs: str
) -> None:
    models, data = signals(rng)
    counts = drawn(rng, 14)
    ours = resampled_values(stacked(models), stacked(data), counts, COMPARATORS[method]).values
    both = [rsatoolbox.rdm.RDMs(stacked(rdms)) for rdms in (models, data)]
    for count, value in zip(counts, ours, strict=True):
        chosen = np.repeat(np.arange(14), count)
        samples = [rdms.subsample_pattern("index", chosen) for rdms in both]
        np.testing.assert_allclose(value, rsatoolbox.rdm.compare(*samples, method=theirs), atol=1e-10)


def test_weights_survive_offsets_and_scales(rng: np.random.Generator) -> None:
    models, data = map(stacked, signals(rng))
    counts = drawn(rng, 14)
    plain = resampled_values(models, data, counts, COMPARATORS["pearson"]).values
    np.testing.assert_allclose(
        resampled_values(1e-200 * models, 1e6 + data, counts, COMPARATORS["pearson"]).values, plain, atol=1e-7
    )


@pytest.mark.parametrize("method", COMPARATORS)
def test_copies_of_a_stimulus_form_no_pair(rng: np.random.Generator, method: str) -> None:
    models, data = map(stacked, signals(rng, n=8))
    counts = np.array([3, 2, 0, 1, 1, 0, 1, 0])
    drawn = np.repeat(np.arange(8), counts) if method in WEIGHTED else np.flatnonzero(counts)
    pairs = [(i, j) for i, j in combinations(drawn, 2) if i != j]

    def prepared(rdms: np.ndarray) -> list:
        return [COMPARATORS[method].prepare(np.array([squareform(rdm)[pair] for pair in pairs])) for rdm in rdms]

    expected = [[COMPARATORS[method].compare(a, b) for b in prepared(data)] for a in prepared(models)]
    np.testing.assert_allclose(
        resampled_values(models, data, counts[None], COMPARATORS[method]).values[0], expected, atol=1e-10
    )


@pytest.mark.parametrize("counts", [[4, 0, 0, 0], [2, 2, 0, 0]])
def test_fewer_than_three_distinct_stimuli_have_no_value(rng: np.random.Generator, counts: list[int]) -> None:
    for method in COMPARATORS:
        models, data = map(stacked, signals(rng, n=4))
        result = resampled_values(models, data, np.array([counts, [1, 1, 1, 1]]), COMPARATORS[method])
        assert np.isnan(result.values[0]).all()
        assert np.isnan(result.upper[0]).all()
        assert np.isfinite(result.values[1]).all()


@pytest.mark.parametrize("method", COMPARATORS)
def test_a_sample_in_which_a_model_is_constant_has_no_value_for_it(rng: np.random.Generator, method: str) -> None:
    models, data = map(stacked, signals(rng, n=6))
    classes = squareform((np.arange(6)[:, None] // 2 != np.arange(6) // 2) * 0.3)
    result = resampled_values(np.stack([models[0], classes]), data, np.array([[2, 0, 3, 0, 1, 0]]), COMPARATORS[method])
    assert np.isfinite(result.values[0, 0]).all()
    assert np.isnan(result.values[0, 1]).all() == (not is_defined_for_constants(method))


def is_defined_for_constants(method: str) -> bool:
    return COMPARATORS[method].prepare(np.full(3, 0.3)) is not None


def test_pearson_is_accurate_where_an_outlier_was_not_drawn(rng: np.random.Generator) -> None:
    models, data = map(stacked, signals(rng, n=8))
    far = data.copy()
    far[:, 0] = 1e9  # between the first two stimuli
    counts = np.array([[0, 0, 2, 1, 1, 1, 1, 2]])
    expected = resampled_values(models, data, counts, COMPARATORS["pearson"]).values
    np.testing.assert_allclose(
        resampled_values(models, far, counts, COMPARATORS["pearson"]).values, expected, atol=1e-12
    )


def test_samples_without_a_value_are_left_out_and_counted(rng: np.random.Generator) -> None:
    with pytest.warns(RuntimeWarning, match=r"^\d+ of 400 bootstrap samples of 4 stimuli have no value") as caught:
        result = evaluate_models(*signals(rng, n=4), n_samples=400)
    assert caught[0].filename == __file__
    assert len(result.samples) + result.n_left_out == 400
    assert 200 < result.n_left_out < 300
    assert np.isfinite(result.samples).all()
    assert str(result.n_left_out) in str(caught[0].message)


@pytest.mark.parametrize("method", COMPARATORS)
def test_five_stimuli_can_be_resampled_with_every_comparator(rng: np.random.Generator, method: str) -> None:
    for over in ["stimuli", "networks", "both"]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            table = evaluate_models(*signals(rng, n=5), method=method, over=over, n_samples=60).frame()
        assert all("are left out" in str(each.message) for each in caught)
        assert np.isfinite(table[["value", "low", "high", "standard_error", "p_above_chance"]]).all(axis=None)
        assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()


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


def test_ceilings_can_be_left_out(rng: np.random.Generator) -> None:
    models, data = signals(rng, n=8)
    for method in ("pearson", "spearman", "tau-a"):
        whole, quick = (
            evaluate_models(models, data, method=method, n_samples=20, n_permutations=1, ceilings=ceilings)
            for ceilings in (True, False)
        )
        np.testing.assert_array_equal(quick.samples, whole.samples)
        assert np.isnan(quick.noise_ceiling).all()
        assert np.isfinite(whole.noise_ceiling).all()


def test_ceilings_that_are_nan_in_some_samples_are_left_out_and_counted() -> None:
    rng = np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = evaluate_models(*signals(rng, n=5, networks=3), method="spearman", over="both", n_samples=300)
    assert 0 < result.n_without_ceiling < 100
    message = f"undefined in {result.n_without_ceiling} of {len(result.samples)} samples, which are left out of p_below"
    assert sum(message in str(each.message) for each in caught) == 1
    assert np.isfinite(result.frame()["p_below_ceiling"]).all()


def test_ceilings_that_are_nan_everywhere_are_nan_with_a_warning(rng: np.random.Generator) -> None:
    X = rng.normal(size=(8, 3))
    data = {"a": rdm(X, "sqeuclidean")}
    data |= {"b": data["a"].max() - data["a"], "c": data["a"]}
    models = {"m": rdm(rng.normal(size=(8, 3)), "sqeuclidean")}
    with pytest.warns(RuntimeWarning, match=r"^The lower noise ceiling is undefined for 2 of 3 data RDMs; p_below_cei"):
        result = evaluate_models(models, data, method="spearman", over="networks", n_samples=50)
    assert result.frame()["p_below_ceiling"].isna().all()
    assert np.isfinite(result.frame()["p_above_zero"]).all()


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "kendall"}, r"^Unknown method 'kendall'\. Choose one of: bures, cosine"),
        ({"over": "subjects"}, r"^Unknown resampling 'subjects'\. Choose one of: both, networks, none, stimuli\.$"),
        ({"n_samples": 1}, r"^n_samples is 1; expected a whole number of at least 2\.$"),
        ({"n_permutations": 0}, r"^n_permutations is 0; expected a whole number of at least 1\.$"),
        ({"models": {}}, r"^models has no RDMs; expected at least 1\."),
        ({"data": {"d": np.arange(3.0)}}, r"^models has 14 samples and data has 3; both must come"),
        ({"data": {"d": np.full(91, np.nan)}}, r"^data\['d'\] has 91 pairs that are NaN\. Leave those stimuli out"),
        ({"data": {"d": np.ones(91)}}, r"^data\['d'\] has no two distances that differ; pearson is not defined for it"),
        ({"data": {"d": np.arange(91.0)}, "over": "networks"}, r"^Resampling networks needs at least 2 data RDMs; the"),
    ],
)
def test_evaluate_models_refuses(rng: np.random.Generator, change: dict, message: str) -> None:
    models, data = signals(rng)
    with pytest.raises(ValueError, match=message):
        evaluate_models(**({"models": models, "data": data} | change))


def test_too_few_stimuli_are_not_resampled(rng: np.random.Generator) -> None:
    models, data = signals(rng, n=3)
    del models["classes"]
    with pytest.raises(ValueError, match=r"^Resampling stimuli needs at least 4 of them; there are 3\. Resample netw"):
        evaluate_models(models, data)
    assert np.isfinite(evaluate_models(models, data, over="networks").frame()["high"]).all()


def test_samples_that_all_lack_a_value_are_refused() -> None:
    classes = {"m": np.array([0.0, 1, 1, 1, 1, 1])}
    data = {"d": np.array([0.0, 2, 2, 2, 2, 2])}
    with pytest.raises(ValueError, match=r"^\d of 3 samples of 4 stimuli have no value; expected at least 2 that have"):
        evaluate_models(classes, data, n_samples=3, seed=4)


def test_evaluate_models_refuses_a_single_array() -> None:
    with pytest.raises(TypeError, match=r"^models is a ndarray; expected a mapping from names to RDMs\."):
        evaluate_models(np.ones(3), {"d": np.arange(3.0)})
