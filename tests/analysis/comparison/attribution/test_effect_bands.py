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


def test_intervals_cover_one_effect(rng: np.random.Generator) -> None:
    missed = []
    for _ in range(150):
        errors, influences = draw(rng, 5, 30)
        bands = simultaneous_bands(influences, np.full(30, 4), ["cka"] * 30, n_samples=10)
        missed.append(np.mean(np.abs(errors) > bands.half_intervals))
    assert 0.03 < np.mean(missed) < 0.07


def test_effects_of_equal_variance_share_all_their_information(rng: np.random.Generator) -> None:
    variances = rng.chisquare(4, size=2000) / 4
    moderated, prior = moderate_variances(variances, np.full(2000, 4.0), ["cka"] * 2000)
    assert np.ptp(moderated) < 0.2
    assert moderated.mean() == pytest.approx(1, abs=0.05)
    assert (prior > 50).all()


def test_the_prior_is_recovered(rng: np.random.Generator) -> None:
    true = 6.0 * 0.3 / rng.chisquare(6.0, size=20_000)
    variances = true * rng.chisquare(4, size=20_000) / 4
    moderated, prior = moderate_variances(variances, np.full(20_000, 4.0), ["cka"] * 20_000)
    assert prior[0] == pytest.approx(6, rel=0.1)
    np.testing.assert_allclose(moderated, (6 * 0.3 + 4 * variances) / 10, rtol=0.1)


def test_effects_of_other_kinds_share_nothing(rng: np.random.Generator) -> None:
    variances = rng.chisquare(4, size=40) / 4
    d, kinds = np.full(40, 4.0), ["cka"] * 20 + ["accuracy"] * 20
    together, _ = moderate_variances(variances, d, kinds)
    alone, _ = moderate_variances(variances[:20], d[:20], kinds[:20])
    np.testing.assert_array_equal(together[:20], alone)


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
