import numpy as np
import pytest
from scipy.stats import t as student

from analysis.comparison.attribution.effect_bands import moderate_variances, simultaneous_bands


def draw(rng: np.random.Generator, n: int, size: int, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Errors of effects that n networks estimate, and their influences."""
    values = rng.standard_normal((n, size)) * np.exp(spread * rng.standard_normal(size))
    centred = values - values.mean(axis=0)
    return values.mean(axis=0), centred / np.sqrt(n * (n - 1))


@pytest.mark.parametrize("n", [4, 8])
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.5])
def test_bands_cover_all_effects_at_once(rng: np.random.Generator, n: int, spread: float) -> None:
    missed = 0
    for _ in range(150):
        errors, influences = draw(rng, n, 30, spread)
        bands = simultaneous_bands(influences, np.full(30, n - 1), ["cka"] * 30, n_samples=500)
        missed += bool((np.abs(errors) > bands.half_bands).any())
    assert missed <= 16  # 95 % of 150 bands, and four standard errors


def test_bands_that_follow_a_trend_cover_and_are_narrower(rng: np.random.Generator) -> None:
    """Variances that are a function of a known quantity, as those of similarities near 1 are."""
    trend = np.linspace(-4, 0, 40)
    missed, ratios = 0, []
    for _ in range(150):
        values = rng.standard_normal((5, 40)) * np.exp(trend / 2)
        errors, influences = values.mean(axis=0), (values - values.mean(axis=0)) / np.sqrt(20)
        kinds, d = ["cka"] * 40, np.full(40, 4)
        with_trend = simultaneous_bands(influences, d, kinds, trend=trend, n_samples=500)
        without = simultaneous_bands(influences, d, kinds, n_samples=500)
        missed += bool((np.abs(errors) > with_trend.half_bands).any())
        ratios.append(np.median(with_trend.half_bands / without.half_bands))
    assert missed <= 16  # as above
    assert np.median(ratios) < 0.8


def test_a_trend_that_explains_nothing_changes_little(rng: np.random.Generator) -> None:
    U, d = influences_of(rng, np.ones(400)), np.full(400, 4.0)
    with_trend, _ = moderate_variances(U, d, ["cka"] * 400, rng.standard_normal(400))
    without, _ = moderate_variances(U, d, ["cka"] * 400)
    np.testing.assert_allclose(with_trend, without, rtol=0.25)


def test_few_effects_have_no_trend(rng: np.random.Generator) -> None:
    U, d = influences_of(rng, np.ones(9)), np.full(9, 4.0)
    with_trend, _ = moderate_variances(U, d, ["cka"] * 9, rng.standard_normal(9))
    np.testing.assert_array_equal(with_trend, moderate_variances(U, d, ["cka"] * 9)[0])


def test_effects_whose_variance_is_known_better_have_narrower_bands(rng: np.random.Generator) -> None:
    """Each band has the same chance to miss its effect, whatever its degrees of freedom."""
    _, influences = draw(rng, 5, 60, spread=0.0)
    influences /= np.sqrt(np.square(influences).sum(axis=0))
    influences[:, 30:] *= np.exp(rng.standard_normal(30))
    kinds = ["alike"] * 30 + ["unlike"] * 30
    bands = simultaneous_bands(influences, np.full(60, 4), kinds)
    widths = bands.half_bands / bands.standard_errors
    assert bands.degrees_of_freedom[0] > bands.degrees_of_freedom[-1]
    assert widths[0] < 0.8 * widths[-1]
    p = 2 * student.sf(widths, bands.degrees_of_freedom)
    np.testing.assert_allclose(p, p[0], rtol=1e-6)


def test_intervals_cover_one_effect(rng: np.random.Generator) -> None:
    missed = []
    for _ in range(150):
        errors, influences = draw(rng, 5, 30)
        bands = simultaneous_bands(influences, np.full(30, 4), ["cka"] * 30, n_samples=10)
        missed.append(np.mean(np.abs(errors) > bands.half_intervals))
    assert 0.03 < np.mean(missed) < 0.07


def influences_of(rng: np.random.Generator, true: np.ndarray) -> np.ndarray:
    """Influences of five networks, whose squares sum to variances of four degrees of freedom around the true ones."""
    values = rng.standard_normal((5, len(true)))
    return (values - values.mean(axis=0)) * np.sqrt(true / 4)


def test_effects_of_equal_variance_share_all_their_information(rng: np.random.Generator) -> None:
    U = influences_of(rng, np.ones(2000))
    moderated, prior = moderate_variances(U, np.full(2000, 4.0), ["cka"] * 2000)
    assert np.ptp(moderated) < 0.6  # of variances that range from 0.02 to 5
    assert moderated.mean() == pytest.approx(1, abs=0.05)
    assert (prior > 50).all()


def test_the_prior_is_recovered(rng: np.random.Generator) -> None:
    true = 6.0 * 0.3 / rng.chisquare(6.0, size=20_000)
    U = influences_of(rng, true)
    moderated, prior = moderate_variances(U, np.full(20_000, 4.0), ["cka"] * 20_000)
    assert prior[0] == pytest.approx(6, rel=0.1)
    np.testing.assert_allclose(moderated, (6 * 0.3 + 4 * np.square(U).sum(axis=0)) / 10, rtol=0.1)


def test_effects_of_other_kinds_share_nothing(rng: np.random.Generator) -> None:
    U = influences_of(rng, np.ones(40))
    d, kinds = np.full(40, 4.0), ["cka"] * 20 + ["accuracy"] * 20
    together, _ = moderate_variances(U, d, kinds)
    alone, _ = moderate_variances(U[:, :20], d[:20], kinds[:20])
    np.testing.assert_array_equal(together[:20], alone)


def test_effects_that_are_copies_of_one_another_gain_nothing(rng: np.random.Generator) -> None:
    """Their variances are equal because they are one estimate, not because the variance is known well."""
    U = np.repeat(influences_of(rng, np.ones(1)), 80, axis=1)
    _, prior = moderate_variances(U, np.full(80, 4.0), ["cka"] * 80)
    np.testing.assert_allclose(prior, 4.0)


def test_bands_cover_effects_that_are_highly_correlated(rng: np.random.Generator) -> None:
    missed = 0
    for _ in range(150):
        values = 0.95 * rng.standard_normal((5, 1)) + np.sqrt(1 - 0.95**2) * rng.standard_normal((5, 40))
        influences = (values - values.mean(axis=0)) / np.sqrt(20)
        bands = simultaneous_bands(influences, np.full(40, 4), ["cka"] * 40, n_samples=500)
        missed += bool((np.abs(values.mean(axis=0)) > bands.half_bands).any())
    assert missed <= 16  # as above


def test_a_single_effect_has_the_interval_of_student(rng: np.random.Generator) -> None:
    _, influences = draw(rng, 5, 1)
    bands = simultaneous_bands(influences, [4], ["cka"])
    expected = np.sqrt(np.square(influences).sum()) * student.ppf(0.975, 4)
    assert bands.half_intervals[0] == pytest.approx(expected)
    assert bands.half_bands[0] == pytest.approx(expected, rel=0.1)


def test_an_effect_without_spread_has_the_errors_of_its_kind(rng: np.random.Generator) -> None:
    _, influences = draw(rng, 5, 20)
    influences[:, 3] = 0
    bands = simultaneous_bands(influences, np.full(20, 4), ["cka"] * 20)
    assert bands.half_bands[3] > 0
    none = simultaneous_bands(np.zeros((5, 2)), [4, 4], ["cka"] * 2)
    assert not none.half_bands.any()
