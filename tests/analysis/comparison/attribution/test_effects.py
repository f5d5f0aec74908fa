from dataclasses import replace

import numpy as np
import pytest

from analysis.comparison.attribution.contrasts import Contrast, Member, contrasts_of
from analysis.comparison.attribution.effects import ArmLayers, effect_family
from repsim.similarity import group_effect
from tests.analysis.comparison.attribution.simulated_arms import SHAPE, planted, simulate_arms

ROLES = {"bp": "reference", "sg": "method", "slow": "schedule-matched"}
CONTRASTS = contrasts_of(ROLES, {})
SMALLEST = {"cka": 0.05, "accuracy": 0.02}
NONE = np.zeros(SHAPE)


def test_the_contrasts_of_a_design() -> None:
    roles = {**ROLES, "sg2": "method", "greedy": "decoupled"}
    found = [(each.method, each.kind, each.arm, each.base) for each in contrasts_of(roles, {"slow": "sg"})]
    assert found == [
        ("sg", "total", "sg", "bp"),
        ("sg", "beyond", "sg", "slow"),
        ("sg", "alone", "slow", "bp"),
        ("sg", "beyond", "sg", "greedy"),
        ("sg", "alone", "greedy", "bp"),
        ("sg2", "total", "sg2", "bp"),
        ("sg2", "beyond", "sg2", "greedy"),
        ("sg2", "alone", "greedy", "bp"),
    ]


def test_a_method_that_is_its_control_has_no_effect_beyond_it(rng: np.random.Generator) -> None:
    effect = planted(0.3)
    families, false, equivalent_wrongly = 60, 0, 0
    for _ in range(families):
        measured = simulate_arms(rng, {"bp": NONE, "sg": effect, "slow": effect})
        table = effect_family(measured, CONTRASTS, SMALLEST).table(n_samples=500)
        beyond, total = (table[table["contrast"] == kind] for kind in ("beyond", "total"))
        false += bool((beyond["verdict"] == "different").any())
        planted_rows = total[total["depth"] <= SHAPE[1] // 2]
        equivalent_wrongly += bool((planted_rows["verdict"] == "equivalent").any())
    assert false <= 0.05 * families
    assert equivalent_wrongly <= 0.05 * families


@pytest.mark.parametrize("size", [0.05, 0.02])
def test_an_effect_of_the_smallest_size_is_rarely_called_equivalent(rng: np.random.Generator, size: float) -> None:
    contrast = [Contrast("sg", "total", "", "sg", "bp")]
    quantity = {0.05: "cka", 0.02: "accuracy"}[size]
    wrong = 0
    for _ in range(100):
        measured = simulate_arms(rng, {"bp": NONE, "sg": np.full(SHAPE, size)}, n=10)
        table = effect_family(measured, contrast, SMALLEST).table(n_samples=500)
        wrong += bool((table.loc[table["quantity"] == quantity, "verdict"] != "undecided").any())
    assert wrong <= 10  # 5 of 100, and two standard errors


def test_bands_cover_planted_effects(rng: np.random.Generator) -> None:
    effect, missed = planted(0.2), 0
    for _ in range(200):
        table = effect_family(simulate_arms(rng, {"bp": NONE, "sg": effect}), CONTRASTS[:1], SMALLEST).table(
            n_samples=500
        )
        truth = np.where(table["depth"] <= SHAPE[1] // 2, 0.2, 0.0)
        missed += bool(((table["band_low"] > truth) | (table["band_high"] < truth)).any())
    assert missed <= 17  # 5 % of 200, and two standard errors


def test_the_trend_is_the_distance_from_the_largest_similarity(rng: np.random.Generator) -> None:
    family = effect_family(simulate_arms(rng, {"bp": NONE, "sg": NONE}), CONTRASTS[:1], SMALLEST)
    rows = family.rows.assign(value=0.9, base_value=0.7)
    rows.loc[rows["layer"] == "hidden.1", ["value", "base_value"]] = 1.0
    trend = replace(family, rows=rows).trend
    is_cka, is_one = (rows["quantity"] == "cka").to_numpy(), (rows["layer"] == "hidden.1").to_numpy()
    np.testing.assert_allclose(trend[is_cka & ~is_one], np.log(0.2))
    np.testing.assert_allclose(trend[is_cka & is_one], np.log(1e-6))
    np.testing.assert_allclose(trend[~is_cka & ~is_one], 0.8)


def test_rows_are_the_effects_of_group_effect_and_differences_of_means(rng: np.random.Generator) -> None:
    measured = simulate_arms(rng, {"bp": NONE, "sg": planted(0.3)})
    table = effect_family(measured, CONTRASTS[:1], SMALLEST).table(n_samples=500).set_index(["quantity", "at", "layer"])
    groups, seeds = [member.arm for member in measured.members], [member.seed for member in measured.members]
    expected = group_effect(measured.similarities["cka"][1, 2], groups, reference="bp", seeds=seeds)
    row = table.loc["cka", "100 %", "hidden.3"]
    assert row["difference"] == pytest.approx(expected.effects[0])
    assert row["value"] == pytest.approx(expected.within_other[0])
    assert row["base_value"] == pytest.approx(expected.within_reference[0])
    assert row["between"] == pytest.approx(expected.between[0])
    accuracy, row = measured.quantities["accuracy"][1, 2], table.loc["accuracy", "100 %", "hidden.3"]
    assert row["difference"] == pytest.approx(accuracy[5:].mean() - accuracy[:5].mean())
    assert row["n_seeds"] == 5


def test_totals_of_numbers_are_the_sum_of_the_control_and_what_is_beyond_it(rng: np.random.Generator) -> None:
    measured = simulate_arms(rng, {"bp": NONE, "sg": planted(0.3), "slow": planted(0.1)})
    table = effect_family(measured, CONTRASTS, SMALLEST).table(n_samples=500)
    parts = table[table["quantity"] == "accuracy"].pivot(index=["at", "layer"], columns="contrast", values="difference")
    np.testing.assert_allclose(parts["total"], parts["beyond"] + parts["alone"])


def test_splits_are_averaged_and_their_networks_are_units(rng: np.random.Generator) -> None:
    parts = [simulate_arms(rng, {"bp": NONE, "sg": planted(0.3)}) for _ in range(3)]
    n = len(parts[0].members)
    S = np.full((*SHAPE, 3 * n, 3 * n), np.nan)
    for k, part in enumerate(parts):
        S[..., k * n : (k + 1) * n, k * n : (k + 1) * n] = part.similarities["cka"]
    whole = ArmLayers(
        members=[Member(member.arm, member.seed, k) for k, part in enumerate(parts) for member in part.members],
        at=parts[0].at,
        layers=parts[0].layers,
        similarities={"cka": S},
        quantities={"accuracy": np.concatenate([part.quantities["accuracy"] for part in parts], axis=2)},
    )
    table = effect_family(whole, CONTRASTS[:1], SMALLEST).table(n_samples=500)
    each = [effect_family(part, CONTRASTS[:1], SMALLEST).table(n_samples=500)["difference"] for part in parts]
    np.testing.assert_allclose(table["difference"], np.mean(each, axis=0))
    np.testing.assert_allclose(table["split_low"], np.min(each, axis=0))
    np.testing.assert_allclose(table["split_high"], np.max(each, axis=0))
    assert (table["n_seeds"] == 15).all()


def test_arms_of_other_seeds_have_wider_bands(rng: np.random.Generator) -> None:
    paired = simulate_arms(rng, {"bp": NONE, "sg": planted(0.3)}, shared=0.9)
    unpaired = replace(
        paired, members=[replace(member, seed=member.seed + 10 * (member.arm == "sg")) for member in paired.members]
    )
    errors = [
        effect_family(each, CONTRASTS[:1], SMALLEST).table(n_samples=500)["standard_error"]
        for each in (paired, unpaired)
    ]
    assert (errors[1] > errors[0]).mean() > 0.8


def test_layers_that_only_one_arm_has_are_left_out(rng: np.random.Generator) -> None:
    measured = simulate_arms(rng, {"bp": NONE, "sg": planted(0.3)})
    measured.similarities["cka"][:, 5:, 5:] = np.nan
    measured.similarities["cka"][:, 5:, :, 5:] = np.nan
    measured.quantities["accuracy"][:, 5:, 5:] = np.nan
    table = effect_family(measured, CONTRASTS[:1], SMALLEST).table(n_samples=500)
    assert set(table["depth"]) == {1, 2, 3, 4, 5}
    assert (table["status"] == "ok").all()


def test_an_undefined_layer_is_named_with_its_reason(rng: np.random.Generator) -> None:
    measured = simulate_arms(rng, {"bp": NONE, "sg": planted(0.3)})
    measured.similarities["cka"][0, 1, 7] = measured.similarities["cka"][0, 1, :, 7] = np.nan
    measured.quantities["accuracy"][0, 1, 7] = np.nan
    measured = replace(measured, undefined={(0, "hidden.2", 7): "all units are dead"})
    table = effect_family(measured, CONTRASTS[:1], SMALLEST).table(n_samples=500)
    failed = table[table["status"] == "failed"]
    assert list(failed["message"]) == ["sg, seed 2: all units are dead"] * 2
    assert (failed["verdict"] == "").all()
    assert failed["band_low"].isna().all()
    assert table.loc[table["status"] == "ok", "band_low"].notna().all()


def test_too_few_seeds_are_refused(rng: np.random.Generator) -> None:
    measured = simulate_arms(rng, {"bp": NONE, "sg": NONE}, n=2)
    with pytest.raises(ValueError, match="'sg' has 2 networks; an effect needs 3 seeds or more per arm"):
        effect_family(measured, CONTRASTS[:1], SMALLEST)
    single = simulate_arms(rng, {"bp": NONE, "sg": NONE}, n=1)
    with pytest.raises(ValueError, match="'sg' has 1 network; "):
        effect_family(single, CONTRASTS[:1], SMALLEST)


def test_without_a_common_layer_the_table_is_empty(rng: np.random.Generator) -> None:
    measured = simulate_arms(rng, {"bp": NONE, "sg": NONE})
    measured.similarities["cka"][:] = np.nan
    measured.quantities["accuracy"][:] = np.nan
    table = effect_family(measured, CONTRASTS[:1], SMALLEST).table(n_samples=500)
    assert table.empty
    assert "verdict" in table
