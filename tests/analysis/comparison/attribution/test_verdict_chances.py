import numpy as np
import pytest

from analysis.comparison.attribution.contrasts import Contrast
from analysis.comparison.attribution.effects import effect_family
from analysis.comparison.attribution.verdict_chances import power_table
from tests.analysis.comparison.attribution.simulated_arms import SHAPE, planted, simulate_arms

TOTAL = [Contrast("sg", "total", "", "sg", "bp")]
SMALLEST = {"cka": 0.05, "accuracy": 0.02}


@pytest.mark.parametrize("n", [5, 8])
def test_effects_are_found_as_often_as_predicted(rng: np.random.Generator, n: int) -> None:
    """Of four times the smallest size in similarity, ten times in accuracy, on half of the layers."""
    found, predicted = [], []
    for k in range(20):
        pilot = simulate_arms(rng, {"bp": np.zeros(SHAPE), "sg": planted(0.2)}, n=n)
        family = effect_family(pilot, TOTAL, SMALLEST)
        table = family.table(n_samples=500)
        changed = table["depth"] <= SHAPE[1] // 2
        found.append(
            [(table.loc[changed & (table["quantity"] == name), "verdict"] == "different").mean() for name in SMALLEST]
        )
        if k % 5 == 0:  # predictions vary less
            chances = [power_table(family, n_seeds=[n], effect=size).set_index("quantity") for size in (4, 10)]
            predicted.append([each.loc[name, "different"] for each, name in zip(chances, SMALLEST, strict=True)])
    np.testing.assert_allclose(np.mean(found, axis=0), np.mean(predicted, axis=0), atol=0.1)


def test_more_seeds_decide_more(rng: np.random.Generator) -> None:
    family = effect_family(simulate_arms(rng, {"bp": np.zeros(SHAPE), "sg": planted(0.2)}), TOTAL, SMALLEST)
    table = power_table(family, n_seeds=[3, 5, 10, 30, 100])
    for _, each in table.groupby("quantity"):
        assert each["different"].is_monotonic_increasing
        assert each["equivalent"].is_monotonic_increasing
        assert each["different"].iloc[-1] > 0.9
        assert each["equivalent"].iloc[-1] > 0.9
        assert each["equivalent"].iloc[0] < 0.1


def test_large_effects_are_found_more_often(rng: np.random.Generator) -> None:
    family = effect_family(simulate_arms(rng, {"bp": np.zeros(SHAPE), "sg": planted(0.2)}), TOTAL, SMALLEST)
    small, large = (power_table(family, n_seeds=[5], effect=effect)["different"] for effect in (1.5, 12))
    assert (large > small).all()


@pytest.mark.parametrize(
    ("options", "words"), [({"n_seeds": [2]}, "n_seeds has 2; expected 3"), ({"effect": 1.0}, "effect is 1.0")]
)
def test_wrong_settings_are_explained(rng: np.random.Generator, options: dict, words: str) -> None:
    family = effect_family(simulate_arms(rng, {"bp": np.zeros(SHAPE), "sg": planted(0.2)}), TOTAL, SMALLEST)
    with pytest.raises(ValueError, match=words):
        power_table(family, **options)
