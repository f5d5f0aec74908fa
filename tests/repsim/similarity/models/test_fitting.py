from collections.abc import Callable
from functools import partial
from types import ModuleType

import numpy as np
import pytest
from scipy.optimize import minimize, nnls
from scipy.spatial.distance import squareform
from scipy.stats import pearsonr, rankdata
from sklearn.linear_model import LinearRegression

from repsim.similarity import COMPARATORS, compare_rdms
from repsim.similarity.comparators.whitened import whiten
from repsim.similarity.models.fitting import fit_models, partial_rsa, regression_rsa
from repsim.similarity.models.theories import categorical_rdm, ordinal_rdm

LINEAR = [name for name, comparator in COMPARATORS.items() if comparator.linear is not None]
NAMES = ("line", "class", "third")


@pytest.fixture
def models(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "line": ordinal_rdm(rng.normal(size=9)),
        "class": 5 * categorical_rdm([0, 0, 0, 1, 1, 1, 2, 2, 2]),
        "third": rng.uniform(size=36) + 1,
    }


@pytest.fixture
def target(rng: np.random.Generator, models: dict[str, np.ndarray]) -> np.ndarray:
    return 2 * models["line"] + 0.3 * models["class"] + rng.uniform(size=36) + 3


def stack(models: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack(list(models.values()), axis=1)


# Partial correlation


def test_partial_rsa_has_the_constants_of_mne_rsa() -> None:
    nan = np.nan  # four distances each, in RDMs of four stimuli
    target = [2, nan, 4, 15, 20, nan]
    one, other = [1, nan, 2, 3, 4, nan], [0, nan, 0, 1, 1, nan]
    assert partial_rsa(target, one, {"other": other}) == pytest.approx(0.919145, abs=1e-6)
    assert partial_rsa(target, other, {"one": one}) == pytest.approx(0.912871, abs=1e-6)
    target = [2, nan, 4, 20, 15, nan]
    assert partial_rsa(target, one, {"other": other}, "spearman") == pytest.approx(0, abs=1e-12)
    assert partial_rsa(target, other, {"one": one}, "spearman") == pytest.approx(2 / 3, abs=1e-12)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_partial_rsa_is_the_correlation_of_residuals(
    models: dict[str, np.ndarray], target: np.ndarray, method: str
) -> None:
    controls = {name: models[name] for name in ("class", "third")}
    ranked = rankdata if method == "spearman" else np.asarray
    design = np.stack([np.ones(36), *(ranked(control) for control in controls.values())], axis=1)
    a, b = (
        ranked(each) - design @ np.linalg.lstsq(design, ranked(each), rcond=None)[0]
        for each in (target, models["line"])
    )
    expected = pearsonr(a, b).statistic
    assert partial_rsa(target, models["line"], controls, method) == pytest.approx(expected, abs=1e-12)
    assert abs(expected - compare_rdms(target, models["line"], method)) > 1e-3


def test_partial_rsa_ignores_the_effect_of_controls(models: dict[str, np.ndarray], target: np.ndarray) -> None:
    controls = {"class": models["class"]}
    value = partial_rsa(target, models["line"], controls)
    assert partial_rsa(squareform(target + 50 * models["class"]), models["line"], controls) == pytest.approx(value)
    assert partial_rsa(target, 2 * models["line"] - models["class"] + 1, controls) == pytest.approx(value)


def test_partial_rsa_refuses_controls_that_leave_one_dimension(rng: np.random.Generator) -> None:
    target, model, *controls = rng.uniform(size=(6, 6))
    assert abs(partial_rsa(target, model, dict(zip("abc", controls[:3], strict=True)))) < 1 - 1e-6
    message = r"^There are 5 models, the controls among them, for 6 pairs, which fit any target exactly; expected at m"
    with pytest.raises(ValueError, match=message):
        partial_rsa(target, model, dict(zip("abcd", controls, strict=True)))


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_partial_rsa_refuses_rdms_that_are_constant_up_to_rounding(
    rng: np.random.Generator, models: dict[str, np.ndarray], method: str, place: int
) -> None:
    rdms = list(models.values())
    name = ("target", "model", r"controls\['flat'\]")[place]
    for flat in (np.ones(36), 1 + 1e-15 * rng.normal(size=36)):
        rdms[place] = flat
        with pytest.raises(ValueError, match=rf"^{name} has no two distances that differ, over 36 pairs"):
            partial_rsa(rdms[0], rdms[1], {"flat": rdms[2]}, method)


@pytest.mark.parametrize("offset", [0, 1, 100])
def test_rdms_that_differ_by_rounding_to_single_precision_are_dependent(
    models: dict[str, np.ndarray], target: np.ndarray, offset: float
) -> None:
    single = target.astype(np.float32)
    copy = (2 * single + offset).astype(np.float32)
    with pytest.raises(ValueError, match=r"^The controls explain all of the target"):
        partial_rsa(single, models["third"], {"copy": copy})
    for function in (regression_rsa, partial(fit_models, method="pearson")):
        with pytest.raises(ValueError, match=r"^The 2 models are linearly dependent"):
            function(models["third"], {"single": single, "copy": copy})


# Regression


def test_regression_has_the_constants_of_mne_rsa() -> None:
    # Twice its three distances, which two models would fit whatever they were.
    target = [3 * -1 + 5, -10, 3 + 5] * 2
    one, two = [-1, 0, 1] * 2, [1, -2, 1] * 2
    result = regression_rsa(target, {"one": one, "two": two})
    assert result.coefficients == pytest.approx({"one": 3, "two": 5})
    assert result.r2 == pytest.approx(1)
    assert result.intercept == pytest.approx(0, abs=1e-12)


def test_regression_equals_least_squares(models: dict[str, np.ndarray], target: np.ndarray) -> None:
    result = regression_rsa(target, models)
    M = stack(models)
    expected = np.linalg.lstsq(np.column_stack([np.ones(36), M]), target, rcond=None)[0]
    np.testing.assert_allclose([result.intercept, *result.coefficients.values()], expected, atol=1e-10)
    oracle = LinearRegression().fit(M, target)
    assert result.r2 == pytest.approx(oracle.score(M, target), abs=1e-12)
    standard = LinearRegression().fit((M - M.mean(axis=0)) / M.std(axis=0), (target - target.mean()) / target.std())
    np.testing.assert_allclose(list(result.standardised.values()), standard.coef_, atol=1e-10)
    assert tuple(result.coefficients) == NAMES


def test_unique_variance_is_the_decrease_of_r2_without_a_model(
    models: dict[str, np.ndarray], target: np.ndarray
) -> None:
    result = regression_rsa(target, models)
    for name in models:
        others = {other: models[other] for other in models if other != name}
        assert result.unique[name] == pytest.approx(result.r2 - regression_rsa(target, others).r2, abs=1e-12)


def test_regression_leaves_out_pairs_that_are_nan_in_all(models: dict[str, np.ndarray], target: np.ndarray) -> None:
    kept = np.delete(np.arange(36), [4, 20])
    expected = LinearRegression().fit(stack(models)[kept], target[kept])
    for each in (target, *models.values()):
        each[[4, 20]] = np.nan
    result = regression_rsa(target, models)
    np.testing.assert_allclose(list(result.coefficients.values()), expected.coef_, atol=1e-10)


def test_regression_refuses_more_models_than_pairs_can_tell_apart(rng: np.random.Generator) -> None:
    target, *models = rng.uniform(size=(6, 6))
    assert regression_rsa(target, dict(zip("abcd", models[:4], strict=True))).r2 < 1
    message = r"^There are 5 models for 6 pairs, which fit any target exactly; expected at most 4\. Leave some out, or"
    with pytest.raises(ValueError, match=message):
        regression_rsa(target, dict(zip("abcde", models, strict=True)))


# Fits


def transformed(method: str, vectors: np.ndarray) -> np.ndarray:
    """The linear map of a comparator, written out for the columns of a matrix."""
    if "pearson" in method:
        vectors = vectors - vectors.mean(axis=0)
    return np.stack([whiten(v) for v in vectors.T], axis=1) if "whitened" in method else vectors


@pytest.mark.parametrize("method", LINEAR)
def test_a_fit_to_one_target_is_that_of_scipy(models: dict[str, np.ndarray], target: np.ndarray, method: str) -> None:
    fit = fit_models(target, models, method=method)
    expected, _ = nnls(transformed(method, stack(models)), transformed(method, target[:, None])[:, 0])
    np.testing.assert_allclose(list(fit.weights.values()), expected, atol=1e-10)
    assert (expected > 0).sum() >= 2
    assert fit.value == pytest.approx(compare_rdms(target, fit.rdm, method), abs=1e-12)
    np.testing.assert_allclose(fit.rdm, stack(models) @ expected + fit.offset, atol=1e-10)
    assert fit.method == method
    assert fit.cross_validated is None


def test_a_fit_by_pearson_is_that_of_scikit_learn(models: dict[str, np.ndarray], target: np.ndarray) -> None:
    fit = fit_models(target - 3 * models["third"], models, method="pearson")
    oracle = LinearRegression(positive=True).fit(stack(models), target - 3 * models["third"])
    np.testing.assert_allclose(list(fit.weights.values()), oracle.coef_, atol=1e-10)
    assert fit.offset == pytest.approx(oracle.intercept_, abs=1e-10)
    assert fit.weights["third"] == 0
    np.testing.assert_allclose(fit.rdm, oracle.predict(stack(models)), atol=1e-10)


@pytest.mark.parametrize("method", LINEAR)
@pytest.mark.parametrize("sign", [1, -1])
def test_no_other_weights_have_a_better_mean_value(
    rng: np.random.Generator, models: dict[str, np.ndarray], method: str, sign: int
) -> None:
    M = stack(models)
    targets = {str(k): sign * k * (M @ rng.uniform(size=3) + rng.uniform(size=36)) for k in (1, 10, 100)}
    fit = fit_models(targets, models, method=method)

    def mean(weights: np.ndarray) -> float:
        return float(np.mean([compare_rdms(each, M @ weights, method) for each in targets.values()]))

    assert fit.value == pytest.approx(mean(np.array(list(fit.weights.values()))), abs=1e-12)
    tried = [*rng.exponential(size=(100, 3)), *np.eye(3), *(np.eye(3)[[0, 1, 2, 0, 1, 2]] + rng.uniform(size=(6, 3)))]
    assert max(map(mean, tried)) <= fit.value + 1e-12
    start = np.array([0.1, 0.1, 0.1])
    found = minimize(lambda logs: -mean(np.exp(logs)), start, method="Nelder-Mead", options={"maxiter": 300})
    assert -found.fun <= fit.value + 1e-12
    assert min(fit.weights.values()) >= 0


def test_where_no_weighting_is_positive_a_single_model_is_best(models: dict[str, np.ndarray]) -> None:
    target = -models["line"] - 0.3 * models["class"] + np.arange(36) / 1000
    del models["third"]
    assert max(compare_rdms(target, model, "pearson") for model in models.values()) < 0
    fit = fit_models(target, models, method="pearson")
    best = max(models, key=lambda name: compare_rdms(target, models[name], "pearson"))
    assert [name for name, weight in fit.weights.items() if weight] == [best]
    assert fit.value == pytest.approx(compare_rdms(target, models[best], "pearson"), abs=1e-12)


def test_a_fit_equals_rsatoolbox(models: dict[str, np.ndarray], target: np.ndarray, rsatoolbox: ModuleType) -> None:
    theirs = rsatoolbox.model.ModelWeighted("w", stack(models).T)
    data = rsatoolbox.rdm.RDMs(target[None])
    theta = rsatoolbox.model.fitter.fit_regress_nn(theirs, data, method="cosine")
    expected = compare_rdms(target, theirs.predict(theta), "cosine")
    assert fit_models(target, models).value == pytest.approx(expected, abs=1e-8)


def test_targets_of_any_scale_have_the_same_weight(models: dict[str, np.ndarray], target: np.ndarray) -> None:
    other = target[::-1].copy()
    fit = fit_models({"a": target, "b": other}, models)
    scaled = fit_models({"a": target, "b": 1000 * other}, models)
    assert scaled.value == pytest.approx(fit.value, abs=1e-12)
    ratio = np.array(list(scaled.weights.values())) / np.array(list(fit.weights.values()))
    np.testing.assert_allclose(ratio, 2 / 1.001, rtol=1e-10)  # of the mean weighted by one over length


@pytest.mark.parametrize("method", LINEAR)
def test_a_fit_to_several_targets_is_that_to_their_pool(
    models: dict[str, np.ndarray], target: np.ndarray, method: str
) -> None:
    targets = {"a": target, "b": 10 * target[::-1] + 2, "c": target**2}
    fit = fit_models(targets, models, method=method)
    pooled = fit_models(COMPARATORS[method].pool(np.stack(list(targets.values()))), models, method=method)
    np.testing.assert_allclose(fit.rdm, pooled.rdm, atol=1e-10)
    assert fit.offset == pytest.approx(pooled.offset, abs=1e-10)


@pytest.mark.parametrize("method", ["cosine", "pearson_whitened"])
def test_cross_validation_fits_without_each_target(
    rng: np.random.Generator, models: dict[str, np.ndarray], target: np.ndarray, method: str
) -> None:
    targets = {name: target + 2 * rng.uniform(size=36) for name in "abcd"}
    fit = fit_models(targets, models, method=method, cross_validated=True)
    expected = [
        compare_rdms(
            left_out,
            fit_models({o: targets[o] for o in targets if o != name}, models, method=method).rdm,
            method,
        )
        for name, left_out in targets.items()
    ]
    np.testing.assert_allclose(fit.cross_validated, expected, atol=1e-12)
    assert fit.cross_validated.mean() < fit.value


def test_a_fit_leaves_out_pairs_that_are_nan_in_all(models: dict[str, np.ndarray], target: np.ndarray) -> None:
    kept = np.delete(np.arange(36), 4)
    expected, _ = nnls(stack(models)[kept], target[kept])
    for each in (target, *models.values()):
        each[4] = np.nan
    fit = fit_models(target, models)
    np.testing.assert_allclose(list(fit.weights.values()), expected, atol=1e-10)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(fit.rdm)), [4])
    with pytest.raises(ValueError, match=r"cosine_whitened needs all pairs"):
        fit_models(target, models, method="cosine_whitened")


def test_a_constant_model_is_an_intercept_for_cosine_and_refused_for_pearson(
    models: dict[str, np.ndarray], target: np.ndarray
) -> None:
    flat = models | {"flat": np.ones(36)}
    assert fit_models(target, flat).value > fit_models(target, models).value
    with pytest.raises(ValueError, match=r"^models\['flat'\] has no two distances that differ, over 36 pairs;"):
        fit_models(target, flat, method="pearson")
    with pytest.raises(ValueError, match=r"^models\['zero'\] is zero everywhere, over 36 pairs;"):
        fit_models(target, models | {"zero": np.zeros(36)})


def test_fits_refuse_dependent_models(models: dict[str, np.ndarray], target: np.ndarray) -> None:
    dependent = models | {"shifted": models["line"] + 1}
    assert fit_models(target, dependent).value > 0.9  # an offset is another model for cosine
    with pytest.raises(ValueError, match=r"^The 4 models are linearly dependent: they have rank 3 over 36 pairs"):
        fit_models(target, dependent, method="pearson")


@pytest.mark.parametrize("method", [name for name in COMPARATORS if name not in LINEAR])
def test_fits_refuse_comparators_that_are_not_linear(method: str) -> None:
    message = (
        rf"^Models cannot be fitted with {method}, .* cosine after a linear map\. "
        r"Choose one of: cosine, cosine_whitened, pearson, pearson_whitened\.$"
    )
    with pytest.raises(ValueError, match=message):
        fit_models([1, 2, 3], {"m": [1, 2, 4]}, method=method)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda t, m: partial_rsa(2 * m["class"] + 1, m["line"], {"class": m["class"]}),
            ValueError,
            r"^The controls explain all of the target; no residual",
        ),
        (
            lambda t, m: partial_rsa(m["line"], m["class"], {"class": m["class"]}),
            ValueError,
            r"^The controls explain all of the model;",
        ),
        (
            lambda t, m: partial_rsa(t, m["line"], {"one": m["class"], "two": 2 * m["class"] + 1}),
            ValueError,
            r"^The 2 controls are linearly dependent: they have rank 1 over 36 pairs",
        ),
        (lambda t, m: partial_rsa(t, t, {"c": t}, "tau-a"), ValueError, r"^Unknown method 'tau-a'\. Choose one of: pe"),
        (lambda t, m: partial_rsa(t, t, [t]), TypeError, r"^controls is a list; expected a mapping from names to RDMs"),
        (lambda t, m: partial_rsa(t, t, {}), ValueError, r"^controls has no RDMs; expected at least 1\."),
        (
            lambda t, m: regression_rsa(t, m | {"sum": m["line"] + m["class"] + 7}),
            ValueError,
            r"^The 4 models are linearly dependent: they have rank 3 over 36 pairs",
        ),
        (
            lambda t, m: regression_rsa(t, m | {"flat": np.ones(36)}),
            ValueError,
            r"^models\['flat'\] has no two distances that differ, over 36 pairs",
        ),
        (lambda t, m: regression_rsa(t, [t]), TypeError, r"^models is a list; expected a mapping from names to RDMs"),
        (lambda t, m: fit_models(t, [t]), TypeError, r"^models is a list; expected a mapping from names to RDMs"),
        (lambda t, m: fit_models(t, m, method="euclid"), ValueError, r"^Unknown method 'euclid'\. Choose one of: bure"),
        (lambda t, m: fit_models(t, m, cross_validated=True), ValueError, r"^There is 1 target; cross-validation need"),
        (
            lambda t, m: fit_models(t, {"m": np.arange(6)}),
            ValueError,
            r"^target has 9 samples and models\['m'\] has 4; both must come from the same",
        ),
    ],
)
def test_fits_refuse(
    models: dict[str, np.ndarray], target: np.ndarray, call: Callable, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(target, models)
