"""Sentences about a comparison of arms, against the numbers of its tables."""

import re

import pandas as pd
import pytest

from analysis.comparison.attribution.answer import (
    answer,
    answer_table,
    contrast_titles,
    quantity_label,
    unmatched_steps,
    without_controls_alone,
)
from analysis.comparison.result import ComparisonResult

Frames = dict[str, pd.DataFrame]


def effect(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "method": "sg",
        "contrast": "total",
        "control": "",
        "arm": "sg",
        "base": "bp",
        "quantity": "cka",
        "at": "100 %",
        "layer": "hidden.1",
        "depth": 1,
        "n_seeds": 5,
        "difference": 0.1,
        "band_low": 0.06,
        "band_high": 0.14,
        "smallest": 0.05,
        "verdict": "different",
        "status": "ok",
        "between": 0.5,
    }
    return row | changes


def arm(name: str, role: str, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {"arm": name, "role": role, "at": "100 %", "differs": "", "accuracy_gap": float("nan")}
    row |= {"method": None, "test_accuracy": 0.9}
    return row | changes


def frames(effects: list[dict[str, object]], *arms: dict[str, object]) -> Frames:
    return {
        "attribution": pd.DataFrame(effects),
        "arms": pd.DataFrame([arm("bp", "reference"), arm("sg", "method"), *arms]),
    }


@pytest.mark.parametrize("place", ["total", "slow", "greedy", "short", "bp at"])
def test_each_contrast_is_one_sentence_with_the_numbers_of_the_table(
    arm_comparison: ComparisonResult, place: str
) -> None:
    beyond = {"slow": "schedule", "greedy": "decoupling", "short": "truncation", "bp at": "accuracy"}
    head = "sg against bp" if place == "total" else f"sg beyond {beyond[place]} ({place})"
    (sentence,) = (each for each in arm_comparison.summary() if each.startswith(f"{head} (n = 3 seeds): "))
    effects = without_controls_alone(arm_comparison.tables["attribution"])
    rows = effects[effects["control"] == ("" if place == "total" else place)]
    parts = sentence.removeprefix(f"{head} (n = 3 seeds): ").removesuffix(".").split("; ")
    labels = ["CKA", "class structure", "logarithm of the effective dimension", "probe accuracy"]
    assert [next(label for label in labels if part.startswith(label)) for part in parts] == labels
    for part, quantity in zip(parts, ["cka", "class_structure", "log_dimension", "accuracy"], strict=True):
        of = rows[rows["quantity"] == quantity]
        for verdict, n in of["verdict"].value_counts().items():
            assert f"{n} {verdict}" in part or (n == len(of) and f"{verdict} at all {n} layers and steps" in part)
        largest = of.loc[of["difference"].abs().idxmax()]
        size = f"{largest.difference:+.3f} [{largest.band_low:+.3f}, {largest.band_high:+.3f}]"
        assert part.endswith(f"largest {size} at {largest.layer}, {largest['at']}")


def test_the_answer_comes_first_and_says_what_bands_and_verdicts_are(arm_comparison: ComparisonResult) -> None:
    first, poor, bands, second, *rest = arm_comparison.summary()
    assert poor.startswith("Controls with a much lower test accuracy: ")
    assert first.startswith("By the end of training, sg ")
    assert "(n = 3 seeds)" in first
    assert "beyond all of these" in first
    assert second.startswith("sg against bp (n = 3 seeds): ")
    n = len(arm_comparison.tables["attribution"])
    assert bands.startswith(f"Brackets are bands that cover all {n} differences between arms at once with 95 %")
    assert "the unit of replication is the seed" in bands
    assert "CKA 0.05, class structure 0.05, logarithm of the effective dimension 0.2, probe accuracy 0.02" in bands
    assert "undecided: neither, which is no evidence of equality" in bands
    assert "A difference in CKA is how much less alike" in bands
    assert "Class structure is the mean correlation distance between classes minus that within" in bands
    assert "slow (schedule-matched): epochs 3 (2), learning_rate 0.003 (0.01)" in rest[4]
    assert "bp at" not in rest[4]


def test_the_lead_names_layers_in_total_beyond_each_control_and_beyond_all() -> None:
    def rows(control: str, *verdicts: str, at: str = "100 %") -> list[dict[str, object]]:
        kind = "beyond" if control else "total"
        return [
            effect(control=control, contrast=kind, at=at, layer=f"hidden.{k}", depth=k, verdict=verdict)
            for k, verdict in enumerate(verdicts, start=1)
        ]

    effects = [
        *rows("", "different", "different", "different", at="50 %"),
        *rows("", "different", "different", "undecided"),
        *rows("slow", "undecided", "different", "different"),
        *rows("short", "different", "different"),
        *(
            each | {"quantity": "accuracy", "between": None}
            for each in rows("", "equivalent", "undecided", "undecided")
        ),
        *(
            each | {"quantity": "accuracy", "between": None}
            for each in rows("slow", "equivalent", "undecided", "different")
        ),
    ]
    controls = (arm("slow", "schedule-matched"), arm("short", "truncated"))
    assert answer(frames(effects, *controls)).first[0] == (
        "By the end of training, sg differs from bp in CKA at layers 1-2, largest +0.100 [+0.060, +0.140] at layer 1; "
        "it is not shown to differ from bp in probe accuracy at any layer (1 equivalent, 2 undecided) (n = 5 seeds). "
        "Its difference from each control: "
        "beyond schedule (slow) CKA at layers 2-3, probe accuracy above at layer 3; beyond truncation (short) CKA at "
        "layers 1-2; beyond all of these CKA at layers 2-3, probe accuracy above at layer 3."
    )


def test_a_control_that_learned_little_is_named() -> None:
    tables = frames(
        [effect()],
        arm("slow", "schedule-matched", test_accuracy=0.8),
        arm("noisy", "gradient-quality-matched", method="sg", test_accuracy=0.3),
        arm("greedy", "decoupled", test_accuracy=0.86),
    )
    (sentence,) = (each for each in answer(tables).first if "lower test accuracy" in each)
    assert "accuracy: slow 0.800 (bp 0.900), noisy 0.300 (sg 0.900). Differences" in sentence


def test_controls_are_compared_with_one_reference_at_several_accuracies() -> None:
    tables = frames([effect()], arm("bp at the accuracy of dfa", "reference"), arm("slow", "decoupled"))
    tables["arms"].loc[tables["arms"]["arm"] == "slow", "test_accuracy"] = 0.5
    assert any("accuracy: slow 0.500 (bp 0.900)." in each for each in answer(tables).first)


def test_without_known_test_accuracies_no_control_is_said_to_have_learned_little() -> None:
    tables = frames([effect()], arm("slow", "decoupled"))
    tables["arms"][["test_accuracy", "accuracy_gap"]] = None
    assert not any("lower test accuracy" in each for each in answer(tables).first)


def test_above_and_below_one_control_are_told_apart() -> None:
    sizes = (0.1, 0.1, -0.1)
    effects = [effect(quantity="accuracy", between=None)] + [
        effect(quantity="accuracy", between=None, control="slow", contrast="beyond", depth=k, difference=size)
        for k, size in enumerate(sizes, start=1)
    ]
    lead = answer(frames(effects, arm("slow", "schedule-matched"))).first[0]
    assert lead.endswith("(slow) probe accuracy above at layers 1-2, probe accuracy below at layer 3.")


def test_a_layer_above_one_control_and_below_another_is_not_beyond_all() -> None:
    effects = [
        effect(quantity="accuracy", between=None, control=control, contrast="beyond", depth=k, difference=size)
        for control, sizes in (("slow", (0.1, 0.1)), ("greedy", (0.1, -0.1)))
        for k, size in enumerate(sizes, start=1)
    ]
    tables = frames([effect(), *effects], arm("slow", "schedule-matched"), arm("greedy", "decoupled"))
    lead = answer(tables).first[0]
    greedy, both = lead.removesuffix(".").split("; ")[-2:]
    assert greedy == "beyond decoupling (greedy) probe accuracy above at layer 1, probe accuracy below at layer 2"
    assert both == "beyond all of these probe accuracy above at layer 1"


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        (("equivalent", "equivalent"), "all equivalent"),
        (("undecided", "undecided"), "all undecided"),
        (("different", "undecided"), "some undecided"),
        (("different", "equivalent"), "some equivalent"),
        (("different", "different"), "with different signs"),
    ],
)
def test_the_lead_says_why_no_layer_is_beyond_all_controls(verdicts: tuple[str, str], reason: str) -> None:
    first, second = verdicts
    effects = [
        effect(),
        effect(control="slow", contrast="beyond", verdict=first),
        effect(control="greedy", contrast="beyond", verdict=second, difference=-0.1),
    ]
    lead = answer(frames(effects, arm("slow", "schedule-matched"), arm("greedy", "decoupled"))).first[0]
    assert lead.endswith(f"beyond all of these no layer ({reason}).")


def test_a_control_whose_accuracy_is_not_matched_at_the_end_is_said_so_beside_its_verdicts() -> None:
    arms = [arm("at", "accuracy-matched", accuracy_gap=gap, at=at) for gap, at in ((0.1, "50 %"), (-0.2, "100 %"))]
    tables = frames([effect(), effect(control="at", contrast="beyond", base="at")], *arms)
    assert "beyond accuracy (at, unmatched) CKA at layer 1." in answer(tables).first[0]
    assert "beyond accuracy (at, unmatched)" in set(answer_table(tables)["difference"])
    tables["arms"]["accuracy_gap"] /= 20
    assert "unmatched" not in answer(tables).first[0]
    assert unmatched_steps(tables["arms"]) == set()


def test_the_lead_names_other_settings_and_what_is_open() -> None:
    effects = [effect(verdict="undecided"), effect(control="slow", contrast="beyond", verdict="undecided")]
    tables = frames(effects, arm("slow", "schedule-matched"))
    tables["arms"].loc[tables["arms"]["arm"] == "sg", "differs"] = "rule sg (backprop), epochs 4 (2), width 8 (9)"
    (first, *_) = answer(tables).first
    assert "Besides its rule, sg has epochs 4 (2), width 8 (9) (bp in parentheses)." in first
    assert first.endswith("Its difference from each control: beyond schedule (slow) no layer (all undecided).")


def test_the_table_of_the_answer_has_layers_by_verdict_and_sign() -> None:
    found = [("different", 0.1), ("different", -0.2), ("equivalent", 0.0), ("undecided", 0.03)]
    effects = [
        effect(quantity=quantity, depth=k, verdict=verdict, difference=size, between=between, at=at)
        for at in ("50 %", "100 %")
        for quantity, between in (("cka", 0.5), ("accuracy", float("nan")))
        for k, (verdict, size) in enumerate(found if at == "100 %" else [("different", 1.0)] * 4, start=1)
    ]
    (row,) = answer_table(frames(effects)).to_dict("records")
    assert row["difference"] == "in total, against bp"
    rest = "equivalent at layer 3; undecided at layer 4"
    assert row["probe accuracy"] == (
        f"above at layer 1, +0.100 [+0.060, +0.140]; below at layer 2, -0.200 [+0.060, +0.140]; {rest}"
    )
    assert row["CKA"].startswith("different at layer 1, +0.100")


def test_a_method_without_a_defined_total_has_no_lead() -> None:
    failed = effect(status="failed", verdict="")
    beyond = effect(control="slow", contrast="beyond", base="slow")
    (first, *_) = answer(frames([failed, beyond], arm("slow", "schedule-matched"))).first
    assert first.startswith("sg beyond schedule (slow)")


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (("equivalent", "equivalent"), "sg is equivalent to bp in CKA and probe accuracy at layer 1"),
        (
            ("different", "different"),
            "sg differs from bp in CKA at layer 1, +0.100 [+0.060, +0.140]; and in probe accuracy at layer 1, +0.100 "
            "[+0.060, +0.140]",
        ),
        (
            ("different", "equivalent"),
            "sg differs from bp in CKA at layer 1, +0.100 [+0.060, +0.140]; it is equivalent to bp in probe accuracy "
            "at layer 1",
        ),
        (
            ("undecided", "undecided"),
            "sg is not shown to differ from bp in CKA or probe accuracy at any layer (1 undecided)",
        ),
    ],
)
def test_without_controls_the_lead_is_one_plain_sentence(verdicts: tuple[str, str], said: str) -> None:
    first, second = verdicts
    effects = [effect(verdict=first), effect(verdict=second, quantity="accuracy", between=None)]
    assert answer(frames(effects)).first == [f"By the end of training, {said} (n = 5 seeds)."]


@pytest.mark.parametrize(
    ("depths", "words"),
    [
        ([1], "(layer 1 differs)"),
        ([1, 2], "(layers 1-2 differ)"),
        ([1, 3, 4], "(layers 1, 3-4 differ)"),
        ([], None),
        ([1, 2, 3, 4, 5], None),
    ],
)
def test_the_layers_that_differ_are_named_if_some_do(depths: list[int], words: str | None) -> None:
    effects = [
        effect(depth=k, layer=f"hidden.{k}", verdict="different" if k in depths else "equivalent") for k in range(1, 6)
    ]
    sentence = answer(frames(effects)).details[1]
    assert words is None or words in sentence
    assert ("differ)" in sentence or "differs)" in sentence) == (words is not None)


def test_at_one_step_no_step_is_named() -> None:
    sentence = answer(frames([effect(), effect(depth=2, layer="hidden.2", difference=-0.3)])).details[1]
    assert sentence == (
        "sg against bp (n = 5 seeds): CKA different at all 2 layers, largest -0.300 [+0.060, +0.140] at hidden.2."
    )


def test_undefined_differences_are_not_counted() -> None:
    undefined = effect(depth=2, layer="hidden.2", difference=float("nan"), verdict="", status="failed")
    bands, sentence = answer(frames([effect(), undefined])).details
    assert sentence == "sg against bp (n = 5 seeds): CKA different, +0.100 [+0.060, +0.140] at hidden.1."
    assert "cover the difference between arms" in bands


def test_a_control_that_is_not_matched_is_named() -> None:
    arms = [arm("at", "accuracy-matched", accuracy_gap=gap, at=at) for gap, at in ((0.015, "50 %"), (-0.2, "100 %"))]
    sentences = answer(frames([effect(), effect(control="at", contrast="beyond", base="at")], *arms)).details
    assert sum("is not matched" in each for each in sentences) == 1
    assert (
        "at is not matched at 100 %: its nearest recorded step has a validation accuracy that is -0.200 from the "
        "method's. Record more steps of the reference." in sentences
    )


def test_controls_alone_are_in_the_table_only() -> None:
    alone = effect(contrast="alone", control="slow", arm="slow", base="bp", difference=0.9)
    tables = frames([effect(), effect(contrast="beyond", control="slow", base="slow"), alone], arm("slow", "decoupled"))
    assert not any("0.9" in each for each in answer(tables).details)
    assert contrast_titles(tables) == {("sg", ""): "total", ("sg", "slow"): "beyond decoupling (slow)"}


def test_an_arm_at_the_accuracy_of_a_method_keeps_the_role_of_its_control() -> None:
    name = "slow at the accuracy of sg"
    rows = [effect(), effect(contrast="beyond", control="slow", base=name)]
    tables = frames(rows, arm(name, "schedule-matched"))
    assert contrast_titles(tables)["sg", "slow"] == "beyond schedule (slow)"


def test_without_arms_there_is_no_answer(comparison: ComparisonResult) -> None:
    assert answer(comparison.tables) == ([], [])
    assert not any("Brackets are bands" in each for each in comparison.summary())


@pytest.mark.parametrize(
    ("quantity", "label"), [("cka", "CKA"), ("class_structure", "class structure"), ("my_number", "my number")]
)
def test_quantities_have_names(quantity: str, label: str) -> None:
    assert quantity_label(quantity) == label
    assert re.fullmatch(r"[\w ]+", label)
